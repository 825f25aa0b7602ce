"""Turns a chunk's encoded bytes into values, and refuses anything but exactly one chunk."""

from __future__ import annotations

import asyncio
import lzma
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import deflate
import numcodecs
import numpy as np
from kerchunk.codecs import FillStringsCodec
from numpy.typing import NDArray
from zarr.core.array import create_codec_pipeline
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata

from cubegate.errors import CorruptChunk
from cubegate.index.metadata import ArrayMetadata, CodecsV2, CodecsV3

Selection = tuple[Any, ...]

BLOSC_HEADER = 16

# What the codecs raise on bytes that are not theirs.
DECODING_ERRORS = (
    ValueError, TypeError, RuntimeError, OSError, EOFError, struct.error, zlib.error,
    lzma.LZMAError, deflate.DeflateError, OverflowError, IndexError,
)  # fmt: skip


class _Codec(Protocol):
    def decode(self, data: Any) -> Any: ...


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


class _Zlib:
    """Inflates with libdeflate, whose output size must be known beforehand and bounds it."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def decode(self, data: Any) -> bytearray:
        inflated: bytearray = deflate.zlib_decompress(data, self._nbytes)
        return inflated


class _Shuffle:
    """Undoes the HDF5 byte shuffle with NumPy, which lets other threads run."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize

    def decode(self, data: Any) -> NDArray[np.uint8]:
        flat: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        count = flat.size // self.itemsize
        whole = count * self.itemsize
        items = np.ascontiguousarray(flat[:whole].reshape(self.itemsize, count).T).reshape(-1)
        return items if whole == flat.size else np.concatenate([items, flat[whole:]])


class _Blosc:
    """Checks the sizes in the header first: the library trusts them and reads past short data."""

    def __init__(self) -> None:
        self._codec = numcodecs.get_codec({"id": "blosc"})

    def decode(self, data: Any) -> Any:
        view = memoryview(data).cast("B")
        if len(view) < BLOSC_HEADER or struct.unpack_from("<I", view, 12)[0] != len(view):
            raise ValueError("the data is not one whole Blosc frame")
        return self._codec.decode(data)


class _Crc32c:
    """Checks and strips the checksum that the v3 codec appends."""

    def __init__(self) -> None:
        self._codec = numcodecs.get_codec({"id": "crc32c", "location": "end"})

    def decode(self, data: Any) -> Any:
        return self._codec.decode(data)


class Decoder:
    """Decodes the chunks of one array; safe to share between threads."""

    def __init__(self, array: ArrayMetadata) -> None:
        self._array = array
        self._shuffled = False
        self._pipeline: _ZarrPipeline | None = None
        if isinstance(array.codecs, CodecsV2):
            self._steps, self._order = _steps_v2(array, array.codecs), array.codecs.order
            self._shuffled = array.codecs.order == "C" and _ends_shuffled(self._steps, array.dtype.itemsize)
        else:
            self._order = "C"
            steps = _steps_v3(array.codecs)
            self._steps = steps or []
            if steps is None:
                self._pipeline = _ZarrPipeline(array)

    def decode(self, data: bytes) -> NDArray[Any]:
        """Return the values of the whole chunk, of the array's `chunk_shape` and dtype.

        Raises:
            CorruptChunk: the bytes are not one chunk.
        """
        try:
            if self._pipeline is not None:
                return self._pipeline.decode(data)
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


def _ends_shuffled(steps: list[_Codec], itemsize: int) -> bool:
    last = steps[-1] if steps else None
    return isinstance(last, _Shuffle) and last.itemsize == itemsize


def _run(steps: list[_Codec], data: Any) -> Any:
    for step in steps:
        data = step.decode(data)
    return data


def _steps_v2(array: ArrayMetadata, codecs: CodecsV2) -> list[_Codec]:
    encoding = [*codecs.filters, *([codecs.compressor] if codecs.compressor else [])]
    sizes = _sizes_before(array, encoding)
    return [
        _numcodec(configuration, nbytes)
        for configuration, nbytes in zip(reversed(encoding), reversed(sizes), strict=True)
    ]


def _sizes_before(array: ArrayMetadata, encoding: list[Mapping[str, Any]]) -> list[int | None]:
    """The byte size of what each codec was given when encoding; None where it is not known."""
    size: int | None = None if array.dtype.hasobject else array.chunk_nbytes
    sizes = []
    for configuration in encoding:
        sizes.append(size)
        if size is None or configuration["id"] == "shuffle":
            continue
        size = size + 4 if configuration["id"] in ("fletcher32", "crc32", "adler32", "crc32c") else None
    return sizes


def _numcodec(configuration: Mapping[str, Any], nbytes: int | None) -> _Codec:
    identifier = configuration["id"]
    if identifier == "zlib" and nbytes:
        return _Zlib(nbytes)
    if identifier == "shuffle":
        return _Shuffle(int(configuration.get("elementsize", 4)))
    if identifier == "blosc":
        return _Blosc()
    if identifier == "fill_hdf_strings":
        of_strings: _Codec = FillStringsCodec.from_config(
            {k: v for k, v in configuration.items() if k != "id"}
        )
        return of_strings
    codec: _Codec = numcodecs.get_codec(dict(configuration))
    return codec


def _steps_v3(codecs: CodecsV3) -> list[_Codec] | None:
    """The steps that undo a pipeline of `bytes` and bytes-to-bytes codecs, None for any other."""
    first, *rest = codecs.codecs
    if first["name"] not in ("bytes", "vlen-utf8", "vlen-bytes"):
        return None
    steps: list[_Codec] = []
    for codec in reversed(rest):
        name, configuration = codec["name"], codec.get("configuration") or {}
        if name == "crc32c":
            steps.append(_Crc32c())
        elif name in ("gzip", "zstd"):
            steps.append(numcodecs.get_codec({"id": name}))
        else:
            steps.append(_numcodec({"id": name.removeprefix("numcodecs."), **configuration}, None))
    if first["name"] != "bytes":
        steps.append(numcodecs.get_codec({"id": first["name"]}))
    return steps


class _ZarrPipeline:
    """Any other v3 pipeline (sharding, transpose, array-to-array codecs) through zarr-python's own."""

    def __init__(self, array: ArrayMetadata) -> None:
        metadata = ArrayV3Metadata.from_dict({**array.document, "attributes": {}})
        self._pipeline = create_codec_pipeline(metadata)
        self._array = array
        self._spec = ArraySpec(
            shape=array.chunk_shape,
            dtype=metadata.data_type,
            fill_value=metadata.fill_value,
            config=ArrayConfig.from_dict({}),
            prototype=default_buffer_prototype(),
        )

    def decode(self, data: bytes) -> NDArray[Any]:
        encoded = self._spec.prototype.buffer.from_bytes(data)
        (decoded,) = asyncio.run(self._pipeline.decode([(encoded, self._spec)]))
        if decoded is None:
            return np.full(self._array.chunk_shape, self._array.fill_value, self._array.dtype)
        values = decoded.as_numpy_array()
        if self._array.dtype.hasobject:
            return np.asarray(values, dtype=object)
        return np.ascontiguousarray(values).astype(self._array.dtype, copy=False)
