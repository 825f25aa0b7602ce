"""Boxes of a cube: bbox, interval and variables, selected lazily and kept CF-valid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import xarray as xr
from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.bounds import find_window, read_bounds
from cubegate.query.conditions import Condition
from cubegate.query.crs import Bounds, same_crs
from cubegate.query.footprint import Footprint
from cubegate.query.grid import Grid, Window
from cubegate.query.interval import Interval
from cubegate.query.lattice import Lattice, bounds_to_read, find_lattice
from cubegate.query.reproject import Target, source_transform, step_of
from cubegate.query.selection import Indexer, Selection, Times, lead_time, plan_reads
from cubegate.query.selectors import read_selectors
from cubegate.query.variables import select_times, with_time

REFERRING = ("bounds", "climatology", "ancillary_variables", "cell_measures", "formula_terms")


@dataclass(frozen=True)
class CubeQuery:
    """A query for a box.

    `bounds` None is the whole grid, `crs` (of the bounds) None the grid's own, `variables` None
    all on the grid; `known` are the names of all parameters, for messages. The answer is
    reprojected to `target_crs`, if there is one. `window` are the cells to read, instead of `bounds`.
    """

    bounds: Bounds | None = None
    crs: CRS | None = None
    variables: tuple[str, ...] | None = None
    interval: Interval | None = None
    selectors: Mapping[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    target_crs: CRS | None = None
    resampling: str = "nearest"
    where: tuple[Condition, ...] = ()
    mask: tuple[Condition, ...] = ()
    window: Window | None = None


def select_cube(
    dataset: xr.Dataset, grid: Grid, variables: tuple[str, ...], query: CubeQuery, times: Times | None = None
) -> Selection:
    """Select the box of `variables`; nothing is read, and conditions are left to `filtering.select`.

    `times` are indices along time, instead of the query's interval. The grid mapping variable is
    a coordinate of the answer. Where the box crosses the seam of a grid's longitudes, they are
    written such that they go on over it.

    Raises:
        InvalidParameter: the box does not meet the grid, or another part does not fit the dataset.
    """
    dataset = with_time(dataset, grid)
    lattice, window = _find_cells(grid, query)
    indexers: dict[str, Indexer] = dict(
        read_selectors(dataset, grid, variables, query.selectors, query.known)
    )
    indexers |= {grid.x.name: window.x, grid.y.name: window.y}
    times = select_times(dataset, grid, query.interval) if times is None else times
    if grid.time_dim is not None:
        indexers[grid.time_dim] = times
    subset = dataset[list(variables)]
    maps = [str(name) for name, coordinate in subset.coords.items() if coordinate.ndim >= 2]
    subset = subset.reset_coords([name for name in variables if name in subset.coords])
    selected, time = lead_time(subset.isel(indexers, missing_dims="ignore"), grid)
    if query.interval is not None and time is None:
        raise InvalidParameter("datetime", "The variables have no time dimension.", accepted="no datetime")
    if window.x_values is not None:
        attributes = selected[grid.x.name].attrs
        selected = selected.assign_coords({grid.x.name: (grid.x.name, window.x_values, attributes)})
    selected = _with_grid_mapping(dataset, selected, grid, time)
    reads = plan_reads(dataset, [*variables, *maps], indexers)
    target = None if lattice is None else _find_target(selected, grid, lattice, query.resampling)
    return Selection("cube", selected, grid.x.name, grid.y.name, time, grid.crs_name, reads, target)


def _find_cells(grid: Grid, query: CubeQuery) -> tuple[Lattice | None, Window]:
    """The cells of the answer in another CRS, None where there is none; and those to read."""
    window = query.window or find_window(grid, query.bounds, query.crs)
    if query.target_crs is None:
        return None, window
    footprint = Footprint(grid, grid.known_crs("crs"))
    box_crs = query.crs or footprint.crs
    bounds = None if query.bounds is None else read_bounds(query.bounds, box_crs)
    lattice = find_lattice([footprint], bounds, box_crs, query.target_crs, query.resampling)
    if not same_crs(footprint.crs, query.target_crs):
        window = find_window(grid, bounds_to_read(footprint, lattice, query.resampling), None)
    return lattice, window


def _find_target(selected: xr.Dataset, grid: Grid, lattice: Lattice, resampling: str) -> Target:
    if not {grid.x.name, grid.y.name} <= set(selected.variables):
        raise InvalidParameter(
            "crs", "None of the variables lies on the grid, so nothing can be reprojected.", accepted="no crs"
        )
    x, y = (selected[axis.name].values.astype(float) for axis in (grid.x, grid.y))
    source = source_transform(x, y, (step_of(grid.x), step_of(grid.y)))
    whole = slice(0, lattice.height), slice(0, lattice.width)
    return lattice.target(grid.known_crs("crs"), source, *whole, resampling)


def _with_grid_mapping(dataset: xr.Dataset, selected: xr.Dataset, grid: Grid, time: str | None) -> xr.Dataset:
    if grid.mapping is not None:
        mapping = dataset.variables[grid.mapping]
        scalar = mapping.isel(dict.fromkeys(mapping.dims, 0))
        selected = selected.drop_vars(grid.mapping, errors="ignore").assign_coords({grid.mapping: scalar})
    selected = selected.transpose(
        *([time] if time else []), ..., grid.y.name, grid.x.name, missing_dims="ignore"
    )
    return without_dangling(selected)


def without_dangling(selected: xr.Dataset) -> xr.Dataset:
    """Drop attributes that refer to variables which are not part of the answer."""
    selected = selected.copy(deep=False)
    known = set(selected.variables)
    for variable in selected.variables.values():
        variable.attrs = {
            key: value for key, value in variable.attrs.items() if not _dangles(key, value, known)
        }
    return selected


def _dangles(key: str, value: object, known: set[Hashable]) -> bool:
    names = [word for word in str(value).split() if not word.endswith(":")]
    return key in REFERRING and not known.issuperset(names)
