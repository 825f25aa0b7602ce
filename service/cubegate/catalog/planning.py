"""Makes the queries of several members ready, such that their answers go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.catalog.advice import known_times
from cubegate.catalog.members import Member
from cubegate.errors import InvalidParameter
from cubegate.query.bounds import find_window
from cubegate.query.budget import Limits, Plan, Price, price
from cubegate.query.crs import lonlat
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import AnyQuery
from cubegate.query.footprint import Footprint
from cubegate.query.in_thread import in_thread
from cubegate.query.lattice import NEAREST, Lattice, bounds_to_read, find_lattice
from cubegate.query.merged_times import merge_times
from cubegate.query.merging import Part, check_alike, without_times
from cubegate.query.mosaic import Mosaic
from cubegate.query.position import PositionQuery
from cubegate.query.table import Rows, Table
from cubegate.query.tiles import Tile


class _Planner:
    """Plans the parts of one query; `times` are those of all parts together, when they are planned."""

    def __init__(self, group: str, limits: Limits) -> None:
        self._group, self._limits = group, limits
        self.times: NDArray[Any] = np.empty(0, "M8[s]")

    async def _plan_parts(self, asked: Sequence[tuple[Member, AnyQuery]]) -> list[tuple[Part, Price]]:
        """Plan one query a member.

        Raises:
            InvalidParameter: a query does not fit its member, or none has a time that is asked for.
        """
        found, problems = [], []
        for member, query in asked:
            plan, problem = await self._plan_part(member, query)
            found.append((Part(member.id, member.number, plan.selection), plan.price))
            problems.append(problem)
        refused = [problem for problem in problems if problem is not None]
        if len(refused) == len(problems):
            raise refused[0]
        times = [part.times for part, _ in found if part.times is not None]
        self.times = known_times(merge_times(times).values) if times else self.times
        return found

    async def _plan_part(self, member: Member, query: AnyQuery) -> tuple[Plan, InvalidParameter | None]:
        cube = await member.open()
        try:
            return await cube.plan(self._group, query, self._limits), None
        except InvalidParameter as error:
            problem = InvalidParameter(
                error.parameter, f"In the cube {member.id!r}: {error.detail}", accepted=error.accepted
            )
        if problem.parameter != "datetime" or query.interval is None:
            raise problem
        # a member that has none of the times has a place in the answer all the same
        plan = await self._without_interval(member, query)
        if plan.selection.time is None:
            raise problem
        selection = without_times(plan.selection)
        return replace(plan, selection=selection, price=await in_thread(partial(price, selection))), problem

    async def _without_interval(self, member: Member, query: AnyQuery) -> Plan:
        cube = await member.open()
        if isinstance(query, CubeQuery):
            return await cube.plan(self._group, replace(query, interval=None), self._limits)
        return await cube.plan(self._group, replace(query, interval=None), self._limits)


class TablePlanner(_Planner):
    """Makes a table of points ready."""

    def __init__(self, group: str, query: PositionQuery, limits: Limits) -> None:
        super().__init__(group, limits)
        self._query = query

    async def plan(self, owned: Sequence[tuple[Member, NDArray[np.intp]]]) -> tuple[Table, Price]:
        """Plan the points of each member, given by number, and price them together.

        Raises:
            InvalidParameter, NotAcceptable: they do not go together.
        """
        asked = [(member, self._of(numbers)) for member, numbers in owned]
        planned = await self._plan_parts(asked)
        parts = [part for part, _ in planned]
        names = _names(self._query, parts)
        check_alike(parts, names)
        rows = zip(parts, (numbers for _, numbers in owned), strict=True)
        table = Table(tuple(Rows(part, numbers) for part, numbers in rows), names)
        made = table.cells if len(parts) > 1 else 0
        return table, _sum([each for _, each in planned], made)

    def _of(self, numbers: NDArray[np.intp]) -> PositionQuery:
        points = self._query.points
        x, y = (tuple(side[number] for number in numbers) for side in (points.x, points.y))
        ids = None if points.ids is None else tuple(points.ids[number] for number in numbers)
        return replace(self._query, points=replace(points, x=x, y=y, ids=ids))


class AreaPlanner(_Planner):
    """Makes an area over several members ready."""

    def __init__(self, group: str, query: CubeQuery, limits: Limits) -> None:
        super().__init__(group, limits)
        self._query = query

    async def find_lattice(self, met: Sequence[Footprint], crs: CRS | None) -> Lattice:
        """Choose the cells of the answer; see `find_lattice`. `crs` is that of the box."""
        query = self._query
        target = query.target_crs or met[0].crs
        work = partial(find_lattice, met, query.bounds, crs or lonlat(), target, query.resampling)
        return await in_thread(work)

    async def plan(
        self, met: Sequence[tuple[Member, Footprint]], lattice: Lattice
    ) -> tuple[Mosaic | None, Price]:
        """Plan what the lattice needs of each member, and price it together; None where that is too large.

        Raises:
            InvalidParameter, NotAcceptable: the answers do not go together.
        """
        cells = lattice.width * lattice.height
        if cells > self._limits.cells:
            return None, Price(0, 0, cells)
        boxes = [
            await in_thread(partial(bounds_to_read, footprint, lattice, self._query.resampling))
            for _, footprint in met
        ]
        asked = [(member, self._inside(box)) for (member, _), box in zip(met, boxes, strict=True)]
        planned = await self._plan_parts(asked)
        parts = [part for part, _ in planned]
        names = _names(self._query, parts)
        for name in names:
            _require_grid(parts, name)
        check_alike(parts, names)
        tiles = tuple(
            Tile(part, footprint, find_window(footprint.grid, box, None))
            for part, (_, footprint), box in zip(parts, met, boxes, strict=True)
        )
        mosaic = Mosaic(tiles, lattice, names, self._query.resampling)
        return mosaic, _sum([each for _, each in planned], mosaic.cells)

    def _inside(self, box: tuple[float, float, float, float]) -> CubeQuery:
        return replace(self._query, bounds=box, crs=None, target_crs=None, resampling=NEAREST)


def _names(query: AnyQuery, parts: Sequence[Part]) -> tuple[str, ...]:
    if query.variables is not None:
        return tuple(dict.fromkeys(query.variables))
    return tuple(dict.fromkeys(str(name) for part in parts for name in part.dataset.data_vars))


def _require_grid(parts: Sequence[Part], name: str) -> None:
    for part in parts:
        variable = part.dataset.variables.get(name)
        if variable is not None and not {"x", "y"} <= set(map(part.role, variable.dims)):
            raise InvalidParameter(
                "variables",
                f"Variable {name!r} has no value of its own at each place, and the cubes that the bbox meets "
                "each have their own: it cannot stand in one answer over them.",
                accepted="variables on the grid, or a bbox in one cube",
            )


def _sum(prices: Sequence[Price], cells: int) -> Price:
    return Price(
        sum(each.chunks for each in prices),
        sum(each.bytes for each in prices),
        sum(each.cells for each in prices) + cells,
    )
