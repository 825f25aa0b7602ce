"""Measures a build of 209 granules beside merely fetching their references, at 64 in flight, 30 ms away.

    python -m tests.benchmarks.archives [--rounds 5] [--smoke]

Prints times and two ratios: of the whole command to a process that only fetches, and of the build in a process
that has built before to the fetches alone. Ends with 1 only where the cube was wrong or a process failed, never because of a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from cubegate.index.file import open_index
from cubegate.index.location import Stored

from .archive_granules import SIDECAR, VARIABLES, Shape, chunk_range, granule_name, make_archive
from .processes import ROOT, Failed, free_port, started, wait_ready
from .servers import cubegate_command

BAR = 5.0
_CHECKED_CHUNKS = 300
# What the build is held against: the same fetches, and nothing done with what comes.
_FETCH = """
import asyncio, json, sys, time
import aiohttp
async def fetch(urls):
    slots = asyncio.Semaphore(64)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def one(url):
            async with slots, session.get(url) as answer:
                return len(await answer.read())
        return sum(await asyncio.gather(*map(one, urls)))
urls = json.load(sys.stdin)
begin = time.perf_counter()
nbytes = asyncio.run(fetch(urls))
print(json.dumps({"s": time.perf_counter() - begin, "nbytes": nbytes}))
"""
# What the build itself takes, where all is imported and every cache of the interpreter is warm.
_BUILD = """
import contextlib, io, json, shutil, sys, time
from cubegate.cli import main
folder, *arguments = json.load(sys.stdin)
for _ in range(2):
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    seconds = time.perf_counter() - begin
print(json.dumps(seconds))
sys.exit(code)
"""


@dataclass
class Samples:
    """Seconds: of the fetches alone and of a process that does nothing else, of the command without work.

    Then of the whole command, and of a build in a process that has built before. `cpu` is what the two
    processes that are held against each other used of the processors, which other load changes less.
    """

    fetch: list[float]
    fetching_process: list[float]
    start: list[float]
    build: list[float]
    warm: list[float]
    cpu: dict[str, list[float]] = field(default_factory=lambda: {"fetch": [], "build": []})


def measure(folder: Path, shape: Shape, rounds: int, delay: float) -> tuple[Samples, list[str], int]:
    """Measure both in turn; returns the samples, what was wrong, and the bytes of all sidecars.

    Raises:
        Failed: a process did not end well.
    """
    port = free_port()
    url, served = f"http://127.0.0.1:{port}", folder / "served"
    names = make_archive(served, shape, url)
    configuration = folder / "cubegate.yaml"
    configuration.write_text(f'archives: {{cmr: "{url}"}}\nupstreams: {{"{url}/data/": {{}}}}\n', "utf-8")
    script = Path(__file__).with_name("range_server.py")
    command = [sys.executable, str(script), str(served), "--port", str(port), "--delay", f"{delay:g}"]
    samples, wrong, nbytes = Samples([], [], [], [], []), [], 0
    with started(command, folder / "server.log") as process:
        wait_ready(process, folder / "server.log", port, "/__stats")
        for _ in range(rounds):
            nbytes = _fetch([f"{url}/data/{name}{SIDECAR}" for name in names], samples)
            samples.start.append(_run([cubegate_command(), "--version"])[0])
            wrong += _build(folder / "cubes", configuration, shape, url, samples)
    return samples, wrong, nbytes


def _fetch(urls: list[str], samples: Samples) -> int:
    used = _used()
    seconds, said = _run([sys.executable, "-c", _FETCH], json.dumps(urls))
    samples.cpu["fetch"].append(_used() - used)
    report = json.loads(said)
    samples.fetch.append(report["s"])
    samples.fetching_process.append(seconds)
    return int(report["nbytes"])


def _build(cubes: Path, configuration: Path, shape: Shape, url: str, samples: Samples) -> list[str]:
    shutil.rmtree(cubes, ignore_errors=True)
    arguments = [
        "build",
        "opera-disp-s1",
        "--frame",
        "11116",
        "-o",
        str(cubes),
        "--config",
        str(configuration),
    ]
    _, said = _run([sys.executable, "-c", _BUILD], json.dumps([str(cubes), *arguments]))
    samples.warm.append(json.loads(said))
    shutil.rmtree(cubes, ignore_errors=True)
    used = _used()
    seconds, _ = _run([cubegate_command(), *arguments])
    samples.cpu["build"].append(_used() - used)
    samples.build.append(seconds)
    return _wrong_references(cubes / "opera-f11116.index", shape, url)


def _run(command: list[str], given: str = "") -> tuple[float, str]:
    begin = time.perf_counter()
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise Failed(f"{command[:2]}: {done.stderr[-2000:]}")
    return time.perf_counter() - begin, done.stdout


def _used() -> float:
    """Seconds that processes which have ended used of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wrong_references(path: Path, shape: Shape, url: str) -> list[str]:
    """Hold the index to what was written: how many chunks, and where some of them are."""
    index, generator = open_index(path), np.random.default_rng(1)
    rows, columns = shape.grid
    wrong = []
    for number, variable in enumerate(VARIABLES):
        array = index.hierarchy.arrays[variable]
        if index.counts(variable).stored != shape.granules * rows * columns:
            wrong.append(f"{variable}: {index.counts(variable).stored:,} chunks")
        for date, row, column in generator.integers(0, array.chunk_grid, (_CHECKED_CHUNKS, 3)).tolist():
            (found,) = index.locate(array, [(date, row, column)])
            expected = chunk_range(number, date, row * columns + column, rows * columns)
            if not isinstance(found, Stored) or (
                found.reference.url, found.reference.offset, found.reference.length,
            ) != (f"{url}/data/{granule_name(date)}.nc", *expected):  # fmt: skip
                wrong.append(f"{variable}/{date}.{row}.{column}: {found}")
    return wrong


