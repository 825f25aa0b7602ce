import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.errors import BudgetExceeded, CubegateError, InvalidParameter
from cubegate.query.crs import lonlat, parse_crs
from cubegate.query.points import read_points


def _feature(lon, lat, **more):
    return {
        "type": "Feature",
        "properties": None,
        "geometry": {"type": "Point", "coordinates": [lon, lat]},
        **more,
    }


def _geojson(document, crs=None, limit=100):
    return read_points(json.dumps(document).encode(), "application/geo+json; charset=utf-8", crs, limit)


def _csv(text, crs=None, limit=100):
    return read_points(text.encode(), "text/csv", crs, limit)


def test_geojson_of_all_kinds():
    points = _geojson(
        {
            "type": "FeatureCollection",
            "features": [_feature(1, 2.5), _feature(-3, 4, id="b"), _feature(5, 6, properties={"id": 7})],
        }
    )
    assert (points.x, points.y, points.ids, points.crs, points.many) == (
        (1, -3, 5),
        (2.5, 4, 6),
        ("", "b", "7"),
        lonlat(),
        True,
    )
    assert _geojson(_feature(1, 2)).x == (1,)
    assert _geojson(_feature(1, 2)).ids is None
    assert _geojson({"type": "Point", "coordinates": [1, 2, 300]}).y == (2,)
    many = _geojson(_feature(0, 0, id="m", geometry={"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}))
    assert (many.x, many.ids) == ((1, 3), ("m", "m"))


def test_csv_in_degrees_and_in_the_grid():
    points = _csv('\ufeffid, Lon ,lat,note\r\na,-118.2,34.1,"x, y"\r\n\r\nb,10,20,\r\n')
    assert (points.x, points.y, points.ids, points.crs) == ((-118.2, 10), (34.1, 20), ("a", "b"), lonlat())
    native = _csv("# comment\ny,x\n3900000,400000\n")
    assert (native.x, native.y, native.ids, native.crs) == ((400_000,), (3_900_000,), None, None)
    assert _csv("x,y\n1,2", parse_crs("EPSG:32611")).crs.to_epsg() == 32611


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "header|no points"),
        ("lon,lat\n", "no points"),
        ("a,b\n1,2", "header"),
        ("lon,lat,lon\n1,2,3", "header"),
        ("lon,lat\n1,2\n3,north\n", "Line 3"),
        ("lon,lat\n1\n", "Line 2"),
        ("lon,lat\nnan,1\n", "Line 2"),
        ('lon,lat\n"1,2\n', "CSV|Line"),
    ],
)
def test_a_bad_row_is_named(text, match):
    with pytest.raises(InvalidParameter, match=match) as caught:
        _csv(text)
    assert caught.value.parameter == "body"


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ({}, "no point"),
        ([], "no point"),
        ({"type": "FeatureCollection"}, "no list"),
        ({"type": "FeatureCollection", "features": []}, "no points"),
        ({"type": "FeatureCollection", "features": [_feature(1, 2), _feature("1", 2)]}, "Feature 2"),
        ({"type": "FeatureCollection", "features": [_feature(1, 2), 5]}, "Feature 2"),
        ({"type": "FeatureCollection", "features": [_feature(1, 2, geometry=None)]}, "Feature 1"),
        ({"type": "FeatureCollection", "features": [_feature(True, 2)]}, "Feature 1"),
        ({"type": "FeatureCollection", "features": [_feature(10**400, 2)]}, "Feature 1"),
        ({"type": "FeatureCollection", "features": [_feature(1, 2, id=[1])]}, "id"),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "no point"),
        ({"type": "MultiPoint", "coordinates": [[1, 2], [3]]}, "two numbers"),
        ({"type": "MultiPoint", "coordinates": 5}, "no coordinates"),
        ({"type": "Point"}, "two numbers"),
    ],
)
def test_a_bad_feature_is_named(document, match):
    with pytest.raises(InvalidParameter, match=match):
        _geojson(document)


def test_an_id_with_half_a_character_is_refused():
    body = json.dumps(_feature(1, 2, id="a\ud800")).encode()
    with pytest.raises(InvalidParameter, match=r"The feature has an id .* surrogate") as caught:
        read_points(body, "application/geo+json", None, 100)
    assert caught.value.parameter == "body"
    assert _geojson(_feature(1, 2, id="\N{SNOWFLAKE}\N{DESERT ISLAND}")).ids == (
        "\N{SNOWFLAKE}\N{DESERT ISLAND}",
    )


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b'{"type": "Point", "coordinates": [NaN, 1]}', b"[" * 100_000]
)
def test_what_is_not_json_is_refused(body):
    with pytest.raises(InvalidParameter) as caught:
        read_points(body, "application/json", None, 10)
    assert caught.value.parameter == "body"


def test_the_media_type_decides():
    with pytest.raises(InvalidParameter) as caught:
        read_points(b"lon,lat\n1,2", "text/plain", None, 10)
    assert caught.value.parameter == "Content-Type"
    assert "text/csv" in caught.value.accepted


def test_there_is_a_limit_of_points():
    body = "lon,lat\n" + "1,2\n" * 11
    assert len(_csv(body, limit=11).x) == 11
    with pytest.raises(BudgetExceeded, match="up to 10 points"):
        _csv(body, limit=10)


def test_degrees_in_another_crs_contradict():
    with pytest.raises(InvalidParameter) as caught:
        _csv("lon,lat\n1,2", parse_crs("EPSG:32611"))
    assert caught.value.parameter == "crs"


@given(st.binary(max_size=200), st.sampled_from(["text/csv", "application/json"]))
def test_no_body_gives_another_error(body, kind):
    for start in (b"", b"lon,lat\n1,1\n"):
        try:
            points = read_points(start + body, kind, None, 100)
        except CubegateError:
            continue
        assert len(points.x) == len(points.y) > 0
