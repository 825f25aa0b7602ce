"""Polygons on a grid: the box that is read for one, and what of the box lies inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
import shapely.affinity
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.crs import Bounds, find_places, parse_crs, same_crs, transformer, turn_of
from cubegate.query.masking import masked
from cubegate.query.selection import Selection

# points on each edge, so that the box around its image in another CRS holds it
EDGE_POINTS = 64
BLOCK_CELLS = 2**20


@dataclass(frozen=True, eq=False)
class Area:
    """Polygons in `crs`; None is that of the grid. Their edges are straight there."""

    polygon: Any
    crs: CRS | None
    parameter: str = "coords"

    @cached_property
    def bounds(self) -> Bounds:
        """The box around all polygons, in their own CRS."""
        west, south, east, north = (float(side) for side in self.polygon.bounds)
        return west, south, east, north

    def box(self, grid_crs: CRS | None) -> tuple[Bounds, CRS | None]:
        """Return the smallest box known to hold the polygons, and its CRS, None for the grid's own.

        On a projected grid it is the box around the densified edges, where all of them have a place
        there; else the box around the polygons in their own CRS.
        """
        same = self.crs is not None and grid_crs is not None and same_crs(self.crs, grid_crs)
        if self.crs is None or grid_crs is None or same or grid_crs.is_geographic:
            return self.bounds, self.crs
        coordinates = shapely.get_coordinates(self._densified)
        try:
            x, y, known = find_places(self.crs, grid_crs, coordinates[:, 0], coordinates[:, 1])
        except ProjError:
            return self.bounds, self.crs
        if not known.all():
            return self.bounds, self.crs
        # of an edge between two of its points
        slack = 1e-3 * max(float(np.ptp(x)), float(np.ptp(y)))
        box = float(x.min()) - slack, float(y.min()) - slack, float(x.max()) + slack, float(y.max()) + slack
        return box, grid_crs

    @cached_property
    def _densified(self) -> Any:
        west, south, east, north = self.bounds
        return shapely.segmentize(self.polygon, max(east - west, north - south) / EDGE_POINTS)

    def holds(self, crs: CRS | None, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which places, in `crs`, lie inside or on an edge."""
        known = np.ones(len(x), bool)
        if self.crs is not None and crs is not None and not same_crs(self.crs, crs):
            if self.crs.is_geographic:
                # each place of a projection has but one on the Earth, so that nothing folds
                x, y = transformer(crs, self.crs).transform(x, y)
                known = np.isfinite(x) & np.isfinite(y)
            else:
                x, y, known = find_places(crs, self.crs, x, y)
        inside = np.asarray(shapely.intersects_xy(self.polygon, x, y), bool)
        own = crs if self.crs is None else self.crs
        turn = None if own is None else turn_of(own)
        if turn is not None and known.any():
            # a place has many longitudes, and the polygon may be written in any of them
            west, _, east, _ = self.bounds
            first, last = float(x[known].min()), float(x[known].max())
            for shift in (-turn, turn):
                if first + shift <= east and last + shift >= west:
                    inside |= np.asarray(shapely.intersects_xy(self.polygon, x + shift, y), bool)
        return np.asarray(inside & known, bool)


def make_area(parts: Sequence[Sequence[NDArray[np.float64]]], crs: CRS | None, parameter: str) -> Area:
    """Make polygons of their rings, the outer one first.

    Those that are cut at the antimeridian, as in GeoJSON, are put together there.

    Raises:
        InvalidParameter: they cross themselves or have no area.
    """
    polygons = [shapely.Polygon(rings[0][:, :2], [ring[:, :2] for ring in rings[1:]]) for rings in parts]
    polygon = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if not shapely.is_valid(polygon) or polygon.area <= 0:
        reason = shapely.is_valid_reason(polygon)
        raise InvalidParameter(
            parameter, f"The polygon is not valid: {reason}.", accepted="rings that do not cross themselves"
        )
    turn = None if crs is None else turn_of(crs)
    if turn is not None and len(polygons) > 1:
        polygon = _together(polygons, turn)
    shapely.prepare(polygon)
    return Area(polygon, crs, parameter)


def _together(polygons: Sequence[Any], turn: float) -> Any:
    """The polygons at those turns of x at which the box around all is narrowest."""
    boxes = shapely.bounds(polygons)
    start, width = boxes[:, 0] % turn, boxes[:, 2] - boxes[:, 0]
    order = np.argsort(start)
    reached = np.maximum.accumulate((start + width)[order])
    gaps = np.append(start[order][1:], start[order][0] + turn) - reached
    first = start[order[(int(gaps.argmax()) + 1) % len(order)]]
    west = first + (start - first) % turn
    if (west + width).max() - first >= np.ptp(boxes[:, [0, 2]]):
        return shapely.MultiPolygon(polygons)
    shifts = west - boxes[:, 0] - turn * np.floor(first / turn + 0.5)
    moved = [shapely.affinity.translate(each, shift) for each, shift in zip(polygons, shifts, strict=True)]
    return shapely.union_all(moved)


def clip_to_area(selection: Selection, area: Area) -> Selection:
    """Return a loaded box cut to the cells whose centre lies in the polygons; others in it are missing.

    Variables that are not on the grid stay as they are.

    Raises:
        InvalidParameter: no cell has its centre inside.
        NotAcceptable: a variable has no value that means missing.
    """
    dataset = selection.dataset
    if not {selection.x, selection.y} <= set(dataset.variables):
        return selection
    x, y = (dataset[name].values.astype(np.float64) for name in (selection.x, selection.y))
    inside = cells_inside(area, parse_crs(selection.crs) if selection.crs else None, x, y)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        raise InvalidParameter(
            area.parameter,
            "No cell has its centre inside the polygon.",
            accepted="a polygon as large as a cell at least, or a position query",
        )
    window = {
        selection.y: slice(int(rows[0]), int(rows[-1]) + 1),
        selection.x: slice(int(columns[0]), int(columns[-1]) + 1),
    }
    shown = inside[window[selection.y], window[selection.x]]
    cut = dataset.isel(window)
    both = {selection.x, selection.y}
    for name, variable in cut.data_vars.items():
        if both <= set(variable.dims):
            cut[name] = _shown(str(name), variable.variable, shown, (selection.y, selection.x))
    return replace(selection, dataset=cut)


def cells_inside(
    area: Area, crs: CRS | None, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Tell which cells of a grid in `crs` have their centre in the polygons; of shape (y, x)."""
    inside = np.zeros((len(y), len(x)), bool)
    rows = max(1, BLOCK_CELLS // len(x))
    for start in range(0, len(y), rows):
        block = y[start : start + rows]
        across, down = np.tile(x, len(block)), np.repeat(block, len(x))
        inside[start : start + rows] = area.holds(crs, across, down).reshape(len(block), len(x))
    return inside


def _shown(name: str, variable: xr.Variable, shown: NDArray[np.bool_], dims: tuple[str, str]) -> xr.Variable:
    if variable.dtype.kind not in "biufcMm":
        raise NotAcceptable(
            f"The variable {name!r} holds {variable.dtype} values, which cannot be missing outside the "
            "polygon: ask for other variables, or for a cube."
        )
    flat = shown if variable.dims.index(dims[0]) < variable.dims.index(dims[1]) else shown.T
    sizes = [size if dim in dims else 1 for dim, size in variable.sizes.items()]
    visible = np.broadcast_to(flat.reshape(sizes), variable.shape)
    return xr.Variable(
        variable.dims, masked(name, variable.values, visible), variable.attrs, variable.encoding
    )
