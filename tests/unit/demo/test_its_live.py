import json

import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr

from cubegate.demo.lines import ICE_X, ICE_Y


@pytest.fixture(scope="module")
def path(demo):
    return demo / "its-live.zarr"


@pytest.fixture(scope="module")
def cube(path):
    return xr.open_zarr(path, chunks=None)


def test_it_is_zarr_v2_with_consolidated_metadata_and_cubes_of_chunks(path):
    metadata = json.loads((path / ".zmetadata").read_text())["metadata"]
    for name in ("v", "vx", "vy"):
        array = metadata[f"{name}/.zarray"]
        assert (array["zarr_format"], array["dtype"], array["fill_value"]) == (2, "<i2", -32767)
        assert (array["shape"], array["chunks"]) == ([410, 180, 165], [300, 20, 20])
        assert array["compressor"]["id"] == "blosc"
    assert metadata["interp_mask/.zarray"]["dtype"] == "|u1"
    strings = metadata["satellite_img1/.zarray"]
    assert (strings["dtype"], strings["filters"]) == ("|O", [{"id": "vlen-utf8"}])


def test_mid_date_is_unsorted_repeats_and_has_parts_of_seconds(cube):
    dates = cube.mid_date.values
    assert (np.diff(dates) < np.timedelta64(0, "ns")).any()
    assert len(np.unique(dates)) == len(dates) - 12
    assert (dates != dates.astype("datetime64[s]")).mean() > 0.9
    assert np.datetime64("2015-01-01") <= dates.min() < dates.max() < np.datetime64("2024-01-01")


def test_missing_values_are_masked_and_true_zeros_are_not(path, cube):
    stored = zarr.open_group(path, mode="r")
    for name in ("v", "vx", "vy"):
        raw, decoded = stored[name][:], cube[name].values
        missing = raw == -32767
        np.testing.assert_array_equal(np.isnan(decoded), missing)
        np.testing.assert_array_equal(decoded[~missing], raw[~missing].astype(np.float32))
    assert (raw == 0).any()
    assert set(np.unique(stored["interp_mask"][:])) == {0, 1}


def test_the_magnitude_belongs_to_the_components(cube):
    speed = np.hypot(cube.vx.values, cube.vy.values)
    assert np.nanmax(np.abs(speed - cube.v.values)) < 1.5
    trunk = cube.sel(x=ICE_X, y=ICE_Y, method="nearest")
    assert float(trunk.v.median()) > 2000
    assert float(trunk.vx.median()) < 0


def test_every_pair_names_its_satellite_and_mission(cube):
    missions = {"1A": "S", "1B": "S", "2A": "S", "2B": "S", "7": "L", "8": "L", "9": "L"}
    satellites = cube.satellite_img1.values
    assert set(satellites) == set(missions)
    assert [missions[name] for name in satellites] == cube.mission_img1.values.tolist()
    assert cube.v_error.dims == cube.date_dt.dims == ("mid_date",)
    assert float(cube.v_error.min()) > 0


def test_the_grid_is_polar_stereographic_with_y_descending(cube):
    assert pyproj.CRS.from_wkt(cube.mapping.attrs["crs_wkt"]) == pyproj.CRS.from_epsg(3413)
    assert cube.mapping.attrs["spatial_epsg"] == 3413
    assert pyproj.CRS.from_cf(
        {k: v for k, v in cube.mapping.attrs.items() if "wkt" not in k and k != "spatial_ref"}
    )
    assert cube.v.attrs["grid_mapping"] == "mapping" or cube.v.encoding["grid_mapping"] == "mapping"
    assert set(np.diff(cube.y.values)) == {-120}
    assert set(np.diff(cube.x.values)) == {120}
    left, _, _, top, *_ = map(float, cube.mapping.attrs["GeoTransform"].split())
    assert (cube.x.values[0], cube.y.values[0]) == (left + 60, top - 60)
