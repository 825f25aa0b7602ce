"""Times of any calendar as ISO 8601 text and as exact integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

_GREGORIAN = ("standard", "gregorian", "proleptic_gregorian")
_EPOCH = "1970-01-01 00:00:00"
_UNITS = {"D": "days", "h": "hours", "m": "minutes", "s": "seconds",
          "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}  # fmt: skip
DURATIONS = frozenset(_UNITS.values())
_COARSENING = (("us", 1000), ("ms", 1000), ("s", 1000), ("m", 60), ("h", 60), ("D", 24))
NOT_A_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class EncodedTimes:
    """Times as CF has them: int64 `numbers` in `units`, where `NOT_A_TIME` is missing."""

    numbers: NDArray[np.int64]
    units: str
    calendar: str


def holds_times(values: NDArray[Any]) -> bool:
    """Tell whether an array holds datetime64 or cftime values."""
    if values.dtype.kind == "O":
        present = (value for value in values.flat if isinstance(value, (str, cftime.datetime)))
        return isinstance(next(present, None), cftime.datetime)
    return values.dtype.kind == "M"


def calendar_of(values: NDArray[Any]) -> str:
    """The CF calendar of an array of times."""
    if values.dtype.kind == "O":
        return next(str(value.calendar) for value in values.flat if isinstance(value, cftime.datetime))
    return "proleptic_gregorian"


def is_gregorian(values: NDArray[Any]) -> bool:
    """Tell whether an array of times follows the civil calendar."""
    return calendar_of(values) in _GREGORIAN


def iso_times(values: NDArray[Any]) -> list[str | None]:
    """Write times such as `2020-01-13T00:00:00Z`, with just the digits that they need; None is missing."""
    if values.dtype.kind == "O":
        return [
            _iso(value.isoformat()) if isinstance(value, cftime.datetime) else None for value in values.flat
        ]
    unit = "s" if np.datetime_data(values.dtype)[0] in ("Y", "M", "W", "D", "h", "m") else "auto"
    texts = np.datetime_as_string(values.reshape(-1), unit=None if unit == "auto" else "s")
    return [None if text == "NaT" else _iso(text) for text in texts.tolist()]


def _iso(text: str) -> str:
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "Z"


def encode_times(values: NDArray[Any]) -> EncodedTimes:
    """Encode times exactly, in the coarsest unit that does."""
    if values.dtype.kind == "O":
        calendar = calendar_of(values)
        unit = "us"
        numbers = _microseconds(values, calendar)
    else:
        calendar = calendar_of(values)
        values, unit = _supported_unit(values)
        numbers = values.astype(np.int64)
    numbers, unit = _coarsen(numbers, unit)
    return EncodedTimes(numbers, f"{_UNITS[unit]} since {_EPOCH}", calendar)


def encode_durations(values: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Encode timedelta64 values exactly as int64 and a unit; `NOT_A_TIME` is missing."""
    values, unit = _supported_unit(values)
    numbers, unit = _coarsen(values.astype(np.int64), unit)
    return numbers, _UNITS[unit]


def sort_key(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers in the order of the times."""
    return encode_times(values).numbers


def _supported_unit(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    unit, count = np.datetime_data(values.dtype)
    if unit in _UNITS and count == 1:
        return values, unit
    unit = unit if unit in _UNITS else "s"
    return values.astype(f"{values.dtype.kind}8[{unit}]"), unit


def _microseconds(values: NDArray[Any], calendar: str) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = np.full(values.shape, NOT_A_TIME, np.int64)
    present = np.array([isinstance(value, cftime.datetime) for value in values.flat], bool).reshape(
        values.shape
    )
    if present.any():
        numbers[present] = cftime.date2num(values[present], f"microseconds since {_EPOCH}", calendar)
    return numbers


def _coarsen(numbers: NDArray[np.int64], unit: str) -> tuple[NDArray[np.int64], str]:
    steps: Iterable[tuple[str, int]] = _COARSENING
    order = ["ns", *(name for name, _ in _COARSENING)]
    present = numbers[numbers != NOT_A_TIME]
    for coarser, factor in list(steps)[order.index(unit) :]:
        if present.size and (present % factor).any():
            break
        present = present // factor
        numbers = np.where(numbers == NOT_A_TIME, NOT_A_TIME, numbers // factor)
        unit = coarser
    return numbers, unit
