"""The files of a stack of GeoTIFFs, as a list or a template names them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from cubegate.errors import InvalidParameter
from cubegate.query.nanoseconds import moment

_YEAR, _DAY = re.compile(r"\d{4}"), re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?Z?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_YEARS = re.compile(r"(\d{4})(?:-(\d{4}))?")
_FIELD = re.compile(r"\{([^{}]*)\}")
_MAX_FILES = 2**20
_COLUMNS = ("url", "time", "variable")


@dataclass(frozen=True)
class Moment:
    """When a file is of: a time, and the bounds of the year where it is of a whole one; datetime64[ns]."""

    time: np.datetime64
    bounds: tuple[np.datetime64, np.datetime64] | None = None


@dataclass(frozen=True)
class CogFile:
    """One GeoTIFF: its address, the name of its array, and its time; None where it is of no time."""

    url: str
    variable: str
    moment: Moment | None = None


def parse_moment(text: str) -> Moment:
    """Read a year, of which the time is July 2, a date such as 2020-01-31 or 20200131, or a moment in UTC.

    Raises:
        InvalidParameter: it is none of these.
    """
    try:
        if _YEAR.fullmatch(text):
            start, end = (moment(f"{int(text) + n:04}-01-01") for n in (0, 1))
            return Moment(moment(f"{text}-07-02"), (start, end))
        if day := _DAY.fullmatch(text):
            return Moment(moment("-".join(day.groups())))
        if _MOMENT.fullmatch(text):
            return Moment(moment(text.removesuffix("Z").replace(" ", "T")))
    except ValueError:
        pass
    raise InvalidParameter(
        "time", f"{text[:40]!r} is no time.", accepted="2020, 2020-01-31, 20200131 or 2020-01-31T12:00:00Z"
    )


def read_list(text: str, *, variable: str) -> list[CogFile]:
    """Read a list of files: a line each, of an address, a time and a variable, or CSV with these columns.

    What is left out is of no time, and is called `variable`. Empty lines, and those that begin with #, are
    passed over.

    Raises:
        InvalidParameter: a line cannot be read; the message names it.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise InvalidParameter("list", "The list names no file.")
    header = [cell.strip().lower() for cell in lines[0][1].split(",")]
    rows = (
        _csv_rows(lines, header)
        if "url" in header
        else ((number, dict(zip(_COLUMNS, _words(number, line), strict=False))) for number, line in lines)
    )
    return [_file(number, row, variable) for number, row in rows]


def _words(number: int, line: str) -> list[str]:
    words = line.split()
    if len(words) > len(_COLUMNS):
        raise InvalidParameter("list", f"Line {number} of the list has more than url, time and variable.")
    return words


def _csv_rows(
    lines: Sequence[tuple[int, str]], header: Sequence[str]
) -> Iterable[tuple[int, dict[str, str]]]:
    for number, line in lines[1:]:
        (cells,) = csv.reader([line])
        if len(cells) != len(header):
            raise InvalidParameter("list", f"Line {number} of the list has {len(cells)} columns.")
        yield number, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _file(number: int, row: dict[str, str], variable: str) -> CogFile:
    if not row.get("url"):
        raise InvalidParameter("list", f"Line {number} of the list names no file.")
    try:
        time = row.get("time", "")
        return CogFile(
            row["url"], _name(row.get("variable") or variable), parse_moment(time) if time else None
        )
    except InvalidParameter as error:
        raise InvalidParameter("list", f"Line {number} of the list: {error}") from None


def expand(
    template: str, *, years: Sequence[str], dates: Sequence[str], variables: Sequence[str]
) -> list[CogFile]:
    """Return the files that `template` names: {year}, {date} and {variable} stand for each that is given.

    One with neither {year} nor {date} names files of no time.

    Raises:
        InvalidParameter: it names something else, or what it names is not given.
    """
    fields = set(_FIELD.findall(template))
    if not fields <= {"year", "date", "variable"} or fields >= {"year", "date"}:
        raise InvalidParameter(
            "template",
            f"{template[:200]!r} cannot be filled in.",
            accepted="{year} or {date}, and {variable}",
        )
    if not variables or ("variable" not in fields and len(variables) > 1):
        raise InvalidParameter("variables", "One variable is due, or a template that names {variable}.")
    times: Sequence[str | None] = years if "year" in fields else dates if "date" in fields else [None]
    if not times:
        raise InvalidParameter("template", f"{template[:200]!r} needs years or dates, and none are given.")
    if len(times) * len(variables) > _MAX_FILES:
        raise InvalidParameter("template", f"It names more than {_MAX_FILES:,} files.")
    return [
        CogFile(
            template.replace("{year}", time or "").replace("{date}", time or "").replace("{variable}", name),
            _name(name),
            None if time is None else parse_moment(time),
        )
        for time, name in product(times, variables)
    ]


def parse_years(text: str) -> list[str]:
    """Read years such as 2014-2022 or 2014,2016-2018.

    Raises:
        InvalidParameter: they are no years.
    """
    years: list[str] = []
    for part in text.split(","):
        found = _YEARS.fullmatch(part.strip())
        first, last = (int(each or found[1]) for each in found.groups()) if found else (1, 0)
        if first > last:
            raise InvalidParameter("years", f"{part[:40]!r} is no year.", accepted="2014-2022 or 2014,2016")
        years += [f"{year:04}" for year in range(first, last + 1)]
    return years


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            "variable", f"{name[:80]!r} is no name.", accepted="letters, digits and _, a letter first"
        )
    return name
