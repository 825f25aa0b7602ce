"""Dimensions beyond x, y and time (a level, a band), selected by name from query parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from cubegate.errors import InvalidParameter
from cubegate.query.grid import Grid
from cubegate.query.nanoseconds import in_unit

RELATIVE_TOLERANCE = 1e-6
NAMED_VALUES = 12


def read_selectors(
    dataset: xr.Dataset,
    grid: Grid,
    variables: Iterable[str],
    parameters: Mapping[str, str],
    known: Iterable[str] = (),
) -> dict[str, int]:
    """Return the index along each dimension that `parameters` names.

    A dimension with a coordinate is selected by its value, exact but for the tolerance of
    32-bit floats; one without by its index from 0.

    `known` are the other parameters of the query, named where a parameter is unknown.

    Raises:
        InvalidParameter: a parameter names no dimension of the variables, or no place on it.
    """
    dims = {str(dim) for name in variables for dim in dataset.variables[name].dims}
    dims -= {grid.x.name, grid.y.name, grid.time_dim}
    indices = {}
    for name, text in parameters.items():
        if name not in dims:
            accepted = ", ".join([*known, *sorted(dims)])
            raise InvalidParameter(
                name, f"There is no parameter or dimension {name[:80]!r} here.", accepted=accepted
            )
        if name in dataset.variables:
            indices[name] = _by_value(dataset.variables[name], name, text)
        else:
            indices[name] = _by_index(dataset.sizes[name], name, text)
    return indices


def _by_index(size: int, name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < size:
        return int(text)
    raise InvalidParameter(
        name, f"{name}={text[:80]} is no index of this dimension.", accepted=f"0 to {size - 1}"
    )


def _by_value(coordinate: xr.Variable, name: str, text: str) -> int:
    values = coordinate.values
    if values.dtype.kind in "iuf":
        found = _equal_numbers(values.astype(float), text)
    elif values.dtype.kind == "M":
        found = _equal_times(values, text)
    else:
        found = np.array([_text(value) == text for value in values], bool)
    where = np.flatnonzero(found)
    if where.size == 1:
        return int(where[0])
    shown = ", ".join(_text(value) for value in values[:NAMED_VALUES])
    more = ", ..." if values.size > NAMED_VALUES else ""
    problem = "is not on this dimension" if not where.size else "is on this dimension more than once"
    raise InvalidParameter(name, f"{name}={text[:80]} {problem}.", accepted=shown + more)


def _equal_numbers(values: np.ndarray[Any, Any], text: str) -> np.ndarray[Any, Any]:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    exact = values == number
    near = np.abs(values - number) <= RELATIVE_TOLERANCE * np.abs(values)
    return np.asarray(exact if exact.any() else near)


def _equal_times(values: np.ndarray[Any, Any], text: str) -> np.ndarray[Any, Any]:
    text = text.rstrip("Zz")
    none = np.zeros(values.shape, bool)
    if not text[-1:].isdigit():
        return none
    try:
        asked = np.array(np.datetime64(text))
        unit = np.promote_types(values.dtype, asked.dtype)
        found = np.asarray(in_unit(values, unit) == in_unit(asked, unit), bool)
    except (ValueError, OverflowError):
        return none
    # with nanoseconds written, NumPy reads far years as others
    return found if str(asked)[:4] == text[:4] else none


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
