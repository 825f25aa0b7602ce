"""Pictures made ready and priced: which cell of which cube each pixel shows, before any is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.budget import Limits, Plan, Price, exceeded
from cubegate.query.conditions import Condition
from cubegate.query.cube import CubeQuery
from cubegate.query.footprint import Footprint, degrees_of, may_meet
from cubegate.query.in_thread import in_thread
from cubegate.query.interval import iso, parse_interval
from cubegate.query.lattice import Lattice
from cubegate.query.selection import Selection
from cubegate.tiling.layers import Layer, Part
from cubegate.tiling.matrices import TILE
from cubegate.tiling.overviews import cells_a_pixel
from cubegate.tiling.sampling import Pixels, Sampling, cell_sizes, sample

# bytes for each pixel: where it lies, its cell, its value and its colour
PIXEL_NBYTES = 80
_MOST_NAMED = 12


@dataclass(frozen=True, eq=False)
class View:
    """What a picture shows of a layer.

    Attributes:
        date: one of the layer's; None where it has none.
        selectors: by dimension beyond x, y and time, the value to show.
    """

    layer: Layer
    date: Any = None
    selectors: Mapping[str, str] = field(default_factory=dict)
    where: tuple[Condition, ...] = ()
    mask: tuple[Condition, ...] = ()

    def query(self, sampling: Sampling) -> CubeQuery:
        """Return the query for the cells of a picture."""
        return CubeQuery(
            variables=(self.layer.name,),
            interval=None if self.date is None else parse_interval(iso(self.date)),
            selectors=self.selectors,
            where=self.where,
            mask=self.mask,
            window=sampling.window,
        )


def require_selectors(layer: Layer, selectors: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` where one is missing, or names no dimension."""
    for dimension in layer.dimensions:
        if dimension.name not in selectors:
            more = ", ..." if len(dimension.values) > _MOST_NAMED else ""
            raise InvalidParameter(
                dimension.name,
                f"A picture shows one place along {dimension.name!r}, and none is named.",
                accepted=", ".join(dimension.values[:_MOST_NAMED]) + more,
            )
    known = [dimension.name for dimension in layer.dimensions]
    for name in selectors:
        if name not in known:
            raise InvalidParameter(
                name,
                f"There is no parameter or dimension {name[:80]!r} here.",
                accepted=", ".join(known) if known else "none: the variable has no other dimensions",
            )


@dataclass(frozen=True, eq=False)
class Picture:
    """A view on the pixels of a lattice; `pieces` are what each cube has of it."""

    view: View
    lattice: Lattice
    pieces: tuple[tuple[Part, Sampling, Plan], ...]

    @property
    def price(self) -> Price:
        """What reading it costs."""
        prices = [plan.price for _, _, plan in self.pieces]
        return Price(
            sum(each.chunks for each in prices),
            sum(each.bytes for each in prices),
            sum(each.cells for each in prices),
        )

    @property
    def nbytes(self) -> int:
        """The size in memory of what `load` reads and makes of it."""
        read = sum(plan.selection.nbytes for _, _, plan in self.pieces)
        return read + PIXEL_NBYTES * self.lattice.width * self.lattice.height

    def require(self, limits: Limits, hint: str) -> None:
        """Raise `BudgetExceeded` with a hint where it costs more than the limits."""
        if not self.price.within(limits):
            raise exceeded(self.price, limits, hint)

    async def load(self) -> NDArray[np.float64]:
        """Read the values of all pixels, of shape (height, width); NaN where there is none.

        Raises:
            UpstreamError: a chunk could not be read.
            InvalidParameter: the date does not meet the conditions of `where`.
        """
        loaded = await asyncio.gather(*[plan.selection.load() for _, _, plan in self.pieces])
        return await in_thread(partial(self._put_together, loaded))

    def _put_together(self, loaded: list[Selection]) -> NDArray[np.float64]:
        picture = np.full(self.lattice.width * self.lattice.height, np.nan)
        for (_, sampling, _), selection in zip(self.pieces, loaded, strict=True):
            sampling.gather(_plane(selection, self.view.layer.name), picture)
        return picture.reshape(self.lattice.height, self.lattice.width)


