"""Requests of WMS 1.3.0 and 1.1.1: parameters in any case, and the order of coordinates in each version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import parse_conditions
from cubegate.query.crs import Bounds, lonlat, parse_crs
from cubegate.query.lattice import Lattice
from cubegate.query.parameters import GROUP, MASK, WHERE, Parameter, parse_number
from cubegate.tiling.colours import check_colormap
from cubegate.tiling.layers import Layer
from cubegate.tiling.matrices import is_north_first
from cubegate.tiling.parameters import COLORMAP, RESCALE, Asked
from cubegate.tiling.style import parse_rescale

NEW, OLD = "1.3.0", "1.1.1"
MAP_FORMAT = "image/png"
# what GDAL asks for and nothing else, and in what QGIS finds features
GML = "application/vnd.ogc.gml"
INFO_FORMATS = ("application/json", "text/plain", "text/html", GML)
OPERATIONS = ("GetCapabilities", "GetMap", "GetFeatureInfo", "GetLegendGraphic")
MOST_PIXELS = 2048
# a client may ask about a pixel of a screen that it has put together from several maps
MOST_SCREEN_PIXELS = 2**15
DEFAULT_STYLE = "default"
_FORMATS = ("image/png", "image/png8", "image/png; mode=8bit", "image/png;mode=8bit")
_COLOUR = re.compile(r"0[xX]([0-9A-Fa-f]{6})", re.ASCII)
_EXAMPLES = {
    "service": "WMS", "request": "GetMap", "version": NEW, "layers": "height", "styles": "",
    "crs": "EPSG:4326", "srs": "EPSG:4326", "bbox": "36.13,-117,36.15,-116.99", "width": "256",
    "height": "256", "format": MAP_FORMAT, "transparent": "TRUE", "bgcolor": "0xFFFFFF",
    "time": "2020-01-13", "query_layers": "height", "info_format": INFO_FORMATS[0], "i": "10", "j": "10",
    "x": "10", "y": "10", "layer": "height", "style": DEFAULT_STYLE,
}  # fmt: skip
PARAMETERS = (
    *(Parameter(name, "As WMS says, in any case.", example) for name, example in _EXAMPLES.items()),
    RESCALE, COLORMAP, WHERE, MASK, GROUP,
)  # fmt: skip
# the parameters that WMS does not know
_BEYOND = tuple(each.name for each in (RESCALE, COLORMAP, WHERE, MASK, GROUP))


@dataclass(frozen=True)
class MapRequest:
    """One layer on a map, or its legend where there is no lattice.

    `point` is the column and row of a pixel that is asked about. `background` None is transparent.
    """

    layer: str
    asked: Asked
    dimensions: Mapping[str, str]
    lattice: Lattice | None = None
    background: tuple[int, int, int] | None = None
    point: tuple[int, int] = (0, 0)
    info_format: str = INFO_FORMATS[0]

    def complete(self, layer: Layer) -> Asked:
        """Return what is asked for, with the default place along each dimension that is not named."""
        named = {
            each.name: self.dimensions.get(each.name.lower(), each.values[0]) for each in layer.dimensions
        }
        return Asked(
            self.asked.variable, self.asked.date, self.asked.rescale, self.asked.colormap, self.asked.group,
            self.asked.where, self.asked.mask, named,
        )  # fmt: skip


def read_names(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters by their names in lower case.

    Raises:
        InvalidParameter: one is given twice.
    """
    given: dict[str, str] = {}
    for name, text in items:
        if name.lower() in given:
            raise InvalidParameter(name.lower(), f"The parameter {name[:80]!r} is given more than once.")
        given[name.lower()] = text
    return given


def read_version(given: Mapping[str, str]) -> str:
    """Return the version to answer in: that which is asked for, or what WMS's negotiation makes of it."""
    text = given.get("version") or given.get("wmtver") or ""
    parts = tuple(
        int(part) for part in text.split(".") if part.isascii() and part.isdigit() and len(part) < 9
    )
    if not parts:
        return OLD if "srs" in given and "crs" not in given else NEW
    return NEW if parts >= (1, 3) else OLD


