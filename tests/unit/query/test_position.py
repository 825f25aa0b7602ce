import numpy as np
import pytest
import xarray as xr
from pyproj import Geod, Transformer

from cubegate.errors import InvalidParameter
from cubegate.query.crs import parse_crs
from cubegate.query.interval import parse_interval
from cubegate.query.position import Points, PositionQuery, select_position
from cubegate.query.variables import GridSettings, choose_variables

LONLAT = parse_crs("OGC:CRS84")


async def _ask(
    dataset, x, y, crs=None, *, names=None, settings=None, datetime=None, selectors=None, **points
):
    grid, variables = choose_variables(dataset, names, settings or GridSettings())
    many = np.ndim(x) > 0
    query = PositionQuery(
        Points(tuple(np.atleast_1d(x)), tuple(np.atleast_1d(y)), crs, many=many, **points),
        names,
        None if datetime is None else parse_interval(datetime),
        selectors or {},
    )
    return await select_position(dataset, grid, variables, query).load()


async def test_a_native_point_is_the_series_of_its_pixel(utm):
    found = await _ask(utm, 401_000, 3_899_000)
    expected = utm.displacement.sel(x=401_000, y=3_899_000, method="nearest")
    assert (found.shape, found.x, found.y, found.time, found.crs) == (
        "series",
        "x",
        "y",
        "time",
        "EPSG:32611",
    )
    xr.testing.assert_equal(
        found.dataset.displacement.drop_vars(["longitude", "latitude", "distance"]), expected
    )
    assert found.dataset.displacement.attrs["units"] == "m"
    assert found.dataset.distance == pytest.approx(np.hypot(5, 10), rel=1e-3)


async def test_a_lonlat_point_on_a_projected_grid(polar):
    lon, lat = -42.3, 75.1
    found = await _ask(polar, lon, lat, LONLAT)
    x, y = Transformer.from_crs(4326, 3413, always_xy=True).transform(lon, lat)
    expected = polar.displacement.sel(x=x, y=y, method="nearest")
    np.testing.assert_array_equal(found.dataset.displacement, expected)
    centre = Transformer.from_crs(3413, 4326, always_xy=True).transform(expected.x, expected.y)
    assert (found.dataset.longitude, found.dataset.latitude) == pytest.approx(centre, abs=1e-9)
    assert found.dataset.distance == pytest.approx(Geod(ellps="WGS84").inv(lon, lat, *centre)[2], abs=1e-3)
    assert found.dataset.distance.attrs["units"] == "m"


async def test_longitudes_of_the_answer_are_from_minus_180(globe):
    found = await _ask(globe, -118.3, 33.2, LONLAT)
    assert found.dataset.lon == 242
    assert found.dataset.longitude == -118
    assert found.dataset.distance == pytest.approx(Geod(ellps="WGS84").inv(-118.3, 33.2, -118, 34)[2])
    np.testing.assert_array_equal(found.dataset.displacement, globe.displacement.sel(lon=242, lat=34))


async def test_names_of_the_grid_itself_are_kept(irregular):
    found = await _ask(irregular, 243.0, 6.0, LONLAT)
    assert (found.dataset.longitude, found.dataset.latitude) == (-115, 5)
    assert set(found.dataset.coords) == {"longitude", "latitude", "time", "distance"}


async def test_many_points_are_a_table(polar):
    random = np.random.default_rng(3)
    x, y = random.uniform(-2.4e6, 2.4e6, (2, 200))
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(x, y)
    ids = tuple(f"p{i}" for i in range(200))
    found = await _ask(polar, lon, lat, LONLAT, ids=ids)
    expected = polar.displacement.sel(
        x=xr.DataArray(x, dims="point"), y=xr.DataArray(y, dims="point"), method="nearest"
    )
    assert found.shape == "points"
    assert found.dataset.displacement.dims == ("point", "time")
    np.testing.assert_array_equal(found.dataset.displacement, expected.transpose("point", "time"))
    np.testing.assert_array_equal(found.dataset.x, expected.x)
    np.testing.assert_array_equal(found.dataset.requested_x, lon)
    np.testing.assert_array_equal(found.dataset.requested_y, lat)
    assert found.dataset.id.values.tolist() == list(ids)
    centre = Transformer.from_crs(3413, 4326, always_xy=True).transform(expected.x, expected.y)
    np.testing.assert_allclose(
        found.dataset.distance, Geod(ellps="WGS84").inv(lon, lat, *centre)[2], atol=1e-3
    )


async def test_times_are_sorted_and_duplicates_stay_in_file_order(utm):
    order = [3, 0, 5, 0, 1, 3]
    shuffled = utm.assign_coords(time=utm.time.values[order])
    found = await _ask(shuffled, 401_000, 3_899_000)
    series = shuffled.displacement.sel(x=401_000, y=3_899_000, method="nearest")
    stable = sorted(range(6), key=lambda i: order[i])
    np.testing.assert_array_equal(found.dataset.displacement, series.values[stable])
    np.testing.assert_array_equal(found.dataset.time, series.time.values[stable])
    part = await _ask(shuffled, 401_000, 3_899_000, datetime="2020-01-01/2020-01-13")
    np.testing.assert_array_equal(part.dataset.displacement, series.values[[1, 3, 4]])


