"""One read of a few pixels: from decoded columns if all are held, else it leaves some behind."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.index.metadata import ArrayMetadata
from cubegate.store.columns import (
    MOST_COLUMNS,
    ColumnCache,
    ColumnLayout,
    column_layout,
)
from cubegate.store.decoder import OpenChunk
from cubegate.store.selection import OuterSelection, PointSelection
from cubegate.store.windows import Pixel, PlanesWindow, Region, Window

# What one read may leave behind.
MOST_NBYTES = 2**25


class SeriesRead:
    """The pixels of one selection, with the windows around them that reading their chunks fills."""

    def __init__(
        self,
        cache: ColumnCache,
        layout: ColumnLayout,
        array: ArrayMetadata,
        selection: OuterSelection | PointSelection,
        *,
        shuffled: bool,
    ) -> None:
        self._cache, self._layout, self._array, self._selection = cache, layout, array, selection
        self._shuffled = shuffled
        self._pixels = _pixels(layout, selection)
        # by chunk column: the windows in it, and where they are in its chunks
        self._parts: dict[Pixel, list[tuple[Window, Region]]] = {}
        self._complete = False

    @classmethod
    def of(
        cls,
        cache: ColumnCache | None,
        array: ArrayMetadata,
        selection: OuterSelection | PointSelection,
        *,
        shuffled: bool,
    ) -> SeriesRead | None:
        """Return the read of `selection`, None where it is not one of a few pixels of an array with times.

        `shuffled` says that the array's decoder opens chunks as `Planes`.
        """
        layout = None if cache is None else column_layout(array)
        if cache is None or layout is None or not selection.positions_along(layout.axis).size:
            return None
        count = selection.count_across(layout.axis)
        if count is None or not 0 < count <= MOST_COLUMNS:
            return None
        return cls(cache, layout, array, selection, shuffled=shuffled)

    async def from_columns(self) -> NDArray[Any] | None:
        """Return the selected values, None unless all of them are in columns that are held."""
        columns = await self._cache.get(self._layout, self._pixels)
        if columns is None:
            self._open_windows()
            return None
        return self._selected(columns)

    @property
    def is_complete(self) -> bool:
        """Whether the windows will hold everything that is selected."""
        return self._complete

    def from_windows(self) -> NDArray[Any]:
        """Return the selected values; every chunk has been taken, and the windows are complete."""
        columns = np.empty((len(self._pixels), self._layout.length), self._layout.dtype)
        for row, pixel in enumerate(self._pixels):
            window = next(w for w, _ in self._parts[self._column(pixel)] if w.holds(pixel))
            columns[row] = window.column(pixel)
        return self._selected(columns)

    def _selected(self, columns: NDArray[Any]) -> NDArray[Any]:
        times = self._selection.positions_along(self._layout.axis)
        return self._selection.from_columns(columns[:, times], self._layout.axis)

    def _column(self, pixel: Pixel) -> Pixel:
        return tuple(p // chunk for p, chunk in zip(pixel, self._layout.chunks, strict=True))

    def _open_windows(self) -> None:
        """Prepare what is to be left behind: only a read of all times gives whole columns."""
        layout = self._layout
        if self._selection.positions_along(layout.axis).size != layout.length:
            return
        budget = MOST_NBYTES
        for region in self._regions():
            shape = (layout.length, *(part.stop - part.start for part in region))
            budget -= math.prod(shape) * layout.dtype.itemsize
            if budget < 0:
                return
            column = self._column(tuple(part.start for part in region))
            window = self._window(region)
            inside = tuple(
                slice(part.start - number * side, part.stop - number * side)
                for part, number, side in zip(region, column, layout.chunks, strict=True)
            )
            self._parts.setdefault(column, []).append((window, inside))
        self._complete = True

    def _window(self, region: Region) -> Window:
        stored = self._array.dtype
        if self._shuffled and stored == self._layout.dtype:
            return PlanesWindow(region, self._layout.length, stored)
        return Window(region, self._layout.length, self._layout.dtype)

    def _regions(self) -> Sequence[Region]:
        by_column: defaultdict[Pixel, list[Pixel]] = defaultdict(list)
        for pixel in self._pixels:
            by_column[self._column(pixel)].append(pixel)
        regions = []
        for pixels in by_column.values():
            first = tuple(map(min, zip(*pixels, strict=True)))
            last = tuple(map(max, zip(*pixels, strict=True)))
            around = self._layout.window_around(first, last)
            if around is not None:
                regions.append(around)
            else:
                blocks = {str(block): block for block in map(self._layout.block_of, pixels)}
                regions += blocks.values()
        return regions

    def take(self, chunk: tuple[int, ...], values: OpenChunk | None, fill: Any) -> None:
        """Copy what the windows want of one chunk; None is one of nothing but `fill`.

        Called once a chunk, from any thread.
        """
        axis, length = self._layout.axis, self._layout.length
        size = self._array.chunk_shape[axis]
        start = chunk[axis] * size
        stop = min(start + size, length)
        for window, inside in self._parts.get((*chunk[:axis], *chunk[axis + 1 :]), ()):
            if values is None:
                window.fill(slice(start, stop), fill)
            else:
                selection = (*inside[:axis], slice(0, stop - start), *inside[axis:])
                window.take(slice(start, stop), axis, values, selection)

    def keep(self) -> None:
        """Leave the windows behind; every chunk has been taken."""
        parts = itertools.chain.from_iterable(self._parts.values())
        self._cache.put(self._layout, [window for window, _ in parts])


def _pixels(layout: ColumnLayout, selection: OuterSelection | PointSelection) -> list[Pixel]:
    return [tuple(pixel) for pixel in selection.pixels_across(layout.axis).tolist()]
