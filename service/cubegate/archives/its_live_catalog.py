"""The catalog of ITS_LIVE cubes: GeoJSON, of which there are several forms."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import shapely

from cubegate.archives.its_live_footprints import lonlat_bounds
from cubegate.archives.its_live_outline import footprint_of
from cubegate.chunks.address import parse_address
from cubegate.errors import InvalidParameter, InvalidReference, UpstreamRefused
from cubegate.logs import escaped
from cubegate.query.crs import Bounds, parse_crs

_MOST_ENTRIES = 100_000
_LONGEST_URL = 1_000
_LONGEST_CODE = 60
# what is left of a name that went through a Shapefile
_SHAPEFILE_NAME = 10
_CODE = re.compile(r"(?:EPSG:|urn:ogc:def:crs:EPSG:[0-9.]*:)?([0-9]{4,6})", re.IGNORECASE)
_CODE_IN_NAME = re.compile(r"_EPSG([0-9]{4,6})_")
ID_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, eq=False)
class CatalogCube:
    """One cube as the catalog has it.

    `footprint` is a polygon, or several, in the coordinates of EPSG:`epsg`; `bounds` are the west,
    south, east and north of it in degrees, where the east may be beyond 180.
    """

    name: str
    url: str
    epsg: int
    footprint: shapely.Geometry
    bounds: Bounds


@dataclass(frozen=True)
class _Entry:
    where: str
    name: str
    url: str
    epsg: int
    footprint: shapely.Geometry


def read_catalog(data: bytes, source: str) -> list[CatalogCube]:
    """Read the catalog that `source` names in messages; entries of cubes that do not exist are left out.

    What it holds is untrusted. The EPSG code is a number or text, `epsg` or `data_epsg`; names may be
    cut to ten characters; the footprint is `geometry_epsg` (an object, or JSON as text) in projected
    coordinates, or else the `geometry` in longitudes and latitudes.

    Raises:
        InvalidReference: it is no such catalog; the message names the entry.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidReference(f"{source} is not JSON, or not all of it.") from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or document.get("type") != "FeatureCollection":
        raise InvalidReference(f"{source} is not a catalog of ITS_LIVE cubes: no GeoJSON FeatureCollection.")
    if len(features) > _MOST_ENTRIES:
        raise InvalidReference(f"{source} has {len(features):,} entries, of {_MOST_ENTRIES:,} at most.")
    entries = {entry.url: entry for entry in _entries(features, source)}.values()
    bounds = lonlat_bounds([(entry.epsg, entry.footprint) for entry in entries])
    cubes = []
    for entry, known in zip(entries, bounds, strict=True):
        if known is None:
            raise _wrong(entry.where, f"its outline is not on the Earth in EPSG:{entry.epsg}")
        cubes.append(CatalogCube(entry.name, entry.url, entry.epsg, entry.footprint, known))
    return cubes


def _entries(features: list[Any], source: str) -> Iterator[_Entry]:
    for number, feature in enumerate(features):
        where = f"{source}: features[{number}]"
        if not isinstance(feature, dict) or not isinstance(feature.get("properties"), dict):
            raise _wrong(where, "it is no Feature with properties")
        properties = {str(key).casefold(): value for key, value in feature["properties"].items()}
        if not _exists(properties, where):
            continue
        url = _url(properties, where)
        name = parse_address(url).path.rpartition("/")[2].removesuffix(".zarr")
        if not ID_FORM.fullmatch(name):
            raise _wrong(where, f"its zarr_url ends with {_quoted(name)}, which is no name for a cube")
        where = f"{where} ({name})"
        epsg = _epsg(properties, name, where)
        try:
            footprint = footprint_of(
                _projected_geometry(properties, where), feature.get("geometry"), parse_crs(f"EPSG:{epsg}")
            )
        except InvalidReference as error:
            raise _wrong(where, str(error).rstrip(".")) from None
        yield _Entry(where, name, url, epsg, footprint)


def _wrong(where: str, problem: str) -> InvalidReference:
    return InvalidReference(f"{where}: {problem}. Is it a catalog of ITS_LIVE cubes, and a whole one?")


def _quoted(value: Any) -> str:
    return escaped(reprlib.repr(value))


def _property(properties: Mapping[str, Any], name: str) -> Any:
    return properties.get(name, properties.get(name[:_SHAPEFILE_NAME]))


def _exists(properties: Mapping[str, Any], where: str) -> bool:
    said = _property(properties, "datacube_exist")
    if said is None:
        return "zarr_url" not in properties or properties["zarr_url"] not in (None, "")
    if said in (0, 1, "0", "1"):
        return int(said) == 1
    raise _wrong(where, f"its datacube_exist is {_quoted(said)}, neither 0 nor 1")


def _url(properties: Mapping[str, Any], where: str) -> str:
    url = properties.get("zarr_url")
    if not isinstance(url, str) or not 0 < len(url) <= _LONGEST_URL or not url.isascii():
        raise _wrong(where, f"its zarr_url is {_quoted(url)}, no address")
    try:
        address = parse_address(url.rstrip("/"))
    except UpstreamRefused as error:
        raise _wrong(where, f"its zarr_url: {escaped(str(error)).rstrip('.')}") from None
    if address.query or address.scheme == "file":
        raise _wrong(where, f"its zarr_url {escaped(str(address))[:_LONGEST_URL]} is no public address")
    return address.url


def _epsg(properties: Mapping[str, Any], name: str, where: str) -> int:
    said = [_property(properties, key) for key in ("epsg", "data_epsg")]
    codes = {_code(value, where) for value in said if value is not None}
    in_name = _CODE_IN_NAME.search(name)
    if in_name:
        codes.add(int(in_name[1]))
    if not codes:
        raise _wrong(where, "it has neither epsg nor data_epsg")
    for code in sorted(codes):
        try:
            projected = bool(parse_crs(f"EPSG:{code}").is_projected)
        except InvalidParameter:
            projected = False
        if not projected:
            raise _wrong(where, f"EPSG:{code} is no projection that PROJ knows")
    if len(codes) > 1:
        raise _wrong(where, f"its EPSG codes differ: {', '.join(map(str, sorted(codes)))}")
    return codes.pop()


def _code(value: Any, where: str) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    match = None if isinstance(whole, bool) else _CODE.fullmatch(str(whole)[:_LONGEST_CODE].strip())
    if match is None or not isinstance(whole, int | str):
        raise _wrong(where, f"its EPSG code is {_quoted(value)}")
    return int(match[1])


def _projected_geometry(properties: Mapping[str, Any], where: str) -> Any:
    geometry = _property(properties, "geometry_epsg")
    if not isinstance(geometry, str):
        return geometry
    # so GDAL writes an object within the properties of a feature
    try:
        return json.loads(geometry)
    except (ValueError, RecursionError):
        raise _wrong(where, f"its geometry_epsg is {_quoted(geometry)}, no geometry") from None
