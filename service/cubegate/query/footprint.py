"""Which of several grids a place belongs to: the first, in their order of precedence, that contains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import outline, transform_bounds
from cubegate.query.crs import Bounds, find_places, lonlat, same_crs, turn_of
from cubegate.query.grid import Grid

# of a footprint's outline in longitude and latitude, so that rounding rejects nothing
MARGIN_DEGREES = 0.01


@dataclass(frozen=True, eq=False)
class Footprint:
    """The places that a grid contains, of which the CRS is known.

    `crs` is the grid's, one object for all footprints in the same CRS.
    """

    grid: Grid
    crs: CRS

    @cached_property
    def box(self) -> Bounds | None:
        """West, south, east and north in degrees, the east maybe beyond 180; None where they are unknown."""
        try:
            west, south, east, north = transform_bounds(self.crs, lonlat(), self.grid.bounds)
        except InvalidParameter:
            return None
        margin = MARGIN_DEGREES
        return west - margin, south - margin, east + margin, north + margin

    @cached_property
    def _ring(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return outline(self.grid.bounds)

    def cells(self, crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the (iy, ix) of the cells that hold places in `crs`, of shape (2, n); -1 outside the grid.

        It is the cell whose series is answered for such a point.
        """
        found = np.full((2, len(x)), -1, np.intp)
        try:
            there_x, there_y, known = find_places(crs, self.crs, x, y)
        except ProjError:
            return found
        iy, ix = self.grid.y.nearest_of(there_y[known]), self.grid.x.nearest_of(there_x[known])
        inside = (iy >= 0) & (ix >= 0)
        found[:, np.flatnonzero(known)[inside]] = iy[inside], ix[inside]
        return found

    def contains(self, bounds: Bounds, crs: CRS) -> bool:
        """Tell whether all of a box in `crs` is inside: where its outline is, since both have no holes."""
        return bool((self.cells(crs, *outline(bounds)) >= 0).all())

    def within(self, other: Footprint) -> bool:
        """Tell whether all of this is inside `other`."""
        return may_meet(self.box, other.box) and other.contains(self.grid.bounds, self.crs)

    def meets(self, bounds: Bounds, crs: CRS) -> bool:
        """Tell whether a box in `crs` has places inside: where an outline has points within the other."""
        if (self.cells(crs, *outline(bounds)) >= 0).any():
            return True
        try:
            x, y, known = find_places(self.crs, crs, *self._ring)
        except ProjError:
            return False
        west, south, east, north = bounds
        x, y = x[known], y[known]
        turn = turn_of(crs)
        if turn is not None:
            x = west + (x - west) % turn
        return bool(((x >= west) & (x <= east) & (y >= south) & (y <= north)).any())


def may_meet(one: Bounds | None, other: Bounds | None) -> bool:
    """Tell whether two boxes in degrees have places in common; where one is unknown they may."""
    if one is None or other is None:
        return True
    if one[1] > other[3] or other[1] > one[3]:
        return False
    return (other[0] - one[0]) % 360 <= one[2] - one[0] or (one[0] - other[0]) % 360 <= other[2] - other[0]


def degrees_of(bounds: Bounds, crs: CRS) -> Bounds | None:
    """Return a box in `crs` as one in degrees, to be compared by `may_meet`; None where it has none."""
    if same_crs(crs, lonlat()):
        return bounds
    try:
        return transform_bounds(crs, lonlat(), bounds)
    except InvalidParameter:
        return None


class Owned(NamedTuple):
    """To which footprint places belong: their numbers, -1 for none; and the cells, iy and ix, there."""

    number: NDArray[np.int32]
    iy: NDArray[np.int32]
    ix: NDArray[np.int32]


def find_owners(
    footprints: Sequence[Footprint], crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> Owned:
    """Return the first of `footprints` that contains each place in `crs`, and the cell."""
    owned = Owned(*(np.full(len(x), -1, np.int32) for _ in range(3)))
    left = np.arange(len(x))
    for number, footprint in enumerate(footprints):
        if not left.size:
            break
        iy, ix = footprint.cells(crs, x[left], y[left])
        inside = iy >= 0
        here = left[inside]
        owned.number[here], owned.iy[here], owned.ix[here] = number, iy[inside], ix[inside]
        left = left[~inside]
    return owned


def places_in_degrees(crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]) -> Bounds | None:
    """Return the box in degrees around places in `crs`; None where one of them has none."""
    try:
        lon, lat, known = find_places(crs, lonlat(), x, y)
    except ProjError:
        return None
    if not known.all():
        return None
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())
