"""What would fit of a query over several cubes that costs too much: found by pricing some."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import CubegateError
from cubegate.query.budget import ATTEMPTS, MARGIN, Limits, Price, first_points, shrink
from cubegate.query.crs import Bounds, name_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import AnyQuery
from cubegate.query.interval import iso, parse_interval

Pricing = Callable[[AnyQuery], Awaitable[Price]]


@dataclasses.dataclass(frozen=True, eq=False)
class Advisor:
    """Names a smaller query that fits.

    Attributes:
        price_of: prices a query.
        times: those of the query, sorted; empty where it has none.
        box: what the query asks for, and its CRS; None for points.
    """

    price_of: Pricing
    limits: Limits
    times: NDArray[Any]
    box: tuple[Bounds, CRS] | None = None

    async def hint(self, query: AnyQuery) -> str:
        """Name a number of points, an interval or a bbox with which `query` would fit."""
        if not isinstance(query, CubeQuery):
            count = await self._fewer_points(query)
            if count:
                return f"Up to {count} of these points at once would fit."
            query = dataclasses.replace(query, points=first_points(query.points, 1))
            interval = await self._shorter(query)
            found = None if interval is None else f"One point at once would fit with datetime={interval}."
            return found or "Ask the operator for higher limits."
        interval = await self._shorter(query)
        if interval is not None:
            return f"It would fit with datetime={interval}."
        box = await self._smaller(query)
        if box is not None:
            return f"It would fit with {box}."
        first = self._interval(1)
        if first is not None:
            box = await self._smaller(dataclasses.replace(query, interval=parse_interval(first)))
            if box is not None:
                return f"It would fit with datetime={first} and {box}."
        return "Ask for a smaller bbox, a shorter datetime, or fewer variables."

    async def _fits(self, query: AnyQuery) -> bool:
        try:
            return (await self.price_of(query)).within(self.limits)
        except CubegateError:
            return False

    async def _fewer_points(self, query: Any) -> int:
        count = len(query.points.x) // 2
        while count and not await self._fits(
            dataclasses.replace(query, points=first_points(query.points, count))
        ):
            count //= 2
        return count

    def _interval(self, count: int) -> str | None:
        if self.times.dtype.kind not in "MO" or len(self.times) < count or count < 1:
            return None
        return f"{iso(self.times[0])}/{iso(self.times[count - 1])}"

    async def _shorter(self, query: AnyQuery) -> str | None:
        try:
            share = (await self.price_of(query)).share(self.limits)
        except CubegateError:
            return None
        count = min(len(self.times) - 1, int(len(self.times) / share * MARGIN))
        while count >= 1:
            text = self._interval(count)
            if text and await self._fits(dataclasses.replace(query, interval=parse_interval(text))):
                return text
            count //= 2
        return None

    async def _smaller(self, query: CubeQuery) -> str | None:
        if self.box is None:
            return None
        bounds, crs = self.box
        name = name_crs(crs)
        if len(name) > 40:
            return None
        scale = 0.7
        for _ in range(ATTEMPTS):
            smaller = shrink(bounds, scale)
            if await self._fits(dataclasses.replace(query, bounds=smaller, crs=crs)):
                return f"bbox={','.join(f'{side:.10g}' for side in smaller)}&bbox-crs={name}"
            scale *= 0.7
        return None


def known_times(times: NDArray[Any]) -> NDArray[Any]:
    """Return sorted times without the missing ones."""
    return times[~np.isnat(times)] if times.dtype.kind == "M" else times
