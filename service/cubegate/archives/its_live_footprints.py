"""Footprints of cubes, compared with a point or a box in degrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.archives.its_live_outline import THINNEST_METRES, is_thick
from cubegate.errors import InvalidParameter
from cubegate.query.crs import (
    ROUND_TRIP_METRES,
    Bounds,
    lonlat,
    parse_crs,
    separation,
    transform_points,
    transformer,
)

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
        x, y = positions[:, 0], positions[:, 1]
        lon, lat = transformer(crs, lonlat()).transform(x, y)
        back_x, back_y = transformer(lonlat(), crs).transform(lon, lat)
        # far outside its area a projection may fold other parts of the Earth onto this one
        known = np.hypot(back_x - x, back_y - y) < ROUND_TRIP_METRES
        poles = _poles(crs)
        starts = np.searchsorted(owners, np.arange(len(shapes) + 1))
        for place, number in enumerate(numbers):
            part = slice(starts[place], starts[place + 1])
            if not known[part].all():
                continue
            bounds = _bounds(lon[part], lat[part], shapes[place], poles)
            if all(np.isfinite(ring).all() for ring in _rings(_widened(bounds), crs, 3)):
                found[number] = bounds
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
) -> Bounds:
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
        near = shapely.distance(shapes, shapely.Point(x[0], y[0])) <= THINNEST_METRES
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
            is_thick(footprint.intersection(piece))
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
    """Yield a box in degrees as polygons of `crs`."""
    for ring in _rings(bounds, crs, _EDGE_POINTS):
        yield shapely.make_valid(shapely.Polygon(ring))


def _rings(bounds: Bounds, crs: CRS, points: int) -> Iterator[NDArray[np.float64]]:
    """Yield the outlines of the parts of a box in degrees, narrow enough to be simple around a pole.

    Each has that many points a side, and is of shape (4 * points, 2) in `crs`.
    """
    west, south, east, north = bounds
    edges = np.linspace(west, east, int((east - west) // _WIDEST_PIECE) + 2)
    for left, right in pairwise(edges):
        lon, lat = np.linspace(left, right, points), np.linspace(south, north, points)
        ring_lon = np.concatenate([lon, np.full_like(lat, right), lon[::-1], np.full_like(lat, left)])
        ring_lat = np.concatenate([np.full_like(lon, south), lat, np.full_like(lon, north), lat[::-1]])
        yield np.stack(transformer(lonlat(), crs).transform(ring_lon, ring_lat), axis=1)


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
