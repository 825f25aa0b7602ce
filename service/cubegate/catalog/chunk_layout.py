"""How a cube is cut into chunks, and what that makes queries cost: `cubegate inspect --chunks`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.datacube import Datacube
from cubegate.errors import CubegateError, InvalidParameter
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import INLINED, UNALLOCATED, WHOLE_OBJECT
from cubegate.query.axis import Axis
from cubegate.query.grid import Grid
from cubegate.store.reader import EncodedArray
from cubegate.store.selection import Indexer

_COLUMNS = ("array", "chunk", "decoded", "stored", "ratio", "a point", "a map", "a column of chunks")
_UNKNOWN = "unknown"
_FOOTNOTE = (
    "Costs are those of a cold cache, in the middle of the grid: bytes as stored, or decoded where these are "
    "unknown. Chunks that were never written cost nothing."
)


class StoredSizes(NamedTuple):
    """Bytes of the chunks of an array as they are stored, and how many chunks these are."""

    least: int
    median: int
    largest: int
    total: int
    chunks: int


async def describe_layout(cube: Datacube | CombinedCube) -> list[RenderableType]:
    """Return the renderable parts of a cube's chunk layout; of the data, only coordinates are read."""
    if isinstance(cube, CombinedCube):
        names = ", ".join(member.id for member in cube.members)
        said = f"{cube.id} has no chunks of its own. It is combined of these, to be inspected: {names}"
        return [Text(said)]
    parts: list[RenderableType] = []
    for group in cube.store.hierarchy.groups:
        try:
            dataset = await cube.dataset(group)
        except CubegateError as error:
            parts.append(Text(f"group {group or '/'}: {error}", style="yellow"))
            continue
        gridded = list(_gridded(cube, dataset))
        if not gridded:
            continue
        if group:
            parts += [Text(), Text(f"group {group}", style="bold")]
        table = Table(*_COLUMNS, title="Chunks, and what a query reads", title_justify="left")
        for array, grid in gridded:
            table.add_row(*map(Text, _row(cube, array, grid)))
        parts.append(table)
        lines = dict.fromkeys(line for array, grid in gridded for line in _aligned(array, grid))
        parts += map(Text, lines)
    parts = parts or [Text("no variable has x and y axes", style="yellow")]
    return [
        *parts,
        Text(_FOOTNOTE),
    ]


def _gridded(cube: Datacube, dataset: xr.Dataset) -> Iterator[tuple[ArrayMetadata, Grid]]:
    for name in map(str, dataset.data_vars):
        try:
            grid = cube.grid_settings.find(dataset, name)
        except InvalidParameter:
            continue
        encoded = dataset[name].encoding["encoded_array"]
        # derived variables have no chunks of their own
        if isinstance(encoded, EncodedArray) and {grid.x.name, grid.y.name} <= set(
            encoded.metadata.dimension_names or ()
        ):
            yield encoded.metadata, grid


def stored_sizes(cube: Datacube, array: ArrayMetadata) -> StoredSizes | None:
    """Return the sizes of the stored chunks of `array`; None where they are not known without reading.

    Raises:
        CorruptIndex: the part of the index that would tell is damaged.
    """
    locator = cube.store.locator
    if not isinstance(locator, Index):
        return None
    rows = locator.content.tables[array.path].all()
    lengths: NDArray[np.uint32] = rows.length[(rows.granule != UNALLOCATED) & (rows.granule != INLINED)]
    if not lengths.size or (lengths == WHOLE_OBJECT).any():
        return None
    return StoredSizes(
        int(lengths.min()), int(np.median(lengths)), int(lengths.max()),
        int(lengths.sum(dtype=np.int64)), lengths.size,
    )  # fmt: skip


def _row(cube: Datacube, array: ArrayMetadata, grid: Grid) -> tuple[str, ...]:
    names = array.dimension_names or ()
    sizes = stored_sizes(cube, array)
    stored, ratio = _UNKNOWN, _UNKNOWN
    if sizes is not None:
        stored = f"{decimal(sizes.median)} ({decimal(sizes.least)} to {decimal(sizes.largest)})"
        ratio = f"{array.chunk_nbytes * sizes.chunks / sizes.total:.2f}"
    encoded = EncodedArray(cube.store, array)
    middle = [size // 2 for size in array.shape]
    flat = {grid.x.name, grid.y.name}
    point = [m if name in flat else slice(None) for name, m in zip(names, middle, strict=True)]
    one_map = [slice(None) if name in flat else m for name, m in zip(names, middle, strict=True)]
    return (
        array.name,
        " x ".join(map(str, array.chunk_shape)),
        decimal(array.chunk_nbytes),
        stored,
        ratio,
        _cost(encoded, point),
        _cost(encoded, one_map),
        _cost(encoded, _column(array, flat, middle)),
    )


def _column(array: ArrayMetadata, flat: set[str], middle: Sequence[int]) -> list[Indexer]:
    """All times of the pixels of the chunk in the middle."""
    column: list[Indexer] = []
    dimensions = zip(array.dimension_names or (), array.shape, array.chunk_shape, middle, strict=True)
    for name, size, chunk, at in dimensions:
        start = at // chunk * chunk
        column.append(slice(start, min(start + chunk, size)) if name in flat else slice(None))
    return column


def _cost(encoded: EncodedArray, indexers: Sequence[Indexer]) -> str:
    cost = encoded.cost(indexers)
    chunks = f"{cost.chunks:,} chunk{'' if cost.chunks == 1 else 's'}"
    return f"{chunks}, {decimal(cost.nbytes)}"


def _aligned(array: ArrayMetadata, grid: Grid) -> Iterator[str]:
    """Say which windows read whole chunks: those between these edges."""
    names = list(array.dimension_names or ())
    said = []
    for axis in (grid.x, grid.y):
        chunk = array.chunk_shape[names.index(axis.name)]
        cell = axis.typical_cell
        if not axis.regular or cell is None:
            return
        start, sign = _first_edge(axis)
        said.append(f"{axis.name} = {start:.10g} {sign} n * {chunk * cell:.10g}")
    shape = " x ".join(map(str, array.chunk_shape))
    yield f"windows that align with chunks of {shape} have their edges at {', '.join(said)}"


def _first_edge(axis: Axis) -> tuple[float, str]:
    west, east = axis.extent
    return (east, "-") if axis.descending else (west, "+")
