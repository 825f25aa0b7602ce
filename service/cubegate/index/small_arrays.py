"""Copies the chunks of small coordinates into the index, so that they are answered from memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.source import ChunkSource, Outcome
from cubegate.errors import UpstreamError
from cubegate.index.content import IndexContent
from cubegate.index.index import Index
from cubegate.index.inlined import lay_out_inlined
from cubegate.index.location import Stored
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.progress import Progress, silent
from cubegate.index.table import INLINED, WHOLE_OBJECT, ChunkTable, Column


async def inline_small_arrays(
    index: Index, source: ChunkSource, *, max_nbytes: int = 2**20, progress: Progress = silent
) -> Index:
    """Return `index` with the encoded chunks of small arrays inlined verbatim.

    Small is an array of at most one dimension and at most `max_nbytes` stored in all; chunks
    that are whole objects, of unknown size, stay where they are.

    Raises:
        UpstreamError: one of these chunks cannot be read.
    """
    content = await content_with_small_arrays(index, source, max_nbytes=max_nbytes, progress=progress)
    return index if content is index.content else Index(content, hierarchy=index.hierarchy)


async def content_with_small_arrays(
    index: Index, source: ChunkSource, *, max_nbytes: int = 2**20, progress: Progress = silent
) -> IndexContent:
    """Return the content of the index that `inline_small_arrays` returns.

    Raises:
        UpstreamError: one of these chunks cannot be read.
    """
    small = {
        array.path: rows
        for array in index.hierarchy.arrays.values()
        if (rows := _small_stored_rows(index, array, max_nbytes))
    }
    if not small:
        return index.content
    places = [(path, row) for path, rows in small.items() for row in rows]
    chunks: list[bytes] = [b""] * len(places)
    done = 0

    def deliver(position: int, outcome: Outcome) -> None:
        nonlocal done
        if isinstance(outcome, UpstreamError):
            raise outcome
        chunks[position] = outcome
        done += 1
        progress("Copying coordinates", done, len(places))

    # coordinates of a granule lie next to each other
    await Coalesced(source).read([small[path][row].reference for path, row in places], deliver)
    read: dict[str, dict[int, bytes]] = {path: {} for path in small}
    for (path, row), chunk in zip(places, chunks, strict=True):
        read[path][row] = chunk
    return _with_inlined(index, read)


def _small_stored_rows(index: Index, array: ArrayMetadata, max_nbytes: int) -> dict[int, Stored]:
    if len(array.shape) > 1:
        return {}
    rows = index.content.tables[array.path].all()
    stored = rows.granule < INLINED
    lengths = rows.length[stored]
    if (lengths == WHOLE_OBJECT).any() or int(lengths.sum(dtype=np.int64)) > max_nbytes:
        return {}
    # with at most one dimension a row of the table is the coordinate of its chunk
    numbers = np.flatnonzero(stored).tolist()
    located = index.locate(array, [(number,) if array.shape else () for number in numbers])
    return {
        number: location
        for number, location in zip(numbers, located, strict=True)
        if isinstance(location, Stored)
    }


def _with_inlined(index: Index, read: Mapping[str, Mapping[int, bytes]]) -> IndexContent:
    content = index.content

    def data_of(path: str, row: int) -> bytes:
        if row in read.get(path, {}):
            return read[path][row]
        rows = content.tables[path].all()
        return index.inlined(int(rows.offset[row]), int(rows.length[row]))

    marked = {path: _marked(content.tables[path], list(rows)) for path, rows in read.items()}
    tables, inline = lay_out_inlined({**content.tables, **marked}, data_of)
    return replace(content, tables=tables, inline=inline)


def _marked(table: ChunkTable, rows: list[int]) -> ChunkTable:
    granule = table.granule.all().copy()
    granule[rows] = INLINED
    return replace(table, granule=Column(granule))