def read_operation(given: Mapping[str, str]) -> str:
    """Return the operation's name.

    Raises:
        InvalidParameter: there is no such operation or service.
    """
    if given.get("service", "WMS").upper() != "WMS":
        raise InvalidParameter("service", "This is a WMS.", accepted="WMS")
    text = given.get("request", "GetCapabilities" if not given else "")
    for operation in OPERATIONS:
        if text.lower() in (operation.lower(), operation.lower().removeprefix("get")):
            return operation
    accepted = ", ".join(OPERATIONS)
    raise InvalidParameter("request", f"There is no operation {text[:80]!r}.", accepted=accepted)


def read_kept(given: Mapping[str, str]) -> dict[str, str]:
    """Return what stays asked in the addresses of the capabilities, by which clients ask for all else.

    Raises:
        InvalidParameter: one of these is malformed.
    """
    _read_asked(given, "")
    return {
        name if name in _BEYOND else name.upper(): text
        for name, text in given.items()
        if text and (name in (*_BEYOND, "time", "elevation") or name.startswith("dim_"))
    }


def read_map(given: Mapping[str, str], version: str) -> MapRequest:
    """Read a GetMap.

    Raises:
        InvalidParameter: a parameter is missing or cannot be used.
    """
    _check_format(given, "format", _FORMATS)
    return MapRequest(
        _one(given, "layers"),
        _read_asked(given, "styles"),
        _dimensions(given),
        _read_lattice(given, version),
        _read_background(given),
    )


def read_feature_info(given: Mapping[str, str], version: str) -> MapRequest:
    """Read a GetFeatureInfo.

    Raises:
        InvalidParameter: as `read_map`; or the pixel is outside of the map.
    """
    info_format = given.get("info_format") or INFO_FORMATS[0]
    if info_format not in INFO_FORMATS:
        raise InvalidParameter(
            "info_format", f"There is no format {info_format[:80]!r}.", accepted=", ".join(INFO_FORMATS)
        )
    lattice = _read_lattice(given, version, MOST_SCREEN_PIXELS)
    names = ("i", "j") if version == NEW else ("x", "y")
    names = ("x", "y") if "x" in given and "i" not in given else names
    column = _whole(given, names[0], 0, lattice.width - 1)
    row = _whole(given, names[1], 0, lattice.height - 1)
    layer = _one(given, "query_layers") if "query_layers" in given else _one(given, "layers")
    lattice, point = _part_around(lattice, column, row)
    return MapRequest(
        layer, _read_asked(given, "styles"), _dimensions(given), lattice, None, point, info_format
    )


def _part_around(lattice: Lattice, column: int, row: int) -> tuple[Lattice, tuple[int, int]]:
    """Return the part of a map that one map may show and that holds a pixel, and the pixel's place in it."""
    first, top = column - column % MOST_PIXELS, row - row % MOST_PIXELS
    part = replace(
        lattice,
        west=lattice.west + first * lattice.width_of_cell,
        north=lattice.north - top * lattice.height_of_cell,
        width=min(MOST_PIXELS, lattice.width - first),
        height=min(MOST_PIXELS, lattice.height - top),
    )
    return part, (column - first, row - top)


def read_legend(given: Mapping[str, str]) -> MapRequest:
    """Read a GetLegendGraphic.

    Raises:
        InvalidParameter: a parameter is missing or cannot be used.
    """
    if "format" in given:
        _check_format(given, "format", _FORMATS)
    layer = _one(given, "layer") if "layer" in given else _one(given, "layers")
    return MapRequest(layer, _read_asked(given, "style"), {})


