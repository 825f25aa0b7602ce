import numpy as np
import pytest
import shapely
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.area import Area, cells_inside, clip_to_area, make_area
from cubegate.query.crs import lonlat
from cubegate.query.selection import Selection

POLAR, ANTARCTIC, UTM = CRS.from_epsg(3413), CRS.from_epsg(3031), CRS.from_epsg(32611)


def area_of(ring, crs=None):
    return make_area([[np.array([*ring, ring[0]], float)]], crs, "coords")


def in_degrees(crs, x, y):
    return Transformer.from_crs(crs, 4326, always_xy=True).transform(*np.meshgrid(x, y))


@pytest.mark.parametrize(("crs", "sign"), [(POLAR, 1), (ANTARCTIC, -1)])
def test_a_band_around_a_pole_holds_the_pole(crs, sign):
    x = y = np.arange(-1_200_000, 1_200_001, 50_000.0)
    ring = [(-180, 84 * sign), (180, 84 * sign), (180, 90 * sign), (-180, 90 * sign)]
    area = area_of(ring, lonlat())
    inside = cells_inside(area, crs, x, y)
    _, lat = in_degrees(crs, x, y)
    np.testing.assert_array_equal(inside, lat * sign >= 84)
    assert inside[24, 24]
    (west, south, east, north), named = area.box(crs)
    assert named == crs
    rows, columns = np.nonzero(inside)
    assert west <= x[columns].min() <= x[columns].max() <= east
    assert south <= y[rows].min() <= y[rows].max() <= north


def test_over_the_antimeridian_in_either_way_of_writing():
    x, y = np.arange(300_000, 700_000, 20_000.0), np.arange(100_000, 500_000, 20_000.0)
    crs = CRS.from_epsg(32601)
    lon, lat = in_degrees(crs, x, y)
    expected = (lon % 360 >= 179) & (lon % 360 <= 181.5) & (lat >= 1.2) & (lat <= 4)
    assert 20 < expected.sum() < 300
    for shift in (0, -360):
        ring = [(179 + shift, 1.2), (181.5 + shift, 1.2), (181.5 + shift, 4), (179 + shift, 4)]
        np.testing.assert_array_equal(cells_inside(area_of(ring, lonlat()), crs, x, y), expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("crs", "place", "step"), [(POLAR, (-225_000, -2_025_000), 900.0), (UTM, (400_000, 3_900_000), 30.0)]
)
def test_the_box_holds_every_cell_inside(crs, place, step, seed):
    x, y = place[0] + step * np.arange(80), place[1] - step * np.arange(70)
    random = np.random.default_rng(seed)
    corners = np.column_stack([random.uniform(x[0], x[-1], 3), random.uniform(y[-1], y[0], 3)])
    ring = np.column_stack(Transformer.from_crs(crs, 4326, always_xy=True).transform(*corners.T))
    area = area_of(ring, lonlat())
    inside = cells_inside(area, crs, x, y)
    lon, lat = in_degrees(crs, x, y)
    np.testing.assert_array_equal(inside, shapely.contains_xy(shapely.Polygon(ring), lon, lat))
    (west, south, east, north), _ = area.box(crs)
    rows, columns = np.nonzero(inside)
    assert west <= x[columns].min() <= x[columns].max() <= east
    assert south <= y[rows].min() <= y[rows].max() <= north
    # and is hardly larger than the polygon on the grid
    assert east - west < np.ptp(corners[:, 0]) * 1.1 + step


def test_centres_on_an_edge_are_inside():
    area = area_of([(0, 0), (20, 0), (20, 20), (0, 20)])
    inside = cells_inside(area, None, np.arange(-10, 31, 10.0), np.arange(-10, 31, 10.0))
    assert inside[1:4, 1:4].all()
    assert inside.sum() == 9


def selection(**variables):
    dims = {1: ("time",), 2: ("y", "x"), 3: ("time", "y", "x")}
    dataset = xr.Dataset(
        {name: (dims[np.ndim(values)], values) for name, values in variables.items()},
        {"x": [0.0, 1.0, 2.0, 3.0], "y": [2.0, 1.0, 0.0]},
    )
    return Selection("cube", dataset, "x", "y", None, "")


def test_what_is_outside_is_missing_and_the_box_is_tight():
    cells = np.arange(12).reshape(3, 4)
    found = clip_to_area(
        selection(byte=cells.astype("u1"), double=cells * 1.0, both=np.stack([cells, -cells]), date=np.ones(2)),
        area_of([(0.9, -0.1), (2.1, -0.1), (0.9, 1.1)]),
    ).dataset  # fmt: skip
    expected = [[5, np.nan], [9, 10]]
    np.testing.assert_array_equal(found.byte, expected)
    np.testing.assert_array_equal(found.double, expected)
    np.testing.assert_array_equal(found.both, [expected, np.negative(expected)])
    assert found.date.to_numpy().tolist() == [1, 1]
    assert (found.byte.dtype, found.both.dtype) == ("f4", "f8")
    assert (found.x.to_numpy().tolist(), found.y.to_numpy().tolist()) == ([1, 2], [1, 0])


def test_what_cannot_be_missing_is_refused():
    area = area_of([(0.9, -0.1), (2.1, -0.1), (0.9, 1.1)])
    with pytest.raises(NotAcceptable, match="text"):
        clip_to_area(selection(text=np.full((3, 4), "a")), area)
    with pytest.raises(InvalidParameter, match="No cell"):
        clip_to_area(selection(v=np.zeros((3, 4))), area_of([(0.1, 0.1), (0.2, 0.1), (0.2, 0.2)]))


@pytest.mark.parametrize("ring", [[(0, 0), (1, 1), (1, 0), (0, 1)], [(0, 0), (1, 1), (2, 2)]])
def test_a_ring_that_crosses_itself_is_refused(ring):
    with pytest.raises(InvalidParameter, match="not valid"):
        area_of(ring)


def test_a_grid_without_crs_is_asked_in_its_own_coordinates():
    assert Area(shapely.box(0, 1, 2, 3), None).box(UTM) == ((0, 1, 2, 3), None)
    assert Area(shapely.box(0, 1, 2, 3), lonlat()).box(None) == ((0, 1, 2, 3), lonlat())
