"""What a combined collection is made of, for `cubegate inspect` and `cubegate check`."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.members import Member
from cubegate.errors import CubegateError, UpstreamDenied
from cubegate.logs import escaped
from cubegate.query.bounds import extent_text
from cubegate.query.crs import lonlat


async def describe_combined(cube: CombinedCube) -> list[RenderableType]:
    """Return the renderable parts of its description; of the members, only coordinates are read."""
    parts: list[RenderableType] = [Text(escaped(f"{cube.id}: {cube.title}"), style="bold")]
    if cube.collection.description:
        parts.append(Text(escaped(cube.collection.description)))
    count = len(cube.members)
    parts += [
        Text(f"version {cube.version}"),
        Text(f"combined of {count:,} cube{'' if count == 1 else 's'}, the first that contains a place first"),
    ]
    for member in cube.members:
        problem = await member_problem(cube, member)
        if problem is not None:
            parts.append(Text(f"{member.number} {member.id}: {problem}", style="yellow"))
            continue
        footprint, opened = await cube.footprint_of(member), await member.open()
        extent = f"{extent_text(footprint.grid, None)}, {extent_text(footprint.grid, lonlat())}"
        parts.append(Text(f"{member.number} {member.id}: version {opened.version}, {extent}"))
    return parts


async def member_problem(cube: CombinedCube, member: Member) -> str | None:
    """Say why a member cannot answer; None where it can."""
    try:
        await cube.footprint_of(member)
    except UpstreamDenied as error:
        return f"cannot be used: {error.state}: {error}"
    except CubegateError as error:
        return f"cannot be used: {error}"
    return None
