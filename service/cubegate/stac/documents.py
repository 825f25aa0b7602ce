"""The documents of the STAC API: its catalog, and cubes as collections with the datacube extension."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from pyproj import CRS

from cubegate.edr.description import MAX_VALUES, Axis, Description, Dimension, Parameter
from cubegate.errors import NotFound
from cubegate.query.crs import Bounds

STAC_VERSION = "1.1.0"
DATACUBE = "https://stac-extensions.github.io/datacube/v2.3.0/schema.json"
CONFORMS_TO = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search#free-text",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/simple-query",
)
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
# of the landing page, for clients that walk along links; the list of collections has all
MAX_CHILDREN = 1000
MAX_KEYWORDS = 50

Document = dict[str, Any]

# by key: the route that it needs, the address below the server, media type, roles, title
ASSETS = {
    "zarr": (
        "/datasets/{}/zarr/{}", "/datasets/{id}/zarr", "application/vnd.zarr", ["data"],
        "Zarr v2 and v3 over HTTP",
    ),
    "tiles": (
        "/datasets/{}/tilejson.json", "/datasets/{id}/tilejson.json", "application/json", ["visual", "tiles"],
        "Map tiles, as TileJSON",
    ),
    "edr": (
        "/edr/collections/{}", "/edr/collections/{id}", "application/json", ["data", "metadata"],
        "OGC API - EDR",
    ),
    "dap": (
        "/datasets/{}/opendap.dods", "/datasets/{id}/opendap", "application/vnd.opendap.dods", ["data"],
        "OPeNDAP (DAP2), for clients that add .dds, .das and .dods",
    ),
}  # fmt: skip
# what is one array a variable, which a combined collection has not
OF_ONE_STORE = frozenset({"zarr", "dap"})


def landing_page(base: str, ids: Sequence[str]) -> Document:
    """The catalog; `base` is the address that `/stac` is below, without a slash at its end."""
    root = f"{base}/stac"
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": "cubegate",
        "title": "cubegate",
        "description": "Virtual datacubes: Zarr, time series, subsets, tiles, OGC APIs and OPeNDAP.",
        "conformsTo": list(CONFORMS_TO),
        "links": [
            _link(root, "self"),
            _link(root, "root"),
            _link(f"{root}/api", "service-desc", OPENAPI),
            _link(f"{base}/docs", "service-doc", "text/html"),
            _link(f"{root}/conformance", "conformance"),
            _link(f"{root}/collections", "data"),
            *(_link(_address(base, name), "child") for name in ids[:MAX_CHILDREN]),
        ],
    }


def conformance() -> Document:
    """What is conformed to."""
    return {"conformsTo": list(CONFORMS_TO)}


def collections_page(
    base: str, page: Iterable[Document], query: Mapping[str, str], offset: int, after: int | None
) -> Document:
    """One page of the collections; `query` is what was asked, `after` where the next begins, if one does."""
    address = f"{base}/stac/collections"

    def at(place: int) -> str:
        return f"{address}?{urlencode({**query, 'offset': place})}"

    links = [_link(at(offset), "self"), _link(f"{base}/stac", "root")]
    if after is not None:
        links.append(_link(at(after), "next"))
    if offset:
        links.append(_link(at(max(0, offset - int(query["limit"]))), "prev"))
    listed = list(page)
    return {"collections": listed, "links": links, "numberReturned": len(listed)}


def words_of(cube: Description, text: str) -> str:
    """What is told of a cube, to be searched; `text` is its description."""
    return " ".join([cube.id, cube.title, _description(cube, text), *_keywords(cube.parameters)])


def _description(cube: Description, text: str) -> str:
    return text or cube.facts.get("summary", "").strip() or cube.title


def stac_collection(base: str, cube: Description, text: str, routes: Collection[str]) -> Document:
    """One cube; `text` is its description, `routes` the paths of the server without names in braces.

    Raises:
        NotFound: it has no known place on Earth, without which there is no STAC collection.
    """
    if cube.box is None:
        raise NotFound(
            f"Dataset {cube.id!r} has no known coordinate reference system, so STAC cannot say where it is. "
            "Its operator may set `crs:` in the collection file."
        )
    west, south, east, north = (float(side) for side in cube.box)
    interval = [cube.times[0], cube.times[-1]] if cube.times and cube.gregorian else [None, None]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [DATACUBE],
        "id": cube.id,
        "title": cube.title,
        "description": _description(cube, text),
        "keywords": _keywords(cube.parameters),
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [interval]},
        },
        "cube:dimensions": _dimensions(cube, cube.box),
        "cube:variables": {each.name: _variable(each, cube) for each in cube.parameters},
        "links": [
            _link(_address(base, cube.id), "self"),
            _link(f"{base}/stac", "root"),
            _link(f"{base}/stac", "parent"),
        ],
        "assets": _assets(base, cube, routes),
    }  # fmt: skip


def _link(href: str, rel: str, media_type: str = "application/json") -> Document:
    return {"href": href, "rel": rel, "type": media_type}


def _address(base: str, name: str) -> str:
    return f"{base}/stac/collections/{quote(name)}"


def _assets(base: str, cube: Description, routes: Collection[str]) -> Document:
    return {
        key: {
            "href": base + address.format(id=quote(cube.id)),
            "type": media_type,
            "roles": list(roles),
            "title": title,
        }
        for key, (route, address, media_type, roles, title) in ASSETS.items()
        if route in routes and not (cube.combined and key in OF_ONE_STORE)
    }


def _keywords(parameters: Sequence[Parameter]) -> list[str]:
    words = [word for each in parameters for word in (each.name, each.standard_name) if word]
    return ["datacube", *dict.fromkeys(words)][:MAX_KEYWORDS]


def _spatial_names(cube: Description) -> tuple[str, str]:
    return (cube.axes[0].name, cube.axes[1].name) if cube.axes else ("x", "y")


def _dimensions(cube: Description, box: Bounds) -> Document:
    found: Document = {}
    if cube.axes:
        system = _reference_system(cube.crs)
        for axis, name in zip(cube.axes, ("x", "y"), strict=True):
            found[axis.name] = {"type": "spatial", "axis": name, **_along(axis), **system}
    else:
        west, south, east, north = (float(side) for side in box)
        east += 360 if east < west else 0
        found = {
            "x": {"type": "spatial", "axis": "x", "extent": [west, east], "reference_system": 4326},
            "y": {"type": "spatial", "axis": "y", "extent": [south, north], "reference_system": 4326},
        }
    if cube.time is not None:
        found[cube.time] = _temporal(cube)
    return found | {each.name: _other(each) for each in cube.dimensions}


def _reference_system(crs: CRS | None) -> Document:
    if crs is None:
        return {}
    code = crs.to_epsg()
    return {"reference_system": crs.to_json_dict() if code is None else code}


def _along(axis: Axis) -> Document:
    found: Document = {"extent": [float(min(axis.extent)), float(max(axis.extent))]}
    if axis.regular and len(axis.values) > 1:
        found["step"] = float(abs(axis.values[-1] - axis.values[0]) / (len(axis.values) - 1))
    elif len(axis.values) <= MAX_VALUES:
        found["values"] = np.asarray(axis.values, float).tolist()
    return found


def _temporal(cube: Description) -> Document:
    if not cube.gregorian:
        # times of other calendars are no times to STAC
        return {"type": "other", "values": list(cube.times[:MAX_VALUES])}
    few = {"values": list(cube.times)} if len(cube.times) <= MAX_VALUES else {}
    return {"type": "temporal", "extent": [cube.times[0], cube.times[-1]], **few}


def _other(dimension: Dimension) -> Document:
    values = [each for each in dimension.values if isinstance(each, str) or _is_number(each)]
    unit = {"unit": dimension.units} if dimension.units else {}
    numbers = [float(each) for each in values if not isinstance(each, str)]
    found: Document = {"type": "spatial", "axis": "z"} if dimension.vertical else {"type": "other"}
    if numbers and len(numbers) == len(values):
        found["extent"] = [min(numbers), max(numbers)]
    if 0 < len(values) <= MAX_VALUES or "extent" not in found:
        found["values"] = values[:MAX_VALUES] or list(range(min(len(dimension.values), MAX_VALUES)))
    return {**found, **unit}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _variable(parameter: Parameter, cube: Description) -> Document:
    known = {each.name for each in cube.dimensions}
    x, y = _spatial_names(cube)
    dims = list(parameter.dims)
    if not cube.axes:
        # each member has its own names; the grid's are the last
        dims[-2:] = [y, x]
    named = [dim if dim in known or dim in (x, y) or cube.time is None else cube.time for dim in dims]
    about: Mapping[str, str] = {"description": parameter.label, "unit": parameter.units}
    return {"type": "data", "dimensions": named, **{key: text for key, text in about.items() if text}}
