"""Strain rates at the surface, from the components u along x and v along y of its velocity.

From central differences over the neighbours of each cell, e_xx = du/dx, e_yy = dv/dy and
e_xy = (du/dy + dv/dx) / 2. With a the angle of the flow, tan a = v / u, the components along the flow,
across it, and the shear are (Bindschadler et al. 1996; Alley et al. 2018, J. Glaciol. 64, 321-332)

    longitudinal = e_xx cos2 a + 2 e_xy sin a cos a + e_yy sin2 a
    transverse   = e_xx sin2 a - 2 e_xy sin a cos a + e_yy cos2 a
    shear        = (e_yy - e_xx) sin a cos a + e_xy (cos2 a - sin2 a)

The principal ones (Nye 1959, J. Glaciol. 3, 409-419) are
(e_xx + e_yy) / 2 +- sqrt((e_xx - e_yy)2 / 4 + e_xy2), the first the more extensive. The effective one, the
second invariant for incompressible ice (e_zz = -e_xx - e_yy) without vertical shear, is
sqrt(e_xx2 + e_yy2 + e_xx e_yy + e_xy2).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.derived.array import Input, Positions, TiledArray, in_time, read_all, total
from cubegate.derived.settings import Component
from cubegate.store.bridge import LoopThread
from cubegate.store.reader import ChunkCost

Values = NDArray[Any]

# values that are computed at a time, since many are needed for each
_BLOCK = 2**18


@dataclass(frozen=True, eq=False)
class Cells:
    """The grid of a velocity.

    Attributes:
        x_axis, y_axis: which dimensions of the arrays are x and y.
        x, y: the centres of cells, of shape (nx,) and (ny,), in metres, strictly ascending or descending.
        metres: the unit of length of the velocity, in metres.
    """

    x_axis: int
    y_axis: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    metres: float = 1.0


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """Positions beside those along one axis; `step` from one to the other, NaN at the edge of the grid."""

    before: Positions
    after: Positions
    step: NDArray[np.float64]

    @classmethod
    def of(cls, positions: Positions, centres: NDArray[np.float64]) -> _Neighbours:
        last = len(centres) - 1
        before, after = np.maximum(positions - 1, 0), np.minimum(positions + 1, last)
        inside = (positions > 0) & (positions < last)
        return cls(before, after, np.where(inside, centres[after] - centres[before], np.nan))


class StrainArray(TiledArray):
    """One component of the strain rate; missing where a neighbour is, and at the edge of the grid."""

    def __init__(
        self, inputs: Sequence[Input], component: Component, cells: Cells, bridge: LoopThread
    ) -> None:
        super().__init__(inputs, bridge)
        self._component, self._cells = component, cells

    def cost_of(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `compute`: that of both inputs, with the cells around."""
        read = self._with_margin(positions)
        return total(each.cost(read) for each in self._inputs)

    def _with_margin(self, positions: Sequence[Positions]) -> list[Positions]:
        read = list(positions)
        for axis in (self._cells.x_axis, self._cells.y_axis):
            around = np.concatenate([read[axis] + step for step in (-1, 0, 1)])
            read[axis] = np.unique(np.clip(around, 0, self.shape[axis] - 1))
        return read

    def entire(self, positions: Sequence[Positions]) -> tuple[Collection[int], int]:
        """Return x and y, whose neighbours are needed, and how many values are read of both inputs."""
        axes = (self._cells.x_axis, self._cells.y_axis)
        read = self._with_margin(positions)
        return axes, len(self._inputs) * math.prod(read[axis].size for axis in axes)

    async def compute_tile(self, positions: Sequence[Positions]) -> Values:
        """Return the values at `positions`; both inputs are read with the cells around."""
        read = self._with_margin(positions)
        inputs = await read_all(self._inputs, read)
        axes = (self._cells.y_axis, self._cells.x_axis)
        u, v = (np.moveaxis(each, axes, (-2, -1)) for each in inputs)
        y, x = ((read[axis], positions[axis]) for axis in axes)
        found = await in_time(u.size, lambda: self._over_box(u, v, y, x))
        return np.moveaxis(found, (-2, -1), axes)

    def _over_box(
        self, u: Values, v: Values, y: tuple[Positions, Positions], x: tuple[Positions, Positions]
    ) -> Values:
        """Compute the values of a box, whose inputs end with y and x; each of these is (read, wanted)."""
        columns = _Neighbours.of(x[1], self._cells.x)
        west, middle, east = (np.searchsorted(x[0], each) for each in (columns.before, x[1], columns.after))
        found = np.empty((*u.shape[:-2], y[1].size, x[1].size), self.dtype)
        step = max(1, _BLOCK // max(found[..., :1, :].size, 1))
        for start in range(0, y[1].size, step):
            wanted = y[1][start : start + step]
            rows = _Neighbours.of(wanted, self._cells.y)
            south, here, north = (np.searchsorted(y[0], each) for each in (rows.before, wanted, rows.after))
            stencil = ((here, middle), (here, west), (here, east), (south, middle), (north, middle))
            near_u, near_v = (
                [each[..., line[:, None], column] for line, column in stencil] for each in (u, v)
            )
            block = self._values(near_u, near_v, columns.step, rows.step[:, None])
            found[..., start : start + step, :] = block
        return found

    async def compute_points(self, positions: Sequence[Positions]) -> Values:
        """Return the values at points; both inputs are read there and at the four cells around."""
        x, y = positions[self._cells.x_axis], positions[self._cells.y_axis]
        columns, rows = _Neighbours.of(x, self._cells.x), _Neighbours.of(y, self._cells.y)
        stencil = [np.broadcast_to(each, (5, *each.shape)) for each in positions]
        stencil[self._cells.x_axis] = np.stack([x, columns.before, columns.after, x, x])
        stencil[self._cells.y_axis] = np.stack([y, y, y, rows.before, rows.after])
        u, v = await read_all(self._inputs, stencil, points=True)
        return await in_time(u.size, lambda: self._values(list(u), list(v), columns.step, rows.step))

    def _values(
        self,
        u: Sequence[Values],
        v: Sequence[Values],
        dx: NDArray[np.float64],
        dy: NDArray[np.float64],
    ) -> Values:
        """Compute the values from inputs at the cells and before and after them along x, then along y."""
        scale = self._cells.metres
        with np.errstate(invalid="ignore", over="ignore"):
            xx, vx = (_slope(each[1], each[2], dx) * scale for each in (u, v))
            uy, yy = (_slope(each[3], each[4], dy) * scale for each in (u, v))
            found = strain_rate(self._component, (u[0], v[0]), xx, yy, (uy + vx) / 2)
            missing = np.isnan(u[0]) | np.isnan(v[0])
            return np.asarray(np.where(missing, np.nan, found), self.dtype)


def _slope(before: Values, after: Values, step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((after.astype(np.float64) - before) / step)


def strain_rate(
    component: Component, velocity: tuple[Values, Values], xx: Values, yy: Values, xy: Values
) -> NDArray[np.float64]:
    """Return one component of strain rates, by the formulas of this module.

    Those along and across the flow are missing where there is none.
    """
    if component == "effective":
        return np.asarray(np.sqrt(xx**2 + yy**2 + xx * yy + xy**2))
    if component in ("first-principal", "second-principal"):
        sign = 1 if component == "first-principal" else -1
        return np.asarray((xx + yy) / 2 + sign * np.hypot((xx - yy) / 2, xy))
    u, v = velocity
    along = np.arctan2(v.astype(np.float64), u)
    sine, cosine = np.sin(along), np.cos(along)
    if component == "longitudinal":
        found = xx * cosine**2 + 2 * xy * sine * cosine + yy * sine**2
    elif component == "transverse":
        found = xx * sine**2 - 2 * xy * sine * cosine + yy * cosine**2
    else:
        found = (yy - xx) * sine * cosine + xy * (cosine**2 - sine**2)
    return np.where((u == 0) & (v == 0), np.nan, found)
