"""The index of one cube: its Zarr metadata, and where every chunk's bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.address import shown
from cubegate.chunks.source import ChunkReference
from cubegate.errors import CorruptIndex
from cubegate.index.content import IndexContent, content_hash
from cubegate.index.location import UNALLOCATED, Inlined, Location, Stored
from cubegate.index.metadata import ArrayMetadata, GroupMetadata, Hierarchy, with_parents
from cubegate.index.table import INLINED, WHOLE_OBJECT
from cubegate.index.table import UNALLOCATED as UNALLOCATED_GRANULE


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


class _Granule(NamedTuple):
    url: str
    validator: str | None


class Index:
    """One cube described by byte ranges; a chunk locator.

    `version` is a content hash of metadata, URLs, tables and inlined data: equal for equal
    content, wherever and however the index is stored.

    `hierarchy` is what the documents of `content` parse to, where that is known.
    """

    def __init__(
        self, content: IndexContent, *, version: str | None = None, hierarchy: Hierarchy | None = None
    ) -> None:
        self.content = content
        self.hierarchy = hierarchy or _read_hierarchy(content)
        self.version = version or content_hash(content)
        if content.validators is not None and len(content.validators) != len(content.urls):
            raise CorruptIndex("The index does not hold one validator for each granule.")
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
        """What was assumed when the index was built, a sentence each; for the operator."""
        assumed = tuple(
            f"array {path!r}: no granule could be asked about its fill; assumed that fill_value means "
            "missing and that absent chunks were never written"
            for path in self.assumed_fill
        )
        return (*assumed, *self._without_validator())

    def without(self, reasons: Mapping[str, str]) -> Index:
        """Return this index without the arrays at the paths of `reasons`, which say why."""
        content = self.content
        return Index(
            replace(
                content,
                arrays={path: stored for path, stored in content.arrays.items() if path not in reasons},
                tables={path: table for path, table in content.tables.items() if path not in reasons},
                skipped={**content.skipped, **reasons},
            )
        )

    def _without_validator(self) -> list[str]:
        validators = self.content.validators
        if validators is None or not len(unknown := validators.empty()):
            return []
        note = (
            f"{len(unknown):,} of {self.granules:,} granules offer neither a strong ETag nor a Last-Modified "
            f"date, {shown(self.urls[int(unknown[0])])} is the first: nothing would tell if one were replaced"
        )
        return [note]

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
        granules = self._granules(rows.granule)
        checksums = [None] * len(chunks) if rows.crc32 is None else rows.crc32.tolist()
        entries = zip(
            rows.granule.tolist(), rows.offset.tolist(), rows.length.tolist(), checksums, strict=True
        )
        return [self._location(*entry, granules) for entry in entries]

    def _locate_one(self, array: ArrayMetadata, chunk: tuple[int, ...]) -> Location:
        granule, offset, length, crc32 = self.content.tables[array.path].look_up_one(chunk)
        granules = {} if granule >= INLINED else {granule: self._granule(granule)}
        return self._location(granule, offset, length, crc32, granules)

    def _location(
        self, granule: int, offset: int, length: int, crc32: int | None, granules: Mapping[int, _Granule]
    ) -> Location:
        if granule == UNALLOCATED_GRANULE:
            return UNALLOCATED
        if granule == INLINED:
            return Inlined(self.inlined(offset, length))
        url, validator = granules[granule]
        if length == WHOLE_OBJECT:
            return Stored(ChunkReference(url, validator=validator, crc32=crc32))
        return Stored(ChunkReference(url, offset, length, validator, crc32))

    def _granule(self, number: int) -> _Granule:
        if number >= self.granules:
            raise CorruptIndex("The index names a granule that it does not hold.")
        validators = self.content.validators
        return _Granule(self.content.urls[number], None if validators is None else validators[number] or None)

    def _granules(self, numbers: NDArray[np.uint32]) -> dict[int, _Granule]:
        named = np.unique(numbers[numbers < INLINED]).astype(np.int64)
        if len(named) and named[-1] >= self.granules:
            raise CorruptIndex("The index names a granule that it does not hold.")
        urls, validators = self.content.urls.take(named), self.content.validators
        known = [None] * len(urls) if validators is None else [v or None for v in validators.take(named)]
        return dict(zip(named.tolist(), map(_Granule, urls, known), strict=True))

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