async def test_other_dimensions_are_selected_by_value_or_index_or_stay(utm):
    levels = xr.concat([utm.displacement, utm.displacement * 2], "level").assign_coords(level=[500.0, 850.0])
    cube = xr.Dataset({"t": levels.expand_dims(band=3)}).transpose("time", "level", "band", "y", "x")
    cube["spatial_ref"] = utm["spatial_ref"]
    cube["t"].attrs["grid_mapping"] = "spatial_ref"
    expected = cube.t.sel(x=401_000, y=3_899_000, method="nearest")
    found = await _ask(cube, 401_000, 3_899_000, selectors={"level": "850", "band": "2"})
    assert found.dataset.t.dims == ("time",)
    np.testing.assert_array_equal(found.dataset.t, expected.sel(level=850).isel(band=2))
    kept = await _ask(cube, 401_000, 3_899_000, selectors={"band": "0"})
    np.testing.assert_array_equal(kept.dataset.t, expected.isel(band=0))
    for name, value, accepted in (("level", "700", "500.0, 850.0"), ("band", "3", "0 to 2"), ("band", "-1", "0 to 2"),
                                  ("height", "1", "band, level"), ("level", "high", "500.0, 850.0")):  # fmt: skip
        with pytest.raises(InvalidParameter) as caught:
            await _ask(cube, 401_000, 3_899_000, selectors={name: value})
        assert caught.value.parameter == name
        assert accepted in caught.value.accepted


async def test_variables_beside_the_grid_may_be_named(utm):
    utm["reference_time"] = ("time", utm.time.values - np.timedelta64(12, "D"))
    utm["mission"] = ((), "S1")
    utm["mask"] = (("y", "x"), np.arange(4800).reshape(60, 80))
    utm["label"] = ("time", np.array([f"granule {i}" for i in range(6)], object))
    default = await _ask(utm, 401_000, 3_899_000)
    assert set(default.dataset.data_vars) == {"displacement", "mask"}
    names = ("mask", "reference_time", "mission", "label")
    found = await _ask(utm, 401_000, 3_899_000, names=names, datetime="2020-01-13")
    assert tuple(found.dataset.data_vars) == names
    assert found.dataset.label.values.tolist() == ["granule 1"]
    assert found.dataset.mask == utm.mask.sel(x=401_000, y=3_899_000, method="nearest")


@pytest.mark.parametrize("names", [("velocity",), ("displacement", "velocity"), ("x",), ()])
async def test_unknown_variables_are_named(utm, names):
    with pytest.raises(InvalidParameter) as caught:
        await _ask(utm, 401_000, 3_899_000, names=names)
    assert caught.value.parameter == "variables"
    assert "displacement" in caught.value.accepted


async def test_variables_of_two_grids_are_asked_alone(utm, globe):
    both = xr.merge([utm, globe.rename(displacement="sst")], compat="override")
    assert (await _ask(both, 3.0, 4.0, LONLAT, names=("sst",))).x == "lon"
    with pytest.raises(InvalidParameter, match="another grid"):
        await _ask(both, 3.0, 4.0, LONLAT, names=("displacement", "sst"))


async def test_a_point_outside_is_told_in_its_own_terms(utm):
    with pytest.raises(InvalidParameter) as caught:
        await _ask(utm, -74.0, 40.7, LONLAT, parameter="lon")
    assert caught.value.parameter == "lon"
    assert "-74, 40.7" in caught.value.detail
    assert "-118." in caught.value.accepted
    with pytest.raises(InvalidParameter, match="The point 'b'"):
        await _ask(utm, [401_000, 0], [3_899_000, 0], None, ids=("a", "b"))


async def test_no_time_inside_and_no_time_at_all(utm):
    with pytest.raises(InvalidParameter, match="No time") as caught:
        await _ask(utm, 401_000, 3_899_000, datetime="1999")
    assert caught.value.accepted == "times from 2020-01-01T00:00:00Z to 2020-03-01T00:00:00Z"
    with pytest.raises(InvalidParameter, match="no time dimension"):
        await _ask(utm.isel(time=0), 401_000, 3_899_000, datetime="2020")
    assert (await _ask(utm.isel(time=0), 401_000, 3_899_000)).time is None


async def test_time_may_run_along_a_dimension_of_another_name(utm):
    stack = utm.rename(time="file").assign_coords(
        file=[f"f{i}" for i in range(6)], secondary_datetime=("file", utm.time.values[::-1])
    )
    found = await _ask(stack, 401_000, 3_899_000)
    assert found.dataset.displacement.dims == ("secondary_datetime",)
    series = utm.displacement.sel(x=401_000, y=3_899_000, method="nearest").values
    np.testing.assert_array_equal(found.dataset.displacement, series[::-1])
    assert found.dataset.file.values.tolist() == [f"f{i}" for i in range(5, -1, -1)]


async def test_a_grid_without_crs_gives_a_distance_only_in_known_units(utm):
    plain = utm.drop_vars("spatial_ref")
    del plain["displacement"].attrs["grid_mapping"]
    found = await _ask(plain, 401_000, 3_899_000)
    assert found.crs == ""
    assert "longitude" not in found.dataset.coords
    assert found.dataset.distance == pytest.approx(np.hypot(5, 10))
    plain["x"].attrs = {}
    assert "distance" not in (await _ask(plain, 401_000, 3_899_000)).dataset.coords


async def test_maps_of_longitudes_are_not_read_and_names_in_use_are_not_taken(utm):
    utm = utm.assign_coords(lon=(("y", "x"), np.zeros((60, 80)))).assign(distance=utm.displacement * 3)
    found = await _ask(utm, 401_000, 3_899_000)
    assert "lon" not in found.dataset.variables
    np.testing.assert_array_equal(found.dataset.distance, found.dataset.displacement * 3)
