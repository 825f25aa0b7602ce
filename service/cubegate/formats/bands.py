"""A cube as bands: which there are, what they are called, and the one type that holds them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.facts import one_line
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result
from cubegate.formats.times import iso_times

_MOST_BANDS = 65_535
# What readers of images know: no truth values, half floats or (before GDAL 3.7) 8-bit signed integers.
_WIDER = {"bool": "u1", "int8": "i2", "float16": "f4"}


@dataclass(frozen=True)
class Band:
    """One y by x plane of a variable."""

    field: Field
    index: dict[str, int]
    description: str
    tags: dict[str, str]
    plane: tuple[str, str]

    def values(self) -> NDArray[Any]:
        """The cells, y by x, in the order of the grid."""
        order = [self.field.dims.index(dim) for dim in (*self.index, *self.plane)]
        plane: NDArray[Any] = self.field.values.transpose(order)[tuple(self.index.values())]
        return plane


@dataclass(frozen=True)
class BandType:
    """The type of all bands, and the value that means missing; None where nothing does."""

    dtype: np.dtype[Any]
    nodata: float | int | None

    def convert(self, field: Field, values: NDArray[Any]) -> NDArray[Any]:
        """Turn some cells of `field` into this type, the missing ones into `nodata`."""
        missing = field.missing(values)
        converted = values.astype(self.dtype)
        if self.nodata is not None and missing.any():
            converted[missing] = self.nodata
        return converted


def list_bands(result: Result) -> list[Band]:
    """The bands of a cube: each variable, at each time, at each value of other dimensions.

    Raises:
        NotAcceptable: a variable is no image, or there are no bands or too many.
    """
    contents = read_contents(result, split_complex=False)
    plane = (result.y, result.x)
    flat = [
        f.name for f in contents.variables if not set(plane) <= set(f.dims) or f.values.dtype.kind in "OM"
    ]
    if flat:
        images = [f.name for f in contents.variables if f.name not in flat]
        raise NotAcceptable(
            f"Not numbers on the grid, and so no bands of a GeoTIFF: {', '.join(flat)}. "
            + (f"Ask for variables={','.join(images)}, or use f=netcdf." if images else "Use f=netcdf.")
        )
    cells = contents.sizes[result.y] * contents.sizes[result.x]
    count = sum(field.values.size // cells for field in contents.variables) if cells else 0
    if not 0 < count <= _MOST_BANDS:
        raise NotAcceptable(
            f"A GeoTIFF has 1 to {_MOST_BANDS:,} bands, and this would have {count:,}: ask for another "
            "datetime interval or other variables."
        )
    return [band for field in contents.variables for band in _bands(result, contents, field, plane)]


def _bands(result: Result, contents: Contents, field: Field, plane: tuple[str, str]) -> Iterable[Band]:
    dims = [dim for dim in contents.dims if dim in field.dims and dim not in plane]
    labels = {dim: _labels(result, contents, dim) for dim in dims}
    for index in product(*(range(contents.sizes[dim]) for dim in dims)):
        at = dict(zip(dims, index, strict=True))
        named = {("time" if dim == result.time else dim): labels[dim][i] for dim, i in at.items()}
        text = " ".join(value if key == "time" else f"{key}={value}" for key, value in named.items())
        tags = {"variable": field.name, "long_name": one_line(field.label), "units": field.units, **named}
        description = f"{field.name} {text}".strip()
        yield Band(field, at, description, {key: value for key, value in tags.items() if value}, plane)


def _labels(result: Result, contents: Contents, dim: str) -> list[str]:
    field = (
        contents.time if dim == result.time and contents.time is not None else contents.coordinates.get(dim)
    )
    if field is None:
        return [str(index) for index in range(contents.sizes[dim])]
    if field.is_time:
        return [text or "" for text in iso_times(field.values)]
    return [one_line(value) for value in field.values.tolist()] if field.values.dtype.kind != "f" else [
        str(value) for value in field.values
    ]  # fmt: skip


def common_type(fields: Iterable[Field]) -> BandType:
    """The type that holds the values of all fields exactly.

    Raises:
        NotAcceptable: there is none.
    """
    unique = {field.name: field for field in fields}
    types = {name: np.dtype(_WIDER.get(f.values.dtype.name, f.values.dtype)) for name, f in unique.items()}
    dtype = np.result_type(*types.values())
    if dtype.kind in "iu":
        fill = _common_fill(unique.values(), dtype)
        if fill is not None or not any(field.missing(field.values).any() for field in unique.values()):
            return BandType(dtype, fill)
        dtype = np.result_type(dtype, np.float32)
    if dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise NotAcceptable(f"GeoTIFF has no type for {dtype}: use f=csv.")
    for name, field in unique.items():
        _require_exact(name, field, dtype)
    return BandType(dtype, float("nan"))


def _common_fill(fields: Iterable[Field], dtype: np.dtype[Any]) -> int | None:
    """The one integer that means missing in all fields; None where they do not agree on one."""
    fills = {field.fill for field in fields if field.fill is not None}
    if len(fills) != 1:
        return None
    fill = min(fills)
    clash = any(field.fill != fill and (field.values == fill).any() for field in fields)
    # GDAL keeps it as text of a double: -9223372036854775808 would come back as -9.
    inside = np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max and abs(fill) < 2**53
    return fill if inside and not clash else None


def _require_exact(name: str, field: Field, dtype: np.dtype[Any]) -> None:
    if field.values.dtype.kind not in "iu":
        return
    present = field.values[~field.missing(field.values)]
    limit = 2 ** (np.finfo(dtype).nmant + 1)
    if present.size and (int(present.max()) > limit or int(present.min()) < -limit):
        raise NotAcceptable(
            f"The integers of {name!r} are too large to stand exactly in one GeoTIFF with the other "
            "variables: ask for them alone."
        )
