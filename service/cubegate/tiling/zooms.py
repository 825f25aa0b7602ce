"""At which zooms a layer has tiles: from where one is within the budget, to where its cells are large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from cubegate.query.budget import Limits
from cubegate.query.crs import find_places
from cubegate.query.footprint import Footprint
from cubegate.tiling.layers import Layer
from cubegate.tiling.matrices import NATIVE, MatrixSet
from cubegate.tiling.picture import View, plan_picture
from cubegate.tiling.sampling import cell_sizes

# places along each side of each cube where tiles are priced
_PLACES = 4
_CUBES = 8
# beyond where a pixel is a cell
_ENLARGED = 3


@dataclass(frozen=True)
class Zooms:
    """The first and the last zoom, and the first where pixels are not larger than cells."""

    first: int
    last: int
    whole: int


async def find_zooms(layer: Layer, matrices: MatrixSet, limits: Limits) -> Zooms:
    """Return the zooms at which clients may ask for tiles; those of some places are priced, and none is read.

    Raises:
        CorruptIndex: the part of an index that would tell the price is damaged.
    """
    found = [cell_in(part.footprint, matrices) for part in layer.parts[:_CUBES]]
    deepest = len(matrices.matrices) - 1
    cell = min((each for each in found if each is not None), default=matrices.matrices[deepest].cell)
    whole = next((z for z, each in enumerate(matrices.matrices) if each.cell <= cell * (1 + 1e-6)), deepest)
    view = View(layer, _dearest_date(layer), {each.name: each.values[0] for each in layer.dimensions})
    # what fits at a zoom fits at deeper ones
    low, high = 0, deepest
    while low < high:
        # from where tiles most often begin
        middle = min(max(whole - 2, low), high - 1) if (low, high) == (0, deepest) else (low + high) // 2
        if await _fits(view, matrices, middle, limits):
            high = middle
        else:
            low = middle + 1
    first = high
    last = min(max(whole + _ENLARGED, first), deepest)
    return Zooms(first, last, min(max(whole, first), last))


def _dearest_date(layer: Layer) -> Any:
    """Return the last date of which an overview is missing, or else the last."""
    if layer.times is None:
        return None
    for part in layer.parts[:_CUBES]:
        known = [each.times for each in part.overviews if each.times is not None]
        times = part.times
        if times is None or not known:
            continue
        lacking = times[~np.isin(times, min(known, key=len))]
        lacking = lacking[np.isin(lacking, layer.times)]
        if lacking.size:
            return lacking.max()
    return layer.times[-1]


async def _fits(view: View, matrices: MatrixSet, z: int, limits: Limits) -> bool:
    tiles = {
        matrices.tile_at(z, x, y)
        for part in view.layer.parts[:_CUBES]
        for x, y in _places(part.footprint, matrices)
    }
    for x, y in sorted(tiles):
        picture = await plan_picture(view, matrices.lattice(z, x, y), limits)
        if not picture.price.within(limits):
            return False
    return True


def _places(footprint: Footprint, matrices: MatrixSet) -> Iterator[tuple[float, float]]:
    """Yield places in the CRS of the tiles, evenly over a grid."""
    west, south, east, north = footprint.grid.bounds
    x, y = np.meshgrid(_inner(west, east), _inner(south, north))
    new_x, new_y, known = _transformed(footprint, matrices, x, y)
    if matrices.crs.is_geographic and matrices.name != NATIVE:
        new_x = (new_x + 180) % 360 - 180
    yield from zip(new_x[known].tolist(), new_y[known].tolist(), strict=True)


def _inner(low: float, high: float) -> NDArray[np.float64]:
    return np.linspace(low, high, _PLACES + 2)[1:-1]


def cell_in(footprint: Footprint, matrices: MatrixSet) -> float | None:
    """Return the size of a grid's cells in the CRS of the tiles; None where they have no place there."""
    across, down = cell_sizes(footprint)
    west, south, east, north = footprint.grid.bounds
    x, y = (each.reshape(-1) for each in np.meshgrid(_inner(west, east), _inner(south, north)))
    here, right, above = (
        _transformed(footprint, matrices, x + shift_x, y + shift_y)
        for shift_x, shift_y in ((0.0, 0.0), (across / 2, 0.0), (0.0, down / 2))
    )
    known = here[2] & right[2] & above[2]
    if not known.any():
        return None
    sides = [each[axis][known] - here[axis][known] for each in (right, above) for axis in (0, 1)]
    if matrices.crs.is_geographic:
        sides[0], sides[2] = ((side + 180) % 360 - 180 for side in (sides[0], sides[2]))
    size = 2 * float(np.median(np.sqrt(np.abs(sides[0] * sides[3] - sides[1] * sides[2]))))
    return size if size > 0 else None


def _transformed(
    footprint: Footprint, matrices: MatrixSet, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    try:
        return find_places(footprint.crs, matrices.crs, x, y)
    except ProjError:
        return x, y, np.zeros(x.shape, bool)
