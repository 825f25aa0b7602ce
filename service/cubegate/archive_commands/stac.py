"""build of what a STAC API finds, or of STAC items in a file."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common, add_output, parse_bbox, read_settings
from cubegate.archive_commands.report import cube_report, print_files, print_report
from cubegate.archives.building import Plan
from cubegate.archives.stac_api import Search
from cubegate.conversions.stac import Built, build_items, find_items
from cubegate.errors import InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser(
        "stac", help="the assets of STAC items: kerchunk, Zarr, netCDF, HDF5 or GeoTIFF"
    )
    add_search_options(parser)
    add_output(parser, default_id="the collection's, or that of the file")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                        help="an array that may lack chunks which the dates beside have")  # fmt: skip
    add_common(parser)
    parser.set_defaults(run=_build)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add what a search of a STAC API takes, and the file that may stand for it."""
    parser.add_argument("--api", metavar="URL", help="the STAC API (default: of the settings)")
    parser.add_argument("--collection", help="the collection to search")
    parser.add_argument("--bbox", help="west,south,east,north in degrees")
    parser.add_argument("--datetime", help="a moment or an interval, such as 2020-01-01/2020-12-31")
    parser.add_argument("--items", type=Path, metavar="FILE",
                        help="an item or a FeatureCollection of items, instead of a search")  # fmt: skip
    parser.add_argument("--asset", action="append", default=[], metavar="KEY",
                        help="the asset of each item (default: those of a kind that all have)")  # fmt: skip


def _build(parsed: argparse.Namespace, console: Console) -> int:
    settings, search = read_settings(parsed), read_search(parsed)
    name = parsed.id or _UNFIT.sub("-", parsed.items.stem if search is None else search.collection).strip(
        "-."
    )
    gaps = frozenset(array.strip("/") for array in parsed.allow_gaps)

    async def build() -> tuple[Plan, Built]:
        found = await find_items(settings, parsed.api, search, parsed.items, show)
        plan = Plan(name, str(found.collection.get("title") or name), parsed.output, gaps)
        return plan, await build_items(settings, os.environ, plan, found, parsed.asset, progress=show)

    with progress_bar(console) as bar:
        show = shown_in(bar)
        plan, built = asyncio.run(build())
    granules = list(dict.fromkeys(asset.item for asset in built.assets))
    if built.index is None:
        print_files(console, plan.id, built.files, granules, as_json=parsed.json)
    else:
        report = cube_report(plan, built.index, granules=granules, left_out={})
        print_report(console, report, as_json=parsed.json)
    return 0


def read_search(parsed: argparse.Namespace) -> Search | None:
    """Return the search that is asked for, None where a file of items is named.

    Raises:
        InvalidParameter: neither is, or both are, or the box is none.
    """
    if (parsed.items is None) == (parsed.collection is None):
        raise InvalidParameter(
            "collection", "Either a collection or a file of items is due.", accepted="--collection or --items"
        )
    if parsed.items is not None:
        return None
    return Search(
        parsed.collection, None if parsed.bbox is None else parse_bbox(parsed.bbox), parsed.datetime
    )
