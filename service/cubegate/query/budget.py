"""The price of a query before its first read, and what would fit where it is too high."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import xarray as xr

from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.bounds import clip
from cubegate.query.crs import Bounds
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import AnyQuery, select
from cubegate.query.grid import Grid
from cubegate.query.in_thread import in_thread
from cubegate.query.interval import iso, order_times, parse_interval
from cubegate.query.position import Points, PositionQuery
from cubegate.query.selection import Selection
from cubegate.query.variables import GridSettings, choose_variables

ATTEMPTS = 40
# leaves room for what rounding to whole chunks adds
MARGIN = 0.9


class Limits(Protocol):
    """What one query may cost."""

    @property
    def chunks(self) -> int:
        """Chunks read upstream."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes read upstream."""
        ...

    @property
    def cells(self) -> int:
        """Values in the answer."""
        ...


@dataclass(frozen=True)
class Price:
    """What a query costs: chunks and bytes to read, at most; cells in the answer."""

    chunks: int
    bytes: int
    cells: int

    def within(self, limits: Limits) -> bool:
        """Tell whether every limit is kept."""
        return self.share(limits) <= 1

    def share(self, limits: Limits) -> float:
        """The largest ratio of a price to its limit."""
        pairs = ((self.chunks, limits.chunks), (self.bytes, limits.bytes), (self.cells, limits.cells))
        return max(price / max(limit, 1) for price, limit in pairs)


def price(selection: Selection) -> Price:
    """Return the price of loading a selection; nothing is read.

    Raises:
        CorruptIndex: the part of the index that would tell is damaged.
    """
    costs = [read.array.cost(read.indexers) for read in selection.reads]
    return Price(sum(cost.chunks for cost in costs), sum(cost.nbytes for cost in costs), selection.cells)


def exceeded(asked: Price, limits: Limits, hint: str) -> BudgetExceeded:
    """The error for a query that is over a limit."""
    names = {"chunks": limits.chunks, "bytes": limits.bytes, "cells": limits.cells}
    return BudgetExceeded(dataclasses.asdict(asked), names, hint)


@dataclass(frozen=True, eq=False)
class Plan:
    """A query made ready: what it selects and what that costs; nothing is read yet."""

    selection: Selection
    price: Price
    advisor: Advisor
    query: AnyQuery

    async def hint(self) -> str:
        """Say what would fit; empty where the query does."""
        if self.price.within(self.advisor.limits):
            return ""
        # it prices several queries
        return await in_thread(partial(self.advisor.hint, self.query))

    async def enforce(self) -> Selection:
        """Return the selection.

        Raises:
            BudgetExceeded: it costs more than the limits.
        """
        if not self.price.within(self.advisor.limits):
            raise exceeded(self.price, self.advisor.limits, await self.hint())
        return self.selection


def plan_query(dataset: xr.Dataset, settings: GridSettings, query: AnyQuery, limits: Limits) -> Plan:
    """Find the grid and variables of a query, select them and price that.

    Raises:
        InvalidParameter: a part of the query does not fit the dataset.
        CorruptIndex: the part of the index that would tell the price is damaged.
    """
    grid, variables = choose_variables(dataset, query.variables, settings)
    selection = select(dataset, grid, variables, query)
    return Plan(selection, price(selection), Advisor(dataset, grid, variables, limits), query)


