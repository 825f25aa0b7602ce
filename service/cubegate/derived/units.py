"""Units of velocities as data producers write them."""

from __future__ import annotations

import re
from typing import NamedTuple

_LENGTHS = {"mm": 1e-3, "millimeter": 1e-3, "millimetre": 1e-3, "cm": 1e-2, "centimeter": 1e-2,
            "centimetre": 1e-2, "m": 1.0, "meter": 1.0, "metre": 1.0, "km": 1e3, "kilometer": 1e3,
            "kilometre": 1e3}  # fmt: skip
_TIMES = {"year": "year", "years": "year", "yr": "year", "y": "year", "a": "year", "day": "day",
          "days": "day", "d": "day", "s": "s", "second": "s", "seconds": "s", "sec": "s"}  # fmt: skip
_VELOCITY = re.compile(
    r"(?P<length>[a-z]+?)s?\s*(?:(?:/|\bper\b)\s*(?P<over>[a-z]+)|[\s.*]\s*(?P<inverse>[a-z]+)\s*(?:\^|\*\*)?-1)",
    re.IGNORECASE,
)


class VelocityUnit(NamedTuple):
    """A unit of velocity: its length in metres, and its unit of time (year, day or s)."""

    metres: float
    time: str


def parse_velocity_unit(text: str) -> VelocityUnit | None:
    """Read a unit such as m/year, meter/year, m yr-1 or cm/day; None where it is no unit of velocity."""
    match = _VELOCITY.fullmatch(text.strip()[:80])
    if match is None:
        return None
    length, time = match["length"].lower(), (match["over"] or match["inverse"]).lower()
    if length not in _LENGTHS or time not in _TIMES:
        return None
    return VelocityUnit(_LENGTHS[length], _TIMES[time])
