"""Translates HDF5 values into the JSON of Zarr metadata."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# what netCDF4 and HDF5's dimension scales keep for themselves
_HIDDEN = frozenset(
    {
        "CLASS", "DIMENSION_LABELS", "DIMENSION_LIST", "NAME", "REFERENCE_LIST", "_NCProperties",
        "_Netcdf4Coordinates", "_Netcdf4Dimid", "_nc3_strict",
    }
)  # fmt: skip
_MAX_ITEMS = 2**16


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of an h5py group or dataset that JSON can hold, without `_FillValue`.

    Arrays of one element become that element, as netCDF4 reads them.
    """
    found: dict[str, Any] = {}
    for name in item.attrs:
        if name in _HIDDEN or name == "_FillValue":
            continue
        if item.attrs.get_id(name).get_type().get_class() not in _plain_classes():
            continue
        value = _json(item.attrs[name])
        if value is not None:
            found[name] = value
    return found


def declared_fill(dataset: Any) -> Any:
    """Return the `_FillValue` of an h5py dataset as JSON in the dataset's type, None where there is none."""
    if "_FillValue" not in dataset.attrs:
        return None
    values = np.asarray(dataset.attrs["_FillValue"]).reshape(-1)
    if values.size != 1 or dataset.dtype.kind not in "biufcS":
        return None
    value = values[0]
    if dataset.dtype.kind in "iu" and not (
        np.iinfo(dataset.dtype).min <= value <= np.iinfo(dataset.dtype).max
    ):
        # a value that the type cannot hold is never met
        return None
    return fill_json(value, dataset.dtype)


def fill_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return `value`, of the type `dtype`, as a Zarr v2 `fill_value`."""
    if dtype.kind == "O":
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    if dtype.kind == "S":
        return base64.b64encode(bytes(value)).decode()
    one = np.asarray(value).astype(dtype)[()]
    if dtype.kind == "c":
        return [_number(float(one.real)), _number(float(one.imag))]
    return _number(one.item())


def _number(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value).replace("nan", "NaN").replace("inf", "Infinity")
    return value


def _plain_classes() -> frozenset[int]:
    import h5py  # noqa: PLC0415 - an optional dependency

    return frozenset({h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM, h5py.h5t.VLEN})


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    if not isinstance(value, np.ndarray | np.generic):
        # nothing but a type
        return ""
    array: NDArray[Any] = np.asarray(value)
    if array.size > _MAX_ITEMS or array.dtype.kind not in "biufSUO":
        return None
    items = [_item(each) for each in array.reshape(-1).tolist()]
    if any(each is None for each in items):
        return None
    return items[0] if len(items) == 1 else items


def _item(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float) else None
