"""Undoes what TIFF does to tiles and no Zarr client can undo: LZW, and the predictors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.store.inflating import Codec, Size

_TAG = struct.Struct("<HHII")
_SHORT, _LONG, _DOUBLE = 3, 4, 12
_LZW = 5


def open_tiff_codec(configuration: Mapping[str, Any], size: Size) -> Codec | None:
    """Return what undoes a codec as imagecodecs names it, None where `configuration` is of another one."""
    identifier = configuration["id"]
    if identifier == "imagecodecs_lzw":
        return _Lzw(size)
    if identifier == "imagecodecs_delta":
        return _Delta(configuration)
    if identifier == "imagecodecs_floatpred":
        return _FloatPredictor(configuration)
    return None


class _Lzw:
    """Lets GDAL decode: a TIFF in memory with one strip, which are the compressed bytes."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def decode(self, data: Any) -> NDArray[np.uint8]:
        # half a second of import, for those alone who read such files
        from rasterio.io import MemoryFile  # noqa: PLC0415

        compressed = bytes(data)
        if not compressed or not self._size.exact:
            # GDAL takes an empty strip for one that was never written
            raise ValueError("there is nothing to decode, or nobody knows how much it should be")
        file = _one_strip(self._size.nbytes, len(compressed)) + compressed
        with MemoryFile(file, ext=".tif") as memory, memory.open(driver="GTiff") as dataset:
            decoded: NDArray[np.uint8] = dataset.read(1)
        return decoded.reshape(-1)


def _one_strip(nbytes: int, compressed: int) -> bytes:
    """Return the front of a TIFF of one row of `nbytes` bytes, behind which its strip is to follow."""
    # with a grid, as GDAL warns of a file without one
    grid = struct.pack("<9d", 1, 1, 0, 0, 0, 0, 1, 1, 0)
    count = 11
    behind = 8 + 2 + count * _TAG.size + 4
    tags = [
        (256, _LONG, 1, nbytes),
        (257, _LONG, 1, 1),
        (258, _SHORT, 1, 8),
        (259, _SHORT, 1, _LZW),
        (262, _SHORT, 1, 1),
        (273, _LONG, 1, behind + len(grid)),
        (277, _SHORT, 1, 1),
        (278, _LONG, 1, 1),
        (279, _LONG, 1, compressed),
        (33550, _DOUBLE, 3, behind),
        (33922, _DOUBLE, 6, behind + 24),
    ]
    entries = b"".join(_TAG.pack(*tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4) + grid


class _Delta:
    """Undoes horizontal differencing, which for floats too is done on their bits as whole numbers."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self._shape, self._axis = tuple(configuration["shape"]), configuration["axis"]
        dtype = np.dtype(configuration["dtype"])
        self._dtype = np.dtype(f"{dtype.str[0]}u{dtype.itemsize}")

    def decode(self, data: Any) -> NDArray[Any]:
        stored = _flat(data).view(self._dtype).reshape(self._shape)
        native = self._dtype.newbyteorder("=")
        summed = np.cumsum(stored, axis=self._axis, dtype=native)
        return summed.astype(self._dtype, copy=False)


class _FloatPredictor:
    """Undoes TIFF's predictor 3: bytes of one significance lie together in a row, as differences."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self._shape = tuple(configuration["shape"])
        self._dtype = np.dtype(configuration["dtype"])

    def decode(self, data: Any) -> NDArray[Any]:
        rows, columns, *samples = self._shape
        count, itemsize = int(np.prod(samples, dtype=np.int64)), self._dtype.itemsize
        rows_of_bytes = _flat(data).reshape(rows, columns * itemsize, count)
        summed = np.cumsum(rows_of_bytes, axis=1, dtype=np.uint8)
        planes = summed.reshape(rows, itemsize, columns * count)
        # the most significant byte comes first, whatever the byte order of the file
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{itemsize}")
        return values.reshape(self._shape).astype(self._dtype, copy=False)


def _flat(data: Any) -> NDArray[np.uint8]:
    array = np.ascontiguousarray(data) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    return array.reshape(-1).view(np.uint8)
