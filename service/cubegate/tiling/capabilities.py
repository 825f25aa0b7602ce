"""The capabilities of a WMS, of version 1.3.0 and of 1.1.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

from numpy.typing import NDArray

from cubegate.errors import BudgetExceeded
from cubegate.formats.times import iso_times
from cubegate.query.crs import Bounds
from cubegate.tiling.colours import SOME
from cubegate.tiling.dates import describe_dates
from cubegate.tiling.layers import Layer
from cubegate.tiling.legend import legend_size
from cubegate.tiling.map_crs import bounds_of, known_crs
from cubegate.tiling.matrices import is_north_first
from cubegate.tiling.metadata import lonlat_bounds
from cubegate.tiling.style import read_categories
from cubegate.tiling.wms import DEFAULT_STYLE, INFO_FORMATS, MAP_FORMAT, MOST_PIXELS, NEW, OLD
from cubegate.tiling.wms_errors import MEDIA_TYPES as ERROR_TYPES
from cubegate.tiling.wms_errors import legal

# characters of the places along dimensions, in all
_MOST_TEXT = 2**25
MEDIA_TYPES = {NEW: "text/xml", OLD: "application/vnd.ogc.wms_xml"}
_DOCTYPE = (
    '<!DOCTYPE WMT_MS_Capabilities SYSTEM "http://schemas.opengis.net/wms/1.1.1/WMS_MS_Capabilities.dtd">\n'
)


@dataclass(frozen=True)
class ServiceFacts:
    """What a service says of itself: `address` is where it answers, and ends in nothing but `/wms`.

    `kept` is what every address asks for, so that clients that take addresses from here ask for it too.
    """

    title: str
    address: str
    version: str
    kept: Mapping[str, str]

    @property
    def new(self) -> bool:
        """Whether it is 1.3.0."""
        return self.version == NEW

    def asking(self, **asked: str) -> str:
        """Return an address that asks for something beside what is kept; more may be appended to it."""
        query = urlencode({**self.kept, **asked}, safe=",", quote_via=quote)
        return f"{self.address}?{query}&" if query else f"{self.address}?"


@dataclass(frozen=True)
class _Stated:
    """What is said of a dimension: its name and unit, the default, and all places along it."""

    named: Mapping[str, str]
    default: str
    extent: str


def write_capabilities(facts: ServiceFacts, layers: Sequence[Layer]) -> bytes:
    """Return the document.

    Raises:
        BudgetExceeded: the dates and other places along dimensions are too many for one document.
    """
    stated = _state_dimensions(layers)
    root = ET.Element("WMS_Capabilities" if facts.new else "WMT_MS_Capabilities", {"version": facts.version})
    if facts.new:
        root.set("xmlns", "http://www.opengis.net/wms")
    root.set("xmlns:xlink", "http://www.w3.org/1999/xlink")
    if not facts.new:
        # the DTD knows it on the elements that use it
        root.attrib.pop("xmlns:xlink")
    service = ET.SubElement(root, "Service")
    _text(service, "Name", "WMS" if facts.new else "OGC:WMS")
    _text(service, "Title", facts.title)
    _resource(service, facts, facts.address)
    if facts.new:
        _text(service, "LayerLimit", "1")
        _text(service, "MaxWidth", str(MOST_PIXELS))
        _text(service, "MaxHeight", str(MOST_PIXELS))
    capability = ET.SubElement(root, "Capability")
    _requests(capability, facts)
    _text(ET.SubElement(capability, "Exception"), "Format", "XML" if facts.new else ERROR_TYPES[OLD])
    whole = ET.SubElement(capability, "Layer")
    _text(whole, "Title", facts.title)
    for layer, dimensions in zip(layers, stated, strict=True):
        _layer(whole, facts, layer, dimensions)
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n' + (b"" if facts.new else _DOCTYPE.encode())
    return head + ET.tostring(root, "unicode").encode() + b"\n"


def _text(
    parent: ET.Element, name: str, text: str, attributes: Mapping[str, str] | None = None
) -> ET.Element:
    element = ET.SubElement(parent, name, dict(attributes or {}))
    element.text = legal(text)
    return element


def _resource(parent: ET.Element, facts: ServiceFacts, address: str) -> None:
    attributes = {"xlink:type": "simple", "xlink:href": address}
    if not facts.new:
        attributes = {"xmlns:xlink": "http://www.w3.org/1999/xlink", **attributes}
    ET.SubElement(parent, "OnlineResource", attributes)


def _requests(capability: ET.Element, facts: ServiceFacts) -> None:
    request = ET.SubElement(capability, "Request")
    formats = {
        "GetCapabilities": (MEDIA_TYPES[facts.version],),
        "GetMap": (MAP_FORMAT,),
        "GetFeatureInfo": INFO_FORMATS,
    }
    for name, accepted in formats.items():
        operation = ET.SubElement(request, name)
        for each in accepted:
            _text(operation, "Format", each)
        get = ET.SubElement(ET.SubElement(ET.SubElement(operation, "DCPType"), "HTTP"), "Get")
        _resource(get, facts, facts.asking())


def _layer(parent: ET.Element, facts: ServiceFacts, layer: Layer, dimensions: Sequence[_Stated]) -> None:
    element = ET.SubElement(parent, "Layer", {"queryable": "1", "opaque": "0"})
    _text(element, "Name", layer.name)
    _text(element, "Title", f"{layer.title} ({layer.units})" if layer.units else layer.title)
    known = known_crs(layer)
    boxes = {name: each for name, crs in known.items() if (each := bounds_of(layer, crs)) is not None}
    for name in boxes:
        _text(element, "CRS" if facts.new else "SRS", name)
    west, south, east, north = lonlat_bounds(layer)
    if facts.new:
        box = ET.SubElement(element, "EX_GeographicBoundingBox")
        sides = (
            ("west", "Longitude", west),
            ("east", "Longitude", east),
            ("south", "Latitude", south),
            ("north", "Latitude", north),
        )
        for side, kind, value in sides:
            _text(box, f"{side}Bound{kind}", f"{value:.10g}")
    else:
        ET.SubElement(element, "LatLonBoundingBox", _sides((west, south, east, north)))
    for name, box_there in boxes.items():
        turned = facts.new and name != "CRS:84" and is_north_first(known[name])
        ordered = (box_there[1], box_there[0], box_there[3], box_there[2]) if turned else box_there
        ET.SubElement(element, "BoundingBox", {"CRS" if facts.new else "SRS": name, **_sides(ordered)})
    _dimensions(element, facts, dimensions)
    _styles(element, facts, layer)


def _sides(box: Bounds) -> dict[str, str]:
    return {name: f"{side:.12g}" for name, side in zip(("minx", "miny", "maxx", "maxy"), box, strict=True)}


def _state_dimensions(layers: Sequence[Layer]) -> list[list[_Stated]]:
    dates: dict[Any, _Stated] = {}
    found: list[list[_Stated]] = []
    length = 0
    for layer in layers:
        stated: list[_Stated] = []
        if layer.times is not None:
            # most layers have the same
            key = layer.times.tobytes() if layer.times.dtype.kind == "M" else tuple(layer.times)
            if key not in dates:
                dates[key] = _state_dates(layer.times)
            stated.append(dates[key])
        for dimension in layer.dimensions:
            named = {"name": legal(dimension.name), "units": legal(dimension.units)}
            stated.append(_Stated(named, legal(dimension.values[0]), ",".join(dimension.values)))
        found.append(stated)
        length += sum(len(each.extent) for each in stated)
        if length > _MOST_TEXT:
            raise BudgetExceeded(
                {"characters": length},
                {"characters": _MOST_TEXT},
                f"Name some of the {len(layers)} layers by layers=NAME,NAME.",
            )
    return found


def _state_dates(times: NDArray[Any]) -> _Stated:
    (last,) = iso_times(times[-1:])
    return _Stated({"name": "time", "units": "ISO8601"}, str(last), describe_dates(times))


def _dimensions(element: ET.Element, facts: ServiceFacts, stated: Sequence[_Stated]) -> None:
    for each in stated:
        chosen = {"default": each.default, "multipleValues": "0", "nearestValue": "0"}
        if facts.new:
            _text(element, "Dimension", each.extent, {**each.named, **chosen})
        else:
            ET.SubElement(element, "Dimension", dict(each.named))
    if not facts.new:
        for each in stated:
            chosen = {"name": each.named["name"], "default": each.default, "nearestValue": "0"}
            _text(element, "Extent", each.extent, chosen)


def _styles(element: ET.Element, facts: ServiceFacts, layer: Layer) -> None:
    categories = read_categories(layer.attributes)
    for name in (DEFAULT_STYLE, *SOME):
        style = ET.SubElement(element, "Style")
        _text(style, "Name", name)
        _text(style, "Title", "What suits the variable" if name == DEFAULT_STYLE else f"{name} of matplotlib")
        width, height = legend_size(categories if name == DEFAULT_STYLE else None)
        legend = ET.SubElement(style, "LegendURL", {"width": str(width), "height": str(height)})
        _text(legend, "Format", MAP_FORMAT)
        asked = facts.asking(
            service="WMS", version=facts.version, request="GetLegendGraphic", format=MAP_FORMAT,
            layer=layer.name, style=name,
        )  # fmt: skip
        _resource(legend, facts, asked.removesuffix("&"))
