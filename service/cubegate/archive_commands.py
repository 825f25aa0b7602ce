"""The commands that turn an archive into a cube: search and build."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cubegate.archives.building import Plan
from cubegate.archives.opera import VERSION, Choice, Product, Wanted
from cubegate.conversions import build_products, find_products
from cubegate.errors import InvalidParameter
from cubegate.index.index import Index
from cubegate.progress_bar import progress_bar, shown_in
from cubegate.settings import Settings, load_settings

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY = np.timedelta64(24 * 3600 - 1, "s")


def add_archive_commands(commands: Any) -> None:
    """Add search and build to the subparsers `commands`."""
    search = commands.add_parser("search", help="list what an archive has, without knowing a frame")
    kinds = search.add_subparsers(required=True, metavar="KIND")
    opera = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1")
    opera.add_argument("--bbox", help="west,south,east,north in degrees")
    _add_selection(opera, frame_required=False)
    opera.add_argument("--geojson", type=Path, metavar="FILE", help="write the outlines of the frames")
    opera.set_defaults(run=_search_opera)

    build = commands.add_parser("build", help="make a cube of an archive's granules, ready to be mounted")
    kinds = build.add_subparsers(required=True, metavar="KIND")
    opera = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1, one frame")
    _add_selection(opera, frame_required=True)
    opera.add_argument("-o", "--output", type=Path, required=True, help="the directory for the cube's files")
    opera.add_argument("--id", help="the cube's id (default: opera-f and the frame)")
    opera.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                       help="an array that may lack chunks which the dates beside have")  # fmt: skip
    opera.set_defaults(run=_build_opera)


def _add_selection(parser: argparse.ArgumentParser, *, frame_required: bool) -> None:
    parser.add_argument("--frame", type=int, required=frame_required, help="a frame's number")
    parser.add_argument("--start", help="the first secondary date, such as 2020-01-31")
    parser.add_argument("--end", help="the last secondary date")
    parser.add_argument("--polarization", choices=("VV", "HH"), help="of the products (default: any)")
    parser.add_argument("--version", default=VERSION, help=f"of the products (default: {VERSION})")
    parser.add_argument(
        "--config",
        type=Path,
        help="the cubegate.yaml to use (default: config/cubegate.yaml where there is one)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _wanted(parsed: argparse.Namespace) -> Wanted:
    bbox = getattr(parsed, "bbox", None)
    if parsed.frame is None and bbox is None:
        raise InvalidParameter("frame", "Neither a frame nor a bbox is given.", accepted="--frame or --bbox")
    return Wanted(
        parsed.frame,
        None if bbox is None else _bbox(bbox),
        None if parsed.start is None else _date("start", parsed.start),
        None if parsed.end is None else _date("end", parsed.end) + _DAY,
        parsed.polarization,
        parsed.version,
    )


def _date(name: str, text: str) -> np.datetime64:
    try:
        if _DATE.fullmatch(text):
            return np.datetime64(text, "s")
    except ValueError:
        pass
    raise InvalidParameter(name, f"{text[:40]!r} is no date.", accepted="dates such as 2020-01-31")


def _bbox(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = float("nan")
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise InvalidParameter(
            "bbox", f"{text[:80]!r} is no box.", accepted="west,south,east,north in degrees"
        )
    return west, south, east, north


def _settings(parsed: argparse.Namespace) -> Settings:
    default = Path("config/cubegate.yaml")
    # without any file, which a search can do without, there are the variables of the environment
    return load_settings(parsed.config or (default if default.exists() else Path(os.devnull)), os.environ)


def _search_opera(parsed: argparse.Namespace, console: Console) -> int:
    with progress_bar(console) as bar:
        work = find_products(_settings(parsed), _wanted(parsed), progress=shown_in(bar))
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


def _build_opera(parsed: argparse.Namespace, console: Console) -> int:
    settings, wanted = _settings(parsed), _wanted(parsed)
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
    _print_report(console, plan, choice, index, as_json=parsed.json)
    return 0


def _print_report(console: Console, plan: Plan, choice: Choice, index: Index, *, as_json: bool) -> None:
    skipped = dict(index.hierarchy.skipped)
    report = {
        "id": plan.id,
        "index": str(plan.index),
        "collection": str(plan.collection),
        "version": index.version,
        "granules": [product.name for product in choice.products],
        "left_out": choice.left_out,
        "not_served": skipped,
        "notes": list(index.notes),
    }
    if as_json:
        console.print_json(json.dumps(report))
        return
    dates = [product.secondary for product in choice.products]
    lines = [
        f"Wrote {plan.index} and {plan.collection}, version {index.version}",
        f"{len(dates):,} dates from {dates[0]}Z to {dates[-1]}Z, {len(index.hierarchy.arrays):,} arrays",
        *(f"left out: {name} {reason}" for name, reason in choice.left_out.items()),
        *(f"not served: {path}: {reason}" for path, reason in skipped.items()),
        *(f"note: {note}" for note in index.notes),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
