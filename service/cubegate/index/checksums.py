"""Reads every stored chunk once, proves that it is one, and keeps its checksum in the index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.address import shown
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.concurrency import all_of
from cubegate.chunks.source import BulkSource, ChunkReference, ChunkSource, Outcome
from cubegate.chunks.verified import checksum
from cubegate.errors import CorruptChunk, UpstreamError
from cubegate.index.index import Index
from cubegate.index.location import Inlined, Stored
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.progress import Progress, silent
from cubegate.index.table import CRC32_TYPE, INLINED, WHOLE_OBJECT, ChunkTable, Column, Rows

DecoderOf = Callable[[ArrayMetadata], Callable[[bytes], Any]]
"""Gives for an array what decodes its chunks, and raises CorruptChunk for bytes that are not one chunk."""

# What is held at a time: so many batches of so many bytes and chunks.
_BATCHES_IN_FLIGHT = 4
_BATCH_NBYTES = 16 * 2**20
_BATCH_CHUNKS = 1024
# how large a whole object is, nobody has said
_WHOLE_NBYTES = 4 * 2**20


async def take_checksums(
    index: Index, source: ChunkSource, decoder_of: DecoderOf, *, progress: Progress = silent
) -> Index:
    """Return `index` with a CRC-32 of the encoded bytes of each stored chunk.

    Inlined chunks are decoded too, and have none: the checksums of the index file's pages cover them.

    Raises:
        UpstreamError: a chunk cannot be read; the message names it.
        CorruptChunk: its bytes are not one chunk of its array.
    """
    tables = {}
    for path, table in index.content.tables.items():
        array = index.hierarchy.arrays[path]
        reading = _Reading(index, array, table, Coalesced(source), decoder_of(array), progress)
        tables[path] = replace(table, crc32=Column(await reading.checksums()))
    return Index(replace(index.content, tables=tables))


@dataclass(frozen=True)
class _Reading:
    """Reads all stored chunks of one array, in the order in which they lie in their granules."""

    index: Index
    array: ArrayMetadata
    table: ChunkTable
    source: BulkSource
    decode: Callable[[bytes], Any]
    progress: Progress

    async def checksums(self) -> NDArray[np.uint32]:
        """Return one checksum for each row of the table, 0 where nothing is stored."""
        rows = self.table.all()
        stored = np.flatnonzero(rows.granule < INLINED)
        batches = _batches(stored[np.lexsort((rows.offset[stored], rows.granule[stored]))], rows)
        found = np.zeros(len(rows.granule), dtype=CRC32_TYPE)
        done = 0

        async def work() -> None:
            nonlocal done
            # all take from the same batches
            for batch in batches:
                found[batch] = await self._checksums_of(batch)
                done += len(batch)
                self.progress(f"Reading chunks of {self.array.path}", done, len(stored))

        await all_of(work() for _ in range(_BATCHES_IN_FLIGHT))
        await asyncio.to_thread(self._check_inlined, np.flatnonzero(rows.granule == INLINED))
        return found

    def _check_inlined(self, rows: NDArray[np.int64]) -> None:
        chunks = [tuple(chunk) for chunk in self.table.chunks_of(rows).tolist()]
        for chunk, location in zip(chunks, self.index.locate(self.array, chunks), strict=True):
            if isinstance(location, Inlined):
                name = f"chunk {chunk} of array {self.array.path!r}, inlined in the references"
                self._checksum(name, location.data)

    async def _checksums_of(self, batch: NDArray[np.int64]) -> list[int]:
        chunks = [tuple(chunk) for chunk in self.table.chunks_of(batch).tolist()]
        located = self.index.locate(self.array, chunks)
        references = [location.reference for location in located if isinstance(location, Stored)]
        data: dict[int, bytes] = {}

        def take(number: int, outcome: Outcome) -> None:
            if not isinstance(outcome, bytes):
                name = self._name(chunks[number], references[number])
                raise UpstreamError(f"{name} cannot be read: {outcome}") from outcome
            data[number] = outcome

        await self.source.read(references, take)
        return await asyncio.to_thread(
            lambda: [
                self._checksum(self._name(chunk, references[number]), data.pop(number))
                for number, chunk in enumerate(chunks)
            ]
        )

    def _checksum(self, name: str, data: bytes) -> int:
        try:
            self.decode(data)
        except CorruptChunk as error:
            raise CorruptChunk(f"{name}: {error}") from None
        return checksum(data)

    def _name(self, chunk: tuple[int, ...], reference: ChunkReference) -> str:
        return f"chunk {chunk} of array {self.array.path!r} in {shown(reference.url)}"


def _batches(rows_in_order: NDArray[np.int64], rows: Rows) -> Iterator[NDArray[np.int64]]:
    """Divide `rows_in_order` into what is read together."""
    lengths = rows.length[rows_in_order].astype(np.int64)
    lengths[lengths == WHOLE_OBJECT] = _WHOLE_NBYTES
    ends = np.cumsum(lengths)
    start = 0
    while start < len(rows_in_order):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + _BATCH_NBYTES, side="right"))
        stop = min(max(stop, start + 1), start + _BATCH_CHUNKS)
        yield rows_in_order[start:stop]
        start = stop
