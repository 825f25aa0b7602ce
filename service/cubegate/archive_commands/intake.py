"""build of the sources of an Intake catalog."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common, read_settings
from cubegate.conversions.intake import build_sources
from cubegate.progress_bar import progress_bar, shown_in


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("intake", help="the netCDF, Zarr and kerchunk sources of an Intake catalog")
    parser.add_argument("catalog", help="the catalog in YAML: a path or a URL")
    parser.add_argument("--source", action="append", default=[], metavar="NAME",
                        help="a source to build; may be repeated (default: all)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, help="the directory for the cubes' files")
    add_common(parser)
    parser.set_defaults(run=_build)


def _build(parsed: argparse.Namespace, console: Console) -> int:
    with progress_bar(console) as bar:
        work = build_sources(
            read_settings(parsed),
            os.environ,
            parsed.catalog,
            parsed.source,
            parsed.output,
            progress=shown_in(bar),
        )
        report = asyncio.run(work)
    if parsed.json:
        console.print_json(json.dumps(report))
    else:
        lines = [
            *(f"Wrote {file}" for files in report["built"].values() for file in files),
            *(f"left out: {name} {reason}" for name, reason in report["left_out"].items()),
            *(f"failed: {name}: {reason}" for name, reason in report["failed"].items()),
        ]
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 1 if report["failed"] or not report["built"] else 0
