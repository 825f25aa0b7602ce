"""The index of one cube: its Zarr metadata, and where every chunk's bytes are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkReference
from cubegate.errors import CorruptIndex
from cubegate.index.location import UNALLOCATED, Inlined, Location, Stored
from cubegate.index.metadata import ArrayMetadata, GroupMetadata, Hierarchy, with_parents
from cubegate.index.table import INLINED, WHOLE_OBJECT, ChunkTable, Column, UrlTable
from cubegate.index.table import UNALLOCATED as UNALLOCATED_GRANULE
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3


@dataclass(frozen=True)
class StoredArray:
    """The documents of one array as they are kept.

    `document` is its `.zarray`, or its `zarr.json` without attributes; `attributes` are all of
    them; `fill_declared` says whether a v2 `fill_value` also means missing.
    """

    document: Mapping[str, Any]
    attributes: Mapping[str, Any]
    fill_declared: bool = True

    def parse(self, path: str) -> ArrayMetadata:
        """Return the metadata of the array at `path`.

        Raises:
            InvalidMetadata: the documents are malformed.
            UnsupportedCodec: they name a codec that is not on the allow-list.
        """
        if self.document.get("zarr_format") == 3:
            return parse_array_v3(path, {**self.document, "attributes": dict(self.attributes)})
        return parse_array_v2(path, self.document, self.attributes, fill_declared=self.fill_declared)


class ChunkCounts(NamedTuple):
    """How many chunks of an array there are, by where they are.

    `nbytes` is what the stored chunks take upstream; whole objects, of unknown size, count 0.
    """

    total: int
    stored: int
    inlined: int
    unallocated: int
    nbytes: int

    @property
    def allocated(self) -> int:
        """Stored or inlined chunks."""
        return self.stored + self.inlined


@dataclass(frozen=True)
class IndexContent:
    """Everything that an index holds.

    Attributes:
        groups: attributes of each group, by path.
        arrays: documents of each array that can be served, by path.
        tables: where the chunks of each of these arrays are, by path.
        urls: of the granules.
        inline: the bytes of all inlined chunks.
        skipped: why an array cannot be served, by path.
        assumed_fill: paths of arrays of which no granule told what fill and absent chunks mean.
    """

    groups: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, StoredArray]
    tables: Mapping[str, ChunkTable]
    urls: UrlTable
    inline: Column
    skipped: Mapping[str, str] = field(default_factory=dict)
    assumed_fill: tuple[str, ...] = ()


class Index:
    """One cube described by byte ranges; a chunk locator.

    `version` is a content hash of metadata, URLs, tables and inlined data: equal for equal
    content, wherever and however the index is stored.
    """

    def __init__(self, content: IndexContent, *, version: str | None = None) -> None:
        self.content = content
        self.hierarchy = _read_hierarchy(content)
        self.version = version or content_hash(content)
        for path, array in self.hierarchy.arrays.items():
            if content.tables[path].grid != array.chunk_grid:
                raise CorruptIndex(f"The table of array {path!r} is for another chunk grid.")

    @property
    def urls(self) -> Sequence[str]:
        """The URLs of all granules, sorted."""
        return self.content.urls

    @property
    def granules(self) -> int:
        """The number of granules."""
        return len(self.content.urls)

    @property
    def assumed_fill(self) -> tuple[str, ...]:
        """Arrays whose fill is taken as the references have it, since no granule could be asked."""
        return self.content.assumed_fill

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed when the index was built, a sentence an array; for the operator."""
        return tuple(
            f"array {path!r}: no granule could be asked about its fill; assumed that fill_value means "
            "missing and that absent chunks were never written"
            for path in self.assumed_fill
        )

    def locate(self, array: ArrayMetadata, chunks: Sequence[tuple[int, ...]]) -> list[Location]:
        """Return one location for each chunk, by its coordinates in the chunk grid.

        Raises:
            IndexError: coordinates outside the grid.
            CorruptIndex: the part of the index that would tell is damaged.
        """
        if not chunks:
            return []
        if len(chunks) == 1:
            return [self._locate_one(array, chunks[0])]
        rows = self.content.tables[array.path].look_up(np.array(chunks, dtype=np.int64))
        urls = self._urls_of(rows.granule)
        return [
            self._location(granule, offset, length, urls)
            for granule, offset, length in zip(
                rows.granule.tolist(), rows.offset.tolist(), rows.length.tolist(), strict=True
            )
        ]

    def _locate_one(self, array: ArrayMetadata, chunk: tuple[int, ...]) -> Location:
        granule, offset, length = self.content.tables[array.path].look_up_one(chunk)
        if granule >= INLINED:
            return self._location(granule, offset, length, {})
        if granule >= len(self.content.urls):
            raise CorruptIndex("The index names a granule that it does not hold.")
        return self._location(granule, offset, length, {granule: self.content.urls[granule]})

    def _location(self, granule: int, offset: int, length: int, urls: Mapping[int, str]) -> Location:
        if granule == UNALLOCATED_GRANULE:
            return UNALLOCATED
        if granule == INLINED:
            return Inlined(self.inlined(offset, length))
        if length == WHOLE_OBJECT:
            return Stored(ChunkReference(urls[granule]))
        return Stored(ChunkReference(urls[granule], offset, length))

    def _urls_of(self, granules: NDArray[np.uint32]) -> dict[int, str]:
        urls = self.content.urls
        named = np.unique(granules[granules < INLINED]).astype(np.int64)
        if len(named) and named[-1] >= len(urls):
            raise CorruptIndex("The index names a granule that it does not hold.")
        return dict(zip(named.tolist(), urls.take(named), strict=True))

    def inlined(self, offset: int, length: int) -> bytes:
        """Return a part of the inlined data.

        Raises:
            CorruptIndex: there is no such part, or it is damaged.
        """
        data = self.content.inline.slice(offset, offset + length).tobytes()
        if len(data) != length:
            raise CorruptIndex("The index names inlined data that it does not hold.")
        return data

    def stored_nbytes(self, array: ArrayMetadata, chunks: NDArray[np.int64]) -> int | None:
        """Return the bytes that reading `chunks`, of shape (n, ndim), would fetch.

        None where one of them is a whole object, of unknown size.
        """
        rows = self.content.tables[array.path].look_up(chunks)
        stored = rows.length[rows.granule < INLINED]
        if (stored == WHOLE_OBJECT).any():
            return None
        return int(stored.sum(dtype=np.int64))

    def counts(self, path: str) -> ChunkCounts:
        """Count the chunks of the array at `path`; reads its whole table."""
        rows = self.content.tables[path].all()
        unallocated = int((rows.granule == UNALLOCATED_GRANULE).sum())
        inlined = int((rows.granule == INLINED).sum())
        sized = rows.length[(rows.granule < INLINED) & (rows.length != WHOLE_OBJECT)]
        total = len(rows.granule)
        return ChunkCounts(
            total, total - inlined - unallocated, inlined, unallocated, int(sized.sum(dtype=np.int64))
        )

    def allocated_count(self, path: str) -> int:
        """Count the stored and inlined chunks of the array at `path`; reads its whole table."""
        return self.counts(path).allocated

    def verify(self) -> None:
        """Read the whole index and compare it with its version.

        Raises:
            CorruptIndex: a part is damaged, or names something that the index does not hold.
        """
        if content_hash(self.content) != self.version:
            raise CorruptIndex("The content of the index does not match its version.")
        for path, table in self.content.tables.items():
            rows = table.all()
            inlined = rows.granule == INLINED
            ends = rows.offset[inlined] + rows.length[inlined]
            if (rows.granule[rows.granule < INLINED] >= self.granules).any():
                raise CorruptIndex(f"The table of array {path!r} names a granule that does not exist.")
            if (ends > len(self.content.inline)).any():
                raise CorruptIndex(f"The table of array {path!r} names inlined data that does not exist.")


def _read_hierarchy(content: IndexContent) -> Hierarchy:
    arrays = {path: stored.parse(path) for path, stored in sorted(content.arrays.items())}
    groups = {path: GroupMetadata(path, attributes) for path, attributes in content.groups.items()}
    return Hierarchy(with_parents(groups, arrays), arrays, dict(content.skipped))


def content_hash(content: IndexContent) -> str:
    """Return the version of `content`: 16 hexadecimal digits; reads all of it."""
    documents = {
        "groups": {path: dict(attributes) for path, attributes in content.groups.items()},
        "arrays": {
            path: [dict(stored.document), dict(stored.attributes), stored.fill_declared]
            for path, stored in content.arrays.items()
        },
    }
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode())
    columns = [content.urls.ends, content.urls.text, content.inline]
    for path in sorted(content.tables):
        table = content.tables[path]
        digest.update(f"{path}:{table.pencil_axis}:{len(table.granule)};".encode())
        columns += [table.granule, table.offset, table.length]
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(column.all()).data)
    return digest.hexdigest()[:16]
