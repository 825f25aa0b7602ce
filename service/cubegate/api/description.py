"""A cube described for pages: what `query.description` says of its dataset, or of all its members."""

from __future__ import annotations

from functools import partial
from typing import Any

from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.cube import Cube
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.concurrency import run_all
from cubegate.errors import CubegateError
from cubegate.query.crs import lonlat
from cubegate.query.description import describe_crs, describe_dataset
from cubegate.query.in_thread import in_thread

_IN_FLIGHT = 8


async def describe_cube(cube: Cube) -> dict[str, Any]:
    """Describe a cube; of a combined one, what its members that can be opened have together.

    Raises:
        InvalidParameter: it has no variables with x and y axes.
        UpstreamError, InvalidMetadata: it, or no member of it, can be opened.
    """
    about = {"id": cube.id, "title": cube.title, "version": cube.version}
    if isinstance(cube, CombinedCube):
        return {**about, **await _describe_members(cube)}
    assert isinstance(cube, Datacube)  # noqa: S101 - there are no other cubes
    return {**about, **await _describe(cube), "members": []}


async def _describe(cube: Datacube) -> dict[str, Any]:
    dataset = await cube.dataset()
    return await in_thread(partial(describe_dataset, dataset, cube.grid_settings))


async def _describe_members(cube: CombinedCube) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    problems: list[CubegateError] = []

    async def describe(number: int) -> None:
        member = cube.members[number]
        try:
            found[member.id] = await _describe(await member.open())
        except CubegateError as error:
            problems.append(error)

    await run_all((describe(number) for number in range(len(cube.members))), in_flight=_IN_FLIGHT)
    described = [(member.id, found[member.id]) for member in cube.members if member.id in found]
    if not described:
        raise problems[0]
    first = described[0][1]
    placed = [one["extent"]["lonlat"] for _, one in described if one["extent"]["lonlat"]]
    together = _together(placed) if placed else None
    return {
        **first,
        # the members may be in several CRS, so that places are named in the one that they share
        "crs": describe_crs(lonlat()),
        "extent": {"native": together, "lonlat": together, "outline": None},
        "shape": None,
        "resolution": None,
        "units": ["degrees_east", "degrees_north"],
        "time": _all_times([one["time"] for _, one in described]),
        "members": [
            {"id": name, "crs": (one["crs"] or {}).get("name"), "outline": one["extent"]["outline"]}
            for name, one in described
        ],
    }


def _together(boxes: list[list[float]]) -> list[float]:
    west, south, east, north = zip(*boxes, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _all_times(found: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    timed = [each for each in found if each is not None]
    if not timed:
        return None
    return {"name": timed[0]["name"], "values": sorted({text for each in timed for text in each["values"]})}
