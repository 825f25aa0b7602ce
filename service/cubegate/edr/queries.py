"""EDR queries as queries of a cube, and what is made of the loaded answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from pyproj import CRS

from cubegate.edr.description import Dimension
from cubegate.edr.levels import Levels, keep_levels
from cubegate.edr.parameters import Asked, read_bbox, read_height, read_points
from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.area import Area, clip_to_area
from cubegate.query.crs import same_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import AnyQuery
from cubegate.query.grid import Grid
from cubegate.query.interval import iso, parse_interval
from cubegate.query.nanoseconds import moments
from cubegate.query.placing import placed_in
from cubegate.query.position import PositionQuery
from cubegate.query.selection import Selection, Shape
from cubegate.query.trajectory import Line, at_times, nearest_times, trace, without_asked


@dataclass(frozen=True)
class Query:
    """A query of a cube.

    Attributes:
        finish: makes the answer of what the query loads.
        options: for the output format.
        copies: how many times what is loaded is in memory, at most.
        levels: what of it is asked for.
    """

    query: AnyQuery
    shape: Shape
    finish: Callable[[Selection], Selection] = field(default=lambda loaded: loaded)
    options: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 1
    levels: Levels = field(default_factory=Levels)

    def answer(self, loaded: Selection) -> Selection:
        """Make the answer of what was loaded."""
        return self.finish(keep_levels(loaded, self.levels.kept))


def position_query(asked: Asked, vertical: Dimension | None, limit: int) -> Query:
    """Make the query for the points of `coords`.

    Raises:
        InvalidParameter: they are malformed.
        BudgetExceeded: there are more than `limit`.
    """
    points = read_points(asked)
    if len(points.x) > limit:
        raise BudgetExceeded(
            {"points": len(points.x)}, {"points": limit}, f"Ask for up to {limit:,} points at a time."
        )
    levels = read_height(asked, vertical)
    query = PositionQuery(points, selectors=levels.selectors, **asked.common)
    shape: Shape = "points" if points.many else "series"
    return Query(query, shape, partial(placed_in, crs=asked.target_crs), levels=levels)


def area_query(asked: Asked, area: Area, grids: Sequence[Grid], vertical: Dimension | None) -> Query:
    """Make the query for the box around polygons, of which the cells outside are then missing."""
    target = _target(asked.target_crs, grids)
    # what is resampled lies on the grid of the answer, in the polygons' own CRS
    bounds, crs = area.box(grids[0].crs) if target is None and len(grids) == 1 else (area.bounds, area.crs)
    levels = read_height(asked, vertical)
    query = CubeQuery(bounds, crs, selectors=levels.selectors, target_crs=target, **asked.common)
    return Query(query, "cube", partial(clip_to_area, area=area), copies=2, levels=levels)


def cube_query(asked: Asked, grids: Sequence[Grid], vertical: Dimension | None) -> Query:
    """Make the query for a box.

    Raises:
        InvalidParameter: `bbox` is missing or malformed.
    """
    bounds, heights = read_bbox(asked, required=True)
    levels = read_height(asked, vertical, heights)
    query = CubeQuery(
        bounds,
        asked.crs,
        selectors=levels.selectors,
        target_crs=_target(asked.target_crs, grids),
        **asked.common,
    )
    return Query(query, "cube", levels=levels)


def trajectory_query(
    asked: Asked,
    line: Line,
    grids: Sequence[Grid],
    *,
    times: Sequence[str],
    vertical: Dimension | None,
    limit: int,
) -> Query:
    """Make the query for the cells along a line; `times` are those of the cube, for a line that has its own.

    Raises:
        InvalidParameter: the line does not meet the grids, or is at other times.
        BudgetExceeded: it crosses more than `limit` cells.
    """
    path = trace(line, grids, limit)
    levels = read_height(asked, vertical)
    query = PositionQuery(path.points, selectors=levels.selectors, **asked.common)
    if path.seconds is None:
        finish = partial(_finish_path, wanted=None, crs=asked.target_crs)
        return Query(query, "points", finish, {"path": True}, levels=levels)
    wanted = nearest_times(_civil(times), path.seconds, line.parameter)
    query = replace(query, interval=parse_interval(f"{iso(wanted.min())}/{iso(wanted.max())}"))
    finish = partial(_finish_path, wanted=wanted, crs=asked.target_crs)
    return Query(query, "points", finish, {"path": True}, copies=2, levels=levels)


def _finish_path(
    loaded: Selection, *, wanted: np.ndarray[Any, np.dtype[np.datetime64]] | None, crs: CRS | None
) -> Selection:
    chosen = loaded if wanted is None else at_times(loaded, wanted)
    return placed_in(without_asked(chosen), crs)


def _civil(times: Sequence[str]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    try:
        return moments([text.rstrip("Z") for text in times])
    except ValueError:
        raise InvalidParameter(
            "coords",
            "The times of this dataset are of another calendar than the civil one, or beyond 1678 to 2261.",
            accepted="LINESTRING(x y,x y) with datetime",
        ) from None


def _target(crs: CRS | None, grids: Sequence[Grid]) -> CRS | None:
    """What to reproject to: nothing where the one grid is in that CRS already."""
    own = grids[0].crs if len(grids) == 1 else None
    return None if crs is None or (own is not None and same_crs(own, crs)) else crs
