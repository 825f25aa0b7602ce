"""search and build of ITS_LIVE cubes."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cubegate.archive_commands.options import (
    add_common,
    add_output,
    parse_bbox,
    parse_point,
    read_settings,
)
from cubegate.archives.its_live import ID
from cubegate.archives.its_live_catalog import CatalogCube
from cubegate.archives.its_live_footprints import Area, geographic_outline
from cubegate.conversions.its_live import Mounted, build_cubes, find_cubes
from cubegate.errors import InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in


def add_search(kinds: Any) -> None:
    """Add the search to the subparsers `kinds`."""
    parser = kinds.add_parser("its-live", help="ITS_LIVE glacier velocities, cubes of image pairs")
    _add_area(parser)
    parser.add_argument("--geojson", type=Path, metavar="FILE", help="write the outlines of the cubes")
    parser.set_defaults(run=_search)


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("its-live", help="ITS_LIVE glacier velocities, the cubes that meet an area")
    _add_area(parser)
    add_output(parser, default_id=f"the name of the cube, {ID} for several together")
    parser.add_argument("--leave-out", action="store_true", help="mount the cubes that can be")
    parser.set_defaults(run=_build)


def _add_area(parser: argparse.ArgumentParser) -> None:
    area = parser.add_mutually_exclusive_group(required=True)
    area.add_argument("--bbox", help="west,south,east,north in degrees")
    area.add_argument("--point", help="lon,lat in degrees")
    parser.add_argument("--catalog", metavar="FILE_OR_URL", help="the catalog (default: of the settings)")
    add_common(parser)


def _area(parsed: argparse.Namespace) -> Area:
    if parsed.point is not None:
        return Area.of_point(*parse_point(parsed.point))
    area = Area(*parse_bbox(parsed.bbox))
    if area.west == area.east or area.south == area.north:
        raise InvalidParameter("bbox", "The box has no area.", accepted="a larger one, or --point lon,lat")
    return area


def _search(parsed: argparse.Namespace, console: Console) -> int:
    area, settings = _area(parsed), read_settings(parsed)
    with progress_bar(console) as bar:
        cubes = asyncio.run(find_cubes(settings, area, parsed.catalog, progress=shown_in(bar)))
    if parsed.geojson is not None:
        parsed.geojson.write_text(json.dumps(_outlines(cubes)), "utf-8")
    if parsed.json:
        console.print_json(json.dumps([_cube_report(cube) for cube in cubes]))
        return 0
    _print_cubes(cubes, console)
    console.print(f"{len(cubes):,} cubes", highlight=False)
    return 0


def _print_cubes(cubes: Sequence[CatalogCube], console: Console) -> None:
    """Print a table where it fits, else two lines a cube."""
    table = Table("cube", "EPSG", "west, south, east, north", "address")
    rows = [
        (cube.name, str(cube.epsg), ", ".join(f"{degrees:.3f}" for degrees in cube.bounds), cube.url)
        for cube in cubes
    ]
    for row in rows:
        table.add_row(*map(Text, row))
    if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
        console.print(table)
        return
    for name, epsg, extent, url in rows:
        line = f"{name}  EPSG:{epsg}  {extent}\n    {url}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cube_report(cube: CatalogCube) -> dict[str, Any]:
    return {"name": cube.name, "epsg": cube.epsg, "bbox": list(cube.bounds), "url": cube.url}


def _outlines(cubes: Sequence[CatalogCube]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "properties": {"name": cube.name, "epsg": cube.epsg, "url": cube.url},
            "geometry": json.loads(
                shapely.to_geojson(geographic_outline(cube.epsg, cube.footprint, cube.bounds))
            ),
        }
        for cube in cubes
    ]
    return {"type": "FeatureCollection", "features": features}


def _build(parsed: argparse.Namespace, console: Console) -> int:
    area, settings = _area(parsed), read_settings(parsed)

    async def build() -> Mounted:
        cubes = await find_cubes(settings, area, parsed.catalog, progress=show)
        return await build_cubes(
            settings,
            os.environ,
            cubes,
            parsed.output,
            name=parsed.id,
            leave_out=parsed.leave_out,
            progress=show,
        )

    with progress_bar(console) as bar:
        show = shown_in(bar)
        mounted = asyncio.run(build())
    if parsed.json:
        console.print_json(json.dumps(_build_report(mounted)))
        return 0
    lines = [
        *(f"Wrote {file}" for file in mounted.files),
        *(f"{member.id}: {member.url}, version {member.version}" for member in mounted.members),
        *(f"left out: {name}: {reason}" for name, reason in mounted.left_out.items()),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _build_report(mounted: Mounted) -> dict[str, Any]:
    members = [{"id": member.id, "url": member.url, "version": member.version} for member in mounted.members]
    return {
        "id": mounted.id,
        "collections": [str(file) for file in mounted.files],
        "members": members,
        "left_out": dict(mounted.left_out),
    }
