"""Measures cubegate beside what else reads such stacks, in one run on one machine.

    python -m tests.benchmarks [--full | --smoke]

Prints medians and ratios, and writes all samples as JSON. Ends with 1 only where a value was wrong or a
reader failed, never because of a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from . import scale
from .chunk_rate import ChunkRate, Rates
from .load import generator
from .processes import ROOT, Failed
from .queries import SCATTERED, right_answers
from .report import print_report, write_markdown
from .rounds import Bench, Samples
from .servers import RangeServer, range_server, write_configuration
from .stack import Stack, build_stack, default_directory, write_json

_VERSIONS = (
    "cubegate",
    "xarray",
    "zarr",
    "kerchunk",
    "fsspec",
    "icechunk",
    "obstore",
    "deflate",
    "uvicorn",
    "numpy",
)


@dataclass(frozen=True)
class Mode:
    """How much is measured; `scattered` is how many scattered points (a), (b) and the others read in a loop."""

    name: str
    rounds: int
    rate_rounds: int
    rate_seconds: float
    scattered: tuple[int, int, int]


MODES = {
    "smoke": Mode("smoke", 1, 1, 1, (1, 3, 3)),
    "quick": Mode("quick", 5, 5, 2, (1, 3, 3)),
    "full": Mode("full", 7, 7, 4, (10, SCATTERED, SCATTERED)),
}


def main() -> int:
    """Measure, or show what has been measured; returns the exit code."""
    parsed = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)
    if parsed.show:
        document = json.loads(parsed.show.read_text("utf-8"))
    else:
        mode = MODES["full" if parsed.full else "smoke" if parsed.smoke else "quick"]
        try:
            document = _measure(mode, parsed, console)
        except Failed as error:
            Console(stderr=True).print(f"benchmark: {error}", style="red", markup=False, soft_wrap=True)
            return 1
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json.dumps(document, indent=1), "utf-8")
        console.print(f"All samples are in {parsed.json}", markup=False, highlight=False)
    print_report(console, document)
    if parsed.markdown:
        write_markdown(parsed.markdown, document)
    return 1 if document["wrong"] or document["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description=__doc__.partition("\n")[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--full", action="store_true", help="more rounds, and all scattered points")
    extent.add_argument(
        "--smoke", action="store_true", help="one round: does everything run, with right values?"
    )
    extent.add_argument("--show", type=Path, metavar="JSON", help="measure nothing, show this file")
    parser.add_argument("--stack", type=Path, default=default_directory(), help="where the granules are kept")
    parser.add_argument(
        "--delay", type=float, default=30, help="milliseconds before each answer of the upstream"
    )
    parser.add_argument(
        "--json", type=Path, default=ROOT / "build" / "benchmark.json", help="the file to write"
    )
    parser.add_argument("--markdown", type=Path, help="a page to put the tables into, between its marks")
    parser.add_argument("--xpublish-python", type=Path, default=ROOT / ".venv-bench" / "bin" / "python",
                        help="the Python of an environment with xpublish-zarr")  # fmt: skip
    return parser


def _measure(mode: Mode, parsed: argparse.Namespace, console: Console) -> dict[str, Any]:
    stack = build_stack(parsed.stack)
    answers = right_answers(stack)
    folder = Path(tempfile.mkdtemp(prefix="cubegate-benchmark-"))
    try:
        with (
            console.status("starting") as status,
            range_server(stack, parsed.delay, folder / "range.log") as upstream,
        ):
            references = folder / "stack.json"
            write_json(references, stack.references(f"{upstream.url}/granules"))
            missing: dict[str, str] = {}
            repository = _icechunk_repository(folder / "icechunk", stack, upstream, missing)
            configuration = write_configuration(folder / "cubegate", references, upstream)
            loops = dict(zip("abce", (*mode.scattered, mode.scattered[2]), strict=True))
            bench = Bench(stack, answers, references, repository, upstream, configuration, folder,
                          parsed.delay, loops)  # fmt: skip
            tell: Callable[[str], None] = status.update
            samples = bench.run(mode.rounds, tell)
            chunk = ChunkRate(stack, configuration, folder, parsed.xpublish_python, mode.rate_seconds)
            rates = chunk.run(mode.rate_rounds, tell)
            sizes, wrong, _ = scale.measure(scale.EXTENTS[mode.name], folder / "scale", tell)
            samples.wrong += wrong
        if "cubegate" in rates.missing:
            samples.failed.append(rates.missing["cubegate"])
        if samples.wrong or samples.failed:
            parsed.json.parent.mkdir(parents=True, exist_ok=True)
            kept = shutil.copy(configuration.log, parsed.json.with_suffix(".log"))
            console.print(f"What cubegate said is in {kept}", markup=False, highlight=False)
        rates.missing.update(missing)
        # a smoke run's frames and references are too few to be judged by
        return _document(mode, bench, samples, rates, {} if mode.name == "smoke" else sizes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _icechunk_repository(
    folder: Path, stack: Stack, upstream: RangeServer, missing: dict[str, str]
) -> Path | None:
    """Write the repository that (c) reads; where Icechunk is not installed, say so in `missing`."""
    try:
        from .icechunk_reader import write_repository  # noqa: PLC0415 - it may be missing
    except ImportError as error:
        missing["c"] = f"not installed ({error})"
        return None
    write_repository(folder, stack, upstream.url)
    return folder


def _document(
    mode: Mode, bench: Bench, samples: Samples, rates: Rates, sizes: scale.Figures
) -> dict[str, Any]:
    readers: dict[str, dict[str, Any]] = {
        reader: {"milliseconds": times} for reader, times in samples.milliseconds.items()
    }
    for name, values in (("peak_mb", samples.peak_mb), ("upstream", samples.upstream)):
        for reader, measured in values.items():
            readers.setdefault(reader, {})[name] = measured
    for reader, count in bench.scattered.items():
        readers.setdefault(reader, {})["scattered"] = count
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "mode": mode.name,
        "rounds": mode.rounds,
        "machine": _machine(),
        "versions": {name: version(name) for name in _VERSIONS if find_spec(name)},
        "stack": asdict(bench.stack.size),
        "delay_ms": bench.delay,
        "scattered": SCATTERED,
        "generator": generator(),
        "readers": readers,
        "rates": rates.samples,
        "missing": rates.missing,
        "scale": dict(sizes),
        "compared": samples.compared,
        "wrong": samples.wrong,
        "failed": samples.failed,
    }


def _machine() -> dict[str, Any]:
    processor = Path("/proc/cpuinfo").read_text("utf-8").partition("model name")[2].partition("\n")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": processor.strip("\t :") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
