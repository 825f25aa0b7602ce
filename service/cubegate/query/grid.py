"""The grid of a variable: its axes, its time and its CRS, and which cells a point or a box means."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.axis import Axis
from cubegate.query.coordinates import X_SIGNS, Y_SIGNS, axis_name, find_time, is_degrees, no_grid, read_axes
from cubegate.query.crs import Bounds, name_crs
from cubegate.query.grid_mapping import FoundCRS, find_crs, geotransform_cells


@dataclass(frozen=True)
class Pixel:
    """One cell: its indices in file order, and its centre in the grid's CRS."""

    ix: int
    iy: int
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class Window:
    """A box of cells: one index array an axis, in file order except across the seam of longitudes.

    `x_values` are the centres to write where the seam is crossed, so that they are monotonic.
    """

    x: slice | NDArray[np.intp]
    y: slice | NDArray[np.intp]
    x_values: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectilinear grid.

    Attributes:
        x, y: the axes.
        time: the name of the time coordinate, None where the variable has no time.
        time_dim: the dimension that it runs along, most often `time` itself.
        crs: of x and y, None where it is unknown; `crs_problem` then says why.
        mapping: the name of the grid mapping variable that the CRS was read from, if any.
    """

    x: Axis
    y: Axis
    time: str | None
    time_dim: str | None
    crs: CRS | None
    crs_problem: str = ""
    mapping: str | None = None

    @property
    def geographic(self) -> bool:
        """Whether x and y are longitudes and latitudes in degrees."""
        return self.crs is not None and bool(self.crs.is_geographic)

    @property
    def lon360(self) -> bool:
        """Whether the longitudes go beyond 180."""
        return self.geographic and bool(self.x.values.max() > 180)

    @property
    def bounds(self) -> Bounds:
        """The outer edges of the cells: xmin, ymin, xmax, ymax."""
        (west, east), (south, north) = self.x.extent, self.y.extent
        return west, south, east, north

    @property
    def crs_name(self) -> str:
        """The code or WKT of the CRS; empty where it is unknown."""
        return "" if self.crs is None else name_crs(self.crs)

    def known_crs(self, parameter: str) -> CRS:
        """Return the CRS.

        Raises:
            InvalidParameter: it is unknown, so that only native x and y can be asked.
        """
        if self.crs is None:
            raise InvalidParameter(
                parameter,
                f"This dataset has no known coordinate reference system ({self.crs_problem}). Its operator "
                "may set `crs:` in the collection file.",
                accepted=f"native x= and y=, or bbox-crs=native with a bbox in {self.extent_text()}",
            )
        return self.crs

    def extent_text(self) -> str:
        """The grid's extent, for messages."""
        west, south, east, north = self.bounds
        return f"x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g}"

    def pixel(self, x: float, y: float, parameter: str = "coords") -> Pixel:
        """Return the cell that holds a point given in the grid's own CRS.

        Raises:
            InvalidParameter: the point is outside of all cells.
        """
        ix, iy = self.x.nearest(x), self.y.nearest(y)
        if ix is None or iy is None:
            raise InvalidParameter(
                parameter,
                f"The point {x:.10g}, {y:.10g} (in {_brief(self.crs_name)}) is outside the grid.",
                accepted=f"{self.extent_text()} in {_brief(self.crs_name)}",
            )
        return Pixel(ix, iy, float(self.x.values[ix]), float(self.y.values[iy]))

    def window(self, bounds: Bounds, parameter: str = "bbox") -> Window:
        """Return the cells whose centre lies within `bounds`, given in the grid's own CRS.

        A box between centres gets the cell around its middle. See `Axis.between`.

        Raises:
            InvalidParameter: the box does not meet the grid.
        """
        west, south, east, north = bounds
        x, y = self.x.between(west, east), self.y.between(south, north)
        if not (x.size and y.size):
            raise InvalidParameter(
                parameter,
                "The bbox lies outside the grid.",
                accepted=f"a bbox that meets {self.extent_text()} in {_brief(self.crs_name)}",
            )
        columns = as_slice(x)
        if isinstance(columns, slice) or not self.x.cyclic:
            return Window(columns, as_slice(y))
        return Window(columns, as_slice(y), self.x.unrolled(x, west - self.x.slack))


def as_slice(indices: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return consecutive indices as a slice, which reads and prices faster, others as they are."""
    if indices.size and (np.diff(indices) == 1).all():
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def find_grid(
    dataset: xr.Dataset,
    variable: Hashable,
    *,
    crs: str | None = None,
    x: str | None = None,
    y: str | None = None,
    time: str | None = None,
) -> Grid:
    """Find the grid that `variable` lies on; `crs`, `x`, `y` and `time` override what CF metadata say.

    Raises:
        InvalidParameter: it lies on none: no x and y dimensions with 1-D coordinates.
    """
    found = dataset.variables[variable]
    x_name = axis_name(dataset, variable, X_SIGNS, x)
    y_name = axis_name(dataset, variable, Y_SIGNS, y)
    if x_name is None or y_name is None:
        raise no_grid(dataset, variable)
    time_name, time_dim = find_time(dataset, [dim for dim in found.dims if dim not in (x_name, y_name)], time)
    known = _find_crs(dataset, variable, x_name, y_name, crs)
    geographic = known.crs is not None and bool(known.crs.is_geographic)
    cells = geotransform_cells(dataset, known.mapping)
    axes = read_axes(dataset, (x_name, y_name), cells, geographic=geographic)
    return Grid(
        x=axes[0],
        y=axes[1],
        time=time_name,
        time_dim=time_dim,
        crs=known.crs,
        crs_problem=known.problem,
        mapping=known.mapping,
    )


def find_crs_of(
    dataset: xr.Dataset,
    variable: Hashable,
    *,
    crs: str | None = None,
    x: str | None = None,
    y: str | None = None,
) -> CRS | None:
    """Return the CRS of `variable`, None where there is none; needs names and attributes, no values."""
    x_name = axis_name(dataset, variable, X_SIGNS, x)
    y_name = axis_name(dataset, variable, Y_SIGNS, y)
    if x_name is None or y_name is None:
        return None
    return _find_crs(dataset, variable, x_name, y_name, crs).crs


def _find_crs(dataset: xr.Dataset, variable: Hashable, x: str, y: str, configured: str | None) -> FoundCRS:
    degrees = is_degrees(dataset, x, X_SIGNS) and is_degrees(dataset, y, Y_SIGNS)
    found = dataset.variables[variable]
    return find_crs(dataset, found, x, y, configured=configured, lonlat=degrees)


def _brief(name: str) -> str:
    return name if 0 < len(name) < 40 else "the grid's own coordinates"
