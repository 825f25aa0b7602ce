"""Tiles of a warm cube against the same tiles of the same data as a local COG by rio-tiler, side by side.

`python -m tests.benchmarks.tiles [--smoke]` prints a table and the largest ratio; it needs rio-tiler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from cubegate.app import create_app
from cubegate.settings import load_settings

BAR = 3.0
CELL, WEST, NORTH = 30.0, 400_000.0, 3_900_000.0
CHUNK = 512
RESCALE = (-3.0, 3.0)
# the size of a pixel is that of a cell around this zoom
ZOOMS = (14, 13, 12, 11)


def make_field(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A rough surface, of which no two cells are alike, with a corner that is missing."""
    random = np.random.default_rng(5)
    across = np.linspace(0, 9, size)
    field = np.sin(across)[:, None] + np.cos(1.7 * across) + 0.3 * random.standard_normal((size, size))
    values = np.round(field, 3).astype(np.float32)
    values[: size // 8, : size // 8] = np.nan
    return values


def write_cube(directory: Path, values: np.ndarray[Any, Any]) -> Path:
    """Write the field as a cube of one date, and a configuration that mounts it."""
    size = len(values)
    metres = {"units": "m"}
    x, y = WEST + CELL * (np.arange(size) + 0.5), NORTH - CELL * (np.arange(size) + 0.5)
    cube = xr.Dataset(
        {"v": (("time", "y", "x"), values[None], {"grid_mapping": "mapping"})},
        {
            "time": np.array(["2020-01-01"], "M8[ns]"),
            "x": ("x", x, {"standard_name": "projection_x_coordinate", **metres}),
            "y": ("y", y, {"standard_name": "projection_y_coordinate", **metres}),
        },
    )
    cube["mapping"] = ((), np.int32(0), CRS.from_epsg(32611).to_cf())
    from numcodecs import Shuffle, Zlib  # noqa: PLC0415 - only here

    encoding = {"chunks": (1, CHUNK, CHUNK), "filters": [Shuffle(4)], "compressors": (Zlib(5),)}
    cube.to_zarr(directory / "cube.zarr", zarr_format=2, encoding={"v": encoding})
    store = directory / "cube.zarr"
    references: dict[str, Any] = {}
    for path in sorted(path for path in store.rglob("*") if path.is_file() and path.name != ".zmetadata"):
        key = str(path.relative_to(store))
        whole = [path.resolve().as_uri(), 0, path.stat().st_size]
        references[key] = path.read_text() if path.name.startswith(".") else whole
    (directory / "cube.json").write_text(json.dumps({"version": 1, "refs": references}))
    (directory / "cube.yaml").write_text(
        "id: cube\nsource: {kind: kerchunk, href: cube.json, fill: declared}\n"
    )
    file = directory / "cubegate.yaml"
    file.write_text(f'upstreams: {{"{directory.resolve().as_uri()}/": {{}}}}\ncollections: [cube.yaml]\n')
    return file


def write_cog(directory: Path, values: np.ndarray[Any, Any]) -> Path:
    """Write the field as a COG with overviews, of the same tiles and compression."""
    plain, cog = directory / "plain.tif", directory / "field.tif"
    size = len(values)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "width": size, "height": size}
    transform = Affine(CELL, 0, WEST, 0, -CELL, NORTH)
    with rasterio.open(plain, "w", **profile, crs="EPSG:32611", transform=transform, nodata=np.nan) as file:
        file.write(values, 1)
    options = {"blocksize": CHUNK, "compress": "DEFLATE", "predictor": 3, "overview_resampling": "nearest"}
    rasterio.shutil.copy(plain, cog, driver="COG", **options)
    return cog


def tiles_around(size: int, zoom: int, count: int) -> list[tuple[int, int, int]]:
    """Choose tiles inside of the field, as far as there are so many."""
    random = np.random.default_rng(zoom)
    transformer = Transformer.from_crs(32611, 3857, always_xy=True)
    found = []
    for _ in range(count):
        x, y = (float(each) for each in random.uniform(0.2, 0.8, 2) * size * CELL)
        east, north = transformer.transform(WEST + x, NORTH - y)
        side = 2 * 20037508.342789244 / 2**zoom
        found.append(
            (zoom, int((east + 20037508.342789244) // side), int((20037508.342789244 - north) // side))
        )
    return found


def rio_tiler(cog: Path) -> Callable[[int, int, int], bytes]:
    """Return what draws a tile by rio-tiler as its servers do: opened, read, scaled, coloured and written."""
    from rio_tiler.colormap import cmap  # noqa: PLC0415 - only here
    from rio_tiler.io import Reader  # noqa: PLC0415

    colours = cmap.get("viridis")

    def draw(z: int, x: int, y: int) -> bytes:
        with Reader(str(cog)) as reader:
            image = reader.tile(x, y, z)
        with warnings.catch_warnings():
            # that a missing value is no integer
            warnings.simplefilter("ignore", RuntimeWarning)
            image.rescale(in_range=(RESCALE,))
            found: bytes = image.render(img_format="PNG", colormap=colours)
        return found

    return draw


async def measure(size: int, tiles: int, rounds: int) -> list[tuple[int, float, float]]:
    """Return for each zoom the median seconds of a tile here, and by rio-tiler; each tile was drawn before."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        values = make_field(size)
        file, theirs = write_cube(directory, values), rio_tiler(write_cog(directory, values))
        app = create_app(load_settings(file, {}), {})
        async with (
            app.fastapi.router.lifespan_context(app.fastapi) as _,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cubegate") as client,
        ):
            return [
                await _measure_zoom(client, theirs, tiles_around(size, zoom, tiles), rounds) for zoom in ZOOMS
            ]


async def _measure_zoom(
    client: httpx.AsyncClient,
    theirs: Callable[[int, int, int], bytes],
    tiles: list[tuple[int, int, int]],
    rounds: int,
) -> tuple[int, float, float]:
    here: list[float] = []
    there: list[float] = []
    for number in range(rounds + 1):
        for z, x, y in tiles:
            start = time.perf_counter()
            address = f"/datasets/cube/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
            answer = await client.get(address, params={"rescale": "-3,3", "colormap": "viridis"})
            middle = time.perf_counter()
            theirs(z, x, y)
            end = time.perf_counter()
            if answer.status_code != 200:
                raise SystemExit(answer.text)
            if number:
                here.append(middle - start)
                there.append(end - middle)
    return tiles[0][0], statistics.median(here), statistics.median(there)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tiles", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few tiles of a small field: shows that it runs")
    parser.add_argument("--size", type=int, default=8192, help="cells along each side of the field")
    asked = parser.parse_args(arguments)
    size, tiles, rounds = (2048, 2, 1) if asked.smoke else (asked.size, 12, 5)
    found = asyncio.run(measure(size, tiles, rounds))
    print(f"{'zoom':>5} {'cubegate':>10} {'rio-tiler':>10} {'ratio':>6}")  # noqa: T201 - its result
    for zoom, here, there in found:
        print(f"{zoom:>5} {here * 1000:>8.1f}ms {there * 1000:>8.1f}ms {here / there:>6.2f}")  # noqa: T201 - its result
    worst = max(here / there for _, here, there in found)
    print(f"largest ratio {worst:.2f}, the bar is {BAR}")  # noqa: T201 - its result
    return 0 if asked.smoke or worst < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
