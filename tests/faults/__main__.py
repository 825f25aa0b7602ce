"""Puts cubegate behind an upstream that misbehaves in every way, and prints which bars it meets.

    python -m tests.faults [--runs 5000] [--seed 1] [--only NUMBER] [--json FILE]

Ends with 1 where something untrue was served, a canary got out, or another bar was missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .bars import ALL, Row
from .canaries import LogSearch, Search
from .cube import make_cube
from .engine import Outcome, draw_run, run_all
from .report import bars_of_runs, print_report
from .upstream import Upstream
from .world import World


def main() -> int:
    """Make the runs, or one of them; returns the exit code."""
    parsed = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)
    warnings.simplefilter("ignore")
    numbers = range(parsed.runs) if parsed.only is None else [parsed.only]
    runs = [draw_run(parsed.seed, number) for number in numbers]
    search, outcomes = Search(), []
    folder = Path(tempfile.mkdtemp(prefix="cubegate-faults-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.monotonic()
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            cube = make_cube()
            with Upstream(cube) as upstream, LogSearch(search) as log:
                world = World(folder, cube, upstream)
                task = bar.add_task("Runs", total=len(runs))
                for outcome in run_all(runs, world, search):
                    outcomes.append(outcome)
                    bar.advance(task)
                # what is drawn by number is one run, to look at
                rows = [] if parsed.only is not None else _other_bars(bar, world, search)
            rows = bars_of_runs(outcomes, search, _astray(upstream), 1 if parsed.only else parsed.runs) + rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_report(console, rows, outcomes, search)
    rate = len(runs) / (time.monotonic() - started)
    console.print(f"seed {parsed.seed}, {rate:.0f} runs a second, {log.records:,} log records searched")
    if parsed.json:
        _write(parsed.json, rows, outcomes)
    return 1 if any(row.met is False for row in rows) or any(one.is_defect for one in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5000, help="how many runs to draw")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn from")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="make one run alone, by its number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome to this file")
    return parser


def _other_bars(bar: Progress, world: World, search: Search) -> list[Row]:
    rows: list[Row] = []
    task = bar.add_task("Other bars", total=len(ALL))
    for name, measure in ALL.items():
        bar.update(task, description=name.capitalize())
        rows += measure(world, search)
        bar.advance(task)
    rows.append(Row("schemathesis", "0 failures", "a part of make test", None))
    return rows


def _astray(upstream: Upstream) -> list[str]:
    # obstore follows redirects by itself, so that an S3 endpoint is trusted not to lead elsewhere
    return [text for text, s3 in upstream.astray if not s3]


def _write(file: Path, rows: list[Row], outcomes: list[Outcome]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "bars": [
            {"what": row.what, "bar": row.bar, "measured": row.measured, "met": row.met} for row in rows
        ],
        "runs": [outcome.as_json() for outcome in outcomes],
    }
    file.write_text(json.dumps(document, indent=1), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
