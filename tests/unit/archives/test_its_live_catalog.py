"""ITS_LIVE's catalog in all its forms, and those that it must not have."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.archives.its_live_archive import AMAZON, catalog, cube_name, feature, in_degrees, square

from cubegate.archives.its_live_catalog import read_catalog
from cubegate.archives.its_live_footprints import Area, geographic_outline, meeting
from cubegate.errors import InvalidReference

REAL = Path(__file__).resolve().parents[4] / "shared/data/itslive/its_live_tool/nbs/catalog_v02.json"
WHERE = (32718, 600_000, 4_400_000)


def found(cubes, area):
    """The names of the cubes that meet an area, the nearest first."""
    numbers = meeting(area, [(cube.epsg, cube.footprint, cube.bounds) for cube in cubes])
    return [cubes[number].name for number in numbers]


def without_projected(**properties):
    return feature(*WHERE, geometry_epsg=None, **properties)


def shapefile(name):
    """An entry whose names went through a Shapefile."""
    entry = feature(*WHERE, epsg=None, data_epsg="EPSG:32718", region="PAT")
    entry["properties"] = {key[:10]: value for key, value in entry["properties"].items()}
    assert name in entry["properties"]
    return entry


def in_parts(entry):
    ring = square(*WHERE[1:])
    halves = [
        [[600_000, 4_400_000], [640_000, 4_400_000], [640_000, 4_500_000], [600_000, 4_500_000], ring[0]],
        [[640_000, 4_400_000], *ring[1:3], [640_000, 4_500_000], [640_000, 4_400_000]],
    ]
    entry["properties"]["geometry_epsg"] = {
        "type": "MultiPolygon",
        "coordinates": [[half] for half in halves],
    }
    return entry


VARIANTS = {
    "a number": feature(*WHERE),
    "a float": feature(*WHERE, epsg=32718.0),
    "text": feature(*WHERE, epsg="EPSG:32718"),
    "digits": feature(*WHERE, epsg="32718"),
    "an urn": feature(*WHERE, epsg="urn:ogc:def:crs:EPSG::32718"),
    "data_epsg": feature(*WHERE, epsg=None, data_epsg="EPSG:32718"),
    "both": feature(*WHERE, data_epsg="EPSG:32718"),
    "neither": feature(*WHERE, epsg=None),
    "a Shapefile's names": shapefile("geometry_e"),
    "upper case": feature(*WHERE, epsg=None, EPSG=32718),
    "geometry as text": feature(*WHERE, geometry_epsg=json.dumps({"type": "Polygon", "coordinates": [square(*WHERE[1:])]})),
    "degrees only": without_projected(),
    "degrees only, and text": without_projected(epsg="EPSG:32718"),
    "three coordinates": feature(*WHERE, geometry_epsg={"type": "Polygon", "coordinates": [[[*p, 0] for p in square(*WHERE[1:])]]}),
    "parts": in_parts(feature(*WHERE)),
    "v02": feature(*WHERE, folder="v02"),
    "october 2024": feature(*WHERE, folder="v2-updated-october2024"),
    "s3": feature(*WHERE, base="s3://its-live-data"),
    "a slash": feature(*WHERE, url=f"{AMAZON}/datacubes/v2/S50W070/{cube_name(*WHERE)}.zarr/"),
    "exists as text": feature(*WHERE, datacube_exist="1"),
    "not said whether it exists": feature(*WHERE, datacube_exist=None),
}  # fmt: skip


@pytest.mark.parametrize("entry", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_form_means_the_same_cube(entry):
    absent = [
        feature(32718, 700_000, 4_400_000, datacube_exist=0, zarr_url=""),
        {**feature(32718, 700_000, 4_400_000), "properties": {"datacube_exist": 0, "zarr_url": None}},
    ]
    (cube,) = read_catalog(catalog(*absent, entry), "catalog.json")
    assert (cube.name, cube.epsg) == (cube_name(*WHERE), 32718)
    assert cube.url.startswith((AMAZON, "s3://its-live-data/"))
    assert cube.url.endswith(f"{cube.name}.zarr")
    # six decimals of a degree are a tenth of a metre
    assert shapely.hausdorff_distance(cube.footprint, shapely.Polygon(square(*WHERE[1:]))) < 0.2
    corners = np.array(in_degrees(32718, square(*WHERE[1:])))
    west, south, east, north = cube.bounds
    assert west == pytest.approx(corners[:, 0].min(), abs=1e-5)
    assert east == pytest.approx(corners[:, 0].max(), abs=1e-5)
    assert south <= corners[:, 1].min() + 1e-6
    assert north >= corners[:, 1].max() - 1e-6


def test_a_cube_that_is_listed_twice_is_one():
    assert len(read_catalog(catalog(feature(*WHERE), feature(*WHERE)), "catalog.json")) == 1


def changed(path, value):
    entry = feature(*WHERE)
    at = entry
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return entry


RING = square(*WHERE[1:])
PROPERTY = "properties"
WRONG = {
    "entry is a list": ([], "it is no Feature"),
    "entry is null": (None, "it is no Feature"),
    "no properties": ({"type": "Feature", "geometry": None}, "it is no Feature"),
    "url is a number": (changed([PROPERTY, "zarr_url"], 7), "zarr_url is 7"),
    "url is missing": (changed([PROPERTY, "zarr_url"], None), "zarr_url is None"),
    "url is endless": (changed([PROPERTY, "zarr_url"], "http://a/" + "x" * 5000), "zarr_url is 'http"),
    "url is a path": (changed([PROPERTY, "zarr_url"], "/etc/passwd"), "is not an absolute URL"),
    "url is a file": (changed([PROPERTY, "zarr_url"], "file:///etc/passwd"), "is no public address"),
    "url is gopher": (changed([PROPERTY, "zarr_url"], "gopher://host/a.zarr"), "zarr_url: "),
    "url has dots": (changed([PROPERTY, "zarr_url"], "http://host/a/../b.zarr"), "dot segments"),
    "url has a query": (changed([PROPERTY, "zarr_url"], "http://h/a.zarr?X-Amz-Signature=1"), "no public address"),
    "url has no name": (changed([PROPERTY, "zarr_url"], "http://host/"), "no name for a cube"),
    "url has an odd name": (changed([PROPERTY, "zarr_url"], "http://host/a b.zarr"), "no name for a cube"),
    "url has control characters": (changed([PROPERTY, "zarr_url"], "http://host/\x1b[2J.zarr"), "zarr_url"),
    "url has half a character": (changed([PROPERTY, "zarr_url"], "s3://bucket/\ud800/a.zarr"), "zarr_url"),
    "exists perhaps": (changed([PROPERTY, "datacube_exist"], "perhaps"), "datacube_exist is 'perhaps'"),
    "EPSG is a list": (changed([PROPERTY, "epsg"], [3413]), "EPSG code is"),
    "EPSG is true": (changed([PROPERTY, "epsg"], True), "EPSG code is True"),
    "EPSG is a fraction": (changed([PROPERTY, "epsg"], 3413.5), "EPSG code is 3413.5"),
    "EPSG is a word": (changed([PROPERTY, "epsg"], "EPSG:polar"), "EPSG code is 'EPSG:polar'"),
    "EPSG is huge": (changed([PROPERTY, "epsg"], 10**300), "EPSG code is"),
    "EPSG is unknown": (changed([PROPERTY, "epsg"], 99999), "EPSG:99999 is no projection"),
    "EPSG is geographic": (changed([PROPERTY, "epsg"], 4326), "EPSG:4326 is no projection"),
    "EPSG of another cube": (changed([PROPERTY, "epsg"], 3413), "EPSG codes differ: 3413, 32718"),
    "EPSG codes differ": (changed([PROPERTY, "data_epsg"], "EPSG:3413"), "EPSG codes differ: 3413, 32718"),
    "geometry is a list": (changed([PROPERTY, "geometry_epsg"], []), "neither a Polygon nor"),
    "geometry is a word": (changed([PROPERTY, "geometry_epsg"], "POLYGON((0 0))"), "no geometry"),
    "geometry is a point": (changed([PROPERTY, "geometry_epsg"], {"type": "Point", "coordinates": [1, 2]}), "neither"),
    "no rings": (changed([PROPERTY, "geometry_epsg", "coordinates"], []), "without rings"),
    "rings are null": (changed([PROPERTY, "geometry_epsg", "coordinates"], None), "without rings"),
    "a ring is a number": (changed([PROPERTY, "geometry_epsg", "coordinates"], [7]), "not two numbers"),
    "a ring is open": (changed([PROPERTY, "geometry_epsg", "coordinates"], [RING[:-1]]), "not closed"),
    "a ring is short": (changed([PROPERTY, "geometry_epsg", "coordinates"], [[RING[0], RING[1], RING[0]]]), "less than four"),
    "a ring is a line": (changed([PROPERTY, "geometry_epsg", "coordinates"], [[RING[0], RING[1], RING[1], RING[0]]]), "no area"),
    "a ring is endless": (changed([PROPERTY, "geometry_epsg", "coordinates"], [RING * 3000]), "more than 10,000"),
    "a position is text": (changed([PROPERTY, "geometry_epsg", "coordinates", 0, 1], ["a", "b"]), "not two numbers"),
    "a position is one number": (changed([PROPERTY, "geometry_epsg", "coordinates", 0, 1], [1]), "not two numbers"),
    "a position is NaN": (changed([PROPERTY, "geometry_epsg", "coordinates", 0, 1], [math.nan, 0]), "too far out"),
    "a position is huge": (changed([PROPERTY, "geometry_epsg", "coordinates", 0, 1], [10**400, 0]), "not two numbers"),
    "a position is far": (changed([PROPERTY, "geometry_epsg", "coordinates", 0, 1], [1e9, 0]), "too far out"),
    "no geometry": ({**without_projected(), "geometry": None}, "neither a Polygon nor"),
    "degrees are metres": ({**without_projected(), "geometry": {"type": "Polygon", "coordinates": [RING]}}, "too far out"),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "message"), WRONG.values(), ids=WRONG.keys())
def test_an_entry_of_a_wrong_shape_is_named(entry, message):
    good = feature(32718, 700_000, 4_400_000)
    with pytest.raises(InvalidReference) as caught:
        read_catalog(catalog(good, entry), "catalog.json")
    said = str(caught.value)
    assert said.startswith("catalog.json: features[1]")
    assert message in said
    assert len(said) < 1_500
    assert said.isprintable()
    assert "Signature" not in said


@pytest.mark.parametrize(
    "data",
    [
        b"", b"<html>", b"[]", b"null", b"{}", b'{"type": "FeatureCollection"}', b"\xff\xfe\x00",
        b'{"type": "FeatureCollection", "features": {}}', b'{"type": "Topology", "features": []}',
        catalog(feature(*WHERE))[:-40], b"[" * 100_000, b'{"version": 1, "refs": {}}', b"9" * 5_000,
    ],
)  # fmt: skip
def test_what_is_no_catalog_says_so(data):
    with pytest.raises(InvalidReference, match=r"^catalog\.json is not"):
        read_catalog(data, "catalog.json")


def test_too_many_entries_are_not_read(monkeypatch):
    monkeypatch.setattr("cubegate.archives.its_live_catalog._MOST_ENTRIES", 1)
    with pytest.raises(InvalidReference, match="2 entries"):
        read_catalog(catalog(feature(*WHERE), feature(32718, 700_000, 4_400_000)), "catalog.json")


def places(document, path=()):
    """The path of every value in a JSON document."""
    yield path
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in items:
            yield from places(value, (*path, key))


TWO = json.loads(catalog(feature(*WHERE), without_projected(epsg="EPSG:32718")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["EPSG:3413", "Polygon", "MultiPolygon", "http://host/a.zarr", "3031", 90, 180, 1e7]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(path=st.sampled_from([path for path in places(TWO) if path]), value=JSON)
def test_whatever_stands_anywhere_it_is_read_or_refused(path, value):
    document = copy.deepcopy(TWO)
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    try:
        cubes = read_catalog(json.dumps(document).encode(), "catalog.json")
    except InvalidReference:
        return
    assert len(cubes) <= 2
    assert all(np.isfinite(cube.bounds).all() and cube.footprint.area > 0 for cube in cubes)
    found(cubes, Area(-180, -90, 180, 90))
    found(cubes, Area.of_point(-72.7, -50.0))


def tiles(epsg, numbers_x, numbers_y):
    return [feature(epsg, 100_000 * x, 100_000 * y) for x in numbers_x for y in numbers_y]


@pytest.fixture(scope="module")
def world():
    """Cubes around both poles, across the antimeridian, and at the seams of UTM zones."""
    around = range(-3, 3)
    return read_catalog(
        catalog(
            *tiles(3031, around, around),
            *tiles(3413, around, around),
            *tiles(32601, (2, 4, 5), (70, 71)),
            *tiles(32660, (6, 7), (70, 71)),
            *tiles(32718, (4, 5, 6), (44, 45)),
            *tiles(32719, (2, 3), (44, 45)),
        ),
        "world",
    )


def corners(cube):
    """The left, bottom, right and top that are in a cube's name."""
    x, y = (int(part[1:]) for part in cube.name.split("_")[-2:])
    return x - 50_000, y - 50_000, x + 50_000, y + 50_000


