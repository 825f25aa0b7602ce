"""The box in one CRS that holds a box in another: edges, poles and the antimeridian included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.query.crs import (
    INFINITE,
    ROUND_TRIP_METRES,
    Bounds,
    lonlat,
    same_crs,
    transform_points,
    transformer,
    turn_of,
)

# along each edge of a box
EDGE_POINTS = 1001
# of these, where it is bent evenly between two; and inside, along each axis
BENT_POINTS = 251
INNER_POINTS = 16
# of a whole turn
_ROUNDING = 1e-9


def transform_bounds(source: CRS, target: CRS, bounds: Bounds, parameter: str = "bbox") -> Bounds:
    """Return the box in `target` that holds the whole box `bounds`, edges and poles included.

    Where x goes around the Earth in `target`, the east may be beyond its edge (longitude 180): where the
    box spans that.

    Raises:
        InvalidParameter: a part of the box has no place in `target`.
    """
    if same_crs(source, target):
        return bounds
    poles = _poles_inside(source, bounds)
    if not target.is_geographic and any(_place_of_pole(target, pole) is None for pole in poles):
        # no point there, but a line or nothing, which the outline says nothing of
        degrees = transform_bounds(source, lonlat(), bounds, parameter)
        return transform_bounds(lonlat(), target, degrees, parameter)
    edge_x, edge_y = outline(bounds, BENT_POINTS)
    inside_x, inside_y = _places_inside(bounds)
    # a projection may have no place for what is inside, or draw it further out
    every = np.concatenate([edge_x, inside_x]), np.concatenate([edge_y, inside_y])
    x, y = transform_points(source, target, *every, parameter)
    turn = turn_of(target)
    around = edge_x.size
    south, north = _reach(y, around)
    if target.is_geographic:
        south, north = max(south, -90.0), min(north, 90.0)
    if turn is None:
        west, east = _reach(x, around)
        return west, south, east, north
    # nearly all longitudes come together at a pole, so nothing is to be unwrapped there
    west, east = _reach(np.unwrap(x[:around], period=turn), around)
    for pole in poles:
        west, east, south, north = -turn / 2, turn / 2, min(south, pole), max(north, pole)
    if east - west >= turn * (1 - _ROUNDING):
        return -turn / 2, south, turn / 2, north
    shift = turn * np.floor(west / turn + 0.5 + _ROUNDING)
    return west - shift, south, east - shift, north


def outline(bounds: Bounds, points: int = EDGE_POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points around a box, as many on each side."""
    west, south, east, north = bounds
    x, y = np.linspace(west, east, points), np.linspace(south, north, points)
    level: Any = np.full_like
    return (
        np.concatenate([x, level(y, east), x[::-1], level(y, west)]),
        np.concatenate([level(x, south), y, level(x, north), y[::-1]]),
    )


def _reach(values: NDArray[np.float64], around: int) -> tuple[float, float]:
    """The least and largest value in a box, whose first `around` are on its outline: between these too."""
    edges = values[:around].reshape(4, -1)
    slope, bend = (edges[:, 2:] - edges[:, :-2]) / 2, np.abs(np.diff(edges, 2, axis=1))
    peaks = np.zeros_like(edges)
    # of the parabola through a point and its neighbours, and a little for what it is not
    peaks[:, 1:-1] = 1.01 * np.minimum(slope**2, bend**2 / 4) / np.where(bend > 0, 2 * bend, 1.0)
    beyond = np.zeros(values.size)
    beyond[:around] = peaks.reshape(-1)
    low, high = values.argmin(), values.argmax()
    return float(values[low] - beyond[low]), float(values[high] + beyond[high])


def _places_inside(bounds: Bounds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    west, south, east, north = bounds
    between = (np.arange(INNER_POINTS) + 0.5) / INNER_POINTS
    x, y = np.meshgrid(west + between * (east - west), south + between * (north - south))
    return x.reshape(-1), y.reshape(-1)


def _poles_inside(crs: CRS, bounds: Bounds) -> list[float]:
    """The latitudes of the poles that lie in a box of a projection, as points."""
    if crs.is_geographic:
        return []
    west, south, east, north = bounds
    places = {pole: _place_of_pole(crs, pole) for pole in (-90.0, 90.0)}
    return [
        pole
        for pole, place in places.items()
        if place is not None and west <= place[0] <= east and south <= place[1] <= north
    ]


def _place_of_pole(crs: CRS, pole: float) -> tuple[float, float] | None:
    """Where a projection draws a pole; None where that is a line, or at infinity."""
    try:
        x, y = transformer(lonlat(), crs).transform(np.array([0.0, 90.0]), np.full(2, pole))
    except ProjError:
        return None
    # one that draws a pole as a line holds it at one longitude only by chance
    if not np.abs([x, y]).max() < INFINITE or max(np.ptp(x), np.ptp(y)) > ROUND_TRIP_METRES:
        return None
    return float(x[0]), float(y[0])
