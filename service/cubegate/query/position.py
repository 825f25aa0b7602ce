"""Time series at points: the pixel that holds each, selected lazily and read as one plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.bounds import extent_text
from cubegate.query.conditions import Condition
from cubegate.query.crs import check_degrees, lonlat, separation, transform_points
from cubegate.query.grid import Grid, Pixel
from cubegate.query.interval import Interval
from cubegate.query.selection import Indexer, Selection, Times, lead_time, plan_point_reads
from cubegate.query.selectors import read_selectors
from cubegate.query.variables import select_times, with_time

METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1000.0}


@dataclass(frozen=True)
class Points:
    """Asked points.

    Attributes:
        x, y: eastings or longitudes, northings or latitudes.
        crs: of x and y; None is the grid's own.
        ids: one name a point, where the client gave them.
        many: whether the answer is a table of points, even if there is only one.
        parameter: the name of the request parameter that they came from.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    crs: CRS | None
    ids: tuple[str, ...] | None = None
    many: bool = False
    parameter: str = "coords"


@dataclass(frozen=True)
class PositionQuery:
    """A query for the series at points.

    `variables` None is all on the grid; `known` are the names of all parameters, for messages.
    """

    points: Points
    variables: tuple[str, ...] | None = None
    interval: Interval | None = None
    selectors: Mapping[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    mask: tuple[Condition, ...] = ()


def select_position(
    dataset: xr.Dataset,
    grid: Grid,
    variables: tuple[str, ...],
    query: PositionQuery,
    times: Times | None = None,
) -> Selection:
    """Select the series of `variables` at the query's points; nothing is read, no condition applied.

    `times` are indices along time, instead of the query's interval. The answer has the shape
    `series` for one point and `points` for a table of them, with the coordinates that `Result`
    promises; the table has `requested_x` and `requested_y` too, and `id` where the client gave ids.
    `distance` is left out where the grid's unit is unknown.

    Raises:
        InvalidParameter: a point is outside the grid, or another part does not fit the dataset.
    """
    dataset = with_time(dataset, grid)
    points = query.points
    asked = _on_grid(grid, points)
    pixels = [_pixel(grid, points, number, *place) for number, place in enumerate(zip(*asked, strict=True))]
    columns = np.array([(pixel.iy, pixel.ix) for pixel in pixels], np.intp)
    fixed: dict[str, Indexer] = dict(read_selectors(dataset, grid, variables, query.selectors, query.known))
    times = select_times(dataset, grid, query.interval) if times is None else times
    if grid.time_dim is not None:
        fixed[grid.time_dim] = times
    subset = _without_maps(dataset[list(variables)].reset_coords(_named_coords(dataset, variables)), grid)
    place = _places(subset, columns, many=points.many)
    selected = subset.isel({**fixed, grid.y.name: place[0], grid.x.name: place[1]}, missing_dims="ignore")
    selected, time = lead_time(selected, grid)
    if query.interval is not None and time is None:
        raise InvalidParameter("datetime", "The variables have no time dimension.", accepted="no datetime")
    selected = _assign(selected, _place_coords(grid, points, asked, pixels), many=points.many)
    if points.many:
        selected = selected.transpose("point", *([time] if time else []), ...)
    reads = plan_point_reads(dataset, variables, fixed, grid, columns)
    return Selection(
        "points" if points.many else "series", selected, grid.x.name, grid.y.name, time, grid.crs_name, reads
    )


def _on_grid(grid: Grid, points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points in the grid's CRS."""
    x, y = np.array(points.x, float), np.array(points.y, float)
    if points.crs is not None:
        return transform_points(points.crs, grid.known_crs(points.parameter), x, y, points.parameter)
    if grid.geographic:
        check_degrees(x, y, points.parameter)
    return x, y


def _pixel(grid: Grid, points: Points, number: int, x: float, y: float) -> Pixel:
    try:
        return grid.pixel(x, y, points.parameter)
    except InvalidParameter as error:
        which = ""
        if points.many:
            which = f" {points.ids[number][:80]!r}" if points.ids else f" number {number + 1}"
        raise InvalidParameter(
            points.parameter,
            f"The point{which} ({points.x[number]:.10g}, {points.y[number]:.10g}) is outside the grid.",
            accepted=f"points in {extent_text(grid, points.crs)}",
        ) from error


def _named_coords(dataset: xr.Dataset, variables: tuple[str, ...]) -> list[str]:
    return [name for name in variables if name in dataset.coords]


def _without_maps(subset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Leave out coordinates over the whole grid (2-D longitudes): reading them costs chunks."""
    both = {grid.x.name, grid.y.name}
    return subset.drop_vars(
        [name for name, coordinate in subset.coords.items() if both <= set(coordinate.dims)]
    )


def _places(subset: xr.Dataset, columns: NDArray[np.intp], *, many: bool) -> tuple[Any, Any]:
    if not many:
        return int(columns[0, 0]), int(columns[0, 1])
    if "point" in subset.dims or "point" in subset.variables:
        raise InvalidParameter(
            "variables", "The dataset uses the name 'point' itself: ask for one point at a time."
        )
    return xr.DataArray(columns[:, 0], dims="point"), xr.DataArray(columns[:, 1], dims="point")


def _place_coords(
    grid: Grid, points: Points, asked: tuple[NDArray[np.float64], NDArray[np.float64]], pixels: list[Pixel]
) -> dict[str, tuple[Any, dict[str, str]]]:
    """Values and attributes of the coordinates that say where the points and their pixels are."""
    x, y = np.array([pixel.x for pixel in pixels]), np.array([pixel.y for pixel in pixels])
    found: dict[str, tuple[Any, dict[str, str]]] = {}
    metres: Any = None
    if grid.crs is not None:
        longitude, latitude = transform_points(grid.crs, lonlat(), x, y, points.parameter)
        longitude = (longitude + 180) % 360 - 180
        found["longitude"] = longitude, {"standard_name": "longitude", "units": "degrees_east"}
        found["latitude"] = latitude, {"standard_name": "latitude", "units": "degrees_north"}
        asked_lonlat = transform_points(grid.crs, lonlat(), *asked, points.parameter)
        metres = separation(lonlat(), *asked_lonlat, longitude, latitude)
    elif grid.x.units in METRES and grid.x.units == grid.y.units:
        metres = np.hypot(asked[0] - x, asked[1] - y) * METRES[grid.x.units]
    if metres is not None:
        found["distance"] = (
            metres,
            {"long_name": "distance from the asked point to the pixel centre", "units": "m"},
        )
    if points.many:
        found["requested_x"] = np.array(points.x), {"long_name": "x as asked"}
        found["requested_y"] = np.array(points.y), {"long_name": "y as asked"}
        if points.ids is not None:
            found["id"] = np.array(points.ids, object), {"long_name": "name of the asked point"}
    return found


def _assign(
    selected: xr.Dataset, found: Mapping[str, tuple[Any, dict[str, str]]], *, many: bool
) -> xr.Dataset:
    """Add coordinates, but not over variables or the grid's own coordinates of the same name."""
    return selected.assign_coords(
        {
            name: (("point",), values, attributes) if many else ((), values[0], attributes)
            for name, (values, attributes) in found.items()
            if name not in selected.variables
        }
    )
