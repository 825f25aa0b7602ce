"""Reads selections of an array: all its chunks at once, each decoded in a thread into its place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.concurrency import all_of
from cubegate.index.metadata import ArrayMetadata
from cubegate.store.decoder import Decoder, OpenChunk, copy_selected
from cubegate.store.decoding import Decoding
from cubegate.store.encoded import EncodedStore
from cubegate.store.selection import ChunkPart, Indexer, OuterSelection, PointSelection
from cubegate.store.series import SeriesRead

# What is read together, and twice that is held in memory before it is decoded.
BATCH = 512
BATCHES_IN_FLIGHT = 2

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
        values = await self._read(selection, selection.shape)
        return values[selection.squeeze] if indexers else values

    async def read_points(self, indexers: Sequence[PointIndexer]) -> NDArray[Any]:
        """Return the values at points: one slice, or integer array of the points' shape, a dimension.

        The result has the points' dimensions first, then one for each slice.
        """
        selection = PointSelection(self.shape, self.metadata.chunk_shape, indexers)
        values = await self._read(selection, selection.flat_shape)
        return values.reshape(selection.shape)

    async def _read(self, selection: OuterSelection | PointSelection, shape: tuple[int, ...]) -> NDArray[Any]:
        series = SeriesRead.of(
            self._store.columns, self.metadata, selection, shuffled=self._decode().opens_planes
        )
        held = None if series is None else await series.from_columns()
        if held is not None:
            return held.astype(self.dtype, copy=False)
        values = np.empty(shape, self.dtype)
        await self._read_chunks(selection, values, series)
        if series is None:
            return values
        series.keep()
        return series.from_windows().astype(self.dtype, copy=False) if series.is_complete else values

    async def _read_chunks(
        self, selection: OuterSelection | PointSelection, values: NDArray[Any], series: SeriesRead | None
    ) -> None:
        parts = iter(selection.parts())
        decoder = self._decode()
        fill = self._fill()
        is_placed = series is None or not series.is_complete

        def place(part: ChunkPart, data: bytes | None) -> None:
            chunk = None if data is None else decoder.open(data)
            if is_placed:
                _place(part, chunk, fill, values)
            if series is not None:
                series.take(part.chunk, chunk, fill)

        async def read_batches() -> None:
            while batch := list(itertools.islice(parts, BATCH)):
                await self._read_batch(batch, place)

        batches = math.ceil(selection.chunk_count / BATCH)
        await all_of(read_batches() for _ in range(min(batches, BATCHES_IN_FLIGHT)))

    async def _read_batch(
        self, batch: Sequence[ChunkPart], place: Callable[[ChunkPart, bytes | None], None]
    ) -> None:
        decoding = Decoding(len(batch), place)
        try:
            await self._store.read(
                self.metadata,
                [part.chunk for part in batch],
                lambda number, data: decoding.add(batch[number], data),
            )
            await decoding.finish()
        finally:
            decoding.stop()

    def _decode(self) -> Decoder:
        self._decoder = self._decoder or Decoder(self.metadata)
        return self._decoder

    def _fill(self) -> Any:
        if self.metadata.fill_value is not None:
            return self.metadata.fill_value
        return "" if self.dtype.hasobject else np.zeros((), self.dtype)[()]


def _place(part: ChunkPart, chunk: OpenChunk | None, fill: Any, values: NDArray[Any]) -> None:
    if chunk is None:
        values[part.outside] = fill
    elif all(isinstance(along, slice) for along in part.outside):
        # the ellipsis keeps an array of an array without dimensions
        copy_selected(chunk, part.inside, values[(*part.outside, ...)])
    else:
        values[part.outside] = chunk[part.inside]
