"""The commands that make cubes: search and build, one module an archive, update, rechunk and overviews."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

# by kind, the module of its commands
SEARCHES = {"opera-disp-s1": "opera", "its-live": "its_live"}
BUILDS = {
    **SEARCHES,
    "cog-stack": "cog_stack",
    "stac": "stac",
    "files": "files",
    "intake": "intake",
    "hyp3": "hyp3",
}


def add_archive_commands(commands: Any, arguments: Sequence[str] = ()) -> None:
    """Add search, build, update, rechunk and overviews to the subparsers `commands`.

    Where `arguments` begin with a command and a kind, nothing else is added, and nothing at all where they
    begin with a command that is known already: what the others import takes as long as a small build.
    """
    asked = tuple(arguments[:2])
    if asked and (asked[0] in commands.choices or asked[0] == "--version"):
        return
    known = {("search", kind) for kind in SEARCHES} | {("build", kind) for kind in BUILDS}
    for name, kinds, text in (
        ("search", SEARCHES, "list what an archive has"),
        ("build", BUILDS, "make a cube of an archive's granules, ready to be mounted"),
    ):
        wanted = [kind for kind in kinds if asked not in known or asked == (name, kind)]
        if wanted:
            parsers = commands.add_parser(name, help=text).add_subparsers(required=True, metavar="KIND")
        for kind in wanted:
            module = import_module(f"{__name__}.{kinds[kind]}")
            getattr(module, f"add_{name}")(parsers)
    if asked not in known:
        for name in ("update", "rechunk", "overviews"):
            module = import_module(f"{__name__}.{name}")
            getattr(module, f"add_{name}")(commands)
