"""The request parameters of position and cube queries: what they are, and how their text is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import Condition, parse_conditions
from cubegate.query.crs import Bounds, lonlat, parse_crs, same_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.interval import Interval, parse_interval
from cubegate.query.position import Points, PositionQuery
from cubegate.query.reproject import check_resampling

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_POINT = re.compile(rf"\s*POINT\s*\(\s*({_NUMBER})\s+({_NUMBER})\s*\)\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Parameter:
    """One request parameter, for the documentation of the interface."""

    name: str
    description: str
    example: str
    required: bool = False

    def as_openapi(self) -> dict[str, Any]:
        """Describe it as an OpenAPI parameter object."""
        return {
            "name": self.name,
            "in": "query",
            "required": self.required,
            "description": self.description,
            "schema": {"type": "string"},
            "examples": {"example": {"value": self.example}},
        }


LON = Parameter("lon", "Longitude in degrees (WGS 84), -180..180 or 0..360; with `lat`.", "-118.2")
LAT = Parameter("lat", "Latitude in degrees (WGS 84); with `lon`.", "34.1")
X = Parameter("x", "Easting in the dataset's own CRS, or in `crs`; with `y`.", "400000")
Y = Parameter("y", "Northing in the dataset's own CRS, or in `crs`; with `x`.", "3900000")
COORDS = Parameter(
    "coords", "A WKT point, x (or longitude) first; in `crs`, lon/lat without it.", "POINT(-118.2 34.1)"
)
POINT_CRS = Parameter("crs", "The CRS of `coords`, or of `x` and `y`: any that PROJ knows.", "EPSG:32611")
VARIABLES = Parameter(
    "variables", "Names, separated by commas; all variables on the grid by default.", "displacement"
)
DATETIME = Parameter(
    "datetime",
    "A time, date, month or year, or an interval `start/end`, `start/..`, `../end`.",
    "2020-01-01/..",
)
WHERE = Parameter(
    "where",
    "Only dates whose variables meet all conditions, as in `date_dt<60d,satellite_img1='1A'`: a name, one "
    "of `= != < <= > >=`, and a number, a duration (`60d`, `12h`, `30m`, `10s`), a date or a text. May be "
    "repeated.",
    "date_dt<60d",
)
MASK = Parameter(
    "mask",
    "Only cells that meet all conditions on variables of the grid; others are missing: a name, for what is "
    "not zero, or a comparison as in `where`. May be repeated.",
    "temporal_coherence>=0.6",
)
GROUP = Parameter("group", "The group of the dataset, where it has several.", "")
FORMAT = Parameter("f", "The output format.", "csv")
BBOX = Parameter(
    "bbox",
    "minx,miny,maxx,maxy in `bbox-crs`; the whole extent without it. One with its west in the east crosses "
    "the antimeridian.",
    "-118.3,34,-118.1,34.2",
)
BBOX_CRS = Parameter(
    "bbox-crs", "The CRS of `bbox`: any that PROJ knows, or `native`; lon/lat by default.", "OGC:CRS84"
)
CRS_OUT = Parameter(
    "crs", "Reproject the answer to this CRS; the dataset's own grid without it.", "EPSG:4326"
)
RESAMPLING = Parameter(
    "resampling", "How to reproject: nearest (default), bilinear, cubic, average ...", "nearest"
)
COMPRESS = Parameter("compress", "NetCDF: the deflate level, 0 to 9.", "4")

TABLE_PARAMETERS = (POINT_CRS, VARIABLES, DATETIME, WHERE, MASK, FORMAT, GROUP)
POSITION_PARAMETERS = (LON, LAT, X, Y, COORDS, *TABLE_PARAMETERS)
CUBE_PARAMETERS = (
    BBOX, BBOX_CRS, CRS_OUT, RESAMPLING, VARIABLES, DATETIME, WHERE, MASK, FORMAT, COMPRESS, GROUP
)  # fmt: skip
REPEATED = (WHERE.name, MASK.name)


@dataclass(frozen=True)
class Request:
    """What the parameters ask for beside the query itself; `format` is None where it is not named."""

    query: PositionQuery | CubeQuery
    format: str | None
    group: str
    options: Mapping[str, Any]

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions that the answer meets, by parameter, for its provenance."""
        named = {"where": self.query.where, "mask": self.query.mask}
        return {name: ", ".join(map(str, each)) for name, each in named.items() if each}


def read_position(items: Iterable[tuple[str, str]]) -> Request:
    """Read the parameters of a query for one point.

    Raises:
        InvalidParameter: one is missing, malformed, given twice or contradicts another.
    """
    items = list(items)
    given = read_once(items)
    query = PositionQuery(
        _read_point(given),
        read_names(given.get("variables")),
        _read_interval(given),
        _others(given, POSITION_PARAMETERS),
        _names(POSITION_PARAMETERS),
        **read_conditions(items),
    )
    return Request(query, given.get("f"), given.get("group", ""), {})


def read_table(items: Iterable[tuple[str, str]], points: Points) -> Request:
    """Read the parameters of a query for the points of a request body.

    Raises:
        InvalidParameter: as `read_position`.
    """
    items = list(items)
    given = read_once(items)
    query = PositionQuery(
        points,
        read_names(given.get("variables")),
        _read_interval(given),
        _others(given, TABLE_PARAMETERS),
        _names(TABLE_PARAMETERS),
        **read_conditions(items),
    )
    return Request(query, given.get("f"), given.get("group", ""), {})