def sampled(cube, area, count=61):
    """Whether points spread over a cube's inside lie in a box: by pyproj and comparisons alone."""
    left, bottom, right, top = corners(cube)
    x, y = np.meshgrid(np.linspace(left, right, count + 2)[1:-1], np.linspace(bottom, top, count + 2)[1:-1])
    lon, lat = pyproj.Transformer.from_crs(cube.epsg, 4326, always_xy=True).transform(x, y)
    inside = (area.west <= lon) & (lon <= area.east)
    if area.west > area.east:
        inside = (lon >= area.west) | (lon <= area.east)
    return bool((inside & (area.south <= lat) & (lat <= area.north)).any())


BOXES = [
    (-180, -90, 180, 90), (-180, 88, 180, 90), (-180, -90, 180, -88.5), (10, 85, 80, 89.99), (170, 60, -170, 70),
    (-180, 60, -176, 65), (177, 62, 180, 64.2), (-75, -51, -74.99, -49), (-73.1, -50.3, -72.4, -49.9),
    (-90, -88.9, 90, -88.2), (100, -90, -100, -88), (-0.5, 88, 0.5, 88.4), (-45.1, 89.5, -44.9, 89.6),
    (-72.7, -50.001, -72.699, -50), (0, -5, 30, 5), (-179.99, 62.9, 179.99, 64.0), (44.9, 87, 45.2, 87.5),
]  # fmt: skip


