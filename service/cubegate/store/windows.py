"""What is left behind of the chunks of a series: the pixels around it with all their times."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.store.decoder import OpenChunk, Planes, copy_selected

Pixel = tuple[int, ...]
Region = tuple[slice, ...]


class Window:
    """Decoded values of `region`, a part of all axes but time, at `length` times."""

    def __init__(self, region: Region, length: int, dtype: np.dtype[Any]) -> None:
        self.region = region
        self.dtype = dtype
        self._shape = tuple(part.stop - part.start for part in region)
        self._values = self._allocate(length)

    def _allocate(self, length: int) -> NDArray[Any]:
        return np.empty((length, *self._shape), self.dtype)

    @property
    def nbytes(self) -> int:
        """The size of the values."""
        return self._values.nbytes

    def holds(self, pixel: Pixel) -> bool:
        """Whether `pixel` is in the region."""
        return all(part.start <= p < part.stop for p, part in zip(pixel, self.region, strict=True))

    def fill(self, times: slice, value: Any) -> None:
        """Set all pixels at `times` to `value`."""
        self._values[times] = value

    def take(self, times: slice, axis: int, chunk: OpenChunk, inside: Region) -> None:
        """Copy `chunk[inside]`, whose time axis is `axis`, to `times`."""
        part = self._values[times]
        copy_selected(chunk, inside, part if axis == 0 else np.moveaxis(part, 0, axis))

    def column(self, pixel: Pixel) -> NDArray[Any]:
        """Return the values of `pixel`, which is in the region, at all times."""
        inside = (p - part.start for p, part in zip(pixel, self.region, strict=True))
        return self._values[(slice(None), *inside)]

    def block(self, region: Region) -> bytes:
        """Return the columns of a part of the region, one after another."""
        values = self._values[(slice(None), *self._inside(region))]
        return np.ascontiguousarray(np.moveaxis(values, 0, -1)).tobytes()

    def _inside(self, region: Region) -> Region:
        return tuple(
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(region, self.region, strict=True)
        )


class PlanesWindow(Window):
    """A window over shuffled chunks, which keeps byte planes apart until columns are wanted.

    Copying them as they lie takes one call a chunk, and so lets go of the interpreter once: with
    two threads at it, that is what counts. `dtype` is that of the chunks.
    """

    def _allocate(self, length: int) -> NDArray[Any]:
        return np.empty((length, self.dtype.itemsize, *self._shape), np.uint8)

    def fill(self, times: slice, value: Any) -> None:
        """Set all pixels at `times` to `value`; see `Window`."""
        items = np.full(1, value, self.dtype).view(np.uint8)
        self._values[times] = items.reshape(-1, *[1] * len(self._shape))

    def take(self, times: slice, axis: int, chunk: OpenChunk, inside: Region) -> None:
        """Copy the byte planes of a part of `chunk`; see `Window`."""
        assert isinstance(chunk, Planes)  # noqa: S101 - what the decoder of such arrays opens
        self._values[times] = np.moveaxis(chunk.planes[(slice(None), *inside)], axis + 1, 0)

    def column(self, pixel: Pixel) -> NDArray[Any]:
        """Return the values of `pixel` at all times; see `Window`."""
        inside = (p - part.start for p, part in zip(pixel, self.region, strict=True))
        items = np.ascontiguousarray(self._values[(slice(None), slice(None), *inside)])
        return items.view(self.dtype).reshape(-1)

    def block(self, region: Region) -> bytes:
        """Return the columns of a part of the region; see `Window`."""
        items = self._values[(slice(None), slice(None), *self._inside(region))]
        return np.ascontiguousarray(np.moveaxis(items, (0, 1), (-2, -1))).tobytes()
