"""Measures what size costs: a catalog of 1,500 frames of 3 million references, and a stack of ASF's size to index.

    python -m tests.benchmarks.scale [--quick | --smoke]

Prints medians, and writes all samples as JSON. Ends with 1 only where a value was wrong or a process failed,
never because of a time.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import numpy as np
from rich.console import Console
from rich.table import Table

from cubegate.index.file import open_index
from cubegate.index.location import Stored

from . import scale_frames, scale_references
from .bars import LIMITS
from .processes import ROOT, Failed
from .scale_frames import Frames, make_frames, name_of
from .scale_references import StackReference, write_stack_reference
from .servers import Configuration, cubegate, cubegate_command
from .subject import peak_memory

Figures = dict[str, list[float]]
Tell = Callable[[str], None]

# What the conversion is held against: the least that reading the file at once can cost.
_AT_ONCE = "import gzip, json, sys; json.loads(gzip.decompress(open(sys.argv[1], 'rb').read()))"
_OPENINGS = 20
_CHECKED_CHUNKS = 500
# rows and columns, in two rows and two columns of chunks
_PIXELS = ((700, 1500), (701, 1503), (790, 1500), (795, 1560), (760, 1540))


@dataclass(frozen=True)
class Extent:
    """How much is measured: `touched` frames answer one request for metadata and one for a point each."""

    name: str
    rounds: int
    frames: int
    touched: int
    dates: int


EXTENTS = {
    "smoke": Extent("smoke", 1, 30, 5, 10),
    "quick": Extent("quick", 1, 1500, 50, scale_references.DATES),
    "full": Extent("full", 5, 1500, 1500, scale_references.DATES),
}
LABELS = {
    "none_start_s": "empty catalog: until the server is ready, s",
    "frames_start_s": "all frames: until the server is ready, s",
    "frames_more_s": "the difference, s",
    "frames_mb": "all frames: memory beyond that of the empty catalog, MB",
    "first_request_ms": "first request of a process, for the metadata of a frame, ms",
    "touch_metadata_ms": "first request for the metadata of another frame, ms",
    "touch_point_ms": "first point of another frame, whose values are in memory, ms",
    "again_point_ms": "the same point again, ms",
    "touched_mb": "memory after the frames were touched, beyond that after the first, MB",
    "convert_s": "stack reference to index, s",
    "convert_peak_gb": "stack reference to index: peak memory, GB",
    "at_once_s": "only to read that file at once (json.loads), s",
    "at_once_peak_gb": "only to read that file at once: peak memory, GB",
    "reopen_ms": "open the index of the stack again, ms",
    "reopen_frame_ms": "open the index of a frame again, ms",
}


def measure(extent: Extent, folder: Path, tell: Tell) -> tuple[Figures, list[str], dict[str, Any]]:
    """Measure everything in turn; returns samples by name, what was wrong, and the sizes of the subjects.

    Raises:
        Failed: a process did not end well.
    """
    figures: Figures = defaultdict(list)
    tell("making frames")
    frames = make_frames(folder / "frames", extent.frames, tell)
    none = make_frames(folder / "none", 0, tell)
    stack = write_stack_reference(folder / "stack.json.gz", extent.dates)
    wrong = []
    for number in range(extent.rounds):
        tell(f"round {number + 1}: starting catalogs")
        # each pair the other way round, so that neither has the warmer machine
        pair = [none, frames] if number % 2 else [frames, none]
        memory = {subject.count: _start(subject, figures) for subject in pair}
        figures["frames_mb"].append(memory[frames.count] - memory[0])
        figures["frames_more_s"].append(figures["frames_start_s"][-1] - figures["none_start_s"][-1])
        tell(f"round {number + 1}: converting the stack reference")
        wrong += _convert(stack, folder / "stack.index", figures)
        figures["reopen_ms"] += _opening_times(folder / "stack.index")
        figures["reopen_frame_ms"] += _opening_times(frames.index(0))
    tell("touching frames")
    wrong += _touch(frames, min(extent.touched, extent.frames), figures)
    sizes = {"frames": _sizes(frames), "stack": _sizes(stack)}
    return dict(figures), wrong, sizes


def _sizes(subject: Frames | StackReference) -> dict[str, int]:
    return {name: value for name, value in asdict(subject).items() if isinstance(value, int)}


def _start(frames: Frames, figures: Figures) -> float:
    """Start a server, and stop it when it is ready; returns its resident size in MB."""
    begin = time.perf_counter()
    with cubegate(Configuration(frames.file, frames.log)) as server:
        figures["frames_start_s" if frames.count else "none_start_s"].append(time.perf_counter() - begin)
        return _resident_mb(server.process)


def _resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def _touch(frames: Frames, count: int, figures: Figures) -> list[str]:
    """Ask each of some frames for its metadata and one point; returns those whose point was wrong."""
    wrong = []
    with cubegate(Configuration(frames.file, frames.log)) as server, _quoting(frames.log):
        for number in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            metadata = _timed_get(connection, f"/datasets/{name_of(number)}/zarr/.zmetadata")[0]
            target, expected = _point(frames, number)
            point, body = _timed_get(connection, target)
            if not np.array_equal(_values(body), expected):
                wrong.append(f"frame {number}: {target}")
            if number:
                figures["touch_metadata_ms"].append(metadata)
                figures["touch_point_ms"].append(point)
                figures["again_point_ms"].append(_timed_get(connection, target)[0])
            else:
                figures["first_request_ms"].append(metadata)
                first = _resident_mb(server.process)
            connection.close()
        figures["touched_mb"].append(_resident_mb(server.process) - first)
    return wrong


@contextlib.contextmanager
def _quoting(log: Path) -> Iterator[None]:
    """Add the end of a log to what failed."""
    try:
        yield
    except (Failed, OSError, http.client.HTTPException) as error:
        raise Failed(f"{error}\n{log.read_text('utf-8', 'replace')[-2000:]}") from error


def _timed_get(connection: http.client.HTTPConnection, target: str) -> tuple[float, bytes]:
    begin = time.perf_counter()
    connection.request("GET", target)
    with connection.getresponse() as response:
        body = response.read()
        milliseconds = (time.perf_counter() - begin) * 1000
        if response.status != 200:
            raise Failed(f"{target} was answered {response.status}: {body[:500]!r}")
    return milliseconds, body


def _point(frames: Frames, number: int) -> tuple[str, np.ndarray]:
    """A request for a point of a frame, and the right answer."""
    row, column = _PIXELS[number % len(_PIXELS)]
    x, y = scale_frames.place_of(row, column)
    query = urlencode({"x": x, "y": y, "variables": "displacement", "f": "csv"})
    return f"/datasets/{name_of(number)}/timeseries?{query}", _series(frames, row, column)


@functools.cache
def _series(frames: Frames, row: int, column: int) -> np.ndarray:
    return frames.series(row, column)


def _values(body: bytes) -> np.ndarray:
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return np.array([row["displacement"] for row in csv.DictReader(lines)], dtype="f4")


def _convert(stack: StackReference, index: Path, figures: Figures) -> list[str]:
    """Convert the references by the command, and read them at once; returns what the index has wrong."""
    # the granules do not exist
    allowed = [
        "--allow",
        scale_references.BUCKET,
        "--allow",
        f"{stack.path.parent.as_uri()}/",
        "--no-validators",
        "--fill",
        "declared",
    ]
    for name, command in {
        "convert": [cubegate_command(), "index", str(stack.path), "-o", str(index), *allowed],
        "at_once": [sys.executable, "-c", _AT_ONCE, str(stack.path)],
    }.items():
        seconds, peak = _run(command)
        figures[f"{name}_s"].append(seconds)
        figures[f"{name}_peak_gb"].append(peak)
    return _wrong_references(index, stack)


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Run a command to its end; returns its seconds, and its peak resident size in GB."""
    begin, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            # what the kernel tells of an ended process counts its parent's memory too
            with contextlib.suppress(OSError, StopIteration):
                peak = peak_memory(process.pid)
            time.sleep(0.02)
        if process.returncode != 0:
            said.seek(0)
            raise Failed(f"{command[:2]}: {said.read().decode()[-2000:]}")
    return time.perf_counter() - begin, peak / 1000


