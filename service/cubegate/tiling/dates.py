"""The date that a picture shows: one of the cube's own, and never another than the asked one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.formats.times import iso_times
from cubegate.query.interval import Instant, Interval, iso, parse_interval
from cubegate.tiling.layers import Layer

_NAMED = 2
_MOST_NAMED = 6
_PERIODS = {
    "P{}D": np.timedelta64(1, "D"),
    "PT{}H": np.timedelta64(1, "h"),
    "PT{}S": np.timedelta64(1, "s"),
}


def choose_date(layer: Layer, text: str | None) -> Any:
    """Return the one date of a layer that lies inside an instant or interval; the latest without a text.

    None where the layer has no dates.

    Raises:
        InvalidParameter: the text is malformed, or no date lies inside, or several do.
    """
    times = layer.times
    if times is None and layer.steps > 1:
        raise InvalidParameter(
            "datetime",
            f"The dates of {layer.name!r} could not be decoded, so none of them can be drawn.",
            accepted="another variable",
        )
    if text is None:
        return None if times is None else times[-1]
    interval = parse_interval(text)
    if times is None:
        raise InvalidParameter(
            "datetime", f"The variable {layer.name!r} has no dates.", accepted="no datetime"
        )
    found = interval.select(times)
    if found.size == 1:
        return times[found[0]]
    if found.size:
        shown = [iso(times[number]) for number in found[:_MOST_NAMED]]
        more = ", ..." if found.size > _MOST_NAMED else ""
        raise InvalidParameter(
            "datetime",
            f"A picture shows one date, and {found.size} lie inside {text[:80]}.",
            accepted=f"one of {', '.join(shown)}{more}",
        )
    raise InvalidParameter(
        "datetime", f"The cube has no date {text[:80]}.", accepted=f"the nearest: {_nearest(times, interval)}"
    )


def _nearest(times: NDArray[Any], interval: Interval) -> str:
    """Name the last dates before an interval, and the first after it."""
    start = interval.start or interval.end
    first = 0 if start is None else int(Interval(None, _just(start)).select(times).size)
    return ", ".join(iso(time) for time in times[max(0, first - _NAMED) : first + _NAMED])


def _just(instant: Instant) -> Instant:
    """The first second of an instant."""
    return Instant(instant.first(), instant.nanosecond, instant.digits, instant.offset)


def describe_dates(times: NDArray[Any]) -> str:
    """Name all dates, as start/end/period where they are whole days, hours or seconds apart."""
    period = _period(times)
    if period:
        return f"{iso(times[0])}/{iso(times[-1])}/{period}"
    return ",".join(text for text in iso_times(times) if text is not None)


def _period(times: NDArray[Any]) -> str:
    if len(times) < 3 or times.dtype.kind != "M":
        return ""
    steps = np.diff(times)
    if (steps != steps[0]).any():
        return ""
    for sign, unit in _PERIODS.items():
        count = int(steps[0] / unit)
        if count and count * unit == steps[0]:
            return sign.format(count)
    return ""
