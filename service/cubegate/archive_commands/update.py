"""update: looks for what an archive has new for a cube that was built."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common, read_settings
from cubegate.archives.build_record import read_record, record_file
from cubegate.archives.building import Plan
from cubegate.archives.opera import Choice
from cubegate.archives.update import Published, version_file
from cubegate.catalog.catalog import local_path
from cubegate.catalog.collection import CollectionFiles, Configured
from cubegate.conversions.opera import KIND, update_cube
from cubegate.errors import ConfigurationError, InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in
from cubegate.settings import Settings


def add_update(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser("update", help="add to a cube what its archive has new")
    parser.add_argument(
        "cube", help="a collection file that a build wrote, or its id where --config mounts it"
    )
    parser.add_argument("--replace", action="store_true",
                        help="mount what is no mere addition in place of what is mounted")  # fmt: skip
    add_common(parser)
    parser.set_defaults(run=_update)


def _update(parsed: argparse.Namespace, console: Console) -> int:
    settings = read_settings(parsed)
    configured = _find(parsed.cube, settings, parsed.config)
    collection = configured.collection
    index = local_path(collection.source.href, configured.file)
    if collection.source.kind != "index" or index is None:
        raise ConfigurationError(
            "is not a cube that cubegate build made", file=str(configured.file), key="source"
        )
    record = read_record(record_file(index.parent, index.stem))
    if record.kind != KIND:
        raise ConfigurationError(
            f"is of the archive {record.kind!r}, whose cubes are not updated",
            file=str(record_file(index.parent, index.stem)),
        )
    plan = Plan(index.stem, collection.title, index.parent, frozenset(record.allow_gaps))
    with progress_bar(console) as bar:
        published, choice = asyncio.run(
            update_cube(
                settings, os.environ, plan, record, even_if_other=parsed.replace, progress=shown_in(bar)
            )
        )
    report = _report(collection.id, plan, published, choice, record.granules)
    if parsed.json:
        console.print_json(json.dumps(report))
        return 0
    for line in _lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _find(cube: str, settings: Settings, config: Path | None) -> Configured:
    path = Path(cube)
    if path.suffix in (".yaml", ".yml"):
        patterns, directory = [str(path.resolve())], path.resolve().parent
    else:
        patterns, directory = list(settings.collections), (config or Path("config/cubegate.yaml")).parent
    found = CollectionFiles(patterns, directory.resolve()).read()
    if path.suffix in (".yaml", ".yml") and found:
        return next(iter(found.values()))
    if cube not in found:
        known = ", ".join(sorted(found)) or "none"
        raise InvalidParameter(
            "cube", f"There is no cube {cube!r}.", accepted=f"a collection file, or: {known}"
        )
    return found[cube]


def _report(
    dataset_id: str, plan: Plan, published: Published, choice: Choice | None, known: tuple[str, ...]
) -> dict[str, Any]:
    names = [] if choice is None else [product.name for product in choice.products]
    added = [name for name in names if name not in set(known)]
    kept = published.outcome == "new version"
    return {
        "id": dataset_id,
        "outcome": published.outcome,
        "reason": published.reason,
        "before": published.before,
        "after": published.after,
        "index": str(version_file(plan.index, published.after) if kept else plan.index),
        "added": added,
        "gone": [name for name in known if name not in set(names)] if choice is not None else [],
        "left_out": {} if choice is None else dict(choice.left_out),
    }


def _lines(report: Mapping[str, Any]) -> list[str]:
    name, before, after = report["id"], report["before"], report["after"]
    said = {
        "unchanged": f"{name} is up to date: version {after}",
        "appended": f"{name} has more dates now: version {after}; the one before stays as {name}@{before}",
        "replaced": f"{name} is replaced: version {after}; the one before stays as {name}@{before}",
        "new version": (
            f"{name} stays as it is, version {before}, since {report['reason']}. All that there is now is "
            f"mounted as {name}@{after}; cubegate update --replace puts it in the place of {name}"
        ),
    }
    return [
        said[report["outcome"]],
        *(f"added: {each}" for each in report["added"]),
        *(f"gone: {each}" for each in report["gone"]),
        *(f"left out: {each} {why}" for each, why in report["left_out"].items()),
    ]
