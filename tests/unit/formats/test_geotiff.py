import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from rio_cogeo import cog_validate

from cubegate.errors import NotAcceptable
from cubegate.formats.geotiff import GeoTIFFFormat


@pytest.fixture
def file(tmp_path):
    def write(result):
        path = tmp_path / "result.tif"
        path.write_bytes(b"".join(GeoTIFFFormat().write(result)))
        return path

    return write


def north_up(result, name):
    found = result.dataset[name].sortby("y", ascending=False).sortby("x")
    return found.to_numpy().reshape(-1, *found.shape[-2:])


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("name", ["displacement", "coherence", "big", "phasor"])
def test_bands_hold_the_exact_values_north_up(cube, file, name, ascending):
    result = cube(name, ascending=ascending)
    with rasterio.open(file(result)) as found:
        got = found.read()
        assert got.dtype == result.dataset[name].dtype
        np.testing.assert_array_equal(got, north_up(result, name))
        assert found.transform.almost_equals(rasterio.Affine(30, 0, 399985, 0, -30, 3700015))


def test_a_descending_x_is_turned(cube, file):
    result = cube("displacement")
    turned = replace(result, dataset=result.dataset.isel(x=slice(None, None, -1)))
    with rasterio.open(file(turned)) as found:
        np.testing.assert_array_equal(found.read(), north_up(result, "displacement"))
        assert found.transform.a == 30


def test_each_pixel_lies_at_its_coordinates(cube, file):
    result = cube("coherence", ascending=True)
    with rasterio.open(file(result)) as found:
        for y in result.dataset["y"].to_numpy():
            for x in result.dataset["x"].to_numpy():
                got = next(found.sample([(x, y)]))
                np.testing.assert_array_equal(got, result.dataset["coherence"].sel(x=x, y=y))


@pytest.mark.parametrize(
    ("crs", "geographic"),
    [("EPSG:32611", False), ("EPSG:3413", False), ("EPSG:4326", True), ("OGC:CRS84", True)],
)
def test_the_crs_is_kept(cube, file, crs, geographic):
    with rasterio.open(file(cube("displacement", crs=crs, geographic=geographic))) as found:
        assert pyproj.CRS.from_wkt(found.crs.to_wkt()).equals(pyproj.CRS(crs), ignore_axis_order=True)
        if crs == "EPSG:3413":
            assert found.crs.to_epsg() == 3413


def test_a_crs_without_a_code_is_kept(cube, file):
    crs = pyproj.CRS("+proj=lcc +lat_1=30 +lat_2=60 +lat_0=40 +lon_0=-97 +a=6370000 +b=6370000")
    with rasterio.open(file(cube("displacement", crs=crs.to_wkt()))) as found:
        assert pyproj.CRS.from_wkt(found.crs.to_wkt()).equals(crs)


