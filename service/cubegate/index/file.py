"""The index file: an index as one file that is memory-mapped and checked page by page.

Layout: a preamble of 64 bytes; the header (JSON); the checksums of all pages; then the body,
whose parts begin at multiples of 64 bytes. Numbers are little-endian. The preamble's checksum
covers everything before the body; each page of 64 KiB of the body has its own.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import CorruptIndex
from cubegate.index.index import Index, IndexContent, StoredArray
from cubegate.index.table import (
    GRANULE_TYPE,
    LENGTH_TYPE,
    OFFSET_TYPE,
    ChunkTable,
    Column,
    Numbers,
    UrlTable,
)

MAGIC = b"cubegate"
FORMAT = 1
PAGE = 2**16
ALIGNMENT = 64

_PREAMBLE = struct.Struct("<8sIIQQQ16s4xI")
_TEXT_TYPE = np.dtype(np.uint8)
_CHECKSUM_TYPE = np.dtype("<u4")


@dataclass(frozen=True)
class _Head:
    """What an index file says before its body."""

    version: str
    header: Mapping[str, Any]
    checksums: NDArray[np.uint32]
    body: int
    nbytes: int


class _Pages:
    """The mapped body of an index file; checks each page when it is first touched."""

    def __init__(self, data: mmap.mmap, head: _Head, path: Path) -> None:
        self._data, self._path = data, path
        self._body, self._nbytes, self._checksums = head.body, head.nbytes, head.checksums
        self._checked = np.zeros(len(head.checksums), dtype=bool)

    def column(self, part: Any, dtype: np.dtype[Any]) -> Column:
        """Return the part of the body at `part`, an offset in bytes and a number of items."""
        offset, count = (int(number) for number in part)
        if (
            offset < 0
            or count < 0
            or offset % ALIGNMENT
            or self._body + offset + count * dtype.itemsize > self._nbytes
        ):
            raise CorruptIndex(_text(self._path, "names a part outside of itself"))
        if not count:
            return Column(np.empty(0, dtype=dtype))
        values = np.frombuffer(self._data, dtype=dtype, count=count, offset=self._body + offset)
        return _MappedColumn(values, self, offset)

    def check(self, pages: Numbers) -> None:
        """Check those of `pages` that were not checked before.

        Raises:
            CorruptIndex: a page does not match its checksum, or the file has been cut.
        """
        # reading a mapping beyond the end of its file would end the process
        if self._data.size() < self._nbytes:
            raise CorruptIndex(_text(self._path, "has been cut since it was opened"))
        if self._checked[pages].all():
            return
        for page in np.unique(pages[~self._checked[pages]]).tolist():
            start = self._body + page * PAGE
            with memoryview(self._data) as view:
                matches = zlib.crc32(view[start : min(start + PAGE, self._nbytes)]) == self._checksums[page]
            if not matches:
                raise CorruptIndex(_text(self._path, f"is damaged at byte {start:,}"))
            self._checked[page] = True

    def check_one(self, page: int) -> None:
        """Check one page; see `check`."""
        if not self._checked[page] or self._data.size() < self._nbytes:
            self.check(np.array([page]))


class _MappedColumn(Column):
    """A column in the mapped body of an index file; every access is checked."""

    def __init__(self, values: NDArray[Any], pages: _Pages, offset: int) -> None:
        super().__init__(values)
        self._pages, self._offset, self._itemsize = pages, offset, values.itemsize

    def take(self, rows: Numbers) -> NDArray[Any]:
        self._pages.check((self._offset + rows * self._itemsize) // PAGE)
        return super().take(rows)

    def item(self, row: int) -> int:
        self._pages.check_one((self._offset + row * self._itemsize) // PAGE)
        return super().item(row)

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        first = (self._offset + start * self._itemsize) // PAGE
        last = (self._offset + min(stop, len(self)) * self._itemsize - 1) // PAGE
        self._pages.check(np.arange(first, last + 1))
        return super().slice(start, stop)


def open_index(path: Path) -> Index:
    """Map the index file at `path`; reads its head only.

    Raises:
        CorruptIndex: it is not an index file, of a later format, cut, or damaged in its head.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = _read_head(file, path)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pages = _Pages(data, head, path)
    try:
        content = _read_content(head.header, pages)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptIndex(
            _text(path, f"has a header that cannot be read ({type(error).__name__})")
        ) from error
    return Index(content, version=head.version)


