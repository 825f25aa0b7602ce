"""Which derived variables a collection has in a group, and what they need to know of its grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from cubegate.derived.inputs import Axes
from cubegate.derived.settings import DerivedSettings
from cubegate.query.crs import lonlat, transform_points
from cubegate.query.grid import Grid
from cubegate.query.grid_mapping import METRES
from cubegate.query.variables import GridSettings


def by_group(derived: Mapping[str, DerivedSettings]) -> dict[str, dict[str, DerivedSettings]]:
    """Return the settings of `derived`, whose keys are paths, by group and by name."""
    found: dict[str, dict[str, DerivedSettings]] = {}
    for path, settings in derived.items():
        group, _, name = path.strip("/").rpartition("/")
        found.setdefault(group, {})[name] = settings
    return found


@dataclass(frozen=True)
class CubeGrids:
    """The grids of a cube's datasets, as its collection file and CF metadata say."""

    settings: GridSettings

    def axes(self, dataset: xr.Dataset, variable: str) -> Axes:
        """Return the axes of `variable`.

        Raises:
            InvalidParameter: it lies on no grid.
        """
        grid = self.settings.find(dataset, variable)
        return Axes(grid.x.name, grid.y.name, grid.time, _metres(grid))

    def pixel(self, dataset: xr.Dataset, variable: str, lon: float, lat: float) -> tuple[int, int]:
        """Return the positions along x and y of the cell that holds a point.

        Raises:
            InvalidParameter: it is outside the grid, or the CRS is unknown.
        """
        grid = self.settings.find(dataset, variable)
        place = transform_points(lonlat(), grid.known_crs("lon"), np.array([lon]), np.array([lat]), "lon")
        pixel = grid.pixel(float(place[0][0]), float(place[1][0]), "lon")
        return pixel.ix, pixel.iy


def _metres(grid: Grid) -> float | None:
    if grid.x.units or grid.y.units:
        return METRES.get(grid.x.units) if grid.x.units == grid.y.units else None
    if grid.crs is None or not grid.crs.is_projected:
        return None
    return float(grid.crs.axis_info[0].unit_conversion_factor)