@pytest.mark.parametrize("box", BOXES)
def test_the_cubes_of_a_box_are_those_that_points_find(world, box):
    area = Area(*box)
    names = found(world, area)
    assert len(names) == len(set(names))
    # a thin box may lie between the points, so that they are looked at once more, more densely
    expected = {
        cube.name
        for cube in world
        if sampled(cube, area) or (cube.name in names and sampled(cube, area, 2001))
    }
    assert set(names) == expected


def test_the_cubes_of_a_point_are_those_whose_square_holds_it(world, compared):
    rng = np.random.default_rng(5)
    lon = np.concatenate(
        [rng.uniform(-180, 180, 150), rng.uniform(-75, -70, 60), [180, -180, 179.999, -179.999]]
    )
    lat = np.concatenate(
        [rng.choice([-1, 1], 150) * rng.uniform(86.5, 90, 150), rng.uniform(-51, -48.5, 60), [63.5] * 4]
    )
    some = 0
    for place in zip(lon.tolist(), lat.tolist(), strict=True):
        expected = set()
        for cube in world:
            x, y = pyproj.Transformer.from_crs(4326, cube.epsg, always_xy=True).transform(*place)
            left, bottom, right, top = corners(cube)
            if left <= x <= right and bottom <= y <= top:
                expected.add(cube.name)
        assert set(found(world, Area.of_point(*place))) == expected
        some += bool(expected)
    assert some > 100
    compared(lon)


