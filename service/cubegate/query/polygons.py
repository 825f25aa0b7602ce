"""Polygons from a request body: GeoJSON, in longitude and latitude or in another CRS."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.area import Area, make_area

MAX_BODY = 4 * 2**20
MAX_POSITIONS = 100_000
MEDIA_TYPES = ("application/geo+json", "application/json")
_ACCEPTED = "a Polygon, a MultiPolygon, or features of them"

Rings = list[NDArray[np.float64]]


class NamedArea(NamedTuple):
    """The polygons of one feature, and its id: a text, which may be its number from 1."""

    id: str
    area: Area


def read_polygons(body: bytes, media_type: str, crs: CRS, limit: int) -> list[NamedArea]:
    """Read up to `limit` areas from GeoJSON, whose coordinates are in `crs`, x or longitude first.

    Raises:
        InvalidParameter: the body is malformed; the message names the feature.
        BudgetExceeded: there are more areas than `limit`, or too many positions.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise InvalidParameter(
            "Content-Type", f"Polygons cannot be read from {kind[:80]!r}.", accepted=", ".join(MEDIA_TYPES)
        )
    features = _features(_parse(body))
    if not features:
        raise InvalidParameter("body", "There are no polygons.", accepted=_ACCEPTED)
    if len(features) > limit:
        hint = f"Send up to {limit:,} polygons at a time."
        raise BudgetExceeded({"polygons": len(features)}, {"polygons": limit}, hint)
    return [_read_feature(feature, number, crs) for number, feature in enumerate(features, 1)]


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("body", "The body is not JSON.", accepted=f"GeoJSON: {_ACCEPTED}") from error


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _features(document: Any) -> list[Any]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise InvalidParameter("body", "The FeatureCollection has no list of features.")
        return features
    if kind == "Feature":
        return [document]
    return [{"type": "Feature", "geometry": document}]


def _read_feature(feature: Any, number: int, crs: CRS) -> NamedArea:
    where = f"Feature {number}"
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise InvalidParameter("body", f"{where} is no GeoJSON feature.", accepted=_ACCEPTED)
    properties = feature.get("properties")
    named = feature.get("id", properties.get("id") if isinstance(properties, dict) else None)
    if named is None:
        named = number
    if isinstance(named, bool) or not isinstance(named, str | int | float) or not str(named).isprintable():
        raise InvalidParameter("body", f"{where} has an id that is neither text nor a number.")
    parts = [_read_rings(rings, where) for rings in _polygons(feature.get("geometry"), where)]
    positions = sum(len(ring) for rings in parts for ring in rings)
    if positions > MAX_POSITIONS:
        hint = "Send a simplified polygon."
        raise BudgetExceeded({"positions": positions}, {"positions": MAX_POSITIONS}, hint)
    return NamedArea(str(named), make_area(parts, crs, "body"))


def _polygons(geometry: Any, where: str) -> list[Any]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise InvalidParameter("body", f"{where} is no polygon.", accepted=_ACCEPTED)
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise InvalidParameter("body", f"{where} has no coordinates.", accepted=_ACCEPTED)
    return polygons


def _read_rings(rings: Any, where: str) -> Rings:
    if not isinstance(rings, list) or not rings:
        raise InvalidParameter(
            "body", f"{where} has a polygon without rings.", accepted="[[[x, y], ...], ...]"
        )
    return [_read_ring(ring, where) for ring in rings]


def _read_ring(ring: Any, where: str) -> NDArray[np.float64]:
    if not isinstance(ring, list) or len(ring) < 4:
        raise InvalidParameter(
            "body", f"{where} has a ring of less than four positions.", accepted="closed rings"
        )
    for place in ring:
        is_place = isinstance(place, list) and len(place) in (2, 3)
        if not is_place or not all(type(each) in (int, float) and abs(each) < 1e300 for each in place[:2]):
            raise InvalidParameter(
                "body", f"{where} has coordinates that are not two numbers.", accepted="[x, y]"
            )
    if ring[0][:2] != ring[-1][:2]:
        raise InvalidParameter("body", f"{where} has a ring that is not closed.", accepted="closed rings")
    return np.array([place[:2] for place in ring], float)
