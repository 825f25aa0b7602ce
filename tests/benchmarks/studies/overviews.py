"""Measures tiles of low zooms with overviews and without, and what building them takes.

    python -m tests.benchmarks.studies.overviews

One date of 8192 x 8192 float32 cells in chunks of 512. Without overviews, tiles may read as much as they need.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from tests.benchmarks.tiles import make_field, tiles_around, write_cube

from cubegate.app import create_app
from cubegate.settings import load_settings

ZOOMS = (10, 9, 8, 6)
# so that every chunk may be read for one tile
ROOM = {"CUBEGATE_LIMITS__TILE_CHUNKS": "100000"}


def build(file: Path) -> tuple[float, int]:
    """Build the overviews by the command; return its seconds and its largest size in memory, MiB."""
    (file.parent / "beside.yaml").write_text(
        "id: beside\nsource: {kind: kerchunk, href: cube.json, fill: declared}\noverviews: {href: beside}\n"
    )
    file.write_text(file.read_text().replace("[cube.yaml]", "[cube.yaml, beside.yaml]"))
    start = time.perf_counter()
    arguments = ["overviews", "beside", "--config", str(file), "--threads", "1", "--json"]
    command = [sys.executable, "-c", _BUILDING, *arguments]
    found = subprocess.run(command, check=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, int(found.stderr.split()[-2]) // 1024


_BUILDING = """
import sys
from cubegate.cli import main
main(sys.argv[1:])
# of this program alone, and not of the one that started it
lines = open("/proc/self/status").read().splitlines()
print(next(line for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""


async def draw(file: Path, name: str, tiles: list[tuple[int, int, int]], memory: str) -> list[float]:
    """Return the seconds of each tile, of a server that has nothing in memory."""
    app = create_app(load_settings(file, {**ROOM, "CUBEGATE_CACHE__MEMORY": memory}), {})
    seconds = []
    async with (
        app.fastapi.router.lifespan_context(app.fastapi) as _,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://cubegate", timeout=600
        ) as client,
    ):
        given = {"rescale": "-3,3", "colormap": "viridis"}
        # what is found once for each cube
        await client.get(f"/datasets/{name}/tilejson.json", params=given)
        await client.get(f"/datasets/{name}/legend.png", params=given)
        for z, x, y in tiles:
            start = time.perf_counter()
            answer = await client.get(f"/datasets/{name}/tiles/WebMercatorQuad/{z}/{x}/{y}.png", params=given)
            seconds.append(time.perf_counter() - start)
            if answer.status_code != 200:
                raise SystemExit(answer.text)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.studies.overviews", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few tiles of a small field: shows that it runs")
    asked = parser.parse_args(arguments)
    size, count, rounds = (2048, 1, 1) if asked.smoke else (8192, 2, 3)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = write_cube(directory, make_field(size))
        chunks = sum(path.stat().st_size for path in (directory / "cube.zarr" / "v").iterdir())
        seconds, memory = build(file)
        made = sum(path.stat().st_size for path in (directory / "beside").rglob("*") if path.is_file())
        lines = [f"built in {seconds:.1f} s, {memory} MiB, {made / chunks:.2f} of the size of the cube"]
        lines.append(f"{'zoom':>5} {'with':>9} {'without':>9} {'ratio':>6}   {os.cpu_count()} CPUs")
        for zoom in ZOOMS:
            tiles = tiles_around(size, zoom, count)
            found: dict[str, list[float]] = {"beside": [], "cube": []}
            for _ in range(rounds):
                for each, times in found.items():
                    times.extend(asyncio.run(draw(file, each, tiles, "0")))
            here, there = (statistics.median(times) for times in found.values())
            lines.append(f"{zoom:>5} {here * 1000:>7.0f}ms {there * 1000:>7.0f}ms {here / there:>6.3f}")
    print("\n".join(lines))  # noqa: T201 - its result
    return 0


if __name__ == "__main__":
    sys.exit(main())
