"""A combined collection: one id over several cubes, of maybe different projections, for queries only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pyproj import CRS

from cubegate.catalog.advice import Advisor
from cubegate.catalog.collection import Collection
from cubegate.catalog.cube import Answer, QueryPlan
from cubegate.catalog.members import Member, extents_text, open_all
from cubegate.catalog.planning import AreaPlanner, TablePlanner
from cubegate.errors import InvalidParameter
from cubegate.query.bounds import read_bounds
from cubegate.query.budget import Limits, Plan, Price, exceeded
from cubegate.query.crs import Bounds, same_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import AnyQuery
from cubegate.query.footprint import Footprint, degrees_of, may_meet, places_in_degrees
from cubegate.query.in_thread import in_thread
from cubegate.query.position import Points, PositionQuery

Found = list[tuple[Member, Footprint]]


@dataclass(frozen=True, eq=False)
class CombinedPlan:
    """A query over several members made ready; `selection` is None where it is too large to be."""

    price: Price
    limits: Limits
    query: AnyQuery
    selection: Answer | None
    advisor: Advisor

    async def hint(self) -> str:
        """Say what would fit; empty where the query does."""
        return "" if self.price.within(self.limits) else await self.advisor.hint(self.query)

    async def enforce(self) -> Answer:
        """Return the selection.

        Raises:
            BudgetExceeded: it costs more than the limits.
        """
        if self.selection is None or not self.price.within(self.limits):
            raise exceeded(self.price, self.limits, await self.hint())
        return self.selection


class CombinedCube:
    """Several cubes as one dataset: a place belongs to the first of them whose grid contains it."""

    def __init__(self, collection: Collection, members: Sequence[Member]) -> None:
        self.collection = collection
        self.members = tuple(members)
        self._crs: dict[str, CRS] = {}

    async def open(self) -> None:
        """Open all members that can be opened now; the others are tried again when they are needed."""
        await open_all(self.members)

    @property
    def id(self) -> str:
        """The collection's id, without a version."""
        return self.collection.id

    @property
    def title(self) -> str:
        """The collection's title, or its id."""
        return self.collection.title or self.collection.id

    @property
    def version(self) -> str:
        """A hash of the members' versions, in their order; one that cannot be opened has none."""
        named = [f"{member.id} {member.cube.version if member.cube else '-'}" for member in self.members]
        return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]

    @property
    def immutable(self) -> bool:
        """Whether nothing that is read can change while the version stays."""
        return all(member.cube is not None and member.cube.immutable for member in self.members)

    @property
    def identity(self) -> str:
        """All that answers are made of, beside the query: the members' configurations and versions too."""
        identities = [member.cube.identity if member.cube else member.id for member in self.members]
        return "\n".join([self.collection.model_dump_json(), *identities])

    @property
    def picture_identity(self) -> str:
        """All that pictures are made of, beside the query: the members' overviews too."""
        identities = [member.cube.picture_identity if member.cube else member.id for member in self.members]
        return "\n".join([self.collection.model_dump_json(), *identities])

    def refresh_overviews(self) -> None:
        """See to it that a change of the members' overviews is noticed; waits for nothing."""
        for member in self.members:
            if member.cube is not None:
                member.cube.refresh_overviews()

    @property
    def notes(self) -> tuple[str, ...]:
        """Which members cannot be opened."""
        return tuple(f"{member.id}: {member.problem}" for member in self.members if member.problem)

    async def plan(self, group: str, query: AnyQuery, limits: Limits) -> QueryPlan:
        """Find the members that a query meets, make the query of each ready, and price all; see `Cube.plan`.

        Raises:
            InvalidParameter, NotAcceptable: the query meets no member, or their answers do not go together.
        """
        if isinstance(query, CubeQuery):
            return await self._plan_area(group, query, limits)
        return await self._plan_points(group, query, limits)

    async def _price(self, group: str, query: AnyQuery, limits: Limits) -> Price:
        return (await self.plan(group, query, limits)).price

    async def footprint_of(self, member: Member, group: str = "") -> Footprint:
        """Return where one of the members lies; see `Member.footprint`."""
        return await member.footprint(group, None, self._crs)

    async def _footprint(self, member: Member, group: str, query: AnyQuery) -> Footprint:
        return await member.footprint(group, query.variables, self._crs)

    async def _native(self, group: str, query: AnyQuery, parameter: str) -> CRS:
        """The one CRS of all members.

        Raises:
            InvalidParameter: there are several, so that coordinates without one say no place.
        """
        found = [await self._footprint(member, group, query) for member in self.members]
        if not all(same_crs(found[0].crs, each.crs) for each in found[1:]):
            raise InvalidParameter(
                parameter,
                "The cubes of this collection are in several coordinate reference systems.",
                accepted="longitudes and latitudes, or coordinates with their crs",
            )
        return found[0].crs

    async def _plan_points(self, group: str, query: PositionQuery, limits: Limits) -> QueryPlan:
        points = query.points
        crs = points.crs or await self._native(group, query, points.parameter)
        owned = await self._owners(group, query, crs)
        if not points.many:
            member = owned[0][0]
            return _named(await (await member.open()).plan(group, query, limits), member)
        planner = TablePlanner(group, query, limits)
        table, price = await planner.plan(owned)
        advisor = Advisor(partial(self._price, group, limits=limits), limits, planner.times)
        return CombinedPlan(price, limits, query, table, advisor)

    async def _owners(
        self, group: str, query: PositionQuery, crs: CRS
    ) -> list[tuple[Member, np.ndarray[tuple[int], np.dtype[np.intp]]]]:
        """The points of each member that has any, by number."""
        points = query.points
        x, y = np.array(points.x, float), np.array(points.y, float)
        box = places_in_degrees(crs, x, y)
        left = np.arange(len(x))
        found = []
        seen: Found = []
        for member in self.members:
            footprint = await self._footprint(member, group, query)
            seen.append((member, footprint))
            if not may_meet(footprint.box, box):
                continue
            inside = footprint.cells(crs, x[left], y[left])[0] >= 0
            if inside.any():
                found.append((member, left[inside]))
                left = left[~inside]
            if not left.size:
                return found
        raise _outside(points, int(left[0]), seen, crs)

    async def _plan_area(self, group: str, query: CubeQuery, limits: Limits) -> QueryPlan:
        crs = query.crs
        if query.bounds is not None:
            crs = crs or await self._native(group, query, "bbox-crs")
            query = replace(query, bounds=read_bounds(query.bounds, crs))
        met = await self._meeting(group, query, crs)
        if len(met) == 1:
            member = met[0][0]
            return _named(await (await member.open()).plan(group, query, limits), member)
        planner = AreaPlanner(group, query, limits)
        lattice = await planner.find_lattice([footprint for _, footprint in met], crs)
        # of what lies around the box in the answer's CRS, too, each cell is that of its owner
        around = replace(query, bounds=lattice.bounds, crs=lattice.crs)
        tiles = await self._meeting(group, around, lattice.crs)
        mosaic, price = await planner.plan(tiles, lattice)
        box = (query.bounds, crs) if query.bounds is not None and crs is not None else None
        advisor = Advisor(
            partial(self._price, group, limits=limits),
            limits,
            planner.times,
            box or (lattice.bounds, lattice.crs),
        )
        return CombinedPlan(price, limits, query, mosaic, advisor)

    async def _meeting(self, group: str, query: CubeQuery, crs: CRS | None) -> Found:
        """The members to which a place of the box belongs, in their order; all that own any without a box."""
        box = None if query.bounds is None or crs is None else degrees_of(query.bounds, crs)
        met: Found = []
        seen: Found = []
        for member in self.members:
            footprint = await self._footprint(member, group, query)
            seen.append((member, footprint))
            owners = [each for _, each in met]
            meets, contains = await in_thread(partial(_judge, footprint, owners, query, crs, box))
            if meets:
                met.append((member, footprint))
            if contains:
                break
        if not met:
            raise InvalidParameter(
                "bbox",
                f"The bbox meets none of the {len(self.members)} cubes of this collection.",
                accepted=f"a bbox that meets {extents_text(seen, crs)}",
            )
        return met


def _judge(
    footprint: Footprint, owners: Sequence[Footprint], query: CubeQuery, crs: CRS | None, box: Bounds | None
) -> tuple[bool, bool]:
    """Whether places of the box belong to a footprint after `owners`, and whether none is left after it."""
    bounds = query.bounds
    if bounds is None or crs is None:
        return not any(footprint.within(owner) for owner in owners), False
    if not may_meet(footprint.box, box) or not footprint.meets(bounds, crs):
        return False, False
    if any(footprint.within(owner) for owner in owners):
        return False, False
    return True, footprint.contains(bounds, crs)


def _named(plan: Plan, member: Member) -> Plan:
    return replace(plan, selection=replace(plan.selection, facts={"cube": member.id}))


def _outside(points: Points, number: int, seen: Found, crs: CRS) -> InvalidParameter:
    which = ""
    if points.many:
        which = f" {points.ids[number][:80]!r}" if points.ids else f" number {number + 1}"
    return InvalidParameter(
        points.parameter,
        f"The point{which} ({points.x[number]:.10g}, {points.y[number]:.10g}) is outside the grids of all "
        f"{len(seen)} cubes of this collection.",
        accepted=f"points in {extents_text(seen, crs)}",
    )
