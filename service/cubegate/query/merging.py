"""What the answers of several cubes have in common: their variables, their times, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.chunks.concurrency import run_all
from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.merged_times import merge_times
from cubegate.query.reproject import EXACT
from cubegate.query.selection import Selection

# the variable or coordinate that names the source of each value
CUBE = "cube"
# how a variable is stored, which tells the formats what its missing value was
STORED = ("dtype", "_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")


@dataclass(frozen=True, eq=False)
class Part:
    """What one member of a combined collection answers.

    Attributes:
        cube: the member's id.
        number: its place in the order of precedence, from 1.
        selection: lazy or loaded; of no times where none of the member's was asked for.
    """

    cube: str
    number: int
    selection: Selection

    @property
    def dataset(self) -> xr.Dataset:
        """The dataset of the selection."""
        return self.selection.dataset

    @property
    def times(self) -> NDArray[Any] | None:
        """The times of the selection; None where it has no time."""
        return None if self.selection.time is None else self.dataset[self.selection.time].values

    def role(self, dim: Hashable) -> str:
        """Name a dimension the same in all parts."""
        known = {self.selection.x: "x", self.selection.y: "y", self.selection.time: "time"}
        return known.get(str(dim), str(dim))


def check_alike(parts: Sequence[Part], names: Iterable[str]) -> None:
    """See to it that each variable means the same in all parts.

    Raises:
        InvalidParameter: a variable is not in all of them, or in other units, over other dimensions or
            of another kind; or the answer needs its name for the source cube.
    """
    for name in names:
        missing = [part.cube for part in parts if name not in part.dataset.variables]
        if missing:
            raise _refused(name, f"is not in {_listed(missing)}, which the query meets too")
        if name == CUBE:
            raise _refused(name, "has the name that is needed for the source cube of each value")
        _check_same(name, parts, _units, "is in other units")
        _check_same(name, parts, lambda part, name: sorted(_roles(part, name)), "has other dimensions")
        _check_same(name, parts, _kind, "holds values of another kind")
        for dim in set(_roles(parts[0], name)) - {"x", "y", "time", "point"}:
            values = [part.dataset[dim].values for part in parts]
            if not all(np.array_equal(values[0], other) for other in values[1:]):
                raise _refused(name, f"lies on another {dim!r} in each cube: select one place on it")


def _check_same(name: str, parts: Sequence[Part], fact: Any, problem: str) -> None:
    said = [fact(part, name) for part in parts]
    for part, each in zip(parts, said, strict=True):
        if each != said[0]:
            first, other = (each or "none" for each in (said[0], each))
            raise _refused(
                name, f"{problem} in {part.cube} ({_text(other)}) than in {parts[0].cube} ({_text(first)})"
            )


def _text(fact: Any) -> str:
    return ", ".join(fact) if isinstance(fact, list) else str(fact)[:80]


def _units(part: Part, name: str) -> str:
    variable = part.dataset.variables[name]
    return str(variable.attrs.get("units", "")).strip()


def _roles(part: Part, name: str) -> list[str]:
    return [part.role(dim) for dim in part.dataset.variables[name].dims]


def _kind(part: Part, name: str) -> str:
    kind = part.dataset.variables[name].dtype.kind
    kinds = {"b": "truth values", "M": "times", "m": "durations", "c": "complex numbers"}
    return "numbers" if kind in "iuf" else kinds.get(kind, "text")


def _refused(name: str, problem: str) -> InvalidParameter:
    return InvalidParameter(
        "variables",
        f"Variable {name!r} {problem}.",
        accepted="other variables, or the dataset of one cube",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def merged_dtype(parts: Sequence[Part], name: str, *, gaps: bool) -> np.dtype[Any]:
    """Return the type that holds the loaded values of a variable in all parts, and with `gaps` a missing one.

    Raises:
        NotAcceptable: there is none that keeps all values; the message names the variable.
    """
    arrays = [part.dataset.variables[name].values for part in parts]
    if any(array.dtype.kind in "OSUT" for array in arrays):
        return np.dtype(object)
    try:
        dtype = np.result_type(*(array.dtype for array in arrays))
    except TypeError:
        raise _inexact(name) from None
    if not all(_is_exact(array, dtype) for array in arrays):
        raise _inexact(name)
    if not gaps or dtype.kind in "fcmM":
        return dtype
    if dtype.kind == "b":
        raise NotAcceptable(
            f"Variable {name!r} holds truth values, which have no missing one, and would have gaps here: "
            "ask for a place in one cube, or leave it out."
        )
    return np.result_type(*(_float_type(name, array) for array in arrays))


def _is_exact(values: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    if values.dtype == dtype:
        return True
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            back = values.astype(dtype).astype(values.dtype)
    except OverflowError:
        # times too far from 1970 for a finer unit
        return False
    return bool(np.array_equal(back, values, equal_nan=values.dtype.kind in "fcmM"))


def _inexact(name: str) -> NotAcceptable:
    return NotAcceptable(
        f"No type holds all values of variable {name!r} in these cubes exactly: ask for one cube."
    )


def _float_type(name: str, values: NDArray[Any]) -> np.dtype[Any]:
    if values.dtype.kind == "f":
        return values.dtype.newbyteorder("=")
    if values.dtype.itemsize <= 2:
        return np.dtype(np.float32)
    if values.size and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
        raise NotAcceptable(
            f"Variable {name!r} holds integers without a missing value, too large for exact floats, and "
            "would have gaps here: ask for a place in one cube, or leave it out."
        )
    return np.dtype(np.float64)


def missing_values(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of nothing but missing values; of zeros where the type has none."""
    if dtype.kind == "O":
        return np.full(shape, None, object)
    if dtype.kind in "mM":
        return np.full(shape, np.array("NaT", dtype))
    return np.full(shape, np.nan, dtype) if dtype.kind in "fc" else np.zeros(shape, dtype)


