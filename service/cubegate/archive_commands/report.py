"""What a build says when it is done, to people and to scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archives.building import Plan
from cubegate.index.index import Index


def cube_report(
    plan: Plan, index: Index, *, granules: Iterable[str], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Return the report of one cube: its files and version, of what it is made, and what it lacks."""
    return {
        "id": plan.id,
        "index": str(plan.index),
        "collection": str(plan.collection),
        "version": index.version,
        "arrays": len(index.hierarchy.arrays),
        "granules": list(granules),
        "left_out": dict(left_out),
        "not_served": dict(index.hierarchy.skipped),
        "notes": list(index.notes),
    }


def print_report(
    console: Console, report: Mapping[str, Any], said: Sequence[str] = (), *, as_json: bool
) -> None:
    """Print what `cube_report` returned; `said` are further lines, for people."""
    if as_json:
        console.print_json(json.dumps(report))
        return
    lines = [
        f"Wrote {report['index']} and {report['collection']}, version {report['version']}",
        f"{len(report['granules']):,} granules, {report['arrays']:,} arrays",
        *said,
        *(f"left out: {name} {reason}" for name, reason in report["left_out"].items()),
        *(f"not served: {path}: {reason}" for path, reason in report["not_served"].items()),
        *(f"note: {note}" for note in report["notes"]),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_files(
    console: Console, name: str, files: Sequence[Path], granules: Sequence[str], *, as_json: bool
) -> None:
    """Print the report of a build that wrote collection files alone."""
    report = {"id": name, "collections": [str(file) for file in files], "granules": list(granules)}
    if as_json:
        console.print_json(json.dumps(report))
        return
    for file in files:
        console.print(f"Wrote {file}", markup=False, highlight=False, soft_wrap=True)
