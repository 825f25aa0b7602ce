"""What a query selects: lazy until it is loaded, with all that its price is made of."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.query.crs import name_crs
from cubegate.query.grid import Grid
from cubegate.query.in_thread import in_thread
from cubegate.query.interval import order_times
from cubegate.query.masking import Mask
from cubegate.query.reproject import Target, reproject

Shape = Literal["series", "points", "cube"]
Indexer = int | slice | NDArray[np.integer[Any]]
Times = slice | NDArray[np.intp]


class Cost(Protocol):
    """What reading would fetch: `chunks`, and their `nbytes`."""

    chunks: int
    nbytes: int


class Priced(Protocol):
    """An array that tells what reading a part of it costs, one indexer a dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as stored."""
        ...

    def cost(self, indexers: tuple[Indexer, ...]) -> Cost:
        """Return the price of one selection."""
        ...


@dataclass(frozen=True)
class Read:
    """One selection of one array that loading will make."""

    array: Priced
    indexers: tuple[Indexer, ...]


@dataclass(frozen=True, eq=False)
class Selection:
    """The answer of a query.

    Attributes:
        shape: as in `Result`: series, points or cube.
        dataset: lazy until `load`.
        x, y: the names of the grid's axes.
        time: the name of the time dimension in `dataset`, None where it has none.
        crs: of x and y, by code or WKT; empty where it is unknown.
        reads: what loading will read.
        target: the grid that loading will reproject to, None for the grid's own.
        mask: what loading will make missing; None where all is kept.
        narrow: reads the conditions on dates and selects those that meet them, which loading then
            reads instead; None where there are no conditions.
        facts: what the answer says of its origin, beside what is said of its dataset.
    """

    shape: Shape
    dataset: xr.Dataset
    x: str
    y: str
    time: str | None
    crs: str
    reads: tuple[Read, ...] = ()
    target: Target | None = None
    mask: Mask | None = None
    narrow: Callable[[], Awaitable[Selection]] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """The number of values over all variables, as read or as reprojected, whichever are more."""
        read = sum(int(variable.size) for variable in self.dataset.data_vars.values())
        if self.target is None:
            return read
        box = self.dataset.sizes[self.x] * self.dataset.sizes[self.y]
        return max(read, math.ceil(read / box * self.target.width * self.target.height))

    @property
    def nbytes(self) -> int:
        """The size in memory of what `load` reads, decoded, and of what it masks and reprojects that to."""
        read = self.dataset.nbytes + (0 if self.mask is None else self.mask.nbytes(self.dataset))
        if self.target is None:
            return read
        box = self.dataset.sizes[self.x] * self.dataset.sizes[self.y]
        return read + math.ceil(read / box * self.target.width * self.target.height)

    async def load(self) -> Selection:
        """Read everything, concurrently; then mask, sort by time (stable) and reproject where asked.

        Raises:
            UpstreamError: a chunk could not be read.
            InvalidParameter: no date meets the conditions.
            InvalidParameter, NotAcceptable: a variable cannot be masked or reprojected.
        """
        if self.narrow is not None:
            return replace(await (await self.narrow()).load(), facts=self.facts)
        # copies, so that nothing read stays behind in the variables of the shared dataset
        loaded = self.dataset.copy(deep=False)
        masks = xr.Dataset() if self.mask is None else self.mask.dataset.copy(deep=False)
        read = (*loaded.variables.values(), *masks.variables.values())
        await asyncio.gather(*[load_variable(variable) for variable in read])
        if self.mask is not None:
            loaded = await in_thread(partial(self.mask.apply, loaded, masks))
            del masks, read
        if self.time is not None:
            order = order_times(loaded[self.time].values)
            loaded = loaded if order is None else loaded.isel({self.time: order})
        for variable in loaded.variables.values():
            for key in ("encoded_array", "preferred_chunks", "margin"):
                variable.encoding.pop(key, None)
        done = replace(self, dataset=loaded, reads=(), mask=None)
        return done if self.target is None else await in_thread(partial(done.reprojected, self.target))

    def reprojected(self, target: Target) -> Selection:
        """Return a loaded selection on the grid of `target`."""
        dataset = reproject(self.dataset, self.x, self.y, target)
        x, y = target.names
        return replace(self, dataset=dataset, x=x, y=y, crs=name_crs(target.crs), target=None)


async def load_variable(variable: xr.Variable) -> None:
    """Read a variable in place."""
    try:
        await variable.load_async()
    except NotImplementedError:
        # xarray's arrays of swapped bytes, of truth values and of characters cannot be awaited
        await asyncio.to_thread(variable.load)


def lead_time(dataset: xr.Dataset, grid: Grid) -> tuple[xr.Dataset, str | None]:
    """Name the time dimension after its coordinate; None where the dataset has no time left."""
    if grid.time is None or grid.time_dim not in dataset.dims:
        return dataset, None
    if grid.time != grid.time_dim:
        dataset = dataset.swap_dims({grid.time_dim: grid.time})
    return dataset, grid.time


def plan_reads(
    dataset: xr.Dataset, names: Iterable[str], indexers: Mapping[str, Indexer]
) -> tuple[Read, ...]:
    """List the reads of those variables that are not in memory; `indexers` are by dimension."""
    reads = []
    for name in names:
        variable = dataset.variables[name]
        array = variable.encoding.get("encoded_array")
        if array is not None:
            # decoding joins characters to text, and so takes away their dimension, the last one
            joined = [slice(None)] * (len(array.shape) - variable.ndim)
            along = [indexers.get(str(dim), slice(None)) for dim in variable.dims]
            reads.append(Read(array, (*along, *joined)))
    return tuple(reads)


def plan_point_reads(
    dataset: xr.Dataset,
    names: Iterable[str],
    indexers: Mapping[str, Indexer],
    grid: Grid,
    columns: NDArray[np.intp],
) -> tuple[Read, ...]:
    """List the reads at points, one a chunk column; `columns` are their (iy, ix), of shape (n, 2).

    A variable whose `margin` of cells around a point is read too has one for each set of chunk columns.
    """
    reads: list[Read] = []
    for name in names:
        variable = dataset.variables[name]
        chunks = variable.encoding.get("preferred_chunks", {})
        sizes = [int(chunks.get(axis.name, 1)) for axis in (grid.y, grid.x)]
        margin = variable.encoding.get("margin", 0)
        touched = np.hstack([(columns - margin) // sizes, (columns + margin) // sizes])
        _, first = np.unique(touched, axis=0, return_index=True)
        on_grid = {grid.x.name, grid.y.name} & set(variable.dims)
        for iy, ix in columns[first] if on_grid else columns[:1]:
            reads += plan_reads(dataset, [name], {**indexers, grid.y.name: int(iy), grid.x.name: int(ix)})
    return tuple(reads)
