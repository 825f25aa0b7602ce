"""One axis of a grid: cell centres and the cells around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# what transformations leave of a number that was meant exactly, as a part of a cell
TOLERANCE = 1e-6
MAX_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Axis:
    """Cell centres along one dimension, strictly ascending or descending.

    Attributes:
        name: of the dimension.
        values: the centres, float64, in file order.
        cell: the size of a cell where there is but one; None where it is unknown.
        cyclic: longitudes in degrees, the same again after 360.
        limit: cells end here at the latest (90 for latitudes), None where there is no limit.
        units: as declared, empty where they are not.
        precision: how far stored centres may be from what their author meant (32-bit floats).
    """

    name: str
    values: NDArray[np.float64]
    cell: float | None = None
    limit: float | None = None
    cyclic: bool = False
    units: str = ""
    precision: float = 0.0

    @property
    def slack(self) -> float:
        """How far beyond a bound a number still counts as on it."""
        cell = float(self.edges[1] - self.edges[0])
        return min(max(TOLERANCE * cell, self.precision), MAX_TOLERANCE * cell)

    @property
    def descending(self) -> bool:
        """Whether the centres descend in file order."""
        return bool(self.values[0] > self.values[-1])

    @property
    def regular(self) -> bool:
        """Whether all cells have one size, to a thousandth of it."""
        steps = np.diff(self.values)
        return bool(steps.size == 0 or np.ptp(steps) <= 1e-3 * np.abs(steps).min())

    @property
    def typical_cell(self) -> float | None:
        """The size of a cell, for parts of the axis that have but one centre."""
        return float(np.abs(np.diff(self.values)).min()) if len(self.values) > 1 else self.cell

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """The bounds of the cells, ascending: halfway between centres, extrapolated at both ends."""
        centres = self._ascending
        if len(centres) == 1:
            half = (self.cell or 0.0) / 2
            edges = np.array([centres[0] - half, centres[0] + half])
        else:
            middles = (centres[1:] + centres[:-1]) / 2
            first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
            edges = np.concatenate([[first], middles, [last]])
        return edges if self.limit is None else np.clip(edges, -self.limit, self.limit)

    @property
    def extent(self) -> tuple[float, float]:
        """The outer edges, ascending."""
        return float(self.edges[0]), float(self.edges[-1])

    @property
    def _ascending(self) -> NDArray[np.float64]:
        return self.values[::-1] if self.descending else self.values

    def nearest(self, value: float) -> int | None:
        """Return the index in file order of the cell that holds `value`; None outside of all.

        A value on the edge of two cells belongs to the one of the larger coordinate.
        """
        edges = self.edges
        slack = self.slack
        first, last = self.extent
        if self.cyclic:
            value = first - slack + (value - first + slack) % 360
        if not first - slack <= value <= last + slack:
            return None
        index = int(np.searchsorted(edges, value, side="right")) - 1
        index = min(max(index, 0), len(self.values) - 1)
        return len(self.values) - 1 - index if self.descending else index

    def nearest_of(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return what `nearest` does for each of many finite values, much sooner; -1 outside of all cells."""
        slack = self.slack
        first, last = self.extent
        if self.cyclic:
            values = first - slack + (values - first + slack) % 360
        inside = (values >= first - slack) & (values <= last + slack)
        index = np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self.values) - 1)
        return np.where(inside, len(self.values) - 1 - index if self.descending else index, -1)

    def between(self, low: float, high: float) -> NDArray[np.intp]:
        """Return the indices of the cells whose centre lies from `low` to `high`, along the axis.

        Where the range meets the axis but no centre, that is the one cell around its middle;
        where they don't meet it is empty. Across the seam of a cyclic axis the indices go on
        at its other end (see `unrolled`).
        """
        slack = self.slack
        if not self.cyclic:
            found = np.flatnonzero((self.values >= low - slack) & (self.values <= high + slack))
            return found if found.size else self._middle(low, high)
        if high - low >= 360:
            return np.arange(len(self.values))
        turned = self.unrolled(np.arange(len(self.values)), low - slack)
        found = np.flatnonzero(turned <= high + slack)
        if not found.size:
            shift = 360 * np.floor((low - self.extent[0]) / 360)
            nearby = [self._middle(low - shift - turn, high - shift - turn) for turn in (0, 360)]
            return next((cells for cells in nearby if cells.size), nearby[0])
        if (np.diff(found) == 1).all() and (np.diff(turned[found]) > 0).all() != self.descending:
            return found
        order = np.argsort(turned[found], kind="stable")
        found = found[order[np.concatenate([[True], np.diff(turned[found][order]) > slack])]]
        return np.asarray(found[::-1] if self.descending else found)

    def unrolled(self, indices: NDArray[np.intp], low: float) -> NDArray[np.float64]:
        """Return the centres of cyclic cells as coordinates from `low` up to 360 above it."""
        centres = self.values[indices]
        return np.asarray(centres - 360 * np.floor((centres - low) / 360), float)

    def _middle(self, low: float, high: float) -> NDArray[np.intp]:
        first, last = self.extent
        low, high = max(low, first), min(high, last)
        if low > high:
            return np.zeros(0, np.intp)
        index = self.nearest((low + high) / 2)
        return np.zeros(0, np.intp) if index is None else np.array([index])
