"""build of a stack of GeoTIFFs."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cubegate.archive_commands.options import add_common, add_output, read_settings
from cubegate.archive_commands.report import cube_report, print_report
from cubegate.archive_commands.stac import add_search_options, read_search
from cubegate.archives.building import Plan
from cubegate.archives.cog_list import CogFile, expand, parse_years, read_list
from cubegate.archives.stac_api import Search
from cubegate.chunks.address import shown
from cubegate.conversions.cog_stack import build_cog_stack
from cubegate.conversions.stac import find_items, find_tiffs
from cubegate.errors import InvalidParameter
from cubegate.index.builders.geotiff import BAND_DATA
from cubegate.index.index import Index
from cubegate.index.references import resolve_url
from cubegate.progress_bar import progress_bar, shown_in

_DUE = "--list, --template or --collection"


def add_build(kinds: Any) -> None:
    """Add the build to the subparsers `kinds`."""
    parser = kinds.add_parser("cog-stack", help="GeoTIFFs of one grid, such as ITS_LIVE mosaics")
    parser.add_argument("--list", type=Path, metavar="FILE",
                        help="a line a file: url, time and variable; or CSV with these columns")  # fmt: skip
    parser.add_argument("--template", action="append", default=[], metavar="URL",
                        help="an address with {year} or {date}, and {variable}; may be repeated")  # fmt: skip
    parser.add_argument("--years", help="those that {year} stands for, such as 2014-2022")
    parser.add_argument("--dates", help="those that {date} stands for, with commas between")
    parser.add_argument("--variables", default=BAND_DATA, metavar="NAMES",
                        help="those that {variable} stands for, with commas between, or the name of the only "
                        f"one (default: {BAND_DATA})")  # fmt: skip
    add_search_options(parser)
    add_output(parser, default_id="cog-stack")
    parser.add_argument("--title", default="", help="of the collection (default: the id)")
    parser.add_argument("--allow-gaps", action="append", default=[], metavar="ARRAY",
                        help="a variable that may lack times which others have")  # fmt: skip
    add_common(parser)
    parser.set_defaults(run=_build)


def _build(parsed: argparse.Namespace, console: Console) -> int:
    settings = read_settings(parsed)
    identifier = parsed.id or "cog-stack"
    allow_gaps = frozenset(name.strip("/") for name in parsed.allow_gaps)
    plan = Plan(identifier, parsed.title or identifier, parsed.output, allow_gaps)

    async def build() -> tuple[list[CogFile], Index]:
        if parsed.collection is None and parsed.items is None:
            files = _files(parsed)
        else:
            found = await find_items(settings, parsed.api, _search(parsed), parsed.items, show)
            files = await find_tiffs(settings, os.environ, found, parsed.asset)
        return files, await build_cog_stack(settings, os.environ, plan, files, progress=show)

    with progress_bar(console) as bar:
        show = shown_in(bar)
        files, index = asyncio.run(build())
    report = cube_report(plan, index, granules=[shown(file.url) for file in files], left_out={})
    print_report(console, report, _said(files), as_json=parsed.json)
    return 0


def _search(parsed: argparse.Namespace) -> Search | None:
    if parsed.list is not None or parsed.template:
        raise InvalidParameter("list", "Either a list, a template or a STAC search is due.", accepted=_DUE)
    return read_search(parsed)


def _files(parsed: argparse.Namespace) -> list[CogFile]:
    if (parsed.list is None) == (not parsed.template):
        raise InvalidParameter("list", "Either a list, a template or a STAC search is due.", accepted=_DUE)
    variables = [name.strip() for name in parsed.variables.split(",")]
    if parsed.list is None:
        years = [] if parsed.years is None else parse_years(parsed.years)
        dates = [] if parsed.dates is None else [date.strip() for date in parsed.dates.split(",")]
        base = Path.cwd() / "template"
        found = [
            file
            for template in parsed.template
            for file in expand(template, years=years, dates=dates, variables=variables)
        ]
    else:
        if len(variables) > 1:
            raise InvalidParameter("variables", "A list names the variable of each file itself.")
        base = parsed.list.resolve()
        found = read_list(_text(parsed.list), variable=variables[0])
    # relative paths lie beside the list, or in the working directory
    return [CogFile(resolve_url(file.url, base.as_uri()), file.variable, file.moment) for file in found]


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter("list", f"{file} cannot be read ({type(error).__name__}).") from None


def _said(files: list[CogFile]) -> list[str]:
    times = sorted({file.moment.time for file in files if file.moment is not None})
    variables = sorted({file.variable for file in files})
    said = [f"variables: {', '.join(variables)}"]
    if times:
        first, last = (np.datetime_as_string(time, "D") for time in (times[0], times[-1]))
        said.append(f"{len(times):,} times from {first} to {last}")
    return said
