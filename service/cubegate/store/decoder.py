"""Turns a chunk's encoded bytes into values, and refuses anything but exactly one chunk."""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import deflate
import numpy as np
import zstandard
from numpy.typing import NDArray

from cubegate.errors import CorruptChunk
from cubegate.index.metadata import ArrayMetadata, CodecsV2
from cubegate.store.codecs import Shuffle, open_steps
from cubegate.store.inflating import Codec, Size

Selection = tuple[Any, ...]

# What the codecs raise on bytes that are not theirs.
DECODING_ERRORS = (
    ValueError, TypeError, RuntimeError, OSError, EOFError, struct.error, zlib.error,
    lzma.LZMAError, deflate.DeflateError, zstandard.ZstdError, ArithmeticError, LookupError,
)  # fmt: skip


class OpenChunk(Protocol):
    """A decoded chunk, or one that is decoded as far as it is selected."""

    def __getitem__(self, selection: Selection, /) -> NDArray[Any]:
        """Select by one slice or integer array (as `numpy.ix_` makes them) a dimension."""
        ...


@dataclass(frozen=True, slots=True)
class Planes:
    """The byte planes of a shuffled chunk: a few pixels cost a few bytes of each."""

    planes: NDArray[np.uint8]
    dtype: np.dtype[Any]

    def __getitem__(self, selection: Selection, /) -> NDArray[Any]:
        picked = self.planes[(slice(None), *selection)]
        values = np.empty(picked.shape[1:], self.dtype)
        _interleave(picked, values)
        return values


def copy_selected(chunk: OpenChunk, selection: Selection, values: NDArray[Any]) -> None:
    """Do `values[:] = chunk[selection]`, of equal shapes, without anything in between where possible."""
    if isinstance(chunk, Planes) and values.dtype == chunk.dtype:
        _interleave(chunk.planes[(slice(None), *selection)], values)
    else:
        values[...] = chunk[selection]


def _interleave(planes: NDArray[np.uint8], values: NDArray[Any]) -> None:
    # Plane by plane: rows are copied as they lie, where one transposing copy would jump about. A
    # further axis of length 1 never makes a copy, so that these are the bytes of `values` itself.
    items = values.reshape(*values.shape, 1).view(np.uint8)
    for number, plane in enumerate(planes):
        items[..., number] = plane


class Decoder:
    """Decodes the chunks of one array; safe to share between threads."""

    def __init__(self, array: ArrayMetadata) -> None:
        self._array = array
        self._shuffled = False
        if isinstance(array.codecs, CodecsV2):
            codecs = array.codecs
            encoding = [*codecs.filters, *([codecs.compressor] if codecs.compressor else [])]
            size = None if array.dtype.hasobject else Size(array.chunk_nbytes)
            self._steps, self._order = open_steps(array, encoding, size), codecs.order
            self._shuffled = codecs.order == "C" and _ends_shuffled(self._steps, array.dtype.itemsize)
        else:
            # it imports zarr, which builds of cubes of byte ranges do without
            from cubegate.store.pipeline_v3 import open_pipeline  # noqa: PLC0415 - see above

            self._order = "C"
            self._steps = open_pipeline(array, array.codecs, lambda inner: Decoder(inner).decode)

    def decode(self, data: bytes | memoryview) -> NDArray[Any]:
        """Return the values of the whole chunk, of the array's `chunk_shape` and dtype.

        Raises:
            CorruptChunk: the bytes are not one chunk.
        """
        try:
            return self._shaped(_run(self._steps, data))
        except DECODING_ERRORS as error:
            raise self._corrupt(type(error).__name__) from None

    @property
    def opens_planes(self) -> bool:
        """Whether `open` gives `Planes`."""
        return self._shuffled

    def open(self, data: bytes) -> OpenChunk:
        """Return the chunk for selecting from, inflated and no more where the codec allows.

        Raises:
            CorruptChunk: the bytes are not one chunk.
        """
        array = self._array
        if not self._shuffled:
            return self.decode(data)
        try:
            planes = np.frombuffer(_run(self._steps[:-1], data), np.uint8)
        except DECODING_ERRORS as error:
            raise self._corrupt(type(error).__name__) from None
        if planes.size != array.chunk_nbytes:
            raise self._corrupt(f"{planes.size} bytes where {array.chunk_nbytes} were due")
        return Planes(planes.reshape(array.dtype.itemsize, *array.chunk_shape), array.dtype)

    def _shaped(self, decoded: Any) -> NDArray[Any]:
        array = self._array
        if array.dtype.hasobject:
            values = np.asarray(decoded, dtype=object).reshape(-1)
            if values.size != math.prod(array.chunk_shape):
                raise self._corrupt(f"{values.size} values")
            return values.reshape(array.chunk_shape, order=self._order)
        raw = (
            np.ascontiguousarray(decoded)
            if isinstance(decoded, np.ndarray)
            else np.frombuffer(decoded, np.uint8)
        )
        if raw.nbytes != array.chunk_nbytes:
            raise self._corrupt(f"{raw.nbytes} bytes where {array.chunk_nbytes} were due")
        return raw.reshape(-1).view(array.dtype).reshape(array.chunk_shape, order=self._order)

    def _corrupt(self, what: str) -> CorruptChunk:
        return CorruptChunk(f"A chunk of array {self._array.path!r} does not decode to one chunk ({what}).")


def decode(array: ArrayMetadata, data: bytes) -> NDArray[Any]:
    """Decode one chunk of `array`; see `Decoder.decode`."""
    return Decoder(array).decode(data)


def _ends_shuffled(steps: list[Codec], itemsize: int) -> bool:
    last = steps[-1] if steps else None
    return isinstance(last, Shuffle) and last.itemsize == itemsize


def _run(steps: list[Codec], data: Any) -> Any:
    for step in steps:
        data = step.decode(data)
    return data
