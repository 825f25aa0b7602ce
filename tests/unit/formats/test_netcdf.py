import json
import shutil
import subprocess
from dataclasses import replace

import cftime
import netCDF4
import numpy as np
import pyproj
import pytest
import xarray as xr

from cubegate.errors import NotAcceptable
from cubegate.formats.netcdf import NetCDFFormat

NAMES = ("displacement", "coherence", "counts", "big", "valid", "label", "observed")


@pytest.fixture
def file(tmp_path):
    def write(result):
        path = tmp_path / "result.nc"
        path.write_bytes(b"".join(NetCDFFormat().write(result)))
        return path

    return write


@pytest.mark.parametrize("kind", ["cube", "points", "series"])
@pytest.mark.parametrize("compress", [0, 6])
def test_xarray_reads_the_same_values(request, kind, compress, file):
    result = request.getfixturevalue(kind)(*NAMES, compress=compress)
    with xr.open_dataset(file(result), engine="h5netcdf") as found:
        for name in (*NAMES, *result.dataset.coords):
            expected = result.dataset[name]
            got = found[name]
            assert got.dims == expected.dims
            np.testing.assert_array_equal(got.to_numpy().astype(expected.dtype), expected.to_numpy())
            if name not in ("label", "observed", "time"):
                assert got.dtype == expected.dtype
        assert set(found.variables) == set(result.dataset.variables)


def test_netcdf4_reads_the_same_values_and_fills(cube, file):
    result = cube(*NAMES)
    with netCDF4.Dataset(file(result)) as found:
        found.set_auto_mask(False)
        np.testing.assert_array_equal(found["counts"][:], np.arange(60, dtype="i2").reshape(3, 4, 5) - 20)
        assert found["counts"].dtype == np.int16
        assert found["counts"]._FillValue == -7
        assert np.isnan(found["displacement"]._FillValue)
        np.testing.assert_array_equal(found["displacement"][:], result.dataset["displacement"].to_numpy())
        for coordinate in ("x", "y", "time"):
            assert "_FillValue" not in found[coordinate].ncattrs()
        assert found["valid"].dtype == np.int8
        assert "coordinates" not in found["spatial_ref"].ncattrs()


def test_axes_and_origin_follow_cf(cube, file):
    with netCDF4.Dataset(file(cube("displacement"))) as found:
        assert found.Conventions == "CF-1.8"
        assert (found.title, found.cubegate_dataset, found.cubegate_dataset_version) == (
            "A demo cube",
            "demo",
            "abc123",
        )
        assert found.history.startswith("cube of dataset demo version abc123 by cubegate ")
        assert (found["x"].standard_name, found["x"].units, found["x"].axis) == (
            "projection_x_coordinate",
            "m",
            "X",
        )
        assert (found["y"].standard_name, found["y"].units, found["y"].axis) == (
            "projection_y_coordinate",
            "m",
            "Y",
        )
        assert (found["time"].standard_name, found["time"].axis) == ("time", "T")
        assert found["displacement"].grid_mapping == "spatial_ref"
        attributes = {key: found["spatial_ref"].getncattr(key) for key in found["spatial_ref"].ncattrs()}
        assert pyproj.CRS.from_cf(attributes).to_epsg() == 32611


def test_degrees_are_called_so(cube, file):
    with netCDF4.Dataset(file(cube("displacement", geographic=True, crs="EPSG:4326"))) as found:
        assert (found["x"].standard_name, found["x"].units) == ("longitude", "degrees_east")
        assert (found["y"].standard_name, found["y"].units) == ("latitude", "degrees_north")


@pytest.mark.parametrize("attribute", [{"attrs"}, {"encoding"}])
def test_the_named_grid_mapping_is_kept(cube, file, attribute):
    result = cube("displacement")
    mapping = result.dataset["spatial_ref"].assign_attrs(comment="ours")
    dataset = result.dataset.drop_vars("spatial_ref").assign(utm=mapping)
    del dataset["displacement"].attrs["grid_mapping"]
    getattr(dataset["displacement"], *attribute)["grid_mapping"] = "utm"
    with netCDF4.Dataset(file(replace(result, dataset=dataset))) as found:
        assert found["displacement"].grid_mapping == "utm"
        assert found["utm"].comment == "ours"


