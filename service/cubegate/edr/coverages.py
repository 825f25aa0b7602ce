"""OGC API - Coverages: its parameters as a box of a cube, and what its domain set and range type say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyproj import CRS

from cubegate.edr.description import Axis, Description
from cubegate.edr.levels import Levels, read_levels
from cubegate.edr.parameters import (
    DATETIME,
    NATIVE,
    Asked,
    read_bbox,
)
from cubegate.edr.queries import Query
from cubegate.edr.units import UCUM, ucum
from cubegate.errors import InvalidParameter
from cubegate.formats.crs import crs_uri
from cubegate.query.crs import Bounds, lonlat, parse_crs, same_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.interval import Interval, parse_interval
from cubegate.query.parameters import (
    BBOX_CRS,
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

BBOX = Parameter(
    "bbox", "minx,miny,maxx,maxy in `bbox-crs`; the whole extent without it.", "-118.3,34,-118.1,34.2"
)
SUBSET = Parameter(
    "subset",
    'Ranges of axes, such as `Lat(34:35),Lon(-118:-117),time("2020-01-01":"2020-02-01")`: of the axes of the '
    "collection by their own names, or of Lat and Lon. `*` is an open end. May be repeated.",
    "Lat(34:34.2),Lon(-118.3:-118.1)",
)
SUBSET_CRS = Parameter("subset-crs", "The CRS of the ranges of x and y in `subset`.", "EPSG:32611")
PROPERTIES = Parameter(
    "properties", "Names of variables, separated by commas; all without it.", "displacement"
)
CRS_OUT = Parameter(
    "crs", "Reproject the answer to this CRS; the collection's own grid without it.", "EPSG:4326"
)
PARAMETERS = (BBOX, BBOX_CRS, DATETIME, SUBSET, SUBSET_CRS, PROPERTIES, CRS_OUT, WHERE, MASK, FORMAT, GROUP)

_RANGE = re.compile(r'\s*([^\s(),:"]+)\s*\(\s*("[^"]*"|[^:"()]*?)\s*(?:(:)\s*("[^"]*"|[^:"()]*?)\s*)?\)\s*')
_LONGITUDE, _LATITUDE = ("lon", "long", "longitude"), ("lat", "latitude")
_EASTING, _NORTHING = ("x", "e", "easting"), ("y", "n", "northing")
_TIME = ("time", "t", "datetime")
MAX_TEXT = 2_000


@dataclass(frozen=True)
class Range:
    """A range of one axis, as text; an end that is None is open. `single` is one place, not a range."""

    low: str | None
    high: str | None
    single: bool


@dataclass
class _Ranges:
    places: dict[str, Range] = field(default_factory=dict)
    degrees: bool = False
    interval: Interval | None = None
    levels: Levels = field(default_factory=Levels)


def read_coverage(items: Iterable[tuple[str, str]], cube: Description) -> tuple[Query, Asked]:
    """Read the parameters of a coverage request.

    Raises:
        InvalidParameter: one is malformed, contradicts another or names no axis.
    """
    items = list(items)
    given = read_once([item for item in items if item[0] != SUBSET.name])
    known = tuple(parameter.name for parameter in PARAMETERS)
    ranges = _assign(parse_subset([text for name, text in items if name == SUBSET.name]), cube)
    interval = parse_interval(given["datetime"]) if "datetime" in given else ranges.interval
    if "datetime" in given and ranges.interval is not None:
        raise InvalidParameter("subset", "Times are given by datetime too.", accepted="one of the two")
    where, mask = read_conditions(items).values()
    target = parse_crs(given["crs"]) if given.get("crs", NATIVE) != NATIVE else None
    if target is not None and cube.crs is not None and same_crs(target, cube.crs):
        target = None
    selectors = {name: text for name, text in given.items() if name not in known} | dict(
        ranges.levels.selectors
    )
    asked = Asked(
        given, known, None, target, read_names(given.get(PROPERTIES.name)), interval, where, mask, selectors
    )
    bounds, crs = _read_box(asked, ranges, cube)
    query = CubeQuery(bounds, crs, selectors=selectors, target_crs=target, **asked.common)
    return Query(query, "cube", levels=ranges.levels), asked


def read_group(items: Iterable[tuple[str, str]]) -> str:
    """Return the group of the cube that a coverage request is about, whose axes `subset` then names."""
    return next((text for name, text in items if name == GROUP.name), "")


def parse_subset(texts: Iterable[str]) -> dict[str, Range]:
    """Read the ranges of axes, by the axes' names as written.

    Raises:
        InvalidParameter: a text is malformed, or an axis is named twice.
    """
    found: dict[str, Range] = {}
    for text in texts:
        rest = text if len(text) <= MAX_TEXT else ""
        while True:
            match = _RANGE.match(rest)
            if match is None:
                raise _malformed(text)
            if match[1] in found:
                raise InvalidParameter("subset", f"The axis {match[1][:80]!r} is given more than once.")
            ends = [end.strip('"') if end not in (None, "", "*") else None for end in (match[2], match[4])]
            single = match[3] is None
            if single and ends[0] is None:
                raise _malformed(text)
            found[match[1]] = Range(ends[0], ends[0] if single else ends[1], single)
            rest = rest[match.end() :]
            if not rest:
                break
            if not rest.startswith(","):
                raise _malformed(text)
            rest = rest[1:]
    return found


def _malformed(text: str) -> InvalidParameter:
    return InvalidParameter("subset", f"{text[:80]!r} is no list of ranges of axes.", accepted=SUBSET.example)


def _assign(found: Mapping[str, Range], cube: Description) -> _Ranges:
    """Find which axis each name means: the collection's own names go before others."""
    ranges = _Ranges()
    own = [axis.name for axis in cube.axes] or ["", ""]
    geographic = cube.crs is not None and cube.crs.is_geographic
    others = {dimension.name: dimension for dimension in cube.dimensions}
    for name, each in found.items():
        lower = name.lower()
        if name in others:
            text = each.low if each.single else f"{each.low or '-inf'}/{each.high or 'inf'}"
            ranges.levels |= read_levels(str(text), others[name], "subset")
        elif (
            name in own
            or lower in (*_EASTING, *_NORTHING)
            or (geographic and lower in (*_LONGITUDE, *_LATITUDE))
        ):
            place = "x" if name == own[0] or (lower in (*_EASTING, *_LONGITUDE) and name != own[1]) else "y"
            _add(ranges, place, each, degrees=False)
        elif lower in (*_LONGITUDE, *_LATITUDE):
            _add(ranges, "x" if lower in _LONGITUDE else "y", each, degrees=True)
        elif name == cube.time or lower in _TIME:
            ranges.interval = _interval(each)
        else:
            names = [*filter(None, own), *others, *([cube.time] if cube.time else []), "Lat", "Lon"]
            raise InvalidParameter(
                "subset", f"There is no axis {name[:80]!r}.", accepted=", ".join(dict.fromkeys(names))
            )
    return ranges


