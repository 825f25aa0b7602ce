"""Finds the CRS of a grid in CF grid mappings, in what is often written instead, and in lon/lat axes."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS
from pyproj.exceptions import CRSError

from cubegate.query.crs import parse_crs

MAPPING_KEYS = ("grid_mapping_name", "crs_wkt", "spatial_ref")
CODE_KEYS = ("spatial_epsg", "epsg_code", "epsg", "EPSG", "EPSG_code", "projection_epsg")
METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0,
          "km": 1000.0, "kilometre": 1000.0, "kilometer": 1000.0, "kilometers": 1000.0}  # fmt: skip
# files by their paths, in PROJ strings, WKT and PROJJSON; grids by name alone are PROJ's own
_PATH_OF_FILE = re.compile(
    r"""(grids|file)\s*=[^\s"']*[/\\]|\binit\s*=|PROJ4_GRIDS"\s*,\s*"[^"]*[/\\]|PARAMETERFILE\s*[\[(][^\])]*[/\\]"""
    r"""|^\s*\{.*"value"\s*:\s*"[^"]*[/\\]""",
    re.IGNORECASE | re.DOTALL,
)
ANGLES = ("rad", "radian", "radians", "microradian", "degrees", "degree")


@dataclass(frozen=True)
class FoundCRS:
    """The CRS of a grid and the variable that told it, or the problem that leaves it unknown."""

    crs: CRS | None
    mapping: str | None = None
    problem: str = ""


def with_pole(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a grid mapping with the pole of a polar stereographic one.

    CF asks for it and CDO needs it, and pyproj, and so rioxarray, write only the parallel.
    """
    named = dict(attributes)
    parallel = named.get("standard_parallel")
    if named.get("grid_mapping_name") == "polar_stereographic" and isinstance(parallel, int | float):
        named.setdefault("latitude_of_projection_origin", math.copysign(90.0, parallel))
    return named


def find_crs(
    dataset: xr.Dataset, variable: xr.Variable, x: str, y: str, *, configured: str | None, lonlat: bool
) -> FoundCRS:
    """Find the CRS of the axes `x` and `y` of `variable`.

    It is, in this order: `configured`; what the variable's `grid_mapping` says; what the only
    grid mapping of the dataset says; WGS 84 where the axes are longitudes and latitudes
    (`lonlat`). A CRS from metadata whose unit is not that of the axes is none.
    """
    if configured is not None:
        return FoundCRS(parse_crs(configured))
    own = _own_mapping(variable, x)
    if own is not None and own in dataset.variables:
        return _checked(dataset, _read_mapping(dataset, own), x, y, lonlat)
    others = [
        str(n) for n, v in dataset.variables.items() if v.size == 1 and v.attrs.keys() & set(MAPPING_KEYS)
    ]
    found = [_checked(dataset, _read_mapping(dataset, name), x, y, lonlat) for name in others]
    usable = [each for each in found if each.crs is not None]
    if usable and all(each.crs == usable[0].crs for each in usable):
        return usable[0]
    if lonlat:
        return FoundCRS(CRS.from_epsg(4326))
    if usable:
        return FoundCRS(None, problem=f"it has several grid mappings: {', '.join(others)}")
    return found[0] if found else FoundCRS(None, problem="it has no CF grid mapping")


def _own_mapping(variable: xr.Variable, x: str) -> str | None:
    text = variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping")
    if not isinstance(text, str) or not text.strip():
        return None
    # the extended form is `crs1: x y crs2: lat lon`
    parts = re.findall(r"(\S+):((?:\s+[^\s:]+(?!\S))*)", text)
    if not parts:
        return text.split()[0]
    return next((name for name, axes in parts if x in axes.split()), str(parts[0][0]))


def _read_mapping(dataset: xr.Dataset, name: str) -> FoundCRS:
    attributes = {str(key): _plain(value) for key, value in dataset.variables[name].attrs.items()}
    try:
        return FoundCRS(_read_attributes(json.dumps(attributes, sort_keys=True, default=str)), name)
    except (CRSError, KeyError, TypeError, ValueError):
        return FoundCRS(None, name, f"its grid mapping {name!r} cannot be read")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@functools.lru_cache(maxsize=256)
def _read_attributes(document: str) -> CRS:
    attributes: Mapping[str, Any] = json.loads(document)
    for key in ("crs_wkt", "spatial_ref"):
        if attributes.get(key):
            text = str(attributes[key])
            if _PATH_OF_FILE.search(text):
                raise CRSError("it names a file, which PROJ would read")
            return CRS.from_user_input(text)
    for key in CODE_KEYS:
        if attributes.get(key):
            return CRS.from_epsg(int(str(attributes[key]).upper().removeprefix("EPSG:").split(".")[0]))
    if "grid_mapping_name" in attributes:
        return CRS.from_cf(dict(attributes))
    raise CRSError("no attribute names a CRS")


def _checked(dataset: xr.Dataset, found: FoundCRS, x: str, y: str, lonlat: bool) -> FoundCRS:
    if found.crs is None:
        return found
    if not (found.crs.is_geographic or found.crs.is_projected):
        return FoundCRS(None, found.mapping, "its CRS is neither geographic nor projected")
    unit = str(found.crs.axis_info[0].unit_name)
    for name in (x, y):
        said = str(dataset.variables[name].attrs.get("units", "")).strip()
        if not _same_unit(said, unit, geographic=found.crs.is_geographic, lonlat=lonlat):
            return FoundCRS(
                None, found.mapping, f"coordinate {name!r} is in {said or 'degrees'}, its CRS in {unit}"
            )
    return found


def _same_unit(said: str, unit: str, *, geographic: bool, lonlat: bool) -> bool:
    if geographic:
        return said not in METRES and not said.startswith(("rad", "microrad"))
    if lonlat or said in ANGLES or said.startswith("degree"):
        return False
    return said not in METRES or METRES[said] == METRES.get(unit, METRES[said])


def geotransform_cells(dataset: xr.Dataset, mapping: str | None) -> tuple[float | None, float | None]:
    """Return the cell sizes in x and y that a GDAL `GeoTransform` attribute declares, if one does."""
    if mapping is None:
        return None, None
    numbers = str(dataset.variables[mapping].attrs.get("GeoTransform", "")).split()
    try:
        return float(numbers[1]), float(numbers[5])
    except (IndexError, ValueError):
        return None, None
