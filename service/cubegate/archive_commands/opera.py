"""search and build of OPERA DISP-S1."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cubegate.archive_commands.footprint_map import Footprint, footprint_map
from cubegate.archive_commands.options import add_common, add_output, parse_bbox, parse_date, read_settings
from cubegate.archive_commands.report import cube_report, print_report
from cubegate.archives.building import Plan
from cubegate.archives.opera import VERSION, Choice, Product, Wanted, product_named_in
from cubegate.conversions.opera import build_products, build_stack, find_products, kind_of_references
from cubegate.errors import InvalidParameter
from cubegate.index.index import Index
from cubegate.progress_bar import progress_bar, shown_in

_DAY = np.timedelta64(24 * 3600 - 1, "s")
_SHOWN = 3


def add_search(kinds: Any) -> None:
    """Add the search to the subparsers `kinds`."""
    parser = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1")
    parser.add_argument("--bbox", help="west,south,east,north in degrees")
    _add_selection(parser)
    parser.add_argument("--geojson", type=Path, metavar="FILE", help="write the outlines of the frames")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a map of the frames, one web page")
    parser.set_defaults(run=_search)


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("opera-disp-s1", help="OPERA surface displacement from Sentinel-1, one frame")
    _add_selection(parser)
    parser.add_argument("--granule", metavar="NAME_OR_URL", help="one granule alone, instead of a frame")
    parser.add_argument("--stack", metavar="URL", help="references of a whole frame, instead of a search")
    add_output(parser, default_id="opera-f and the frame, and the date where it is one granule")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                        help="an array that may lack chunks which the dates beside have")  # fmt: skip
    parser.set_defaults(run=_build)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frame", type=int, help="a frame's number")
    parser.add_argument("--start", help="the first secondary date, such as 2020-01-31")
    parser.add_argument("--end", help="the last secondary date")
    parser.add_argument("--polarization", choices=("VV", "HH"), help="of the products (default: any)")
    parser.add_argument("--version", default=VERSION, help=f"of the products (default: {VERSION})")
    add_common(parser)


def _wanted(parsed: argparse.Namespace, accepted: str = "--frame or --bbox") -> Wanted:
    bbox, granule = getattr(parsed, "bbox", None), getattr(parsed, "granule", None)
    if parsed.frame is None and bbox is None and granule is None:
        detail = f"None of these is given: {accepted}."
        raise InvalidParameter("frame", detail, accepted=accepted)
    return Wanted(
        parsed.frame,
        None if bbox is None else parse_bbox(bbox),
        None if parsed.start is None else parse_date("start", parsed.start),
        None if parsed.end is None else parse_date("end", parsed.end) + _DAY,
        parsed.polarization,
        parsed.version,
        granule,
    )


def _search(parsed: argparse.Namespace, console: Console) -> int:
    with progress_bar(console) as bar:
        work = find_products(read_settings(parsed), _wanted(parsed), progress=shown_in(bar))
        choice = asyncio.run(work)
    frames = _by_frame(choice.products)
    if parsed.geojson is not None:
        parsed.geojson.write_text(json.dumps(_footprints(frames)), "utf-8")
    if parsed.html is not None:
        parsed.html.write_text(_map(frames), "utf-8")
    if parsed.json:
        console.print_json(json.dumps([frame_report(*each) for each in frames.items()]))
        return 0
    table = Table("frame", "products", "polarization", "first date", "last date")
    for frame, products in frames.items():
        report = frame_report(frame, products)
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


def frame_report(frame: int, products: Sequence[Product]) -> dict[str, Any]:
    """Return what a frame has: how many products, of which polarizations, from when to when."""
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
            "properties": frame_report(frame, products),
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[list(map(list, ring))] for ring in products[0].granule.outline],
            },
        }
        for frame, products in frames.items()
    ]
    return {"type": "FeatureCollection", "features": features}


def _map(frames: dict[int, list[Product]]) -> str:
    return footprint_map("OPERA DISP-S1", [_footprint(*each) for each in frames.items()])


def _footprint(frame: int, products: Sequence[Product]) -> Footprint:
    report = frame_report(frame, products)
    dates = f"{report['first'][:10]} to {report['last'][:10]}"
    return Footprint(
        f"frame {frame}",
        products[0].granule.outline,
        f"{len(products):,} products, {', '.join(report['polarizations'])}, {dates}",
        [f"{np.datetime_as_string(each.secondary, 'D')}  {each.name}" for each in products],
    )


def _build(parsed: argparse.Namespace, console: Console) -> int:
    if parsed.stack is not None:
        return _build_stack(parsed, console)
    settings = read_settings(parsed)
    wanted = _wanted(parsed, "--frame, --granule or --stack")
    one = None if wanted.granule is None else product_named_in(wanted.granule)
    plan = _plan(parsed, wanted.frame if one is None else one.frame, one)

    async def build() -> tuple[Choice, Index]:
        choice = await find_products(settings, wanted, progress=show)
        return choice, await build_products(settings, os.environ, plan, wanted, choice, progress=show)

    with progress_bar(console) as bar:
        show = shown_in(bar)
        choice, index = asyncio.run(build())
    granules = [product.name for product in choice.products]
    report = cube_report(plan, index, granules=granules, left_out=choice.left_out)
    report["references"] = references_report(choice.products)
    print_report(console, report, said_of(choice.products), as_json=parsed.json)
    return 0


def _build_stack(parsed: argparse.Namespace, console: Console) -> int:
    given = [
        name for name in ("granule", "start", "end", "polarization") if getattr(parsed, name) is not None
    ]
    if given:
        detail = f"--{given[0]} chooses granules, and a stack has those that it has."
        raise InvalidParameter(given[0], detail)
    frame = parsed.frame
    if frame is None:
        frame = _frame_in(parsed.stack)
    plan = _plan(parsed, frame)
    with progress_bar(console) as bar:
        url = parsed.stack if "://" in parsed.stack else Path(parsed.stack).resolve().as_uri()
        work = build_stack(read_settings(parsed), os.environ, plan, url, progress=shown_in(bar))
        index = asyncio.run(work)
    dates = index.hierarchy.arrays["time"].shape[0]
    report = cube_report(plan, index, granules=[], left_out={})
    report["granules"] = [url.rpartition("/")[2] for url in index.urls]
    print_report(console, report, [f"{dates:,} dates"], as_json=parsed.json)
    return 0


def _frame_in(url: str) -> int | None:
    parts = [
        part for part in url.rpartition("/")[2].split("_") if part.startswith("F") and part[1:].isdecimal()
    ]
    return int(parts[0][1:]) if parts else None


def _plan(parsed: argparse.Namespace, frame: int | None, one: Product | None = None) -> Plan:
    if frame is None and parsed.id is None:
        raise InvalidParameter(
            "id", "No frame is given that would name the cube.", accepted="--frame or --id"
        )
    date = "" if one is None else f"-{np.datetime_as_string(one.secondary, 'D').replace('-', '')}"
    title = "OPERA DISP-S1" if frame is None else f"OPERA DISP-S1, frame {frame}"
    return Plan(
        parsed.id or f"opera-f{frame:05}{date}",
        title if one is None else f"{title}, {np.datetime_as_string(one.secondary, 'D')}",
        parsed.output,
        frozenset(name.strip("/") for name in parsed.allow_gaps),
    )


def references_report(products: Sequence[Product]) -> dict[str, str]:
    """Return by what each product was read: its own references, its DMR++, or a scan of its file."""
    return {product.name: (kind_of_references(product) or "").lstrip(".") for product in products}


def said_of(products: Sequence[Product]) -> list[str]:
    """Return lines for people: the dates of products, and by what they were read."""
    dates = [product.secondary for product in products]
    kinds = references_report(products)
    lines = [f"{len(dates):,} dates from {dates[0]}Z to {dates[-1]}Z"]
    for kind, count in Counter(kinds.values()).most_common():
        named = [name for name, of in kinds.items() if of == kind]
        some = "" if count == len(kinds) else f": {', '.join(named[:_SHOWN])}{' ...' * (count > _SHOWN)}"
        lines.append(f"{count:,} read by .{kind}{some}")
    return lines