def _add(ranges: _Ranges, place: str, each: Range, *, degrees: bool) -> None:
    if place in ranges.places or (ranges.places and degrees != ranges.degrees):
        raise InvalidParameter(
            "subset", "An axis is given twice, or in degrees beside one in the collection's own coordinates."
        )
    ranges.places[place], ranges.degrees = each, degrees


def _interval(each: Range) -> Interval:
    if each.single:
        return parse_interval(str(each.low), "subset")
    return parse_interval(f"{each.low or '..'}/{each.high or '..'}", "subset")


def _read_box(asked: Asked, ranges: _Ranges, cube: Description) -> tuple[Bounds | None, CRS | None]:
    named = asked.given.get(BBOX_CRS.name)
    crs = None if named == NATIVE else parse_crs(named, BBOX_CRS.name) if named is not None else lonlat()
    bounds, _ = read_bbox(asked, required=False)
    if bounds is None:
        return _box_of(asked, ranges, cube) if ranges.places else (None, None)
    if ranges.places:
        raise InvalidParameter("subset", "A box is given by bbox too.", accepted="one of the two")
    return bounds, crs


def _box_of(asked: Asked, ranges: _Ranges, cube: Description) -> tuple[Bounds, CRS | None]:
    """The box of the ranges of x and y; what is open ends where the collection does."""
    named = asked.given.get(SUBSET_CRS.name, NATIVE)
    crs = lonlat() if ranges.degrees else None
    if named != NATIVE:
        crs = parse_crs(named, SUBSET_CRS.name)
        extents: list[tuple[float, float] | None] = [None, None]
    elif ranges.degrees and cube.box is not None:
        west, south, east, north = cube.box
        extents = [(west, east + 360 * (east < west)), (south, north)]
    else:
        extents = [axis.extent for axis in cube.axes] if not ranges.degrees and cube.axes else [None, None]
    sides = [_ends(ranges.places.get(name), extent, name) for name, extent in zip("xy", extents, strict=True)]
    (west, east), (south, north) = sides
    return (west, south, east, north), crs


