import numpy as np
import pytest
import xarray as xr

from cubegate.edr.description import MAX_VALUES, combine, describe, turned
from cubegate.edr.documents import extent, parameter
from cubegate.edr.units import UCUM, describe_unit, ucum
from cubegate.query.variables import GridSettings


def globe(west, east, *, name="a", times=2):
    lon, lat = np.arange(west + 0.5, east), np.arange(-9.5, 10)
    first = np.datetime64("2020-01-01", "s")
    dataset = xr.Dataset(
        {name: (("time", "lat", "lon"), np.zeros((times, len(lat), len(lon)), "f4"))},
        {
            "time": first + np.arange(times) * np.timedelta64(1, "D"),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )
    return describe(dataset, GridSettings(), name, name.upper())


@pytest.mark.parametrize(
    ("west", "east", "box"),
    [
        (10, 20, (10, 20)),
        (170, 190, (170, -170)),
        (350, 370, (-10, 10)),
        (-180, 180, (-180, 180)),
        (0, 360, (-180, 180)),
        (90, 180, (90, 180)),
    ],
)
def test_a_box_in_degrees_may_cross_the_antimeridian(west, east, box):
    assert globe(west, east).box == pytest.approx((box[0], -10, box[1], 10))


@pytest.mark.parametrize(
    ("parts", "box"),
    [
        ([(10, 20), (30, 40)], (10, 40)),
        ([(170, 180), (-180, -170)], (170, -170)),
        ([(170, 190), (150, 160)], (150, -170)),
        ([(-100, -90), (100, 110)], (100, -90)),
        ([(-10, 10), (5, 30)], (-10, 30)),
        ([(0, 180), (-180, 0)], (-180, 180)),
    ],
)
def test_boxes_together_leave_out_the_widest_gap(parts, box):
    found = combine([globe(*each) for each in parts], "all", "All")
    assert found.box == pytest.approx((box[0], -10, box[1], 10))


def test_what_is_combined_has_what_any_has():
    found = combine([globe(0, 10, name="a", times=2), globe(20, 30, name="b", times=3)], "all", "All")
    assert [each.name for each in found.parameters] == ["a", "b"]
    assert len(found.times) == 3
    assert (found.id, found.title, found.combined, found.axes) == ("all", "All", True, ())


def test_long_time_axes_say_only_from_when_until_when():
    assert len(extent(globe(0, 10, times=MAX_VALUES))["temporal"]["values"]) == MAX_VALUES
    long = extent(globe(0, 10, times=MAX_VALUES + 1))["temporal"]
    assert "values" not in long
    assert long["interval"] == [["2020-01-01T00:00:00Z", "2022-09-27T00:00:00Z"]]


def test_turned():
    assert [turned(x) for x in (0, 180, -180, 190, 360, -190)] == [0, -180, -180, -170, 0, 170]
    assert turned(180, last=True) == 180


@pytest.mark.parametrize(
    ("units", "symbol"),
    [
        ("m", "m"),
        ("meter/year", "m/a"),
        ("S", None),
        ("Meters", "m"),
        ("K", "K"),
        ("furlong", None),
        ("", None),
    ],
)
def test_units(units, symbol):
    assert ucum(units) == symbol
    if units:
        said = describe_unit(units)["symbol"]
        assert said == (units if symbol is None else {"value": symbol, "type": UCUM})


def test_a_parameter_without_units_has_none():
    (only,) = globe(0, 10).parameters
    assert "unit" not in parameter(only)
    assert parameter(only)["observedProperty"] == {"label": "a"}
