import numpy as np
import pytest
from pyproj import CRS, Geod, Transformer

from cubegate.errors import InvalidParameter
from cubegate.query.bounding import transform_bounds
from cubegate.query.crs import name_crs, parse_crs, same_crs, separation, transform_points


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EPSG:32611", 32611),
        ("[EPSG:32611]", 32611),
        ("urn:ogc:def:crs:EPSG::32611", 32611),
        ("http://www.opengis.net/def/crs/EPSG/0/32611", 32611),
        ("+proj=utm +zone=11 +datum=WGS84 +units=m +no_defs", 32611),
        ("EPSG:4326", 4326),
        ("OGC:CRS84", 4326),
        ("CRS84", 4326),
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", 4326),
    ],
)
def test_a_crs_is_read_in_any_form(text, code):
    assert parse_crs(text).equals(CRS.from_epsg(code), ignore_axis_order=True)


def test_wkt_is_read():
    assert parse_crs(CRS.from_epsg(3413).to_wkt()).to_epsg() == 3413


@pytest.mark.parametrize(
    "text",
    ["", "EPSG:1", "nonsense", "EPSG:5773", "EPSG:4978", "+proj=longlat +nadgrids=/etc/passwd", "+init=/etc/passwd:x",
     "+proj=longlat +geoidgrids=@x.gtx", "EPSG:4326" + " " * 3 + "x" * 20_000, "{}", "\x00"],
)  # fmt: skip
def test_an_unknown_or_useless_crs_names_the_parameter(text):
    with pytest.raises(InvalidParameter) as caught:
        parse_crs(text, "bbox-crs")
    assert caught.value.parameter == "bbox-crs"
    assert "EPSG:4326" in caught.value.accepted


def test_a_crs_is_named_by_code_or_by_wkt():
    assert name_crs(CRS.from_epsg(32611)) == "EPSG:32611"
    own = CRS.from_proj4("+proj=laea +lat_0=71 +lon_0=-41 +ellps=WGS84")
    assert CRS.from_user_input(name_crs(own)) == own
    assert len(name_crs(own)) > 100


def test_points_are_x_then_y_in_every_crs():
    x, y = transform_points(CRS.from_epsg(4326), CRS.from_epsg(32611), [-117.5, -118], [35, 36], "coords")
    expected = Transformer.from_crs(4326, 32611, always_xy=True).transform([-117.5, -118], [35, 36])
    np.testing.assert_array_equal([x, y], expected)


def test_axis_order_alone_makes_no_other_crs():
    assert same_crs(CRS.from_epsg(4326), parse_crs("OGC:CRS84"))
    assert not same_crs(CRS.from_epsg(4326), CRS.from_epsg(4269))


@pytest.mark.parametrize(("x", "y"), [(0.0, 91.0), (400.0, 0.0), (0.0, -90.001), (-361.0, 0.0)])
def test_points_off_the_earth_are_refused(x, y):
    with pytest.raises(InvalidParameter) as caught:
        transform_points(CRS.from_epsg(4326), CRS.from_epsg(32611), x, y, "lon")
    assert caught.value.parameter == "lon"


def test_a_point_that_the_projection_cannot_hold_is_refused():
    geostationary = CRS.from_proj4("+proj=geos +h=35785831 +lon_0=-75 +sweep=x")
    with pytest.raises(InvalidParameter, match="area of use"):
        transform_points(CRS.from_epsg(4326), geostationary, 105, 0, "coords")


def test_there_is_no_way_from_another_celestial_body():
    with pytest.raises(InvalidParameter, match="outside the area of use") as caught:
        transform_bounds(parse_crs("IAU_2015:30100"), parse_crs("EPSG:32611"), (1, 2, 3, 4), "bbox")
    assert caught.value.parameter == "bbox"


def test_separation_is_geodesic_in_degrees_and_plane_otherwise():
    expected = Geod(ellps="WGS84").inv(-117, 34, -117.1, 34.2)[2]
    assert separation(CRS.from_epsg(4326), [-117], [34], [-117.1], [34.2])[0] == pytest.approx(
        expected, rel=1e-12
    )
    assert separation(CRS.from_epsg(32611), [0.0], [0.0], [3.0], [4.0])[0] == 5


@pytest.mark.parametrize("code", [3413, 32611, 3857, 3035])
def test_transformed_bounds_hold_every_point_of_the_box(code):
    boxes = {
        3413: (-60, 60, -10, 83),
        32611: (-120, 30, -114, 40),
        3857: (-170, -60, 170, 70),
        3035: (-5, 36, 30, 68),
    }
    west, south, east, north = boxes[code]
    found = transform_bounds(CRS.from_epsg(4326), CRS.from_epsg(code), (west, south, east, north))
    lon, lat = np.meshgrid(np.linspace(west, east, 241), np.linspace(south, north, 241))
    x, y = Transformer.from_crs(4326, code, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(found, (x.min(), y.min(), x.max(), y.max()), atol=20)
    assert found[0] <= x.min() + 1
    assert found[3] >= y.max() - 1


def test_bounds_around_a_pole_reach_it_and_all_longitudes():
    found = transform_bounds(CRS.from_epsg(3413), CRS.from_epsg(4326), (-1e6, -1e6, 1e6, 1e6))
    corner = Transformer.from_crs(3413, 4326, always_xy=True).transform(1e6, 1e6)[1]
    assert found == pytest.approx((-180, corner, 180, 90))


def test_a_pole_that_is_drawn_as_a_line_is_all_along_the_box():
    found = transform_bounds(CRS.from_epsg(3413), CRS.from_epsg(4087), (-1e6, -1e6, 1e6, 1e6))
    _, latitude = Transformer.from_crs(3413, 4326, always_xy=True).transform(1e6, 1e6)
    edge, south = Transformer.from_crs(4326, 4087, always_xy=True).transform(180, latitude)
    np.testing.assert_allclose(found, (-edge, south, edge, edge / 2), rtol=1e-9)


def test_a_circle_of_latitude_is_found_all_around():
    found = transform_bounds(CRS.from_epsg(4326), CRS.from_epsg(3413), (-180, 60, 180, 90))
    radius = np.hypot(*Transformer.from_crs(4326, 3413, always_xy=True).transform(0, 60))
    np.testing.assert_allclose(found, (-radius, -radius, radius, radius), rtol=1e-5)


def test_bounds_across_the_antimeridian_go_on_beyond_180():
    # UTM zone 1 reaches from 180 W to 174 W
    west, _, east, _ = transform_bounds(
        CRS.from_epsg(32601), CRS.from_epsg(4326), (100_000, 0, 500_000, 100_000)
    )
    expected = Transformer.from_crs(32601, 4326, always_xy=True).transform([100_000, 500_000], [0, 0])[0]
    assert expected[0] > 0 > expected[1]
    assert (west, east) == pytest.approx((expected[0], expected[1] + 360), abs=1e-2)
