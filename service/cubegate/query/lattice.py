"""The one grid that an area over several cubes is answered on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import transform_bounds
from cubegate.query.bounds import find_window, overlap, read_bounds, to_grid
from cubegate.query.crs import (
    Bounds,
    find_places,
    lonlat,
    same_crs,
    the_short_way,
    turn_of,
)
from cubegate.query.footprint import Footprint, degrees_of
from cubegate.query.reproject import (
    NEIGHBOURS,
    Target,
    Transform,
    check_resampling,
    no_place,
    require_cf,
    require_rasterio,
    step_of,
)

NEAREST = "nearest"
# looked at together; a place takes many times what is remembered of it
BLOCK_CELLS = 2**16
# of a window, along each axis, to tell the size of its cells in another CRS
_SAMPLES = 5
# parts of a cell that rounding may take
_SLACK = 1e-6


@dataclass(frozen=True)
class Lattice:
    """Square or rectangular cells in `crs`, north up: `west` and `north` are the outer edges."""

    crs: CRS
    west: float
    north: float
    width_of_cell: float
    height_of_cell: float
    width: int
    height: int

    @property
    def x(self) -> NDArray[np.float64]:
        """The centres of the columns."""
        return np.asarray(self.west + (np.arange(self.width) + 0.5) * self.width_of_cell, float)

    @property
    def y(self) -> NDArray[np.float64]:
        """The centres of the rows, from the north."""
        return np.asarray(self.north - (np.arange(self.height) + 0.5) * self.height_of_cell, float)

    @property
    def bounds(self) -> Bounds:
        """The outer edges: xmin, ymin, xmax, ymax."""
        east, south = self.width * self.width_of_cell, self.height * self.height_of_cell
        return self.west, self.north - south, self.west + east, self.north

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield the flat positions of all cells, some at a time, with their centres."""
        x, y = self.x, self.y
        rows = max(1, BLOCK_CELLS // self.width)
        for start in range(0, self.height, rows):
            end = min(start + rows, self.height)
            there_x, there_y = np.meshgrid(x, y[start:end])
            yield slice(start * self.width, end * self.width), there_x.reshape(-1), there_y.reshape(-1)

    def target(
        self, source_crs: CRS, source: Transform, rows: slice, columns: slice, resampling: str
    ) -> Target:
        """Return a part of the lattice as what to reproject to."""
        west = self.west + columns.start * self.width_of_cell
        north = self.north - rows.start * self.height_of_cell
        transform = (west, self.width_of_cell, 0.0, north, 0.0, -self.height_of_cell)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        return Target(source_crs, self.crs, source, transform, width, height, resampling)


def find_lattice(
    footprints: Sequence[Footprint], bounds: Bounds | None, box_crs: CRS, crs: CRS, resampling: str
) -> Lattice:
    """Choose the cells in `crs` that cover the box of `bounds` in `box_crs`, as far as `footprints` do.

    They have the size of the finest footprint's, and lie on its own cells where that is in `crs`. Where x
    goes around the Earth, they go on over the antimeridian. Of a box of which a part has no place in `crs`,
    they cover what is in its area of use.

    Raises:
        InvalidParameter: a grid is irregular, or the box has no place in `crs`.
        NotAcceptable: rasterio is not installed on this server.
    """
    check_resampling(resampling)
    if resampling != NEAREST:
        require_rasterio()
    require_cf(crs)
    west, south, east, north = extent = _extent(footprints, bounds, box_crs, crs)
    steps = [_steps(footprint, extent, crs) for footprint in footprints]
    finest = min(range(len(steps)), key=lambda number: steps[number][0] * steps[number][1])
    across, down = steps[finest]
    grid = footprints[finest].grid
    turn = turn_of(crs)
    if not same_crs(footprints[finest].crs, crs):
        width, height = (
            max(1, math.ceil(size - _SLACK)) for size in ((east - west) / across, (north - south) / down)
        )
        # none is there twice, or lies beyond a pole
        across = min(across, math.inf if turn is None else turn / width)
        down = (min(down, (north + 90) / height) or down) if crs.is_geographic else down
        return Lattice(crs, west, north, across, down, width, height)
    left, top = float(grid.x.values.min()) - across / 2, float(grid.y.values.max()) + down / 2
    if turn is not None:
        # the same cells a turn further
        left += turn * round(((west + east) / 2 - sum(grid.x.extent) / 2) / turn)
    columns = _centres_between((west - left) / across, (east - left) / across)
    rows = _centres_between((top - north) / down, (top - south) / down)
    return Lattice(
        crs, left + columns.start * across, top - rows.start * down, across, down,
        columns.stop - columns.start, rows.stop - rows.start,
    )  # fmt: skip


def _centres_between(low: float, high: float) -> slice:
    """The cells of size 1 whose centre lies between two places, or the one around their middle."""
    first, last = math.ceil(low - 0.5 - _SLACK), math.floor(high - 0.5 + _SLACK)
    if last < first:
        first = last = math.floor((low + high) / 2)
    return slice(first, last + 1)


def _steps(footprint: Footprint, extent: Bounds, crs: CRS) -> tuple[float, float]:
    """The size in `crs` of the cells of a footprint, in the middle of what is asked for of it."""
    grid = footprint.grid
    across, down = step_of(grid.x), step_of(grid.y)
    if same_crs(footprint.crs, crs):
        return across, down
    window = find_window(grid, _in_grid(footprint, extent, crs), None)
    columns, rows = (
        np.atleast_1d(axis.values[cells]) for axis, cells in ((grid.x, window.x), (grid.y, window.y))
    )
    # several places, since at a pole longitudes have no size
    x, y = (each.reshape(-1) for each in np.meshgrid(_spread(columns), _spread(rows)))
    try:
        here, right, above = (
            find_places(footprint.crs, crs, x + shift_x, y + shift_y)
            for shift_x, shift_y in ((0.0, 0.0), (across / 2, 0.0), (0.0, down / 2))
        )
    except ProjError as error:
        raise no_place() from error
    known = here[2] & right[2] & above[2]
    if not known.any():
        raise no_place()
    sides = [each[axis][known] - here[axis][known] for each in (right, above) for axis in (0, 1)]
    turn = turn_of(crs)
    if turn is not None:
        sides[0], sides[2] = (the_short_way(side, turn) for side in (sides[0], sides[2]))
    size = 2 * float(np.median(np.sqrt(np.abs(sides[0] * sides[3] - sides[1] * sides[2]))))
    if not size > 0:
        raise no_place()
    return size, size


def _spread(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    chosen = np.unique(np.linspace(0, len(centres) - 1, _SAMPLES).astype(np.intp))
    return np.asarray(centres[chosen], float)


def _extent(footprints: Sequence[Footprint], bounds: Bounds | None, box_crs: CRS, crs: CRS) -> Bounds:
    """The box in `crs` around the parts of a box that lie in the footprints, grown together at any turn."""
    whole: Bounds | None = None
    turn = turn_of(crs)
    for footprint in footprints:
        if bounds is None:
            part = _box_in(crs, footprint.grid.bounds, footprint.crs)
        else:
            part = _box_in(crs, _part_of(bounds, footprint, box_crs), box_crs)
        turns = (0.0, turn, -turn) if turn is not None and whole is not None else (0.0,)
        unions = [_union(whole, part, each) for each in turns]
        whole = min(unions, key=lambda union: union[2] - union[0])
    if whole is None:
        raise InvalidParameter("bbox", "The bbox meets no cube.")
    return whole


def _box_in(crs: CRS, bounds: Bounds, box_crs: CRS) -> Bounds:
    """The box in `crs` that holds one in `box_crs`, or what of it lies in the area that `crs` is for."""
    try:
        try:
            return transform_bounds(box_crs, crs, bounds, "crs")
        except InvalidParameter:
            area, degrees = crs.area_of_use, degrees_of(bounds, box_crs)
            if area is None or degrees is None:
                raise
            usable = overlap(degrees, read_bounds(area.bounds, lonlat()), turn_of(lonlat()))
            if usable is None:
                raise
            return transform_bounds(lonlat(), crs, usable, "crs")
    except InvalidParameter as error:
        raise no_place() from error


def _part_of(bounds: Bounds, footprint: Footprint, crs: CRS) -> Bounds:
    """What of a box in `crs` lies around a footprint."""
    try:
        extent = transform_bounds(footprint.crs, crs, footprint.grid.bounds)
    except InvalidParameter:
        return bounds
    return overlap(bounds, extent, turn_of(crs)) or bounds


def _in_grid(footprint: Footprint, bounds: Bounds, crs: CRS) -> Bounds:
    """The box in a footprint's own CRS that holds one in `crs`; all of it where a part has no place there."""
    west, south, east, north = bounds
    if crs.is_geographic:
        south, north = max(south, -90.0), min(north, 90.0)
    try:
        return to_grid(footprint.grid, (west, south, east, north), crs)
    except InvalidParameter:
        return footprint.grid.bounds


def _union(one: Bounds | None, other: Bounds, turn: float) -> Bounds:
    west, south, east, north = other[0] + turn, other[1], other[2] + turn, other[3]
    if one is None:
        return west, south, east, north
    return min(one[0], west), min(one[1], south), max(one[2], east), max(one[3], north)


def bounds_to_read(footprint: Footprint, lattice: Lattice, resampling: str) -> Bounds:
    """Return the box in a footprint's own CRS that holds all that the lattice's cells need of it.

    Raises:
        InvalidParameter: they don't meet.
    """
    grid = footprint.grid
    # what of the lattice belongs to the footprint is found cell by cell
    west, south, east, north = _in_grid(footprint, lattice.bounds, lattice.crs)
    around = 2.0 if resampling == NEAREST else NEIGHBOURS
    across, down = (around * float(np.diff(axis.edges).max()) for axis in (grid.x, grid.y))
    west, south, east, north = west - across, south - down, east + across, north + down
    if not grid.geographic:
        return west, south, east, north
    if east - west >= 360:
        west, east = grid.x.extent
    turn = 360 * round((west + east) / 2 / 360)
    return west - turn, max(south, -90.0), east - turn, min(north, 90.0)
