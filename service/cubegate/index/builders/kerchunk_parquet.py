"""Builds an index from kerchunk's Parquet references."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import InvalidReference, UpstreamObjectMissing
from cubegate.index.documents import (
    MAX_METADATA_LENGTH,
    METADATA_NAMES,
    parse_document,
    read_documents,
)
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.references import ArrayReferences, ReferenceCollector
from cubegate.index.table import WHOLE_OBJECT

MAX_RECORD_SIZE = 10_000_000
MAX_PARTITION_NBYTES = 2**29
_IN_FLIGHT = 16


async def build_from_kerchunk_parquet(
    source: ObjectSource,
    url: str,
    *,
    check_url: Callable[[str], None],
    allow_missing_partitions: Collection[str] = (),
    group: str = "",
    progress: Progress = silent,
) -> Index:
    """Read references as fsspec's `LazyReferenceMapper` writes them below `url`.

    A partition that does not exist is an error, unless its array (by its path from `group`) is
    in `allow_missing_partitions`: then its chunks are unallocated.

    Raises:
        InvalidReference: the store is malformed, incomplete, or holds what is not allowed.
        UpstreamError: a part of it cannot be read.
        CubegateError: whatever `check_url` raises.
    """
    url = url.rstrip("/")
    text = await source.get(ChunkReference(f"{url}/.zmetadata"))
    consolidated = parse_document(text, ".zmetadata", max_length=MAX_METADATA_LENGTH)
    record_size = consolidated.get("record_size")
    if type(record_size) is not int or not 0 < record_size <= MAX_RECORD_SIZE:
        raise InvalidReference("The .zmetadata of the Parquet references has no usable 'record_size'.")
    metadata = parse_document(consolidated.get("metadata"), ".zmetadata", max_length=MAX_METADATA_LENGTH)
    known = {key: value for key, value in metadata.items() if key.rpartition("/")[2] in METADATA_NAMES}
    documents = read_documents(known, group)
    collector = ReferenceCollector(base_url=url, check_url=check_url)
    reader = _Reader(source, collector, record_size, progress)
    prefix = f"{url}/{group.strip('/')}".rstrip("/")
    for path, array in documents.metadata.items():
        references = collector.add_array(array)
        await reader.read(references, f"{prefix}/{path}", allow_missing=path in allow_missing_partitions)
    return collector.index(groups=documents.groups, arrays=documents.arrays, skipped=documents.skipped)


@dataclass(frozen=True)
class _Reader:
    """Reads the partitions of arrays, each of `record_size` chunks."""

    source: ObjectSource
    collector: ReferenceCollector
    record_size: int
    progress: Progress
    seen: dict[bytes, str] = field(default_factory=dict)

    async def read(self, references: ArrayReferences, url: str, *, allow_missing: bool) -> None:
        partitions = range(math.ceil(references.array.chunk_count / self.record_size))
        reads = (self._read_partition(references, url, number, allow_missing) for number in partitions)
        report = partial(self.progress, f"Reading references of {references.array.path}")
        await run_all(reads, in_flight=_IN_FLIGHT, report=report)

    async def _read_partition(
        self, references: ArrayReferences, url: str, number: int, allow_missing: bool
    ) -> None:
        what = f"partition {number} of array {references.array.path!r}"
        try:
            data = await self.source.get(ChunkReference(f"{url}/refs.{number}.parq"))
        except UpstreamObjectMissing:
            if allow_missing:
                return
            raise InvalidReference(
                f"The Parquet references lack {what}. If all its chunks are empty, name the array "
                "in allow_missing_partitions."
            ) from None
        table = await asyncio.to_thread(_read_table, data, self.record_size, what)
        self._enter(references, number * self.record_size, table, what)
        self._check_own(data, table, what)

    def _check_own(self, data: bytes, table: pa.Table, what: str) -> None:
        """Refuse a partition that is another one's file: no two chunks have the same bytes."""
        if "path" not in table.column_names or table.column("path").null_count == table.num_rows:
            return
        other = self.seen.setdefault(blake2b(data).digest(), what)
        if other != what:
            raise InvalidReference(
                f"The {what} is the same file as {other}: one of them was replaced. If both arrays really "
                "are the same data, write JSON references."
            )

    def _enter(self, references: ArrayReferences, first: int, table: pa.Table, what: str) -> None:
        expected = min(self.record_size, references.array.chunk_count - first)
        if not expected <= table.num_rows <= self.record_size:
            raise InvalidReference(f"The {what} has {table.num_rows:,} rows instead of {expected:,}.")
        path, raw = _column(table, "path", pa.string(), what), _column(table, "raw", pa.binary(), what)
        if path.slice(expected).null_count + raw.slice(expected).null_count < 2 * (table.num_rows - expected):
            raise InvalidReference(f"The {what} names chunks beyond the chunk grid.")
        path, raw = path.slice(0, expected), raw.slice(0, expected)
        self._enter_stored(references, first, path, table.slice(0, expected), what)
        for row in np.flatnonzero(pc.is_valid(raw).to_numpy(zero_copy_only=False)).tolist():
            self.collector.inline(references, first + row, _raw_bytes(raw[row].as_py(), what))

    def _enter_stored(
        self, references: ArrayReferences, first: int, path: pa.Array, table: pa.Table, what: str
    ) -> None:
        encoded = path.dictionary_encode()
        try:
            urls = encoded.dictionary.to_pylist()
        except UnicodeDecodeError:
            raise InvalidReference(f"The {what} names a granule that is not text.") from None
        granules = np.array([self.collector.granule(url) for url in urls], dtype=np.int64)
        rows = np.flatnonzero(pc.is_valid(path).to_numpy(zero_copy_only=False))
        if not len(rows):
            return
        offset = _numbers(table, "offset", what)[rows]
        length = _numbers(table, "size", what)[rows]
        whole = (offset == 0) & (length == 0)
        if ((offset < 0) | (length <= 0) & ~whole | (length >= WHOLE_OBJECT)).any():
            raise InvalidReference(f"The {what} names an impossible byte range.")
        chunks = first + rows
        references.granule[chunks] = granules[encoded.indices.drop_null().to_numpy()]
        references.offset[chunks] = offset
        references.length[chunks] = np.where(whole, WHOLE_OBJECT, length)


