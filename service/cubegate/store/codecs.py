"""The steps that decode a chunk, each of which knows how much it may give."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from cubegate.index.metadata import ArrayMetadata
from cubegate.index.zarr_v2 import MAX_CHUNK_NBYTES
from cubegate.store.inflating import Codec, Size, open_inflating
from cubegate.store.tiff_codecs import open_tiff_codec

# What the texts of one chunk may take, beside 256 bytes each.
TEXT_NBYTES = 32 * 2**20
_TEXT_ITEM = 256

_CHECKSUMS = ("fletcher32", "crc32", "adler32", "crc32c", "jenkins_lookup3")
_RETYPING = {
    "astype": ("decode_dtype", "encode_dtype"),
    "delta": ("dtype", "astype"),
    "fixedscaleoffset": ("dtype", "astype"),
    "quantize": ("dtype", "astype"),
}


class Shuffle:
    """Undoes the HDF5 byte shuffle with NumPy, which lets other threads run."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize

    def decode(self, data: Any) -> NDArray[np.uint8]:
        """Return the bytes of `data` in the order in which they were before."""
        flat: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        count = flat.size // self.itemsize
        whole = count * self.itemsize
        items = np.ascontiguousarray(flat[:whole].reshape(self.itemsize, count).T).reshape(-1)
        return items if whole == flat.size else np.concatenate([items, flat[whole:]])


class _Crc32c:
    """Checks and strips the checksum that the v3 codec appends."""

    def __init__(self) -> None:
        self._codec = numcodecs.get_codec({"id": "crc32c", "location": "end"})

    def decode(self, data: Any) -> Any:
        return self._codec.decode(data)


class _Arithmetic:
    """A codec of numcodecs that computes values; those that do not fit are as it leaves them."""

    def __init__(self, configuration: Mapping[str, Any], encoded: Size) -> None:
        self._codec, self._encoded = numcodecs.get_codec(dict(configuration)), encoded

    def decode(self, data: Any) -> Any:
        if memoryview(data).nbytes > self._encoded.nbytes:
            raise ValueError("there is more of it than one chunk takes")
        with np.errstate(all="ignore"):
            return self._codec.decode(data)


class _VariableLength:
    """Checks the number of items first: the library allocates as many."""

    def __init__(self, identifier: str, count: int) -> None:
        self._codec, self._count = numcodecs.get_codec({"id": identifier}), count

    def decode(self, data: Any) -> Any:
        (count,) = struct.unpack_from("<I", memoryview(data).cast("B"))
        if count != self._count:
            raise ValueError(f"{count:,} items where {self._count:,} were due")
        return self._codec.decode(data)


class _Json:
    """Reads what numcodecs' `json2` writes: the items, then their type, then their shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def decode(self, data: Any) -> NDArray[Any]:
        *items, kind, shape = json.loads(bytes(data))
        if kind != "|O" or not isinstance(shape, list) or math.prod(shape) != math.prod(self._shape):
            raise ValueError("it is not one chunk of objects")
        for _ in shape[1:]:
            if not all(isinstance(row, list) for row in items):
                raise ValueError("its items are not of the shape that it names")
            items = [item for row in items for item in row]
        if len(items) != math.prod(self._shape):
            raise ValueError(f"{len(items):,} items where {math.prod(self._shape):,} were due")
        values = np.empty(len(items), dtype=object)
        # one by one: a list among them is an item too
        for number, item in enumerate(items):
            values[number] = item
        return values


def text_size(count: int) -> Size:
    """Return how much `count` items of variable length may take."""
    return Size(min(TEXT_NBYTES + _TEXT_ITEM * count, MAX_CHUNK_NBYTES), exact=False)


def open_steps(array: ArrayMetadata, encoding: Sequence[Mapping[str, Any]], size: Size | None) -> list[Codec]:
    """Return the steps that undo `encoding`, numcodecs configurations in encoding order.

    `size` is that of what was encoded, None for objects.
    """
    steps: list[Codec] = []
    for configuration in encoding:
        encoded = _encoded_size(array, configuration, size)
        steps.insert(0, _open(array, configuration, size, encoded))
        size = encoded
    return steps


def _open(array: ArrayMetadata, configuration: Mapping[str, Any], size: Size | None, encoded: Size) -> Codec:
    identifier = configuration["id"]
    count = math.prod(array.chunk_shape)
    if identifier == "shuffle":
        return Shuffle(int(configuration.get("elementsize", 4)))
    if identifier == "crc32c" and "location" not in configuration:
        return _Crc32c()
    given = size or text_size(count)
    codec = _open_text(array, configuration) or open_inflating(configuration, given)
    return codec or open_tiff_codec(configuration, given) or _Arithmetic(configuration, encoded)


def _open_text(array: ArrayMetadata, configuration: Mapping[str, Any]) -> Codec | None:
    identifier = configuration["id"]
    if identifier in ("vlen-utf8", "vlen-bytes"):
        return _VariableLength(identifier, math.prod(array.chunk_shape))
    if identifier == "json2":
        return _Json(array.chunk_shape)
    if identifier == "fill_hdf_strings":
        from kerchunk.codecs import FillStringsCodec  # noqa: PLC0415 - few arrays need it, and it is slow

        parameters = {name: value for name, value in configuration.items() if name != "id"}
        codec: Codec = FillStringsCodec.from_config(parameters)
        return codec
    return None


def _encoded_size(array: ArrayMetadata, configuration: Mapping[str, Any], size: Size | None) -> Size:
    """Return how much a codec gives when it encodes `size`."""
    identifier = configuration["id"]
    if size is None:
        return text_size(math.prod(array.chunk_shape))
    if identifier in ("shuffle", "bitround", "imagecodecs_delta", "imagecodecs_floatpred"):
        return size
    if identifier in _CHECKSUMS:
        return Size(size.nbytes + 4, size.exact)
    if identifier == "packbits":
        return Size(math.ceil(size.nbytes / 8) + 1, size.exact)
    if identifier in _RETYPING:
        before, after = (configuration.get(name) for name in _RETYPING[identifier])
        return Size(size.nbytes // np.dtype(before).itemsize * np.dtype(after or before).itemsize, size.exact)
    # what cannot be compressed becomes a little larger
    return Size(size.nbytes + size.nbytes // 32 + 2**16, exact=False)
