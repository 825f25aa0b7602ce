import cftime
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import from_origin
from rasterio.windows import from_bounds

from cubegate.errors import InvalidParameter
from cubegate.query.bounds import find_window
from cubegate.query.crs import parse_crs
from cubegate.query.grid import find_grid

LONLAT = parse_crs("OGC:CRS84")


def test_the_grid_of_a_projected_cube(utm):
    grid = find_grid(utm, "displacement")
    assert (grid.x.name, grid.y.name, grid.time, grid.time_dim, grid.mapping) == (
        "x",
        "y",
        "time",
        "time",
        "spatial_ref",
    )
    assert grid.crs.to_epsg() == 32611
    assert grid.crs_name == "EPSG:32611"
    assert grid.y.descending
    assert not grid.geographic
    assert grid.bounds == (400_000, 3_898_215, 402_400, 3_900_015)


@pytest.mark.parametrize("text", ["EPSG:3413", CRS.from_epsg(3413).to_wkt()])
def test_configuration_goes_before_metadata(utm, text):
    assert find_grid(utm, "displacement", crs=text).crs.to_epsg() == 3413
    turned = find_grid(utm, "displacement", x="y", y="x")
    assert (turned.x.name, turned.y.name) == ("y", "x")
    with pytest.raises(InvalidParameter, match="no x and y"):
        find_grid(utm, "displacement", x="longitude")


@pytest.mark.parametrize(
    "attributes",
    [
        {"crs_wkt": CRS.from_epsg(3413).to_wkt()},
        {"spatial_ref": CRS.from_epsg(3413).to_wkt("WKT1_GDAL")},
        {"spatial_epsg": 3413, "grid_mapping_name": "polar_stereographic"},
        {"epsg_code": "EPSG:3413"},
        {k: v for k, v in CRS.from_epsg(3413).to_cf().items() if k != "crs_wkt"},
    ],
)
def test_grid_mappings_as_archives_write_them(polar, attributes):
    polar["spatial_ref"].attrs = attributes
    found = find_grid(polar, "displacement").crs
    place = Transformer.from_crs(found, 4326, always_xy=True).transform(-200_000, -1_000_000)
    assert place == pytest.approx(
        Transformer.from_crs(3413, 4326, always_xy=True).transform(-200_000, -1_000_000), abs=1e-9
    )


def test_a_lone_scalar_mapping_counts_without_being_named(polar):
    del polar["displacement"].attrs["grid_mapping"]
    polar = polar.rename(spatial_ref="mapping")
    grid = find_grid(polar, "displacement")
    assert (grid.crs.to_epsg(), grid.mapping) == (3413, "mapping")


def test_two_mappings_that_disagree_leave_the_crs_unknown(polar):
    del polar["displacement"].attrs["grid_mapping"]
    polar["other"] = ((), 0, CRS.from_epsg(3031).to_cf())
    grid = find_grid(polar, "displacement")
    assert grid.crs is None
    with pytest.raises(InvalidParameter, match="several grid mappings"):
        grid.known_crs("lon")


def test_the_extended_form_of_grid_mapping_names_axes(polar):
    polar["other"] = ((), 0, CRS.from_epsg(4326).to_cf())
    polar["displacement"].attrs["grid_mapping"] = "other: lat lon spatial_ref: x y"
    assert find_grid(polar, "displacement").mapping == "spatial_ref"


def test_grid_mapping_may_be_in_the_encoding_and_of_one_element(polar):
    polar["spatial_ref"] = ("one", [0], polar["spatial_ref"].attrs)
    polar["displacement"].encoding["grid_mapping"] = polar["displacement"].attrs.pop("grid_mapping")
    assert find_grid(polar, "displacement").crs.to_epsg() == 3413


def test_longitudes_and_latitudes_are_wgs84_without_being_told(globe, irregular):
    for cube in (globe, irregular):
        grid = find_grid(cube, "displacement")
        assert grid.crs_name == "EPSG:4326"
        assert grid.geographic
    assert find_grid(globe, "displacement").lon360
    assert not find_grid(irregular, "displacement").lon360


