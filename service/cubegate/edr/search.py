"""Which collections a search asks for: by place, time and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cubegate.edr.description import Description
from cubegate.errors import InvalidParameter
from cubegate.query.crs import Bounds
from cubegate.query.footprint import may_meet
from cubegate.query.interval import Interval, parse_interval
from cubegate.query.parameters import Parameter, parse_number

BBOX = Parameter(
    "bbox",
    "Only cubes that the box may meet, west,south,east,north in degrees, or six numbers with heights; one "
    "with its west in the east crosses the antimeridian.",
    "-118.3,34,-118.1,34.2",
)
DATETIME = Parameter(
    "datetime",
    "Only cubes whose times, from the first to the last, meet a time or interval.",
    "2020-01-01/..",
)
WORDS = Parameter("q", "Only cubes of which any of these texts, separated by commas, is told.", "ice,snow")


@dataclass(frozen=True)
class Search:
    """What is asked for; None and an empty tuple are anything."""

    box: Bounds | None = None
    interval: Interval | None = None
    words: tuple[str, ...] = ()

    def finds(self, cube: Description, text: str = "") -> bool:
        """Tell whether a cube is meant, of which `text` is told; what is nowhere or at no time always is."""
        return self._is_there(cube) and self._is_then(cube) and self._is_told(text)

    def _is_there(self, cube: Description) -> bool:
        if cube.box is None:
            return True
        west, south, east, north = cube.box
        return may_meet((west, south, east + 360 * (east < west), north), self.box)

    def _is_then(self, cube: Description) -> bool:
        if self.interval is None or not cube.times or not cube.gregorian:
            return True
        ends = np.array([text.rstrip("Z") for text in (cube.times[0], cube.times[-1])], "M8[us]")
        begun = Interval(None, self.interval.end).select(ends[:1]).size
        return bool(begun and Interval(self.interval.start, None).select(ends[1:]).size)

    def _is_told(self, text: str) -> bool:
        return not self.words or any(word in text.casefold() for word in self.words)


def read_search(given: Mapping[str, str]) -> Search:
    """Read the parameters of a search.

    Raises:
        InvalidParameter: one is malformed.
    """
    interval = parse_interval(given[DATETIME.name]) if DATETIME.name in given else None
    words = tuple(word.strip().casefold() for word in given.get(WORDS.name, "").split(",") if word.strip())
    return Search(_read_box(given[BBOX.name]) if BBOX.name in given else None, interval, words)


def _read_box(text: str) -> Bounds:
    accepted = "west,south,east,north in degrees, or west,south,lowest,east,north,highest"
    parts = text.split(",")
    if len(parts) not in (4, 6):
        raise InvalidParameter(
            BBOX.name, f"{text[:80]!r} is neither four nor six numbers.", accepted=accepted
        )
    numbers = [parse_number(part, BBOX.name) for part in parts]
    if len(numbers) == 6:
        del numbers[5], numbers[2]
    west, south, east, north = numbers
    if not (-90 <= south <= north <= 90 and -360 <= west <= 540 and -360 <= east <= 540):
        raise InvalidParameter(BBOX.name, f"{text[:80]!r} is no box on Earth.", accepted=accepted)
    return west, south, west + (east - west) % 360 if east < west else east, north
