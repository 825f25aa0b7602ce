"""The base of variables that are computed when they are read: indexed lazily by xarray, and priced."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from cubegate.chunks.concurrency import run_all
from cubegate.store.bridge import LoopThread
from cubegate.store.reader import ChunkCost
from cubegate.store.selection import Indexer

Positions = NDArray[np.intp]

# fewer values are computed faster than a thread is called
SMALL = 2**15


class Input:
    """A CF-decoded, numeric variable that others are computed from, read by positions."""

    def __init__(self, variable: xr.Variable) -> None:
        self._variable = variable
        self.shape = variable.shape
        self.dtype = np.result_type(variable.dtype, np.float32)

    async def read(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`, one array a dimension, each independent of the others.

        Raises:
            UpstreamError: a chunk could not be read.
        """
        return await self._load(self._variable[tuple(map(as_indexer, positions))])

    async def read_points(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at points: `positions` has one array a dimension, all of the points' shape."""
        names = [f"points{number}" for number in range(positions[0].ndim)]
        return await self._load(self._variable[tuple(xr.Variable(names, each) for each in positions)])

    async def _load(self, selected: xr.Variable) -> NDArray[Any]:
        try:
            await selected.load_async()
        except NotImplementedError:
            # xarray's arrays of swapped bytes cannot be awaited
            await asyncio.to_thread(selected.load)
        return np.asarray(selected.values, self.dtype)

    def cost(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `read`."""
        array = self._variable.encoding.get("encoded_array")
        if array is None:
            return ChunkCost(0, 0)
        cost = array.cost(tuple(map(as_indexer, positions)))
        return ChunkCost(cost.chunks, cost.nbytes)


class DerivedArray(BackendArray, ABC):
    """An array that xarray indexes lazily, and that is computed from `inputs` of the same shape.

    It is the `encoded_array` of its variable too: it prices what will be read for it.
    """

    def __init__(self, inputs: Sequence[Input], bridge: LoopThread) -> None:
        self._inputs = tuple(inputs)
        self._bridge = bridge
        self.shape = self._inputs[0].shape
        self.dtype = np.result_type(*[each.dtype for each in self._inputs])

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return self._bridge.run(self.async_getitem(key))

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Compute what `key` selects; called by `load_async`."""
        if isinstance(key, indexing.VectorizedIndexer):
            return await self.compute_points(spread(key.tuple, self.shape))
        values = await self.compute(self.positions(key.tuple))
        return values[tuple(0 if isinstance(each, int | np.integer) else slice(None) for each in key.tuple)]

    def positions(self, indexers: Sequence[Indexer]) -> list[Positions]:
        """Return the positions that one indexer a dimension selects."""
        return [positions_of(each, size) for each, size in zip(indexers, self.shape, strict=True)]

    def cost(self, indexers: Sequence[Indexer]) -> ChunkCost:
        """Return the price of computing what one indexer a dimension selects; nothing is read.

        Raises:
            CorruptIndex: the part of the index that would tell is damaged.
        """
        return self.cost_of(self.positions(indexers))

    @abstractmethod
    def cost_of(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `compute`."""

    @abstractmethod
    async def compute(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`, one array a dimension, each independent of the others."""

    @abstractmethod
    async def compute_points(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at points: `positions` has one array a dimension, all of the points' shape."""


def positions_of(indexer: Indexer, size: int) -> Positions:
    """Return the positions, from 0, that one indexer selects along a dimension."""
    if isinstance(indexer, slice):
        return np.arange(*indexer.indices(size))
    positions = np.atleast_1d(np.asarray(indexer, np.intp))
    return np.where(positions < 0, positions + size, positions)


def as_indexer(positions: Positions) -> slice | Positions:
    """Return consecutive positions as a slice, which reads and prices faster, others as they are."""
    if positions.size and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def spread(indexers: Sequence[Any], shape: Sequence[int]) -> list[Positions]:
    """Return vectorized indexers as arrays of the shape of their result.

    It has the dimensions of the points first, then one for each slice.
    """
    points = next((each.ndim for each in indexers if not isinstance(each, slice)), 0)
    slices = sum(isinstance(each, slice) for each in indexers)
    arrays, place = [], points
    for indexer, size in zip(indexers, shape, strict=True):
        if isinstance(indexer, slice):
            along = [1] * (points + slices)
            along[place] = -1
            arrays.append(positions_of(indexer, size).reshape(along))
            place += 1
        else:
            array = np.asarray(indexer, np.intp)
            array = np.where(array < 0, array + size, array)
            arrays.append(array.reshape(array.shape + (1,) * slices))
    return [np.asarray(array) for array in np.broadcast_arrays(*arrays)]


def total(costs: Iterable[ChunkCost]) -> ChunkCost:
    """Return the sum of `costs`."""
    each = list(costs)
    return ChunkCost(sum(cost.chunks for cost in each), sum(cost.nbytes for cost in each))


async def read_all(
    inputs: Sequence[Input], positions: Sequence[Positions], *, points: bool = False
) -> list[NDArray[Any]]:
    """Read all `inputs` at the same positions, at once."""
    reads = (each.read_points(positions) if points else each.read(positions) for each in inputs)
    return await run_all(reads, in_flight=len(inputs))


async def in_time(size: int, work: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Return what `work` computes of `size` values, in a thread where it takes long."""
    return work() if size < SMALL else await asyncio.to_thread(work)
