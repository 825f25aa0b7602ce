"""Footprints of cubes: read from GeoJSON, and compared with a point or a box in degrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import InvalidParameter, InvalidReference
from cubegate.query.crs import Bounds, lonlat, parse_crs, separation, transform_points, transformer

_MOST_POSITIONS = 10_000
# half of the way around the Earth
_FARTHEST = 2e7
# of the projection, as all are that ITS_LIVE uses
_THINNEST_METRES = 1e-3
_EDGE_POINTS = 251
_WIDEST_PIECE = 45.0
# beyond what bounds made of densified outlines can lack
_MARGIN = 0.01
_SEGMENTS = 20


@dataclass(frozen=True)
class Area:
    """What is asked: a box in degrees, whose west is beyond its east across the antimeridian, or a point.

    A point is a box whose sides are 0.
    """

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def of_point(cls, lon: float, lat: float) -> Area:
        """Return the area that is one point."""
        return cls(lon, lat, lon, lat)

    @property
    def is_point(self) -> bool:
        """Whether it is a point."""
        return self.west == self.east and self.south == self.north

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of its middle."""
        east = self.east + 360 * (self.west > self.east)
        return (self.west + east) / 2, (self.south + self.north) / 2


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
    polygons = []
    for rings in _polygons(geometry, limits):
        parts = [ring if projected is not None else _projected(ring, crs) for ring in rings]
        polygons.append(shapely.make_valid(shapely.Polygon(parts[0], parts[1:])))
    footprint = shapely.union_all(polygons)
    areas = [part for part in shapely.get_parts(footprint) if part.geom_type in ("Polygon", "MultiPolygon")]
    footprint = shapely.union_all(areas)
    if not _is_thick(footprint):
        raise InvalidReference("its outline has no area")
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


def _is_thick(geometry: shapely.Geometry) -> bool:
    """Whether it is more than a line that rounding has made an area of."""
    return bool(geometry.area > _THINNEST_METRES * geometry.length / 2)


def lonlat_bounds(footprints: Sequence[tuple[int, shapely.Geometry]]) -> list[Bounds | None]:
    """Return west, south, east and north in degrees of each footprint, which comes with its EPSG code.

    The west is in [-180, 180), the east may be beyond 180; all longitudes are in a footprint that
    touches a pole. None is for what has no place on the Earth.
    """
    found: list[Bounds | None] = [None] * len(footprints)
    for epsg, numbers in _by_code(code for code, _ in footprints).items():
        crs = parse_crs(f"EPSG:{epsg}")
        shapes = np.array([footprints[number][1] for number in numbers], dtype=object)
        dense = shapely.segmentize(shapes, np.maximum(shapely.length(shapes) / (4 * _SEGMENTS), 1.0))
        positions, owners = shapely.get_coordinates(dense, return_index=True)
        lon, lat = transformer(crs, lonlat()).transform(positions[:, 0], positions[:, 1])
        poles = _poles(crs)
        starts = np.searchsorted(owners, np.arange(len(shapes) + 1))
        for place, number in enumerate(numbers):
            part = slice(starts[place], starts[place + 1])
            found[number] = _bounds(lon[part], lat[part], shapes[place], poles)
    return found


def _by_code(codes: Iterable[int]) -> dict[int, list[int]]:
    numbers: dict[int, list[int]] = {}
    for number, code in enumerate(codes):
        numbers.setdefault(code, []).append(number)
    return numbers


def _poles(crs: CRS) -> list[tuple[float, shapely.Geometry]]:
    """The latitudes of the poles that are points of the projection, and those points."""
    poles = []
    for latitude in (-90.0, 90.0):
        x, y = transformer(lonlat(), crs).transform(np.array([0.0, 90.0]), np.full(2, latitude))
        if np.isfinite([x, y]).all() and max(abs(x[0] - x[1]), abs(y[0] - y[1])) < 1:
            poles.append((latitude, shapely.Point(x[0], y[0])))
    return poles


def _bounds(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    footprint: shapely.Geometry,
    poles: Sequence[tuple[float, shapely.Geometry]],
) -> Bounds | None:
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    south, north = float(lat.min()), float(lat.max())
    near = [pole for pole, point in poles if footprint.distance(point) < 1]
    if near:
        return -180.0, min(south, *near), 180.0, max(north, *near)
    around = np.unwrap(lon, period=360)
    west, east = float(around.min()), float(around.max())
    shift = 360 * math.floor((west + 180) / 360)
    return west - shift, south, min(east, west + 360) - shift, north


def meeting(area: Area, footprints: Sequence[tuple[int, shapely.Geometry, Bounds]]) -> list[int]:
    """Return the numbers of the footprints that meet `area`, the nearest centre first.

    Each comes with its EPSG code and its `lonlat_bounds`. What only touches a box does not meet it,
    a point on the border is in the footprint. Distances are measured from the centre of `area`.
    """
    meets = _holding if area.is_point else _overlapping
    found = meets(area, footprints)
    far = {number: _distance(area, *footprints[number][:2]) for number in found}
    return sorted(found, key=lambda number: (round(far[number], 3), number))


