"""Lines over grids: the cells that a line crosses, in order, and the time at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.crs import Bounds, check_degrees, find_places, same_crs
from cubegate.query.grid import Grid
from cubegate.query.position import Points
from cubegate.query.selection import Selection

MAX_SAMPLES = 2_000_000
# of each edge, to measure how long it is on a grid
FIRST_PIECES = 64
# of a cell: a step from one sample to the next
STEP = 0.45
# what says how far a point that was asked for is from its pixel; here none was
ASKED = ("requested_x", "requested_y", "distance")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """A line whose edges are straight in `crs` (None is that of the grid); `m` are seconds since 1970."""

    x: Floats
    y: Floats
    m: Floats | None
    crs: CRS | None
    parameter: str = "coords"

    @property
    def bounds(self) -> Bounds:
        """The box around the line, in its own CRS."""
        return float(self.x.min()), float(self.y.min()), float(self.x.max()), float(self.y.max())

    def divided(self, pieces: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        """Return points along the line: x, y and how many vertices lie behind, with as many steps an edge."""
        along = np.concatenate(
            [
                number + np.linspace(0.0, 1.0, count, endpoint=False)
                for number, count in enumerate(pieces.tolist())
            ]
        )
        along = np.append(along, float(len(pieces)))
        vertices = np.arange(len(self.x), dtype=np.float64)
        return np.interp(along, vertices, self.x), np.interp(along, vertices, self.y), along


@dataclass(frozen=True, eq=False)
class Path:
    """A point in each cell that a line crosses, in order; `seconds` since 1970 where the line has times."""

    points: Points
    seconds: Floats | None


@dataclass(frozen=True, eq=False)
class _Samples:
    """Points along a line on one grid, a part of a cell apart; `iy` and `ix` are -1 outside."""

    x: Floats
    y: Floats
    along: Floats
    iy: NDArray[np.intp]
    ix: NDArray[np.intp]


def trace(line: Line, grids: Sequence[Grid], limit: int) -> Path:
    """Find the cells that a line crosses, each once for each time that the line comes through it.

    On one grid the cells are exactly those of the line, its edges drawn by points less than half a
    cell apart. Of several, a place belongs to the first grid that contains it. What of the line is
    outside has no points. The point of a cell is about the middle of the line's way through it.

    Raises:
        InvalidParameter: the line does not meet the grids.
        BudgetExceeded: it crosses more than `limit` cells.
    """
    if line.crs is not None and line.crs.is_geographic:
        check_degrees(line.x, line.y, line.parameter)
    pieces = np.max([_pieces(line, grid) for grid in grids], axis=0)
    if pieces.sum() > MAX_SAMPLES:
        raise BudgetExceeded(
            {"points": int(pieces.sum() * STEP)}, {"points": limit}, "Ask for a shorter line."
        )
    x, y, along = line.divided(pieces)
    samples = [_sample(line.crs, grid, x, y, along) for grid in grids]
    if len(grids) == 1:
        found = _with_corners(samples[0], grids[0])
        owner = np.where(found.iy < 0, -1, 0)
        places, crs = (found.x, found.y), grids[0].crs
    else:
        found, owner = _owned(samples)
        places, crs = (x, y), line.crs
    middle = _middles(np.stack([owner, found.iy, found.ix]))
    if not middle.size:
        raise InvalidParameter(line.parameter, "The line does not meet the grid.", accepted=_extents(grids))
    if middle.size > limit:
        raise BudgetExceeded(
            {"points": int(middle.size)},
            {"points": limit},
            f"Ask for a line through {limit:,} cells at most.",
        )
    points = Points(
        tuple(places[0][middle].tolist()),
        tuple(places[1][middle].tolist()),
        crs,
        many=True,
        parameter=line.parameter,
    )
    vertices = np.arange(len(line.x), dtype=np.float64)
    seconds = None if line.m is None else np.interp(found.along[middle], vertices, line.m)
    return Path(points, seconds)


def _extents(grids: Sequence[Grid]) -> str:
    return f"a line that meets {grids[0].extent_text()}" if len(grids) == 1 else ""


def _places(source: CRS | None, grid: Grid, x: Floats, y: Floats, parameter: str) -> tuple[Floats, Floats]:
    """Places on the grid, not finite where there are none."""
    if source is None:
        return x, y
    target = grid.known_crs(parameter)
    if same_crs(source, target):
        return x, y
    try:
        there_x, there_y, known = find_places(source, target, x, y)
    except ProjError:
        return np.full_like(x, np.nan), np.full_like(y, np.nan)
    return np.where(known, there_x, np.nan), np.where(known, there_y, np.nan)


def _pieces(line: Line, grid: Grid) -> NDArray[np.intp]:
    """How many steps each edge needs, so that each is less than half a cell."""
    edges = len(line.x) - 1
    if edges * FIRST_PIECES > MAX_SAMPLES:
        raise BudgetExceeded(
            {"points": edges}, {"points": MAX_SAMPLES // FIRST_PIECES}, "Ask for fewer vertices."
        )
    x, y, _ = line.divided(np.full(edges, FIRST_PIECES, np.intp))
    x, y = _places(line.crs, grid, x, y, line.parameter)
    across, down = np.abs(np.diff(x)), np.abs(np.diff(y))
    if grid.geographic:
        across = np.minimum(across, np.abs(360 - across))
    cells = np.maximum(across / _smallest(grid.x.edges), down / _smallest(grid.y.edges))
    longest = np.nan_to_num(cells, nan=0.0, posinf=0.0).reshape(edges, FIRST_PIECES).max(axis=1)
    return np.asarray(np.ceil(np.maximum(longest / STEP, 1.0)) * FIRST_PIECES, np.intp)


def _smallest(edges: Floats) -> float:
    return float(np.diff(edges).min()) or 1.0


def _sample(crs: CRS | None, grid: Grid, x: Floats, y: Floats, along: Floats) -> _Samples:
    x, y = _places(crs, grid, x, y, "coords")
    finite = np.isfinite(x) & np.isfinite(y)
    iy, ix = np.full(len(x), -1, np.intp), np.full(len(x), -1, np.intp)
    iy[finite], ix[finite] = grid.y.nearest_of(y[finite]), grid.x.nearest_of(x[finite])
    outside = (iy < 0) | (ix < 0)
    iy[outside] = ix[outside] = -1
    if grid.x.cyclic:
        # as the grid writes its longitudes, to be compared with its edges
        first = grid.x.extent[0] - grid.x.slack
        x = first + (x - first) % 360
    return _Samples(x, y, along, iy, ix)


def _with_corners(samples: _Samples, grid: Grid) -> _Samples:
    """Add a point in the cell between two that touch at a corner only, where the line goes through it."""
    ix, iy = samples.ix, samples.iy
    inside = (ix[1:] >= 0) & (ix[:-1] >= 0)
    aslant = np.flatnonzero(inside & (np.abs(np.diff(ix)) == 1) & (np.abs(np.diff(iy)) == 1))
    if not aslant.size:
        return samples
    shares = [
        (_border(grid_edges, before, after) - place[aslant]) / (place[aslant + 1] - place[aslant])
        for grid_edges, place, before, after in (
            (
                _in_file_order(grid.x.edges, descending=grid.x.descending),
                samples.x,
                ix[aslant],
                ix[aslant + 1],
            ),
            (
                _in_file_order(grid.y.edges, descending=grid.y.descending),
                samples.y,
                iy[aslant],
                iy[aslant + 1],
            ),
        )
    ]
    first_x = shares[0] < shares[1]
    # through the corner itself: no third cell
    between = np.abs(shares[0] - shares[1]) > 1e-9
    at, share, first_x = aslant[between], np.mean(shares, axis=0)[between], first_x[between]
    x, y, along = (
        np.insert(values, at + 1, values[at] + share * (values[at + 1] - values[at]))
        for values in (samples.x, samples.y, samples.along)
    )
    return _Samples(
        x,
        y,
        along,
        np.insert(iy, at + 1, np.where(first_x, iy[at], iy[at + 1])),
        np.insert(ix, at + 1, np.where(first_x, ix[at + 1], ix[at])),
    )


def _in_file_order(edges: Floats, *, descending: bool) -> Floats:
    return edges[::-1] if descending else edges


def _border(edges: Floats, before: NDArray[np.intp], after: NDArray[np.intp]) -> Floats:
    return np.asarray(edges[np.maximum(before, after)], np.float64)


def _owned(samples: Sequence[_Samples]) -> tuple[_Samples, NDArray[np.intp]]:
    """The cell of each sample on the first grid that contains it, and that grid's number, -1 for none."""
    owner = np.full(len(samples[0].x), -1, np.intp)
    iy, ix = owner.copy(), owner.copy()
    for number, each in enumerate(samples):
        new = (owner < 0) & (each.iy >= 0)
        owner[new], iy[new], ix[new] = number, each.iy[new], each.ix[new]
    return replace(samples[0], iy=iy, ix=ix), owner


