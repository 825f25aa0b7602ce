"""build of HyP3 products: InSAR pairs and radiometrically terrain corrected scenes."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cubegate.archive_commands.options import add_common, add_output, parse_date, read_settings
from cubegate.archive_commands.report import cube_report, print_report
from cubegate.archives.building import Plan
from cubegate.archives.hyp3_regridding import Regridding
from cubegate.conversions.hyp3 import Built, Wanted, build_hyp3
from cubegate.errors import InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_DAY = np.timedelta64(24 * 3600 - 1, "s")
_OTHERS = ("refuse", "leave-out", "warp")


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("hyp3", help="HyP3 products: InSAR pairs (GAMMA, ISCE2 bursts), RTC scenes")
    parser.add_argument("place", nargs="*",
                        help="a folder with products below, a ZIP file, or the address of one")  # fmt: skip
    parser.add_argument("--project", metavar="NAME", help="the jobs of this name of your HyP3 account")
    parser.add_argument("--in-place", action="store_true",
                        help="read what HyP3 has beside its ZIP files, until a job expires")  # fmt: skip
    parser.add_argument("--start", help="the first date of the (second) acquisition, such as 2020-01-31")
    parser.add_argument("--end", help="the last date of the (second) acquisition")
    parser.add_argument("--path", type=int, help="the relative orbit")
    parser.add_argument("--orbit-direction", choices=("ascending", "descending"), help="of the satellite")
    parser.add_argument("--variables", default="", metavar="NAMES",
                        help="layers to take, with commas between (default: all that are known)")  # fmt: skip
    parser.add_argument("--zone", default="predominant", metavar="EPSG",
                        help="the UTM zone of the cube (default: that of the most products)")  # fmt: skip
    parser.add_argument("--other-zones", choices=_OTHERS, default="refuse",
                        help="what becomes of products in other zones (default: refuse)")  # fmt: skip
    parser.add_argument("--misaligned", choices=_OTHERS, default="refuse",
                        help="what becomes of products whose pixels do not coincide with those of the others "
                        "(default: refuse)")  # fmt: skip
    parser.add_argument("--extent", choices=("overlap", "union", "usual"), default="overlap",
                        help="what all products cover, what any does, or the grid of the most (default: "
                        "overlap)")  # fmt: skip
    add_output(parser, default_id="hyp3, or that of the project")
    parser.add_argument("--title", default="", help="of the collection (default: the id)")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="LAYER",
                        help="a layer that products may lack")  # fmt: skip
    add_common(parser)
    parser.set_defaults(run=_build)


def _build(parsed: argparse.Namespace, console: Console) -> int:
    settings, wanted = read_settings(parsed), _wanted(parsed)
    identifier = parsed.id or _UNFIT.sub("-", parsed.project or "").strip("-.") or "hyp3"
    plan = Plan(identifier, parsed.title or identifier, parsed.output, frozenset(parsed.allow_gaps))
    with progress_bar(console) as bar:
        work = build_hyp3(settings, os.environ, plan, wanted, progress=shown_in(bar))
        built = asyncio.run(work)
    names = [product.name.name for product in built.products]
    report = cube_report(plan, built.index, granules=names, left_out=built.left_out)
    report |= {
        "copied": {product: dict(layers) for product, layers in built.copied.items()},
        "layers_left_out": dict(built.layers_left_out),
        "grid": built.grid,
        "zones": dict(built.zones),
    }
    print_report(console, report, _said(built), as_json=parsed.json)
    return 0


def _wanted(parsed: argparse.Namespace) -> Wanted:
    if not parsed.place and parsed.project is None:
        raise InvalidParameter(
            "place", "Nothing is given to build of.", accepted="folders, ZIP files, addresses, or --project"
        )
    return Wanted(
        [_url(place) for place in parsed.place],
        parsed.project,
        None if parsed.start is None else parse_date("start", parsed.start),
        None if parsed.end is None else parse_date("end", parsed.end) + _DAY,
        parsed.path,
        None if parsed.orbit_direction is None else parsed.orbit_direction.upper(),
        [name.strip() for name in parsed.variables.split(",") if name.strip()],
        parsed.in_place,
        Regridding(parsed.zone, parsed.other_zones, parsed.misaligned, parsed.extent),
    )


def _url(place: str) -> str:
    return place.rstrip("/") if "://" in place else Path(place).resolve().as_uri()


def _said(built: Built) -> list[str]:
    times = [product.time for product in built.products]
    what = "pairs" if built.products[0].name.is_pair else "scenes"
    count = sum(map(len, built.copied.values()))
    lines = [
        f"{len(times):,} {what} from {times[0]}Z to {times[-1]}Z",
        f"grid: {built.grid}",
        f"zones: {', '.join(f'{number:,} in {crs}' for crs, number in built.zones.items())}",
        f"{count:,} GeoTIFFs were copied" if count else "no GeoTIFF was copied: all are read in place",
    ]
    for product, layers in built.copied.items():
        for reason in dict.fromkeys(layers.values()):
            named = ", ".join(layer for layer, each in layers.items() if each == reason)
            lines.append(f"copied: {product} ({named}): {reason}")
    lines += [f"not taken: {layer} {reason}" for layer, reason in built.layers_left_out.items()]
    return lines
