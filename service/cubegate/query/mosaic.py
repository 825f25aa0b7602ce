"""An area over several cubes as one: each cell from the cube that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from cubegate.errors import InvalidParameter
from cubegate.query.crs import name_crs
from cubegate.query.footprint import Owned, find_owners
from cubegate.query.in_thread import in_thread
from cubegate.query.lattice import BLOCK_CELLS, NEAREST, Lattice
from cubegate.query.merged_times import MergedTimes, merge_times
from cubegate.query.merging import (
    CUBE,
    Part,
    in_common,
    load_parts,
    merged_dtype,
    merged_facts,
    merged_sizes,
    missing_values,
)
from cubegate.query.reproject import MAPPING, coordinates_of
from cubegate.query.selection import Selection
from cubegate.query.tiles import Share, Tile

# bytes for each cell of the lattice: its owner and the cell there; and what finding these takes in a block
_MAP_NBYTES = 40
_BLOCK_NBYTES = 200
_NO_CUBE = -1


@dataclass(frozen=True, eq=False)
class Mosaic:
    """An area over several cubes, made ready: lazy until `load`.

    Attributes:
        tiles: of all cubes that own cells of the lattice, in the order of precedence.
        names: the variables, which are on the grid of each cube.
    """

    tiles: tuple[Tile, ...]
    lattice: Lattice
    names: tuple[str, ...]
    resampling: str

    @property
    def _cells(self) -> int:
        return self.lattice.width * self.lattice.height

    def _sizes(self) -> dict[str, int]:
        """The number of values of each variable in the answer, the source cubes included."""
        parts = [tile.part for tile in self.tiles]
        return {CUBE: self._cells, **merged_sizes(parts, self.names, self._cells, ("y", "x"))}

    @property
    def cells(self) -> int:
        """The number of values in the answer."""
        return sum(self._sizes().values())

    @property
    def nbytes(self) -> int:
        """The size in memory of what `load` reads, and of what it makes of that."""
        made = 0
        for name, size in self._sizes().items():
            itemsizes = (
                [2] if name == CUBE else [tile.part.dataset[name].dtype.itemsize for tile in self.tiles]
            )
            # integers may become floats
            made += size * max(4 if max(itemsizes) <= 2 else 8, *itemsizes)
        read = sum(tile.part.selection.nbytes for tile in self.tiles)
        block = min(self._cells, max(BLOCK_CELLS, self.lattice.width))
        return made + read + _MAP_NBYTES * self._cells + _BLOCK_NBYTES * block

    async def load(self) -> Selection:
        """Find the owner of each cell, read what is owned, concurrently, and put it together.

        Raises:
            UpstreamError: a chunk could not be read.
            InvalidParameter, NotAcceptable: the values of a variable cannot be put together.
        """
        owned = await in_thread(self._find_owners)
        owners = [number for number in range(len(self.tiles)) if (owned.number == number).any()]
        if not owners:
            raise InvalidParameter("bbox", "No cell of the answer has its centre in one of the cubes.")
        loaded = await load_parts([self.tiles[number].part for number in owners])
        return await in_thread(partial(self._merge, dict(zip(owners, loaded, strict=True)), owned))

    def _find_owners(self) -> Owned:
        footprints = [tile.footprint for tile in self.tiles]
        owned = Owned(*(np.empty(self._cells, np.int32) for _ in range(3)))
        for block, x, y in self.lattice.blocks():
            found = find_owners(footprints, self.lattice.crs, x, y)
            for whole, piece in zip(owned, found, strict=True):
                whole[block] = piece
        return owned

    def _merge(self, parts: Mapping[int, Part], owned: Owned) -> Selection:
        timed = [part for part in parts.values() if part.times is not None]
        times = merge_times([part.times for part in timed if part.times is not None]) if timed else None
        places = dict(zip((part.number for part in timed), times.places, strict=True)) if times else {}
        shares = [
            Share(
                replace(self.tiles[number], part=part), self.lattice, owned, number, places.get(part.number)
            )
            for number, part in parts.items()
        ]
        uncovered = bool((owned.number < 0).any())
        data = {name: self._merge_variable(shares, name, times, uncovered) for name in self.names}
        data[CUBE] = self._cubes(parts, owned)
        found = list(parts.values())
        coordinates = self._coordinates(found, data, times)
        dataset = xr.Dataset(data, coordinates, in_common([part.dataset.attrs for part in found]))
        time = timed[0].selection.time if timed else None
        facts = {"cubes": ", ".join(f"{part.number} {part.cube}" for part in found)}
        x, y = self._names
        return Selection("cube", dataset, x, y, time, name_crs(self.lattice.crs), facts=facts)

    @property
    def _names(self) -> tuple[str, str]:
        return ("lon", "lat") if self.lattice.crs.is_geographic else ("x", "y")

    def _coordinates(
        self, parts: Sequence[Part], data: Mapping[str, xr.Variable], times: MergedTimes | None
    ) -> dict[str, Any]:
        source = parts[0].dataset
        time = next((part.selection.time for part in parts if part.selection.time is not None), None)
        dims = {str(dim) for variable in data.values() for dim in variable.dims} - {time, *self._names}
        found: dict[str, Any] = {dim: source[dim].variable for dim in dims if dim in source.coords}
        if times is not None and time is not None:
            timed = next(part.dataset for part in parts if part.selection.time == time)
            found[time] = (time, times.values, timed[time].attrs)
        whole = slice(0, self.lattice.height), slice(0, self.lattice.width)
        itself = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
        found |= coordinates_of(self.lattice.target(self.lattice.crs, itself, *whole, NEAREST))
        return {**found, MAPPING: ((), np.int32(0), self.lattice.crs.to_cf())}

    def _merge_variable(
        self, shares: Sequence[Share], name: str, times: MergedTimes | None, uncovered: bool
    ) -> xr.Variable:
        parts = [share.part for share in shares]
        first = parts[0].dataset[name]
        others = [str(dim) for dim in first.dims if parts[0].role(dim) not in ("time", "y", "x")]
        time = parts[0].selection.time if "time" in map(parts[0].role, first.dims) else None
        layers = 1 if time is None or times is None else len(times.values)
        lacking = time is not None and times is not None and not times.complete()
        # all resamplings but one make floats
        gaps = uncovered or lacking or self.resampling != NEAREST
        sizes = [first.sizes[dim] for dim in others]
        values = missing_values((layers, math.prod(sizes), self._cells), merged_dtype(parts, name, gaps=gaps))
        for share in shares:
            share.fill(values, name, others, self.resampling)
        x, y = self._names
        dims = (*((time,) if time else ()), *others, y, x)
        shape = (*((layers,) if time else ()), *sizes, self.lattice.height, self.lattice.width)
        attributes, encoding = merged_facts(parts, name)
        return xr.Variable(dims, values.reshape(shape), {**attributes, "grid_mapping": MAPPING}, encoding)

    def _cubes(self, parts: Mapping[int, Part], owned: Owned) -> xr.Variable:
        # the last one is that of the cells of no cube
        numbers = np.full(len(self.tiles) + 1, _NO_CUBE, np.int16)
        for number, part in parts.items():
            numbers[number] = part.number
        values = numbers[owned.number].reshape(self.lattice.height, self.lattice.width)
        attributes = {
            "long_name": "source cube",
            "flag_values": np.array([part.number for part in parts.values()], np.int16),
            "flag_meanings": " ".join(part.cube for part in parts.values()),
            "grid_mapping": MAPPING,
        }
        x, y = self._names
        return xr.Variable((y, x), values, attributes, {"_FillValue": np.int16(_NO_CUBE)})
