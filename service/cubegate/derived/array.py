"""The base of variables that are computed when they are read: indexed lazily by xarray, and priced."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
# values of inputs that are held at once, where fewer can be told apart
LARGEST = 2**24


class Input:
    """A CF-decoded, numeric variable that others are computed from, read by positions."""

    def __init__(self, variable: xr.Variable) -> None:
        self._variable = variable
        self.shape = variable.shape
        self.dtype = np.result_type(variable.dtype, np.float32)
        chunks = variable.encoding.get("preferred_chunks", {})
        self.chunks = tuple(int(chunks.get(name, 1)) for name in variable.dims)

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
        """Return the values at `positions`, one array a dimension, each independent of the others.

        They are the caller's to change.
        """

    @abstractmethod
    async def compute_points(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at points: `positions` has one array a dimension, all of the points' shape."""


class TiledArray(DerivedArray):
    """A derived array that is computed tile by tile, where much must be read for it."""

    async def compute(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`.

        Little more than these is held in memory, however much must be read for them.

        Raises:
            UpstreamError: a chunk could not be read.
        """
        whole, needed = self.entire(positions)
        tiles = list(tiles_of(positions, self._inputs[0].chunks, whole, LARGEST // max(needed, 1)))
        if len(tiles) == 1:
            return await self.compute_tile(positions)
        values = np.empty([each.size for each in positions], self.dtype)
        for tile in tiles:
            part = [each[along] for each, along in zip(positions, tile, strict=True)]
            values[tile] = await self.compute_tile(part)
        return values

    @abstractmethod
    def entire(self, positions: Sequence[Positions]) -> tuple[Collection[int], int]:
        """Return the axes that must not be cut, and how many values are read a place along the others."""

    @abstractmethod
    async def compute_tile(self, positions: Sequence[Positions]) -> NDArray[Any]:
        """Return the values at `positions`, of which all inputs are in memory at once."""


def positions_of(indexer: Indexer, size: int) -> Positions:
    """Return the positions, from 0, that one indexer selects along a dimension."""
    if isinstance(indexer, slice):
        return np.arange(*indexer.indices(size))
    positions = np.atleast_1d(np.asarray(indexer, np.intp))
    return np.where(positions < 0, positions + size, positions)


def tiles_of(
    positions: Sequence[Positions], chunks: Sequence[int], whole: Collection[int], limit: int
) -> Iterator[tuple[slice, ...]]:
    """Cut what `positions` select into tiles of about `limit` places, at the bounds of chunks.

    Axes in `whole` are not cut, nor counted. A tile is one slice of the positions along each axis.
    """
    parts: list[list[slice]] = []
    for axis in reversed(range(len(positions))):
        size = positions[axis].size
        cut = [slice(0, size)] if axis in whole else _cut(positions[axis] // chunks[axis], max(limit, 1))
        parts.insert(0, cut)
        if axis not in whole:
            limit //= max(*(each.stop - each.start for each in cut), 1)
    return itertools.product(*parts)


def _cut(chunks: Positions, longest: int) -> list[slice]:
    """Cut an axis whose places lie in `chunks` into pieces of up to `longest`, or of one chunk."""
    bounds = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), chunks.size]
    kept = [0]
    for last, bound in itertools.pairwise(bounds):
        if bound - kept[-1] > longest and last > kept[-1]:
            kept.append(last)
    return [slice(start, stop) for start, stop in itertools.pairwise([*kept, chunks.size])]


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
