"""The date of a picture is one of the cube's, or the request is refused; and how the dates are told."""

import cftime
import numpy as np
import pytest

from cubegate.errors import InvalidParameter
from cubegate.tiling.dates import choose_date, describe_dates
from cubegate.tiling.layers import find_layers


async def layer_with(made, source, **coordinates):
    dataset = made["utm"][0].assign_coords(**coordinates)
    return (await find_layers([source(dataset)], ""))["v"]


async def test_dates_that_are_not_decoded_are_not_drawn(made, source):
    attributes = {"standard_name": "time"}
    for times in ([4.0, 5.0, 6.0], np.full(3, "NaT", "M8[ns]")):
        layer = await layer_with(made, source, time=("time", times, attributes))
        for text in (None, "2020"):
            with pytest.raises(InvalidParameter) as refused:
                choose_date(layer, text)
            assert refused.value.parameter == "datetime"


async def test_missing_dates_are_none_and_the_latest_is_the_default(made, source):
    times = np.array(["2021-01-05", "NaT", "2020-01-01"], "M8[ns]")
    layer = await layer_with(made, source, time=times)
    assert choose_date(layer, None) == times[0]
    assert choose_date(layer, "../2020") == times[2]
    np.testing.assert_array_equal(layer.times, times[[2, 0]])


async def test_dates_of_another_calendar_are_chosen_too(made, source):
    times = cftime.num2date([0, 31, 59], "days since 2001-01-01", "noleap")
    layer = await layer_with(made, source, time=times)
    assert choose_date(layer, None) == times[2]
    assert choose_date(layer, "2001-02") == times[1]
    with pytest.raises(InvalidParameter, match="2001-02-01T00:00:00Z, 2001-03-01T00:00:00Z"):
        choose_date(layer, "2001-02-03")


DAY = np.datetime64("2020-01-01", "ns")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (np.arange(4) * np.timedelta64(12, "D"), "2020-01-01T00:00:00Z/2020-02-06T00:00:00Z/P12D"),
        (np.arange(4) * np.timedelta64(6, "h"), "2020-01-01T00:00:00Z/2020-01-01T18:00:00Z/PT6H"),
        (np.arange(3) * np.timedelta64(90, "s"), "2020-01-01T00:00:00Z/2020-01-01T00:03:00Z/PT90S"),
        (np.arange(2) * np.timedelta64(12, "D"), "2020-01-01T00:00:00Z,2020-01-13T00:00:00Z"),
        (np.array([0, 1, 3]) * np.timedelta64(1, "D"), "2020-01-01T00:00:00Z,2020-01-02T00:00:00Z,2020-01-04T00:00:00Z"),
        (np.arange(3) * np.timedelta64(1, "ms"), "2020-01-01T00:00:00Z,2020-01-01T00:00:00.001Z,2020-01-01T00:00:00.002Z"),
        (np.array([0]) * np.timedelta64(1, "D"), "2020-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_dates_are_told_as_a_list_or_a_period(steps, expected):
    assert describe_dates(DAY + steps) == expected
