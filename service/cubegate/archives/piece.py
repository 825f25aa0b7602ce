"""One file of a pile: its index, and the values of its small arrays."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkSource
from cubegate.index.index import Index
from cubegate.index.location import Inlined, Stored
from cubegate.index.metadata import ArrayMetadata
from cubegate.store.decoder import decode

SMALL_NBYTES = 2**22
_TINY_NBYTES = 2**16


@dataclass
class Piece:
    """One file: its name, its index, and the values that were read of it, by path."""

    name: str
    index: Index
    values: dict[str, NDArray[Any]] = field(default_factory=dict)

    def array(self, path: str) -> ArrayMetadata | None:
        """Return the metadata of an array, None where the file has none of that path."""
        return self.index.hierarchy.arrays.get(path)

    def has_dimension(self, dimension: str) -> bool:
        """Whether an array of the file has `dimension`."""
        arrays = self.index.hierarchy.arrays.values()
        return any(dimension in (array.dimension_names or ()) for array in arrays)

    async def read_small(self, dimension: str, source: ChunkSource) -> None:
        """Read the arrays of at most 4 MiB whose values joining along `dimension` needs.

        These are those of up to one dimension, and where there is such a dimension at all, those without it
        and those whose chunks do not end where the file ends.

        Raises:
            UpstreamError: one cannot be read or decoded.
        """
        joined = self.has_dimension(dimension)
        for path, array in self.index.hierarchy.arrays.items():
            if is_small(array) and (len(array.shape) < 2 or (joined and _is_needed(array, dimension))):
                self.values[path] = await _read(self.index, array, source)


def is_small(array: ArrayMetadata) -> bool:
    """Whether the values of `array` are few enough to be compared and copied."""
    return math.prod(array.shape) * array.dtype.itemsize <= SMALL_NBYTES


def _is_needed(array: ArrayMetadata, dimension: str) -> bool:
    names = array.dimension_names or ()
    if dimension not in names:
        return True
    axis = names.index(dimension)
    # tiny ones too, since other files may need a copy of theirs
    tiny = math.prod(array.shape) * array.dtype.itemsize <= _TINY_NBYTES
    return tiny or array.shape[axis] % array.chunk_shape[axis] != 0


async def _read(index: Index, array: ArrayMetadata, source: ChunkSource) -> NDArray[Any]:
    values = np.empty(array.shape, array.dtype)
    if array.dtype.kind == "O":
        values[...] = array.fill_value or ""
    else:
        values[...] = np.zeros((), array.dtype) if array.fill_value is None else array.fill_value
    chunks = list(itertools.product(*map(range, array.chunk_grid)))
    for chunk, location in zip(chunks, index.locate(array, chunks), strict=True):
        if isinstance(location, Inlined):
            data = location.data
        elif isinstance(location, Stored):
            data = await source.get(location.reference)
        else:
            continue
        sizes = zip(chunk, array.chunk_shape, strict=True)
        place: tuple[Any, ...] = tuple(slice(at * size, (at + 1) * size) for at, size in sizes)
        # the ellipsis keeps an array of an array without dimensions
        part = values[(*place, ...)]
        part[...] = decode(array, data)[tuple(slice(0, size) for size in part.shape)]
    return values
