"""Speed and direction of a velocity that is stored as its components along x and y.

With the components u along x and v along y, the speed is hypot(u, v), and the direction is atan2(u, v):
an azimuth in degrees, clockwise from the direction in which y grows (grid north), from 0 up to 360. A
velocity of zero has no direction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.derived.array import Input, Positions, TiledArray, in_time, read_all, total
from cubegate.store.bridge import LoopThread
from cubegate.store.reader import ChunkCost

Values = NDArray[Any]


class CellwiseArray(TiledArray):
    """What `function` makes of two inputs of one shape, each value of those at the same place."""

    def __init__(
        self, inputs: Sequence[Input], function: Callable[[Values, Values], Values], bridge: LoopThread
    ) -> None:
        super().__init__(inputs, bridge)
        self._function = function

    def cost_of(self, positions: Sequence[Positions]) -> ChunkCost:
        """Return the price of `compute`: that of both inputs."""
        return total(each.cost(positions) for each in self._inputs)

    def entire(self, positions: Sequence[Positions]) -> tuple[Collection[int], int]:  # noqa: ARG002
        """Return no axis, and the number of inputs."""
        return (), len(self._inputs)

    async def compute_tile(self, positions: Sequence[Positions]) -> Values:
        """Return the values at `positions`."""
        return await self._computed(*await read_all(self._inputs, positions))

    async def compute_points(self, positions: Sequence[Positions]) -> Values:
        """Return the values at points."""
        return await self._computed(*await read_all(self._inputs, positions, points=True))

    async def _computed(self, x: Values, y: Values) -> Values:
        return await in_time(x.size, lambda: np.asarray(self._function(x, y), self.dtype))


def speed(x: Values, y: Values) -> Values:
    """Return the length of the vectors with these components."""
    return np.asarray(np.hypot(x, y))


def direction(x: Values, y: Values) -> Values:
    """Return the azimuth of the vectors with these components: degrees from grid north, clockwise."""
    degrees = np.degrees(np.arctan2(x, y)) % 360
    # the remainder of what is a little below 0 rounds to 360
    return np.where((x == 0) & (y == 0), np.nan, np.where(degrees >= 360, 0, degrees))
