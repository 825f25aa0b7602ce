"""Instants, dates and open-ended intervals of RFC 3339, matched against times of any CF calendar."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter

ACCEPTED = "2020-01-31, 2020-01, 2020, 2020-01-31T12:00:00Z, or an interval start/end, start/.., ../end"
_PATTERN = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:?\d\d)?)?)?)?"
)
_UNITS = ("year", "month", "day", "hour", "minute", "second", "fraction")
_NANOSECONDS = {"W": 604_800 * 10**9, "D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9,
                "ms": 10**6, "us": 10**3, "ns": 1}  # fmt: skip


@dataclass(frozen=True)
class Instant:
    """A time as written; it means the whole period that its last digit leaves open.

    `fields` are year, month, day, hour, minute and second, as many as were written;
    `nanosecond` and `digits` are the fraction; `offset` is minutes east of UTC.
    """

    fields: tuple[int, ...]
    nanosecond: int = 0
    digits: int = 0
    offset: int = 0

    def first(self) -> tuple[int, ...]:
        """All six fields of the beginning."""
        return self.fields + (1, 1, 1, 0, 0, 0)[len(self.fields) :]


@dataclass(frozen=True)
class Interval:
    """From `start` to `end`, both included with all that they abbreviate; None is open."""

    start: Instant | None
    end: Instant | None

    def select(self, times: NDArray[Any]) -> NDArray[np.intp]:
        """Return the indices of the times inside, in their own order.

        Args:
            times: datetime64 or cftime values of one calendar; missing ones are never inside.

        Raises:
            InvalidParameter: a date does not exist in the calendar, or the values are no times.
        """
        if times.dtype.kind == "M":
            return self._select_datetime64(times)
        if times.size and times.dtype.kind == "O" and all(isinstance(t, cftime.datetime) for t in times):
            return self._select_cftime(times)
        if not times.size:
            return np.zeros(0, np.intp)
        raise InvalidParameter(
            "datetime", "The times of this dataset could not be decoded, so none can be asked for."
        )

    def _select_datetime64(self, times: NDArray[Any]) -> NDArray[np.intp]:
        unit, count = np.datetime_data(times.dtype)
        step = _NANOSECONDS.get(unit, 0) * count
        if not step:
            times, step = times.astype("datetime64[s]"), 10**9
        ticks, inside = times.astype(np.int64), ~np.isnat(times)
        # whole numbers, since NumPy compares different units with a silent overflow
        if self.start is not None:
            inside &= ticks >= _clamp(-(-_nanoseconds(self.start) // step))
        if self.end is not None:
            inside &= ticks <= _clamp(-(-_nanoseconds(self.end, after=True) // step) - 1)
        return np.flatnonzero(inside)

    def _select_cftime(self, times: NDArray[Any]) -> NDArray[np.intp]:
        inside = np.ones(times.shape, bool)
        if self.start is not None:
            inside &= (times >= _calendar_bounds(self.start, times[0])[0]).astype(bool)
        if self.end is not None:
            inside &= (times < _calendar_bounds(self.end, times[0])[1]).astype(bool)
        return np.flatnonzero(inside)


def parse_interval(text: str, parameter: str = "datetime") -> Interval:
    """Read one instant, date, month or year, or an interval of two of them; an end may be open.

    Raises:
        InvalidParameter: it is malformed, or ends before it starts.
    """
    start, slash, end = text.strip().partition("/")
    if not slash:
        instant = _parse_instant(start, text, parameter)
        return Interval(instant, instant)
    ends = [None if part in ("", "..") else _parse_instant(part, text, parameter) for part in (start, end)]
    if ends[0] is not None and ends[1] is not None and _order(ends[0]) > _order(ends[1], last=True):
        raise InvalidParameter(
            parameter, f"The interval {text[:80]!r} ends before it starts.", accepted=ACCEPTED
        )
    return Interval(ends[0], ends[1])


def _parse_instant(part: str, text: str, parameter: str) -> Instant:
    match = _PATTERN.fullmatch(part) if part.isascii() else None
    if match is None:
        raise InvalidParameter(
            parameter, f"{text[:80]!r} is neither a time nor an interval.", accepted=ACCEPTED
        )
    fields = tuple(int(match[unit]) for unit in _UNITS[:6] if match[unit] is not None)
    limits = ((0, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
    if any(not low <= value <= high for value, (low, high) in zip(fields, limits, strict=False)):
        raise InvalidParameter(
            parameter, f"{text[:80]!r} has a field that is out of range.", accepted=ACCEPTED
        )
    fraction, zone = match["fraction"] or "", (match["zone"] or "Z").upper()
    offset = 0
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            raise InvalidParameter(parameter, f"{text[:80]!r} has no possible offset.", accepted=ACCEPTED)
        offset = (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)
    return Instant(fields, int(fraction.ljust(9, "0")), len(fraction), offset)


def _order(instant: Instant, *, last: bool = False) -> tuple[int, ...]:
    # only as good as any calendar allows; an interval that slips through matches nothing
    unwritten = (
        (12, 31, 23, 59, 59)[len(instant.fields) - 1 :] if last else instant.first()[len(instant.fields) :]
    )
    fields = (*instant.fields, *unwritten)
    minutes = (
        (((fields[0] * 12 + fields[1]) * 31 + fields[2]) * 24 + fields[3]) * 60 + fields[4] - instant.offset
    )
    period = 10 ** (9 - instant.digits) - 1 if last else 0
    return minutes, fields[5], instant.nanosecond + period


def _nanoseconds(instant: Instant, *, after: bool = False) -> int:
    """Nanoseconds since 1970 of the beginning, or of the beginning of what comes `after`."""
    year, month, day, hour, minute, second = instant.first()
    try:
        first = np.datetime64(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", "s")
    except ValueError:
        raise _no_such_date(instant, "civil") from None
    seconds = int(first.astype(np.int64))
    if after and len(instant.fields) < 3:
        period = np.timedelta64(12 if len(instant.fields) == 1 else 1, "M")
        months = np.datetime64(f"{year:04}-{month:02}", "M") + period
        seconds = int(months.astype("datetime64[s]").astype(np.int64))
    total = (seconds - instant.offset * 60) * 10**9 + instant.nanosecond
    return total + (_period(instant) if after and len(instant.fields) >= 3 else 0)


def _period(instant: Instant) -> int:
    if len(instant.fields) == 6:
        return int(10 ** (9 - instant.digits))
    return {3: 86_400, 4: 3_600, 5: 60}[len(instant.fields)] * 10**9


def _calendar_bounds(instant: Instant, sample: cftime.datetime) -> tuple[cftime.datetime, cftime.datetime]:
    """The beginning of the instant, and of what comes after it, in the calendar of `sample`."""
    fields = instant.first()
    try:
        first = _calendar_time(fields, sample)
        if len(instant.fields) == 1:
            after = _calendar_time((fields[0] + 1, 1, 1, 0, 0, 0), sample)
        elif len(instant.fields) == 2:
            after = _calendar_time((fields[0] + fields[1] // 12, fields[1] % 12 + 1, 1, 0, 0, 0), sample)
        else:
            # cftime counts microseconds
            last = max((instant.nanosecond + _period(instant)) // 1000, instant.nanosecond // 1000 + 1)
            after = first + dt.timedelta(microseconds=last)
    except ValueError:
        raise _no_such_date(instant, str(sample.calendar)) from None
    offset = dt.timedelta(minutes=instant.offset)
    return first + dt.timedelta(microseconds=instant.nanosecond // 1000) - offset, after - offset


def _calendar_time(fields: tuple[int, ...], sample: cftime.datetime) -> cftime.datetime:
    return cftime.datetime(*fields, calendar=sample.calendar, has_year_zero=sample.has_year_zero)


def _no_such_date(instant: Instant, calendar: str) -> InvalidParameter:
    date = "-".join(f"{field:02}" for field in instant.fields[:3])
    return InvalidParameter("datetime", f"{date} does not exist in the {calendar} calendar of this dataset.")


def _clamp(value: int) -> int:
    limits = np.iinfo(np.int64)
    return max(limits.min + 1, min(limits.max, value))


def order_times(times: NDArray[Any]) -> NDArray[np.intp] | None:
    """Return the stable order of times, missing ones last; None where they are in order already."""
    if times.size < 2 or times.dtype.kind not in "MOiuf":
        return None
    order = np.argsort(times, kind="stable")
    return None if (order == np.arange(order.size)).all() else order


def iso(time: Any) -> str:
    """Write one time such that `parse_interval` reads it back."""
    if isinstance(time, cftime.datetime):
        return f"{time.isoformat()}Z"
    text = str(
        np.datetime_as_string(np.datetime64(time, "s") if np.datetime_data(time)[0] in "YMWDhm" else time)
    )
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "Z"
