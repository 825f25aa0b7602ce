"""Coordinate reference systems: reading what a client names, and transforming between two of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError

from cubegate.errors import InvalidParameter

P = ParamSpec("P")
T = TypeVar("T")

Bounds = tuple[float, float, float, float]

ACCEPTED = "EPSG:4326, OGC:CRS84, an http://www.opengis.net/def/crs/ address, a PROJ string or WKT"
MAX_TEXT = 10_000
ROUND_TRIP_METRES = 1.0
# projections that draw a pole at infinity give a large number instead
INFINITE = 1e8
_MOST_REMEMBERED = 256

# these make PROJ open files that the client names
# other text makes PROJ search all names for what is like it, which takes a quarter of a second
_FORMS = re.compile(
    r"[A-Za-z_]\w*:[\w.:-]+|https?://\S+|\d+|\s*\+?proj=.*|\s*[A-Za-z_]+\s*[\[(].*|\s*\{.*",
    re.DOTALL | re.ASCII,
)
_FILE_KEYS = re.compile(r"grids\s*=|init\s*=|file\s*=|parameterfile|\.gtx|\.gsb|\.tif", re.IGNORECASE)


def parse_crs(text: str, parameter: str = "crs") -> CRS:
    """Read a horizontal CRS in any form that PROJ knows; a CURIE may stand in brackets.

    Raises:
        InvalidParameter: PROJ does not know it, or it has no horizontal coordinates.
    """
    try:
        return _parse(text.strip(), parameter)
    except (CRSError, ProjError) as error:
        raise InvalidParameter(
            parameter, f"{text[:80]!r} is no coordinate reference system that PROJ knows.", accepted=ACCEPTED
        ) from error


@functools.lru_cache(maxsize=256)
def _parse(text: str, parameter: str) -> CRS:
    if len(text) > MAX_TEXT or _FILE_KEYS.search(text):
        raise InvalidParameter(
            parameter, "This definition of a CRS refers to files or is too long.", accepted=ACCEPTED
        )
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    bare = "OGC:CRS84" if bare.upper() == "CRS84" else bare
    if not _FORMS.fullmatch(bare):
        raise CRSError(bare)
    crs = CRS.from_user_input(bare)
    if not (crs.is_geographic or crs.is_projected):
        raise InvalidParameter(
            parameter, f"{text[:80]!r} is neither geographic nor projected.", accepted=ACCEPTED
        )
    return crs


def _by_identity(function: Callable[P, T]) -> Callable[P, T]:
    """Remember the results for the last CRS objects: hashing a CRS writes it out as WKT first."""
    results: dict[tuple[int, ...], tuple[object, T]] = {}

    @functools.wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> T:
        key = tuple(map(id, args))
        held = results.get(key)
        if held is None:
            # the arguments stay alive, so that nothing else gets their identity
            held = results[key] = (args, function(*args, **kwargs))
            while len(results) > _MOST_REMEMBERED:
                results.pop(next(iter(results)), None)
        return held[1]

    return remembered


@functools.lru_cache(maxsize=1)
def lonlat() -> CRS:
    """Longitude, then latitude, on WGS 84."""
    return CRS.from_authority("OGC", "CRS84")


@_by_identity
def name_crs(crs: CRS) -> str:
    """Name a CRS by its code, such as `EPSG:32611`, and by its WKT where it has none."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


@_by_identity
def transformer(source: CRS, target: CRS) -> Transformer:
    """Return the transformer between two CRS, x always before y."""
    return Transformer.from_crs(source, target, always_xy=True)


@_by_identity
def same_crs(one: CRS, other: CRS) -> bool:
    """Tell whether two CRS give a place the same x and y."""
    return bool(one.equals(other, ignore_axis_order=True))


