"""build of any pile of HDF5 or netCDF files."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common, add_output, read_settings
from cubegate.archive_commands.report import cube_report, print_report
from cubegate.archives.building import Plan
from cubegate.archives.files import Joining
from cubegate.conversions.files import build_files
from cubegate.errors import InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in
from cubegate.settings import Settings, UpstreamSettings


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("files", help="any pile of HDF5 or netCDF files of one grid")
    parser.add_argument(
        "files", nargs="+", help="paths or addresses, with wildcards, or with a slash at the end of a prefix"
    )
    parser.add_argument(
        "--concat",
        required=True,
        metavar="DIMENSION",
        help="the dimension along which they are joined",
    )
    parser.add_argument(
        "--concat-by",
        metavar="NAME",
        help="the variable or attribute with the date of each, where they lack it",
    )
    parser.add_argument(
        "--date-from", metavar="REGEX", help="where files lack it: finds the date in the name of each"
    )
    add_output(parser, default_id="files")
    parser.add_argument("--title", default="", help="of the collection (default: the id)")
    parser.add_argument("--group", default="", help="the group of each file that becomes the root")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                        help="an array that may lack chunks which the files beside have")  # fmt: skip
    parser.add_argument("--leave-out", action="store_true", help="go on without the files that do not fit")
    add_common(parser)
    parser.set_defaults(run=_build)


def _build(parsed: argparse.Namespace, console: Console) -> int:
    gaps = frozenset(name.strip("/") for name in parsed.allow_gaps)
    identifier = parsed.id or "files"
    plan = Plan(identifier, parsed.title or identifier, parsed.output, gaps)
    joining = Joining(parsed.concat, parsed.concat_by, _pattern(parsed.date_from), gaps)
    settings = _with_local_files(read_settings(parsed), parsed.files)
    with progress_bar(console) as bar:
        work = build_files(
            settings,
            os.environ,
            plan,
            parsed.files,
            joining,
            group=parsed.group,
            leave_out=parsed.leave_out,
            progress=shown_in(bar),
        )
        joined = asyncio.run(work)
    report = cube_report(plan, joined.index, granules=joined.files, left_out=joined.left_out)
    report["notes"] = [*report["notes"], *joined.notes]
    print_report(console, report, as_json=parsed.json)
    return 0


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error:
        raise InvalidParameter("date-from", f"{text!r} is no regular expression.") from None


def _with_local_files(settings: Settings, files: list[str]) -> Settings:
    """Allow the folders of paths: whoever names a file to this command may read it."""
    paths = [Path(file) for file in files if "://" not in file]
    folders = {_folder(path).resolve().as_uri() for path in paths}
    allowed = {f"{folder}/": UpstreamSettings() for folder in folders}
    return settings.model_copy(update={"upstreams": {**allowed, **settings.upstreams}})


def _folder(path: Path) -> Path:
    """Return the folder that a path with wildcards lies in."""
    fixed: list[str] = []
    for part in path.parts:
        if any(wild in part for wild in "*?["):
            return Path(*fixed)
        fixed.append(part)
    return path if path.is_dir() else path.parent