def read_version(path: Path) -> str:
    """Return the version of the index file at `path`; reads its head only.

    Raises:
        CorruptIndex: as `open_index` does.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        return _read_head(file, path).version


def _text(path: Path, problem: str) -> str:
    return f"The index file {path.name} {problem}; build it again."


def _read_head(file: BinaryIO, path: Path) -> _Head:
    nbytes = os.fstat(file.fileno()).st_size
    preamble = file.read(_PREAMBLE.size)
    if not preamble.startswith(MAGIC):
        raise CorruptIndex(_text(path, "is not an index file" if preamble else "is empty"))
    if len(preamble) < _PREAMBLE.size:
        raise CorruptIndex(_text(path, "is cut"))
    _, format_, page, expected_nbytes, body, header_nbytes, version, checksum = _PREAMBLE.unpack(preamble)
    if format_ != FORMAT:
        raise CorruptIndex(_text(path, f"has format {format_}, and this cubegate reads format {FORMAT}"))
    if nbytes != expected_nbytes:
        raise CorruptIndex(_text(path, f"has {nbytes:,} bytes instead of {expected_nbytes:,}"))
    if not _PREAMBLE.size + header_nbytes <= body <= nbytes:
        raise CorruptIndex(_text(path, "is damaged in its head"))
    rest = file.read(body - _PREAMBLE.size)
    if zlib.crc32(rest, zlib.crc32(preamble[:-4])) != checksum or page != PAGE:
        raise CorruptIndex(_text(path, "is damaged in its head"))
    checksums = _checksums_in(rest[_aligned(header_nbytes) :], nbytes - body, path)
    return _Head(version.decode("ascii"), json.loads(rest[:header_nbytes]), checksums, body, nbytes)


def _checksums_in(data: bytes, body_nbytes: int, path: Path) -> NDArray[np.uint32]:
    count = math.ceil(body_nbytes / PAGE)
    if len(data) < count * _CHECKSUM_TYPE.itemsize:
        raise CorruptIndex(_text(path, "is damaged in its head"))
    return np.frombuffer(data, dtype=_CHECKSUM_TYPE, count=count)


def _read_content(header: Mapping[str, Any], pages: _Pages) -> IndexContent:
    tables = {}
    arrays = {}
    for path, entry in header["arrays"].items():
        arrays[path] = StoredArray(entry["document"], entry["attributes"], entry["fill_declared"])
        parts = entry["parts"]
        tables[path] = ChunkTable(
            tuple(entry["chunk_grid"]),
            int(entry["pencil_axis"]),
            pages.column(parts["granule"], GRANULE_TYPE),
            pages.column(parts["offset"], OFFSET_TYPE),
            pages.column(parts["length"], LENGTH_TYPE),
        )
    return IndexContent(
        groups=header["groups"],
        arrays=arrays,
        tables=tables,
        urls=UrlTable(
            pages.column(header["url_ends"], OFFSET_TYPE), pages.column(header["url_text"], _TEXT_TYPE)
        ),
        inline=pages.column(header["inline"], _TEXT_TYPE),
        skipped=header["skipped"],
        assumed_fill=tuple(header["assumed_fill"]),
    )


class _Body:
    """Lays the parts of a body one after another, each at a multiple of 64 bytes."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, NDArray[Any]]] = []
        self.nbytes = 0

    def add(self, column: Column) -> tuple[int, int]:
        """Return where `column` goes: its offset in bytes and its number of items."""
        values = np.ascontiguousarray(column.all())
        offset = _aligned(self.nbytes)
        self.parts.append((offset, values))
        self.nbytes = offset + values.nbytes
        return offset, len(values)

    def write(self, file: BinaryIO, start: int) -> None:
        for offset, values in self.parts:
            file.seek(start + offset)
            file.write(values.data)
        file.truncate(start + self.nbytes)


def write_index(index: Index, path: Path) -> None:
    """Write `index` to `path`: either whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    content, body = index.content, _Body()
    header: dict[str, Any] = {
        "url_ends": body.add(content.urls.ends),
        "url_text": body.add(content.urls.text),
        "groups": {name: dict(attributes) for name, attributes in content.groups.items()},
        "arrays": {name: _array_header(content, name, body) for name in content.arrays},
        "inline": body.add(content.inline),
        "skipped": dict(content.skipped),
        "assumed_fill": list(content.assumed_fill),
    }
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            _write(file, index.version, json.dumps(header).encode(), body)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _array_header(content: IndexContent, name: str, body: _Body) -> dict[str, Any]:
    stored, table = content.arrays[name], content.tables[name]
    return {
        "document": dict(stored.document),
        "attributes": dict(stored.attributes),
        "fill_declared": stored.fill_declared,
        "chunk_grid": table.grid,
        "pencil_axis": table.pencil_axis,
        "parts": {
            "granule": body.add(table.granule),
            "offset": body.add(table.offset),
            "length": body.add(table.length),
        },
    }


def _write(file: BinaryIO, version: str, header: bytes, body: _Body) -> None:
    count = math.ceil(body.nbytes / PAGE)
    checksums_at = _aligned(len(header))
    start = _aligned(_PREAMBLE.size + checksums_at + count * _CHECKSUM_TYPE.itemsize)
    body.write(file, start)
    file.seek(start)
    checksums = np.array([zlib.crc32(file.read(PAGE)) for _ in range(count)], dtype=_CHECKSUM_TYPE)
    rest = header.ljust(checksums_at, b"\0") + checksums.tobytes()
    rest = rest.ljust(start - _PREAMBLE.size, b"\0")
    fields = (MAGIC, FORMAT, PAGE, start + body.nbytes, start, len(header), version.encode("ascii"))
    preamble = _PREAMBLE.pack(*fields, 0)
    file.seek(0)
    file.write(_PREAMBLE.pack(*fields, zlib.crc32(rest, zlib.crc32(preamble[:-4]))))
    file.write(rest)


def _aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT) * ALIGNMENT