@_by_identity
def turn_of(crs: CRS) -> float | None:
    """Return how far x goes until the same places come again; None where it does not go around the Earth.

    It is 360 for longitudes, and the width of the whole Earth in Mercator's projection and its like.
    """
    if crs.is_geographic:
        return 360.0
    longitudes = np.arange(-180.0, 180.0, 30.0)
    try:
        x, y = transformer(lonlat(), crs).transform(*np.meshgrid(longitudes, [0.0, 45.0]))
    except ProjError:
        return None
    if not np.isfinite([x, y]).all():
        return None
    step = float(np.median(np.diff(x)))
    turn = abs(step) * 360 / 30
    if not turn > 0:
        return None
    uneven = np.abs(the_short_way(np.diff(x) - step, turn)).max()
    return turn if max(uneven, np.ptp(y, axis=1).max()) < ROUND_TRIP_METRES else None


def the_short_way(distance: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return distances along an x that goes around the Earth in `turn`: half of it at most."""
    return np.asarray((distance + turn / 2) % turn - turn / 2, float)


def transform_points(
    source: CRS, target: CRS, x: ArrayLike, y: ArrayLike, parameter: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Transform points; x is always the easting or longitude, degrees where geographic.

    Raises:
        InvalidParameter: a point is not on the Earth, or has no place in `target`.
    """
    xs, ys = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
    if source.is_geographic:
        check_degrees(xs, ys, parameter)
    if same_crs(source, target):
        return xs, ys
    try:
        new_x, new_y, known = find_places(source, target, xs, ys)
    except ProjError as error:
        raise _no_place(parameter, source, target) from error
    if not known.all():
        raise _no_place(parameter, source, target)
    return new_x, new_y


def find_places(
    source: CRS, target: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Transform points, and tell which of them have a place in `target`: the others are not finite or wrong.

    Raises:
        ProjError: there is no way from one CRS to the other.
    """
    if same_crs(source, target):
        return x, y, np.isfinite(x) & np.isfinite(y)
    forward = transformer(source, target)
    new_x, new_y = forward.transform(x, y)
    back_x, back_y = forward.transform(new_x, new_y, direction="INVERSE")
    known = np.isfinite(new_x) & np.isfinite(new_y)
    turn = turn_of(source)
    with np.errstate(invalid="ignore"):
        if turn is not None and not source.is_geographic:
            # a place is the same beyond the edge of the map, as with longitudes
            known &= np.abs(x) <= turn
            back_x = x + the_short_way(back_x - x, turn)
        if not target.is_geographic:
            known &= (np.abs(new_x) < INFINITE) & (np.abs(new_y) < INFINITE)
        # far outside its area a projection may fold other parts of the Earth onto the asked ones
        known &= separation(source, x, y, back_x, back_y) < ROUND_TRIP_METRES
    return new_x, new_y, known


def check_degrees(x: NDArray[np.float64], y: NDArray[np.float64], parameter: str) -> None:
    """Refuse longitudes and latitudes that do not exist.

    Raises:
        InvalidParameter: a longitude outside -360 to 360 or a latitude outside -90 to 90.
    """
    if (np.abs(x) > 360).any() or (np.abs(y) > 90).any():
        raise InvalidParameter(
            parameter,
            "The coordinates are longitude, then latitude, in degrees.",
            accepted="longitudes from -180 to 360, latitudes from -90 to 90",
        )


def separation(crs: CRS, x1: ArrayLike, y1: ArrayLike, x2: ArrayLike, y2: ArrayLike) -> NDArray[np.float64]:
    """Return distances between points of one CRS.

    They are metres along the ellipsoid where it is geographic, units of the CRS otherwise, and
    not finite where a coordinate is not.
    """
    if crs.is_geographic:
        return np.asarray(_geod(crs).inv(x1, y1, x2, y2)[2], float)
    return np.hypot(np.asarray(x2, float) - x1, np.asarray(y2, float) - y1)


@functools.lru_cache(maxsize=64)
def _geod(crs: CRS) -> Geod:
    return crs.get_geod() or Geod(ellps="WGS84")


def _no_place(parameter: str, source: CRS, target: CRS) -> InvalidParameter:
    return InvalidParameter(
        parameter,
        f"The coordinates in {_short(source)} are outside the area of use of {_short(target)}.",
    )


def _short(crs: CRS) -> str:
    name = name_crs(crs)
    return name if len(name) < 40 else str(crs.name)
