"""A series relative to reference dates that move, made continuous: each epoch is added to the one before.

Let v(i) be the stored value of epoch i, t(i) its date and r(i) its reference date. The continuous value is
c(i) = v(i) where r(i) is the first reference date of the series, and c(i) = v(i) + c(j) elsewhere, where j is
the epoch with t(j) = r(i).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.concurrency import run_all
from cubegate.derived.array import DerivedArray, Input, Positions, TiledArray, in_time, total
from cubegate.derived.epochs import LOST, Epochs
from cubegate.store.bridge import LoopThread
from cubegate.store.reader import ChunkCost

# values that are added at a time, so that little is held twice
_BLOCK = 2**20


class ContinuousArray(TiledArray):
    """An input made continuous along its dimension `axis`, which has one place an epoch.

    With `omit` a missing value counts as 0 for all epochs that follow; otherwise they are missing too.
    """

    def __init__(self, source: Input, axis: int, epochs: Epochs, bridge: LoopThread, *, omit: bool) -> None:
        super().__init__([source], bridge)
        self._source, self._axis, self._epochs, self._omit = source, axis, epochs, omit

    def cost_of(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `compute`: that of all epochs that the wanted ones are made of."""
        return self._source.cost(self._read_for(positions))

    def _read_for(self, positions: Sequence[Positions]) -> list[Positions]:
        return [
            self._epochs.needed(each) if axis == self._axis else each for axis, each in enumerate(positions)
        ]

    def entire(self, positions: Sequence[Positions]) -> tuple[Collection[int], int]:
        """Return the axis of time, and how many epochs the wanted ones are made of."""
        return (self._axis,), self._epochs.needed(positions[self._axis]).size

    async def compute_tile(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`; every epoch that they are made of is read once."""
        read = self._read_for(positions)
        values = np.moveaxis(await self._source.read(read), self._axis, 0)
        rows, epochs = positions[self._axis], read[self._axis]
        parents = _places(epochs, self._epochs.parents[epochs])
        levels, wanted = self._epochs.levels[epochs], np.searchsorted(epochs, rows)
        found = await in_time(
            values.size, lambda: accumulate(values, parents, levels, wanted, omit=self._omit)
        )
        return np.moveaxis(found, 0, self._axis)

    async def compute_points(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at points; each (place, epoch) that they are made of is read once."""
        if not positions[0].size:
            return np.zeros(positions[0].shape, self.dtype)
        times = positions[self._axis].reshape(-1)
        others = [axis for axis in range(len(positions)) if axis != self._axis]
        sizes = [self.shape[axis] for axis in others]
        place = np.zeros(times.size, np.intp)
        for axis, size in zip(others, sizes, strict=True):
            place = place * size + positions[axis].reshape(-1)
        places, place = np.unique(place, return_inverse=True)
        count = places.size
        asked = times * count + place
        pairs = self._pairs(asked, count)
        epochs, members = pairs // count, pairs % count
        read = list(np.unravel_index(places[members], sizes)) if sizes else []
        read.insert(self._axis, epochs)
        values = await self._source.read_points(read)
        before = self._epochs.parents[epochs]
        parents = _places(pairs, np.where(before >= 0, before * count + members, before))
        levels, wanted = self._epochs.levels[epochs], np.searchsorted(pairs, asked)
        found = await in_time(
            values.size, lambda: accumulate(values, parents, levels, wanted, omit=self._omit)
        )
        return found.reshape(positions[0].shape)

    def _pairs(self, asked: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """The pairs of epoch and place, as epoch * count + place, that the asked ones are made of."""
        found = frontier = np.unique(asked)
        while frontier.size:
            before = self._epochs.parents[frontier // count]
            linked = before >= 0
            frontier = np.setdiff1d(before[linked] * count + frontier[linked] % count, found)
            found = np.union1d(found, frontier)
        return found


class ReferencedArray(DerivedArray):
    """`array` less its own value at one place; `pixel` has its position along the dimensions x and y."""

    def __init__(
        self, array: DerivedArray, source: Input, pixel: Mapping[int, int], bridge: LoopThread
    ) -> None:
        super().__init__([source], bridge)
        self._array, self._pixel = array, pixel

    def cost_of(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `compute`: that of the values, and of those at the place."""
        return total(self._array.cost_of(each) for each in (positions, self._at_pixel(positions)))

    def _at_pixel(self, positions: Sequence[Positions]) -> list[Positions]:
        return [
            np.array([self._pixel[axis]]) if axis in self._pixel else each
            for axis, each in enumerate(positions)
        ]

    async def compute(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`, less those at the place."""
        wanted = [self._array.compute(each) for each in (positions, self._at_pixel(positions))]
        values, reference = await run_all(wanted, in_flight=2)
        return await in_time(values.size, lambda: np.subtract(values, reference, out=values))

    async def compute_points(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at points, less those at the place at the same times."""
        at_pixel = [
            np.full_like(each, self._pixel[axis]) if axis in self._pixel else each
            for axis, each in enumerate(positions)
        ]
        wanted = [self._array.compute_points(each) for each in (positions, at_pixel)]
        values, reference = await run_all(wanted, in_flight=2)
        return np.asarray(values - reference, self.dtype)


def _places(rows: NDArray[np.intp], parents: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return `parents`, which are among the ascending `rows`, as positions in them."""
    return np.where(parents >= 0, np.searchsorted(rows, np.maximum(parents, 0)), parents)


def accumulate(
    values: NDArray[Any],
    parents: NDArray[np.intp],
    levels: NDArray[np.intp],
    wanted: NDArray[np.intp],
    *,
    omit: bool,
) -> NDArray[Any]:
    """Return the continuous values of the rows `wanted`, of the dtype of `values`.

    Args:
        values: stored ones, of shape (n, ...), every row that a wanted one is made of among them.
        parents: of shape (n,), the row that carries each one on; or FIRST, or LOST.
        levels: of shape (n,), how many rows are before each in its chain.
        wanted: rows, of shape (m,).
        omit: whether a missing value counts as 0 for the rows that follow.
    """
    used = np.unique(parents[parents >= 0])
    slots = np.zeros(len(parents), np.intp)
    slots[used] = np.arange(used.size)
    carried = np.empty((used.size, *values.shape[1:]), np.float64)
    used = used[np.argsort(levels[used], kind="stable")]
    for rows in np.split(used, np.flatnonzero(np.diff(levels[used])) + 1):
        own = values[rows].astype(np.float64)
        if omit:
            own[np.isnan(own)] = 0
        if rows.size and levels[rows[0]]:
            own += carried[slots[parents[rows]]]
        carried[slots[rows]] = own
    found = values[wanted]
    before = parents[wanted]
    found[before == LOST] = np.nan
    linked = np.flatnonzero(before >= 0)
    step = max(1, _BLOCK // max(found[:1].size, 1))
    for start in range(0, linked.size, step):
        block = linked[start : start + step]
        found[block] += carried[slots[before[block]]]
    return found