def print_figures(console: Console, samples: Samples, shape: Shape, nbytes: int) -> None:
    """Print medians, and the ratios beside their bar."""
    rows, columns = shape.grid
    table = Table(title=f"{shape.granules} granules of {len(VARIABLES) * rows * columns:,} references each, "
                  f"{nbytes / 1e6:.1f} MB of sidecars", title_justify="left")  # fmt: skip
    for name in ("figure", "median", "smallest", "largest"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    figures = {
        "only fetching the sidecars, s": samples.fetch,
        "the process that only fetches them, s": samples.fetching_process,
        "cubegate --version, s": samples.start,
        "cubegate build, s": samples.build,
        "of the processors: the process that only fetches, s": samples.cpu["fetch"],
        "of the processors: cubegate build, s": samples.cpu["build"],
        "the build in a process that has built before, s": samples.warm,
    }
    for label, values in figures.items():
        table.add_row(label, f"{median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}")
    console.print(table)
    for what, ours, than, theirs in (
        ("the whole command", samples.build, "the process that only fetches", samples.fetching_process),
        (
            "of the processors the whole command",
            samples.cpu["build"],
            "the process that only fetches",
            samples.cpu["fetch"],
        ),
        ("the build in a warm process", samples.warm, "the fetches alone", samples.fetch),
    ):
        ratio = median(ours) / median(theirs)
        console.print(f"{what} takes {ratio:.2f} x {than} (bar: < {BAR:g})", soft_wrap=True)


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.archives", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--smoke", action="store_true", help="of everything little: does it run, and rightly?"
    )
    parsed = parser.parse_args()
    shape = Shape(4, 600, 700) if parsed.smoke else Shape(209, 7721, 9462)
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = Path(tempfile.mkdtemp(prefix="cubegate-archives-"))
    try:
        samples, wrong, nbytes = measure(folder, shape, 1 if parsed.smoke else parsed.rounds, 30)
    except Failed as error:
        Console(stderr=True).print(f"benchmark: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_figures(console, samples, shape, nbytes)
    for problem in wrong[:20]:
        console.print(f"wrong: {problem}", style="red", markup=False, highlight=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
