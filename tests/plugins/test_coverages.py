"""OGC API - Coverages: subsets along a collection's own axes, against xarray's own selections."""

import io

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from pyproj import Transformer

from cubegate.edr.coverages import parse_subset
from cubegate.errors import InvalidParameter

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
BOX = "400300,3899000,401000,3899500"


@pytest.fixture
def coverage(server):
    """`ask(name, status=200, **parameters)` of a collection's coverage; `_` in a name is `-`."""
    root = str(server.client.base_url).removesuffix("/datasets/")

    def ask(name, status=200, path="", **parameters):
        query = {key.replace("_", "-"): value for key, value in parameters.items()}
        answer = server.client.get(f"{root}/edr/collections/{name}/coverage{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer

    return ask


@pytest.fixture
def netcdf(coverage, tmp_path):
    def ask(name, **asked):
        file = tmp_path / "coverage.nc"
        file.write_bytes(coverage(name, f="netcdf", **asked).content)
        with xr.open_dataset(file, engine="h5netcdf") as dataset:
            return dataset.load()

    return ask


NATIVE = [
    {"subset": "x(400300:401000),y(3899000:3899500)"},
    {"subset": ["x(400300:401000)", "y(3899000:3899500)"]},
    {"subset": "E(400300:401000),N(3899000:3899500)"},
    {"subset": "X(400300:401000),Y(3899000:3899500)", "subset_crs": "EPSG:32611"},
    {"bbox": BOX, "bbox_crs": "EPSG:32611"},
    {"bbox": BOX, "bbox_crs": "native"},
]


@pytest.mark.parametrize("asked", NATIVE)
def test_native_ranges_are_xarrays_own_selection(netcdf, decoded, asked):
    found = netcdf("utm", **asked)
    expected = decoded["utm"].sel(x=slice(400_300, 401_000), y=slice(3_899_500, 3_899_000))
    for name in ("displacement", "counts", "quality", "time", "x", "y"):
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("subset", "selected"),
    [
        ("x(400300:401000)", {"x": slice(400_300, 401_000)}),
        ("x(*:400300)", {"x": slice(None, 400_300)}),
        ("y(3899000:*)", {"y": slice(None, 3_899_000)}),
        ("x(400315)", {"x": [400_315]}),
        ('time("2020-02-01":"2020-03-31")', {"time": slice("2020-02-01", "2020-03-31")}),
        ('time("2020-02-03T00:00:00Z":*)', {"time": slice("2020-02-03", None)}),
        ("time(2020-02)", {"time": slice("2020-02-01", "2020-02-29")}),
        ('x(400300:401000),TIME("2020-02-03")', {"x": slice(400_300, 401_000), "time": ["2020-02-03"]}),
    ],
)
def test_each_axis_by_itself(netcdf, decoded, subset, selected):
    found = netcdf("utm", subset=subset, properties="displacement")
    expected = decoded["utm"].displacement.sel(selected)
    np.testing.assert_array_equal(found.displacement, expected)
    assert set(found.data_vars) - {"spatial_ref"} == {"displacement"}


def test_ranges_in_degrees_hold_every_cell_inside(netcdf, decoded):
    cube = decoded["utm"]
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(*np.meshgrid(cube.x, cube.y))
    inside = (lon >= -118.09) & (lon <= -118.08) & (lat >= 35.225) & (lat <= 35.23)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    for asked in (
        {"subset": "Lat(35.225:35.23),Lon(-118.09:-118.08)"},
        {"subset": "x(-118.09:-118.08),y(35.225:35.23)", "subset_crs": "OGC:CRS84"},
        {"bbox": "-118.09,35.225,-118.08,35.23"},
    ):
        found = netcdf("utm", properties="quality", **asked)
        assert set(cube.x.to_numpy()[columns]) <= set(found.x.to_numpy())
        assert set(cube.y.to_numpy()[rows]) <= set(found.y.to_numpy())
        assert found.x.size <= columns.size + 2
        np.testing.assert_array_equal(found.quality, cube.quality.sel(x=found.x, y=found.y))
    only = netcdf("utm", properties="quality", subset="Lat(35.225:35.23)")
    assert only.x.size == cube.x.size
    assert set(cube.y.to_numpy()[np.flatnonzero(((lat >= 35.225) & (lat <= 35.23)).any(axis=1))]) <= set(
        only.y.to_numpy()
    )


def test_dimensions_and_the_seam_of_longitudes(netcdf, decoded):
    found = netcdf("globe", subset="Lat(-10:10),Lon(-12:12),level(500),member(1)")
    cube = decoded["globe"].t.sel(level=500).isel(member=1)
    expected = cube.sel(lon=[350, 355, 0, 5, 10], lat=slice(10, -10))
    assert found.lon.to_numpy().tolist() == [-10, -5, 0, 5, 10]
    np.testing.assert_array_equal(found.t, expected)
    over = netcdf("globe", subset="lat(-10:10),lon(170:-170),level(400:900),member(0)")
    expected = decoded["globe"].t.isel(member=0).sel(lon=[170, 175, 180, 185, 190], lat=slice(10, -10))
    np.testing.assert_array_equal(over.t.transpose(*expected.dims), expected)


def test_some_of_several_levels(netcdf, decoded):
    found = netcdf("globe", subset="Lat(-10:10),Lon(10:30),level(850),member(1:*)")
    expected = decoded["globe"].t.sel(level=850, lon=slice(10, 30), lat=slice(10, -10)).isel(member=[1, 2])
    np.testing.assert_array_equal(found.t.transpose(*expected.dims), expected)


