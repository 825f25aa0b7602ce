"""Which variables a query means, and the grid that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.grid import Grid, as_slice, find_grid
from cubegate.query.interval import Interval, iso, order_times


@dataclass(frozen=True)
class GridSettings:
    """What the configuration says of a dataset's grid, instead of its CF metadata."""

    crs: str | None = None
    x: str | None = None
    y: str | None = None
    time: str | None = None

    def find(self, dataset: xr.Dataset, variable: str) -> Grid:
        """Find the grid of `variable`; see `find_grid`."""
        return find_grid(dataset, variable, crs=self.crs, x=self.x, y=self.y, time=self.time)


def choose_variables(
    dataset: xr.Dataset, names: Sequence[str] | None, settings: GridSettings
) -> tuple[Grid, tuple[str, ...]]:
    """Return the grid and the variables that `names` means: all on the grid where it is None.

    Variables without x and y may be named too, as long as the others lie on one grid.

    Raises:
        InvalidParameter: a name is unknown, or the variables lie on several grids or none.
    """
    data = [str(name) for name in dataset.data_vars]
    # maps without time may stand before the cubes of the same grid
    by_size = sorted(data, key=lambda name: -dataset.variables[name].ndim)
    if names is None:
        grid = _first_grid(dataset, by_size, settings)
        on_grid = [name for name in data if {grid.x.name, grid.y.name} <= set(dataset.variables[name].dims)]
        return grid, tuple(name for name in on_grid if name != grid.time)
    unknown = [name for name in names if name not in dataset.variables or name in dataset.dims]
    if unknown or not names:
        raise InvalidParameter(
            "variables",
            f"There is no variable {', '.join(map(repr, unknown))}.",
            accepted=", ".join(data[:50]),
        )
    asked = sorted(names, key=lambda name: -dataset.variables[name].ndim)
    grid = _first_grid(dataset, [*asked, *by_size], settings)
    for name in asked:
        if not {grid.x.name, grid.y.name} & set(dataset.variables[name].dims) and _has_grid(
            dataset, name, settings
        ):
            raise InvalidParameter(
                "variables", f"Variable {name!r} lies on another grid than the others: ask for it alone."
            )
    return _with_time_of(dataset, grid, by_size, settings), tuple(dict.fromkeys(names))


def _first_grid(dataset: xr.Dataset, names: Sequence[str], settings: GridSettings) -> Grid:
    problem = InvalidParameter("variables", "This group has no variables with x and y axes.")
    for name in names:
        if dataset.variables[name].ndim >= 2:
            try:
                return settings.find(dataset, name)
            except InvalidParameter as error:
                problem = error
    raise problem


def _with_time_of(dataset: xr.Dataset, grid: Grid, names: Sequence[str], settings: GridSettings) -> Grid:
    """Give the grid of maps the time of the cubes that lie on it."""
    on_grid = [name for name in names if {grid.x.name, grid.y.name} <= set(dataset.variables[name].dims)]
    if grid.time is not None or not on_grid:
        return grid
    larger = settings.find(dataset, on_grid[0])
    return replace(grid, time=larger.time, time_dim=larger.time_dim)


def _has_grid(dataset: xr.Dataset, name: str, settings: GridSettings) -> bool:
    try:
        settings.find(dataset, name)
    except InvalidParameter:
        return False
    return True


def with_time(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Make the time coordinate of the grid a coordinate of the dataset."""
    return dataset if grid.time is None or grid.time in dataset.coords else dataset.set_coords(grid.time)


def select_times(dataset: xr.Dataset, grid: Grid, interval: Interval | None) -> slice | NDArray[np.intp]:
    """Return the indices along the grid's time dimension that an interval means, in file order.

    Raises:
        InvalidParameter: none lies inside, or the dataset has no time.
    """
    if interval is None:
        return slice(None)
    if grid.time is None:
        raise InvalidParameter("datetime", "The variables have no time dimension.", accepted="no datetime")
    times = dataset.variables[grid.time].values
    found = interval.select(times)
    if not found.size:
        raise InvalidParameter("datetime", "No time of the dataset lies inside.", accepted=covered(times))
    return as_slice(found)


def covered(times: NDArray[Any]) -> str:
    """Say which times an array covers, for messages."""
    order = order_times(times)
    inside = times if order is None else times[order]
    inside = inside[~np.isnat(inside)] if inside.dtype.kind == "M" else inside
    return (
        f"times from {iso(inside[0])} to {iso(inside[-1])}"
        if inside.size
        else "none, the dataset has no times"
    )