def _plane(selection: Selection, name: str) -> NDArray[np.float64]:
    variable: xr.Variable = selection.dataset.variables[name]
    others = {dim: 0 for dim in variable.dims if dim not in (selection.x, selection.y)}
    # of several at one date, the first in file order
    values = variable.isel(others).transpose(selection.y, selection.x).values
    return np.asarray(values, np.float64)


async def plan_picture(view: View, lattice: Lattice, limits: Limits) -> Picture:
    """Find the cells that a picture shows, and price them.

    Raises:
        InvalidParameter, NotAcceptable: a condition does not fit a cube.
        CorruptIndex: the part of an index that would tell the price is damaged.
    """
    picture = await _plan_picture(view, lattice, limits)
    most = enlarged(limits.chunks, lattice.width * lattice.height, TILE)
    if picture.price.chunks <= most or view.where or view.mask:
        return picture
    # larger cells are better than none
    coarser = await _plan_picture(view, lattice, limits, coarser=1)
    return coarser if coarser.price.chunks < picture.price.chunks else picture


async def _plan_picture(view: View, lattice: Lattice, limits: Limits, coarser: int = 0) -> Picture:
    found = await in_thread(partial(_sample_all, view, lattice, coarser))
    pieces = [
        (part, each, await part.source.plan(part.group, view.query(each), limits)) for part, each in found
    ]
    return Picture(view, lattice, tuple(pieces))


def _sample_all(view: View, lattice: Lattice, coarser: int) -> list[tuple[Part, Sampling]]:
    parts = view.layer.parts
    if len(parts) == 1:
        part = _level(parts[0], view, lattice, coarser)
        only = sample(part.footprint, Pixels(lattice), within=_around(part, parts[0]))
        return [] if only is None else [(part, only)]
    box = degrees_of(lattice.bounds, lattice.crs)
    left = np.ones(lattice.height * lattice.width, bool)
    found = []
    pixels = Pixels(lattice)
    for part in parts:
        if not may_meet(part.footprint.box, box):
            continue
        level = _level(part, view, lattice, coarser)
        sampling = sample(level.footprint, pixels, left, within=_around(level, part))
        if sampling is None:
            continue
        left[sampling.inside] = False
        # a place belongs to its cube at all dates, those that it lacks too
        if level.has_date(view.date):
            found.append((level, sampling))
        if not left.any():
            break
    return found


def _level(part: Part, view: View, lattice: Lattice, coarser: int) -> Part:
    """Return the coarsest overview whose cells are not larger than pixels, or one of so many levels above it.

    Conditions are on variables of the whole group, and so on its own cells.
    """
    if not part.overviews or view.where or view.mask:
        return part
    levels = [
        part,
        *(each for each in part.overviews if each.has_date(view.date) or not part.has_date(view.date)),
    ]
    cell = cell_sizes(part.footprint)
    across = cells_a_pixel(lattice, part.footprint.crs, cell)
    found = 0
    for number, overview in enumerate(levels[1:], start=1):
        larger = cell_sizes(overview.footprint)
        if math.sqrt(larger[0] * larger[1] / (cell[0] * cell[1])) <= across:
            found = number
    return levels[min(found + coarser, len(levels) - 1)]


def _around(level: Part, part: Part) -> Footprint | None:
    return None if level is part else part.footprint


def value_at(picture: Picture, column: int, row: int) -> tuple[Part, Sampling] | None:
    """Return the cube and the one cell that a pixel of a picture shows; None where it shows none."""
    flat = row * picture.lattice.width + column
    for part, sampling, _ in picture.pieces:
        place = int(np.searchsorted(sampling.inside, flat))
        if place < len(sampling.inside) and sampling.inside[place] == flat:
            return part, sampling.only(place)
    return None


def enlarged(chunks: int, pixels: int, tile: int) -> int:
    """Return the chunks that `pixels` may read where a tile of `tile` x `tile` may read `chunks`."""
    return math.ceil(chunks * max(1.0, pixels / tile**2))
