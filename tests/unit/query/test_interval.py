import cftime
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.errors import InvalidParameter
from cubegate.query.interval import iso, order_times, parse_interval

DAYS = pd.date_range("2019-11-01", "2021-03-01", freq="1D")
HOURS = pd.date_range("2020-01-01", "2020-01-03", freq="15min")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "text",
    ["2020-01-05", "2020-01", "2020", "2020-01-05/2020-02-10", "2020-01/2020-03", "../2020", "2020-06/..", "/2020-01-01",
     "2020-12-31/", "../..", "2019-12/2020"],
)  # fmt: skip
def test_dates_select_what_pandas_partial_strings_select(text, unit):
    start, slash, end = text.partition("/")
    ends = [None if part in ("", "..") else part for part in (start, end if slash else start)]
    expected = pd.Series(np.arange(len(DAYS)), DAYS).loc[slice(*ends)].to_numpy()
    found = parse_interval(text).select(DAYS.to_numpy().astype(f"datetime64[{unit}]"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2020-01-01T12:00:00Z", "2020-01-01T12:00", "2020-01-01T12:00"),
        ("2020-01-01T12:00:00.000Z/2020-01-01T13:30:00Z", "2020-01-01T12:00", "2020-01-01T13:30"),
        ("2020-01-01T12:00:00+02:00/2020-01-01T12:00:00-01:30", "2020-01-01T10:00", "2020-01-01T13:30"),
        ("2020-01-01t12:00z", "2020-01-01T12:00", "2020-01-01T12:00"),
        ("2020-01-01T12:00/2020-01-01T13:00", "2020-01-01T12:00", "2020-01-01T13:00"),
    ],
)
def test_instants_and_offsets(text, first, last):
    found = HOURS[parse_interval(text).select(HOURS.to_numpy())]
    assert (found[0], found[-1]) == (pd.Timestamp(first), pd.Timestamp(last))


def test_a_written_second_means_all_of_its_fractions():
    times = np.array(
        ["2020-01-01T12:00:00.0", "2020-01-01T12:00:00.75", "2020-01-01T12:00:01"], "datetime64[ns]"
    )
    assert parse_interval("2020-01-01T12:00:00Z").select(times).tolist() == [0, 1]
    assert parse_interval("2020-01-01T12:00:00.75Z").select(times).tolist() == [1]


def test_irregular_unsorted_and_duplicated_times_keep_their_order_and_missing_ones_are_out():
    times = np.array(["2020-03-01", "2020-01-01", "NaT", "2020-03-01", "2019-01-01"], "datetime64[ns]")
    assert parse_interval("2020").select(times).tolist() == [0, 1, 3]
    assert parse_interval("../..").select(times).tolist() == [0, 1, 3, 4]
    assert order_times(times).tolist() == [4, 1, 0, 3, 2]
    assert order_times(np.sort(times[[0, 1]])) is None


def test_years_beyond_the_range_of_nanoseconds_do_not_wrap():
    times = np.array(["2020-01-01"], "datetime64[ns]")
    assert parse_interval("0001/9999").select(times).tolist() == [0]
    assert parse_interval("9000/..").select(times).tolist() == []
    assert parse_interval("../0001").select(times).tolist() == []


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "all_leap"])
def test_other_calendars_select_by_their_own_dates(calendar):
    times = cftime.num2date(np.arange(0, 800), "days since 2000-01-01", calendar)
    found = times[parse_interval("2000-02/2001-02-28").select(times)]
    expected = [t for t in times if (2000, 2, 1) <= (t.year, t.month, t.day) <= (2001, 2, 28)]
    assert found.tolist() == expected
    assert times[parse_interval("2001").select(times)].tolist() == [t for t in times if t.year == 2001]
    december = times[parse_interval("2000-12").select(times)]
    assert december.tolist() == [t for t in times if (t.year, t.month) == (2000, 12)]


def test_a_date_is_judged_by_the_calendar_of_the_times():
    times = cftime.num2date(np.arange(0, 720), "days since 2000-01-01", "360_day")
    assert parse_interval("2000-02-30").select(times).size == 1
    with pytest.raises(InvalidParameter, match="360_day"):
        parse_interval("2000-01-31").select(times)
    with pytest.raises(InvalidParameter, match="does not exist"):
        parse_interval("2000-02-30").select(DAYS.to_numpy())


def test_cftime_instants_and_fractions():
    times = cftime.num2date(np.arange(0, 48) * 0.5, "hours since 2001-02-28", "noleap")
    found = times[parse_interval("2001-02-28T12:00:00Z/2001-03-01T00:00:00Z").select(times)]
    assert (found[0].hour, found[-1].hour, found[-1].minute, len(found)) == (12, 23, 30, 24)
    shifted = times[parse_interval("2001-02-28T12:00:00+01:00").select(times)]
    assert [t.hour for t in shifted] == [11]


@pytest.mark.parametrize(
    "text",
    ["", "/x", "yesterday", "2020-13", "2020-00-01", "2020-01-32", "20200101", "2020-1-1", "2020-01-01T25:00:00Z",
     "2020-01-01T12:00:60Z", "2020-01-01/2019-01-01", "2020-02/2020-01", "2020/2021/2022", "2020-01-01T00:00:00+99:00",
     "\u0662\u0660\u0662\u0660-\u0660\u0661", "2020-01-01T12:00:00Z/2020-01-01T11:59:59Z", "-2020"],
)  # fmt: skip
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(InvalidParameter) as caught:
        parse_interval(text)
    assert caught.value.parameter == "datetime"


def test_times_that_are_numbers_cannot_be_asked_for():
    with pytest.raises(InvalidParameter, match="decoded"):
        parse_interval("2020").select(np.arange(3.0))


@given(
    st.datetimes(
        min_value=pd.Timestamp("1700-01-01").to_pydatetime(),
        max_value=pd.Timestamp("2200-01-01").to_pydatetime(),
    )
)
def test_a_time_written_down_selects_itself(time):
    for unit in ("us", "ns"):
        times = np.array([time, time], f"datetime64[{unit}]")
        assert parse_interval(iso(times[0])).select(times).tolist() == [0, 1]
        assert parse_interval(f"{iso(times[0])}/{iso(times[1])}").select(times).tolist() == [0, 1]
    noleap = cftime.datetime(
        time.year,
        time.month,
        min(time.day, 28),
        time.hour,
        time.minute,
        time.second,
        time.microsecond,
        calendar="noleap",
    )
    assert parse_interval(iso(noleap)).select(np.array([noleap])).tolist() == [0]