def test_lon_and_lat_without_units_count_by_their_values(globe):
    for name in ("lon", "lat"):
        globe[name].attrs = {}
    assert find_grid(globe, "displacement").crs_name == "EPSG:4326"
    assert find_grid(globe.assign_coords(lon=globe.lon * 1000), "displacement").crs is None


@pytest.mark.parametrize("units", ["rad", "km", "degrees"])
def test_axes_in_another_unit_than_the_crs_leave_it_unknown(polar, units):
    for name in ("x", "y"):
        polar[name].attrs["units"] = units
    grid = find_grid(polar, "displacement")
    assert grid.crs is None
    with pytest.raises(InvalidParameter, match=f"is in {units}, its CRS in metre") as caught:
        grid.known_crs("lon")
    assert caught.value.parameter == "lon"
    assert "crs:" in str(caught.value)
    assert grid.pixel(-2_450_000, 2_450_000).ix == 0
    assert find_grid(polar, "displacement", crs="EPSG:3413").crs.to_epsg() == 3413


def test_a_cube_without_any_crs_still_has_pixels_and_windows(utm):
    plain = utm.drop_vars("spatial_ref")
    del plain["displacement"].attrs["grid_mapping"]
    grid = find_grid(plain, "displacement")
    assert (grid.pixel(400_020, 3_899_990).ix, grid.pixel(400_020, 3_899_990).iy) == (0, 0)
    assert find_window(grid, (400_000, 3_899_900, 400_100, 3_900_000), None).x == slice(0, 3)
    with pytest.raises(InvalidParameter, match="no CF grid mapping"):
        find_window(grid, (-118, 34, -117, 35), LONLAT)


def test_curvilinear_grids_are_named_as_such():
    cube = xr.Dataset(
        {"sst": (("time", "nj", "ni"), np.zeros((1, 3, 4)))},
        {
            "lon": (("nj", "ni"), np.zeros((3, 4)), {"standard_name": "longitude"}),
            "lat": (("nj", "ni"), np.zeros((3, 4)), {"standard_name": "latitude"}),
        },
    )
    with pytest.raises(InvalidParameter, match="curvilinear"):
        find_grid(cube, "sst")
    with pytest.raises(InvalidParameter, match=r"nj, ni\) has no x and y"):
        find_grid(cube.drop_vars(["lon", "lat"]), "sst")


@pytest.mark.parametrize("x", [[0.0, 2, 1], [0.0, 1, 1], [0.0, np.nan, 2]])
def test_coordinates_without_order_find_no_cell(x, make_cube, times):
    with pytest.raises(InvalidParameter, match="strictly"):
        find_grid(make_cube(x, [0.0, 1], times), "displacement")


def test_names_of_axes_by_attributes_and_by_name(make_cube, times):
    by_axis = make_cube(
        [0.0, 1], [0.0, 1, 2], times, names=("a", "b"), attributes=({"axis": "X"}, {"axis": "Y"})
    )
    assert find_grid(by_axis, "displacement").x.name == "a"
    for names in (
        ("easting", "northing"),
        ("x_coordinates", "y_coordinates"),
        ("X", "Y"),
        ("longitude", "latitude"),
    ):
        grid = find_grid(make_cube([0.0, 1], [0.0, 1, 2], times, names=names), "displacement")
        assert (grid.x.name, grid.y.name) == names


def test_time_is_found_by_type_and_by_what_it_is_called(utm):
    renamed = utm.rename(time="mid_date")
    assert find_grid(renamed, "displacement").time == "mid_date"
    noleap = utm.assign_coords(time=cftime.num2date(np.arange(6), "days since 2000-01-01", "noleap"))
    decoded = xr.decode_cf(xr.conventions.encode_dataset_coordinates(noleap)[0] and xr.Dataset(
        {name: xr.conventions.encode_cf_variable(v, name=name) for name, v in noleap.variables.items()}
    ))  # fmt: skip
    assert find_grid(decoded, "displacement").time == "time"
    assert find_grid(utm.isel(time=0), "displacement").time is None
    undecoded = utm.assign_coords(time=np.arange(6))
    assert find_grid(undecoded, "displacement").time == "time"


