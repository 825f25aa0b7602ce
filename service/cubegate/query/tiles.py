"""What one cube gives to an area over several: its cells, taken or resampled where they are its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.footprint import Footprint, Owned
from cubegate.query.grid import Window
from cubegate.query.lattice import NEAREST, Lattice
from cubegate.query.merging import Part
from cubegate.query.reproject import Target, as_floats, source_transform, step_of, warp_band


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of an area: the cells `window` of the grid of `footprint`."""

    part: Part
    footprint: Footprint
    window: Window


class Share:
    """The cells of a lattice that a loaded tile owns, those that are `number` in `owned`.

    `places` says where each of the tile's times is among those of the answer.
    """

    def __init__(
        self, tile: Tile, lattice: Lattice, owned: Owned, number: int, places: NDArray[np.intp] | None
    ) -> None:
        self.part = tile.part
        self._lattice = lattice
        self._footprint = tile.footprint
        self._places = np.zeros(1, np.intp) if places is None else places
        # flat cells of the lattice, and the cells of the window that lie there
        self._here = np.flatnonzero(owned.number == number)
        grid = tile.footprint.grid
        self._iy = _within(tile.window.y, len(grid.y.values))[owned.iy[self._here]]
        self._ix = _within(tile.window.x, len(grid.x.values))[owned.ix[self._here]]
        if (self._iy < 0).any() or (self._ix < 0).any():
            raise NotAcceptable("Some cells lie further apart than what was read: ask for a smaller bbox.")

    def fill(self, values: NDArray[Any], name: str, others: Sequence[str], resampling: str) -> None:
        """Write a variable's values into those of the answer, of shape (times, others, cells)."""
        array = self.part.dataset[name]
        selection = self.part.selection
        timed = selection.time is not None and selection.time in array.dims
        array = array.transpose(*([selection.time] if timed else []), *others, selection.y, selection.x)
        places = self._places if timed else np.zeros(1, np.intp)
        source = array.values.reshape(len(places), values.shape[1], *array.shape[-2:])
        if resampling == NEAREST:
            for place, layer in zip(places, source, strict=True):
                values[place][:, self._here] = layer[:, self._iy, self._ix]
        else:
            self._resample(values, places, source, name, resampling)

    def _resample(
        self, values: NDArray[Any], places: NDArray[np.intp], source: NDArray[Any], name: str, resampling: str
    ) -> None:
        if source.dtype.kind not in "iuf":
            raise InvalidParameter(
                "variables",
                f"Variable {name!r} holds {source.dtype} values, which {resampling} cannot reproject.",
                accepted="numbers; others with resampling=nearest",
            )
        row, column = np.divmod(self._here, self._lattice.width)
        rows, columns = _around(row), _around(column)
        target, north_up = self._target(rows, columns, resampling)
        inside = row - rows.start, column - columns.start
        for place, layer in zip(places, source, strict=True):
            for other, band in enumerate(layer):
                warped = warp_band(as_floats(name, band[north_up]), np.nan, target)
                values[place, other, self._here] = warped[inside]

    def _target(self, rows: slice, columns: slice, resampling: str) -> tuple[Target, tuple[slice, slice]]:
        """What the window is reprojected to, and how its bands are turned north up before."""
        selection, grid = self.part.selection, self._footprint.grid
        x, y = (_centres(selection.dataset, name) for name in (selection.x, selection.y))
        source = source_transform(x, y, (step_of(grid.x), step_of(grid.y)))
        target = self._lattice.target(self._footprint.crs, source, rows, columns, resampling)
        return target, (_turned(not y[0] < y[-1]), _turned(not x[0] > x[-1]))


def _centres(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    return dataset[name].values.astype(np.float64)


def _turned(as_it_is: bool) -> slice:
    return slice(None) if as_it_is else slice(None, None, -1)


def _around(numbers: NDArray[np.intp]) -> slice:
    return slice(int(numbers.min()), int(numbers.max()) + 1)


def _within(window: slice | NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """For each cell of an axis its place in a window, -1 outside."""
    found = np.full(size, -1, np.intp)
    cells = np.arange(size)[window]
    found[cells] = np.arange(len(cells))
    return found
