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

from cubegate.index.content import IndexContent, StoredArray
from cubegate.index.documents import measure, split_key
from cubegate.index.index import Index
from cubegate.index.pages import ALIGNMENT, PAGE, Pages, corrupt
from cubegate.index.table import (
    CRC32_TYPE,
    GRANULE_TYPE,
    LENGTH_TYPE,
    OFFSET_TYPE,
    ChunkTable,
    Column,
    TextTable,
)
from cubegate.index.zarr_v2 import MALFORMED

MAGIC = b"cubegate"
# the first has neither checksums of chunks nor validators, and is still written where there are none
FORMATS = (1, 2)

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


def open_index(path: Path) -> Index:
    """Map the index file at `path`; reads its head only.

    Raises:
        CorruptIndex: it is not an index file, of a later format, cut, or damaged in its head.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = _read_head(file, path)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pages = Pages(data, path, body=head.body, nbytes=head.nbytes, checksums=head.checksums)
    try:
        _check_header(head.header)
        content = _read_content(head.header, pages)
    except (*MALFORMED, RecursionError) as error:
        raise corrupt(path, f"has a header that cannot be read ({type(error).__name__})") from error
    return Index(content, version=head.version)


def read_version(path: Path) -> str:
    """Return the version of the index file at `path`; reads its head only.

    Raises:
        CorruptIndex: as `open_index` does.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        return _read_head(file, path).version


def _read_head(file: BinaryIO, path: Path) -> _Head:
    nbytes = os.fstat(file.fileno()).st_size
    preamble = file.read(_PREAMBLE.size)
    if not preamble.startswith(MAGIC):
        raise corrupt(path, "is not an index file" if preamble else "is empty")
    if len(preamble) < _PREAMBLE.size:
        raise corrupt(path, "is cut")
    _, format_, page, expected_nbytes, body, header_nbytes, version, checksum = _PREAMBLE.unpack(preamble)
    if format_ not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise corrupt(path, f"has format {format_}, and this cubegate reads formats {known}")
    if nbytes != expected_nbytes:
        raise corrupt(path, f"has {nbytes:,} bytes instead of {expected_nbytes:,}")
    if not _PREAMBLE.size + header_nbytes <= body <= nbytes:
        raise corrupt(path, "is damaged in its head")
    rest = file.read(body - _PREAMBLE.size)
    if zlib.crc32(rest, zlib.crc32(preamble[:-4])) != checksum or page != PAGE:
        raise corrupt(path, "is damaged in its head")
    checksums = _checksums_in(rest[_aligned(header_nbytes) :], nbytes - body, path)
    try:
        header = json.loads(rest[:header_nbytes])
        return _Head(version.decode("ascii"), header, checksums, body, nbytes)
    except (ValueError, RecursionError):
        raise corrupt(path, "is damaged in its head") from None


def _checksums_in(data: bytes, body_nbytes: int, path: Path) -> NDArray[np.uint32]:
    count = math.ceil(body_nbytes / PAGE)
    if len(data) < count * _CHECKSUM_TYPE.itemsize:
        raise corrupt(path, "is damaged in its head")
    return np.frombuffer(data, dtype=_CHECKSUM_TYPE, count=count)


def _check_header(header: Any) -> None:
    """Refuse what no cubegate writes: a file may come from anywhere.

    Raises:
        TypeError: a part is of another type.
        InvalidReference: it is nested too deep, or names a path that cannot be.
    """
    measure(header, "header")
    arrays, groups, skipped = header["arrays"], header["groups"], header["skipped"]
    objects = [arrays, groups, skipped, *groups.values(), *arrays.values()]
    objects += [entry[key] for entry in arrays.values() for key in ("document", "attributes")]
    if not all(isinstance(one, dict) for one in objects):
        raise TypeError("what should be an object is none")
    texts = [*skipped.values(), *header["assumed_fill"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("what should be a text is none")
    for path in {*arrays, *groups, *skipped} - {""}:
        split_key(f"{path}/")


def _read_content(header: Mapping[str, Any], pages: Pages) -> IndexContent:
    tables = {}
    arrays = {}
    for path, entry in header["arrays"].items():
        arrays[path] = StoredArray(entry["document"], entry["attributes"], entry["fill_declared"])
        parts = entry["parts"]
        tables[path] = ChunkTable(
            tuple(int(number) for number in entry["chunk_grid"]),
            int(entry["pencil_axis"]),
            pages.column(parts["granule"], GRANULE_TYPE),
            pages.column(parts["offset"], OFFSET_TYPE),
            pages.column(parts["length"], LENGTH_TYPE),
            pages.column(parts["crc32"], CRC32_TYPE) if "crc32" in parts else None,
        )
    return IndexContent(
        groups=header["groups"],
        arrays=arrays,
        tables=tables,
        urls=_read_texts(header, "url", pages),
        validators=_read_texts(header, "validator", pages) if "validator_ends" in header else None,
        inline=pages.column(header["inline"], _TEXT_TYPE),
        skipped=header["skipped"],
        assumed_fill=tuple(header["assumed_fill"]),
    )


def _read_texts(header: Mapping[str, Any], name: str, pages: Pages) -> TextTable:
    ends, text = header[f"{name}_ends"], header[f"{name}_text"]
    return TextTable(pages.column(ends, OFFSET_TYPE), pages.column(text, _TEXT_TYPE))


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
    if content.validators is not None:
        header["validator_ends"] = body.add(content.validators.ends)
        header["validator_text"] = body.add(content.validators.text)
    checksums = any(table.crc32 is not None for table in content.tables.values())
    format_ = 2 if checksums or content.validators is not None else 1
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            _write(file, format_, index.version, json.dumps(header).encode(), body)
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
            name: body.add(column)
            for name, column in zip(("granule", "offset", "length", "crc32"), table.columns, strict=False)
        },
    }


def _write(file: BinaryIO, format_: int, version: str, header: bytes, body: _Body) -> None:
    count = math.ceil(body.nbytes / PAGE)
    checksums_at = _aligned(len(header))
    start = _aligned(_PREAMBLE.size + checksums_at + count * _CHECKSUM_TYPE.itemsize)
    body.write(file, start)
    file.seek(start)
    checksums = np.array([zlib.crc32(file.read(PAGE)) for _ in range(count)], dtype=_CHECKSUM_TYPE)
    rest = header.ljust(checksums_at, b"\0") + checksums.tobytes()
    rest = rest.ljust(start - _PREAMBLE.size, b"\0")
    fields = (MAGIC, format_, PAGE, start + body.nbytes, start, len(header), version.encode("ascii"))
    preamble = _PREAMBLE.pack(*fields, 0)
    file.seek(0)
    file.write(_PREAMBLE.pack(*fields, zlib.crc32(rest, zlib.crc32(preamble[:-4]))))
    file.write(rest)


def _aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT) * ALIGNMENT