def test_a_configured_crs_replaces_a_contradicting_grid_mapping(cube, file):
    with netCDF4.Dataset(file(replace(cube("displacement"), crs="EPSG:3413"))) as found:
        mapping = found[found["displacement"].grid_mapping]
        assert (
            pyproj.CRS.from_cf({key: mapping.getncattr(key) for key in mapping.ncattrs()}).to_epsg() == 3413
        )


@pytest.mark.parametrize(("crs", "latitude"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_polar_grid_mapping_names_its_pole(cube, file, crs, latitude):
    with netCDF4.Dataset(file(replace(cube("displacement"), crs=crs))) as found:
        mapping = found[found["displacement"].grid_mapping]
        assert mapping.latitude_of_projection_origin == latitude


def test_a_missing_grid_mapping_is_made(cube, file):
    result = cube("displacement")
    with netCDF4.Dataset(file(replace(result, dataset=result.dataset.drop_vars("spatial_ref")))) as found:
        assert found[found["displacement"].grid_mapping].grid_mapping_name == "transverse_mercator"


def test_packed_data_are_written_unpacked(cube, file):
    stored = xr.Variable(
        ("y", "x"), np.arange(20, dtype="i2").reshape(4, 5),
        {"scale_factor": 0.01, "add_offset": 273.15, "_FillValue": np.int16(3), "valid_range": np.array([0, 5], "i2")},
    )  # fmt: skip
    decoded = xr.conventions.decode_cf_variable("t", stored)
    result = cube()
    with netCDF4.Dataset(file(replace(result, dataset=result.dataset.assign(t=decoded)))) as found:
        assert not {"scale_factor", "add_offset", "valid_range"} & set(found["t"].ncattrs())
        np.testing.assert_array_equal(np.ma.filled(found["t"][:], np.nan), decoded.to_numpy())
        assert found["t"].dtype == decoded.dtype


def test_points_are_a_discrete_sampling_geometry(points, file):
    with netCDF4.Dataset(file(points("displacement"))) as found:
        assert found.featureType == "timeSeries"
        assert found["point"].cf_role == "timeseries_id"
        assert found["displacement"].dimensions == ("point", "time")
        assert {"longitude", "latitude"} <= set(found["displacement"].coordinates.split())
        assert found["distance"].units == "m"
        assert "axis" not in found["x"].ncattrs()


def test_points_without_a_number_get_one(points, file):
    result = points("displacement")
    with netCDF4.Dataset(file(replace(result, dataset=result.dataset.drop_vars("point")))) as found:
        assert found["point"][:].tolist() == [0, 1, 2]


def test_other_calendars_are_kept(other_calendar, file):
    result = other_calendar("displacement")
    with netCDF4.Dataset(file(result)) as found:
        time = found["time"]
        assert time.calendar == "360_day"
        dates = cftime.num2date(time[:], time.units, time.calendar)
        assert dates.tolist() == result.dataset["time"].to_numpy().tolist()


@pytest.mark.parametrize(
    ("dates", "units"),
    [
        (["2020-01-13", "2021-01-13"], "days"), (["2020-01-13T06", "2020-01-13"], "hours"),
        (["2020-01-13T06:30", "2020-01-13"], "minutes"), (["2020-01-13T06:30:01", "2020-01-13"], "seconds"),
        (["2020-01-13T06:30:01.5", "1890-01-13"], "milliseconds"),
    ],
)  # fmt: skip
def test_times_are_whole_numbers_in_the_coarsest_exact_unit(series, file, dates, units):
    values = np.array(dates, "M8[ns]")
    dataset = xr.Dataset({"v": ("time", np.arange(2))}, {"time": values})
    with netCDF4.Dataset(path := file(replace(series(), dataset=dataset))) as found:
        assert found["time"].units == f"{units} since 1970-01-01 00:00:00"
        assert found["time"].dtype == np.int64
    with xr.open_dataset(path) as again:
        np.testing.assert_array_equal(again["time"].to_numpy(), values)


def test_missing_times_stay_missing(series, file):
    values = np.array(["2020-01-13", "NaT", "2020-01-14"], "M8[ns]")
    dataset = series().dataset.assign(seen=("time", values))
    with xr.open_dataset(file(replace(series(), dataset=dataset))) as found:
        np.testing.assert_array_equal(found["seen"].to_numpy(), values)


def test_nothing_but_nan_and_no_times(series, file):
    result = series("displacement")
    nothing = replace(result, dataset=result.dataset.assign(displacement=("time", np.full(3, np.nan, "f4"))))
    with xr.open_dataset(file(nothing)) as found:
        assert np.isnan(found["displacement"]).all()
    with xr.open_dataset(file(replace(result, dataset=result.dataset.isel(time=slice(0))))) as found:
        assert found.sizes["time"] == 0


def test_odd_attributes_do_not_break_the_file(cube, file):
    result = cube("displacement")
    odd = {
        "nested": {"a": [1, {"b": None}]}, "none": None, "flag": True, "huge": 2**70, "words": ["a", "b"], "empty": [],
        "DIMENSION_LIST": "x", "NAME": "y", "coordinates": "x y", "mixed": [1, "a"], "numbers": [1, 2],
        "zero": "a\0b", "zeros": ["a\0", "\0"], "z\0": "",
    }  # fmt: skip
    result.dataset["displacement"].attrs.update(odd)
    result.dataset.attrs.update({**odd, "history": "2020: made"})
    with netCDF4.Dataset(file(result)) as found:
        variable = found["displacement"]
        assert json.loads(variable.nested) == {"a": [1, {"b": None}]}
        assert variable.flag == "true"
        assert variable.huge == str(2**70)
        assert variable.words == ["a", "b"]
        assert (variable.zero, variable.zeros) == ("a\ufffdb", ["a\ufffd", "\ufffd"])
        assert variable.numbers.tolist() == [1, 2]
        assert found.history.splitlines()[0] == "2020: made"
        np.testing.assert_array_equal(
            np.ma.filled(variable[:], np.nan), result.dataset["displacement"].to_numpy()
        )


def test_half_floats_are_widened(series, file):
    dataset = xr.Dataset({"v": ("time", np.array([0.1, np.nan, 65504], "f2"))})
    with xr.open_dataset(file(replace(series(), dataset=dataset))) as found:
        np.testing.assert_array_equal(found["v"].to_numpy(), dataset["v"].to_numpy().astype("f4"))


def test_complex_numbers_are_refused_with_a_way_out(series):
    with pytest.raises(NotAcceptable, match="f=csv"):
        NetCDFFormat().write(series("phasor"))


def test_the_spool_file_is_removed_even_when_the_client_leaves(cube, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pieces = NetCDFFormat().write(cube("displacement"))
    assert next(pieces).startswith(b"\x89HDF")
    assert list(tmp_path.iterdir())
    pieces.close()
    assert not list(tmp_path.iterdir())


def test_same_result_same_bytes(cube):
    assert b"".join(NetCDFFormat().write(cube(*NAMES))) == b"".join(NetCDFFormat().write(cube(*NAMES)))


@pytest.mark.gdal
@pytest.mark.parametrize(
    ("crs", "geographic"), [("EPSG:32611", False), ("EPSG:3413", False), ("EPSG:4326", True)]
)
def test_gdalinfo_places_the_grid(cube, file, crs, geographic):
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo is not installed")
    result = cube("displacement", crs=crs, geographic=geographic)
    said = json.loads(
        subprocess.run(
            ["gdalinfo", "-json", f"NETCDF:{file(result)}:displacement"], check=True, capture_output=True
        ).stdout
    )
    assert pyproj.CRS.from_wkt(said["coordinateSystem"]["wkt"]).equals(
        pyproj.CRS(crs), ignore_axis_order=True
    )
    x, y = result.dataset["x"].to_numpy(), result.dataset["y"].to_numpy()
    step = x[1] - x[0]
    np.testing.assert_allclose(said["geoTransform"], [x[0] - step / 2, step, 0, y[0] + step / 2, 0, -step])
    assert len(said["bands"]) == 3


@pytest.mark.parametrize("kind", ["cube", "series"])
def test_a_grid_without_a_crs_names_none(request, kind, file):
    made = request.getfixturevalue(kind)("displacement")
    mappings = [name for name in ("spatial_ref",) if name in made.dataset.variables]
    dataset = made.dataset.drop_vars(mappings)
    for variable in dataset.variables.values():
        variable.attrs.pop("grid_mapping", None)
        variable.encoding.pop("grid_mapping", None)
    with xr.open_dataset(file(replace(made, dataset=dataset, crs="")), engine="h5netcdf") as found:
        np.testing.assert_array_equal(found["displacement"], dataset["displacement"])
        assert "grid_mapping" not in {**found["displacement"].attrs, **found["displacement"].encoding}
        assert not [name for name, variable in found.variables.items() if "crs_wkt" in variable.attrs]
        assert made.x not in found.dims or found[made.x].attrs["axis"] == "X"