def test_a_crs_that_geotiff_cannot_hold_is_refused(cube):
    rotated = pyproj.CRS.from_cf({
        "grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    })  # fmt: skip
    with pytest.raises(NotAcceptable, match="coordinate reference system"):
        GeoTIFFFormat().write(cube("displacement", geographic=True, crs=rotated.to_wkt()))


@pytest.mark.parametrize("crs", ["", "nonsense"])
def test_no_crs_is_refused(cube, crs):
    with pytest.raises(NotAcceptable, match="coordinate reference system"):
        GeoTIFFFormat().write(replace(cube("displacement"), crs=crs))


def test_bands_are_named(cube, file):
    with rasterio.open(file(cube("displacement", "valid"))) as found:
        assert found.descriptions == (
            "displacement 2020-01-13T00:00:00Z", "displacement 2020-01-25T06:30:00Z",
            "displacement 2020-02-06T00:00:00.123456789Z", "valid",
        )  # fmt: skip
        assert found.units == ("m", "m", "m", None)
        assert found.tags(1)["time"] == "2020-01-13T00:00:00Z"
        assert found.tags()["version"] == "abc123"


def test_other_dimensions_are_bands(cube, file):
    dataset = cube().dataset[["displacement"]].expand_dims(level=np.array([0.1, 850], "f4"), axis=1)
    with rasterio.open(file(replace(cube(), dataset=dataset))) as found:
        assert found.descriptions[1] == "displacement 2020-01-13T00:00:00Z level=850.0"
        assert found.tags(1)["level"] == "0.1"
        np.testing.assert_array_equal(found.read(), dataset["displacement"].to_numpy().reshape(6, 4, 5))


def test_y_and_x_may_come_first(cube, file):
    result = cube("displacement")
    moved = replace(result, dataset=result.dataset.transpose("x", "y", "time"))
    with rasterio.open(file(moved)) as found:
        np.testing.assert_array_equal(found.read(), result.dataset["displacement"])


def test_integers_keep_their_fill(cube, file):
    with rasterio.open(file(cube("counts"))) as found:
        assert found.dtypes == ("int16",) * 3
        assert found.nodata == -7
        np.testing.assert_array_equal(found.read().ravel(), np.arange(-20, 40))


def test_integers_beside_floats_become_exact_floats(cube, file):
    result = cube("counts", "displacement")
    with rasterio.open(file(result)) as found:
        assert set(found.dtypes) == {"float32"}
        assert np.isnan(found.nodata)
        np.testing.assert_array_equal(found.read([1, 2, 3]), result.dataset["counts"])
        np.testing.assert_array_equal(found.read([4, 5, 6]), result.dataset["displacement"])


@pytest.mark.parametrize("fill", [None, 5])
def test_a_fill_that_is_a_value_elsewhere_does_not_mask_it(cube, file, fill):
    attributes = {} if fill is None else {"_FillValue": np.int16(fill)}
    other = xr.Variable(("y", "x"), np.full((4, 5), -7, "i2"), attributes)
    result = cube("counts")
    with rasterio.open(file(replace(result, dataset=result.dataset.assign(other=other)))) as found:
        assert (found.read(4) == -7).all()
        assert np.isnan(found.nodata)
        np.testing.assert_array_equal(found.read([1, 2, 3]), result.dataset["counts"])


@pytest.mark.parametrize(
    ("dtype", "written"),
    [("bool", "uint8"), ("i1", "int16"), ("u1", "uint8"), ("u2", "uint16"), ("i4", "int32"), ("u4", "uint32"),
     ("i8", "int64"), ("u8", "uint64"), ("f2", "float32"), (">f4", "float32"), ("c16", "complex128")],
)  # fmt: skip
def test_types(cube, file, dtype, written):
    values = np.arange(20).reshape(4, 5).astype(dtype)
    if np.dtype(dtype).kind in "iu":
        values[0, 0], values[0, 1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    with rasterio.open(
        file(replace(cube(), dataset=cube().dataset.assign(displacement=(("y", "x"), values))))
    ) as found:
        assert found.dtypes == (written,)
        np.testing.assert_array_equal(found.read(1), values)


@pytest.mark.parametrize("fill", [-(2**63), 2**53 + 1])
def test_a_fill_that_gdal_cannot_keep_becomes_nan(cube, file, fill):
    values = np.arange(20).reshape(4, 5) - 9
    values[3, 4] = fill
    variable = xr.Variable(("y", "x"), values, {"_FillValue": np.int64(fill)})
    with rasterio.open(file(replace(cube(), dataset=cube().dataset.assign(displacement=variable)))) as found:
        assert found.dtypes == ("float64",)
        np.testing.assert_array_equal(found.read(1), np.where(values == fill, np.nan, values))
    whole = replace(cube(), dataset=cube().dataset.assign(displacement=variable).isel(y=slice(3)))
    with rasterio.open(file(whole)) as found:
        assert (found.dtypes, found.nodata) == (("int64",), None)
        np.testing.assert_array_equal(found.read(1), values[:3])


def test_a_fill_in_64_bits(cube, file):
    variable = xr.Variable(("y", "x"), np.arange(20).reshape(4, 5) + 2**60, {"_FillValue": np.int64(-9999)})
    variable[0, 0] = -9999
    with rasterio.open(file(replace(cube(), dataset=cube().dataset.assign(displacement=variable)))) as found:
        assert (found.dtypes, found.nodata) == (("int64",), -9999)
        np.testing.assert_array_equal(found.read(1), variable)


def test_integers_too_large_for_the_floats_beside_them_are_refused(cube):
    with pytest.raises(NotAcceptable, match="'big'"):
        GeoTIFFFormat().write(cube("big", "displacement"))


@pytest.mark.parametrize("names", [("label",), ("observed",), ("displacement", "label")])
def test_what_is_no_image_is_refused_by_name(cube, names):
    with pytest.raises(NotAcceptable, match=names[-1]):
        GeoTIFFFormat().write(cube(*names))


def test_irregular_axes_are_refused(cube):
    result = cube("displacement")
    dataset = result.dataset.assign_coords(y=[0.0, 1.0, 2.5, 3.0])
    with pytest.raises(NotAcceptable, match="spacing along 'y'"):
        GeoTIFFFormat().write(replace(result, dataset=dataset))


def test_coordinates_in_float32_are_regular_enough(cube, file):
    result = cube("displacement", geographic=True, crs="EPSG:4326")
    x = (179.0 + 0.05 * np.arange(5)).astype("f4")
    with rasterio.open(file(replace(result, dataset=result.dataset.assign_coords(x=x)))) as found:
        assert found.transform.a == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("selection", [{"y": [0]}, {"x": [0]}, {"time": []}])
def test_a_single_row_or_column_or_no_time_is_refused(cube, selection):
    result = cube("displacement")
    with pytest.raises(NotAcceptable):
        GeoTIFFFormat().write(replace(result, dataset=result.dataset.isel(selection)))


def test_too_many_bands_are_refused(cube):
    dataset = cube().dataset[["displacement"]].isel(time=0, y=slice(2), x=slice(2))
    many = dataset.expand_dims(n=65_536)
    with pytest.raises(NotAcceptable, match="65,536"):
        GeoTIFFFormat().write(replace(cube(), dataset=many))


@pytest.mark.parametrize(("size", "overviews"), [(512, []), (513, [2]), (1100, [2, 4])])
def test_it_is_a_cloud_optimised_geotiff(cube, file, size, overviews):
    values = np.random.default_rng(0).standard_normal((2, size, size)).astype("f4")
    values[:, :100] = np.nan
    dataset = xr.Dataset(
        {"v": (("time", "y", "x"), values)}, {"y": -np.arange(float(size)), "x": np.arange(float(size))}
    )
    path = file(replace(cube(), dataset=dataset))
    assert cog_validate(path, quiet=True) == (True, [], [])
    with rasterio.open(path) as found:
        np.testing.assert_array_equal(found.read(), values)
        assert found.overviews(1) == overviews
        assert found.compression.name == "deflate"
        assert np.isnan(found.nodata)
    if overviews:
        with rasterio.open(path, overview_level=0) as smaller:
            seen = smaller.read(1)
            assert np.isin(seen[np.isfinite(seen)], values[0]).all()
            assert np.isnan(seen[:40]).all()


def test_same_result_same_bytes(cube):
    assert b"".join(GeoTIFFFormat().write(cube("counts"))) == b"".join(GeoTIFFFormat().write(cube("counts")))


@pytest.mark.gdal
def test_gdalinfo_reads_names_crs_and_nodata(cube, file):
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo is not installed")
    path = file(cube("counts", crs="EPSG:3413"))
    said = json.loads(subprocess.run(["gdalinfo", "-json", path], check=True, capture_output=True).stdout)
    assert pyproj.CRS.from_wkt(said["coordinateSystem"]["wkt"]).to_epsg() == 3413
    assert said["geoTransform"] == [399985.0, 30.0, 0.0, 3700015.0, 0.0, -30.0]
    assert [band["description"] for band in said["bands"]][:2] == [
        "counts 2020-01-13T00:00:00Z", "counts 2020-01-25T06:30:00Z",
    ]  # fmt: skip
    assert [(band["type"], band["noDataValue"]) for band in said["bands"]] == [("Int16", -7.0)] * 3