def test_time_may_run_along_a_dimension_of_another_name(utm):
    stack = utm.rename(time="source_file_name").assign_coords(
        source_file_name=[f"f{i}" for i in range(6)], secondary_datetime=("source_file_name", utm.time.values)
    )
    grid = find_grid(stack, "displacement")
    assert (grid.time, grid.time_dim) == ("secondary_datetime", "source_file_name")
    assert find_grid(stack, "displacement", time="secondary_datetime").time_dim == "source_file_name"


@pytest.mark.parametrize("name", ["utm", "polar", "irregular", "globe"])
def test_pixels_are_those_of_xarrays_nearest(name, request):
    cube = request.getfixturevalue(name)
    grid = find_grid(cube, "displacement")
    random = np.random.default_rng(1)
    west, south, east, north = grid.bounds
    for x, y in zip(random.uniform(west, east, 300), random.uniform(south, north, 300), strict=True):
        pixel = grid.pixel(x, y)
        expected = cube.sel({grid.x.name: x, grid.y.name: y}, method="nearest")
        if name == "globe" and x > 359:
            expected = cube.sel({grid.x.name: 0, grid.y.name: y}, method="nearest")
        assert (pixel.x, pixel.y) == (expected[grid.x.name], expected[grid.y.name])
        assert cube[grid.x.name].values[pixel.ix] == pixel.x
        assert cube[grid.y.name].values[pixel.iy] == pixel.y


@pytest.mark.parametrize(
    "point", [(399_999, 3_899_000), (402_401, 3_899_000), (400_100, 3_900_016), (400_100, 3_898_214)]
)
def test_a_point_half_a_cell_beyond_the_edge_is_no_pixel(utm, point):
    with pytest.raises(InvalidParameter, match="outside") as caught:
        find_grid(utm, "displacement").pixel(*point)
    assert "400000 to 402400" in caught.value.accepted


def test_longitudes_are_taken_in_either_convention(globe, irregular):
    grid = find_grid(globe, "displacement")
    assert grid.pixel(-118.3, 34).x == 242
    assert grid.pixel(241.7, 34).x == 242
    assert grid.pixel(359.5, 0).x == 0
    assert find_grid(irregular, "displacement").pixel(243, 5).x == -115


def test_no_latitude_lies_beyond_the_pole(globe):
    grid = find_grid(globe.assign_coords(lat=np.linspace(90, -90, 89)), "displacement")
    assert grid.pixel(0, 90).iy == 0
    with pytest.raises(InvalidParameter):
        grid.pixel(0, 90.5)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_windows_of_a_projected_grid_are_those_of_rasterio(utm):
    grid = find_grid(utm, "displacement")
    transform = from_origin(400_000, 3_900_015, 30, 30)
    random = np.random.default_rng(2)
    for _ in range(200):
        x, y = (
            np.sort(random.integers(1, 79, 2) * 30 + 400_000),
            np.sort(random.integers(1, 59, 2) * 30 + 3_898_215),
        )
        if x[0] == x[1] or y[0] == y[1]:
            continue
        found = find_window(grid, (x[0], y[0], x[1], y[1]), None)
        expected = from_bounds(x[0], y[0], x[1], y[1], transform).round_offsets().round_lengths()
        rows, columns = expected.toslices()
        assert (found.x, found.y) == (columns, rows)


def test_32_bit_coordinates_are_met_by_decimal_bounds(make_cube, times):
    lon, lat = np.arange(-118, -116, 0.1, np.float32), np.arange(33, 35, 0.1, np.float32)
    assert (lon.astype(float) > -117.0).argmax() != 10 or (lat.astype(float) > 34.0).argmax() != 11
    grid = find_grid(make_cube(lon, lat, times, names=("lon", "lat")), "displacement")
    found = find_window(grid, (-117.5, 33.5, -117.0, 34.0), None)
    assert (found.x, found.y) == (slice(5, 11), slice(5, 11))


def test_a_box_within_a_cell_is_that_cell(utm):
    grid = find_grid(utm, "displacement")
    found = find_window(grid, (400_031, 3_899_990, 400_032, 3_899_991), None)
    assert (found.x, found.y) == (slice(1, 2), slice(0, 1))


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((170, 20, -170, 30), "outside"),
        ((10, 30, 20, 25), "empty"),
        ((-100, 20, 300, 100), "degrees"),
        ((5, 6, 7, 8), "outside"),
    ],
)
def test_boxes_that_mean_nothing_are_explained(utm, bounds, match):
    with pytest.raises(InvalidParameter, match=match) as caught:
        find_window(find_grid(utm, "displacement"), bounds, LONLAT)
    assert caught.value.parameter == "bbox"
    if match == "outside":
        assert "-118." in caught.value.accepted


