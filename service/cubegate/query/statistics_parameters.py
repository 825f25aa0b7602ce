"""The request parameters of polygon statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.crs import lonlat, parse_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.parameters import (
    CUBE_PARAMETERS,
    DATETIME,
    FORMAT,
    GROUP,
    MASK,
    VARIABLES,
    WHERE,
    Parameter,
    Request,
    parse_number,
    read_cube,
)
from cubegate.query.statistics import Histogram

MAX_BINS = 1000
AREA_CRS = Parameter("crs", "The CRS of the polygons: any that PROJ knows; lon/lat by default.", "EPSG:32611")
BINS = Parameter("bins", "A histogram of so many bins, 1 to 1000; none without it.", "10")
RANGE = Parameter(
    "range", "low,high: where the first bin starts and the last ends; all values by default.", "-0.1,0.1"
)
STATISTICS_PARAMETERS = (AREA_CRS, VARIABLES, DATETIME, WHERE, MASK, BINS, RANGE, FORMAT, GROUP)
_NAMES = tuple(each.name for each in STATISTICS_PARAMETERS)
_OWN = (AREA_CRS.name, BINS.name, RANGE.name)


@dataclass(frozen=True)
class StatisticsRequest:
    """What is asked for: `query` has no bounds yet, `crs` is that of the polygons."""

    request: Request
    query: CubeQuery
    crs: CRS
    histogram: Histogram | None


def read_statistics(items: Iterable[tuple[str, str]]) -> StatisticsRequest:
    """Read the parameters of statistics.

    Raises:
        InvalidParameter: one is malformed, given twice or unknown.
    """
    items = list(items)
    others = [each for each in CUBE_PARAMETERS if each.name not in _NAMES]
    for parameter in others:
        if any(name == parameter.name for name, _ in items):
            raise InvalidParameter(
                parameter.name,
                f"There is no parameter {parameter.name!r} here: the body says where.",
                accepted=", ".join(_NAMES),
            )
    given: dict[str, str] = {}
    for name, text in items:
        if name in _OWN and name in given:
            raise InvalidParameter(name, f"The parameter {name!r} is given more than once.")
        given[name] = text
    request = read_cube((name, text) for name, text in items if name not in _OWN)
    assert isinstance(request.query, CubeQuery)  # noqa: S101 - `read_cube` reads no other
    crs = parse_crs(given["crs"]) if "crs" in given else lonlat()
    return StatisticsRequest(request, replace(request.query, known=_NAMES), crs, _read_histogram(given))


def _read_histogram(given: dict[str, str]) -> Histogram | None:
    if "bins" not in given:
        if "range" in given:
            raise InvalidParameter("range", "A range is for a histogram, and bins is missing.")
        return None
    text = given["bins"]
    bins = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= bins <= MAX_BINS:
        raise InvalidParameter("bins", f"{text[:80]!r} is no number of bins.", accepted=f"1 to {MAX_BINS}")
    if "range" not in given:
        return Histogram(bins)
    parts = given["range"].split(",")
    if len(parts) != 2:
        raise InvalidParameter("range", f"{given['range'][:80]!r} is not two numbers.", accepted="low,high")
    low, high = (parse_number(part, "range") for part in parts)
    if not low < high:
        raise InvalidParameter("range", "The range is empty.", accepted="low,high with low below high")
    return Histogram(bins, (low, high))