def _read_table(data: bytes, record_size: int, what: str) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        footer = file.metadata
        nbytes = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
        if footer.num_rows > record_size or nbytes > MAX_PARTITION_NBYTES:
            raise InvalidReference(f"The {what} is larger than its store's record size allows.")
        wanted = [name for name in ("path", "offset", "size", "raw") if name in file.schema_arrow.names]
        return file.read(columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError):
        raise InvalidReference(f"The {what} is not a whole Parquet file.") from None


def _column(table: pa.Table, name: str, kind: pa.DataType, what: str) -> pa.Array:
    # a writer may leave out a column in which there is nothing
    if name not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    column = table.column(name)
    if pa.types.is_floating(column.type):
        # pandas writes a column of nothing but NaN as numbers
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    try:
        if _is_text(column.type):
            return column.cast(kind).combine_chunks()
    except pa.ArrowException:
        pass
    raise InvalidReference(f"The column {name!r} of {what} is not {'text' if name == 'path' else 'bytes'}.")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _numbers(table: pa.Table, name: str, what: str) -> NDArray[np.int64]:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64)
    column = table.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InvalidReference(f"The column {name!r} of {what} is not whole numbers.")
    try:
        numbers: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    except pa.ArrowException:
        raise InvalidReference(f"The {what} names an impossible byte range.") from None
    return numbers


def _raw_bytes(value: Any, what: str) -> bytes:
    data = bytes(value)
    if not data.startswith(b"base64:"):
        return data
    try:
        return base64.b64decode(data[7:], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidReference(f"The {what} has inlined data that is not base64.") from None
