"""The selection of a query with its conditions: dates that `where` keeps, cells that `mask` keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import Condition
from cubegate.query.cube import CubeQuery, select_cube, without_dangling
from cubegate.query.grid import Grid, as_slice
from cubegate.query.in_thread import in_thread
from cubegate.query.masking import find_tests, make_mask
from cubegate.query.matching import Test, describe, find_test
from cubegate.query.position import PositionQuery, select_position
from cubegate.query.selection import Selection, Times, load_variable, plan_reads
from cubegate.query.variables import select_times, with_time

AnyQuery = CubeQuery | PositionQuery


def select(dataset: xr.Dataset, grid: Grid, variables: tuple[str, ...], query: AnyQuery) -> Selection:
    """Select what either kind of query asks for; see `select_cube` and `select_position`.

    What the selection costs is the most that it can: all dates of the interval, and the
    variables of the conditions.

    Raises:
        InvalidParameter: a part of the query does not fit the dataset.
        NotAcceptable: a variable cannot be masked.
    """
    dataset = with_time(dataset, grid)
    choose = partial(_select, dataset, grid, variables, query)
    if not query.where:
        return choose(None)
    filtered = _find_filter(dataset, grid, query, choose)
    most = choose(filtered.times)
    if most.time is None:
        raise InvalidParameter("where", "The variables have no time dimension.", accepted="no where")
    reads = plan_reads(dataset, map(str, filtered.dataset.variables), {str(grid.time_dim): filtered.times})
    return replace(most, reads=(*reads, *most.reads), narrow=filtered.narrow)


def _select(
    dataset: xr.Dataset, grid: Grid, variables: tuple[str, ...], query: AnyQuery, times: Times | None
) -> Selection:
    tests = find_tests(dataset, grid, query.mask)
    extra = [name for name in dict.fromkeys(name for name, _ in tests) if name not in variables]
    names = (*variables, *extra)
    selection = (
        select_cube(dataset, grid, names, query, times)
        if isinstance(query, CubeQuery)
        else select_position(dataset, grid, names, query, times)
    )
    if not tests:
        return selection
    both = {grid.x.name, grid.y.name}
    gridded = tuple(name for name in variables if both <= set(dataset.variables[name].dims))
    mask = make_mask(tests, selection.dataset, gridded, extra)
    answer = selection.dataset.drop_vars(extra)
    return replace(selection, dataset=without_dangling(answer) if extra else answer, mask=mask)


@dataclass(frozen=True, eq=False)
class _Filter:
    """The dates that may be kept, and what tells which are.

    Attributes:
        conditions: each with what marks the dates that meet it.
        dataset: the variables of the conditions at `times`, lazy.
        times: indices along the time dimension of the whole dataset.
        choose: makes the selection of some of these indices.
    """

    conditions: tuple[tuple[Condition, Test], ...]
    dataset: xr.Dataset
    times: Times
    indices: NDArray[np.intp]
    choose: Callable[[Times], Selection]

    async def narrow(self) -> Selection:
        """Read the variables of the conditions, and select the dates that meet all.

        Raises:
            UpstreamError: a chunk could not be read.
            InvalidParameter: there are no such dates.
        """
        loaded = self.dataset.copy(deep=False)
        await asyncio.gather(*[load_variable(variable) for variable in loaded.variables.values()])
        return await in_thread(partial(self._chosen, loaded))

    def _chosen(self, loaded: xr.Dataset) -> Selection:
        kept = np.ones(len(self.indices), bool)
        for condition, test in self.conditions:
            kept &= test(np.asarray(loaded.variables[condition.variable].values))
        if not kept.any():
            asked = ", ".join(str(condition) for condition, _ in self.conditions)
            known = (f"{name}: {describe(each.values)}" for name, each in loaded.variables.items())
            raise InvalidParameter("where", f"No date meets {asked}.", accepted="; ".join(known))
        return self.choose(as_slice(self.indices[kept]))


def _find_filter(
    dataset: xr.Dataset, grid: Grid, query: AnyQuery, choose: Callable[[Times], Selection]
) -> _Filter:
    if grid.time is None or grid.time_dim is None:
        raise InvalidParameter("where", "The variables have no time dimension.", accepted="no where")
    along = [str(name) for name, each in dataset.variables.items() if each.dims == (grid.time_dim,)]
    unknown = [condition for condition in query.where if condition.variable not in along]
    if unknown:
        raise InvalidParameter(
            "where",
            f"There is no variable {unknown[0].variable[:80]!r} with one value a date.",
            accepted=f"conditions on {', '.join(along[:50])}",
        )
    times = select_times(dataset, grid, query.interval)
    conditions = tuple((each, find_test(each, dataset.variables[each.variable])) for each in query.where)
    # without indexes, which would be read
    lazy = xr.Dataset(
        {each.variable: dataset.variables[each.variable].isel({grid.time_dim: times}) for each in query.where}
    )
    indices = np.arange(dataset.sizes[grid.time_dim])[times]
    return _Filter(conditions, lazy, times, indices, choose)
