"""overviews: builds coarser levels of a cube beside it, so that maps of low zooms read few chunks."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common
from cubegate.conversions.overview_plan import Wanted
from cubegate.conversions.overviews import Prepared, prepared_overviews
from cubegate.errors import InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in


def add_overviews(commands: Any) -> None:
    """Add overviews to the subparsers `commands`."""
    parser = commands.add_parser("overviews", help="build coarser levels of a cube, for maps of low zooms")
    parser.add_argument("dataset", help="a dataset's id")
    parser.add_argument("--variables", help="names, separated by commas (default: all that can be drawn)")
    parser.add_argument("--datetime", help="the dates, as queries take them (default: all)")
    parser.add_argument("--levels", type=int, help="how often cells are doubled (default: to 256 a side)")
    parser.add_argument("-o", "--output",
                        help="a folder for them, or an s3 URL that an upstream covers (default: what the "
                             "collection file names, or ID.overviews beside it)")  # fmt: skip
    parser.add_argument("--replace", action="store_true", help="put others of this version out of use")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="dates at a time")
    parser.add_argument("--dry-run", action="store_true", help="print the price, and build nothing")
    add_common(parser)
    parser.set_defaults(run=_overviews)


def _overviews(parsed: argparse.Namespace, console: Console) -> int:
    if parsed.levels is not None and parsed.levels < 1:
        raise InvalidParameter("levels", "There would be none.", accepted="1 or more")
    if parsed.threads < 1:
        raise InvalidParameter("threads", "Nothing would be built.", accepted="1 or more")
    wanted = Wanted(
        (parsed.config or Path("config/cubegate.yaml")).resolve(),
        parsed.dataset,
        None if parsed.variables is None else tuple(parsed.variables.split(",")),
        parsed.datetime,
        parsed.levels,
        parsed.output,
        parsed.replace,
    )
    with prepared_overviews(wanted) as prepared:
        report = _report(prepared)
        if not parsed.json:
            _say(console, _price_lines(report))
        if prepared.complete or parsed.dry_run:
            report["built"] = False
        else:
            with progress_bar(console) as bar:
                report["values"] = prepared.write(parsed.threads, shown_in(bar))
            report["built"] = True
    if parsed.json:
        console.print_json(json.dumps(report))
    elif not parsed.dry_run:
        _say(console, _lines(prepared, report))
    return 0


def _report(prepared: Prepared) -> dict[str, Any]:
    return {
        "id": prepared.cube.id,
        "version": prepared.cube.version,
        "store": prepared.place.url,
        "variables": {
            pyramid.path: {
                "resampling": pyramid.resampling,
                "levels": pyramid.levels,
                "shape": list(pyramid.shape(1)),
            }
            for pyramid in prepared.pyramids
        },
        "left_out": prepared.left_out,
        "price": prepared.price,
        "copied_of": None if prepared.earlier is None else prepared.earlier.version,
        "there_already": prepared.complete,
        "collection": str(prepared.place.configured.file),
        "overviews": {"href": prepared.place.href},
    }


def _price_lines(report: dict[str, Any]) -> list[str]:
    if report["there_already"]:
        return [f"{report['id']} has these overviews already, of version {report['version']}"]
    price = report["price"]
    read = f"{price['chunks']:,} chunks ({_size(price['bytes'])}) of {report['id']}"
    return [
        f"Reads {read}, and writes up to {_size(price['written'])} to {report['store']}",
        *(
            f"{path}: {each['levels']} levels, {each['resampling']}"
            for path, each in report["variables"].items()
        ),
        *([f"Copies the dates that version {copied} had"] if (copied := report["copied_of"]) else []),
        *(f"left out: {path}: {reason}" for path, reason in report["left_out"].items()),
    ]


def _lines(prepared: Prepared, report: dict[str, Any]) -> list[str]:
    said = []
    if report["built"]:
        said.append(f"Wrote {report['store']}, {report['values']:,} values, each read back and compared")
    named = prepared.place.configured.collection.overviews.href
    if named is None:
        said.append(f"To have maps use them, add this line to {report['collection']}:")
        said.append(f"overviews: {{href: {json.dumps(prepared.place.href)}}}")
    elif named != prepared.place.href and Path(named) != Path(prepared.place.href):
        said.append(f"{report['collection']} names other overviews. To have maps use these, write there:")
        said.append(f"overviews: {{href: {json.dumps(prepared.place.href)}}}")
    return said


def _size(nbytes: int) -> str:
    size, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.3g} {unit}"


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
