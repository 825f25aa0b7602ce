"""Boxes asked in one CRS, on a grid in another."""

from __future__ import annotations

from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.crs import Bounds, name_crs, transform_bounds
from cubegate.query.grid import Grid, Window


def find_window(grid: Grid, bounds: Bounds | None, crs: CRS | None) -> Window:
    """Return the cells that a box means, the whole grid where `bounds` is None.

    The box, in `crs` (None is the grid's own), is first cut to the grid's extent, so that it may
    be larger than the area of use of the grid's CRS; its edges are densified. A box in longitudes
    may go beyond 180, but must not have its west in the east.

    Raises:
        InvalidParameter: the box has no area of numbers, or does not meet the grid.
    """
    if bounds is None:
        return Window(slice(0, len(grid.x.values)), slice(0, len(grid.y.values)))
    geographic = grid.geographic if crs is None else bool(crs.is_geographic)
    check_bounds(bounds, geographic=geographic)
    if crs is not None:
        bounds = to_grid(grid, bounds, crs)
    try:
        return grid.window(bounds)
    except InvalidParameter as error:
        raise _outside(grid, crs) from error


def check_bounds(bounds: Bounds, *, geographic: bool) -> None:
    """Raise `InvalidParameter` for a box that has no area of numbers, or is none of the Earth's."""
    west, south, east, north = bounds
    if west > east and geographic:
        raise InvalidParameter(
            "bbox",
            "The bbox has its west in the east, as one across the antimeridian has: split it in two.",
            accepted=f"{west:g},{south:g},180,{north:g} and then -180,{south:g},{east:g},{north:g}",
        )
    if west > east or south > north:
        raise InvalidParameter("bbox", "The bbox is empty.", accepted="minx,miny,maxx,maxy")
    if geographic and not (south >= -90 and north <= 90 and west >= -360 and east <= 360):
        raise InvalidParameter(
            "bbox",
            "The bbox is west,south,east,north in degrees.",
            accepted="longitudes from -180 to 360, latitudes from -90 to 90",
        )


def to_grid(grid: Grid, bounds: Bounds, crs: CRS) -> Bounds:
    """Return the box in the grid's CRS that holds a box in `crs`, or what of it is on the grid.

    Raises:
        InvalidParameter: they don't meet, or the box has no place in the grid's CRS.
    """
    target = grid.known_crs("bbox-crs")
    if target.is_geographic and crs.is_geographic:
        return transform_bounds(crs, target, bounds)
    return transform_bounds(crs, target, clip(grid, bounds, crs))


def clip(grid: Grid, bounds: Bounds, crs: CRS | None) -> Bounds:
    """Cut a box to the grid's extent, where that has a place in `crs`.

    Raises:
        InvalidParameter: they don't meet.
    """
    extent = _extent(grid, crs)
    if extent is None:
        return bounds
    geographic = grid.geographic if crs is None else crs.is_geographic
    shifts = (-360.0, 0.0, 360.0) if geographic else (0.0,)
    parts = [part for shift in shifts if (part := _intersection(bounds, extent, shift)) is not None]
    if not parts:
        raise _outside(grid, crs)
    west, south, east, north = (list(side) for side in zip(*parts, strict=True))
    return min(west), min(south), max(east), max(north)


def _intersection(bounds: Bounds, extent: Bounds, shift: float) -> Bounds | None:
    west, south = max(bounds[0] + shift, extent[0]), max(bounds[1], extent[1])
    east, north = min(bounds[2] + shift, extent[2]), min(bounds[3], extent[3])
    return (west, south, east, north) if west <= east and south <= north else None


def _extent(grid: Grid, crs: CRS | None) -> Bounds | None:
    """The grid's extent in `crs`; None where a part of it has no place there."""
    if grid.crs is None or crs is None:
        return grid.bounds
    try:
        return transform_bounds(grid.crs, crs, grid.bounds)
    except InvalidParameter:
        return None


def extent_text(grid: Grid, crs: CRS | None) -> str:
    """Say the grid's extent in `crs`, or in its own where that has no place for it."""
    extent = _extent(grid, crs)
    known = grid.crs if crs is None or extent is None else crs
    west, south, east, north = extent or grid.bounds
    name = "the grid's own coordinates" if known is None else name_crs(known)
    if len(name) > 40 and known is not None:
        name = str(known.name)
    return f"x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g} ({name})"


def _outside(grid: Grid, crs: CRS | None) -> InvalidParameter:
    return InvalidParameter(
        "bbox", "The bbox lies outside the grid.", accepted=f"a bbox that meets {extent_text(grid, crs)}"
    )