@dataclass(frozen=True, eq=False)
class Advisor:
    """Finds a smaller query that fits, by pricing some: no advice is given untried."""

    dataset: xr.Dataset
    grid: Grid
    variables: tuple[str, ...]
    limits: Limits

    def hint(self, query: AnyQuery) -> str:
        """Name an interval, a bbox, a variable or a number of points with which `query` would fit."""
        start = "It would fit"
        if isinstance(query, PositionQuery) and query.points.many:
            count = self._fewer_points(query)
            if count:
                return f"Up to {count} of these points at once would fit."
            query = dataclasses.replace(query, points=first_points(query.points, 1))
            start = "One point at once would fit"
        parts = self.narrow(query)
        if parts is None and len(self.variables) > 1:
            first = self._first_on_grid()
            rest = dataclasses.replace(self, variables=(first,)).narrow(query)
            parts = None if rest is None else [f"variables={first}", *rest]
        if parts is None:
            return "Select the other dimensions by name, or ask the operator for higher limits."
        return f"{start} with {' and '.join(parts)}."

    def narrow(self, query: AnyQuery) -> list[str] | None:
        """The parameters that make `query` fit, none where it does; None where nothing is found."""
        if self._fits(query):
            return []
        interval = self._shorter(query)
        if interval is not None:
            return [f"datetime={interval}"]
        if not isinstance(query, CubeQuery):
            return None
        box = self._smaller(query)
        if box is not None:
            return [box]
        first = self._times(query, 1)
        if first is None:
            return None
        box = self._smaller(dataclasses.replace(query, interval=parse_interval(first)))
        return None if box is None else [f"datetime={first}", box]

    def _first_on_grid(self) -> str:
        """The first variable that a mask, or another crs, can apply to."""
        both = {self.grid.x.name, self.grid.y.name}
        on_grid = [name for name in self.variables if both <= set(self.dataset.variables[name].dims)]
        return [*on_grid, *self.variables][0]

    def _price(self, query: AnyQuery) -> Price:
        return price(select(self.dataset, self.grid, self.variables, query))

    def _shorter(self, query: AnyQuery) -> str | None:
        """The longest interval of the first times that is found to fit."""
        if self.grid.time is None:
            return None
        total = len(self._sorted_times(query))
        share = self._price(query).share(self.limits)
        count = min(total - 1, int(total / share * MARGIN)) if share > 1 else total
        while count >= 1:
            text = self._times(query, count)
            if text and self._fits(dataclasses.replace(query, interval=parse_interval(text))):
                return text
            count //= 2
        return None

    def _sorted_times(self, query: AnyQuery) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        times = self.dataset.variables[self.grid.time].values
        if query.interval is not None:
            times = times[query.interval.select(times)]
        order = order_times(times)
        times = times if order is None else times[order]
        return times[~np.isnat(times)] if times.dtype.kind == "M" else times

    def _times(self, query: AnyQuery, count: int) -> str | None:
        if self.grid.time is None:
            return None
        times = self._sorted_times(query)
        return f"{iso(times[0])}/{iso(times[count - 1])}" if times.size and times.dtype.kind in "MO" else None

    def _smaller(self, query: CubeQuery) -> str | None:
        """The largest bbox around the same centre that is found to fit."""
        crs = query.crs if query.bounds is not None else None
        whole = clip(self.grid, query.bounds or self.grid.bounds, crs)
        scale = min(1.0, MARGIN * self._price(query).share(self.limits) ** -0.5)
        for _ in range(ATTEMPTS):
            bounds = shrink(whole, scale)
            if self._fits(dataclasses.replace(query, bounds=bounds, crs=crs)):
                named = "" if query.bounds is not None else "&bbox-crs=native"
                return f"bbox={','.join(f'{side:.10g}' for side in bounds)}{named}"
            scale /= 2
        return None

    def _fits(self, query: AnyQuery) -> bool:
        try:
            return self._price(query).within(self.limits)
        except InvalidParameter:
            return False

    def _fewer_points(self, query: PositionQuery) -> int:
        share = self._price(query).share(self.limits)
        count = max(1, int(len(query.points.x) / share * MARGIN))
        while count >= 1 and not self._fits(
            dataclasses.replace(query, points=first_points(query.points, count))
        ):
            count //= 2
        return count


def first_points(points: Points, count: int) -> Points:
    """Return the first `count` points."""
    ids = None if points.ids is None else points.ids[:count]
    return dataclasses.replace(points, x=points.x[:count], y=points.y[:count], ids=ids)


def shrink(bounds: Bounds, scale: float) -> Bounds:
    """Return a box around the same centre, as large as `scale` says, with as many digits as are written."""
    west, south, east, north = bounds
    x, y, dx, dy = (
        (west + east) / 2,
        (south + north) / 2,
        (east - west) / 2 * scale,
        (north - south) / 2 * scale,
    )
    sides = (x - dx, y - dy, x + dx, y + dy)
    # as written in the hint
    return tuple(float(f"{side:.10g}") for side in sides)  # type: ignore[return-value]
