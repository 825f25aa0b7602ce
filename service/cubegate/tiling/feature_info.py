"""What a map shows at one pixel, as GeoJSON, GML, text or HTML."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from cubegate.query.crs import find_places, lonlat
from cubegate.query.interval import iso
from cubegate.tiling.layers import Part
from cubegate.tiling.picture import View
from cubegate.tiling.sampling import Sampling
from cubegate.tiling.style import AnyStyle, Categories
from cubegate.tiling.wms import GML
from cubegate.tiling.wms_errors import legal

# GeoJSON's only one, which clients of WMS take for that of the map where it is not named
_CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}


def describe_cell(view: View, part: Part, cell: Sampling, value: float, style: AnyStyle) -> dict[str, Any]:
    """Return the facts of one cell: x and y are its centre in the cube's own CRS; None is missing."""
    grid = part.footprint.grid
    row, column = cell.indices(0)
    x, y = float(grid.x.values[column]), float(grid.y.values[row])
    facts: dict[str, Any] = {"layer": view.layer.name, "value": value if math.isfinite(value) else None}
    if isinstance(style, Categories) and value in style.values:
        facts["meaning"] = style.labels[style.values.index(value)]
    if view.layer.units:
        facts["units"] = view.layer.units
    if view.date is not None:
        facts["time"] = iso(view.date)
    lon, lat, known = find_places(part.footprint.crs, lonlat(), np.array([x]), np.array([y]))
    place = {"longitude": float(lon[0]), "latitude": float(lat[0])} if known[0] else {}
    return {**facts, **view.selectors, "x": x, "y": y, **place, "cube": part.source.id}


def write_info(facts: dict[str, Any] | None, info_format: str) -> bytes:
    """Return the document; `facts` None is a pixel outside of the cube."""
    if info_format == "application/json":
        features = [] if facts is None else [_feature(facts)]
        return json.dumps({"type": "FeatureCollection", "crs": _CRS, "features": features}).encode()
    rows = (
        {}
        if facts is None
        else {name: "missing" if each is None else str(each) for name, each in facts.items()}
    )
    if info_format == GML:
        return _gml(rows)
    if info_format == "text/plain":
        return (
            "\n".join(f"{name} = {text}" for name, text in rows.items()) + "\n"
            if rows
            else "outside of the cube\n"
        ).encode()
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows.items()
    )
    head = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Value</title></head>'
    return f"{head}<body><table>{cells}</table></body></html>\n".encode()


def _feature(facts: dict[str, Any]) -> dict[str, Any]:
    geometry = None
    if "longitude" in facts:
        geometry = {"type": "Point", "coordinates": [facts["longitude"], facts["latitude"]]}
    return {"type": "Feature", "id": facts["layer"], "geometry": geometry, "properties": facts}


def _gml(rows: Mapping[str, str]) -> bytes:
    gml, wfs = "http://www.opengis.net/gml", "http://www.opengis.net/wfs"
    root = ET.Element("wfs:FeatureCollection", {"xmlns:wfs": wfs, "xmlns:gml": gml})
    if rows:
        cell = ET.SubElement(ET.SubElement(root, "gml:featureMember"), "cell")
        if "longitude" in rows:
            # by this form of the name longitude comes first
            point = ET.SubElement(ET.SubElement(cell, "geometry"), "gml:Point", {"srsName": "EPSG:4326"})
            ET.SubElement(point, "gml:coordinates").text = f"{rows['longitude']},{rows['latitude']}"
        for name, text in rows.items():
            # a dimension may have a name that XML does not take
            ET.SubElement(cell, re.sub(r"^(?![A-Za-z_])|[^\w.-]", "_", name, flags=re.ASCII)).text = legal(
                text
            )
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode").encode() + b"\n"
