import json
from dataclasses import replace

import jsonschema
import numpy as np
import pyproj
import pytest
import xarray as xr
from tests.covjson_schema import SCHEMAS, covjson_validator

from cubegate.errors import NotAcceptable
from cubegate.formats.covjson import CoverageJSONFormat

NAMES = ("displacement", "coherence", "counts", "big", "valid", "label", "observed", "phasor")


@pytest.fixture(scope="module")
def validate():
    """Check a document with the OGC schemas, where they are."""
    if not SCHEMAS.is_dir():
        return lambda _: None
    return covjson_validator().validate


@pytest.fixture
def document(validate):
    def write(result):
        found = json.loads(b"".join(CoverageJSONFormat().write(result)))
        validate(found)
        return found

    return write


def test_the_schemas_refuse_what_is_wrong(validate):
    if not SCHEMAS.is_dir():
        pytest.skip("the OGC schemas are not here")
    with pytest.raises(jsonschema.ValidationError):
        validate(
            {"type": "Coverage", "domain": {"type": "Domain", "axes": {}}, "ranges": {}, "parameters": {}}
        )


def numbers(ndarray, dtype):
    cells = [np.nan if cell is None else cell for cell in ndarray["values"]]
    return np.array(cells, dtype).reshape(ndarray.get("shape", ()))


def test_a_series_is_a_point_series(series, document):
    found = document(series("displacement"))
    assert found["type"] == "Coverage"
    assert found["domain"]["domainType"] == "PointSeries"
    assert found["domain"]["axes"] == {
        "t": {"values": ["2020-01-13T00:00:00Z", "2020-01-25T06:30:00Z", "2020-02-06T00:00:00.123456789Z"]},
        "x": {"values": [400090.0]}, "y": {"values": [3699940.0]},
    }  # fmt: skip
    assert found["domain"]["referencing"][0] == {
        "coordinates": ["x", "y"],
        "system": {"type": "ProjectedCRS", "id": "http://www.opengis.net/def/crs/EPSG/0/32611"},
    }
    assert found["domain"]["referencing"][1]["system"] == {"type": "TemporalRS", "calendar": "Gregorian"}
    parameter = found["parameters"]["displacement"]
    assert parameter["unit"] == {"symbol": "m"}
    assert parameter["observedProperty"]["label"] == {"en": "Displacement"}


@pytest.mark.parametrize("name", ["displacement", "coherence", "counts", "big", "valid"])
def test_values_of_every_shape_read_back(series, points, cube, document, name):
    for result in (series(name), cube(name)):
        expected = result.dataset[name].to_numpy()
        ndarray = document(result)["ranges"][name]
        assert ndarray.get("axisNames", []) == [
            {"time": "t"}.get(dim, dim) for dim in result.dataset[name].dims
        ]
        np.testing.assert_array_equal(numbers(ndarray, expected.dtype), expected)
    result = points(name)
    expected = result.dataset[name].to_numpy()
    for index, coverage in enumerate(document(result)["coverages"]):
        assert coverage["domain"]["axes"]["x"]["values"] == [result.dataset["x"].to_numpy()[index]]
        assert coverage["domain"]["axes"]["y"]["values"] == [result.dataset["y"].to_numpy()[index]]
        np.testing.assert_array_equal(numbers(coverage["ranges"][name], expected.dtype), expected[index])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("displacement", "float"),
        ("counts", "integer"),
        ("valid", "integer"),
        ("label", "string"),
        ("observed", "string"),
    ],
)
def test_data_types(series, document, name, kind):
    assert document(series(name))["ranges"][name]["dataType"] == kind


def test_a_cube_is_a_grid(cube, document):
    found = document(cube("displacement"))
    assert found["domain"]["domainType"] == "Grid"
    assert found["domain"]["axes"]["y"]["values"] == [3700000.0, 3699970.0, 3699940.0, 3699910.0]
    assert found["ranges"]["displacement"]["shape"] == [3, 4, 5]


def test_variables_of_other_dimensions_are_coverages_of_their_own(series, cube, document):
    found = document(series(*NAMES))
    assert [coverage["domain"]["domainType"] for coverage in found["coverages"]] == ["PointSeries", "Point"]
    assert set(found["coverages"][1]["ranges"]) == {"big", "valid", "label"}
    assert [c["domain"]["domainType"] for c in document(cube(*NAMES))["coverages"]] == ["Grid", "Grid"]


