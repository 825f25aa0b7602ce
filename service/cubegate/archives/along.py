"""Arrays that a build makes itself: one value a granule, held in the index."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubegate.index.content import StoredArray

_EPOCH = "1970-01-01T00:00:00"
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


# Dates that are added later go into the same chunk, or into one behind it. So whoever holds the metadata from
# before reads what it says, from the same keys.
_CHUNK = 4096


class NewArray(NamedTuple):
    """The documents of an array of one dimension, and the bytes of its only chunk."""

    stored: StoredArray
    data: bytes


def time_array(times: NDArray[np.datetime64], dimension: str) -> NewArray:
    """Return `times`, datetime64[ns], as whole numbers of the coarsest unit that keeps them exactly."""
    unit = next(unit for unit in _UNITS if (times.astype(f"M8[{unit}]") == times).all())
    values = times.astype(f"M8[{unit}]").astype("<i8")
    attributes = {"units": f"{_UNITS[unit]} since {_EPOCH}", "calendar": "proleptic_gregorian"}
    return scalar_array(values, attributes, dimension)


def scalar_array(values: NDArray[Any], attributes: Mapping[str, Any], dimension: str) -> NewArray:
    """Return `values`, numbers of shape (n,), as an array along `dimension`."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    document = {
        "zarr_format": 2,
        "shape": [len(values)],
        "chunks": [max(len(values), 1)],
        "dtype": little.dtype.str,
        "compressor": None,
        "filters": None,
        "fill_value": None,
        "order": "C",
    }
    named = {**attributes, "_ARRAY_DIMENSIONS": [dimension]}
    return NewArray(StoredArray(document, named), little.tobytes())


def growing(made: NewArray) -> tuple[StoredArray, list[bytes]]:
    """Return an array of one dimension in chunks that stay what they are when it grows, and their bytes."""
    document = made.stored.document
    compressor = {"id": "zlib", "level": 1}
    stored = StoredArray({**document, "chunks": [_CHUNK], "compressor": compressor}, made.stored.attributes)
    size = _CHUNK * np.dtype(document["dtype"]).itemsize
    chunks = [made.data[start : start + size] for start in range(0, max(len(made.data), 1), size)]
    return stored, [zlib.compress(chunk.ljust(size, b"\0"), 1) for chunk in chunks]
