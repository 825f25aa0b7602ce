"""What of a cube can be drawn: its numeric variables on a grid, the cubes that hold them, and their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import CubegateError, InvalidMetadata, InvalidParameter, NotFound
from cubegate.query.budget import Limits, Plan
from cubegate.query.crs import name_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.footprint import Footprint
from cubegate.query.in_thread import in_thread
from cubegate.query.merged_times import merge_times
from cubegate.query.variables import GridSettings
from cubegate.tiling.overviews import overview_groups
from cubegate.tiling.sampling import cell_sizes

DRAWN_KINDS = "biuf"
_MOST_NAMED = 50


class Source(Protocol):
    """A cube with a store of its own."""

    @property
    def id(self) -> str:
        """The collection's id."""
        ...

    @property
    def grid_settings(self) -> GridSettings:
        """What is configured of its grids."""
        ...

    async def dataset(self, group: str = "") -> xr.Dataset:
        """Return the dataset of one group."""
        ...

    async def plan(self, group: str, query: CubeQuery, limits: Limits) -> Plan:
        """Make a query ready and price it."""
        ...

    async def sidecar(self, group: str) -> tuple[Source, str] | None:
        """Return the store beside the cube that has overviews of a group, and the group that tells them."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """One variable of one cube; `overviews` are the same in coarser groups, the finest first."""

    source: Source
    group: str
    dataset: xr.Dataset
    name: str
    footprint: Footprint
    overviews: tuple[Part, ...] = ()

    @property
    def variable(self) -> xr.Variable:
        """The variable, lazy."""
        return self.dataset.variables[self.name]

    @property
    def times(self) -> NDArray[Any] | None:
        """Its dates in file order; None where it has none."""
        grid = self.footprint.grid
        if grid.time is None or grid.time_dim not in self.variable.dims:
            return None
        times = self.dataset.variables[grid.time].values
        return times if times.dtype.kind in "MO" else None

    def has_date(self, date: Any) -> bool:
        """Tell whether the cube has a date, or none at all."""
        return date is None or self.times is None or bool((self.times == date).any())


@dataclass(frozen=True, eq=False)
class Dimension:
    """A dimension beyond x, y and time, of which a picture shows one place: the texts that name each."""

    name: str
    values: tuple[str, ...]
    units: str


@dataclass(frozen=True, eq=False)
class Layer:
    """One variable over all cubes that hold it; a place belongs to the first whose grid contains it."""

    name: str
    group: str
    parts: tuple[Part, ...]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The variable's CF attributes."""
        return self.parts[0].variable.attrs

    @property
    def title(self) -> str:
        """What a person calls the variable."""
        return str(self.attributes.get("long_name") or self.attributes.get("standard_name") or self.name)

    @property
    def units(self) -> str:
        """The units as declared; empty where there are none or the values are pure numbers."""
        units = str(self.attributes.get("units", "")).strip()
        return "" if units == "1" else units

    @cached_property
    def times(self) -> NDArray[Any] | None:
        """All dates of all cubes, ascending, each once; None where the variable has no time."""
        timed = [part.times for part in self.parts if part.times is not None]
        if not timed:
            return None
        values = merge_times(timed).values
        values = values[~np.isnat(values)] if values.dtype.kind == "M" else values
        return np.unique(values) if values.size else None

    @property
    def steps(self) -> int:
        """The length of the first cube's time dimension, decoded or not; 1 where there is none."""
        first = self.parts[0]
        return int(first.variable.sizes.get(first.footprint.grid.time_dim, 1))

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What else is to be chosen."""
        first = self.parts[0]
        grid = first.footprint.grid
        known = {grid.x.name, grid.y.name, grid.time_dim}
        return tuple(
            _dimension(str(dim), size, first.dataset.variables.get(dim))
            for dim, size in first.variable.sizes.items()
            if dim not in known and size > 1
        )


def _dimension(name: str, size: int, coordinate: xr.Variable | None) -> Dimension:
    if coordinate is None:
        return Dimension(name, tuple(map(str, range(size))), "")
    return Dimension(name, tuple(map(str, coordinate.values)), str(coordinate.attrs.get("units", "")))


async def find_layers(sources: Sequence[Source], group: str) -> dict[str, Layer]:
    """Return what can be drawn of the cubes of one collection, by name, in the order of the first of them.

    Raises:
        NotFound, InvalidMetadata, UpstreamError: a group cannot be opened.
        InvalidParameter: nothing can be drawn.
    """
    found: dict[str, list[Part]] = {}
    known: dict[str, CRS] = {}
    problem: CubegateError | None = None
    for source in sources:
        dataset = await source.dataset(group)
        parts, refused = await in_thread(partial(_find_parts, source, group, dataset, known))
        problem = problem or refused
        own = await _find_overviews(source, group, dataset, known)
        beside = await _find_beside(source, group, known)
        for part in parts:
            overviews = [each for each in own if _is_overview(each, part) and _same_dates(each, part)]
            overviews += [each for each in beside if _is_overview(each, part) and _some_dates(each, part)]
            overviews.sort(key=_cell)
            found.setdefault(part.name, []).append(replace(part, overviews=tuple(overviews)))
    if not found:
        raise problem or InvalidParameter(
            "variables", "None of the variables here are numbers on a grid.", accepted="another group"
        )
    return {name: Layer(name, group, tuple(parts)) for name, parts in found.items()}


async def _find_overviews(
    source: Source, group: str, dataset: xr.Dataset, known: dict[str, CRS]
) -> list[Part]:
    found: list[Part] = []
    for name in overview_groups(dataset, group):
        try:
            coarser = await source.dataset(name)
        except (NotFound, InvalidMetadata):
            # what is told of a group is not always true
            continue
        found += (await in_thread(partial(_find_parts, source, name, coarser, known)))[0]
    return found


async def _find_beside(source: Source, group: str, known: dict[str, CRS]) -> list[Part]:
    """Find the overviews that a store beside the cube has."""
    found = await source.sidecar(group)
    if found is None:
        return []
    sidecar, name = found
    try:
        return await _find_overviews(sidecar, name, await sidecar.dataset(name), known)
    except (NotFound, InvalidMetadata):
        # there are none of this group
        return []


def _cell(part: Part) -> float:
    return min(cell_sizes(part.footprint))


def _same_dates(coarser: Part, part: Part) -> bool:
    one, other = part.times, coarser.times
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _some_dates(coarser: Part, part: Part) -> bool:
    """Tell whether all that there is at some of the dates is there, in the same order."""
    one, other = part.times, coarser.times
    if one is None or other is None:
        return one is other
    return np.array_equal(one[np.isin(one, other)], other)


def _is_overview(coarser: Part, part: Part) -> bool:
    """Tell whether a variable of another group shows the same places in larger cells."""
    if coarser.name != part.name or coarser.footprint.crs is not part.footprint.crs:
        return False
    if set(part.variable.dims) != set(coarser.variable.dims):
        return False
    large, small = cell_sizes(coarser.footprint), cell_sizes(part.footprint)
    bounds = zip(coarser.footprint.grid.bounds, part.footprint.grid.bounds, (*large, *large), strict=True)
    return large > small and all(abs(here - there) <= cell for here, there, cell in bounds)


def _find_parts(
    source: Source, group: str, dataset: xr.Dataset, known: dict[str, CRS]
) -> tuple[list[Part], InvalidParameter | None]:
    parts: list[Part] = []
    problem = None
    footprints: dict[tuple[Any, ...], Footprint] = {}
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind not in DRAWN_KINDS or variable.ndim < 2:
            continue
        try:
            grid = source.grid_settings.find(dataset, str(name))
            crs = grid.known_crs("variables")
        except InvalidParameter as error:
            problem = problem or error
            continue
        key = (grid.x.name, grid.y.name, grid.time, name_crs(crs))
        if key not in footprints:
            footprints[key] = Footprint(grid, known.setdefault(key[-1], crs))
        parts.append(Part(source, group, dataset, str(name), footprints[key]))
    return parts, problem


def choose_layer(layers: Mapping[str, Layer], name: str | None, parameter: str = "variables") -> Layer:
    """Return the layer of a name; without one, the first that varies in time and has a unit, if there is one.

    Raises:
        InvalidParameter: there is none, or several names are given.
    """
    if name is None:
        return min(layers.values(), key=lambda layer: (layer.times is None, _is_about_others(layer)))
    if name not in layers:
        said = (
            "A picture shows one variable." if "," in name else f"There is no variable {name[:80]!r} to draw."
        )
        raise InvalidParameter(parameter, said, accepted=", ".join(list(layers)[:_MOST_NAMED]))
    return layers[name]


def _is_about_others(layer: Layer) -> bool:
    """Whether a variable has no unit, as masks, labels and qualities do, which are there to be asked for."""
    units = str(layer.attributes.get("units", "")).strip()
    return units in {"", "1"} or "flag_values" in layer.attributes or "flag_masks" in layer.attributes
