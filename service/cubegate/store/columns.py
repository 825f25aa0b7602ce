"""Decoded time columns: what a series, a small box or a map click needs, without any inflating.

A block is the columns of some neighbouring pixels, each with all its times, one after another.
When a series is read from chunks anyway, the columns around it cost next to nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.cache.cache import ChunkCache, Column
from cubegate.cache.per_loop import PerLoop
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import find_pencil_axis
from cubegate.store.windows import Pixel, Region, Window

# Pixels along each side, halved until the bytes fit too.
BLOCK, BLOCK_NBYTES = 16, 2**18
WINDOW, WINDOW_NBYTES = 64, 2**24
LARGEST_COLUMN = 2**19
MOST_COLUMNS = 1024
MOST_PENDING_NBYTES = 2**26
# the answer that the columns came with goes out first
_DELAY = 0.05


@dataclass(frozen=True)
class ColumnLayout:
    """How the columns of one array are cut into blocks.

    `axis` is the one along time; pixels, blocks, windows and chunk columns are given along the
    other axes, in their order. Blocks begin at the first pixel of a chunk.
    """

    path: str
    axis: int
    length: int
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    chunks: tuple[int, ...]
    block: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The size of one column."""
        return self.length * self.dtype.itemsize

    def place(self, pixel: Pixel) -> tuple[str, int]:
        """Return the block that holds `pixel`, by its name in the array, and its number there."""
        numbers, number = [], 0
        axes = zip(pixel, self.chunks, self.block, self.block_of(pixel), strict=True)
        for position, chunk, side, part in axes:
            column, inside = divmod(position, chunk)
            numbers.append(f"{column}-{inside // side}")
            number = number * (part.stop - part.start) + position - part.start
        return ".".join(numbers), number

    def window_around(self, first: Pixel, last: Pixel) -> Region | None:
        """Return the blocks around the pixels from `first` to `last`, which lie in one chunk column.

        None where they are more than a window.
        """
        region = []
        sides = zip(first, last, self.sizes, self.chunks, self.block, self.window, strict=True)
        for start, stop, size, chunk, block, window in sides:
            origin = start // chunk * chunk
            end = min(origin + chunk, size)
            if stop + 1 - start > window:
                return None
            margin = (window - (stop + 1 - start)) // 2
            low = max(origin, start - margin)
            low -= (low - origin) % block
            high = min(end, max(low + window, stop + 1))
            high = min(end, high + -(high - origin) % block)
            region.append(slice(low, high))
        return tuple(region)

    def block_of(self, pixel: Pixel) -> Region:
        """Return the pixels of the block that holds `pixel`."""
        region = []
        for position, size, chunk, side in zip(pixel, self.sizes, self.chunks, self.block, strict=True):
            origin = position // chunk * chunk
            low = position - (position - origin) % side
            region.append(slice(low, min(low + side, origin + chunk, size)))
        return tuple(region)


def column_layout(array: ArrayMetadata) -> ColumnLayout | None:
    """Return the layout for `array`, None where its columns are not worth keeping."""
    ndim = len(array.shape)
    if ndim < 2 or array.dtype.hasobject or not all(array.shape):
        return None
    axis = find_pencil_axis(array)
    others = [number for number in range(ndim) if number != axis]
    nbytes = array.shape[axis] * array.dtype.itemsize
    if nbytes > LARGEST_COLUMN or array.shape[axis] < 2:
        return None
    chunks = tuple(array.chunk_shape[number] for number in others)
    return ColumnLayout(
        array.path,
        axis,
        array.shape[axis],
        array.dtype.newbyteorder("<"),
        tuple(array.shape[number] for number in others),
        chunks,
        _sides(chunks, BLOCK, BLOCK_NBYTES // nbytes),
        _sides(chunks, WINDOW, WINDOW_NBYTES // nbytes),
    )


def _sides(chunks: Sequence[int], side: int, most: int) -> tuple[int, ...]:
    """Sides along the last two axes, 1 along the others, of at most `most` pixels."""
    while True:
        sides = [1] * max(len(chunks) - 2, 0) + [min(chunk, side) for chunk in chunks[-2:]]
        if math.prod(sides) <= most or side == 1:
            return tuple(sides)
        side //= 2


class ColumnCache:
    """The decoded columns of one cube; `namespace` is its version.

    What was read lately is found at once; cutting it into blocks, and writing these to `cache`,
    is done in the background, by one thread at a time, as far as `MOST_PENDING_NBYTES` allow.
    """

    def __init__(self, cache: ChunkCache, namespace: str) -> None:
        self._cache = cache
        self._namespace = namespace
        self._fresh: dict[str, Window] = {}
        self._pending_nbytes = 0
        self._writes: set[asyncio.Task[None]] = set()
        self._cutting = PerLoop(asyncio.Lock)

    async def get(self, layout: ColumnLayout, pixels: Sequence[Pixel]) -> NDArray[Any] | None:
        """Return the columns of `pixels`, of shape (pixels, times); None unless all are held."""
        values = np.empty((len(pixels), layout.length), layout.dtype)
        wanted: list[tuple[int, Column]] = []
        for row, pixel in enumerate(pixels):
            name, number = layout.place(pixel)
            key = self._key(layout, name)
            window = self._fresh.get(key)
            if window is None:
                wanted.append((row, Column(key, number, layout.nbytes)))
            else:
                values[row] = window.column(pixel)
        if wanted:
            found = await self._cache.get_columns([column for _, column in wanted])
            for (row, _), data in zip(wanted, found, strict=True):
                if data is None:
                    return None
                values[row] = np.frombuffer(data, layout.dtype)
        return values

    def put(self, layout: ColumnLayout, windows: Iterable[Window]) -> None:
        """Keep `windows`, whose regions are made of whole blocks; see the class."""
        for window in windows:
            if self._pending_nbytes + window.nbytes > MOST_PENDING_NBYTES:
                continue
            self._pending_nbytes += window.nbytes
            keys = {self._key(layout, name): region for name, region in _blocks(layout, window.region)}
            self._fresh.update(dict.fromkeys(keys, window))
            write = asyncio.get_running_loop().create_task(self._write(layout, window, keys))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, layout: ColumnLayout, window: Window, keys: dict[str, Region]) -> None:
        try:
            await asyncio.sleep(_DELAY)
            async with self._cutting.get():
                blocks = await asyncio.to_thread(_cut, window, keys)
            self._cache.put_blocks(blocks, layout.nbytes)
        finally:
            self._forget(window, keys)

    def _forget(self, window: Window, keys: Iterable[str]) -> None:
        self._pending_nbytes -= window.nbytes
        for key in keys:
            if self._fresh.get(key) is window:
                del self._fresh[key]

    def _key(self, layout: ColumnLayout, name: str) -> str:
        return f"cubegate:columns:{self._namespace}:{layout.path}:{name}"


def _blocks(layout: ColumnLayout, region: Region) -> Iterable[tuple[str, Region]]:
    starts = [range(part.start, part.stop, side) for part, side in zip(region, layout.block, strict=True)]
    for corner in itertools.product(*starts):
        name, _ = layout.place(corner)
        yield name, layout.block_of(corner)


def _cut(window: Window, keys: dict[str, Region]) -> dict[str, bytes]:
    return {key: window.block(region) for key, region in keys.items()}
