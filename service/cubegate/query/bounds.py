"""Boxes asked in one CRS, on a grid in another."""

from __future__ import annotations

from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import transform_bounds
from cubegate.query.crs import Bounds, lonlat, name_crs, turn_of
from cubegate.query.grid import Grid, Window


def find_window(grid: Grid, bounds: Bounds | None, crs: CRS | None) -> Window:
    """Return the cells that a box means, the whole grid where `bounds` is None.

    The box, in `crs` (None is the grid's own), is first cut to the grid's extent, so that it may
    be larger than the area of use of the grid's CRS; its edges are densified. See `read_bounds`.

    Raises:
        InvalidParameter: the box has no area of numbers, or does not meet the grid.
    """
    if bounds is None:
        return Window(slice(0, len(grid.x.values)), slice(0, len(grid.y.values)))
    bounds = read_bounds(bounds, grid.crs if crs is None else crs)
    if crs is not None:
        bounds = to_grid(grid, bounds, crs)
    try:
        return grid.window(bounds)
    except InvalidParameter as error:
        raise _outside(grid, crs) from error


def read_bounds(bounds: Bounds, crs: CRS | None) -> Bounds:
    """Return a box in `crs` with its east in the east.

    One with its west in the east crosses the antimeridian, as in GeoJSON: its east then goes on beyond it.

    Raises:
        InvalidParameter: the box has no area of numbers, or is none of the Earth's.
    """
    west, south, east, north = bounds
    turn = None if crs is None else turn_of(crs)
    if south > north or (turn is None and west > east):
        raise InvalidParameter("bbox", "The bbox is empty.", accepted="minx,miny,maxx,maxy")
    is_geographic = crs is not None and crs.is_geographic
    if is_geographic and not (south >= -90 and north <= 90 and max(abs(west), abs(east)) <= 360):
        raise InvalidParameter(
            "bbox",
            "The bbox is west,south,east,north in degrees.",
            accepted="longitudes from -180 to 360, latitudes from -90 to 90",
        )
    if turn is not None and west > east:
        east = west + (east - west) % turn
        back = turn if east > turn else 0.0
        west, east = west - back, east - back
    return west, south, east, north


def to_grid(grid: Grid, bounds: Bounds, crs: CRS) -> Bounds:
    """Return the box in the grid's CRS that holds a box in `crs`, or what of it is on the grid.

    Raises:
        InvalidParameter: they don't meet, or the box has no place in the grid's CRS.
    """
    target = grid.known_crs("bbox-crs")
    if target.is_geographic and crs.is_geographic:
        return transform_bounds(crs, target, bounds)
    extent = _extent(grid, crs)
    if extent is None and not crs.is_geographic:
        return to_grid(grid, transform_bounds(crs, lonlat(), read_bounds(bounds, crs)), lonlat())
    return transform_bounds(crs, target, _cut(grid, bounds, crs, extent))


def clip(grid: Grid, bounds: Bounds, crs: CRS | None) -> Bounds:
    """Cut a box to the grid's extent, where that has a place in `crs`.

    Raises:
        InvalidParameter: they don't meet.
    """
    return _cut(grid, bounds, crs, _extent(grid, crs))


def _cut(grid: Grid, bounds: Bounds, crs: CRS | None, extent: Bounds | None) -> Bounds:
    known = grid.crs if crs is None else crs
    bounds = read_bounds(bounds, known)
    if extent is None:
        return bounds
    part = overlap(bounds, extent, None if known is None else turn_of(known))
    if part is None:
        raise _outside(grid, crs)
    return part


def overlap(one: Bounds, other: Bounds, turn: float | None) -> Bounds | None:
    """Return the box around what two boxes have in common; None where that is nothing.

    Where x is the same again after a `turn`, it is written as in `one`, or as in `other` where the
    box is narrower then: of the whole Earth and a grid across the antimeridian it is the grid.
    """
    south, north = max(one[1], other[1]), min(one[3], other[3])
    found = []
    for box, turned in ((one, other), (other, one)):
        shifts = [0.0] if turn is None else [number * turn for number in range(-3, 4)]
        sides = [(max(box[0], turned[0] + shift), min(box[2], turned[2] + shift)) for shift in shifts]
        sides = [(west, east) for west, east in sides if west <= east]
        if sides:
            found.append((min(west for west, _ in sides), max(east for _, east in sides)))
    if not found or south > north:
        return None
    west, east = min(found, key=lambda side: side[1] - side[0])
    return west, south, east, north


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
