"""Where the values of a variable meet a condition: numbers, durations, times and texts, each exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cftime
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import Condition
from cubegate.query.interval import Interval, iso, parse_interval

Test = Callable[[NDArray[Any]], NDArray[np.bool_]]

# an exponent of three digits bounds what exact arithmetic costs
_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)([dhms]?)", re.ASCII)
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
# as UDUNITS calls them, where `m` is metres
_UNITS: dict[str, int | Fraction] = {
    "week": 604_800, "day": 86_400, "d": 86_400, "hour": 3_600, "hr": 3_600, "hrs": 3_600, "h": 3_600,
    "minute": 60, "min": 60, "second": 1, "sec": 1, "s": 1, "millisecond": Fraction(1, 10**3),
    "ms": Fraction(1, 10**3), "microsecond": Fraction(1, 10**6), "us": Fraction(1, 10**6),
    "nanosecond": Fraction(1, 10**9), "ns": Fraction(1, 10**9),
}  # fmt: skip
_TICKS: dict[str, int | Fraction] = {"W": 604_800, "D": 86_400, **_UNITS, "m": 60}
_NAMED_TEXTS = 12


def find_test(condition: Condition, variable: xr.Variable) -> Test:
    """Return the function that marks where values of `variable` meet `condition`; missing ones never do.

    A number is compared after it was rounded to the type of a floating variable, so `=0.6` is met
    where an answer shows 0.6; a time abbreviates a period, as in `datetime`; a text is compared
    without NUL and spaces at its end.

    Raises:
        InvalidParameter: the variable cannot be compared with the value.
    """
    kind = variable.dtype.kind
    if kind in "biuf":
        return _test_numbers(condition, variable)
    if kind == "m":
        return _test_durations(condition)
    if kind == "M":
        return _test_times(condition)
    if kind in "SUT":
        return _test_texts(condition)
    if kind == "O":
        return lambda values: (_test_times if _is_calendar(values) else _test_texts)(condition)(values)
    raise condition.refused(f"{condition.variable!r} holds {variable.dtype} values, which have no order.")


def describe(values: NDArray[Any]) -> str:
    """Say what values there are, for messages."""
    kind = values.dtype.kind
    if kind in "SUTO" and not _is_calendar(values):
        texts = sorted({text for text in _texts(values) if text is not None})
        more = ", ..." if len(texts) > _NAMED_TEXTS else ""
        return ", ".join(repr(text[:80]) for text in texts[:_NAMED_TEXTS]) + more
    present = values[~_missing(values)]
    if not present.size:
        return "no values"
    least, most = present.min(), present.max()
    return f"{iso(least)} to {iso(most)}" if kind in "MO" else f"{least} to {most}"


def _test_numbers(condition: Condition, variable: xr.Variable) -> Test:
    if not condition.operator:
        return lambda values: np.asarray((values != 0) & ~_missing(values))
    number, unit = _read_number(condition)
    if unit:
        number *= _SECONDS[unit] / _unit_of(condition, variable)
    if variable.dtype.kind == "f":
        return lambda values: _compare_floats(values, condition.operator, number)
    return lambda values: _compare_whole(values, condition.operator, number)


def _test_durations(condition: Condition) -> Test:
    number, unit = _read_number(condition)
    if not unit:
        raise condition.refused("The variable holds durations.", f"{condition.value}d, h, m or s")

    def test(values: NDArray[Any]) -> NDArray[np.bool_]:
        tick, count = np.datetime_data(values.dtype)
        ticks = number * _SECONDS[unit] / Fraction(_TICKS[tick] * count)
        return _compare_whole(values.astype(np.int64), condition.operator, ticks) & ~_missing(values)

    return test


def _test_times(condition: Condition) -> Test:
    if not condition.operator or "/" in condition.value:
        raise condition.refused("The variable holds times.", f"{condition.variable}>=2020-01-31")
    instant = parse_interval(condition.value, condition.parameter).start
    whole, until, since = Interval(instant, instant), Interval(None, instant), Interval(instant, None)
    inside = {"=": whole, "!=": whole, "<=": until, ">": until, ">=": since, "<": since}[condition.operator]
    negated = condition.operator in ("!=", ">", "<")

    def test(values: NDArray[Any]) -> NDArray[np.bool_]:
        present = ~_missing(values)
        try:
            found = np.flatnonzero(present)[inside.select(values[present])]
        except InvalidParameter as error:
            raise condition.refused(error.detail) from error
        holds = np.zeros(values.shape, bool)
        holds.reshape(-1)[found] = True
        return present & ~holds if negated else holds

    return test


def _test_texts(condition: Condition) -> Test:
    if condition.operator not in ("=", "!="):
        raise condition.refused("The variable holds texts.", f"{condition.variable}='text', or with !=")
    asked = condition.value.rstrip("\0 ")

    def test(values: NDArray[Any]) -> NDArray[np.bool_]:
        texts = _texts(values)
        wanted = condition.operator == "="
        holds = [text is not None and (text == asked) is wanted for text in texts]
        return np.array(holds, bool).reshape(values.shape)

    return test


def _read_number(condition: Condition) -> tuple[Fraction, str]:
    match = None if condition.quoted else _NUMBER.fullmatch(condition.value)
    if match is None or not math.isfinite(float(match[1])):
        wanted = f"{condition.variable}<60" if condition.operator else f"{condition.variable}<60d"
        problem = f"{condition.value[:80]!r} is no number." if condition.operator else "There is no value."
        raise condition.refused(problem, f"a number, as in {wanted}")
    return Fraction(match[1]), match[2]


def _unit_of(condition: Condition, variable: xr.Variable) -> Fraction:
    """The length in seconds of the unit of a variable of numbers."""
    named = str(variable.attrs.get("units", "")).strip()
    # symbols mean something else in another case or with an s: H is henry, ds a tenth of a second
    seconds = _UNITS.get(named if len(named) < 3 else re.sub("(?<=...)s$", "", named.lower()))
    if seconds is None:
        known = f"is in {named[:80]!r}" if named else "has no units"
        raise condition.refused(
            f"{condition.variable!r} {known}, so it cannot be compared with a duration.", "a plain number"
        )
    return Fraction(seconds)


def _compare_floats(values: NDArray[Any], operator: str, number: Fraction) -> NDArray[np.bool_]:
    try:
        wide = np.float64(float(number))
    except OverflowError:
        wide = np.float64(math.copysign(math.inf, number))
    with np.errstate(over="ignore"):
        rounded = values.dtype.type(wide)
    bound = rounded if np.isfinite(rounded) else wide
    return np.asarray(_COMPARE[operator](values, bound) & ~_missing(values))


def _compare_whole(values: NDArray[Any], operator: str, number: Fraction) -> NDArray[np.bool_]:
    """Compare integers or truth values with an exact number, which need not be whole."""
    values = values.view(np.uint8) if values.dtype.kind == "b" else values
    if number.denominator != 1 and operator in ("=", "!="):
        return np.full(values.shape, operator == "!=")
    bound = math.ceil(number) if operator in ("<", ">=") else math.floor(number)
    limits = np.iinfo(values.dtype)
    if not limits.min <= bound <= limits.max:
        above = bound > limits.max
        return np.full(values.shape, operator == "!=" or operator in (("<", "<=") if above else (">", ">=")))
    return np.asarray(_COMPARE[operator](values, values.dtype.type(bound)))


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind in "fMm":
        return np.asarray(values != values)  # noqa: PLR0124 - NaN and NaT alone differ from themselves
    if values.dtype.kind == "O":
        marks = [not isinstance(value, cftime.datetime) for value in values.flat]
        return np.array(marks, bool).reshape(values.shape)
    return np.zeros(values.shape, bool)


def _is_calendar(values: NDArray[Any]) -> bool:
    """Tell whether the objects are times of a calendar."""
    return values.dtype.kind == "O" and any(isinstance(value, cftime.datetime) for value in values.flat)


def _texts(values: NDArray[Any]) -> list[str | None]:
    """The texts of an array, in order, without padding; None is missing."""
    found: list[str | None] = []
    for value in values.reshape(-1).tolist():
        if isinstance(value, bytes):
            # what is no UTF-8 stays what it is, and equals no text
            found.append(value.decode(errors="surrogateescape").rstrip("\0 "))
        else:
            found.append(value.rstrip("\0 ") if isinstance(value, str) else None)
    return found
