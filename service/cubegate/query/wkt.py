"""Well-known text of points, lines and polygons, as the coordinates of a query have it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter

MAX_TEXT = 200_000
_TAG = re.compile(r"\s*([A-Z]+?)\s*(ZM|Z|M)?\s*(\(.*\))\s*", re.IGNORECASE | re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# how many lists the positions stand in
_DEPTHS = {"POINT": 0, "MULTIPOINT": 1, "LINESTRING": 1, "POLYGON": 2, "MULTIPOLYGON": 3}

Positions = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """One geometry.

    Attributes:
        kind: POINT, MULTIPOINT, LINESTRING, POLYGON or MULTIPOLYGON.
        dims: which numbers a position has after x and y: nothing, Z, M or ZM.
        parts: for each polygon its rings, for others one list of one; positions are of shape (n, 2 to 4).
    """

    kind: str
    dims: str
    parts: tuple[tuple[Positions, ...], ...]

    @property
    def positions(self) -> Positions:
        """All positions of points or of a line."""
        return self.parts[0][0]


def parse_wkt(text: str, kinds: Sequence[str], parameter: str = "coords") -> Geometry:
    """Read a geometry of one of `kinds`; a Z or M that is not announced is taken from the count of numbers.

    Raises:
        InvalidParameter: it is malformed, empty, of another kind, or a number is not finite.
    """
    accepted = " or ".join(_FORMS[kind] for kind in kinds)
    match = _TAG.fullmatch(text) if len(text) <= MAX_TEXT else None
    kind = match[1].upper() if match else ""
    if match is None or kind not in kinds:
        shown = ", ".join(kinds)
        raise InvalidParameter(
            parameter, f"{text[:80]!r} is no well-known text of {shown}.", accepted=accepted
        )
    try:
        parts, size = _read(match[3], kind)
    except ValueError as error:
        raise InvalidParameter(parameter, f"{text[:80]!r}: {error}.", accepted=accepted) from None
    dims = (match[2] or "").upper() or {2: "", 3: "Z", 4: "ZM"}[size]
    if len(dims) != size - 2:
        raise InvalidParameter(
            parameter,
            f"{text[:80]!r}: positions of {kind} {dims} have {2 + len(dims)} numbers.",
            accepted=accepted,
        )
    return Geometry(kind, dims, parts)


_FORMS = {
    "POINT": "POINT(x y)",
    "MULTIPOINT": "MULTIPOINT((x y),(x y))",
    "LINESTRING": "LINESTRING(x y,x y), also LINESTRINGM(x y m,x y m) with m in seconds since 1970",
    "POLYGON": "POLYGON((x y,x y,x y,x y))",
    "MULTIPOLYGON": "MULTIPOLYGON(((x y,x y,x y,x y)))",
}


def _read(text: str, kind: str) -> tuple[tuple[tuple[Positions, ...], ...], int]:
    lists = [ring for polygon in _split(text, _DEPTHS[kind]) for ring in polygon]
    sizes = {ring.shape[1] for ring in lists}
    if len(sizes) != 1:
        raise ValueError("its positions differ in how many numbers they have")
    if kind == "LINESTRING" and len(lists[0]) < 2:
        raise ValueError("a line has two positions at least")
    if "POLYGON" in kind:
        for ring in lists:
            if len(ring) < 4 or (ring[0] != ring[-1]).any():
                raise ValueError("a ring has four positions at least, and ends where it starts")
    return _split(text, _DEPTHS[kind]), sizes.pop()


def _split(text: str, depth: int) -> tuple[tuple[Positions, ...], ...]:
    if depth == 3:
        return tuple(tuple(map(_positions, _items(polygon))) for polygon in _items(text))
    if depth == 2:
        return (tuple(map(_positions, _items(text))),)
    # MULTIPOINT may have each of its points in parentheses of its own
    bare = re.sub(r"\(\s*([^()]*?)\s*\)", r"\1", text.strip()[1:-1]) if depth == 1 else text.strip()[1:-1]
    return ((_positions(f"({bare})"),),)


def _items(text: str) -> list[str]:
    """The parts in parentheses of a list in parentheses."""
    inner = text.strip()[1:-1]
    found, depth, start = [], 0, 0
    for index, character in enumerate(inner):
        if character == "(":
            if depth == 0:
                start = index
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                found.append(inner[start : index + 1])
            if depth < 0:
                break
        elif depth == 0 and character not in ", \t\n":
            depth = -1
            break
    if depth != 0 or not found:
        raise ValueError("its parentheses do not fit")
    return found


def _positions(text: str) -> Positions:
    inner = text.strip()
    if not (inner.startswith("(") and inner.endswith(")")) or "(" in inner[1:] or ")" in inner[:-1]:
        raise ValueError("its parentheses do not fit")
    rows = [part.split() for part in inner[1:-1].split(",")]
    if any(not _NUMBER.fullmatch(number) for row in rows for number in row):
        raise ValueError("it has something else than numbers")
    sizes = {len(row) for row in rows}
    if len(sizes) != 1 or not 2 <= next(iter(sizes)) <= 4:
        raise ValueError("each position has two numbers, or three, or four")
    numbers = [[float(number) for number in row] for row in rows]
    if not all(math.isfinite(number) for row in numbers for number in row):
        raise ValueError("a number is too large")
    return np.array(numbers, np.float64)
