"""Many points from a request body: GeoJSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from pyproj import CRS

from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.crs import lonlat, same_crs
from cubegate.query.parameters import parse_number
from cubegate.query.position import Points

MAX_BODY = 2 * 2**20
MEDIA_TYPES = ("application/geo+json", "application/json", "text/csv")

Row = tuple[float, float, str | None]

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_points(body: bytes, media_type: str, crs: CRS | None, limit: int) -> Points:
    """Read up to `limit` points.

    GeoJSON is a Feature, FeatureCollection, Point or MultiPoint in longitude and latitude; a
    feature's `id`, or its property of that name, names its points. CSV has a header with the
    columns `lon` and `lat`, or `x` and `y` (in `crs`, None is the grid's own), and maybe `id`;
    other columns are ignored.

    Raises:
        InvalidParameter: the body is malformed; the message names the row or feature.
        BudgetExceeded: there are more points than `limit`.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise InvalidParameter(
            "Content-Type", f"Points cannot be read from {kind[:80]!r}.", accepted=", ".join(MEDIA_TYPES)
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidParameter("body", f"Byte {error.start + 1} is not UTF-8.") from None
    if kind == "text/csv":
        native, rows = _read_csv(text)
    else:
        native, rows = False, list(_read_geojson(text))
    if not rows:
        raise InvalidParameter("body", "There are no points.", accepted="at least one point")
    if len(rows) > limit:
        raise BudgetExceeded(
            {"points": len(rows)}, {"points": limit}, f"Send up to {limit:,} points at a time."
        )
    if not native and crs is not None and not same_crs(crs, lonlat()):
        raise InvalidParameter(
            "crs", "These points are longitudes and latitudes.", accepted="CSV with x and y"
        )
    ids = None if all(row[2] is None for row in rows) else tuple(row[2] or "" for row in rows)
    x, y = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
    return Points(x, y, crs if native else lonlat(), ids, many=True, parameter="body")


def _read_csv(text: str) -> tuple[bool, list[Row]]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows: list[Row] = []
    native = False
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells) or (not header and cells[0].startswith("#")):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                native = _is_native(header)
                continue
            rows.append(_read_row(dict(zip(header, cells, strict=False)), native, lines.line_num))
    except csv.Error as error:
        raise InvalidParameter("body", f"Line {lines.line_num} is not CSV.") from error
    return native, rows


def _is_native(header: list[str]) -> bool:
    for native, names in ((False, ("lon", "lat")), (True, ("x", "y"))):
        if all(header.count(name) == 1 for name in names) and header.count("id") <= 1:
            return native
    raise InvalidParameter(
        "body",
        "The CSV header lacks the columns of points.",
        accepted="lon,lat or x,y, and maybe id, once each",
    )


def _read_row(cells: dict[str, str], native: bool, line: int) -> Row:
    names = ("x", "y") if native else ("lon", "lat")
    try:
        x, y = (parse_number(cells.get(name, ""), "body") for name in names)
    except InvalidParameter as error:
        raise InvalidParameter("body", f"Line {line}: {error.detail}", accepted=error.accepted) from error
    return x, y, cells.get("id")


def _read_geojson(text: str) -> Iterator[Row]:
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("body", "The body is not JSON.", accepted="GeoJSON of points") from error
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise InvalidParameter("body", "The FeatureCollection has no list of features.")
        for number, feature in enumerate(features, 1):
            yield from _read_feature(feature, f"Feature {number}")
    elif kind == "Feature":
        yield from _read_feature(document, "The feature")
    else:
        yield from _read_geometry(document, "The body", None)


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _read_feature(feature: Any, where: str) -> Iterator[Row]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise InvalidParameter("body", f"{where} is no GeoJSON feature.", accepted="features of points")
    properties = feature.get("properties")
    named = feature.get("id", properties.get("id") if isinstance(properties, dict) else None)
    if named is not None and (isinstance(named, bool) or not isinstance(named, str | int | float)):
        raise InvalidParameter("body", f"{where} has an id that is neither text nor a number.")
    name = None if named is None else str(named)
    if name is not None and _SURROGATE.search(name):
        raise InvalidParameter("body", f"{where} has an id with half a character (a lone surrogate).")
    yield from _read_geometry(feature.get("geometry"), where, name)


def _read_geometry(geometry: Any, where: str, name: str | None) -> Iterator[Row]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Point", "MultiPoint"):
        raise InvalidParameter(
            "body", f"{where} is no point.", accepted="geometries of type Point or MultiPoint"
        )
    coordinates = geometry.get("coordinates")
    places = [coordinates] if kind == "Point" else coordinates
    if not isinstance(places, list):
        raise InvalidParameter("body", f"{where} has no coordinates.", accepted="[longitude, latitude]")
    for place in places:
        yield (*_read_place(place, where), name)


def _read_place(place: Any, where: str) -> tuple[float, float]:
    numbers = place[:2] if isinstance(place, list) and len(place) in (2, 3) else []
    if len(numbers) == 2 and all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers):
        return float(numbers[0]), float(numbers[1])
    raise InvalidParameter(
        "body", f"{where} has coordinates that are not two numbers.", accepted="[longitude, latitude]"
    )
