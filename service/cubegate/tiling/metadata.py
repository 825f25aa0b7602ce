"""TileJSON, and the documents of OGC API - Tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import transform_bounds
from cubegate.query.crs import Bounds, lonlat
from cubegate.query.footprint import Footprint
from cubegate.query.interval import iso
from cubegate.tiling.layers import Layer
from cubegate.tiling.matrices import NATIVE, MatrixSet
from cubegate.tiling.zooms import Zooms

_RELATIONS = "http://www.opengis.net/def/rel/ogc/1.0"
_MOST_BOUNDS = 64


def lonlat_bounds(layer: Layer) -> Bounds:
    """Return the box in degrees around a layer, -180 to 180: the whole globe's where it spans 180 degrees."""
    west, south, east, north = _span(layer)
    if west < -180 or east > 180:
        west, east = -180.0, 180.0
    return west, south, east, north


def boxes_in_degrees(layer: Layer) -> list[Bounds]:
    """Return the box around each cube of a layer, whose east may be beyond 180.

    None at all where one is unknown, or where there are more than `_MOST_BOUNDS` cubes.
    """
    found = [_bounds(part.footprint) for part in layer.parts[:_MOST_BOUNDS]]
    known = [each for each in found if each is not None]
    return known if len(known) == len(layer.parts) else []


def _span(layer: Layer) -> Bounds:
    found = boxes_in_degrees(layer)
    if not found:
        return -180.0, -90.0, 180.0, 90.0
    west, south, east, north = zip(*found, strict=True)
    return min(west), max(min(south), -90.0), max(east), min(max(north), 90.0)


def _middle(layer: Layer) -> tuple[float, float]:
    """Return the longitude and latitude in the middle of a layer, of one across 180 degrees too."""
    west, south, east, north = _span(layer)
    longitude = 0.0 if east - west >= 360 else ((west + east) / 2 + 180) % 360 - 180
    return longitude, (south + north) / 2


def _bounds(footprint: Footprint) -> Bounds | None:
    try:
        west, south, east, north = transform_bounds(footprint.crs, lonlat(), footprint.grid.bounds)
    except InvalidParameter:
        return None
    # longitudes of 0 to 360 that stay on one side of 180
    turn = 360.0 if west >= 180 else 0.0
    return west - turn, south, east - turn, north


def tilejson(layer: Layer, title: str, zooms: Zooms, *, tiles: str, legend: str, date: Any) -> dict[str, Any]:
    """Describe the tiles of a layer as TileJSON 3.0 does; `tiles` is their address with placeholders."""
    bounds = lonlat_bounds(layer)
    units = f", {layer.units}" if layer.units else ""
    shown = "" if date is None else f", {iso(date)}"
    return {
        "tilejson": "3.0.0",
        "name": title,
        "description": f"{layer.title}{units}{shown}",
        "version": "1.0.0",
        "scheme": "xyz",
        "tiles": [tiles],
        "minzoom": zooms.first,
        "maxzoom": zooms.last,
        "bounds": list(bounds),
        "center": [*_middle(layer), _overview(bounds, zooms)],
        "legend": legend,
    }


def _overview(bounds: Bounds, zooms: Zooms) -> int:
    """The zoom that shows the whole of a box in degrees on a few tiles."""
    side = max(bounds[2] - bounds[0], bounds[3] - bounds[1], 1e-9)
    return min(max(math.floor(math.log2(360 / side)) + 1, zooms.first), zooms.last)


def tilesets(title: str, own: MatrixSet, registered: Sequence[MatrixSet], base: str) -> dict[str, Any]:
    """List the tilesets of a collection, as OGC API - Tiles does; `base` is the address of the list."""
    return {
        "tilesets": [_summary(title, each, base) for each in (*registered, own)],
        "links": [_link(base, "self", "application/json", "The tilesets")],
    }


def tileset(
    title: str, matrices: MatrixSet, zooms: Zooms, layer: Layer, *, base: str, query: str
) -> dict[str, Any]:
    """Describe one tileset: where its tiles are, and at which zooms there are any."""
    west, south, east, north = lonlat_bounds(layer)
    found = _summary(title, matrices, base)
    address = f"{base}/{matrices.name}/{{tileMatrix}}/{{tileCol}}/{{tileRow}}.png{query}"
    found["links"].append({**_link(address, "item", "image/png", "The tiles"), "templated": True})
    found["tileMatrixSetLimits"] = [
        {
            "tileMatrix": str(z),
            "minTileRow": 0,
            "maxTileRow": matrices.matrices[z].height - 1,
            "minTileCol": 0,
            "maxTileCol": matrices.matrices[z].width - 1,
        }
        for z in range(zooms.first, zooms.last + 1)
    ]
    crs = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
    found["boundingBox"] = {"lowerLeft": [west, south], "upperRight": [east, north], "crs": crs}
    found["layers"] = [{"id": layer.name, "title": layer.title, "dataType": "coverage"}]
    return found


def _summary(title: str, matrices: MatrixSet, base: str) -> dict[str, Any]:
    address = f"{base}/{matrices.name}"
    links = [
        _link(address, "self", "application/json", "The tileset"),
        _link(
            f"{address}/tileMatrixSet",
            f"{_RELATIONS}/tiling-scheme",
            "application/json",
            "The tile matrix set",
        ),
    ]
    crs = matrices.crs_uri or {"wkt": matrices.crs.to_json_dict()}
    found = {"title": f"{title}: {matrices.title}", "dataType": "map", "crs": crs, "links": links}
    return found if matrices.name == NATIVE else {**found, "tileMatrixSetURI": matrices.uri}


def _link(href: str, relation: str, media_type: str, title: str) -> dict[str, Any]:
    return {"href": href, "rel": relation, "type": media_type, "title": title}
