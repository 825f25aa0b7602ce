import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from cubegate.formats.json import JSONFormat


def document(result):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(b"".join(JSONFormat().write(result)), parse_constant=refuse)


def numbers(values, dtype):
    return np.array(
        [np.nan if value is None else value for value in np.ravel(np.array(values, object))], dtype
    )


def test_a_series_explains_itself(series):
    found = document(series("displacement"))
    assert list(found) == ["title", "dataset", "version", "source", "crs", "point", "time", "variables"]
    assert (found["dataset"], found["version"], found["crs"]) == ("demo", "abc123", "EPSG:32611")
    assert found["title"] == "A demo cube"
    assert found["point"] == {
        "x": 400090.0, "y": 3699940.0, "longitude": -118.07, "latitude": 33.41, "distance_m": 4.25,
    }  # fmt: skip
    assert found["time"] == ["2020-01-13T00:00:00Z", "2020-01-25T06:30:00Z", "2020-02-06T00:00:00.123456789Z"]
    variable = found["variables"]["displacement"]
    assert {key: variable[key] for key in ("units", "long_name", "dims")} == {
        "units": "m", "long_name": "Displacement", "dims": ["time"],
    }  # fmt: skip
    assert b'"values": [-0.16290995,0.1,' in b"".join(JSONFormat().write(series("displacement")))


@pytest.mark.parametrize("kind", ["series", "points"])
@pytest.mark.parametrize("name", ["displacement", "coherence", "counts", "big", "valid"])
def test_values_read_back_exactly(request, kind, name):
    result = request.getfixturevalue(kind)(name)
    expected = result.dataset[name].to_numpy()
    variable = document(result)["variables"][name]
    assert variable["dims"] == list(result.dataset[name].dims)
    np.testing.assert_array_equal(numbers(variable["values"], expected.dtype), expected.ravel())
    assert np.shape(variable["values"]) == expected.shape


def test_missing_and_infinite_are_null(series):
    dataset = xr.Dataset({"v": ("time", np.array([np.nan, np.inf, -np.inf, 1e300]))})
    assert document(replace(series(), dataset=dataset))["variables"]["v"]["values"] == [
        None,
        None,
        None,
        1e300,
    ]


def test_missing_integers_are_null_and_others_stay_integers(series):
    assert document(series("counts"))["variables"]["counts"]["values"] == [None, 13, 33]
    assert all(
        isinstance(n, (int, type(None))) for n in document(series("counts"))["variables"]["counts"]["values"]
    )
    assert document(series("big"))["variables"]["big"]["values"] == 2**60 + 13


def test_text_and_times_as_values(points):
    found = document(points("label", "observed"))["variables"]
    assert found["label"]["values"] == ["plain", "# no comment", "two\nlines"]
    assert found["observed"]["values"][0][2] == "2020-02-06T00:00:01.123456789Z"


def test_points_are_listed_with_their_position(points):
    found = document(points("displacement"))
    assert [list(point)[:6] for point in found["points"]] == [
        ["point", "x", "y", "longitude", "latitude", "distance_m"]
    ] * 3
    assert found["points"][1] == {
        "point": 8, "x": 400090.0, "y": 3699940.0, "longitude": -118.21, "latitude": 33.2, "distance_m": 2.5,
        "requested_lon": -118.2,
    }  # fmt: skip
    assert "coordinates" not in found


def test_other_dimensions_are_coordinates(series):
    dataset = series().dataset[["displacement"]].expand_dims(band=["red", "nir"], axis=1)
    found = document(replace(series(), dataset=dataset))
    assert found["coordinates"]["band"]["values"] == ["red", "nir"]
    assert found["variables"]["displacement"]["dims"] == ["time", "band"]
    np.testing.assert_array_equal(
        np.array(found["variables"]["displacement"]["values"], "f4"), dataset["displacement"].to_numpy()
    )


def test_the_time_dimension_is_called_time(series):
    dataset = series("displacement").dataset.rename(time="mid_date")
    found = document(replace(series(), dataset=dataset, time="mid_date"))
    assert len(found["time"]) == 3
    assert found["variables"]["displacement"]["dims"] == ["time"]


def test_a_lonlat_grid_names_its_point_twice(series):
    dataset = series(geographic=True).dataset.drop_vars(["longitude", "latitude"])
    result = replace(
        series(), dataset=dataset.rename(x="longitude", y="latitude"), x="longitude", y="latitude"
    )
    point = document(result)["point"]
    assert (point["x"], point["longitude"], point["y"], point["latitude"]) == (-117.75, -117.75, 35.0, 35.0)


def test_no_times(series):
    result = series("displacement")
    found = document(replace(result, dataset=result.dataset.isel(time=slice(0))))
    assert found["time"] == []
    assert found["variables"]["displacement"]["values"] == []


def test_complex_numbers_are_two_variables(series):
    values = series("phasor").dataset["phasor"].to_numpy()
    found = document(series("phasor"))["variables"]
    np.testing.assert_array_equal(np.array(found["phasor_real"]["values"], "f4"), values.real)
    np.testing.assert_array_equal(np.array(found["phasor_imag"]["values"], "f4"), values.imag)


def test_the_crs_as_wkt_is_one_line(series):
    wkt = 'PROJCS["made up",\n  GEOGCS["x"]]'
    assert document(replace(series(), crs=wkt))["crs"] == 'PROJCS["made up", GEOGCS["x"]]'
