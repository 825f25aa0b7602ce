"""netCDF4-python, pydap and xarray on cubes by DAP2: slices, projections and what decoding makes of them."""

import warnings

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from pydap.client import open_url
from pyproj import CRS
from tests.clients.netcdf_programs import granule_axes, granule_stack, missing
from tests.clients.places import DATES, GRIDS

from cubegate.cli import main

SLABS = [
    (slice(None, None, 5), slice(10, 700, 33), slice(5, None, 41)),
    (slice(20, 3, -4), slice(None, None, -70), slice(900, None, -101)),
    (slice(-3, None), -1, slice(-10, -2)),
    (7, 300, 500),
    (Ellipsis, slice(0, 3), 999),
]
FILLS = {"speed": -32767, "quality": 255}


def packed_values(number):
    """Stored values of one granule, and what they mean: scaled int16, uint8 and float32 with fill values."""
    random = np.random.default_rng(number)
    speed = random.integers(-500, 500, (1, 20, 30)).astype("i2")
    quality = random.integers(0, 255, (1, 20, 30)).astype("u1")
    depth = random.normal(size=(1, 20, 30)).astype("f4")
    speed[:, 3:6, 4:9], quality[:, 5:7, 20:], depth[:, 10:, :2] = FILLS["speed"], FILLS["quality"], np.nan
    return {"speed": speed, "quality": quality, "depth": depth}


@pytest.fixture(scope="module")
def packed(tmp_path_factory, served):
    """The address of a cube of three granules with packed values."""
    directory = tmp_path_factory.mktemp("packed")
    about = {"speed": {"scale_factor": 0.25, "add_offset": 100.0, "units": "m/s"}}
    for number in range(3):
        with netCDF4.Dataset(directory / f"{number}.nc", "w") as file:
            for name, size in {"time": 1, "lat": 20, "lon": 30}.items():
                file.createDimension(name, size)
                file.createVariable(name, "f8", (name,))[:] = number if name == "time" else np.arange(size)
            file["time"].units = "days since 2021-03-04"
            file["lat"].units, file["lon"].units = "degrees_north", "degrees_east"
            file.createVariable("level", "f8", ())[...] = 12.5
            for name, values in packed_values(number).items():
                variable = file.createVariable(
                    name, values.dtype, ("time", "lat", "lon"), zlib=True, fill_value=FILLS.get(name, False)
                )
                variable.set_auto_maskandscale(False)
                variable.setncatts(about.get(name, {}))
                variable[:] = values
    configuration = directory / "cubegate.yaml"
    configuration.write_text(
        yaml.safe_dump({"upstreams": {f"{directory.as_uri()}/": {}}, "collections": ["cubes/*.yaml"]})
    )
    build = ["build", "files", f"{directory}/*.nc", "--concat", "time", "--id", "packed"]
    assert main([*build, "-o", str(directory / "cubes"), "--config", str(configuration), "--json"]) == 0
    with served(configuration) as url:
        yield f"{url}/datasets/packed/opendap"


def assert_same(read, expected, compared):
    np.testing.assert_array_equal(np.asarray(read), expected)
    compared(np.asarray(read))


@pytest.fixture(scope="module")
def displacement(demo_cubes):
    return np.stack([demo_cubes.displacement(number) for number in range(len(demo_cubes.granules))])


@pytest.mark.parametrize("slab", SLABS)
def test_netcdf4_slices_as_numpy_does(displacement, demo_url, compared, slab):
    with netCDF4.Dataset(f"{demo_url}/datasets/opera-f11116/opendap") as opened:
        read = np.ma.filled(opened["displacement"][slab], np.nan)
    assert_same(read, displacement[slab], compared)


def test_netcdf4_takes_lists_of_indices(displacement, demo_url, compared):
    with netCDF4.Dataset(f"{demo_url}/datasets/opera-f11116/opendap") as opened:
        read = np.ma.filled(opened["displacement"][[1, 5, 22], 300, [10, 700]], np.nan)
    assert_same(read, displacement[[1, 5, 22]][:, 300, [10, 700]], compared)


def test_netcdf4_scales_and_masks(packed, compared):
    stored = {name: np.concatenate([packed_values(n)[name] for n in range(3)]) for name in packed_values(0)}
    with netCDF4.Dataset(packed) as opened:
        speed, quality, depth = (opened[name][:] for name in ("speed", "quality", "depth"))
        assert float(opened["level"][...]) == 12.5
        assert opened["level"][...].shape == ()
        opened.set_auto_scale(False)
        raw = opened["speed"][:]
    assert_same(speed.mask, stored["speed"] == FILLS["speed"], compared)
    assert_same(speed.compressed(), stored["speed"][~speed.mask] * 0.25 + 100, compared)
    assert_same(raw.compressed(), stored["speed"][~speed.mask], compared)
    assert_same(quality.mask, stored["quality"] == FILLS["quality"], compared)
    assert_same(quality.compressed(), stored["quality"][~quality.mask], compared)
    assert quality.max() > 127
    assert_same(np.ma.filled(depth, np.nan), stored["depth"], compared)
    assert depth.mask.sum() == np.isnan(stored["depth"]).sum()


