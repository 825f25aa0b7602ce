import warnings
from decimal import Decimal, localcontext
from fractions import Fraction

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import parse_conditions
from cubegate.query.matching import describe, find_test

OPERATORS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
DAYS = np.array(["2020-01-01", "2020-01-31T23:59:59", "2020-02-01", "NaT", "2021-06-05"], "M8[ns]")


def _match(text, values, **attributes):
    values = np.asarray(values)
    (condition,) = parse_conditions([text], "where")
    return find_test(condition, xr.Variable([f"d{n}" for n in range(values.ndim)], values, attributes))(
        values
    )


def _refused(text, values, **attributes):
    with pytest.raises(InvalidParameter) as caught:
        _match(text, values, **attributes)
    assert caught.value.parameter == "where"
    return caught.value


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=25)
@given(data=st.data())
def test_floats_are_compared_as_they_are_shown(data, operator, dtype):
    shown = data.draw(st.lists(st.decimals(-100, 100, places=1, allow_nan=False), min_size=1, max_size=8))
    values = np.array([float(number) for number in shown] + [np.nan], dtype)
    asked = data.draw(st.sampled_from(shown))
    expected = [OPERATORS[operator](number, asked) for number in shown]
    # the nearest float of each decimal keeps their order, or makes neighbours equal in half precision
    if dtype == "f2":
        expected = [OPERATORS[operator](np.float16(n), np.float16(asked)) for n in shown]
    assert _match(f"a{operator}{asked}", values).tolist() == [*expected, False]


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=50)
@given(data=st.data(), values=npst.arrays(st.sampled_from(["u1", "i2", "i8", "u8", ">i4"]), 5))
def test_integers_are_compared_exactly(operator, data, values):
    limits = np.iinfo(values.dtype)
    near = st.sampled_from([*values.tolist(), int(limits.min), int(limits.max), 0])
    offset = st.sampled_from(
        [Fraction(-1), Fraction(-1, 2), Fraction(0), Fraction(1, 4), Fraction(1), Fraction(10**30)]
    )
    asked = data.draw(near) + data.draw(offset)
    with localcontext(prec=60):
        text = f"{Decimal(asked.numerator) / Decimal(asked.denominator):f}"
    assert Fraction(text) == asked
    expected = [OPERATORS[operator](number, asked) for number in values.tolist()]
    assert _match(f"a{operator}{text}", values).tolist() == expected


def test_nan_never_holds_and_infinity_is_large():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _match("a!=3", values).tolist() == [False, True, True, True, False]
        assert _match("a>1e308", values.astype("f4")).tolist() == [False, True, False, False, False]
        assert _match("a<1e308", values.astype("f4")).tolist() == [False, False, True, True, True]
        assert _match("a", values).tolist() == [False, True, True, False, True]


def test_a_name_alone_is_what_is_not_zero():
    assert _match("a", np.array([[0, 1], [255, 0]], "u1")).tolist() == [[False, True], [True, False]]
    assert _match("a", np.array([True, False])).tolist() == [True, False]
    assert _match("a=1", np.array([True, False])).tolist() == [True, False]
    for values in (DAYS, np.array(["x"]), np.array([1], "m8[s]")):
        _refused("a", values)


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("a<60d", "days", [True, True, False]),
        ("a<=60d", "days", [True, True, True]),
        ("a=1440h", "days", [False, False, True]),
        ("a=1440h", "Day", [False, False, True]),
        ("a<60", "days", [True, True, False]),
        ("a<1h", "minutes", [True, True, False]),
        ("a>=60s", "s", [False, False, True]),
        ("a<60m", "min", [True, True, False]),
        ("a>=2d", "hours", [False, True, True]),
        ("a<.06s", "milliseconds", [True, True, False]),
    ],
)
def test_a_duration_is_converted_to_the_units_of_the_variable(text, units, expected):
    for dtype in ("f4", "f8", "i2"):
        assert _match(text, np.array([12, 48, 60], dtype), units=units).tolist() == expected


