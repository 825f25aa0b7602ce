"""The contents of a result as plain fields: numbers, text, truth values and times, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cftime
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.output import Result
from cubegate.formats.times import NOT_A_TIME, encode_durations, holds_times

_EXACT = 2**53


@dataclass(frozen=True)
class Field:
    """One variable or coordinate, without encoding.

    Attributes:
        values: C-contiguous, native byte order; booleans, integers, floats, complex, datetime64, or
            objects that are text (str) or times (cftime).
        fill: the integer that means missing; None where there is none.
    """

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    attributes: Mapping[str, Any]
    fill: int | None = None

    @property
    def units(self) -> str:
        """The units as declared; empty where there are none."""
        return str(self.attributes.get("units", ""))

    @property
    def label(self) -> str:
        """What a person calls the variable."""
        return str(self.attributes.get("long_name") or self.attributes.get("standard_name") or self.name)

    @cached_property
    def is_time(self) -> bool:
        """Whether the values are times."""
        return holds_times(self.values)

    def missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark the missing cells of `values`, which are some of this field's."""
        if values.dtype.kind in "fcM":
            return np.asarray(values != values)  # noqa: PLR0124 - NaN and NaT alone differ from themselves
        if values.dtype.kind == "O":
            marks = [not isinstance(value, (str, cftime.datetime)) for value in values.flat]
            return np.array(marks, bool).reshape(values.shape)
        if self.fill is None:
            return np.zeros(values.shape, bool)
        return np.asarray(values == self.fill)


@dataclass(frozen=True)
class Contents:
    """A result taken apart.

    Attributes:
        variables: the data variables, without grid mappings and cell bounds.
        coordinates: by name, those along dimensions of the variables.
        scalars: by name, coordinates of a single value.
        dims: of all variables, in the order point, time, others, y, x.
        time: the coordinate that says when; None where nothing does.
    """

    variables: tuple[Field, ...]
    coordinates: Mapping[str, Field]
    scalars: Mapping[str, Field]
    dims: tuple[str, ...]
    sizes: Mapping[str, int]
    time: Field | None


def read_contents(result: Result, *, split_complex: bool = True) -> Contents:
    """Take a result apart, complex variables into their real and imaginary parts unless told otherwise.

    Raises:
        NotAcceptable: a variable holds values that no plain field can hold, or there is none.
    """
    dataset = result.dataset
    hidden = grid_mapping_names(dataset) | _bounds_names(dataset)
    variables = [
        field
        for name, variable in dataset.data_vars.items()
        if name not in hidden
        for field in plain_fields(str(name), variable.variable, split_complex=split_complex)
    ]
    if not variables:
        raise NotAcceptable("None of the chosen variables holds data: ask for others.")
    dims = _ordered_dims(result, variables)
    coordinates: dict[str, Field] = {}
    scalars: dict[str, Field] = {}
    for name, coordinate in dataset.coords.items():
        if name in hidden or not set(coordinate.dims) <= set(dims):
            continue
        for field in plain_fields(str(name), coordinate.variable):
            (coordinates if field.dims else scalars)[field.name] = field
    sizes = {dim: dataset.sizes[dim] for dim in dims}
    return Contents(tuple(variables), coordinates, scalars, dims, sizes, _time(result, coordinates, scalars))


def grid_mapping_names(dataset: xr.Dataset) -> set[str]:
    """The names of the dataset's grid mapping variables."""
    names = {
        word.rstrip(":")
        for variable in dataset.variables.values()
        for word in str(variable.attrs.get("grid_mapping", variable.encoding.get("grid_mapping", ""))).split()
    }
    found = {str(name) for name in dataset.variables if name in names}
    return found | {
        str(name)
        for name, variable in dataset.variables.items()
        if not variable.dims and {"grid_mapping_name", "crs_wkt"} & set(variable.attrs)
    }


def _bounds_names(dataset: xr.Dataset) -> set[str]:
    names = {
        str(variable.attrs.get("bounds", variable.encoding.get("bounds", "")))
        for variable in dataset.variables.values()
    }
    return names & {str(name) for name in dataset.variables} if set(dataset.data_vars) - names else set()


