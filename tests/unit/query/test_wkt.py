import numpy as np
import pytest

from cubegate.errors import InvalidParameter
from cubegate.query.wkt import MAX_TEXT, parse_wkt

ALL = ("POINT", "MULTIPOINT", "LINESTRING", "POLYGON", "MULTIPOLYGON")


@pytest.mark.parametrize(
    ("text", "kind", "dims", "positions"),
    [
        ("POINT(1 2)", "POINT", "", [[1, 2]]),
        (" point ( -1.5e1   +2. ) ", "POINT", "", [[-15, 2]]),
        ("POINT Z (1 2 3)", "POINT", "Z", [[1, 2, 3]]),
        ("MULTIPOINT((1 2),(3 4))", "MULTIPOINT", "", [[1, 2], [3, 4]]),
        ("MULTIPOINT(1 2, 3 4)", "MULTIPOINT", "", [[1, 2], [3, 4]]),
        ("LINESTRING(1 2,3 4,5 6)", "LINESTRING", "", [[1, 2], [3, 4], [5, 6]]),
        ("LINESTRINGM(1 2 10,3 4 20)", "LINESTRING", "M", [[1, 2, 10], [3, 4, 20]]),
        ("LINESTRING ZM (1 2 3 4,5 6 7 8)", "LINESTRING", "ZM", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("LINESTRING(1 2 3,4 5 6)", "LINESTRING", "Z", [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_points_and_lines(text, kind, dims, positions):
    found = parse_wkt(text, ALL)
    assert (found.kind, found.dims) == (kind, dims)
    np.testing.assert_array_equal(found.positions, positions)


def test_polygons_keep_their_rings_apart():
    ring, hole = "(0 0, 9 0, 9 9, 0 0)", "(5 2, 6 2, 6 3, 5 2)"
    (one,) = parse_wkt(f"POLYGON({ring},{hole})", ALL).parts
    assert [len(each) for each in one] == [4, 4]
    two = parse_wkt(f"MULTIPOLYGON(({ring}),({ring} , {hole}))", ALL).parts
    assert [[len(each) for each in rings] for rings in two] == [[4], [4, 4]]
    np.testing.assert_array_equal(two[1][1][1], [6, 2])


@pytest.mark.parametrize(
    "text",
    [
        "", "POINT", "POINT()", "POINT EMPTY", "POINT(1)", "POINT(1 2 3 4 5)", "POINT(1,2)", "POINT(1 2", "POINT(1 2))", "POINT((1 2))",
        "POINT(nan 1)", "POINT(1e999 1)", "POINT(0x1 1)", "POINT(\u0661 1)", "POINT M (1 2)", "CIRCLE(1 2)", "SRID=1;POINT(1 2)",
        "LINESTRING(1 2)", "LINESTRING(1 2,3 4 5)", "LINESTRING((1 2),(3 4)", "MULTIPOINT(1 2,3)", "MULTIPOINT()",
        "POLYGON(0 0,1 0,1 1,0 0)", "POLYGON((0 0,1 0,1 1))", "POLYGON((0 0,1 0,1 1,0 1))", "POLYGON(())", "POLYGON((0 0,1 0,1 1,0 0)", "POLYGON((0 0,1 0,1 1,0 0)))",
        "POLYGON((0 0,1 0,1 1,0 0)x(0 0,1 0,1 1,0 0))", "MULTIPOLYGON((0 0,1 0,1 1,0 0))", "MULTIPOLYGON(((0 0,1 0,1 1,0 0))", "((((", "POLYGON((((((",
    ],
)  # fmt: skip
def test_what_is_no_geometry_is_refused(text):
    with pytest.raises(InvalidParameter) as refusal:
        parse_wkt(text, ALL)
    assert refusal.value.parameter == "coords"


def test_another_kind_is_refused_and_says_which_would_do():
    with pytest.raises(InvalidParameter, match="POLYGON") as refusal:
        parse_wkt("POINT(1 2)", ("POLYGON", "MULTIPOLYGON"))
    assert "POINT(x y)" not in refusal.value.accepted


def test_a_text_beyond_all_bounds_is_refused_unread():
    with pytest.raises(InvalidParameter):
        parse_wkt("LINESTRING(" + ",".join(["1 2"] * (MAX_TEXT // 4 + 1)) + ")", ALL)
