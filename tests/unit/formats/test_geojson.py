import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from cubegate.errors import NotAcceptable
from cubegate.formats.geojson import GeoJSONFormat
from cubegate.formats.output import Result

TIMES = np.array(["2020-01-13", "2020-01-25T06:00"], "M8[ns]")


def make(*, many, time="time", **variables):
    coordinates = {
        "longitude": [-118.0, 179.5],
        "latitude": [34.0, -5.25],
        "x": [500.0, 600.0],
        "y": [1.0, 2.0],
    }
    dims = ("point",) if many else ()
    dataset = xr.Dataset(
        {
            name: ((*dims, "time")[-np.ndim(values) :] if np.ndim(values) else (), values)
            for name, values in variables.items()
        },
        {
            "time": TIMES,
            **{name: (dims, values if many else values[0]) for name, values in coordinates.items()},
        },
    )
    return Result("points" if many else "series", dataset, "x", "y", time, "EPSG:32611", {"title": "A"})


def read(result):
    return json.loads(b"".join(GeoJSONFormat().write(result)))


def test_a_series_is_a_feature_a_time():
    found = read(make(many=False, v=np.array([1.5, np.nan], "f4"), n=np.array([1, 2])))
    assert found["type"] == "FeatureCollection"
    assert (found["numberMatched"], found["numberReturned"]) == (2, 2)
    assert [feature["geometry"] for feature in found["features"]] == [
        {"type": "Point", "coordinates": [-118, 34]}
    ] * 2
    properties = [feature["properties"] for feature in found["features"]]
    assert [each["datetime"] for each in properties] == ["2020-01-13T00:00:00Z", "2020-01-25T06:00:00Z"]
    assert [each["v"] for each in properties] == [1.5, None]
    assert [each["n"] for each in properties] == [1, 2]
    assert [each["parameter-name"] for each in properties] == [["v", "n"]] * 2
    assert [each["id"] for each in found["parameters"]] == ["v", "n"]
    assert len({feature["id"] for feature in found["features"]}) == 2


def test_points_are_features_each_at_each_time():
    values = np.arange(4.0).reshape(2, 2)
    found = read(make(many=True, v=values))
    told = [
        (tuple(f["geometry"]["coordinates"]), f["properties"]["datetime"], f["properties"]["v"])
        for f in found["features"]
    ]
    times = ["2020-01-13T00:00:00Z", "2020-01-25T06:00:00Z"]
    places = [(-118.0, 34.0), (179.5, -5.25)]
    assert told == [
        (place, time, values[p, t]) for p, place in enumerate(places) for t, time in enumerate(times)
    ]


def test_a_point_with_a_time_of_its_own():
    result = make(many=True, v=np.zeros((2, 2)))
    dataset = result.dataset.isel(time=xr.DataArray([1, 0], dims="point"))
    found = read(replace(result, dataset=dataset))
    assert [f["properties"]["datetime"] for f in found["features"]] == [
        "2020-01-25T06:00:00Z",
        "2020-01-13T00:00:00Z",
    ]


def test_what_has_no_time_bears_that_of_its_whole():
    result = make(many=False, v=np.array(3.0))
    (feature,) = read(result)["features"]
    assert feature["properties"]["v"] == 3
    assert feature["properties"]["datetime"] == ""
    assert read(replace(result, time=None))["features"][0]["properties"]["datetime"] == ""


def test_the_endpoint_is_written_where_it_is_known():
    result = make(many=False, v=np.zeros(2))
    assert "edrqueryendpoint" not in read(result)["features"][0]["properties"]
    found = read(replace(result, options={"endpoint": "/edr/x"}))
    assert found["features"][0]["properties"]["edrqueryendpoint"] == "/edr/x"


def test_text_is_written_as_json():
    result = make(many=False, v=np.array(['a"b\\', "ü\n"], object))
    assert [f["properties"]["v"] for f in read(result)["features"]] == ['a"b\\', "ü\n"]


def test_without_longitude_and_latitude_there_is_no_geojson():
    result = make(many=False, v=np.zeros(2))
    with pytest.raises(NotAcceptable, match="longitude"):
        GeoJSONFormat().write(replace(result, dataset=result.dataset.drop_vars("longitude")))


def test_a_variable_of_a_member_that_the_standard_takes():
    with pytest.raises(NotAcceptable, match="label"):
        GeoJSONFormat().write(make(many=False, label=np.zeros(2)))