@pytest.mark.parametrize(
    "box",
    [(-118.1, 35.225, -118.085, 35.236), (-180, -90, 180, 90), (-119, 35, -117, 36), (241, 35, 242.9, 36)],
)
def test_a_lonlat_box_on_a_projected_grid_holds_every_cell_inside(utm, box):
    grid = find_grid(utm, "displacement")
    found = find_window(grid, box, LONLAT)
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(*np.meshgrid(utm.x, utm.y))
    inside = (lat >= box[1]) & (lat <= box[3]) & ((lon - box[0]) % 360 <= box[2] - box[0])
    chosen = np.zeros(inside.shape, bool)
    chosen[found.y, found.x] = True
    assert inside.any()
    assert not (inside & ~chosen).any()
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    if box[0] > -118.2 and box[2] < 0:
        slack = 2
        assert rows.size <= np.ptp(np.flatnonzero(inside.any(1))) + 1 + slack
        assert columns.size <= np.ptp(np.flatnonzero(inside.any(0))) + 1 + slack


@pytest.mark.parametrize(
    "box",
    [(-60, 70, 10, 85), (-180, 75, 180, 90), (100, 80, 170, 88), (170, 75, 200, 80), (-190, 75, -160, 80)],
)
def test_a_lonlat_box_around_the_pole_holds_every_cell_inside(polar, box):
    found = find_window(find_grid(polar, "displacement"), box, LONLAT)
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(*np.meshgrid(polar.x, polar.y))
    inside = (lat >= box[1]) & (lat <= box[3]) & ((lon - box[0]) % 360 <= box[2] - box[0])
    chosen = np.zeros(inside.shape, bool)
    chosen[found.y, found.x] = True
    assert inside.any()
    assert not (inside & ~chosen).any()
    # the smallest box of cells around them, give or take one
    for axis in (0, 1):
        tight = np.flatnonzero(inside.any(axis))
        loose = np.flatnonzero(chosen.any(axis))
        if box != (-180, 75, 180, 90):
            continue
        assert tight[0] - loose[0] <= 1
        assert loose[-1] - tight[-1] <= 1


def test_a_projected_box_on_a_lonlat_grid(globe):
    grid = find_grid(globe, "displacement")
    found = find_window(grid, (-2e6, -2e6, 2e6, 2e6), parse_crs("EPSG:3413"))
    assert found.x == slice(0, 180)
    assert globe.lat.values[found.y].max() == 88
    corner = Transformer.from_crs(3413, 4326, always_xy=True).transform(2e6, 2e6)[1]
    assert globe.lat.values[found.y].min() == np.ceil(corner / 2) * 2


def test_a_box_over_the_seam_of_a_globe(globe):
    found = find_window(find_grid(globe, "displacement"), (-11, -5, 11, 5), LONLAT)
    assert globe.lon.values[found.x].tolist() == [350, 352, 354, 356, 358, 0, 2, 4, 6, 8, 10]
    assert found.x_values.tolist() == list(range(-10, 11, 2))
    west = find_window(find_grid(globe, "displacement"), (-120, 30, -110, 40), LONLAT)
    assert globe.lon.values[west.x].tolist() == list(range(240, 251, 2))
    assert west.x_values is None


def test_a_single_row_takes_its_height_from_the_columns_or_the_geotransform(make_cube, times):
    row = make_cube(np.arange(0, 100, 10.0), [500.0], times, crs="EPSG:32611")
    assert find_grid(row, "displacement").bounds == (-5, 495, 95, 505)
    one = make_cube([50.0], [500.0], times, crs="EPSG:32611")
    with pytest.raises(InvalidParameter):
        find_grid(one, "displacement").pixel(51, 500)
    one["spatial_ref"].attrs["GeoTransform"] = "0 100 0 600 0 -200"
    assert find_grid(one, "displacement").bounds == (0, 400, 100, 600)