def _read_asked(given: Mapping[str, str], style: str) -> Asked:
    named = given.get(style, "").strip()
    if "," in named:
        raise InvalidParameter(style, "A map shows one layer, in one style.")
    try:
        colormap = check_colormap(named) if named.lower() not in ("", DEFAULT_STYLE) else None
    except InvalidParameter as error:
        raise InvalidParameter(
            "styles", error.detail, accepted=f"{DEFAULT_STYLE}, {error.accepted}"
        ) from None
    return Asked(
        date=given.get("time") or None,
        rescale=parse_rescale(given["rescale"]) if given.get("rescale") else None,
        colormap=check_colormap(given["colormap"]) if given.get("colormap") else colormap,
        group=given.get("group", ""),
        where=parse_conditions([given["where"]] if given.get("where") else [], "where"),
        mask=parse_conditions([given["mask"]] if given.get("mask") else [], "mask"),
    )


def _dimensions(given: Mapping[str, str]) -> dict[str, str]:
    found = {name.removeprefix("dim_"): text for name, text in given.items() if name.startswith("dim_")}
    return found | {"elevation": given["elevation"]} if "elevation" in given else found


def _one(given: Mapping[str, str], name: str) -> str:
    text = _required(given, name)
    if "," in text:
        raise InvalidParameter("layers", "A map shows one layer.", accepted="one layer")
    return text


def _required(given: Mapping[str, str], name: str) -> str:
    if not given.get(name):
        raise InvalidParameter(name, f"The parameter {name.upper()} is missing.")
    return given[name]


def _check_format(given: Mapping[str, str], name: str, accepted: tuple[str, ...]) -> None:
    text = _required(given, name)
    if text.lower() not in accepted:
        raise InvalidParameter(name, f"There is no format {text[:80]!r}.", accepted=MAP_FORMAT)


def _whole(given: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = _required(given, name)
    if text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    raise InvalidParameter(name, f"{name.upper()}={text[:80]} is not possible.", accepted=f"{low} to {high}")


def read_crs(given: Mapping[str, str], version: str) -> CRS:
    """Return the CRS of a map, one object for each.

    Raises:
        InvalidParameter: it is missing, or not named by a code.
    """
    name = "crs" if version == NEW else "srs"
    text = given.get(name) or given.get("srs") or given.get("crs") or ""
    if text.upper() in ("CRS:84", "OGC:CRS84"):
        return lonlat()
    if not re.fullmatch(r"[A-Za-z]{2,10}:[0-9]{1,8}", text, re.ASCII):
        said = "The CRS is missing." if not text else f"There is no CRS {text[:80]!r} here."
        raise InvalidParameter("crs", said, accepted="one of the capabilities'")
    return parse_crs(text.upper())


def _read_lattice(given: Mapping[str, str], version: str, most: int = MOST_PIXELS) -> Lattice:
    crs = read_crs(given, version)
    width, height = (_whole(given, name, 1, most) for name in ("width", "height"))
    parts = _required(given, "bbox").split(",")
    if len(parts) != 4:
        raise InvalidParameter("bbox", "The BBOX is not four numbers.", accepted="minx,miny,maxx,maxy")
    first, second, third, fourth = (parse_number(part, "bbox") for part in parts)
    bounds: Bounds = (first, second, third, fourth)
    if version == NEW and crs is not lonlat() and is_north_first(crs):
        bounds = (second, first, fourth, third)
    west, south, east, north = bounds
    cell = (east - west) / width, (north - south) / height
    if not (west < east and south < north and 0 < cell[0] < float("inf") and 0 < cell[1] < float("inf")):
        raise InvalidParameter("bbox", "The BBOX is empty.", accepted="minx,miny,maxx,maxy")
    return Lattice(crs, west, north, *cell, width, height)


def _read_background(given: Mapping[str, str]) -> tuple[int, int, int] | None:
    if given.get("transparent", "FALSE").upper() == "TRUE":
        return None
    text = given.get("bgcolor") or "0xFFFFFF"
    match = _COLOUR.fullmatch(text)
    if match is None:
        raise InvalidParameter("bgcolor", f"{text[:80]!r} is no colour.", accepted="0xRRGGBB")
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue
