"""What a page needs to show a dataset: its variables, times, CRS and where its grid lies, as plain JSON."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import outline, transform_bounds
from cubegate.query.crs import find_places, lonlat, name_crs
from cubegate.query.grid import Grid
from cubegate.query.interval import iso
from cubegate.query.variables import GridSettings, choose_variables

_LONGEST_TEXT = 200
_MOST_VALUES = 1000
# of the points that are transformed, for a ring that is drawn
_RING_STEP = 50
# the steps of a pipeline that are no projection
_NO_METHOD = re.compile(r"\+proj=(pipeline|axisswap|unitconvert)\b")


def describe_dataset(dataset: xr.Dataset, settings: GridSettings) -> dict[str, Any]:
    """Describe the first grid of a dataset and the numeric variables on it.

    `variables` bear `name`, `label`, `units`, `dtype` and `dimensions`; `time` has the sorted instants, each
    once; `dimensions` are those beyond x, y and time, with the values that select along them.

    Raises:
        InvalidParameter: it has no variables with x and y axes.
    """
    grid, names = choose_variables(dataset, None, settings)
    numeric = [name for name in names if dataset.variables[name].dtype.kind in "biuf"]
    return {
        "crs": describe_crs(grid.crs),
        "extent": {"native": list(grid.bounds), **_in_degrees(grid)},
        "shape": [len(grid.y.values), len(grid.x.values)],
        "resolution": [_cell(edges) for edges in (grid.x.edges, grid.y.edges)],
        "units": [_text(grid.x.units), _text(grid.y.units)],
        "time": _describe_times(dataset, grid),
        "variables": [_describe_variable(dataset.variables[name], name, grid) for name in numeric],
        "dimensions": _describe_others(dataset, numeric, grid),
    }


def describe_crs(crs: CRS | None) -> dict[str, Any] | None:
    """Describe a CRS by its name, and in three forms that proj4js reads; None where it is unknown.

    `metres` is how many a unit of x and y has, 0 where these are degrees.
    """
    if crs is None:
        return None
    return {
        "name": name_crs(crs),
        "title": crs.name,
        "geographic": bool(crs.is_geographic),
        "metres": 0.0 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor,
        "projjson": crs.to_json_dict(),
        "wkt": _wkt1(crs),
        "proj": _proj(crs),
    }


def _wkt1(crs: CRS) -> str | None:
    """Return the older WKT, in which proj4js knows more methods; None where it cannot say the CRS."""
    try:
        return crs.to_wkt("WKT1_GDAL")
    except CRSError:
        return None


def _proj(crs: CRS) -> str | None:
    """Return a CRS without its datum as a PROJ string, by which proj4js knows most methods, or None."""
    # of one that is bound to another datum, the operation is the shift to it
    own = crs.source_crs if crs.is_bound else crs
    operation = own.coordinate_operation if own else None
    steps = operation.to_proj4().split("+step") if operation else []
    methods = [step.strip() for step in steps if not _NO_METHOD.search(step)]
    if len(methods) != 1:
        return None
    unit = "" if crs.is_geographic else f" +to_meter={crs.axis_info[0].unit_conversion_factor}"
    return f"{methods[0]}{unit} +no_defs"


def _in_degrees(grid: Grid) -> dict[str, Any]:
    """The bounds in longitude and latitude, and a ring of such points around the grid; None where unknown.

    Longitudes go on over the antimeridian, except around a pole.
    """
    unknown = {"lonlat": None, "outline": None}
    if grid.crs is None:
        return unknown
    try:
        bounds = transform_bounds(grid.crs, lonlat(), grid.bounds)
        x, y, known = find_places(grid.crs, lonlat(), *outline(grid.bounds))
    except (InvalidParameter, ProjError):
        return unknown
    if not known.all():
        return {"lonlat": list(bounds), "outline": None}
    unwrapped = np.unwrap(x, period=360)
    if abs(unwrapped[-1] - unwrapped[0]) < 180:
        x = unwrapped + 360 * np.round((bounds[0] - unwrapped.min()) / 360)
    ring = np.column_stack([x, y])[::_RING_STEP].round(6).tolist()
    return {"lonlat": list(bounds), "outline": [*ring, ring[0]]}


def _cell(edges: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(edges[-1] - edges[0]) / (len(edges) - 1)


def _describe_times(dataset: xr.Dataset, grid: Grid) -> dict[str, Any] | None:
    if grid.time is None:
        return None
    times = dataset.variables[grid.time].values.reshape(-1)
    if times.dtype.kind == "M":
        times = np.unique(times[~np.isnat(times)])
    texts = [iso(time) for time in times] if times.dtype.kind in "MO" else [str(time) for time in times]
    return {"name": grid.time, "values": list(dict.fromkeys(texts))}


def _describe_variable(variable: xr.Variable, name: str, grid: Grid) -> dict[str, Any]:
    attributes = variable.attrs
    label = attributes.get("long_name") or attributes.get("standard_name") or name
    return {
        "name": name,
        "label": _text(label),
        "units": _text(attributes.get("units", "")),
        "dtype": str(variable.dtype),
        "dimensions": [str(dim) for dim in variable.dims],
        "timed": grid.time_dim in variable.dims,
    }


def _describe_others(dataset: xr.Dataset, names: list[str], grid: Grid) -> dict[str, Any]:
    known = {grid.x.name, grid.y.name, grid.time_dim}
    others = {dim: None for name in names for dim in dataset.variables[name].dims if dim not in known}
    return {str(dim): _describe_dimension(dataset, str(dim)) for dim in others}


def _describe_dimension(dataset: xr.Dataset, dim: str) -> dict[str, Any]:
    """The texts that select along a dimension: values of its coordinate, or indices where it has none."""
    size = int(dataset.sizes[dim])
    coordinate = dataset.variables.get(dim)
    if coordinate is None or coordinate.dtype.kind not in "biufUSOM":
        return {"size": size, "units": "", "values": [str(index) for index in range(min(size, _MOST_VALUES))]}
    values = coordinate.values[:_MOST_VALUES]
    texts = [iso(value) for value in values] if values.dtype.kind == "M" else [str(value) for value in values]
    return {"size": size, "units": _text(coordinate.attrs.get("units", "")), "values": texts}


def _text(value: Any) -> str:
    return str(value)[:_LONGEST_TEXT]