def test_unsorted_and_repeated_times_are_sorted_into_coverages(series, document):
    times = np.array(["2020-03-01", "2020-01-01", "2020-03-01", "2020-02-01", "2020-03-01"], "M8[ns]")
    dataset = xr.Dataset({"v": ("time", np.arange(5))}, {"time": times, "x": 1.0, "y": 2.0})
    found = document(replace(series(), dataset=dataset))["coverages"]
    assert [[time[:10] for time in coverage["domain"]["axes"]["t"]["values"]] for coverage in found] == [
        ["2020-01-01", "2020-02-01", "2020-03-01"], ["2020-03-01"], ["2020-03-01"],
    ]  # fmt: skip
    assert [coverage["ranges"]["v"]["values"] for coverage in found] == [[1, 3, 0], [2], [4]]


def test_other_dimensions_are_axes(series, document):
    dataset = series().dataset[["displacement"]].expand_dims(band=["red", "nir"], axis=1)
    found = document(replace(series(), dataset=dataset))
    assert found["domain"]["axes"]["band"] == {"values": ["red", "nir"]}
    assert "domainType" not in found["domain"]
    np.testing.assert_array_equal(numbers(found["ranges"]["displacement"], "f4"), dataset["displacement"])


def test_longitudes_come_first_in_crs84(cube, document):
    system = document(cube("displacement", crs="EPSG:4326", geographic=True))["domain"]["referencing"][0]
    assert system["coordinates"] == ["x", "y"]
    assert system["system"] == {"type": "GeographicCRS", "id": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}


@pytest.mark.parametrize(
    ("crs", "order"),
    [("EPSG:3413", "xy"), ("EPSG:3031", "xy"), ("EPSG:32611", "xy"), ("EPSG:4269", "yx"), ("EPSG:3035", "yx"),
     ("EPSG:2193", "yx"), ("EPSG:31467", "yx"), ("EPSG:32661", "yx"), ("EPSG:5041", "xy")],
)  # fmt: skip
def test_coordinates_are_named_in_the_order_of_the_crs(cube, document, crs, order):
    system = document(cube("displacement", crs=crs))["domain"]["referencing"][0]
    assert "".join(system["coordinates"]) == order
    assert system["system"]["id"] == f"http://www.opengis.net/def/crs/EPSG/0/{crs[5:]}"


def test_a_crs_without_a_code_is_described(cube, document):
    crs = pyproj.CRS("+proj=lcc +lat_1=30 +lat_2=60 +lat_0=40 +lon_0=-97 +a=6370000 +b=6370000")
    system = document(cube("displacement", crs=crs.to_wkt()))["domain"]["referencing"][0]["system"]
    assert "id" not in system
    assert pyproj.CRS.from_wkt(system["description"]["en"]) == crs


def test_other_calendars_are_named(other_calendar, document):
    found = document(other_calendar("displacement"))["domain"]
    assert found["axes"]["t"]["values"][0] == "2020-02-30T00:00:00Z"
    assert found["referencing"][1]["system"]["calendar"].endswith("/360_day")


def test_nothing_but_nan(series, document):
    result = series("displacement")
    nothing = replace(result, dataset=result.dataset.assign(displacement=("time", np.full(3, np.nan, "f4"))))
    assert document(nothing)["ranges"]["displacement"]["values"] == [None] * 3


def test_no_times_are_refused(series):
    result = series("displacement")
    with pytest.raises(NotAcceptable, match="empty axes"):
        CoverageJSONFormat().write(replace(result, dataset=result.dataset.isel(time=slice(0))))


def test_missing_times_are_refused(series):
    dataset = series().dataset.assign_coords(time=np.array(["2020-01-01", "NaT", "2020-01-03"], "M8[ns]"))
    with pytest.raises(NotAcceptable, match="missing times"):
        CoverageJSONFormat().write(replace(series(), dataset=dataset))


def test_large_ranges_come_in_pieces(cube):
    values = np.arange(200_000, dtype="i4").reshape(1, 400, 500)
    dataset = xr.Dataset({"v": (("time", "y", "x"), values)}, {"y": np.arange(400.0), "x": np.arange(500.0)})
    pieces = list(CoverageJSONFormat().write(replace(cube(), dataset=dataset, time=None)))
    assert max(map(len, pieces)) < 600_000
    assert json.loads(b"".join(pieces))["ranges"]["v"]["values"] == values.ravel().tolist()
