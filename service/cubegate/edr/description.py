"""What standards want to know of a cube: where, when, which parameters, on which axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.formats.times import holds_times, is_gregorian, iso_times
from cubegate.query.bounding import transform_bounds
from cubegate.query.crs import Bounds, lonlat, same_crs
from cubegate.query.grid import Grid
from cubegate.query.interval import order_times
from cubegate.query.variables import GridSettings, choose_variables

# of a time axis, and of others
MAX_VALUES = 1_000
_KINDS = {"b": "integer", "i": "integer", "u": "integer", "f": "float"}


@dataclass(frozen=True)
class Parameter:
    """One variable on the grid."""

    name: str
    label: str
    units: str
    standard_name: str
    kind: str
    dims: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dimension:
    """A dimension beyond x, y and time, such as a level; `values` are texts or numbers, in file order."""

    name: str
    values: tuple[Any, ...]
    units: str
    vertical: bool


@dataclass(frozen=True, eq=False)
class Axis:
    """A spatial axis, for the domain set: the centres in file order, and the edges of the whole."""

    name: str
    values: NDArray[np.float64]
    extent: tuple[float, float]
    regular: bool


@dataclass(frozen=True, eq=False)
class Description:
    """One cube.

    Attributes:
        box: west, south, east and north in degrees; west is more than east across the antimeridian. None
            where the CRS is unknown.
        crs: native, None where it is unknown or where there are several.
        time: the name of the time coordinate, None where there is none.
        times: in order, as ISO 8601; empty where there are none.
        calendar: whether the times are of the civil calendar.
        axes: x and y, empty where there are several grids.
    """

    id: str
    title: str
    box: Bounds | None
    crs: CRS | None
    time: str | None
    times: tuple[str, ...]
    gregorian: bool
    parameters: tuple[Parameter, ...]
    dimensions: tuple[Dimension, ...]
    axes: tuple[Axis, ...] = ()
    combined: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def vertical(self) -> Dimension | None:
        """The dimension that is a height, depth or pressure."""
        return next((dimension for dimension in self.dimensions if dimension.vertical), None)


def describe(dataset: xr.Dataset, settings: GridSettings, cube_id: str, title: str) -> Description:
    """Describe a dataset by its coordinates and attributes; no chunk of a variable is read.

    Raises:
        InvalidParameter: it has no variables on a grid.
    """
    grid, names = choose_variables(dataset, None, settings)
    times = () if grid.time is None else _times(dataset.variables[grid.time].values)
    return Description(
        cube_id,
        title,
        _box(grid),
        grid.crs,
        grid.time if times else None,
        times,
        grid.time is None or not times or is_gregorian(dataset.variables[grid.time].values),
        tuple(_parameter(name, dataset.variables[name]) for name in names),
        tuple(_dimensions(dataset, grid, names)),
        tuple(Axis(axis.name, axis.values, axis.extent, axis.regular) for axis in (grid.x, grid.y)),
        facts={key: str(dataset.attrs[key]) for key in ("summary", "institution") if key in dataset.attrs},
    )


def combine(parts: Sequence[Description], cube_id: str, title: str) -> Description:
    """Describe several cubes as one: all that any has, but for axes, which each has of its own."""
    first = parts[0]
    one_crs = first.crs is not None and all(
        part.crs is not None and same_crs(first.crs, part.crs) for part in parts
    )
    times = tuple(sorted({time for part in parts for time in part.times}))
    parameters = {each.name: each for part in reversed(parts) for each in part.parameters}
    order = dict.fromkeys(each.name for part in parts for each in part.parameters)
    return replace(
        first,
        id=cube_id,
        title=title,
        box=_union([part.box for part in parts if part.box is not None]),
        crs=first.crs if one_crs else None,
        time=next((part.time for part in parts if part.time is not None), None),
        times=times,
        gregorian=all(part.gregorian for part in parts),
        parameters=tuple(parameters[name] for name in order),
        axes=(),
        combined=True,
        facts={},
    )


def _times(values: NDArray[Any]) -> tuple[str, ...]:
    if not holds_times(values):
        return ()
    order = order_times(values)
    texts = iso_times(values if order is None else values[order])
    return tuple(dict.fromkeys(text for text in texts if text is not None))


def _box(grid: Grid) -> Bounds | None:
    if grid.crs is None:
        return None
    try:
        west, south, east, north = transform_bounds(grid.crs, lonlat(), grid.bounds)
    except InvalidParameter:
        return None
    if east - west >= 360:
        return -180.0, south, 180.0, north
    return turned(west), south, turned(east, last=True), north


def turned(longitude: float, *, last: bool = False) -> float:
    """Return a longitude between -180 and 180, of which the `last` of a box is the upper one."""
    there = (longitude + 180) % 360 - 180
    return 180.0 if last and there == -180 else there


def _union(boxes: Sequence[Bounds]) -> Bounds | None:
    """The smallest box around all: the widest gap between their longitudes is left out."""
    if not boxes:
        return None
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    spans = sorted((box[0] % 360, box[0] % 360 + (box[2] - box[0]) % 360) for box in boxes)
    if any(box[2] - box[0] >= 360 for box in boxes):
        return -180.0, south, 180.0, north
    merged = [spans[0]]
    for west, east in spans[1:]:
        if west <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], east)
        else:
            merged.append((west, east))
    gaps = [
        (after - before[1], number)
        for number, (before, after) in enumerate(
            zip(merged, [west for west, _ in merged[1:]] + [merged[0][0] + 360], strict=True)
        )
    ]
    widest, number = max(gaps)
    if widest <= 0:
        return -180.0, south, 180.0, north
    return turned(merged[(number + 1) % len(merged)][0]), south, turned(merged[number][1], last=True), north


def _parameter(name: str, variable: xr.Variable) -> Parameter:
    attributes = variable.attrs
    label = " ".join(str(attributes.get("long_name") or attributes.get("standard_name") or name).split())
    units = attributes.get("units", variable.encoding.get("units", ""))
    standard = str(attributes.get("standard_name", ""))
    dims = tuple(map(str, variable.dims))
    return Parameter(
        name, label, str(units).strip(), standard, _KINDS.get(variable.dtype.kind, "string"), dims
    )


def _dimensions(dataset: xr.Dataset, grid: Grid, names: Iterable[str]) -> Iterable[Dimension]:
    known = {grid.x.name, grid.y.name, grid.time_dim}
    found = dict.fromkeys(str(dim) for name in names for dim in dataset.variables[name].dims)
    for name in found:
        if name in known:
            continue
        coordinate = dataset.variables.get(name)
        if coordinate is None:
            yield Dimension(name, tuple(range(dataset.sizes[name])), "", vertical=False)
            continue
        values = coordinate.values
        texts = iso_times(values) if holds_times(values) else values.tolist()
        shown = tuple(
            value.decode(errors="replace") if isinstance(value, bytes) else value for value in texts
        )
        yield Dimension(name, shown, str(coordinate.attrs.get("units", "")), _is_vertical(name, coordinate))


def _is_vertical(name: str, coordinate: xr.Variable) -> bool:
    attributes = coordinate.attrs
    if attributes.get("axis") == "Z" or "positive" in attributes:
        return True
    words = ("air_pressure", "altitude", "depth", "height")
    return coordinate.dtype.kind in "iuf" and (
        attributes.get("standard_name") in words
        or name.lower() in ("z", "level", "lev", "plev", "height", "altitude", "depth", "pressure")
    )
