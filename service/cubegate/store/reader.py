"""Reads selections of an array: all its chunks at once, each decoded in a thread into its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.index.metadata import ArrayMetadata
from cubegate.store.decoder import Decoder
from cubegate.store.encoded import EncodedStore
from cubegate.store.selection import ChunkPart, Indexer, OuterSelection, PointSelection

MAX_CHUNKS_IN_FLIGHT = 128

PointIndexer = slice | NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """What a selection would fetch: chunks, and their bytes (decoded size where that is all we know)."""

    chunks: int
    nbytes: int


class EncodedArray:
    """One array of a store, read by selection."""

    def __init__(self, store: EncodedStore, metadata: ArrayMetadata) -> None:
        self.metadata = metadata
        self._store = store
        self._decoder: Decoder | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        return self.metadata.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values: as stored, in native byte order."""
        return self.metadata.dtype.newbyteorder("=")

    def cost(self, indexers: Sequence[Indexer]) -> ChunkCost:
        """Return the price of reading one indexer a dimension, without reading anything.

        Raises:
            CorruptIndex: the part of the index that would tell is damaged.
        """
        selection = OuterSelection(self.shape, self.metadata.chunk_shape, indexers)
        count = selection.chunk_count
        decoded = count * self.metadata.chunk_nbytes
        # beyond this the exact bytes do not matter: no limit is that generous
        if count > 10_000_000:
            return ChunkCost(count, decoded)
        stored = self._store.locator.stored_nbytes(self.metadata, selection.chunks())
        return ChunkCost(count, decoded if stored is None else stored)

    async def read(self, indexers: Sequence[Indexer]) -> NDArray[Any]:
        """Return the values that one indexer a dimension selects; integers drop their dimension.

        Raises:
            UpstreamError: a chunk could not be read or decoded.
        """
        selection = OuterSelection(self.shape, self.metadata.chunk_shape, indexers)
        values = np.empty(selection.shape, self.dtype)
        await self._read_parts(selection, values)
        return values[selection.squeeze] if indexers else values

    async def read_points(self, indexers: Sequence[PointIndexer]) -> NDArray[Any]:
        """Return the values at points: one slice, or integer array of the points' shape, a dimension.

        The result has the points' dimensions first, then one for each slice.
        """
        selection = PointSelection(self.shape, self.metadata.chunk_shape, indexers)
        values = np.empty(selection.flat_shape, self.dtype)
        await self._read_parts(selection, values)
        return values.reshape(selection.shape)

    async def _read_parts(self, selection: OuterSelection | PointSelection, values: NDArray[Any]) -> None:
        parts = selection.parts()
        workers = min(selection.chunk_count, MAX_CHUNKS_IN_FLIGHT)

        async def work() -> None:
            for part in parts:
                await self._read_part(part, values)

        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_part(self, part: ChunkPart, values: NDArray[Any]) -> None:
        data = await self._store.get(self.metadata, part.chunk)
        if data is None:
            values[part.outside] = self._fill()
            return
        await asyncio.get_running_loop().run_in_executor(None, self._place, data, part, values)

    def _place(self, data: bytes, part: ChunkPart, values: NDArray[Any]) -> None:
        if self._decoder is None:
            self._decoder = Decoder(self.metadata)
        values[part.outside] = self._decoder.decode_selection(data, part.inside)

    def _fill(self) -> Any:
        if self.metadata.fill_value is not None:
            return self.metadata.fill_value
        return "" if self.dtype.hasobject else np.zeros((), self.dtype)[()]
