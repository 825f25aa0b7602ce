"""The commands that make cubes: search and build, one module an archive, update and rechunk."""

from __future__ import annotations

from typing import Any

from cubegate.archive_commands import cog_stack, its_live, opera, stac
from cubegate.archive_commands.rechunk import add_rechunk
from cubegate.archive_commands.update import add_update

SEARCHES = (opera, its_live)
BUILDS = (opera, its_live, cog_stack, stac)


def add_archive_commands(commands: Any) -> None:
    """Add search, build, update and rechunk to the subparsers `commands`."""
    search = commands.add_parser("search", help="list what an archive has")
    kinds = search.add_subparsers(required=True, metavar="KIND")
    for module in SEARCHES:
        module.add_search(kinds)
    build = commands.add_parser("build", help="make a cube of an archive's granules, ready to be mounted")
    kinds = build.add_subparsers(required=True, metavar="KIND")
    for module in BUILDS:
        module.add_build(kinds)
    add_update(commands)
    add_rechunk(commands)
