"""Many points over several cubes as one table: each point from the cube that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.query.crs import lonlat, name_crs
from cubegate.query.in_thread import in_thread
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
from cubegate.query.selection import Selection

POINT = "point"


@dataclass(frozen=True, eq=False)
class Rows:
    """A part of a table, and which of the asked points it has, in its own order."""

    part: Part
    points: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Table:
    """Points over several cubes, or in one of them, made ready: lazy until `load`."""

    rows: tuple[Rows, ...]
    names: tuple[str, ...]

    @property
    def _count(self) -> int:
        return sum(len(rows.points) for rows in self.rows)

    def _sizes(self) -> dict[str, int]:
        """The number of values of each variable in the answer."""
        return merged_sizes([rows.part for rows in self.rows], self.names, self._count, (POINT,))

    @property
    def cells(self) -> int:
        """The number of values in the answer."""
        return sum(self._sizes().values())

    @property
    def nbytes(self) -> int:
        """The size in memory of what `load` reads, and of what it makes of that."""
        made = 0
        for name, size in self._sizes().items():
            made += size * max(8, *(rows.part.dataset[name].dtype.itemsize for rows in self.rows))
        return made + sum(rows.part.selection.nbytes for rows in self.rows)

    async def load(self) -> Selection:
        """Read all parts, concurrently, and put them together.

        Raises:
            UpstreamError: a chunk could not be read.
            NotAcceptable: the values of a variable cannot be put together.
        """
        loaded = await load_parts([rows.part for rows in self.rows])
        rows = [Rows(part, each.points) for part, each in zip(loaded, self.rows, strict=True)]
        return await in_thread(partial(self._merge, rows))

    def _merge(self, rows: Sequence[Rows]) -> Selection:
        parts = [each.part for each in rows]
        if len(parts) == 1:
            selection = parts[0].selection
            dataset = selection.dataset.assign_coords({CUBE: _cubes(rows, self._count)})
            return replace(selection, dataset=dataset)
        timed = [part for part in parts if part.times is not None]
        times = merge_times([part.times for part in timed if part.times is not None]) if timed else None
        places = dict(zip((part.number for part in timed), times.places, strict=True)) if times else {}
        data = {name: self._merge_variable(rows, name, times, places) for name in self.names}
        first = parts[0]
        time = timed[0].selection.time if timed else None
        dims = {str(dim) for variable in data.values() for dim in variable.dims} - {time, POINT}
        coordinates: dict[str, Any] = {
            dim: first.dataset[dim].variable for dim in dims if dim in first.dataset.coords
        }
        if times is not None and time is not None:
            coordinates[time] = (time, times.values, timed[0].dataset[time].attrs)
        coordinates |= self._along_points(rows)
        dataset = xr.Dataset(data, coordinates, in_common([part.dataset.attrs for part in parts]))
        x, y, crs = _axes(parts)
        return Selection("points", dataset, x, y, time, crs)

    def _along_points(self, rows: Sequence[Rows]) -> dict[str, Any]:
        """The coordinates that all parts have along their points, but for x and y of several CRS."""
        parts = [each.part for each in rows]
        left_out = {part.selection.x for part in parts} | {part.selection.y for part in parts}
        left_out -= set(_axes(parts)[:2])
        found: dict[str, Any] = {}
        for name, coordinate in parts[0].dataset.coords.items():
            known = [part.dataset.coords.get(name) for part in parts]
            if name in left_out or any(each is None or each.dims != (POINT,) for each in known):
                continue
            values = np.empty(
                self._count, np.result_type(*(each.dtype for each in known if each is not None))
            )
            for each, along in zip(rows, known, strict=True):
                if along is not None:
                    values[each.points] = along.values
            found[str(name)] = (POINT, values, coordinate.attrs)
        return {**found, CUBE: _cubes(rows, self._count)}

    def _merge_variable(
        self,
        rows: Sequence[Rows],
        name: str,
        times: MergedTimes | None,
        places: Mapping[int, NDArray[np.intp]],
    ) -> xr.Variable:
        parts = [each.part for each in rows]
        first = parts[0].dataset[name]
        others = [str(dim) for dim in first.dims if parts[0].role(dim) not in ("time", POINT)]
        time = parts[0].selection.time if "time" in map(parts[0].role, first.dims) else None
        layers = 1 if time is None or times is None else len(times.values)
        gaps = time is not None and times is not None and not times.complete()
        sizes = [first.sizes[dim] for dim in others]
        values = missing_values((self._count, layers, math.prod(sizes)), merged_dtype(parts, name, gaps=gaps))
        for each in rows:
            own = each.part.selection.time
            array = each.part.dataset[name]
            # what has no place is the same at all points of its cube
            dims = [dim for dim in (POINT, own if time else None) if dim in array.dims]
            source = array.transpose(*dims, *others).values
            at = places[each.part.number] if time else np.zeros(1, np.intp)
            source = source.reshape(len(each.points) if POINT in array.dims else 1, len(at), values.shape[2])
            values[np.ix_(each.points, at)] = source
        shape = (self._count, *((layers,) if time else ()), *sizes)
        attributes, encoding = merged_facts(parts, name)
        return xr.Variable(
            (POINT, *((time,) if time else ()), *others), values.reshape(shape), attributes, encoding
        )


def _cubes(rows: Sequence[Rows], count: int) -> tuple[str, NDArray[Any], dict[str, str]]:
    cubes = np.empty(count, object)
    for each in rows:
        cubes[each.points] = each.part.cube
    return POINT, cubes, {"long_name": "source cube"}


def _axes(parts: Sequence[Part]) -> tuple[str, str, str]:
    """The names of x and y, and their CRS; those of degrees where the grids are not in one CRS."""
    found = {(part.selection.x, part.selection.y, part.selection.crs) for part in parts}
    return found.pop() if len(found) == 1 else ("longitude", "latitude", name_crs(lonlat()))