def test_other_formats_have_the_same_values(coverage, decoded):
    asked = {
        "subset": "x(400300:401000),y(3899000:3899500)",
        "properties": "displacement",
        "datetime": "2020-01-03",
    }
    expected = decoded["utm"].displacement.sel(
        x=slice(400_300, 401_000), y=slice(3_899_500, 3_899_000), time="2020-01-03"
    )
    with rasterio.open(io.BytesIO(coverage("utm", **asked, f="geotiff").content)) as file:
        np.testing.assert_array_equal(file.read(1), expected)
        assert file.crs.to_epsg() == 32611
    found = coverage("utm", **asked).json()
    assert found["domain"]["domainType"] == "Grid"
    values = np.array(found["ranges"]["displacement"]["values"], "f4")
    np.testing.assert_array_equal(values, expected.to_numpy().reshape(-1))
    cells = pd.read_csv(io.StringIO(coverage("utm", **asked, f="csv").text), comment="#")
    np.testing.assert_array_equal(cells.displacement.astype("f4"), expected.to_numpy().reshape(-1))


def test_a_coverage_is_reprojected_as_a_subset_is(coverage, server):
    asked = {"crs": "EPSG:3857", "datetime": "2020-01-03", "f": "geotiff"}
    found = coverage("utm", properties="displacement", **asked).content
    subset = server.client.get("utm/subset", params={"variables": "displacement", **asked}).content
    with rasterio.open(io.BytesIO(found)) as one, rasterio.open(io.BytesIO(subset)) as other:
        assert one.crs.to_epsg() == 3857
        assert one.transform == other.transform
        np.testing.assert_array_equal(one.read(), other.read())


def test_the_domain_set_has_the_axes(coverage, decoded):
    found = coverage("utm", path="/domainset").json()
    cube = decoded["utm"]
    x, y, time = found["generalGrid"]["axis"]
    assert (found["type"], found["generalGrid"]["type"]) == ("DomainSet", "GeneralGridCoverage")
    assert found["generalGrid"]["srsName"].endswith("/EPSG/0/32611")
    assert found["generalGrid"]["axisLabels"] == ["x", "y", "time"]
    assert (x["lowerBound"], x["upperBound"], x["resolution"]) == (cube.x.min(), cube.x.max(), 30)
    assert (y["lowerBound"], y["upperBound"], y["resolution"]) == (cube.y.min(), cube.y.max(), 30)
    assert [
        np.datetime64(text.rstrip("Z")) for text in time["coordinate"]
    ] == cube.time.to_numpy().tolist() or [
        np.datetime64(text.rstrip("Z"), "ns") for text in time["coordinate"]
    ] == list(cube.time.to_numpy())
    limits = found["generalGrid"]["gridLimits"]["axis"]
    assert [each["upperBound"] + 1 for each in limits] == [80, 60, 12]
    level = coverage("globe", path="/domainset").json()["generalGrid"]["axis"][3]
    assert (level["axisLabel"], level["coordinate"]) == ("level", [500, 850])


def test_the_range_type_has_the_variables(coverage):
    fields = {each["id"]: each for each in coverage("utm", path="/rangetype").json()["field"]}
    assert set(fields) == {"displacement", "counts", "quality"}
    assert fields["displacement"]["uom"] == {
        "type": "UnitReference",
        "id": "http://www.opengis.net/def/uom/UCUM/",
        "code": "m",
    }


@pytest.mark.parametrize(
    ("asked", "parameter", "match"),
    [
        ({"subset": "x"}, "subset", "no list"),
        ({"subset": ""}, "subset", "no list"),
        ({"subset": "x(1:2"}, "subset", "no list"),
        ({"subset": "x(1:2:3)"}, "subset", "no list"),
        ({"subset": "x(1:2);y(1:2)"}, "subset", "no list"),
        ({"subset": "x(400300:400400),"}, "subset", "no list"),
        ({"subset": "x(*)"}, "subset", "no list"),
        ({"subset": "x(1:2),x(1:2)"}, "subset", "more than once"),
        ({"subset": "x(400300:400400),E(400300:400400)"}, "subset", "twice"),
        ({"subset": "x(400300:400400),Lat(35:36)"}, "subset", "degrees"),
        ({"subset": "band(1)"}, "subset", "no axis"),
        ({"subset": "x(a:b)"}, "subset", "number"),
        ({"subset": "x(401000:400300)"}, "bbox", "empty"),
        ({"subset": "x(1:2)"}, "bbox", "outside"),
        ({"subset": 'time("2020-13")'}, "subset", "range"),
        ({"subset": 'time("2020")', "datetime": "2020"}, "subset", "datetime"),
        ({"subset": "x(400300:400400)", "bbox": BOX}, "subset", "bbox"),
        ({"subset": "x(400300:400400)", "subset_crs": "EPSG:32611"}, "subset", "open end"),
        ({"subset": "x(1:2),y(1:2)", "subset_crs": "EPSG:0"}, "subset-crs", "PROJ"),
        ({"properties": "speed"}, "properties", "speed"),
        ({"bbox": "1,2,3"}, "bbox", "four"),
        ({"f": "geojson"}, "f", "geojson"),
        ({"scale-factor": "2"}, "scale-factor", "no parameter"),
    ],
)
def test_a_bad_request_is_400_and_names_its_parameter(coverage, asked, parameter, match):
    answer = coverage("utm", status=400, **asked)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["parameter"] == parameter
    assert match in answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/domainset", "/rangetype"])
def test_an_unknown_collection_is_404(coverage, path):
    assert coverage("none", status=404, path=path).headers["content-type"] == "application/problem+json"


def test_a_time_with_a_colon_is_quoted():
    (found,) = parse_subset(['time("2020-01-01T00:00:00Z":"2020-01-02T00:00:00Z")']).values()
    assert (found.low, found.high, found.single) == ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", False)
    with pytest.raises(InvalidParameter):
        parse_subset(["time(2020-01-01T00:00:00Z)"])