def test_what_only_touches_a_box_does_not_meet_it(world):
    # x = 500000 is the meridian 75 W, where one cube ends and another begins
    assert all("X550000" in name for name in found(world, Area(-75, -50.5, -74.9, -49.5)))
    assert all("X450000" in name for name in found(world, Area(-75.1, -50.5, -75, -49.5)))
    assert {name.split("_")[-2] for name in found(world, Area(-75.1, -50.5, -74.9, -49.5))} == {
        "X450000",
        "X550000",
    }


@pytest.mark.parametrize(
    ("box", "epsg", "beyond"),
    [((135, 88, 170, 90), 3413, "_X50000_"), ((45, 88, 60, 90), 3413, "_Y-50000"),
     ((90, -90, 120, -88), 3031, "_Y50000"), ((-120, -90, -90, -88), 3031, "_Y50000")],
)  # fmt: skip
def test_rounding_does_not_make_it_meet(world, box, epsg, beyond):
    # cubes end on these meridians, whose places are off by a billionth of a metre in the projection
    names = [name for name in found(world, Area(*box)) if f"EPSG{epsg}" in name]
    assert len(names) > 2
    assert not [name for name in names if beyond in name]


@pytest.mark.parametrize(("epsg", "sign"), [(3413, 1), (3031, -1)])
def test_a_cube_may_lie_over_a_pole(epsg, sign):
    cubes = read_catalog(catalog(feature(epsg, -50_000, -50_000)), "pole")
    assert cubes[0].bounds[::2] == (-180, 180)
    for lon in range(-180, 181, 15):
        assert found(cubes, Area.of_point(lon, sign * 89.7))
        assert not found(cubes, Area.of_point(lon, sign * 89))
        south, north = sorted([sign * 89.7, sign * 89.8])
        assert found(cubes, Area(lon, south, lon + 1 if lon < 180 else -179, north))
    to_degrees = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform
    # the corners are 70.71 km from the pole
    for metres, meets in ((-2, True), (2, False)):
        _, latitude = to_degrees(0, np.hypot(50_000, 50_000) + metres)
        south, north = sorted([latitude, sign * 80])
        assert bool(found(cubes, Area(-180, south, 180, north))) is meets
    outline = geographic_outline(epsg, cubes[0].footprint, cubes[0].bounds)
    assert outline.bounds[::2] == (-180, 180)


