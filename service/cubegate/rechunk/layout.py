"""How a rechunked array is cut: its chunks, and the blocks in which it is read and written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cubegate.index.metadata import ArrayMetadata

Purpose = Literal["series", "maps"]
Region = tuple[slice, ...]
Sizes = tuple[int, ...]

# what one read of a client should cost: much less is all requests, much more is all waiting
CHUNK_NBYTES = 2**20
BLOCK_NBYTES = 2**27
# a transposed read of more than this is cheaper by way of a store in between
_READ_AGAIN = 2


@dataclass(frozen=True)
class Layout:
    """The cut of one array.

    Attributes:
        chunks: the unit that clients decode.
        write: what is written at once, whole chunks; with Zarr v3, one shard.
        read: what is read at once, whole chunks of the source.
        between: the chunks of a store in between, for an array that is to be turned; None where what is
            written is read from the source. What is read at once is whole chunks of it, so that
            no two writers meet in one.
    """

    chunks: Sizes
    write: Sizes
    read: Sizes
    between: Sizes | None = None


def lay_out(
    array: ArrayMetadata,
    chunks: Purpose | Mapping[str, int],
    time: str | None,
    *,
    chunk_nbytes: int = CHUNK_NBYTES,
    block_nbytes: int = BLOCK_NBYTES,
) -> Layout:
    """Cut `array` for series or maps, or as `chunks` says by dimension; `time` is the name of its time.

    An array without a time, or without other dimensions, is cut as for maps.
    """
    names = array.dimension_names or ("",) * len(array.shape)
    if not isinstance(chunks, str):
        cut = [chunks.get(name, own) for name, own in zip(names, array.chunk_shape, strict=True)]
        wanted = tuple(max(1, min(size, whole)) for size, whole in zip(cut, array.shape, strict=True))
    else:
        axis = names.index(time) if time in names and len(names) > 1 else None
        wanted = _cut(array, chunks, axis, chunk_nbytes)
    write = _grown(wanted, array.chunk_shape, array, block_nbytes)
    read = _grown(_within(array.chunk_shape, array.shape), wanted, array, block_nbytes)
    again = math.prod(
        math.ceil(min(own, whole) / block)
        for own, whole, block in zip(array.chunk_shape, array.shape, write, strict=True)
        if whole
    )
    if again <= _READ_AGAIN:
        return Layout(wanted, write, read)
    rests = [_resting(*sizes) for sizes in zip(read, write, strict=True)]
    return Layout(wanted, write, tuple(size for size, _ in rests), tuple(chunk for _, chunk in rests))


def regions(shape: Sizes, block: Sizes) -> Iterator[Region]:
    """Yield the parts of `shape` that `block` cuts it into."""
    starts = [range(0, size, step) for size, step in zip(shape, block, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, block, shape, strict=True)
        )


def _cut(array: ArrayMetadata, purpose: Purpose, axis: int | None, nbytes: int) -> Sizes:
    """All times of a small window for series, one time of a large one for maps; other axes one by one."""
    values = max(1, nbytes // array.dtype.itemsize)
    sizes = [1] * len(array.shape)
    if purpose == "series" and axis is not None:
        sizes[axis] = max(1, min(array.shape[axis], values))
        values //= sizes[axis]
    plane = [number for number in range(len(sizes)) if number != axis][-2:]
    # for each axis the power of two that keeps the window about square
    for left, number in zip(range(len(plane), 0, -1), plane, strict=True):
        side = 2 ** int(math.log2(max(1, values)) / left)
        sizes[number] = max(1, min(array.shape[number], side))
        values //= sizes[number]
    return tuple(sizes)


def _resting(read: int, write: int) -> tuple[int, int]:
    """What is read at once along one axis, maybe a little less than `read`, and the chunk to rest in."""
    most = min(read, write)
    divisor = next(size for size in range(most, 0, -1) if read % size == 0)
    # a source chunk that is read twice at its border costs less than very many small chunks
    return (read, divisor) if 2 * divisor >= most else (read // most * most, most)


def _within(sizes: Sizes, shape: Sizes) -> Sizes:
    return tuple(max(1, min(size, whole)) for size, whole in zip(sizes, shape, strict=True))


def _grown(unit: Sizes, other: Sizes, array: ArrayMetadata, nbytes: int) -> Sizes:
    """Whole units that cover a chunk of the `other` cut, as far as `nbytes` allow."""
    counts = [
        math.ceil(max(1, min(size, whole)) / own)
        for own, size, whole in zip(unit, other, array.shape, strict=True)
    ]
    while math.prod(_times(unit, counts)) * array.dtype.itemsize > nbytes and max(counts, default=1) > 1:
        largest = counts.index(max(counts))
        counts[largest] = math.ceil(counts[largest] / 2)
    return _times(unit, counts)


def _times(unit: Sizes, counts: Sequence[int]) -> Sizes:
    return tuple(own * count for own, count in zip(unit, counts, strict=True))
