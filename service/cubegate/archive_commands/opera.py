"""search and build of OPERA DISP-S1."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cubegate.archive_commands.options import add_common, add_output, parse_bbox, parse_date, read_settings
from cubegate.archive_commands.report import cube_report, print_report
from cubegate.archives.building import Plan
from cubegate.archives.opera import VERSION, Choice, Product, Wanted
from cubegate.conversions.opera import build_products, find_products
from cubegate.errors import InvalidParameter
from cubegate.index.index import Index
from cubegate.progress_bar import progress_bar, shown_in

_DAY = np.timedelta64(24 * 3600 - 1, "s")


def add_search(kinds: Any) -> None:
    """Add the search to the subparsers `kinds`."""
    parser = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1")
    parser.add_argument("--bbox", help="west,south,east,north in degrees")
    _add_selection(parser, frame_required=False)
    parser.add_argument("--geojson", type=Path, metavar="FILE", help="write the outlines of the frames")
    parser.set_defaults(run=_search)


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1, one frame")
    _add_selection(parser, frame_required=True)
    add_output(parser, default_id="opera-f and the frame")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                        help="an array that may lack chunks which the dates beside have")  # fmt: skip
    parser.set_defaults(run=_build)


def _add_selection(parser: argparse.ArgumentParser, *, frame_required: bool) -> None:
    parser.add_argument("--frame", type=int, required=frame_required, help="a frame's number")
    parser.add_argument("--start", help="the first secondary date, such as 2020-01-31")
    parser.add_argument("--end", help="the last secondary date")
    parser.add_argument("--polarization", choices=("VV", "HH"), help="of the products (default: any)")
    parser.add_argument("--version", default=VERSION, help=f"of the products (default: {VERSION})")
    add_common(parser)


def _wanted(parsed: argparse.Namespace) -> Wanted:
    bbox = getattr(parsed, "bbox", None)
    if parsed.frame is None and bbox is None:
        raise InvalidParameter("frame", "Neither a frame nor a bbox is given.", accepted="--frame or --bbox")
    return Wanted(
        parsed.frame,
        None if bbox is None else parse_bbox(bbox),
        None if parsed.start is None else parse_date("start", parsed.start),
        None if parsed.end is None else parse_date("end", parsed.end) + _DAY,
        parsed.polarization,
        parsed.version,
    )


def _search(parsed: argparse.Namespace, console: Console) -> int:
    with progress_bar(console) as bar:
        work = find_products(read_settings(parsed), _wanted(parsed), progress=shown_in(bar))
        choice = asyncio.run(work)
    frames = _by_frame(choice.products)
    if parsed.geojson is not None:
        parsed.geojson.write_text(json.dumps(_footprints(frames)), "utf-8")
    if parsed.json:
        console.print_json(json.dumps([_frame_report(*each) for each in frames.items()]))
        return 0
    table = Table("frame", "products", "polarization", "first date", "last date")
    for frame, products in frames.items():
        report = _frame_report(frame, products)
        cells = (
            frame,
            report["products"],
            ", ".join(report["polarizations"]),
            report["first"],
            report["last"],
        )
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    console.print(f"{len(choice.products):,} products of {len(frames):,} frames", highlight=False)
    return 0


def _by_frame(products: Sequence[Product]) -> dict[int, list[Product]]:
    frames: defaultdict[int, list[Product]] = defaultdict(list)
    for product in products:
        frames[product.frame].append(product)
    return dict(sorted(frames.items()))


def _frame_report(frame: int, products: Sequence[Product]) -> dict[str, Any]:
    dates = sorted(product.secondary for product in products)
    return {
        "frame": frame,
        "products": len(products),
        "polarizations": sorted({product.polarization for product in products}),
        "first": f"{dates[0]}Z",
        "last": f"{dates[-1]}Z",
    }


def _footprints(frames: dict[int, list[Product]]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "properties": _frame_report(frame, products),
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[list(map(list, ring))] for ring in products[0].granule.outline],
            },
        }
        for frame, products in frames.items()
    ]
    return {"type": "FeatureCollection", "features": features}


def _build(parsed: argparse.Namespace, console: Console) -> int:
    settings, wanted = read_settings(parsed), _wanted(parsed)
    plan = Plan(
        parsed.id or f"opera-f{parsed.frame:05}",
        f"OPERA DISP-S1, frame {parsed.frame}",
        parsed.output,
        frozenset(name.strip("/") for name in parsed.allow_gaps),
    )

    async def build() -> tuple[Choice, Index]:
        choice = await find_products(settings, wanted, progress=show)
        products = choice.products
        return choice, await build_products(settings, os.environ, plan, products, progress=show)

    with progress_bar(console) as bar:
        show = shown_in(bar)
        choice, index = asyncio.run(build())
    dates = [product.secondary for product in choice.products]
    granules = [product.name for product in choice.products]
    report = cube_report(plan, index, granules=granules, left_out=choice.left_out)
    print_report(
        console, report, [f"{len(dates):,} dates from {dates[0]}Z to {dates[-1]}Z"], as_json=parsed.json
    )
    return 0
