"""Which cell of a grid each pixel of a picture shows, and the least that has to be read for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubegate.query.axis import Axis
from cubegate.query.footprint import Footprint
from cubegate.query.grid import Window, as_slice
from cubegate.query.lattice import Lattice
from cubegate.tiling.places import find_pixels

# cells read for one pixel, beyond which only every n-th is read
MOST_CELLS_A_PIXEL = 4
FEWEST_CELLS = 2**22
# cells between two that are needed, which are read along with them
SMALL_GAP = 8


@dataclass(frozen=True, eq=False)
class Sampling:
    """The cells of one grid that a picture shows.

    Attributes:
        window: what is to be read of the grid.
        inside: the pixels that show a cell of the grid, flat positions, ascending.
        rows, columns: for each of these, where in the window its cell is.
        stride: of how many cells along y and x one is read; (1, 1) where each pixel shows the cell that
            holds its centre.
    """

    window: Window
    inside: NDArray[np.intp]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    stride: tuple[int, int] = (1, 1)

    def gather(self, values: NDArray[np.float64], picture: NDArray[np.float64]) -> None:
        """Put the values of the window, of shape (y, x), into a flat picture."""
        picture[self.inside] = values[self.rows, self.columns]

    def only(self, place: int) -> Sampling:
        """Return the sampling of one of the pixels that are inside, given by its number."""
        row, column = self.indices(place)
        window = Window(slice(column, column + 1), slice(row, row + 1))
        return Sampling(window, np.zeros(1, np.intp), np.zeros(1, np.intp), np.zeros(1, np.intp), self.stride)

    def indices(self, place: int) -> tuple[int, int]:
        """Return the row and the column in the grid of the cell that a pixel shows."""
        y, x = self.window.y, self.window.x
        row, column = int(self.rows[place]), int(self.columns[place])
        return (
            y.start + row if isinstance(y, slice) else int(y[row]),
            x.start + column if isinstance(x, slice) else int(x[column]),
        )


def cell_sizes(footprint: Footprint) -> tuple[float, float]:
    """Return the size of the smallest cell along x and y."""
    grid = footprint.grid
    sizes = [float(np.diff(axis.edges).min()) for axis in (grid.x, grid.y)]
    # one cell of unknown size has none
    return sizes[0] or 1.0, sizes[1] or 1.0


class Pixels:
    """Where the pixels of a lattice lie in the CRS of one grid after the other, found once for each CRS."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._known: tuple[Footprint, NDArray[np.float64], NDArray[np.float64]] | None = None

    def on(self, footprint: Footprint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y, exact to a thousandth of the grid's cells; what was found last is kept."""
        cell = cell_sizes(footprint)
        if self._known is not None:
            before, x, y = self._known
            if before.crs is footprint.crs and np.allclose(cell_sizes(before), cell, rtol=1e-6, atol=0.0):
                return x, y
        self._known = None
        x, y = find_pixels(self.lattice, footprint.crs, cell)
        self._known = footprint, x, y
        return x, y


def sample(
    footprint: Footprint,
    pixels: Pixels,
    left: NDArray[np.bool_] | None = None,
    *,
    within: Footprint | None = None,
) -> Sampling | None:
    """Find the cell that holds the centre of each pixel that is `left`; None where there is none.

    `within` is the grid, in the same CRS, outside of which there is nothing: that of which this is an
    overview, whose last cells may reach beyond it.
    """
    grid = footprint.grid
    lattice = pixels.lattice
    x, y = pixels.on(footprint)
    iy, ix = _cells(grid.y, y), _cells(grid.x, x)
    held = (iy >= 0) & (ix >= 0)
    if within is not None:
        held = held & (_cells(within.grid.y, y) >= 0) & (_cells(within.grid.x, x) >= 0)
    if left is not None:
        held &= left.reshape(held.shape)
    inside = np.flatnonzero(held)
    if not inside.size:
        return None
    iy, ix = (np.broadcast_to(each, held.shape).reshape(-1)[inside] for each in (iy, ix))
    most = max(FEWEST_CELLS, MOST_CELLS_A_PIXEL * lattice.width * lattice.height)
    (rows, at_rows), (columns, at_columns), stride = _bounded(grid.y, iy, grid.x, ix, most)
    return Sampling(Window(as_slice(columns), as_slice(rows)), inside, at_rows, at_columns, stride)


def _cells(axis: Axis, places: NDArray[np.float64]) -> NDArray[np.intp]:
    if places.strides[0] == 0:
        return axis.nearest_of(places[:1])
    if places.strides[1] == 0:
        return axis.nearest_of(places[:, :1])
    # not a number is outside of all cells
    return axis.nearest_of(places)


def _bounded(
    y: Axis, iy: NDArray[np.intp], x: Axis, ix: NDArray[np.intp], most: int
) -> tuple[
    tuple[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[np.intp], NDArray[np.intp]], tuple[int, int]
]:
    """Return the cells to read along each axis and the place of each wanted one in them, `most` in all.

    Where they would be more, as in a low zoom of a grid that is turned, only every n-th is read, n a
    power of two: a pixel then shows a cell that is less than n/2 cells beside its centre.
    """
    step_y = step_x = 1
    while True:
        rows, columns = _needed(iy, len(y.values), step_y), _needed(ix, len(x.values), step_x)
        if len(rows[0]) * len(columns[0]) <= most:
            return rows, columns, (step_y, step_x)
        if len(rows[0]) >= len(columns[0]):
            step_y *= 2
        else:
            step_x *= 2


def _needed(wanted: NDArray[np.intp], size: int, step: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if step > 1:
        wanted = np.minimum(wanted // step * step + step // 2, size - 1)
    marked = np.zeros(size, bool)
    marked[wanted] = True
    cells = np.flatnonzero(marked)
    if step == 1 and np.diff(cells, prepend=cells[0]).max() <= SMALL_GAP:
        first = int(cells[0])
        return np.arange(first, int(cells[-1]) + 1), wanted - first
    place = np.cumsum(marked) - 1
    return cells, place[wanted]
