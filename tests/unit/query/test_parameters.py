import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.errors import InvalidParameter
from cubegate.query.crs import lonlat
from cubegate.query.parameters import parse_bbox, parse_number, read_cube, read_position, read_table


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_back(number):
    assert parse_number(repr(number), "x") == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1_000",
        "0x10",
        "1,5",
        "north",
        "1 2",
        "--1",
        "\u0661",
        "1e",
        ".",
        "1\x00",
    ],
)
def test_what_is_no_number_names_the_parameter(text):
    with pytest.raises(InvalidParameter) as caught:
        parse_number(text, "lat")
    assert caught.value.parameter == "lat"


@pytest.mark.parametrize(
    ("items", "x", "y", "code"),
    [
        ([("lon", "-118.2"), ("lat", "34.1")], -118.2, 34.1, "lonlat"),
        ([("lon", "-118.2"), ("lat", "34.1"), ("crs", "EPSG:4326")], -118.2, 34.1, "lonlat"),
        ([("x", "4e5"), ("y", "+3900000")], 400_000, 3_900_000, None),
        ([("x", "4e5"), ("y", "39"), ("crs", "EPSG:32611")], 400_000, 39, 32611),
        ([("coords", "POINT(-118.2 34.1)")], -118.2, 34.1, "lonlat"),
        ([("coords", " point ( 400000.5   39. ) "), ("crs", "EPSG:32611")], 400_000.5, 39, 32611),
    ],
)
def test_a_point_is_given_in_three_ways(items, x, y, code):
    points = read_position(items).query.points
    assert (points.x, points.y, points.many) == ((x,), (y,), False)
    if code == "lonlat":
        assert points.crs == lonlat()
    else:
        assert (points.crs and points.crs.to_epsg()) == code


@pytest.mark.parametrize(
    ("items", "parameter"),
    [
        ([], "lon"),
        ([("lon", "1")], "lat"),
        ([("y", "1")], "x"),
        ([("lon", "1"), ("lat", "1"), ("x", "1"), ("y", "1")], "x"),
        ([("lon", "1"), ("lat", "1"), ("coords", "POINT(1 1)")], "coords"),
        ([("lon", "1"), ("lat", "1"), ("crs", "EPSG:32611")], "crs"),
        ([("lon", "1"), ("lon", "2"), ("lat", "1")], "lon"),
        ([("coords", "POINT(1 1 1)")], "coords"),
        ([("coords", "POINT(1)")], "coords"),
        ([("coords", "POINT 1 1")], "coords"),
        ([("coords", "MULTIPOINT(1 1)")], "coords"),
        ([("coords", "POINT(nan 1)")], "coords"),
        ([("coords", "POINT(1e999 1)")], "coords"),
        ([("lon", "1"), ("lat", "1"), ("datetime", "soon")], "datetime"),
        ([("x", "1"), ("y", "1"), ("crs", "EPSG:0")], "crs"),
    ],
)
def test_a_point_that_cannot_be_read_names_the_parameter(items, parameter):
    with pytest.raises(InvalidParameter) as caught:
        read_position(items)
    assert caught.value.parameter == parameter


def test_everything_else_of_a_position():
    asked = read_position(
        [
            ("x", "1"),
            ("y", "2"),
            ("variables", "a, b"),
            ("datetime", "2020"),
            ("f", "csv"),
            ("group", "g"),
            ("level", "5"),
        ]
    )
    assert asked.query.variables == ("a", "b")
    assert asked.query.interval.start.fields == (2020,)
    assert (asked.format, asked.group) == ("csv", "g")
    assert asked.query.selectors == {"level": "5"}


def test_everything_of_a_cube():
    asked = read_cube(
        [
            ("bbox", "1,2,3,4.5"),
            ("bbox-crs", "[EPSG:32611]"),
            ("crs", "EPSG:3413"),
            ("resampling", "mode"),
            ("compress", "4"),
        ]
    )
    assert asked.query.bounds == (1, 2, 3, 4.5)
    assert (asked.query.crs.to_epsg(), asked.query.target_crs.to_epsg(), asked.query.resampling) == (
        32611,
        3413,
        "mode",
    )
    assert asked.options == {"compress": 4}
    assert read_cube([("bbox", "1,2,3,4")]).query.crs == lonlat()
    assert read_cube([("bbox", "1,2,3,4"), ("bbox-crs", "native")]).query.crs is None
    assert read_cube([]).query.bounds is None


@pytest.mark.parametrize("read", [read_position, read_cube, lambda items: read_table(items, None)])
def test_conditions_may_be_repeated_and_are_what_the_answer_says(read):
    place = [("x", "1"), ("y", "2")] if read is read_position else []
    asked = read([*place, ("where", "a<60d"), ("mask", "m"), ("where", "s='1A', b=2")])
    assert [str(each) for each in asked.query.where] == ["a<60d", "s='1A'", "b=2"]
    assert [str(each) for each in asked.query.mask] == ["m"]
    assert asked.conditions == {"where": "a<60d, s='1A', b=2", "mask": "m"}
    assert asked.query.selectors == {}
    assert read(place).conditions == {}
    with pytest.raises(InvalidParameter) as caught:
        read([*place, ("where", "a"), ("mask", "m<")])
    assert caught.value.parameter == "mask"


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5,6", "1,2,3,x", "1,2,3,", "1 2 3 4", "1,2,3,inf"])
def test_a_bbox_is_four_numbers(text):
    with pytest.raises(InvalidParameter) as caught:
        parse_bbox(text)
    assert caught.value.parameter == "bbox"


@pytest.mark.parametrize("level", ["", "10", "-1", "fast", "\u0665"])
def test_a_deflate_level_is_one_digit(level):
    with pytest.raises(InvalidParameter) as caught:
        read_cube([("compress", level)])
    assert caught.value.parameter == "compress"


@given(st.text(max_size=40))
def test_no_text_gives_another_error(text):
    for name in (
        "lon",
        "coords",
        "datetime",
        "crs",
        "bbox",
        "bbox-crs",
        "compress",
        "variables",
        "where",
        "mask",
    ):
        for read in (read_position, read_cube):
            try:
                found = read([("x", "1"), ("y", "1"), (name, text)])
            except InvalidParameter:
                continue
            assert all(math.isfinite(side) for side in getattr(found.query, "bounds", None) or ())