def _middles(keys: NDArray[np.intp]) -> NDArray[np.intp]:
    """The index in the middle of each run of equal columns, those of cells outside left out."""
    starts = np.flatnonzero(np.append(True, (np.diff(keys, axis=1) != 0).any(axis=0)))
    ends = np.append(starts[1:], keys.shape[1]) - 1
    middle = (starts + ends) // 2
    return np.asarray(middle[keys[0, middle] >= 0], np.intp)


def without_asked(selection: Selection) -> Selection:
    """Return a loaded table of points without what it says of the points as asked."""
    return replace(selection, dataset=selection.dataset.drop_vars(ASKED, errors="ignore"))


def nearest_times(times: NDArray[np.datetime64], seconds: Floats, parameter: str) -> NDArray[np.datetime64]:
    """Return for each moment the nearest of `times`, the earlier one of two that are as near.

    Raises:
        InvalidParameter: there are none, or a moment is before the first or after the last.
    """
    known = np.unique(times[~np.isnat(times)].astype("M8[ns]"))
    if not known.size:
        raise InvalidParameter(parameter, "The dataset has no times.", accepted="LINESTRING(x y,x y)")
    numbers = known.astype(np.int64) / 1e9
    if seconds.min() < numbers[0] or seconds.max() > numbers[-1]:
        raise InvalidParameter(
            parameter,
            "The line is at times outside those of the dataset.",
            accepted=f"seconds since 1970 from {numbers[0]:.0f} to {numbers[-1]:.0f}",
        )
    after = np.searchsorted(numbers, seconds, side="left")
    before = np.maximum(after - 1, 0)
    later = numbers[after] - seconds < seconds - numbers[before]
    return np.asarray(known[np.where(later, after, before)])


def at_times(selection: Selection, wanted: NDArray[np.datetime64]) -> Selection:
    """Return a loaded table of points with one time at each point; of equal times the first.

    `wanted` is one of the table's times for each point.
    """
    if selection.time is None:
        raise InvalidParameter(
            "coords", "The variables have no time dimension.", accepted="LINESTRING(x y,x y)"
        )
    times = selection.dataset[selection.time].values.astype("M8[ns]")
    order = np.argsort(times, kind="stable")
    at = order[np.minimum(np.searchsorted(times, wanted, sorter=order), len(times) - 1)]
    if (times[at] != wanted).any():
        raise InvalidParameter("coords", "A time of the line is not among those of the dataset.")
    chosen = selection.dataset.isel({selection.time: xr.DataArray(at, dims="point")})
    return replace(selection, dataset=chosen.transpose("point", ...))