def _distance(area: Area, epsg: int, footprint: shapely.Geometry) -> float:
    centre = footprint.centroid
    lon, lat = transformer(parse_crs(f"EPSG:{epsg}"), lonlat()).transform(centre.x, centre.y)
    return float(separation(lonlat(), *area.centre, lon, lat))


def _holding(point: Area, footprints: Sequence[tuple[int, shapely.Geometry, Bounds]]) -> list[int]:
    found: list[int] = []
    for epsg, numbers in _by_code(code for code, *_ in footprints).items():
        try:
            x, y = transform_points(
                lonlat(), parse_crs(f"EPSG:{epsg}"), point.west, point.south, parameter="point"
            )
        except InvalidParameter:
            # it has no place in this projection, and so in none of its cubes
            continue
        shapes = np.array([footprints[number][1] for number in numbers], dtype=object)
        near = shapely.distance(shapes, shapely.Point(x[0], y[0])) <= _THINNEST_METRES
        found += [numbers[place] for place in np.flatnonzero(near)]
    return found


def _overlapping(box: Area, footprints: Sequence[tuple[int, shapely.Geometry, Bounds]]) -> list[int]:
    if box.west > box.east:
        sides = [Area(box.west, box.south, 180, box.north), Area(-180, box.south, box.east, box.north)]
    else:
        sides = [box]
    return [
        number
        for number, (epsg, footprint, bounds) in enumerate(footprints)
        if any(_overlaps(side, epsg, footprint, bounds) for side in sides)
    ]


def _overlaps(box: Area, epsg: int, footprint: shapely.Geometry, bounds: Bounds) -> bool:
    west, south, east, north = _widened(bounds)
    for shift in (-360.0, 0.0, 360.0):
        left, right = max(box.west, west + shift), min(box.east, east + shift)
        low, high = max(box.south, south), min(box.north, north)
        if left >= right or low >= high:
            continue
        if (left, low, right, high) == (west + shift, south, east + shift, north):
            return True
        if any(
            _is_thick(footprint.intersection(piece))
            for piece in _pieces((left, low, right, high), parse_crs(f"EPSG:{epsg}"))
        ):
            return True
    return False


def _widened(bounds: Bounds) -> Bounds:
    west, south, east, north = bounds
    sideways = _MARGIN / max(np.cos(np.radians(max(abs(south), abs(north)))), 1e-3)
    if east - west + 2 * sideways >= 360:
        west, east, sideways = -180.0, 180.0, 0.0
    return west - sideways, max(south - _MARGIN, -90.0), east + sideways, min(north + _MARGIN, 90.0)


def _pieces(bounds: Bounds, crs: CRS) -> Iterator[shapely.Geometry]:
    """Yield a box in degrees as polygons of `crs`, narrow enough to be simple ones around a pole."""
    west, south, east, north = bounds
    edges = np.linspace(west, east, int((east - west) // _WIDEST_PIECE) + 2)
    for left, right in pairwise(edges):
        lon, lat = np.linspace(left, right, _EDGE_POINTS), np.linspace(south, north, _EDGE_POINTS)
        ring_lon = np.concatenate([lon, np.full_like(lat, right), lon[::-1], np.full_like(lat, left)])
        ring_lat = np.concatenate([np.full_like(lon, south), lat, np.full_like(lon, north), lat[::-1]])
        x, y = transformer(lonlat(), crs).transform(ring_lon, ring_lat)
        yield shapely.make_valid(shapely.Polygon(np.stack([x, y], axis=1)))


def geographic_outline(epsg: int, footprint: shapely.Geometry, bounds: Bounds) -> shapely.Geometry:
    """Return a footprint in longitudes and latitudes, cut at the antimeridian."""
    crs = parse_crs(f"EPSG:{epsg}")
    west, _, east, _ = bounds
    if east <= 180 and east - west < 360:
        return _geographic(footprint, crs, west, east)
    sides = [(-180.0, 0.0), (0.0, 180.0)] if east - west >= 360 else [(west, 180.0), (-180.0, east - 360)]
    _, south, _, north = _widened(bounds)
    parts = []
    for left, right in sides:
        half = shapely.union_all(list(_pieces((left, south, right, north), crs)))
        parts.append(_geographic(footprint.intersection(half), crs, left, right))
    return shapely.union_all(parts)


def _geographic(part: shapely.Geometry, crs: CRS, west: float, east: float) -> shapely.Geometry:
    """Return what lies between two meridians, at most half of the Earth apart, in degrees."""

    def degrees(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = transformer(crs, lonlat()).transform(positions[:, 0], positions[:, 1])
        middle = (west + east) / 2
        lon = middle + (lon - middle + 180) % 360 - 180
        return np.stack([np.clip(lon, west, east), lat], axis=1)

    dense = shapely.segmentize(part, max(part.length / (4 * _SEGMENTS), 1.0))
    return shapely.make_valid(shapely.transform(dense, degrees))