def _ends(each: Range | None, extent: tuple[float, float] | None, name: str) -> tuple[float, float]:
    ends = (None, None) if each is None else (each.low, each.high)
    if None in ends and extent is None:
        raise InvalidParameter(
            "subset",
            f"The range of {name} has an open end, which is not known here.",
            accepted="both x and y, with both ends",
        )
    known = extent or (0.0, 0.0)
    low, high = (known[side] if end is None else parse_number(end, "subset") for side, end in enumerate(ends))
    return low, high


@contextmanager
def coverage_names() -> Iterator[None]:
    """Call parameters in errors as OGC API - Coverages does."""
    try:
        yield
    except InvalidParameter as error:
        if error.parameter != "variables":
            raise
        raise InvalidParameter(PROPERTIES.name, error.detail, accepted=error.accepted) from error


def domain_set(cube: Description) -> dict[str, Any]:
    """Describe where the values are, as a general grid of OGC's coverage implementation schema.

    Raises:
        InvalidParameter: the collection is on several grids.
    """
    if not cube.axes:
        raise InvalidParameter(
            "collection_id", "This collection is combined of several grids, which have no one domain set."
        )
    axes = [
        _grid_axis(axis, "deg" if cube.crs is not None and cube.crs.is_geographic else "m")
        for axis in cube.axes
    ]
    if cube.times:
        axes.append(_irregular(str(cube.time), list(cube.times), "ISO8601"))
    axes += [_irregular(each.name, list(each.values), each.units or "1") for each in cube.dimensions]
    srs = crs_uri(cube.crs) or cube.crs.to_wkt() if cube.crs is not None else ""
    sizes = [len(axis.values) for axis in cube.axes]
    sizes += [len(cube.times)] if cube.times else []
    sizes += [len(each.values) for each in cube.dimensions]
    limits = [
        {"type": "IndexAxis", "axisLabel": axis["axisLabel"], "lowerBound": 0, "upperBound": size - 1}
        for axis, size in zip(axes, sizes, strict=True)
    ]
    labels = [axis["axisLabel"] for axis in axes]
    grid = {"type": "GridLimits", "srsName": f"http://www.opengis.net/def/crs/OGC/0/Index{len(axes)}D",
            "axisLabels": labels, "axis": limits}  # fmt: skip
    return {
        "type": "DomainSet",
        "generalGrid": {"type": "GeneralGridCoverage", "srsName": srs, "axisLabels": labels, "axis": axes,
                        "gridLimits": grid},
    }  # fmt: skip


def _grid_axis(axis: Axis, unit: str) -> dict[str, Any]:
    if not axis.regular or len(axis.values) < 2:
        return _irregular(axis.name, axis.values.tolist(), unit)
    first, last = float(axis.values[0]), float(axis.values[-1])
    return {
        "type": "RegularAxis",
        "axisLabel": axis.name,
        "lowerBound": min(first, last),
        "upperBound": max(first, last),
        "resolution": abs(last - first) / (len(axis.values) - 1),
        "uomLabel": unit,
    }


def _irregular(name: str, values: list[Any], unit: str) -> dict[str, Any]:
    return {"type": "IrregularAxis", "axisLabel": name, "coordinate": values, "uomLabel": unit}


def range_type(cube: Description) -> dict[str, Any]:
    """Describe the variables, as a data record of OGC's coverage implementation schema."""
    fields = []
    for each in cube.parameters:
        quantity: dict[str, Any] = {
            "type": "Quantity",
            "id": each.name,
            "name": each.label,
            "description": each.label,
        }
        quantity["encodingInfo"] = {"dataType": each.kind}
        if each.units:
            symbol = ucum(each.units)
            quantity["uom"] = {"type": "UnitReference", "id": UCUM, "code": symbol or each.units}
        if each.standard_name:
            quantity["definition"] = f"http://vocab.nerc.ac.uk/standard_name/{each.standard_name}/"
        fields.append(quantity)
    return {"type": "DataRecord", "field": fields}
