from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.errors import InvalidParameter
from cubegate.query.budget import plan_query
from cubegate.query.crs import parse_crs
from cubegate.query.cube import CubeQuery, select_cube
from cubegate.query.interval import parse_interval
from cubegate.query.variables import GridSettings, choose_variables

LONLAT = parse_crs("OGC:CRS84")


async def _ask(dataset, bounds=None, crs=None, *, names=None, datetime=None, **more):
    grid, variables = choose_variables(dataset, names, GridSettings())
    interval = None if datetime is None else parse_interval(datetime)
    return await select_cube(dataset, grid, variables, CubeQuery(bounds, crs, names, interval, **more)).load()


async def test_a_native_box_is_xarrays_own_selection(utm):
    found = await _ask(utm, (400_300, 3_899_000, 401_000, 3_899_500), datetime="2020-01-10/2020-02")
    expected = utm.sel(
        x=slice(400_300, 401_000), y=slice(3_899_500, 3_899_000), time=slice("2020-01-10", "2020-02")
    )
    xr.testing.assert_equal(found.dataset.displacement.drop_vars("spatial_ref"), expected.displacement)
    assert found.dataset.displacement.shape == (4, 17, 23)
    assert (found.shape, found.x, found.y, found.time, found.crs) == ("cube", "x", "y", "time", "EPSG:32611")
    assert found.dataset.displacement.attrs == utm.displacement.attrs
    assert "spatial_ref" in found.dataset.coords
    assert CRS.from_cf(found.dataset.spatial_ref.attrs).to_epsg() == 32611


async def test_without_a_box_it_is_everything(globe):
    found = await _ask(globe)
    xr.testing.assert_equal(found.dataset, globe)


async def test_boxes_over_the_seam_go_on_in_longitude(globe):
    found = await _ask(globe, (-20, -10, 20, 10), LONLAT)
    shifted = globe.assign_coords(lon=(globe.lon + 180) % 360 - 180).sortby("lon")
    expected = shifted.sel(lon=slice(-20, 20), lat=slice(10, -10))
    xr.testing.assert_equal(found.dataset, expected)
    assert found.dataset.lon.attrs == globe.lon.attrs


async def test_a_lonlat_box_of_a_polar_grid_is_the_box_around_its_outline(polar):
    box = (-60, 72, -20, 80)
    found = await _ask(polar, box, LONLAT)
    edge = np.linspace(0, 1, 2001)
    lon = np.concatenate([-60 + 40 * edge, np.full(2001, -20), -60 + 40 * edge, np.full(2001, -60)])
    lat = np.concatenate([np.full(2001, 72), 72 + 8 * edge, np.full(2001, 80), 72 + 8 * edge])
    x, y = Transformer.from_crs(4326, 3413, always_xy=True).transform(lon, lat)
    expected = polar.sel(x=slice(x.min(), x.max()), y=slice(y.max(), y.min()))
    np.testing.assert_array_equal(found.dataset.displacement, expected.displacement)


async def test_dates_are_sorted_with_their_values(utm):
    order = [3, 0, 5, 0, 1, 3]
    found = await _ask(
        utm.assign_coords(time=utm.time.values[order]), (400_000, 3_899_000, 400_100, 3_899_100)
    )
    stable = sorted(range(6), key=lambda i: order[i])
    box = utm.sel(x=slice(400_000, 400_100), y=slice(3_899_100, 3_899_000))
    np.testing.assert_array_equal(found.dataset.displacement, box.displacement.values[stable])
    np.testing.assert_array_equal(found.dataset.time, utm.time.values[sorted(order)])


async def test_axes_come_last_and_time_first_whatever_the_file(utm):
    found = await _ask(utm.transpose("x", "time", "y"))
    xr.testing.assert_equal(found.dataset.displacement.drop_vars("spatial_ref"), utm.displacement)
    assert found.dataset.displacement.dims == ("time", "y", "x")


