"""Reads the image file directories of a TIFF, classic or BigTIFF, by few and bounded ranges."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import InvalidReference

NEW_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
)
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTE_COUNTS = 317, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, PIXEL_SCALE, TIE_POINT, TRANSFORMATION = 338, 339, 33550, 33922, 34264
GEO_KEYS, GEO_DOUBLES, GEO_TEXT, GDAL_METADATA, GDAL_NODATA = 34735, 34736, 34737, 42112, 42113
_WANTED = frozenset(
    {
        NEW_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER,
        STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, PLANAR,
        PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTE_COUNTS,
        EXTRA_SAMPLES, SAMPLE_FORMAT, PIXEL_SCALE, TIE_POINT, TRANSFORMATION,
        GEO_KEYS, GEO_DOUBLES, GEO_TEXT, GDAL_METADATA, GDAL_NODATA,
    }
)  # fmt: skip
_LARGE = frozenset({STRIP_OFFSETS, STRIP_BYTE_COUNTS, TILE_OFFSETS, TILE_BYTE_COUNTS})
_TYPES = {
    1: "u1", 2: "S1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 11: "f4", 12: "f8",
    13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_BLOCK = 2**16
_MAX_RANGES = 256
_MAX_FETCHED = 2**28
_MAX_DIRECTORIES = 64
_MAX_ENTRIES = 2**12
_MAX_TABLE_NBYTES = 2**27
_MAX_TAG_NBYTES = 2**21

Values = NDArray[Any]


@dataclass(frozen=True)
class Directory:
    """The tags of one image that say how it is stored and where it lies, by number.

    Each has its values in an array of one dimension, in the byte order of this machine; text is bytes.
    """

    tags: Mapping[int, Values]

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole numbers of a tag.

        Raises:
            InvalidReference: it holds something else.
        """
        values = self.tags.get(tag)
        if values is None:
            return default
        if values.dtype.kind not in "iu":
            raise InvalidReference(f"its tag {tag} does not hold whole numbers")
        return tuple(values.tolist())

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the only number of a tag.

        Raises:
            InvalidReference: there is none, or there are more.
        """
        values = self.numbers(tag, () if default is None else (default,))
        if len(values) != 1:
            raise InvalidReference(f"its tag {tag} holds {len(values)} numbers, not one")
        return values[0]

    def text(self, tag: int) -> str | None:
        """Return the text of a tag up to its first zero byte, None where there is none."""
        values = self.tags.get(tag)
        return None if values is None else values.tobytes().partition(b"\0")[0].decode("latin-1").strip()


@dataclass(frozen=True)
class TiffFile:
    """The directories of a TIFF of `nbytes`, in their order; `byte_order` is "<" or ">".

    `validator` is what the file was known by when they were read; see `ChunkReference`.
    """

    url: str
    nbytes: int
    validator: str | None
    byte_order: str
    directories: tuple[Directory, ...]


async def read_tiff(url: str, source: ObjectSource) -> TiffFile:
    """Read the directories of the TIFF at `url`; none of its pixels.

    Raises:
        InvalidReference: it is no TIFF, or a damaged or hostile one; the message does not name it.
        UpstreamError: it cannot be read.
    """
    state = await source.stat(url)
    if state.nbytes is None:
        raise InvalidReference("its size is not told by the upstream, so nothing of it can be checked")
    ranges = _Ranges(url, source, state.nbytes, state.validator)
    head = await ranges.read(0, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise InvalidReference("it is no TIFF")
    layout, at = await _first_directory(ranges, head, order)
    directories: list[Directory] = []
    seen: set[int] = set()
    while at:
        if at in seen:
            raise InvalidReference("its image file directories form a loop")
        if len(directories) >= _MAX_DIRECTORIES:
            raise InvalidReference(f"it has more than {_MAX_DIRECTORIES} image file directories")
        seen.add(at)
        directory, at = await _read_directory(ranges, layout, at)
        directories.append(directory)
    if not directories:
        raise InvalidReference("it holds no image")
    return TiffFile(url, state.nbytes, state.validator, order, tuple(directories))


async def _first_directory(ranges: _Ranges, head: bytes, order: str) -> tuple[_Layout, int]:
    version, offset_size, _ = struct.unpack(f"{order}HHH", head[2:])
    if version == 42:
        return _Layout(order, "H", "I"), struct.unpack(f"{order}I", head[4:])[0]
    if version == 43 and offset_size == 8:
        return _Layout(order, "Q", "Q"), struct.unpack(f"{order}Q", await ranges.read(8, 8))[0]
    raise InvalidReference("it is neither a classic TIFF nor a BigTIFF")


@dataclass(frozen=True)
class _Layout:
    """How numbers are written: `count` is that of entries, `offset` all others, in the terms of `struct`."""

    order: str
    count: str
    offset: str

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.offset}")

    @property
    def pointer(self) -> struct.Struct:
        return struct.Struct(f"{self.order}{self.offset}")


async def _read_directory(ranges: _Ranges, layout: _Layout, at: int) -> tuple[Directory, int]:
    """Return the directory at an offset, and the offset of the next one, 0 where there is none."""
    number = struct.Struct(f"{layout.order}{layout.count}")
    (count,) = number.unpack(await ranges.read(at, number.size))
    if not 0 < count <= _MAX_ENTRIES:
        raise InvalidReference(f"an image file directory has {count:,} entries")
    size = layout.entry.size + layout.pointer.size
    body = await ranges.read(at + number.size, count * size + layout.pointer.size)
    tags: dict[int, Values] = {}
    for start in range(0, count * size, size):
        tag, kind, length = layout.entry.unpack_from(body, start)
        if tag not in _WANTED:
            continue
        if tag in tags:
            raise InvalidReference(f"an image file directory holds tag {tag} twice")
        value = body[start + layout.entry.size : start + size]
        tags[tag] = await _read_values(ranges, layout, (tag, kind, length), value)
    (following,) = layout.pointer.unpack_from(body, count * size)
    return Directory(tags), following


async def _read_values(ranges: _Ranges, layout: _Layout, entry: tuple[int, int, int], value: bytes) -> Values:
    tag, kind, count = entry
    if kind not in _TYPES:
        raise InvalidReference(f"its tag {tag} is of type {kind}, which such a tag cannot have")
    dtype = np.dtype(f"{layout.order}{_TYPES[kind]}")
    nbytes = count * dtype.itemsize
    if nbytes > (_MAX_TABLE_NBYTES if tag in _LARGE else _MAX_TAG_NBYTES):
        raise InvalidReference(f"its tag {tag} takes {nbytes:,} bytes")
    if nbytes <= len(value):
        data = value[:nbytes]
    else:
        (offset,) = layout.pointer.unpack(value)
        data = await ranges.read(offset, nbytes)
    values = np.frombuffer(data, dtype)
    return values.astype(dtype.newbyteorder("="))


class _Ranges:
    """Fetches parts of a file, at least a block at a time, and keeps them; bounded in number and size."""

    def __init__(self, url: str, source: ObjectSource, nbytes: int, validator: str | None) -> None:
        self._url, self._source, self._nbytes, self._validator = url, source, nbytes, validator
        self._fetched: list[tuple[int, bytes]] = []
        self._total = 0

    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            InvalidReference: the file has no such bytes, or it took too much to get here.
        """
        if offset + length > self._nbytes:
            raise InvalidReference(
                f"it names bytes up to {offset + length:,} and has {self._nbytes:,}: it is cut, or damaged"
            )
        for start, data in self._fetched:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        wanted = min(max(length, _BLOCK), self._nbytes - offset)
        self._total += wanted
        if len(self._fetched) >= _MAX_RANGES or self._total > _MAX_FETCHED:
            raise InvalidReference("its directories are spread too widely, or too large")
        data = await self._source.get(ChunkReference(self._url, offset, wanted, self._validator))
        self._fetched.append((offset, data))
        return data[:length]