@pytest.mark.parametrize(
    "units", ["m", "meter/year", "1", "", "D", "H", "days since 2000-01-01", "ds", "months"]
)
def test_a_duration_is_no_number_of_anything_else(units):
    error = _refused("height<30m", np.array([12.0]), units=units)
    assert "duration" in error.detail


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timedeltas(unit):
    values = np.array([12, 60, 61], "m8[D]").astype(f"m8[{unit}]")
    values = np.append(values, np.timedelta64("NaT", unit))
    assert _match("a<60d", values).tolist() == [True, False, False, False]
    assert _match("a!=60d", values).tolist() == [True, False, True, False]
    assert _match("a>=1440.5h", values).tolist() == [False, False, True, False]
    assert _match("a>-1e300s", values).tolist() == [True, True, True, False]
    _refused("a<60", values)
    _refused("a<'60d'", values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=2020-01", [1, 1, 0, 0, 0]),
        ("a!=2020-01", [0, 0, 1, 0, 1]),
        ("a<2020-01-31", [1, 0, 0, 0, 0]),
        ("a<=2020-01-31", [1, 1, 0, 0, 0]),
        ("a>2020-01", [0, 0, 1, 0, 1]),
        ("a>=2020-02-01T00:00:00Z", [0, 0, 1, 0, 1]),
        ("a>'2020-02-01 00:00'", [0, 0, 0, 0, 1]),
        ("a=2019", [0, 0, 0, 0, 0]),
    ],
)
def test_times(text, expected):
    assert _match(text, DAYS).tolist() == [bool(each) for each in expected]
    calendar = np.array(
        [None if np.isnat(day) else cftime.DatetimeNoLeap(*_fields(day)) for day in DAYS], object
    )
    assert _match(text, calendar).tolist() == [bool(each) for each in expected]


def _fields(day):
    text = str(day.astype("M8[s]"))
    return [int(text[start:end]) for start, end in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))]


@pytest.mark.parametrize(
    "text", ["a=soon", "a=5", "a=60d", "a=2020-02-30", "a='2020/2021'", "a='..'", "a=2020-13"]
)
def test_what_is_no_time(text):
    _refused(text, DAYS)


@pytest.mark.parametrize(
    "values",
    [
        np.array([b"1A", b"1B", b"8", b"1A  ", b"1A\0\0"], "S6"),
        np.array(["1A", "1B", "8", "1A  ", "1A"], "U6"),
        np.array(["1A", "1B", "8", "1A \0", "1A\0"], object),
        np.array([b"1A", "1B", b"8", b"1A \0", "1A"], object),
        np.array(["1A", "1B", "8", "1A ", "1A"], np.dtypes.StringDType()),
    ],
    ids=["bytes", "text", "objects", "mixed", "variable"],
)
def test_texts_are_compared_without_padding(values):
    assert _match("s='1A'", values).tolist() == [True, False, False, True, True]
    assert _match("s=1A", values).tolist() == [True, False, False, True, True]
    assert _match("s!='1A '", values).tolist() == [False, True, True, False, False]
    assert _match("s=8", values).tolist() == [False, False, True, False, False]
    assert not _match("s=1a", values).any()
    for operator in ("<", ">="):
        assert "texts" in _refused(f"s{operator}'1A'", values).detail


def test_a_missing_text_meets_nothing_and_an_empty_one_is_a_text():
    values = np.array(["", None, np.nan, b"\xff", "x"], object)
    assert _match("s!='x'", values).tolist() == [True, False, False, True, False]
    assert _match("s=''", values).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    "text",
    ["a=1A", "a='5'", "a=nan", "a=inf", "a=1e999", "a=1_0", "a=0x1", "a=5w", "a=1e-99999999", "a=\u0665"],
)
def test_what_is_no_number(text):
    _refused(text, np.array([5.0]))
    _refused(text, np.array([5]))


def test_complex_numbers_have_no_order():
    assert "order" in _refused("a>1", np.array([1j])).detail


def test_what_there_is_is_described():
    assert describe(np.array([3.5, np.nan, 1.25], "f4")) == "1.25 to 3.5"
    assert describe(np.array([np.nan])) == "no values"
    assert describe(DAYS) == "2020-01-01T00:00:00Z to 2021-06-05T00:00:00Z"
    assert describe(np.array([b"8", b"1A", b"8 "])) == "'1A', '8'"
    assert describe(np.array([str(n) for n in range(10, 40)], object)).endswith("'21', ...")
