"""Cubes as the collections of OGC APIs: their descriptions, and the grids that polygons and lines lie on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from cubegate.api.dependencies import Services
from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.cube import Cube
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.concurrency import run_all
from cubegate.edr.description import Description, combine, describe
from cubegate.errors import CubegateError, InvalidParameter
from cubegate.query.crs import Bounds
from cubegate.query.footprint import may_meet
from cubegate.query.grid import Grid
from cubegate.query.in_thread import in_thread
from cubegate.query.variables import choose_variables

# seconds for a page; what takes longer is opened in the meantime, and on the page of the next request
PATIENCE = 20.0
_IN_FLIGHT = 8
# what searches ask for, which is a hundredth of what descriptions hold
_searched: WeakKeyDictionary[Cube, Description] = WeakKeyDictionary()


async def describe_collection(cube: Cube, group: str = "") -> Description:
    """Describe a group of a cube; of a combined one, what its members that can be opened have together.

    Raises:
        InvalidParameter: it has no variables on a grid.
        NotFound: there is no such group.
        UpstreamError, InvalidReference, ConfigurationError: it, or no member of it, can be opened.
    """
    if isinstance(cube, CombinedCube):
        return await _describe_members(cube, group)
    assert isinstance(cube, Datacube)  # noqa: S101 - there are no other cubes
    return await _describe(cube, group)


async def _describe(cube: Datacube, group: str) -> Description:
    dataset = await cube.dataset(group)
    return await in_thread(partial(describe, dataset, cube.grid_settings, cube.id, cube.title))


async def _describe_members(cube: CombinedCube, group: str) -> Description:
    problems: list[CubegateError] = []

    async def described(number: int) -> Description | None:
        try:
            return await _describe(await cube.members[number].open(), group)
        except CubegateError as error:
            problems.append(error)
            return None

    found = await run_all((described(number) for number in range(len(cube.members))), in_flight=_IN_FLIGHT)
    parts = [each for each in found if each is not None]
    if not parts:
        raise problems[0]
    return await in_thread(partial(combine, parts, cube.id, cube.title))


def _any(_: Description) -> bool:
    return True


async def describe_page(
    services: Services, ids: Sequence[str], wanted: Callable[[Description], bool] = _any
) -> list[Description]:
    """Describe those of some collections that are wanted and can be described soon, in their order."""
    end = asyncio.get_running_loop().time() + PATIENCE

    async def described(name: str) -> Description | None:
        try:
            async with asyncio.timeout_at(end):
                return await _describe_wanted(await services.catalog.get(name), wanted)
        except (CubegateError, TimeoutError):
            # one that is broken says why at its own address
            return None

    found = await run_all((described(name) for name in ids), in_flight=_IN_FLIGHT)
    return [each for each in found if each is not None]


async def _describe_wanted(cube: Cube, wanted: Callable[[Description], bool]) -> Description | None:
    """Describe a cube, unless what is remembered of it says that it is not wanted."""
    known = _searched.get(cube)
    if known is not None and not wanted(known):
        return None
    found = await describe_collection(cube)
    if isinstance(cube, Datacube):
        # of a combined cube other members may be there the next time
        _searched[cube] = replace(
            found, axes=(), dimensions=(), times=tuple(dict.fromkeys((*found.times[:1], *found.times[-1:])))
        )
    return found if wanted(found) else None


async def find_collections(
    services: Services, offset: int, limit: int, wanted: Callable[[Description], bool]
) -> tuple[list[Description], int | None]:
    """Return up to `limit` of the wanted cubes from the one numbered `offset`, and where the next begins.

    `wanted` tells by the place, the first and last time, the parameters and the texts of a description. The
    second is None at the end. No page before the last is empty, unless it took longer than `PATIENCE`:
    clients take an empty page for the end.
    """
    await services.catalog.refresh()
    ids = services.catalog.ids()
    end = asyncio.get_running_loop().time() + PATIENCE
    found: list[Description] = []
    while len(found) < limit and offset < len(ids) and asyncio.get_running_loop().time() < end:
        block = ids[offset : offset + limit - len(found)]
        offset += len(block)
        found += await describe_page(services, block, wanted)
    return found, offset if offset < len(ids) else None


async def grids_of(
    cube: Cube, variables: tuple[str, ...] | None, box: Bounds | None = None, group: str = ""
) -> tuple[Grid, ...]:
    """Return the grid of a cube, or those of a combined one's members that may meet a `box` in degrees.

    Raises:
        InvalidParameter: a variable is unknown, or there is no grid with a known CRS there.
        NotFound: there is no such group.
        UpstreamError, InvalidReference, ConfigurationError: it, or a member of it, cannot be opened.
    """
    if isinstance(cube, CombinedCube):
        found = [await member.footprint(group, variables, {}) for member in cube.members]
        met = tuple(footprint.grid for footprint in found if may_meet(footprint.box, box))
        if not met:
            raise InvalidParameter(
                "coords",
                f"The coordinates lie outside the grids of all {len(cube.members)} cubes of this collection.",
            )
        return met
    assert isinstance(cube, Datacube)  # noqa: S101 - there are no other cubes
    dataset = await cube.dataset(group)
    grid, _ = await in_thread(partial(choose_variables, dataset, variables, cube.grid_settings))
    return (grid,)
