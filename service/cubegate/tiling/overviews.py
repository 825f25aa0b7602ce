"""Overviews of a variable: coarser groups of its cube, or of a store beside it, told by an attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.query.crs import find_places, the_short_way
from cubegate.query.lattice import Lattice

_MOST_LEVELS = 32
_PLACES = 5
# of a pixel, that rounding may take
_SLACK = 1.01


def overview_groups(dataset: xr.Dataset, group: str) -> tuple[str, ...]:
    """Return the groups of the overviews of a group, in the order in which it tells them."""
    told = dataset.attrs.get("multiscales")
    layout = told.get("layout") if isinstance(told, Mapping) else None
    if not isinstance(layout, list | tuple):
        return ()
    names = [level.get("asset") for level in layout[:_MOST_LEVELS] if isinstance(level, Mapping)]
    prefix = f"{group}/" if group else ""
    return tuple(f"{prefix}{name}" for name in names if isinstance(name, str) and name.strip("./"))


def cells_a_pixel(lattice: Lattice, crs: CRS, cell: tuple[float, float]) -> float:
    """Return how many cells lie along a side of a pixel, the median of some places; 0 where none is known."""
    columns = np.linspace(lattice.width * 0.1, lattice.width * 0.9, _PLACES)
    rows = np.linspace(lattice.height * 0.1, lattice.height * 0.9, _PLACES)
    x, y = (
        each.reshape(-1)
        for each in np.meshgrid(
            lattice.west + columns * lattice.width_of_cell, lattice.north - rows * lattice.height_of_cell
        )
    )
    shifts = ((0.0, 0.0), (lattice.width_of_cell, 0.0), (0.0, lattice.height_of_cell))
    try:
        found = [find_places(lattice.crs, crs, x + across, y + down) for across, down in shifts]
    except ProjError:
        return 0.0
    known = found[0][2] & found[1][2] & found[2][2]
    if not known.any():
        return 0.0
    sides: list[Any] = [each[axis][known] - found[0][axis][known] for each in found[1:] for axis in (0, 1)]
    if crs.is_geographic:
        sides[0], sides[2] = (the_short_way(side, 360.0) for side in (sides[0], sides[2]))
    area = np.abs(sides[0] * sides[3] - sides[1] * sides[2])
    return float(np.median(np.sqrt(area))) / math.sqrt(cell[0] * cell[1]) * _SLACK