def test_a_point_on_the_border_is_in_both(world):
    assert set(found(world, Area.of_point(-75, -50.0))) == {
        cube_name(32718, 400_000, 4_400_000),
        cube_name(32718, 500_000, 4_400_000),
    }


@pytest.mark.parametrize(("latitude", "epsg"), [(90, 3413), (-90, 3031)])
def test_a_pole_is_in_the_cubes_around_it(world, latitude, epsg):
    around = {cube_name(epsg, x, y) for x in (-100_000, 0) for y in (-100_000, 0)}
    assert set(found(world, Area.of_point(123.4, latitude))) == around
    assert set(found(world, Area(-180, min(latitude, 89.999999), 180, max(latitude, -89.999999)))) == around


def test_the_nearest_cube_is_first(world):
    lon, lat = -72.7, -50.0
    names = found(world, Area(lon - 1.5, lat - 0.7, lon + 1.5, lat + 0.7))
    assert len(names) > 5
    geod = pyproj.Geod(ellps="WGS84")

    def far(cube):
        left, bottom, right, top = corners(cube)
        centre = pyproj.Transformer.from_crs(cube.epsg, 4326, always_xy=True).transform(
            (left + right) / 2, (bottom + top) / 2
        )
        return geod.inv(lon, lat, *centre)[2]

    by_name = {cube.name: cube for cube in world}
    distances = [far(by_name[name]) for name in names]
    assert distances == sorted(distances)


def test_outlines_lie_between_the_meridians(world):
    for cube in world:
        outline = geographic_outline(cube.epsg, cube.footprint, cube.bounds)
        west, south, east, north = outline.bounds
        assert -180 <= west < east <= 180
        assert -90 <= south < north <= 90
        left, bottom, right, top = corners(cube)
        x, y = np.meshgrid(np.linspace(left, right, 12)[1:-1], np.linspace(bottom, top, 12)[1:-1])
        lon, lat = pyproj.Transformer.from_crs(cube.epsg, 4326, always_xy=True).transform(x, y)
        points = shapely.points(lon.ravel(), lat.ravel())
        assert (shapely.distance(outline, points) < 0.02).all()
        assert outline.area <= (east - west) * (north - south) * (1 + 1e-9)


@pytest.fixture(scope="module")
def real():
    if not REAL.exists():
        pytest.skip("the real catalog is not here")
    return read_catalog(REAL.read_bytes(), "catalog_v02.json")


def test_every_real_cube_is_read(real, compared):
    features = json.loads(REAL.read_bytes())["features"]
    assert len(real) == len(features) == 3086
    for cube, entry in zip(real, features, strict=True):
        assert cube.epsg == entry["properties"]["epsg"]
        assert cube.url == entry["properties"]["zarr_url"]
        ring = np.array(entry["properties"]["geometry_epsg"]["coordinates"][0])
        assert cube.footprint.bounds == (*ring.min(0), *ring.max(0))
        compared(ring)


def test_without_projected_outlines_it_is_the_same(real):
    document = json.loads(REAL.read_bytes())
    for entry in document["features"]:
        del entry["properties"]["geometry_epsg"]
    others = read_catalog(json.dumps(document).encode(), "catalog_v02.json")
    for cube, other in zip(real, others, strict=True):
        assert shapely.hausdorff_distance(cube.footprint, other.footprint) < 0.2


def test_every_centre_finds_its_cube(real):
    everything = [(cube.epsg, cube.footprint, cube.bounds) for cube in real]
    for number in range(0, len(real), 61):
        cube = real[number]
        left, bottom, right, top = corners(cube)
        lon, lat = pyproj.Transformer.from_crs(cube.epsg, 4326, always_xy=True).transform(
            (left + right) / 2, (bottom + top) / 2
        )
        assert meeting(Area.of_point(lon, lat), everything)[0] == number
        assert meeting(Area(lon - 1e-4, lat - 1e-4, lon + 1e-4, lat + 1e-4), everything)[0] == number


def test_the_series_of_jakobshavn_comes_from_one_cube(real):
    # as the point series beside this catalog was taken
    assert found(real, Area.of_point(-49.4604, 69.1117)) == [cube_name(3413, -200_000, -2_300_000)]
