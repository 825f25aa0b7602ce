"""Decompressors that give no more than a chunk can need, whatever the compressed bytes claim."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import deflate
import numcodecs
import numpy as np
import zstandard
from numpy.typing import NDArray

BLOSC_HEADER = 16

_PIECE = 2**20
_LZMA_MEMORY = 2**28
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RLE, _RESERVED = 1, 3


class Codec(Protocol):
    """Undoes one step of an encoding."""

    def decode(self, data: Any) -> Any:
        """Return what was encoded; raises one of `decoder.DECODING_ERRORS` for what was not."""
        ...


@dataclass(frozen=True, slots=True)
class Size:
    """How many bytes a step has to give: `nbytes` where it is `exact`, else at most so many."""

    nbytes: int
    exact: bool = True


def open_inflating(configuration: Mapping[str, Any], size: Size) -> Codec | None:
    """Return what decompresses to at most `size`, None where `configuration` is no compressor."""
    identifier = configuration["id"]
    if identifier in _BY_SIZE:
        return _BY_SIZE[identifier](size)
    if identifier == "lzma":
        return _Lzma(configuration, size)
    return None


class _Zlib:
    """Inflates with libdeflate where the size is known, which then bounds it."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def decode(self, data: Any) -> bytearray | NDArray[np.uint8]:
        if self._size.exact:
            inflated: bytearray = deflate.zlib_decompress(data, self._size.nbytes)
            return inflated
        return _joined(_pieces(data, zlib.decompressobj), self._size)


class _Gzip:
    def __init__(self, size: Size) -> None:
        self._size = size

    def decode(self, data: Any) -> NDArray[np.uint8]:
        return _joined(_pieces(data, lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)), self._size)


class _Bz2:
    def __init__(self, size: Size) -> None:
        self._size = size

    def decode(self, data: Any) -> NDArray[np.uint8]:
        return _joined(_pieces(data, bz2.BZ2Decompressor), self._size)


class _Lzma:
    def __init__(self, configuration: Mapping[str, Any], size: Size) -> None:
        self._format = configuration.get("format", lzma.FORMAT_XZ)
        self._filters = configuration.get("filters") if self._format == lzma.FORMAT_RAW else None
        self._size = size

    def decode(self, data: Any) -> NDArray[np.uint8]:
        return _joined(_pieces(data, self._open), self._size)

    def _open(self) -> lzma.LZMADecompressor:
        if self._filters is not None:
            return lzma.LZMADecompressor(self._format, filters=self._filters)
        return lzma.LZMADecompressor(self._format, memlimit=_LZMA_MEMORY)


class _Lz4:
    """Checks the size in the header first: the library allocates as much."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._codec = numcodecs.get_codec({"id": "lz4"})

    def decode(self, data: Any) -> Any:
        (nbytes,) = struct.unpack_from("<i", memoryview(data).cast("B"))
        if not 0 <= nbytes <= self._size.nbytes:
            raise _too_large(nbytes, self._size)
        return self._codec.decode(data)


class _Blosc:
    """Checks the sizes in the header first: the library trusts them and reads past short data."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._codec = numcodecs.get_codec({"id": "blosc"})

    def decode(self, data: Any) -> Any:
        view = memoryview(data).cast("B")
        if len(view) < BLOSC_HEADER:
            raise ValueError("the data is not one whole Blosc frame")
        nbytes, _, compressed = struct.unpack_from("<III", view, 4)
        if compressed != len(view):
            raise ValueError("the data is not one whole Blosc frame")
        if nbytes > self._size.nbytes:
            raise _too_large(nbytes, self._size)
        return self._codec.decode(data)


class _Zstd:
    """Checks the size in each frame's header first: the library allocates as much."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def decode(self, data: Any) -> bytes | bytearray:
        frames = list(_zstd_frames(memoryview(data).cast("B")))
        if len(frames) == 1:
            return self._frame(frames[0], self._size.nbytes)
        joined = bytearray()
        for frame in frames:
            joined += self._frame(frame, self._size.nbytes - len(joined))
        return joined

    def _frame(self, frame: memoryview, left: int) -> bytes:
        nbytes = zstandard.get_frame_parameters(frame).content_size
        if nbytes == zstandard.CONTENTSIZE_UNKNOWN:
            # a bound of zero would be none
            return zstandard.ZstdDecompressor().decompress(frame, max_output_size=max(left, 1))
        if nbytes > left:
            raise _too_large(nbytes, self._size)
        return zstandard.ZstdDecompressor().decompress(frame)


_BY_SIZE: Mapping[str, Callable[[Size], Codec]] = {
    "zlib": _Zlib,
    "gzip": _Gzip,
    "bz2": _Bz2,
    "lz4": _Lz4,
    "blosc": _Blosc,
    "zstd": _Zstd,
}


def _pieces(data: Any, open_stream: Callable[[], Any]) -> Iterator[bytes]:
    """Decompress the streams that follow one another in `data`, piece by piece."""
    view, at = memoryview(data).cast("B"), 0
    while at < len(view):
        stream = open_stream()
        while not stream.eof:
            # zlib gives back what it did not come to, the others keep it
            part = getattr(stream, "unconsumed_tail", b"")
            if not part and getattr(stream, "needs_input", True):
                part = view[at : at + _PIECE]
                at += len(part)
            piece = stream.decompress(part, _PIECE)
            if not piece and not part and not stream.eof:
                raise EOFError("the compressed data are cut")
            yield piece
        at -= len(stream.unused_data)


def _joined(pieces: Iterator[bytes], size: Size) -> NDArray[np.uint8]:
    # what nobody writes to takes no memory
    joined, at = np.empty(size.nbytes, np.uint8), 0
    for piece in pieces:
        if at + len(piece) > size.nbytes:
            raise _too_large(at + len(piece), size)
        joined[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return joined[:at]


def _too_large(nbytes: int, size: Size) -> ValueError:
    return ValueError(f"it inflates to {nbytes:,} bytes or more, where {size.nbytes:,} are the most")


def _zstd_frames(data: memoryview) -> Iterator[memoryview]:
    """Yield the frames that follow one another in `data`, by the sizes of their blocks (RFC 8878)."""
    start = 0
    while start < len(data):
        if data[start : start + 4] != _ZSTD_MAGIC:
            raise ValueError("the data is not a Zstandard frame")
        end = start + zstandard.frame_header_size(data[start:])
        last = False
        while not last:
            header = int.from_bytes(data[end : end + 3], "little")
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            end += 3 + (1 if kind == _RLE else size)
            if end > len(data) or kind == _RESERVED:
                raise ValueError("the Zstandard frame is cut or damaged")
        end += 4 * zstandard.get_frame_parameters(data[start:end]).has_checksum
        yield data[start:end]
        start = end
