"""A result as a CF-1.8 dataset: exact values, coordinates that say what they are, a grid mapping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from numpy.typing import NDArray
from pyproj.exceptions import CRSError

from cubegate.errors import NotAcceptable
from cubegate.formats.crs import known_crs
from cubegate.formats.facts import origin, software
from cubegate.formats.fields import declared_fill, grid_mapping_names, stored_integers
from cubegate.formats.output import Result
from cubegate.formats.times import DURATIONS, NOT_A_TIME, encode_durations, encode_times, holds_times
from cubegate.query.grid_mapping import with_pole

_RANGES = ("valid_min", "valid_max", "valid_range")
_PACKING = ("scale_factor", "add_offset")
# Written by the file format or by xarray itself; a copy beside them breaks the file.
_RESERVED = frozenset({
    "_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "coordinates", "grid_mapping",
    "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_NCProperties", "_Netcdf4Dimid",
    "_Netcdf4Coordinates", "_nc3_strict", "_NCCOPY", "_ARRAY_DIMENSIONS",
})  # fmt: skip


def cf_dataset(result: Result) -> xr.Dataset:
    """Make the dataset that a file shall hold: times are exact integers, nothing is packed.

    Raises:
        NotAcceptable: netCDF has no type for the values of a variable.
    """
    source = result.dataset
    mappings = grid_mapping_names(source)
    variables = {
        str(name): _file_variable(str(name), variable, coordinate=name in source.coords)
        for name, variable in source.variables.items()
        if name not in mappings
    }
    coordinates = [str(name) for name in source.coords if str(name) in variables]
    crs = known_crs(result)
    if crs is not None:
        mapping_name, variables[mapping_name] = _grid_mapping(result, crs, mappings)
        coordinates.insert(0, mapping_name)
        for name in map(str, source.data_vars):
            if name in variables and _on_grid(result, source[name]):
                variables[name].encoding["grid_mapping"] = mapping_name
    dataset = xr.Dataset({name: variables[name] for name in variables}, attrs=_global_attributes(result))
    dataset = dataset.set_coords(coordinates)
    _describe_axes(result, crs, dataset)
    return _sampling_geometry(result, dataset)


def _file_variable(name: str, variable: xr.Variable, *, coordinate: bool) -> xr.Variable:
    values = np.asarray(variable.values)
    attributes = _attributes(variable.attrs, packed=any(key in variable.encoding for key in _PACKING))
    encoding: dict[str, Any] = {"_FillValue": None}
    restored = stored_integers(variable) if values.dtype.kind == "f" else None
    if holds_times(values):
        times = encode_times(values)
        values, attributes["units"], attributes["calendar"] = times.numbers, times.units, times.calendar
        encoding["_FillValue"] = _time_fill(values)
    elif values.dtype.kind == "m":
        values, attributes["units"] = encode_durations(values)
        # as xarray marks them, which reads the missing ones as -2**63 otherwise
        encoding["_FillValue"], attributes["dtype"] = _time_fill(values), "timedelta64[ns]"
    elif restored is not None and not _is_lost(values, attributes):
        values, encoding["_FillValue"] = restored[0], restored[0].dtype.type(restored[1])
    elif values.dtype.kind in "iu" and (fill := declared_fill(variable)) is not None:
        encoding["_FillValue"] = values.dtype.type(fill)
    elif values.dtype.kind == "f":
        values = _plain_floats(name, values)
        encoding["_FillValue"] = None if coordinate else values.dtype.type(np.nan)
    else:
        values = _other(name, values)
    return xr.Variable(variable.dims, values, attributes, encoding)


def _is_lost(values: NDArray[Any], attributes: Mapping[str, Any]) -> bool:
    """Tell whether xarray would take missing ones for -2**63, as it does with whole days, hours ..."""
    return attributes.get("units") in DURATIONS and bool(np.isnan(values).any())


def _time_fill(numbers: NDArray[np.int64]) -> np.int64 | None:
    return np.int64(NOT_A_TIME) if (numbers == NOT_A_TIME).any() else None


def _plain_floats(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.itemsize > 8:
        raise NotAcceptable(f"NetCDF has no type for {values.dtype} ({name!r}): use f=csv.")
    return values.astype("f4") if values.dtype.itemsize == 2 else values


def _other(name: str, values: NDArray[Any]) -> NDArray[Any]:
    kind = values.dtype.kind
    if kind == "c":
        raise NotAcceptable(
            f"NetCDF has no complex numbers, and {name!r} holds them: use f=csv, which has its real and "
            "imaginary parts, or the dataset's Zarr address."
        )
    if kind in "biuSU":
        return values
    texts = [value if isinstance(value, str) else "" for value in values.reshape(-1).tolist()]
    others = {
        type(v).__name__
        for v in values.reshape(-1).tolist()
        if not isinstance(v, (str, float)) and v is not None
    }
    if kind not in "OT" or others:
        raise NotAcceptable(f"NetCDF cannot hold {name!r} ({', '.join(sorted(others)) or values.dtype}).")
    return np.array(texts, object).reshape(values.shape)


def _attributes(attributes: Mapping[Any, Any], *, packed: bool) -> dict[str, Any]:
    # The valid range of packed data is in packed units: beside unpacked values it would mask them.
    dropped = _RESERVED | set(_RANGES) if packed else _RESERVED
    return {
        _text(str(key)): _attribute(value)
        for key, value in attributes.items()
        if key not in dropped and value is not None
    }


def _text(text: str) -> str:
    # it would end there for who reads the file, if it could be written
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _attribute(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (float, np.integer, np.floating)):
        return value
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    array = (
        np.asarray(value) if isinstance(value, (list, tuple, np.ndarray)) and len(value) else np.array(None)
    )
    if array.ndim == 1 and array.dtype.kind in "iufU":
        return array if array.dtype.kind != "U" else [_text(str(each)) for each in value]
    return json.dumps(value, default=str, ensure_ascii=False)


def _global_attributes(result: Result) -> dict[str, Any]:
    facts = {key.replace("/", "_"): value for key, value in origin(result).items()}
    named = {"dataset": "cubegate_dataset", "version": "cubegate_dataset_version",
             "where": "cubegate_where", "mask": "cubegate_mask"}  # fmt: skip
    attributes = _attributes(result.dataset.attrs, packed=False)
    attributes.update({named.get(key, key): value for key, value in facts.items()})
    which = f"dataset {facts.get('dataset', '')} version {facts.get('version', '')}"
    history = [*str(attributes.get("history", "")).splitlines(), f"{result.shape} of {which} by {software()}"]
    return {
        **attributes,
        "Conventions": "CF-1.8",
        "history": "\n".join(line for line in history if line),
        "cubegate_version": software().removeprefix("cubegate "),
    }


def _on_grid(result: Result, variable: xr.DataArray) -> bool:
    return result.shape != "cube" or {result.x, result.y} <= set(variable.dims)


def _grid_mapping(result: Result, crs: pyproj.CRS, names: set[str]) -> tuple[str, xr.Variable]:
    for name in sorted(names):
        attributes = _attributes(result.dataset[name].attrs, packed=False)
        if _says(attributes, crs):
            return name, xr.Variable((), np.int32(0), with_pole({**crs.to_cf(), **attributes}))
    name = min(names) if names else "spatial_ref"
    return name, xr.Variable((), np.int32(0), with_pole(_attributes(crs.to_cf(), packed=False)))


def _says(attributes: Mapping[str, Any], crs: pyproj.CRS) -> bool:
    try:
        return bool(pyproj.CRS.from_cf(dict(attributes)).equals(crs, ignore_axis_order=True))
    except (CRSError, KeyError, TypeError, ValueError):
        return False


def _describe_axes(result: Result, crs: pyproj.CRS | None, dataset: xr.Dataset) -> None:
    described: dict[str, dict[str, str]] = {
        "longitude": {"standard_name": "longitude", "units": "degrees_east"},
        "latitude": {"standard_name": "latitude", "units": "degrees_north"},
        "distance": {"long_name": "distance of the pixel centre from the asked point", "units": "m"},
    }
    for name, axis, degrees in ((result.x, "X", "longitude"), (result.y, "Y", "latitude")):
        if crs is None:
            described[name] = {"axis": axis}
        elif crs.is_geographic:
            described[name] = {**described[degrees], "axis": axis}
        else:
            unit = crs.axis_info[0].unit_name.replace("metre", "m")
            standard_name = f"projection_{axis.lower()}_coordinate"
            described[name] = {"standard_name": standard_name, "units": unit, "axis": axis}
    if result.time is not None:
        described[result.time] = {"standard_name": "time", "axis": "T"}
    for name, attributes in described.items():
        if name not in dataset.variables or (name == result.time and "calendar" not in dataset[name].attrs):
            continue
        allowed = (
            attributes.items() if name in dataset.dims else [i for i in attributes.items() if i[0] != "axis"]
        )
        own = {key: value for key, value in dataset[name].attrs.items() if key != "axis"}
        dataset[name].attrs.update({**dict(allowed), **own})


def _sampling_geometry(result: Result, dataset: xr.Dataset) -> xr.Dataset:
    if result.shape != "points":
        return dataset
    if "point" not in dataset.variables:
        dataset = dataset.assign_coords(point=np.arange(dataset.sizes["point"], dtype="i4"))
        dataset["point"].encoding["_FillValue"] = None
    dataset["point"].attrs.update({"cf_role": "timeseries_id", "long_name": "number of the asked point"})
    series = [v for v in dataset.data_vars.values() if v.dims]
    if result.time is not None and series and all(v.dims == ("point", result.time) for v in series):
        dataset.attrs["featureType"] = "timeSeries"
    return dataset
