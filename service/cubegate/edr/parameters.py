"""The request parameters of EDR queries: what they are, and how their text is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pyproj import CRS

from cubegate.edr.description import Dimension
from cubegate.edr.levels import Levels, read_levels
from cubegate.errors import InvalidParameter
from cubegate.query.area import Area, make_area
from cubegate.query.conditions import Condition
from cubegate.query.crs import Bounds, lonlat, parse_crs
from cubegate.query.footprint import degrees_of
from cubegate.query.interval import Interval, parse_interval
from cubegate.query.parameters import (
    FORMAT,
    GROUP,
    MASK,
    WHERE,
    Parameter,
    parse_number,
    read_conditions,
    read_names,
    read_once,
)
from cubegate.query.position import Points
from cubegate.query.trajectory import Line
from cubegate.query.wkt import parse_wkt

COORDS = "coords"


def _coords(example: str) -> Parameter:
    return Parameter("coords", "Well-known text, x (or longitude) first, in `crs`.", example, required=True)


Z = Parameter("z", "Levels of a vertical dimension: one, `a,b`, `low/high` or `Rcount/first/step`.", "500")
DATETIME = Parameter("datetime", "A time, or an interval `start/end`, `start/..`, `../end`.", "2020-01-01/..")
NAMES = Parameter("parameter-name", "Names, separated by commas; all without it.", "displacement")
CRS_BOTH = Parameter(
    "crs",
    "The CRS of the coordinates and of the answer. Without it, coordinates are longitude and latitude and "
    "the answer is on the collection's own grid.",
    "OGC:CRS84",
)
BBOX = Parameter(
    "bbox", "minx,miny,maxx,maxy, or with heights minx,miny,minz,maxx,maxy,maxz.", "-118.3,34,-118.1,34.2"
)
CUBE_BBOX = replace(BBOX, required=True)
PAGE_FORMAT = Parameter("f", "`json` or `html`; by the Accept header without it.", "json")
LIMIT = Parameter("limit", "How many collections a page has, 1 to 100.", "50")
OFFSET = Parameter("offset", "How many collections are left out before the page.", "0")

_COMMON = (DATETIME, NAMES, Z, CRS_BOTH, WHERE, MASK, FORMAT, GROUP)
PARAMETERS: Mapping[str, tuple[Parameter, ...]] = {
    "position": (_coords("POINT(-118.2 34.1)"), *_COMMON),
    "area": (_coords("POLYGON((-118.3 34,-118.1 34,-118.1 34.2,-118.3 34))"), *_COMMON),
    "cube": (CUBE_BBOX, *_COMMON),
    "trajectory": (_coords("LINESTRING(-118.3 34,-118.1 34.2)"), *_COMMON),
}
# as queries name the parameters that are called otherwise here
_RENAMED = {"variables": NAMES.name, "bbox-crs": CRS_BOTH.name, "x": COORDS, "lon": COORDS}
# as OWSLib calls it
_OTHERWISE = {"parameter_names": NAMES.name}
NATIVE = "native"
# that times in nanoseconds reach
LAST_SECOND = 9.2e9


@dataclass(frozen=True)
class Asked:
    """What the parameters of one request ask for.

    Attributes:
        given: the parameters that are given once, by name, as text.
        crs: of coordinates: None is the grid's own.
        target_crs: of the answer: None is the grid's own.
        selectors: those of dimensions beyond x, y and time.
    """

    given: Mapping[str, str]
    known: tuple[str, ...]
    crs: CRS | None
    target_crs: CRS | None
    variables: tuple[str, ...] | None
    interval: Interval | None
    where: tuple[Condition, ...]
    mask: tuple[Condition, ...]
    selectors: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The group of the cube that is asked, the root without one."""
        return self.given.get(GROUP.name, "")

    @property
    def common(self) -> dict[str, Any]:
        """What both kinds of queries take as it is."""
        return {
            "variables": self.variables,
            "interval": self.interval,
            "known": self.known,
            "where": self.where,
            "mask": self.mask,
        }

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions that the answer meets, by parameter, for its provenance."""
        named = {"where": self.where, "mask": self.mask}
        return {name: ", ".join(map(str, each)) for name, each in named.items() if each}


def read_query(items: Iterable[tuple[str, str]], kind: str) -> Asked:
    """Read what all queries have in common; `kind` is position, area, cube or trajectory.

    Raises:
        InvalidParameter: a parameter is malformed, or given twice.
    """
    items = [(_OTHERWISE.get(name, name), text) for name, text in items]
    given = read_once(items)
    named = given.get("crs")
    crs = None if named == NATIVE else parse_crs(named) if named is not None else lonlat()
    known = tuple(parameter.name for parameter in PARAMETERS[kind])
    interval = parse_interval(given["datetime"]) if "datetime" in given else None
    where, mask = read_conditions(items).values()
    return Asked(
        given,
        known,
        crs,
        None if named in (None, NATIVE) else crs,
        read_names(given.get(NAMES.name)),
        interval,
        where,
        mask,
        {name: text for name, text in given.items() if name not in known},
    )


def read_points(asked: Asked) -> Points:
    """Read the points of a position query.

    Raises:
        InvalidParameter: `coords` is no POINT or MULTIPOINT.
    """
    geometry = parse_wkt(asked.given.get(COORDS, ""), ("POINT", "MULTIPOINT"))
    x, y = (tuple(geometry.positions[:, number].tolist()) for number in (0, 1))
    return Points(x, y, asked.crs, many=geometry.kind == "MULTIPOINT")


def read_area(asked: Asked) -> Area:
    """Read the polygons of an area query.

    Raises:
        InvalidParameter: `coords` is no valid POLYGON or MULTIPOLYGON.
    """
    geometry = parse_wkt(asked.given.get(COORDS, ""), ("POLYGON", "MULTIPOLYGON"))
    return make_area(geometry.parts, asked.crs, COORDS)


def read_line(asked: Asked) -> Line:
    """Read the line of a trajectory query.

    Raises:
        InvalidParameter: `coords` is no LINESTRING, or has times or heights that are
            given as parameters too.
    """
    geometry = parse_wkt(asked.given.get(COORDS, ""), ("LINESTRING",))
    for dim, name in (("M", "datetime"), ("Z", "z")):
        if dim in geometry.dims and name in asked.given:
            raise InvalidParameter(
                name,
                f"The line has {dim} values, and {name} is given too.",
                accepted=f"one of them, no {name}",
            )
    positions = geometry.positions
    moments = positions[:, -1] if "M" in geometry.dims else None
    if moments is not None and (np.abs(moments) > LAST_SECOND).any():
        raise InvalidParameter(
            "coords", "M values are seconds since 1970.", accepted=f"up to {LAST_SECOND:.0f}"
        )
    return Line(positions[:, 0], positions[:, 1], moments, asked.crs)


def read_bbox(asked: Asked, *, required: bool) -> tuple[Bounds | None, tuple[float, float] | None]:
    """Read a bbox and its heights, if there are any.

    Raises:
        InvalidParameter: it is missing, or neither four nor six numbers.
    """
    accepted = "minx,miny,maxx,maxy or minx,miny,minz,maxx,maxy,maxz"
    text = asked.given.get(BBOX.name, "").strip()
    if not text:
        if required or BBOX.name in asked.given:
            raise InvalidParameter(BBOX.name, "The parameter 'bbox' is missing.", accepted=accepted)
        return None, None
    parts = text.split(",")
    if len(parts) not in (4, 6):
        raise InvalidParameter(
            BBOX.name, f"{text[:80]!r} is neither four nor six numbers.", accepted=accepted
        )
    numbers = [parse_number(part, BBOX.name) for part in parts]
    heights = None
    if len(numbers) == 6:
        heights = numbers.pop(2), numbers.pop(4)
    west, south, east, north = numbers
    return (west, south, east, north), heights


def read_height(
    asked: Asked, vertical: Dimension | None, heights: tuple[float, float] | None = None
) -> Levels:
    """Return the levels that `z`, or a bbox with heights, names, with the selectors of other dimensions.

    Raises:
        InvalidParameter: there are no such levels.
    """
    others = Levels(asked.selectors)
    text = asked.given.get(Z.name, "").strip()
    if not text and heights is not None:
        text = f"{heights[0]:.17g}/{heights[1]:.17g}"
    if vertical is None or not text:
        return others
    return others | read_levels(text, vertical, Z.name)


def read_page(items: Iterable[tuple[str, str]], known: Iterable[Parameter]) -> dict[str, str]:
    """Read the parameters of a document.

    Raises:
        InvalidParameter: one is unknown, or given twice.
    """
    given = read_once(items)
    names = [parameter.name for parameter in known]
    for name in given:
        if name not in names:
            raise InvalidParameter(
                name, f"There is no parameter {name[:80]!r} here.", accepted=", ".join(names)
            )
    return given


def read_count(
    given: Mapping[str, str], parameter: Parameter, default: int, lowest: int, highest: int
) -> int:
    """Read a whole number.

    Raises:
        InvalidParameter: it is none, or outside of `lowest` to `highest`.
    """
    text = given.get(parameter.name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 10 and lowest <= int(text) <= highest:
        return int(text)
    raise InvalidParameter(
        parameter.name,
        f"{parameter.name}={text[:80]} is not possible.",
        accepted=f"a whole number from {lowest} to {highest}",
    )


def require(asked: Asked, kind: str) -> None:
    """Refuse a request without the coordinates of its query, before anything is opened for it.

    Raises:
        InvalidParameter: they are missing.
    """
    first = PARAMETERS[kind][0]
    if not asked.given.get(first.name, "").strip():
        raise InvalidParameter(
            first.name, f"The parameter {first.name!r} is missing.", accepted=f"{first.name}={first.example}"
        )


def asks_height(asked: Asked) -> bool:
    """Tell whether a vertical dimension matters."""
    return Z.name in asked.given or asked.given.get(BBOX.name, "").count(",") == 5


def degrees(bounds: Bounds, crs: CRS | None) -> Bounds | None:
    """Return a box in degrees; None where it has none, or its CRS is that of a grid."""
    return None if crs is None else degrees_of(bounds, crs)


@contextmanager
def edr_names() -> Iterator[None]:
    """Call parameters in errors as EDR does."""
    try:
        yield
    except InvalidParameter as error:
        if error.parameter not in _RENAMED:
            raise
        raise InvalidParameter(_RENAMED[error.parameter], error.detail, accepted=error.accepted) from error