def read_cube(items: Iterable[tuple[str, str]]) -> Request:
    """Read the parameters of a query for a box.

    Raises:
        InvalidParameter: as `read_position`.
    """
    items = list(items)
    given = read_once(items)
    named = given.get("bbox-crs", "OGC:CRS84")
    resampling = given.get("resampling", "nearest")
    check_resampling(resampling)
    conditions = read_conditions(items)
    query = CubeQuery(
        bounds=parse_bbox(given["bbox"]) if "bbox" in given else None,
        crs=None if named == "native" else parse_crs(named, "bbox-crs"),
        variables=read_names(given.get("variables")),
        interval=_read_interval(given),
        selectors=_others(given, CUBE_PARAMETERS),
        known=_names(CUBE_PARAMETERS),
        target_crs=parse_crs(given["crs"], "crs") if "crs" in given else None,
        resampling=resampling,
        where=conditions["where"],
        mask=conditions["mask"],
    )
    options = {"compress": _read_level(given["compress"])} if "compress" in given else {}
    return Request(query, given.get("f"), given.get("group", ""), options)


def parse_number(text: str, parameter: str) -> float:
    """Read a finite decimal number.

    Raises:
        InvalidParameter: it is none.
    """
    number = float(text) if re.fullmatch(rf"\s*{_NUMBER}\s*", text, re.ASCII) else math.nan
    if not math.isfinite(number):
        raise InvalidParameter(
            parameter, f"{text[:80]!r} is not a number.", accepted="a decimal number such as -118.2"
        )
    return number


def parse_bbox(text: str) -> Bounds:
    """Read minx,miny,maxx,maxy.

    Raises:
        InvalidParameter: these are not four numbers.
    """
    parts = text.split(",")
    if len(parts) == 6:
        raise InvalidParameter(
            "bbox", "A bbox with heights is not possible here.", accepted="minx,miny,maxx,maxy"
        )
    if len(parts) != 4:
        raise InvalidParameter("bbox", f"{text[:80]!r} is not four numbers.", accepted="minx,miny,maxx,maxy")
    west, south, east, north = (parse_number(part, "bbox") for part in parts)
    return west, south, east, north


def read_crs(items: Iterable[tuple[str, str]]) -> CRS | None:
    """Return the CRS that `crs` names, None where it is not given.

    Raises:
        InvalidParameter: PROJ does not know it.
    """
    given = dict(items)
    return parse_crs(given["crs"]) if "crs" in given else None


def read_once(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters by name, without those that may be repeated.

    Raises:
        InvalidParameter: another is given more than once.
    """
    given: dict[str, str] = {}
    for name, text in items:
        if name in REPEATED:
            continue
        if name in given:
            raise InvalidParameter(name, f"The parameter {name[:80]!r} is given more than once.")
        given[name] = text
    return given


def _read_point(given: Mapping[str, str]) -> Points:
    ways = [way for way in (("lon", "lat"), ("x", "y"), ("coords",)) if any(name in given for name in way)]
    if len(ways) != 1:
        detail = "The point is missing." if not ways else "The point is given in more than one way."
        named = ways[-1][0] if ways else "lon"
        raise InvalidParameter(named, detail, accepted="lon= and lat=, or x= and y=, or coords=POINT(x y)")
    crs = parse_crs(given["crs"]) if "crs" in given else None
    if ways[0] == ("coords",):
        match = _POINT.fullmatch(given["coords"])
        if match is None:
            raise InvalidParameter(
                "coords", f"{given['coords'][:80]!r} is no WKT point.", accepted="POINT(x y)"
            )
        x, y = parse_number(match[1], "coords"), parse_number(match[2], "coords")
        return Points((x,), (y,), crs or lonlat(), parameter="coords")
    first, second = ("lon", "lat") if "lon" in ways[0] else ("x", "y")
    for name in (first, second):
        if name not in given:
            raise InvalidParameter(name, f"{first} and {second} belong together, and {name} is missing.")
    x, y = parse_number(given[first], first), parse_number(given[second], second)
    if first == "x":
        return Points((x,), (y,), crs, parameter="x")
    if crs is not None and not same_crs(crs, lonlat()):
        raise InvalidParameter(
            "crs", "lon and lat are WGS 84 degrees.", accepted="x= and y=, or coords=, with this crs"
        )
    return Points((x,), (y,), lonlat(), parameter="lon")


def read_names(text: str | None) -> tuple[str, ...] | None:
    """Read names that are separated by commas; None where there is no text."""
    return None if text is None else tuple(name for part in text.split(",") if (name := part.strip()))


def read_conditions(items: list[tuple[str, str]]) -> dict[str, tuple[Condition, ...]]:
    """Read the parameters that may be repeated, by name.

    Raises:
        InvalidParameter: one is no condition.
    """
    return {name: parse_conditions([text for key, text in items if key == name], name) for name in REPEATED}


def _read_interval(given: Mapping[str, str]) -> Interval | None:
    return parse_interval(given["datetime"]) if "datetime" in given else None


def _read_level(text: str) -> int:
    if len(text) == 1 and text in "0123456789":
        return int(text)
    raise InvalidParameter("compress", f"{text[:80]!r} is no deflate level.", accepted="0 to 9")


def _others(given: Mapping[str, str], known: tuple[Parameter, ...]) -> dict[str, str]:
    names = _names(known)
    return {name: text for name, text in given.items() if name not in names}


def _names(parameters: tuple[Parameter, ...]) -> tuple[str, ...]:
    return tuple(parameter.name for parameter in parameters)
