"""The coordinate reference systems of a map service, and where a layer lies in each."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence

import numpy as np
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.query.crs import Bounds, find_places, lonlat, name_crs, parse_crs, same_crs
from cubegate.query.footprint import Footprint
from cubegate.tiling.layers import Layer
from cubegate.tiling.metadata import boxes_in_degrees, lonlat_bounds

_COMMON = ("EPSG:4326", "CRS:84", "EPSG:3857", "EPSG:3413", "EPSG:3031", "EPSG:3995")
_MOST_ZONES = 8
# places along each side of each cube, fewer where there are many cubes
_PLACES, _FEWEST_PLACES = 65, 5
_MANY_PARTS = 64
# degrees beyond a CRS's area of use where it still serves for maps
_AROUND = 25.0
_MERCATOR, _MERCATOR_LATITUDE = 3857, 85.06


def known_crs(layer: Layer) -> dict[str, CRS]:
    """Return the CRS in which a layer can be asked for, by code: its own first, then those that meet it."""
    own = name_crs(layer.parts[0].footprint.crs)
    found = {own: layer.parts[0].footprint.crs} if re.fullmatch(r"[A-Z]+:[0-9]+", own) else {}
    for name in (*_COMMON, *_zones(boxes_in_degrees(layer))):
        found.setdefault(name, lonlat() if name == "CRS:84" else parse_crs(name))
    return found


def _zones(boxes: Sequence[Bounds]) -> list[str]:
    """Name the UTM zones that boxes in degrees touch, where they are few."""
    found: set[tuple[int, int]] = set()
    for west, south, east, north in boxes:
        first = math.floor((west + 180) / 6)
        # a zone that begins where the box ends is not touched
        last = max(first, math.ceil((east + 180) / 6) - 1)
        for code, here in ((326, north > 0), (327, south < 0)):
            found |= {(zone % 60 + 1, code) for zone in range(first, last + 1) if here}
    few = len({zone for zone, _ in found}) <= _MOST_ZONES
    return [f"EPSG:{code}{zone:02}" for zone, code in sorted(found)] if few else []


def bounds_of(layer: Layer, crs: CRS) -> Bounds | None:
    """Return the box in `crs` around the places of a layer that a map in it may show; None without any."""
    if same_crs(crs, lonlat()):
        return lonlat_bounds(layer)
    if crs.to_epsg() == _MERCATOR:
        return _mercator_bounds(layer, crs)
    places = max(_FEWEST_PLACES, int(_PLACES * min(1.0, math.sqrt(_MANY_PARTS / len(layer.parts)))))
    by_crs: dict[int, list[Footprint]] = {}
    for part in layer.parts:
        by_crs.setdefault(id(part.footprint.crs), []).append(part.footprint)
    found = [each for alike in by_crs.values() if (each := _bounds(alike, crs, places)) is not None]
    if not found:
        return None
    sides = np.array(found)
    west, south = sides[:, :2].min(axis=0).tolist()
    east, north = sides[:, 2:].max(axis=0).tolist()
    if crs.is_geographic and (west < -180 or east > 180):
        west, east = -180.0, 180.0
    return west, south, east, north


def _mercator_bounds(layer: Layer, crs: CRS) -> Bounds | None:
    west, south, east, north = lonlat_bounds(layer)
    south, north = max(south, -_MERCATOR_LATITUDE), min(north, _MERCATOR_LATITUDE)
    if south >= north:
        return None
    x, y, _ = find_places(lonlat(), crs, np.array([west, east]), np.array([south, north]))
    return float(x[0]), float(y[0]), float(x[1]), float(y[1])


def _bounds(footprints: Sequence[Footprint], crs: CRS, places: int) -> Bounds | None:
    """The box in `crs` around footprints that are in one other CRS, by some places of each."""
    share = np.linspace(0, 1, places)
    west, south, east, north = (
        side[:, None, None] for side in np.array([each.grid.bounds for each in footprints]).T
    )
    x, y = np.broadcast_arrays(west + share * (east - west), south + share[:, None] * (north - south))
    x, y = x.reshape(-1), y.reshape(-1)
    try:
        lon, lat, known = find_places(footprints[0].crs, lonlat(), x, y)
        lowest, highest = _latitudes(crs)
        known &= (lat >= lowest) & (lat <= highest)
        new_x, new_y, there = find_places(lonlat(), crs, lon[known], lat[known])
    except ProjError:
        return None
    new_x, new_y = new_x[there], new_y[there]
    if not new_x.size:
        return None
    if crs.is_geographic:
        new_x = west_to_east(new_x)
    return float(new_x.min()), float(new_y.min()), float(new_x.max()), float(new_y.max())


def west_to_east(
    longitudes: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return longitudes from -180 to 180."""
    turned: np.ndarray[tuple[int], np.dtype[np.float64]] = (longitudes + 180) % 360 - 180
    # the eastern edge of the world
    turned[(longitudes == 180.0)] = 180.0
    return turned


@functools.lru_cache(maxsize=64)
def _latitudes(crs: CRS) -> tuple[float, float]:
    """The latitudes that a CRS is for."""
    if crs.to_epsg() == _MERCATOR:
        return -_MERCATOR_LATITUDE, _MERCATOR_LATITUDE
    area = crs.area_of_use
    if area is None or crs.is_geographic:
        return -90.0, 90.0
    return max(area.south - _AROUND, -90.0), min(area.north + _AROUND, 90.0)
