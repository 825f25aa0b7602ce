"""The CRS of a result, and the names that standards have for it."""

from __future__ import annotations

import pyproj
from pyproj.exceptions import CRSError

from cubegate.errors import NotAcceptable
from cubegate.formats.output import Result

_CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


def read_crs(result: Result) -> pyproj.CRS:
    """The CRS of x and y.

    Raises:
        NotAcceptable: the result has none that can be written down.
    """
    try:
        return pyproj.CRS.from_user_input(result.crs)
    except CRSError as error:
        raise NotAcceptable(
            "The dataset has no coordinate reference system that this format can name."
        ) from error


def known_crs(result: Result) -> pyproj.CRS | None:
    """The CRS of x and y, None where the dataset has none.

    Raises:
        NotAcceptable: it has one that cannot be written down.
    """
    return read_crs(result) if result.crs else None


def crs_uri(crs: pyproj.CRS) -> str | None:
    """The OGC address of a CRS; None where it has no code.

    WGS 84 is CRS84, since x is the longitude here.
    """
    authority = crs.to_authority(min_confidence=100)
    if authority in (("EPSG", "4326"), ("OGC", "CRS84")):
        return _CRS84
    if authority is None:
        return None
    return f"http://www.opengis.net/def/crs/{authority[0]}/0/{authority[1]}"


def axis_order(crs: pyproj.CRS) -> list[str]:
    """The identifiers x and y in the order in which the definition of the CRS has its axes."""
    if crs_uri(crs) == _CRS84 or len(crs.axis_info) < 2:
        return ["x", "y"]
    first, second = crs.axis_info[:2]
    northing = first.direction in ("north", "south") and second.direction in ("east", "west")
    return ["y", "x"] if northing or (first.abbrev, second.abbrev) == ("N", "E") else ["x", "y"]
