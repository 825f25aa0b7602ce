"""How the overviews of a variable are laid out: levels, grids, shards, and what is read at once for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.axis import Axis
from cubegate.query.grid import Grid, as_slice
from cubegate.query.selection import Indexer
from cubegate.rechunk.coarsening import Resampling, choose_resampling, coarse_type
from cubegate.rechunk.layout import Layout, Sizes

# cells along a side of what a client decodes, and of what is stored and read as one object
CHUNK, SHARD = 256, 512
# cells along a side of what is read at once, where that is one date
_SIDE, _SMALLEST_SIDE, _LARGEST_SIDE = 2048, 512, 4096
_MOST_VALUES = 2**22
# dates, levels and bands of one chunk that are read together
_MOST_TOGETHER = 16


@dataclass(frozen=True, eq=False)
class Pyramid:
    """The overviews of one variable.

    Attributes:
        path: of the variable in its cube; `dataset` is that of its group, and `grid` where it lies.
        lead: its dimensions but y and x, in its own order, each with the positions that are shown.
        resampling: how cells become larger.
        levels: how many there are: cells of 2, 4, 8 ... along each side.
    """

    path: str
    dataset: xr.Dataset
    grid: Grid
    lead: Mapping[str, NDArray[np.intp]]
    resampling: Resampling
    levels: int

    @property
    def name(self) -> str:
        """The variable's name."""
        return self.path.rpartition("/")[2]

    @property
    def group(self) -> str:
        """The path of its group."""
        return self.path.rpartition("/")[0]

    @property
    def variable(self) -> xr.Variable:
        """The variable, lazy."""
        return self.dataset.variables[self.name]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the overviews."""
        return coarse_type(self.variable.dtype, self.resampling)

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions of the overviews."""
        return (*self.lead, self.grid.y.name, self.grid.x.name)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """The area of the cells of each row, in any unit."""
        size = len(self.grid.y.values)
        if not self.grid.geographic:
            return np.ones(size)
        areas = np.diff(np.sin(np.radians(self.grid.y.edges)))
        return np.asarray(areas[::-1] if self.grid.y.descending else areas)

    @cached_property
    def chunks(self) -> Mapping[str, int]:
        """The sizes of the variable's chunks, by dimension."""
        known = self.variable.encoding.get("preferred_chunks", {})
        return {str(name): max(1, int(known.get(name, 1))) for name in self.variable.dims}

    @cached_property
    def runs(self) -> tuple[tuple[slice, ...], ...]:
        """The positions along each dimension of `lead` that are read together: those of one chunk."""
        left, found = _MOST_TOGETHER, []
        for name, positions in self.lead.items():
            found.append(runs_in(positions, self.chunks[name], left))
            left = max(1, left // max(each.stop - each.start for each in found[-1]))
        return tuple(found)

    @cached_property
    def side(self) -> int:
        """How many cells along y and x are read at once; what is written at once has half of that."""
        together = math.prod(max(each.stop - each.start for each in runs) for runs in self.runs)
        side = _SIDE
        while side > _SMALLEST_SIDE and together * side**2 > _MOST_VALUES:
            side //= 2
        cut = max(self.chunks[self.grid.y.name], self.chunks[self.grid.x.name])
        return _LARGEST_SIDE if side == _SIDE and cut > _SIDE else side

    def shape(self, level: int) -> Sizes:
        """Return the shape of the overviews of one level."""
        y, x = (coarse_size(len(axis.values), level) for axis in (self.grid.y, self.grid.x))
        return (*(len(positions) for positions in self.lead.values()), y, x)

    def layout(self, level: int) -> Layout:
        """Return the chunks and shards of one level: of one date, level and band each."""
        *lead, height, width = self.shape(level)
        shard = min(SHARD, self.side // 2)
        chunks = tuple(min(CHUNK, size) for size in (height, width))
        shards = tuple(shard if size > CHUNK else size for size in (height, width))
        ones = (1,) * len(lead)
        return Layout((*ones, *chunks), (*ones, *shards), (*ones, *shards))

    def indexers(self, block: Sequence[slice], rows: slice, columns: slice) -> dict[str, Indexer]:
        """Return what a block along `lead`, rows and columns are in the variable, by dimension."""
        found: dict[str, Indexer] = {
            name: as_slice(positions[run])
            for (name, positions), run in zip(self.lead.items(), block, strict=True)
        }
        return found | {self.grid.y.name: rows, self.grid.x.name: columns}

    @cached_property
    def again(self) -> float:
        """How often each chunk of the cube is read, on average."""
        reads, chunks = 1, 1
        for (name, positions), runs in zip(self.lead.items(), self.runs, strict=True):
            cut = positions // self.chunks[name]
            reads *= sum(len(np.unique(cut[run])) for run in runs)
            chunks *= len(np.unique(cut))
        for axis in (self.grid.y, self.grid.x):
            size, chunk = len(axis.values), self.chunks[axis.name]
            starts = range(0, size, self.side)
            reads *= sum(-(-min(start + self.side, size) // chunk) - start // chunk for start in starts)
            chunks *= -(-size // chunk)
        return reads / max(chunks, 1)


def runs_in(positions: NDArray[np.intp], chunk: int, most: int) -> tuple[slice, ...]:
    """Cut positions along a dimension into runs of at most `most`, each inside of one chunk."""
    cut = positions // chunk
    starts: list[int] = []
    for number in range(len(positions)):
        if not starts or cut[number] != cut[number - 1] or number - starts[-1] >= most:
            starts.append(number)
    return tuple(slice(*ends) for ends in zip(starts, [*starts[1:], len(positions)], strict=True))


def plan_pyramid(
    path: str,
    dataset: xr.Dataset,
    grid: Grid,
    times: NDArray[np.intp] | None,
    levels: int | None,
) -> Pyramid:
    """Plan the overviews of the variable at `path`; `levels` None is as many as leave a grid of one chunk.

    `times` are the positions along the grid's time, None for all.

    Raises:
        InvalidParameter: it cannot have overviews; the message says why.
    """
    name = path.rpartition("/")[2]
    variable = dataset.variables[name]
    for axis in (grid.y, grid.x):
        if not axis.regular or len(axis.values) < 4:
            why = "has cells of different sizes" if not axis.regular else "has fewer than 4 cells"
            raise InvalidParameter("variables", f"The axis {axis.name!r} {why}.", accepted="a regular grid")
    lead: dict[str, NDArray[np.intp]] = {
        str(dim): np.arange(size)
        for dim, size in variable.sizes.items()
        if dim not in (grid.y.name, grid.x.name)
    }
    if times is not None and grid.time_dim in lead:
        lead[grid.time_dim] = times
    if not all(len(positions) for positions in lead.values()):
        raise InvalidParameter("datetime", "It has no date there.", accepted="an interval with dates")
    sizes = len(grid.y.values), len(grid.x.values)
    most = next(level for level in range(32) if coarse_size(min(sizes), level + 1) < 2)
    if levels is None:
        levels = next(level for level in range(1, 33) if coarse_size(max(sizes), level) <= CHUNK)
    stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
    packed = {"scale_factor", "add_offset"} & variable.encoding.keys()
    resampling = choose_resampling(name, variable.attrs, variable.dtype if packed else stored)
    pyramid = Pyramid(path, dataset, grid, lead, resampling, 1)
    levels = min(levels, most, pyramid.side.bit_length() - 1)
    return Pyramid(path, dataset, grid, lead, resampling, levels)


def coarse_size(size: int, level: int) -> int:
    """Return how many cells of a level lie along an axis; the last may reach beyond its end."""
    return (size - 1) // (1 << level) + 1


def coarse_centres(axis: Axis, level: int) -> NDArray[np.float64]:
    """Return the centres of the cells of a level: so many cells of the axis together, from its first on."""
    values, side = axis.values, 2**level
    first = values[::side]
    whole = values[side - 1 :: side]
    step = (values[-1] - values[0]) / (len(values) - 1)
    beyond = first[len(whole) :] + step * (side - 1) / 2
    return np.concatenate([(first[: len(whole)] + whole) / 2, beyond])
