"""What a cube holds, as tables for a terminal: `cubegate inspect`."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cubegate.catalog.datacube import Datacube
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata, CodecsV2


async def describe_cube(cube: Datacube) -> list[RenderableType]:
    """Return the renderable parts of a cube's description, without reading any data chunk."""
    store = cube.store
    parts: list[RenderableType] = [
        Text(f"{cube.id}: {cube.title}", style="bold"),
        Text(f"version {cube.version}"),
        Text(f"{len(store.hierarchy.arrays)} arrays, {len(store.hierarchy.groups)} groups"),
    ]
    if isinstance(store.locator, Index):
        parts.append(Text(f"{len(store.locator.urls):,} granules"))
    table = Table("array", "dtype", "dimensions", "shape", "chunks", "allocated", "codecs", "missing value")
    for array in store.hierarchy.arrays.values():
        table.add_row(
            array.path,
            str(array.dtype),
            ", ".join(array.dimension_names) if array.dimension_names is not None else "unnamed",
            " x ".join(map(str, array.shape)),
            " x ".join(map(str, array.chunk_shape)),
            _allocated(cube, array),
            _codecs(array),
            "" if array.declared_fill is None else str(array.declared_fill),
        )
    parts.append(table)
    parts += [
        Text(f"not served: {path}: {reason}", style="yellow")
        for path, reason in store.hierarchy.skipped.items()
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in cube.notes]
    return parts


def _allocated(cube: Datacube, array: ArrayMetadata) -> str:
    locator = cube.store.locator
    if not isinstance(locator, Index):
        return f"of {array.chunk_count:,}"
    return f"{locator.allocated_count(array.path):,} of {array.chunk_count:,}"


def _codecs(array: ArrayMetadata) -> str:
    if isinstance(array.codecs, CodecsV2):
        names = [codec["id"] for codec in array.codecs.filters]
        if array.codecs.compressor:
            names.append(array.codecs.compressor["id"])
        return " + ".join(names) or "none"
    return " + ".join(codec["name"] for codec in array.codecs.codecs)
