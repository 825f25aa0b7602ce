"""What a cube holds, for a terminal of any width: `cubegate inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.combined_inspection import describe_combined
from cubegate.catalog.datacube import Datacube
from cubegate.errors import CubegateError, InvalidMetadata, InvalidParameter
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata, CodecsV2
from cubegate.logs import escaped
from cubegate.query.bounds import extent_text
from cubegate.query.crs import lonlat
from cubegate.query.grid import Grid
from cubegate.query.variables import covered

_LONGEST_ATTRIBUTE = 160
_COLUMNS = (
    "array",
    "dtype",
    "dimensions",
    "shape",
    "chunks",
    "allocated",
    "codecs",
    "missing value",
    "units",
)


async def describe_cube(cube: Datacube | CombinedCube) -> list[RenderableType]:
    """Return the renderable parts of a cube's description; of the data, only coordinates are read."""
    if isinstance(cube, CombinedCube):
        return await describe_combined(cube)
    store = cube.store
    parts: list[RenderableType] = [Text(escaped(f"{cube.id}: {cube.title}"), style="bold")]
    if cube.collection.description:
        parts.append(Text(escaped(cube.collection.description)))
    parts += [Text(f"version {cube.version}"), Text(_contents(cube))]
    if await cube.sidecar("") is not None:
        parts.append(Text("overviews beside it are used"))
    for path, group in store.hierarchy.groups.items():
        arrays = list(store.hierarchy.arrays_in(path))
        if path:
            parts += [Text(), Text(f"group {path}", style="bold")]
        parts += await _describe_grids(cube, path, arrays)
        parts += _describe_attributes(group.attributes)
        if arrays:
            parts.append(_Arrays([_describe_array(cube, array) for array in arrays]))
    parts += [
        Text(f"not served: {path}: {reason}", style="yellow")
        for path, reason in store.hierarchy.skipped.items()
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in cube.notes]
    return parts


def _contents(cube: Datacube) -> str:
    hierarchy = cube.store.hierarchy
    counted = {"array": len(hierarchy.arrays), "group": len(hierarchy.groups)}
    if isinstance(cube.store.locator, Index):
        counted["granule"] = cube.store.locator.granules
    return ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counted.items())


async def _describe_grids(cube: Datacube, group: str, arrays: Sequence[ArrayMetadata]) -> list[Text]:
    if not arrays:
        return []
    try:
        dataset = await cube.dataset(group)
    except InvalidMetadata as error:
        return [Text(str(error), style="yellow")]
    except CubegateError as error:
        return [Text(f"its coordinates cannot be read: {error}", style="yellow")]
    # most often all variables lie on one grid
    found = dict.fromkeys(
        line for name in dataset.data_vars for line in _grid_lines(cube, dataset, str(name))
    )
    return [Text(line) for line in found] or [Text("no grid: no variable has x and y axes", style="yellow")]


def _grid_lines(cube: Datacube, dataset: xr.Dataset, variable: str) -> Iterator[str]:
    try:
        grid = cube.grid_settings.find(dataset, variable)
    except InvalidParameter:
        return
    yield f"CRS {_crs(grid)}"
    yield f"grid of {len(grid.x.values):,} x {len(grid.y.values):,} cells{_cell_size(grid)}"
    yield f"extent {extent_text(grid, None)}"
    if grid.crs is not None and not grid.geographic:
        yield f"extent {extent_text(grid, lonlat())}"
    if grid.time is not None and dataset[grid.time].size:
        times = dataset[grid.time].values.reshape(-1)
        decoded = times.dtype.kind in "MO"
        yield f"{len(times):,} {covered(times) if decoded else 'times without a calendar'} ({grid.time})"


def _crs(grid: Grid) -> str:
    if grid.crs is None:
        return f"unknown: {grid.crs_problem}"
    name = grid.crs_name
    return f"{name} ({grid.crs.name})" if len(name) < _LONGEST_ATTRIBUTE else str(grid.crs.name)


def _cell_size(grid: Grid) -> str:
    sizes = [axis.typical_cell for axis in (grid.x, grid.y)]
    if None in sizes or not (grid.x.regular and grid.y.regular):
        return ""
    return f" of {sizes[0]:.10g} x {sizes[1]:.10g} {grid.x.units}".rstrip()


def _describe_attributes(attributes: Mapping[str, Any]) -> list[Text]:
    lines = []
    for name, value in attributes.items():
        text = escaped(" ".join(str(value).split()))
        shown = text if len(text) <= _LONGEST_ATTRIBUTE else f"{text[: _LONGEST_ATTRIBUTE - 2]} …"
        lines.append(Text.assemble((f"{escaped(name)}: ", "dim"), shown))
    return lines


def _describe_array(cube: Datacube, array: ArrayMetadata) -> tuple[str, ...]:
    return (
        escaped(array.name),
        str(array.dtype),
        escaped(", ".join(array.dimension_names)) if array.dimension_names is not None else "unnamed",
        " x ".join(map(str, array.shape)) or "scalar",
        " x ".join(map(str, array.chunk_shape)),
        _allocated(cube, array),
        _codecs(array),
        "" if array.declared_fill is None else str(array.declared_fill),
        escaped(str(array.attributes.get("units", ""))),
    )


def _allocated(cube: Datacube, array: ArrayMetadata) -> str:
    locator = cube.store.locator
    if not isinstance(locator, Index):
        return f"{array.chunk_count:,} in all"
    return f"{locator.allocated_count(array.path):,} of {array.chunk_count:,}"


def _codecs(array: ArrayMetadata) -> str:
    if isinstance(array.codecs, CodecsV2):
        names = [codec["id"] for codec in array.codecs.filters]
        if array.codecs.compressor:
            names.append(array.codecs.compressor["id"])
        return " + ".join(names) or "none"
    return " + ".join(codec["name"] for codec in array.codecs.codecs)


@dataclass(frozen=True)
class _Arrays:
    """The arrays of a group: a table where it fits, else a paragraph an array."""

    rows: Sequence[tuple[str, ...]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(*_COLUMNS)
        for row in self.rows:
            table.add_row(*map(Text, row))
        if Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width:
            yield table
            return
        for name, dtype, dimensions, shape, chunks, allocated, codecs, missing, units in self.rows:
            yield Text.assemble(
                (name, "bold"), f"  {dtype}  {shape}", f" ({dimensions})" if dimensions else ""
            )
            stored = f"{chunks}, {allocated}" if chunks else allocated
            facts = {"chunks": stored, "codecs": codecs, "missing": missing, "units": units}
            said = "; ".join(f"{key} {value}" for key, value in facts.items() if value)
            yield Padding(Text(said), (0, 0, 0, 4))
