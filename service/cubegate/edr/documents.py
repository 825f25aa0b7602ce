"""The documents of OGC API - EDR: landing page, collections, and what can be asked of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import pyproj

from cubegate.edr.conformance import CONFORMS_TO
from cubegate.edr.description import MAX_VALUES, Description, Parameter
from cubegate.edr.units import describe_unit
from cubegate.errors import InvalidParameter
from cubegate.formats.crs import crs_uri
from cubegate.formats.output import OutputFormat, Shape
from cubegate.query.crs import lonlat, name_crs, same_crs

GREGORIAN = "http://www.opengis.net/def/uom/ISO-8601/0/Gregorian"
CALENDARS = "http://cfconventions.org/cf-conventions/cf-conventions.html#calendar"
STANDARD_NAMES = "http://vocab.nerc.ac.uk/standard_name/"
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
DEFAULT_FORMAT = "covjson"
# by which clients of the standard look for a format; any case is understood
FORMAT_NAMES = {
    "covjson": "CoverageJSON", "geojson": "GeoJSON", "csv": "CSV", "netcdf": "NetCDF", "geotiff": "GeoTIFF",
    "parquet": "Parquet", "json": "JSON", "png": "PNG",
}  # fmt: skip
QUERIES: Mapping[str, tuple[tuple[Shape, ...], str, str]] = {
    "position": (("series", "points"), "Position query", "The series of the cells that hold points."),
    "area": (("cube",), "Area query", "The cells whose centre lies in polygons."),
    "cube": (("cube",), "Cube query", "The cells whose centre lies in a bbox."),
    "trajectory": (("points",), "Trajectory query", "The cells that a line crosses, in order."),
}

Document = dict[str, Any]


def link(href: str, rel: str, media_type: str = "application/json", title: str = "", **more: Any) -> Document:
    """Describe one link."""
    return {"href": href, "rel": rel, "type": media_type, **({"title": title} if title else {}), **more}


def landing_page(base: str) -> Document:
    """Describe the service; `base` is the address that `/edr` is below, without a slash at its end."""
    return {
        "title": "cubegate: OGC API - Environmental Data Retrieval",
        "description": "Series, areas, boxes and trajectories of virtual datacubes.",
        "links": [
            link(f"{base}/edr", "self", title="This page"),
            link(f"{base}/edr?f=html", "alternate", "text/html", "This page as HTML"),
            link(f"{base}/edr/api", "service-desc", OPENAPI, "The interface, as OpenAPI 3.0"),
            link(f"{base}/openapi.json", "service-desc", "application/json", "This server, as OpenAPI 3.1"),
            link(f"{base}/docs", "service-doc", "text/html", "The interface, to be read"),
            link(f"{base}/edr/conformance", "conformance", title="Conformance classes"),
            link(f"{base}/edr/collections", "data", title="Collections"),
        ],
    }  # fmt: skip


def conformance(base: str) -> Document:
    """Say what is conformed to."""
    return {
        "links": [link(f"{base}/edr/conformance", "self", title="This page")],
        "conformsTo": list(CONFORMS_TO),
    }


def collections(
    base: str,
    found: Iterable[Document],
    query: Mapping[str, str],
    offset: int,
    following: int | None,
    *,
    matched: int | None,
) -> Document:
    """List the collections of one page.

    `query` is what was asked, `following` where the next page begins, `matched` how many are on all pages;
    None where there is none, and where that is not known.
    """

    def at(place: int, relation: str, title: str) -> Document:
        asked = urlencode({**query, "offset": place})
        return link(f"{base}/edr/collections?{asked}", relation, title=title)

    links = [at(offset, "self", "This page")]
    if following is not None:
        links.append(at(following, "next", "The next page"))
    if offset > 0:
        links.append(at(max(0, offset - int(query["limit"])), "prev", "The page before"))
    listed = list(found)
    counts = {"numberReturned": len(listed)} | ({} if matched is None else {"numberMatched": matched})
    return {"links": links, "collections": listed, **counts}


def collection(base: str, cube: Description, formats: Mapping[str, OutputFormat]) -> Document:
    """Describe one collection."""
    here = f"{base}/edr/collections/{cube.id}"
    offered = [shown for name, shown in FORMAT_NAMES.items() if name in formats]
    known = crs_details(cube)
    document: Document = {
        "id": cube.id,
        "title": cube.title,
        "description": cube.facts.get("summary") or cube.title,
        "links": [
            link(here, "self", title="This collection"),
            link(f"{here}?f=html", "alternate", "text/html", "This collection as HTML"),
            link(f"{base}/edr", "root", title="The service"),
            link(here, "collection", title=cube.title),
            *(link(f"{here}/{name}", "data", _media_type(formats, DEFAULT_FORMAT), about[1])
              for name, about in QUERIES.items()),
            link(f"{here}/coverage", "http://www.opengis.net/def/rel/ogc/1.0/coverage",
                 _media_type(formats, DEFAULT_FORMAT), "The coverage"),
            link(f"{here}/coverage/domainset", "http://www.opengis.net/def/rel/ogc/1.0/coverage-domainset",
                 title="Its domain set"),
            link(f"{here}/coverage/rangetype", "http://www.opengis.net/def/rel/ogc/1.0/coverage-rangetype",
                 title="Its range type"),
        ],
        "extent": extent(cube),
        "crs": [each["crs"] for each in known],
        "crs_details": known,
        "output_formats": offered,
        "data_queries": {name: _data_query(here, name, known, formats, cube) for name in QUERIES},
        "parameter_names": {each.name: parameter(each) for each in cube.parameters},
    }  # fmt: skip
    return document


def crs_details(cube: Description) -> list[Document]:
    """List the CRS that a collection is asked and answered in, its own first: there nothing is resampled."""
    if cube.crs is None and cube.box is None:
        return [{"crs": "native", "wkt": ""}]
    return [{"crs": crs_uri(crs) or name_crs(crs), "wkt": crs.to_wkt()} for crs in listed_crs(cube)]


def listed_crs(cube: Description) -> list[pyproj.CRS]:
    """Return these CRS; none where that of the grid is unknown."""
    if cube.crs is None and cube.box is None:
        return []
    # EPSG:4326 has its latitude first, and x comes first here
    own = [lonlat() if crs_uri(crs) == crs_uri(lonlat()) else crs for crs in (cube.crs,) if crs is not None]
    return list({name_crs(crs): crs for crs in (*own, lonlat(), pyproj.CRS.from_epsg(3857))}.values())


def require_crs(crs: pyproj.CRS, cube: Description) -> None:
    """Refuse a CRS that the collection does not list, in whatever form it is named.

    Raises:
        InvalidParameter: it is not listed.
    """
    known = listed_crs(cube)
    if not any(same_crs(crs, each) for each in known):
        names = ", ".join(map(name_crs, known)) or "native"
        raise InvalidParameter("crs", "This collection is not answered in that CRS.", accepted=names)


def extent(cube: Description) -> Document:
    """Say where and when a cube has values; of a long time axis only from when until when."""
    found: Document = {}
    if cube.box is not None:
        found["spatial"] = {"bbox": [list(cube.box)], "crs": crs_uri(lonlat()), "name": "longitude, latitude"}
    if cube.times:
        found["temporal"] = {
            "interval": [[cube.times[0], cube.times[-1]]],
            "trs": GREGORIAN if cube.gregorian else CALENDARS,
            "name": cube.time,
        }
        if len(cube.times) <= MAX_VALUES:
            found["temporal"]["values"] = list(cube.times)
    for dimension in cube.dimensions:
        values = [str(value) for value in dimension.values]
        shown = {"values": values} if 0 < len(values) <= MAX_VALUES else {}
        first_and_last = [[values[0], values[-1]]] if values else []
        if dimension is cube.vertical:
            found["vertical"] = {
                "interval": first_and_last,
                "vrs": dimension.units or "unknown",
                "name": dimension.name,
            }
            found["vertical"] |= shown
        elif values:
            about = {"id": dimension.name, "interval": first_and_last, "reference": dimension.units or "none"}
            found.setdefault("custom", []).append(about | shown)
    return found


def parameter(each: Parameter) -> Document:
    """Describe one parameter."""
    observed: Document = {"label": each.label}
    if each.standard_name:
        observed["id"] = f"{STANDARD_NAMES}{each.standard_name}/"
    found: Document = {
        "type": "Parameter",
        "id": each.name,
        "label": each.label,
        "description": each.label,
        "data-type": each.kind,
        "observedProperty": observed,
    }
    return found | ({"unit": describe_unit(each.units)} if each.units else {})


def _data_query(
    here: str, name: str, known: list[Document], formats: Mapping[str, OutputFormat], cube: Description
) -> Document:
    shapes, title, description = QUERIES[name]
    able = [
        shown
        for each, shown in FORMAT_NAMES.items()
        if each in formats and set(shapes) & formats[each].shapes
    ]
    variables: Document = {
        "title": title,
        "description": description,
        "query_type": name,
        "output_formats": able,
        "default_output_format": FORMAT_NAMES[DEFAULT_FORMAT],
        "crs_details": known,
    }
    if name == "cube":
        vertical = cube.vertical
        variables["height_units"] = [vertical.units] if vertical is not None and vertical.units else []
    about = link(
        f"{here}/{name}",
        "data",
        _media_type(formats, DEFAULT_FORMAT),
        title,
        templated=False,
        variables=variables,
    )
    return {"link": about}


def _media_type(formats: Mapping[str, OutputFormat], name: str) -> str:
    return formats[name].media_type if name in formats else "application/json"
