"""Outlines of cubes, as the GeoJSON of a catalog gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import InvalidParameter, InvalidReference
from cubegate.query.crs import lonlat, transform_points

# of the projection, as all are that ITS_LIVE uses
THINNEST_METRES = 1e-3
_MOST_POSITIONS = 10_000
# half of the way around the Earth
_FARTHEST = 2e7
_LARGEST_RADIUS = 1e6


def footprint_of(projected: Any, geographic: Any, crs: CRS) -> shapely.Geometry:
    """Return the GeoJSON geometry `projected`, or `geographic` where that is None, in `crs`.

    The corners of a geographic one are projected and joined by straight lines: the sides of a cube
    are straight in its projection, where there is neither an antimeridian nor a pole to cross.

    Raises:
        InvalidReference: it is no polygon.
    """
    geometry, limits = (
        (geographic, (360.0, 90.0)) if projected is None else (projected, (_FARTHEST, _FARTHEST))
    )
    polygons = [
        [ring if projected is not None else _projected(ring, crs) for ring in rings]
        for rings in _polygons(geometry, limits)
    ]
    try:
        parts = [shapely.make_valid(shapely.Polygon(rings[0], rings[1:])) for rings in polygons]
        # a line is what is left of a side that was gone to and fro
        areas = [
            part
            for part in shapely.get_parts(shapely.union_all(parts))
            if part.geom_type in ("Polygon", "MultiPolygon")
        ]
        footprint = shapely.union_all(areas)
    except shapely.errors.ShapelyError:
        raise InvalidReference("its outline is no polygon") from None
    if not is_thick(footprint):
        raise InvalidReference("its outline has no area")
    if shapely.minimum_bounding_radius(footprint) > _LARGEST_RADIUS:
        raise InvalidReference("its outline is larger than any cube")
    return footprint


def _projected(ring: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
    try:
        return np.stack(transform_points(lonlat(), crs, ring[:, 0], ring[:, 1], "geometry"), axis=1)
    except InvalidParameter:
        raise InvalidReference("its geometry lies outside its projection") from None


def _polygons(geometry: Any, limits: tuple[float, float]) -> Iterator[list[NDArray[np.float64]]]:
    """Yield the rings of each polygon, arrays of shape (n, 2)."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(str(kind))
    if not isinstance(polygons, list) or not polygons:
        raise InvalidReference("its outline is neither a Polygon nor a MultiPolygon")
    left = _MOST_POSITIONS
    for rings in polygons:
        if not isinstance(rings, list) or not rings:
            raise InvalidReference("its outline has a polygon without rings")
        found = []
        for ring in rings:
            left -= len(ring) if isinstance(ring, list) else 0
            if left < 0:
                raise InvalidReference(f"its outline has more than {_MOST_POSITIONS:,} positions")
            found.append(_ring(ring, limits))
        yield found


def _ring(ring: Any, limits: tuple[float, float]) -> NDArray[np.float64]:
    try:
        positions = [(_number(position[0]), _number(position[1])) for position in ring]
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        raise InvalidReference("its outline has a position that is not two numbers") from None
    array = np.array(positions, dtype=np.float64).reshape(-1, 2)
    if len(array) < 4 or (array[0] != array[-1]).any():
        raise InvalidReference("its outline has a ring that is not closed, or of less than four positions")
    # a comparison with NaN is false
    if not (np.abs(array) <= np.array(limits)).all():
        raise InvalidReference("its outline has a position that is too far out")
    return array


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def is_thick(geometry: shapely.Geometry) -> bool:
    """Whether it is more than a line that rounding has made an area of."""
    return bool(geometry.area > THINNEST_METRES * geometry.length / 2)
