"""Finds which coordinates of a dataset are x, y and time, by CF attributes and by name."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import cftime
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.axis import Axis

TIME_NAMES = ("time", "mid_date", "valid_time", "secondary_datetime", "date", "t", "Time")


@dataclass(frozen=True)
class AxisSigns:
    """What marks the coordinate of an axis; `degrees` are the names that mean degrees by themselves."""

    axis: str
    standard_names: tuple[str, ...]
    units: tuple[str, ...]
    names: tuple[str, ...]
    degrees: tuple[str, ...]


X_SIGNS = AxisSigns(
    "X",
    ("projection_x_coordinate", "longitude", "grid_longitude"),
    ("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"),
    ("x", "X", "lon", "longitude", "easting", "x_coordinates", "rlon"),
    ("lon", "longitude"),
)
Y_SIGNS = AxisSigns(
    "Y",
    ("projection_y_coordinate", "latitude", "grid_latitude"),
    ("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"),
    ("y", "Y", "lat", "latitude", "northing", "y_coordinates", "rlat"),
    ("lat", "latitude"),
)


def axis_name(
    dataset: xr.Dataset, variable: Hashable, signs: AxisSigns, configured: str | None
) -> str | None:
    """Return the dimension of `variable` that is configured or bears the signs; None if none is."""
    dims = [dim for dim in dataset.variables[variable].dims if dim in dataset.variables]
    if configured is not None:
        return configured if configured in dims else None
    attributes = {dim: dataset.variables[dim].attrs for dim in dims}
    in_order = (("standard_name", signs.standard_names), ("units", signs.units), ("axis", (signs.axis,)))
    for key, values in in_order:
        matching = [dim for dim in dims if attributes[dim].get(key) in values]
        if len(matching) == 1:
            return str(matching[0])
    return next((name for name in signs.names if name in dims), None)


def is_degrees(dataset: xr.Dataset, name: str, signs: AxisSigns) -> bool:
    """Tell whether a coordinate is a longitude or latitude, by its units or else by its name."""
    said = dataset.variables[name].attrs.get("units")
    if said is None and name in signs.degrees:
        return bool(np.abs(_centres(dataset, name)).max() <= 360)
    return said in signs.units or (name in signs.degrees and said in ("degrees", "degree"))


def no_grid(dataset: xr.Dataset, variable: Hashable) -> InvalidParameter:
    """The error for a variable without x and y axes."""
    dims = dataset.variables[variable].dims
    maps = [v for v in dataset.variables.values() if v.ndim == 2 and set(v.dims) <= set(dims)]
    curvilinear = any(v.attrs.get("standard_name") in ("longitude", "latitude") for v in maps)
    kind = "lies on a curvilinear grid (2-D longitudes and latitudes), so it " if curvilinear else ""
    return InvalidParameter(
        "variables",
        f"Variable {variable!r} ({', '.join(map(str, dims))}) {kind}has no x and y axes with coordinates.",
        accepted="variables with 1-D x and y coordinates",
    )


def read_axes(
    dataset: xr.Dataset, names: tuple[str, str], cells: tuple[float | None, float | None], *, geographic: bool
) -> tuple[Axis, Axis]:
    """Build the x and y axes; `cells` are declared cell sizes, for axes of one centre.

    Raises:
        InvalidParameter: a coordinate is not strictly ascending or descending.
    """
    values = [_centres(dataset, name) for name in names]
    units = [str(dataset.variables[name].attrs.get("units", "")).strip() for name in names]
    precision = [_precision(dataset.variables[name].values) for name in names]
    sizes = [_cell_size(values[0], cells[0], values[1]), _cell_size(values[1], cells[1], values[0])]
    return (
        Axis(names[0], values[0], sizes[0], cyclic=geographic, units=units[0], precision=precision[0]),
        Axis(
            names[1],
            values[1],
            sizes[1],
            90.0 if geographic else None,
            units=units[1],
            precision=precision[1],
        ),
    )


def _centres(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    values = np.asarray(dataset.variables[name].values)
    if values.dtype.kind in "iuf" and values.ndim == 1 and values.size:
        numbers = values.astype(np.float64)
        steps = np.diff(numbers)
        if np.isfinite(numbers).all() and ((steps > 0).all() or (steps < 0).all()):
            return numbers
    raise InvalidParameter(
        "variables",
        f"The coordinate {name!r} is not strictly ascending or descending, so no cell can be found by it.",
    )


def _precision(values: NDArray[Any]) -> float:
    return 4 * float(np.spacing(np.abs(values).max())) if values.dtype == np.float32 else 0.0


def _cell_size(
    values: NDArray[np.float64], declared: float | None, other: NDArray[np.float64]
) -> float | None:
    if values.size > 1:
        return None
    if declared is not None:
        return abs(declared)
    return float(np.abs(np.diff(other)).min()) if other.size > 1 else None


def find_time(
    dataset: xr.Dataset, dims: list[Hashable], configured: str | None
) -> tuple[str, str] | tuple[None, None]:
    """Return the name of the time coordinate along one of `dims`, and that dimension; None if there is none.

    Coordinates of dimensions go before others; what CF says goes before names.
    """
    along = {str(name): v for name, v in dataset.variables.items() if v.ndim == 1 and v.dims[0] in dims}
    if configured is not None:
        return (configured, str(along[configured].dims[0])) if configured in along else (None, None)
    times = [name for name, variable in along.items() if _is_time(variable)]
    for candidates in ([name for name in times if name in dims], times):
        said = [name for name in candidates if _says_time(along[name])]
        named = [name for name in TIME_NAMES if name in candidates]
        for name in (*said, *named, *(candidates if len(candidates) == 1 else ())):
            return name, str(along[name].dims[0])
    undecoded = [name for name in along if name in dims and (_says_time(along[name]) or name in TIME_NAMES)]
    return (undecoded[0], undecoded[0]) if undecoded else (None, None)


def _says_time(variable: xr.Variable) -> bool:
    return variable.attrs.get("standard_name") == "time" or variable.attrs.get("axis") == "T"


def _is_time(variable: xr.Variable) -> bool:
    if variable.dtype.kind == "O":
        # only cftime objects are kept as objects in coordinates; strings of data variables are not read
        return "calendar" in variable.encoding and isinstance(_first(variable), cftime.datetime)
    return bool(variable.dtype.kind == "M")


def _first(variable: xr.Variable) -> Any:
    return variable[:1].values[0] if variable.size else None