def _ordered_dims(result: Result, fields: list[Field]) -> tuple[str, ...]:
    found = dict.fromkeys(dim for field in fields for dim in field.dims)
    first = [dim for dim in ("point", result.time) if dim in found] if result.shape == "points" else []
    first = first or [dim for dim in (result.time,) if dim in found]
    last = [dim for dim in (result.y, result.x) if dim in found]
    return tuple(str(d) for d in (*first, *(d for d in found if d not in (*first, *last)), *last))


def _time(result: Result, coordinates: Mapping[str, Field], scalars: Mapping[str, Field]) -> Field | None:
    if result.time is None:
        return None
    named = coordinates.get(result.time) or scalars.get(result.time)
    if named is not None and named.is_time:
        return named
    along = [field for field in coordinates.values() if field.dims == (result.time,) and field.is_time]
    return along[0] if len(along) == 1 else named


def plain_fields(name: str, variable: xr.Variable, *, split_complex: bool = True) -> Iterator[Field]:
    """Yield a variable as one plain field, a complex one as its real and imaginary parts.

    Raises:
        NotAcceptable: its values are structures, or objects other than text and times.
    """
    values = np.asarray(variable.values)
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False)).reshape(
        values.shape
    )
    dims = tuple(str(dim) for dim in variable.dims)
    attributes = dict(variable.attrs)
    kind = values.dtype.kind
    if kind == "c" and split_complex:
        for part, numbers in (("real", values.real), ("imag", values.imag)):
            yield Field(
                f"{name}_{part}", dims, np.ascontiguousarray(numbers).reshape(values.shape), attributes
            )
    elif kind == "m":
        numbers, units = encode_durations(values)
        yield Field(name, dims, numbers, {**attributes, "units": units}, NOT_A_TIME)
    elif kind == "f":
        restored = stored_integers(variable)
        if restored is None:
            yield Field(name, dims, values, attributes)
        else:
            yield Field(name, dims, restored[0], attributes, restored[1])
    elif kind in "iu":
        yield Field(name, dims, values, attributes, declared_fill(variable))
    elif kind in "bMc":
        yield Field(name, dims, values, attributes)
    else:
        yield Field(name, dims, _objects(name, values), attributes)


def declared_fill(variable: xr.Variable) -> int | None:
    """The integer that means missing in an integer variable; None where none is declared."""
    encoding = variable.encoding
    if "scale_factor" in encoding or "add_offset" in encoding:
        return None
    fill = variable.attrs.get("_FillValue", encoding.get("_FillValue"))
    if fill is None or np.size(fill) != 1:
        return None
    number = np.asarray(fill).reshape(())
    if number.dtype.kind not in "iu":
        return None
    limits = np.iinfo(variable.dtype) if variable.dtype.kind in "iu" else None
    return int(number) if limits is None or limits.min <= int(number) <= limits.max else None


def stored_integers(variable: xr.Variable) -> tuple[NDArray[Any], int] | None:
    """Undo the promotion to floats of integers that have a fill value, where nothing is lost by it.

    Returns:
        The integers as stored and their fill; None where the variable is no such promotion.
    """
    stored = np.dtype(variable.encoding.get("dtype") or variable.dtype)
    fill = declared_fill(variable)
    if stored.kind not in "iu" or variable.encoding.get("_Unsigned") is not None or fill is None:
        return None
    limits = np.iinfo(stored)
    values = np.asarray(variable.values)
    absent = np.isnan(values)
    inside = absent | ((values >= limits.min) & (values <= limits.max) & (np.abs(values) < _EXACT))
    if not limits.min <= fill <= limits.max or not inside.all():
        return None
    numbers = np.where(absent, 0, values).astype(stored.newbyteorder("="))
    if (~absent & ((numbers != values) | (numbers == fill))).any():
        return None
    numbers[absent] = fill
    return numbers, fill


def _objects(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "OSUT":
        raise NotAcceptable(
            f"The variable {name!r} holds {values.dtype} structures: ask for other variables."
        )
    return np.array([_object(name, value) for value in values.reshape(-1).tolist()], object).reshape(
        values.shape
    )


def _object(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise NotAcceptable(f"The variable {name!r} holds bytes that are not UTF-8 text.") from None
    if value is None or isinstance(value, (str, cftime.datetime)) or value != value:  # noqa: PLR0124 - NaN
        return value
    raise NotAcceptable(
        f"The variable {name!r} holds {type(value).__name__} objects: ask for other variables."
    )