def _wrong_references(path: Path, stack: StackReference) -> list[str]:
    index, generator = open_index(path), np.random.default_rng(1)
    counted = sum(index.counts(variable).stored for variable in scale_references.VARIABLES)
    wrong = [] if counted == stack.references else [f"{counted:,} references instead of {stack.references:,}"]
    for variable in scale_references.VARIABLES:
        array = index.hierarchy.arrays[variable]
        for chunk in generator.integers(0, array.chunk_grid, (_CHECKED_CHUNKS, 3)).tolist():
            (found,) = index.locate(array, [tuple(chunk)])
            expected = scale_references.chunk_reference(variable, *chunk)
            if not isinstance(found, Stored) or (
                found.reference.url, found.reference.offset, found.reference.length,
            ) != expected:  # fmt: skip
                wrong.append(f"{variable}/{chunk}: {found}")
    return wrong


def _opening_times(path: Path) -> list[float]:
    times = []
    for _ in range(_OPENINGS):
        begin = time.perf_counter()
        open_index(path)
        times.append((time.perf_counter() - begin) * 1000)
    return times


def print_figures(console: Console, figures: Figures, extent: Extent) -> None:
    """Print medians, beside the bars where there are such."""
    limits = {limit.figure: limit.required for limit in LIMITS if extent.name != "smoke"}
    table = Table(title="What size costs", title_justify="left")
    for name in ("figure", "median", "largest", "bar"):
        table.add_column(name, justify="left" if name == "figure" else "right", overflow="fold")
    for name, label in LABELS.items():
        if samples := figures.get(name):
            table.add_row(label, f"{median(samples):.3g}", f"{max(samples):.3g}", limits.get(name, ""))
    console.print(table)


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.scale", description=(__doc__ or "").partition("\n")[0]
    )
    less = parser.add_mutually_exclusive_group()
    less.add_argument("--quick", action="store_true", help="one round, 50 frames touched: about a minute")
    less.add_argument(
        "--smoke", action="store_true", help="of everything little: does it run, with right values?"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "scale.json", help="the file to write")
    parsed = parser.parse_args()
    extent = EXTENTS["quick" if parsed.quick else "smoke" if parsed.smoke else "full"]
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = Path(tempfile.mkdtemp(prefix="cubegate-scale-"))
    try:
        figures, wrong, sizes = measure(extent, folder, lambda what: console.print(what, style="dim"))
    except Failed as error:
        Console(stderr=True).print(f"benchmark: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    document = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "extent": asdict(extent), "sizes": sizes,
                "scale": figures, "wrong": wrong}  # fmt: skip
    parsed.json.parent.mkdir(parents=True, exist_ok=True)
    parsed.json.write_text(json.dumps(document, indent=1), "utf-8")
    print_figures(console, figures, extent)
    console.print(f"{extent.name} run, {document['date']}. All samples are in {parsed.json}", soft_wrap=True)
    for problem in wrong:
        console.print(f"wrong: {problem}", style="red", markup=False, highlight=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