@pytest.mark.parametrize("slab", SLABS[:1] + SLABS[3:])
def test_pydap_reads_slabs(displacement, demo_url, compared, slab):
    opened = open_url(f"{demo_url}/datasets/opera-f11116/opendap", protocol="dap2")
    read = np.asarray(opened["displacement"].array[slab].data)
    expected = displacement[slab]
    # it leaves dimensions of length one in place
    assert read.size == expected.size
    assert_same(read.reshape(expected.shape), expected, compared)


def test_pydap_reads_a_grid_with_its_maps(demo_cubes, displacement, demo_url, compared):
    opened = open_url(f"{demo_url}/datasets/opera-f11116/opendap", protocol="dap2", output_grid=True)
    grid = opened["displacement"][3:21:6, 50:60, 100:200:25]
    values, times, y, x = grid.data
    assert_same(values, displacement[3:21:6, 50:60, 100:200:25], compared)
    assert_same(y, demo_cubes.y[50:60], compared)
    assert_same(x, demo_cubes.x[100:200:25], compared)
    dates = pd.to_datetime(times, unit="s")
    assert list(dates) == demo_cubes.dates()[3:21:6]


def test_pydap_opens_a_projection(displacement, demo_url, compared):
    # with strides in the address pydap asks for the wrong part: they belong into slices
    asked = "displacement[3:10][100:110][200:210],time"
    opened = open_url(f"{demo_url}/datasets/opera-f11116/opendap?{asked}", protocol="dap2")
    assert set(opened) == {"displacement", "time"}
    assert_same(opened["displacement"].array[:].data, displacement[3:11, 100:111, 200:211], compared)


def without_escapes(attributes):
    """Attributes as they are in the file: pydap leaves the backslashes before quotes."""
    return {
        key: value.replace('\\"', '"') if isinstance(value, str) else value
        for key, value in attributes.items()
    }


def open_cube(address, engine, **options):
    with warnings.catch_warnings(action="ignore"):
        return xr.open_dataset(address, engine=engine, **options)


@pytest.mark.parametrize("engine", ["netcdf4", "pydap"])
@pytest.mark.parametrize("name", GRIDS)
def test_xarray_decodes_times_fill_and_crs(places, places_url, compared, engine, name):
    place = places[name]
    with open_cube(f"{places_url}/datasets/{name}/opendap", engine, decode_coords="all") as opened:
        assert_same(opened["time"].astype("M8[ns]"), DATES, compared)
        assert_same(opened["v"].values, missing(granule_stack(place)), compared)
        for axis, centres in granule_axes(place):
            assert_same(opened[axis].values, centres, compared)
        assert "mapping" in opened.coords
        assert CRS.from_cf(without_escapes(opened["mapping"].attrs)) == CRS(place.crs)
        part = opened["v"].isel(time=[2, 0]).sel({axis: centres[17] for axis, centres in granule_axes(place)})
        assert_same(part.values, missing(granule_stack(place))[[2, 0], 17, 17], compared)


@pytest.mark.parametrize("engine", ["netcdf4", "pydap"])
def test_xarray_unpacks(packed, compared, engine):
    stored = {name: np.concatenate([packed_values(n)[name] for n in range(3)]) for name in packed_values(0)}
    with open_cube(packed, engine) as opened:
        for name, scale, offset in (("speed", 0.25, 100), ("quality", 1, 0)):
            expected = np.where(stored[name] == FILLS[name], np.nan, stored[name] * scale + offset)
            assert_same(opened[name].values, expected, compared)
        assert_same(opened["depth"].values, stored["depth"], compared)
        assert opened["level"].item() == 12.5
        assert list(opened["time"].dt.day.values) == [4, 5, 6]


@pytest.mark.parametrize("engine", ["netcdf4", "pydap"])
def test_xarray_decodes_texts_and_unordered_times(demo_cubes, demo_url, compared, engine):
    store = demo_cubes.ice()
    with open_cube(f"{demo_url}/datasets/its-live/opendap", engine) as opened:
        texts = opened["satellite_img1"].to_numpy()
        read = [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
        assert read == store["satellite_img1"][:].tolist()
        seconds = (opened["mid_date"].to_numpy() - np.datetime64("1970-01-01")) / np.timedelta64(1, "s")
        np.testing.assert_allclose(seconds, store["mid_date"][:] * 86400, atol=1e-3)
        expected = store["v"][:, 60, 70].astype("f4")
        expected[expected == -32767] = np.nan
        assert_same(opened["v"].isel(y=60, x=70).values, expected, compared)