async def test_attributes_do_not_refer_to_what_is_not_there(utm):
    utm["time_bnds"] = (("time", "two"), np.zeros((6, 2)))
    utm["time"].attrs["bounds"] = "time_bnds"
    utm["displacement"].attrs |= {
        "ancillary_variables": "coherence",
        "cell_measures": "area: cell_area",
        "long_name": "d",
    }
    found = await _ask(utm)
    assert "bounds" not in found.dataset.time.attrs
    assert set(found.dataset.displacement.attrs) == {"units", "grid_mapping", "long_name"}
    assert utm["time"].attrs["bounds"] == "time_bnds"


async def test_truth_values_and_characters_are_loaded_too(utm):
    flags = (np.arange(utm.sizes["y"] * utm.sizes["x"]) % 3 == 0).reshape(utm.sizes["y"], utm.sizes["x"])
    stored = xr.Dataset(
        {
            "flag": (("y", "x"), flags.astype("i1"), {"dtype": "bool", "grid_mapping": "spatial_ref"}),
            "name": (("y", "letter"), np.full((utm.sizes["y"], 3), b"a")),
        }
    ).merge(utm.drop_vars("displacement"))
    found = await _ask(xr.decode_cf(stored), (400_300, 3_899_000, 401_000, 3_899_500), names=("flag", "name"))
    box = found.dataset
    rows, columns = utm.indexes["y"].get_indexer(box.y), utm.indexes["x"].get_indexer(box.x)
    assert box.flag.dtype == bool
    np.testing.assert_array_equal(box.flag, flags[np.ix_(rows, columns)])
    assert set(box.name.to_numpy().tolist()) == {b"aaa"}


async def test_nothing_stays_loaded_in_the_shared_dataset(utm, tmp_path):
    utm.to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    lazy = xr.open_zarr(tmp_path / "cube.zarr", chunks=None)
    found = await _ask(lazy, names=("displacement", "spatial_ref"))
    np.testing.assert_array_equal(found.dataset.displacement, utm.displacement)
    assert not lazy.variables["displacement"]._in_memory
    assert not lazy.variables["spatial_ref"]._in_memory


async def test_levels_are_selected_or_stay_between_time_and_axes(utm):
    cube = (
        xr.concat([utm.displacement, utm.displacement * 2], "level")
        .assign_coords(level=[500.0, 850.0])
        .to_dataset(name="t")
    )
    cube["spatial_ref"] = utm["spatial_ref"]
    found = await _ask(cube)
    assert found.dataset.t.dims == ("time", "level", "y", "x")
    one = await _ask(cube, selectors={"level": "850"})
    np.testing.assert_array_equal(one.dataset.t, utm.displacement * 2)
    with pytest.raises(InvalidParameter):
        await _ask(cube, selectors={"time": "0"})


async def test_a_variable_along_one_axis_is_cut_with_the_box(utm):
    utm["column"] = ("x", np.arange(80))
    found = await _ask(utm, (400_300, 3_899_000, 400_400, 3_899_500), names=("displacement", "column"))
    assert found.dataset.column.values.tolist() == [10, 11, 12]


@pytest.mark.parametrize(
    ("bounds", "middle"),
    [((-20, 0, 20, 10), 0), ((340, 0, 20, 10), 0), ((170, 0, -150, 10), 190), ((-170, 0, -130, 10), -150)],
)
async def test_what_would_fit_lies_in_the_middle_of_what_was_asked(globe, bounds, middle):
    limits = SimpleNamespace(chunks=1000, bytes=1e9, cells=20)
    query = CubeQuery(bounds, LONLAT, interval=parse_interval("2020-01-01"))
    plan = plan_query(globe, GridSettings(), query, limits)
    assert plan.price.cells >= 21 * 5
    said = (await plan.hint()).split("bbox=")[1].rstrip(".")
    west, south, east, north = map(float, said.split(","))
    assert ((west + east) / 2, (south + north) / 2) == pytest.approx((middle, 5))
    smaller = plan_query(
        globe, GridSettings(), CubeQuery((west, south, east, north), LONLAT, interval=query.interval), limits
    )
    assert smaller.price.within(limits)