def merged_sizes(
    parts: Sequence[Part], names: Sequence[str], places: int, along: Sequence[str]
) -> dict[str, int]:
    """Return how many values each of the variables `names` has in an answer of so many `places`.

    `along` are the roles of the dimensions that the places replace.
    """
    times = [part.times for part in parts if part.times is not None]
    layers = len(merge_times(times).values) if times else 1
    found: dict[str, int] = {}
    for name in names:
        sizes = {parts[0].role(dim): size for dim, size in parts[0].dataset[name].sizes.items()}
        others = [size for dim, size in sizes.items() if dim not in ("time", *along)]
        found[name] = places * math.prod(others) * (layers if "time" in sizes else 1)
    return found


def merged_facts(parts: Sequence[Part], name: str) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the attributes and the encoding that a variable has in all parts."""
    variables = [part.dataset.variables[name] for part in parts]
    encoding = {
        key: value for key, value in in_common([v.encoding for v in variables]).items() if key in STORED
    }
    # one without the others would mean something else
    if any(key in variable.encoding and key not in encoding for variable in variables for key in STORED):
        encoding = {}
    return in_common([variable.attrs for variable in variables]), encoding


def in_common(mappings: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Return what all mappings say."""
    first, *others = mappings
    return {
        key: value
        for key, value in first.items()
        if all(key in other and _equal(value, other[key]) for other in others)
    }


def _equal(one: Any, other: Any) -> bool:
    # a missing value may be NaN
    return str(one) == str(other) and np.shape(one) == np.shape(other) and type(one) is type(other)


def without_times(selection: Selection) -> Selection:
    """Return a lazy selection with none of its times, and all that does not lie along them.

    Raises:
        InvalidParameter: what is left would have to be masked by values along time.
    """
    time = selection.time
    if time is None:
        return selection
    dataset = selection.dataset.copy(deep=False)
    left = [variable for variable in dataset.data_vars.values() if time not in variable.dims]
    if left and selection.mask is not None:
        raise InvalidParameter(
            "mask", "One of the cubes has none of the times that are asked for, by which to mask.",
            accepted="variables along time only, or no mask",
        )  # fmt: skip
    sizes = {**dataset.sizes, time: 0}
    empty = {
        name: xr.Variable(
            variable.dims, np.empty([sizes[dim] for dim in variable.dims], variable.dtype),
            variable.attrs, variable.encoding,
        )
        for name, variable in dataset.variables.items()
        if time in variable.dims
    }  # fmt: skip
    coordinates = {name: empty.pop(name) for name in list(empty) if name in dataset.coords}
    dataset = dataset.drop_vars([*empty, *coordinates]).assign_coords(coordinates).assign(empty)
    arrays = [variable.encoding.get("encoded_array") for variable in left]
    reads = tuple(read for read in selection.reads if any(read.array is array for array in arrays))
    return replace(
        selection, dataset=dataset[list(selection.dataset.data_vars)], reads=reads, mask=None, narrow=None
    )


async def load_parts(parts: Sequence[Part]) -> list[Part]:
    """Load all parts, concurrently; one of which no date meets the conditions has no times.

    Raises:
        UpstreamError: a chunk could not be read; the other reads end with it.
        InvalidParameter: no date of any part meets the conditions.
    """
    loaded = await run_all(map(_load, parts), in_flight=max(1, len(parts)))
    problems = [problem for _, problem in loaded if problem is not None]
    if problems and not any(part.times is not None and part.times.size for part, _ in loaded):
        raise problems[0]
    return [part for part, _ in loaded]


async def _load(part: Part) -> tuple[Part, InvalidParameter | None]:
    try:
        return replace(part, selection=await part.selection.load()), None
    except InvalidParameter as error:
        if error.parameter != "where":
            raise
        rest = await without_times(part.selection).load()
        return replace(part, selection=rest), error
