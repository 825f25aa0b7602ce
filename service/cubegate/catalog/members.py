"""The members of a combined collection: opened when they are needed, and where they lie."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import xarray as xr
from pyproj import CRS

from cubegate.catalog.datacube import Datacube
from cubegate.chunks.concurrency import run_all
from cubegate.errors import CubegateError, InvalidParameter
from cubegate.query.bounds import extent_text
from cubegate.query.crs import name_crs
from cubegate.query.footprint import Footprint
from cubegate.query.grid import Grid
from cubegate.query.in_thread import in_thread
from cubegate.query.variables import GridSettings, choose_variables

_IN_FLIGHT = 16
_MOST_REMEMBERED = 16
_MOST_NAMED = 8


class Member:
    """One cube that a combined collection answers from; `number` is its place in the order, from 1."""

    def __init__(self, cube_id: str, number: int, opener: Callable[[], Awaitable[Datacube]]) -> None:
        self.id, self.number = cube_id, number
        self.cube: Datacube | None = None
        self.problem: CubegateError | None = None
        self._opener = opener
        self._footprints: dict[tuple[str, tuple[str, ...] | None], Footprint] = {}

    async def open(self) -> Datacube:
        """Return the cube.

        Raises:
            UpstreamError, InvalidReference, ConfigurationError: it cannot be opened; the next call tries
                again.
        """
        if self.cube is None:
            try:
                self.cube = await self._opener()
            except CubegateError as error:
                self.problem = error
                raise
            self.problem = None
        return self.cube

    async def try_open(self) -> None:
        """Open the cube, or remember why that is not possible now."""
        try:
            await self.open()
        except CubegateError:
            return

    async def footprint(
        self, group: str, variables: tuple[str, ...] | None, known: dict[str, CRS]
    ) -> Footprint:
        """Return where the grid of `variables` lies, or where it has none of these, that of all.

        `known` are the CRS of all members by name, so that the same one is one object.

        Raises:
            NotFound, InvalidMetadata, UpstreamError: the group cannot be opened.
            InvalidParameter: it has no grid, or one without a CRS.
        """
        key = (group, variables)
        if key not in self._footprints:
            cube = await self.open()
            dataset = await cube.dataset(group)
            grid = await in_thread(partial(_find_grid, dataset, variables, cube.grid_settings))
            if grid.crs is None:
                raise InvalidParameter(
                    "crs",
                    f"The cube {self.id!r} has no known coordinate reference system ({grid.crs_problem}), "
                    "so no place can be found in it. Its operator may set `crs:` in its collection file.",
                )
            crs = known.setdefault(name_crs(grid.crs), grid.crs)
            if len(self._footprints) >= _MOST_REMEMBERED:
                self._footprints.clear()
            self._footprints[key] = Footprint(grid, crs)
        return self._footprints[key]


def _find_grid(dataset: xr.Dataset, variables: tuple[str, ...] | None, settings: GridSettings) -> Grid:
    try:
        return choose_variables(dataset, variables, settings)[0]
    except InvalidParameter:
        if variables is None:
            raise
    return choose_variables(dataset, None, settings)[0]


async def open_all(members: Sequence[Member]) -> None:
    """Open all members that can be opened now."""
    await run_all((member.try_open() for member in members), in_flight=_IN_FLIGHT)


def extents_text(found: Sequence[tuple[Member, Footprint]], crs: CRS | None) -> str:
    """Say where members lie, for messages."""
    said = [f"{member.id}: {extent_text(footprint.grid, crs)}" for member, footprint in found[:_MOST_NAMED]]
    more = len(found) - len(said)
    return "; ".join(said) + (f"; and {more} more cubes" if more > 0 else "")
