"""Composes the search for ITS_LIVE cubes and the build of the collection files that mount them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cubegate.archives.collection_file import write_collections
from cubegate.archives.download import read_document
from cubegate.archives.its_live import ID, Member, check_names, collections, open_member, readable_address
from cubegate.archives.its_live_catalog import CatalogCube, read_catalog
from cubegate.archives.its_live_footprints import Area, meeting
from cubegate.chunks.address import shown
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.upstreams import accepted_by, opened_upstreams
from cubegate.errors import CubegateError, InvalidReference, NotFound
from cubegate.index.progress import Progress
from cubegate.settings import Settings
from cubegate.store.bridge import LoopThread

_LARGEST_CATALOG = 2**26
_IN_FLIGHT = 16


@dataclass(frozen=True)
class Mounted:
    """What a build wrote: the members, the files, and the cubes that were left out, with the reason."""

    id: str
    members: Sequence[Member]
    files: Sequence[Path]
    left_out: Mapping[str, str] = field(default_factory=dict)


async def find_cubes(
    settings: Settings, area: Area, catalog: str | None, *, progress: Progress
) -> list[CatalogCube]:
    """Return the cubes of the catalog that meet `area`, the nearest first.

    Raises:
        InvalidReference: the catalog is not one; see `read_catalog`.
        ConfigurationError, UpstreamError: it cannot be read; see `read_document`.
    """
    where = settings.archives.its_live_catalog if catalog is None else catalog
    progress("Reading the catalog", 0, 1)
    data = await read_document(where, parameter="catalog", most=_LARGEST_CATALOG)
    cubes = await asyncio.to_thread(read_catalog, data, shown(where))
    found = meeting(area, [(cube.epsg, cube.footprint, cube.bounds) for cube in cubes])
    return [cubes[number] for number in found]


async def build_cubes(
    settings: Settings,
    environment: Mapping[str, str],
    cubes: Sequence[CatalogCube],
    directory: Path,
    *,
    name: str | None,
    leave_out: bool,
    progress: Progress,
) -> Mounted:
    """Open each of `cubes` once, then write their collection files, and the one that combines several.

    With `leave_out`, cubes that cannot be mounted are left out; otherwise nothing is written.

    Raises:
        NotFound: there are no cubes.
        InvalidParameter: their names clash.
        InvalidReference: some cannot be mounted; the message names all of them.
        OSError: a file cannot be written.
    """
    if not cubes:
        raise NotFound("No cube of the catalog meets the area, so there is nothing to build.")
    check_names(cubes, name)
    bridge = LoopThread()
    try:
        async with opened_upstreams(settings, environment) as upstreams:
            opened = await run_all(
                (_open(cube, upstreams, bridge) for cube in cubes),
                in_flight=_IN_FLIGHT,
                report=lambda done, total: progress("Opening cubes", done, total),
            )
    finally:
        bridge.close()
    members = [each for each in opened if isinstance(each, Member)]
    failed = {cube.name: each for cube, each in zip(cubes, opened, strict=True) if isinstance(each, str)}
    if failed and (not leave_out or not members):
        raise InvalidReference(_report(failed, len(cubes), alone=bool(members)))
    if name is not None and len(members) == 1:
        members = [replace(members[0], id=name)]
    combined = name or ID
    files = collections(directory, members, combined)
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(write_collections, files)
    return Mounted(
        combined if len(members) > 1 else members[0].id, members, [path for path, _ in files], failed
    )


async def _open(cube: CatalogCube, upstreams: Upstreams, bridge: LoopThread) -> Member | str:
    """Return the opened cube, or what is wrong with it."""
    try:
        url = readable_address(cube.url, accepted_by(upstreams))
        return await open_member(cube, url, upstreams, bridge)
    except CubegateError as error:
        return str(error)


def _report(failed: Mapping[str, str], count: int, *, alone: bool) -> str:
    lines = [f"{name}: {reason}" for name, reason in failed.items()]
    mend = " --leave-out mounts the others without them." if alone else ""
    return (
        f"{len(failed):,} of {count:,} cubes cannot be mounted, and nothing was written.{mend}\n"
        + "\n".join(lines)
    )
