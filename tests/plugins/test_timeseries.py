import io
import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyproj import Geod, Transformer

# in the UTM cube
LON, LAT = -118.08787, 35.22933
MERCATOR = Transformer.from_crs(4326, 3857, always_xy=True).transform(LON, LAT)


def _read_csv(text):
    return pd.read_csv(io.StringIO(text), comment="#", parse_dates=["time"])


def _numbers(values):
    return np.array([np.nan if value is None else value for value in values], "f4")


def _utm_pixel(decoded, lon=LON, lat=LAT):
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(lon, lat)
    return decoded["utm"].sel(x=x, y=y, method="nearest")


def test_json_is_the_series_and_says_where_it_was_read(server, decoded):
    answer = server.ask("utm/timeseries", lon=LON, lat=LAT).json()
    expected = _utm_pixel(decoded)
    assert answer["time"] == [f"{str(time)[:19]}Z" for time in expected.time.to_numpy()]
    assert set(answer["variables"]) == {"displacement", "counts", "quality"}
    for name, variable in answer["variables"].items():
        np.testing.assert_array_equal(
            _numbers(np.atleast_1d(variable["values"])), np.atleast_1d(expected[name])
        )
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(expected.x, expected.y)
    assert answer["point"]["x"] == expected.x
    assert answer["point"]["longitude"] == pytest.approx(lon, abs=1e-9)
    assert answer["point"]["distance_m"] == pytest.approx(
        Geod(ellps="WGS84").inv(LON, LAT, lon, lat)[2], abs=1e-3
    )
    assert (answer["crs"], answer["dataset"], answer["title"]) == ("EPSG:32611", "utm", "The utm cube")
    assert answer["variables"]["displacement"]["units"] == "m"
    assert answer["version"]


@pytest.mark.parametrize(
    "point",
    [
        {"lon": LON + 360, "lat": LAT},
        {"coords": f"POINT({LON} {LAT})"},
        {"lon": LON, "lat": LAT, "crs": "OGC:CRS84"},
        {"x": 401_005, "y": 3_899_010},
        {"coords": "POINT(401005 3899010)", "crs": "EPSG:32611"},
        {"coords": f"POINT({MERCATOR[0]:.3f} {MERCATOR[1]:.3f})", "crs": "EPSG:3857"},
    ],
)
def test_the_same_pixel_by_all_ways_of_naming_it(server, decoded, point):
    table = _read_csv(server.ask("utm/timeseries", variables="displacement", f="csv", **point).text)
    np.testing.assert_array_equal(table.displacement.astype("f4"), _utm_pixel(decoded).displacement)
    np.testing.assert_array_equal(table.time.dt.tz_localize(None), _utm_pixel(decoded).time)


def test_missing_values_are_missing_and_zeros_are_zeros(server, decoded):
    table = _read_csv(server.ask("utm/timeseries", x=400_015, y=3_900_000, f="csv").text)
    assert table.displacement.isna().all()
    assert table.counts.notna().all()
    filled = _read_csv(server.ask("utm/timeseries", x=400_015, y=3_899_700, f="csv").text)
    assert filled.counts.isna().all()
    assert np.isnan(decoded["utm"].counts.sel(x=400_015, y=3_899_700)).all()


def test_unsorted_and_duplicated_dates(server, decoded):
    cube = decoded["polar"]
    table = _read_csv(server.ask("polar/timeseries", x=-230_300, y=-2_010_100, f="csv").text)
    series = cube.v.sel(x=-230_300, y=-2_010_100, method="nearest")
    order = np.argsort(series.mid_date.to_numpy(), kind="stable")
    np.testing.assert_array_equal(table.v, series.to_numpy()[order])
    np.testing.assert_array_equal(table.time.dt.tz_localize(None), series.mid_date.to_numpy()[order])
    assert table.time.duplicated().sum() == 2
    day = str(series.mid_date.to_numpy()[0])[:10]
    part = server.ask("polar/timeseries", x=-230_300, y=-2_010_100, f="csv", datetime=day).text
    np.testing.assert_array_equal(_read_csv(part).v, series.to_numpy()[[0, 6]])


def test_other_dimensions_calendars_and_conventions_of_longitude(server, decoded):
    answer = server.ask(
        "globe/timeseries", lon=-118, lat=34, level=850, member=2, datetime="2001-02-20/2001-03"
    ).json()
    expected = decoded["globe"].t.sel(lon=240, lat=32.5, level=850).isel(member=2)
    inside = [(t.year, t.month, t.day) >= (2001, 2, 20) and (t.month <= 3) for t in expected.time.to_numpy()]
    np.testing.assert_array_equal(np.float32(answer["variables"]["t"]["values"]), expected.to_numpy()[inside])
    assert answer["point"]["longitude"] == -120
    all_of_it = server.ask("globe/timeseries", lon=-118, lat=34).json()["variables"]["t"]
    np.testing.assert_array_equal(np.float32(all_of_it["values"]), decoded["globe"].t.sel(lon=240, lat=32.5))


def test_netcdf_is_the_same_series(server, decoded, tmp_path):
    (tmp_path / "series.nc").write_bytes(server.ask("utm/timeseries", lon=LON, lat=LAT, f="netcdf").content)
    with xr.open_dataset(tmp_path / "series.nc") as found:
        np.testing.assert_array_equal(found.displacement, _utm_pixel(decoded).displacement)
        np.testing.assert_array_equal(found.counts, _utm_pixel(decoded).counts)


@pytest.mark.parametrize("f", ["json", "csv", "covjson", "netcdf", "parquet", "png"])
def test_every_format_answers_get_and_head(server, f):
    answer = server.ask("utm/timeseries", lon=LON, lat=LAT, f=f)
    head = server.client.head("utm/timeseries", params={"lon": LON, "lat": LAT, "f": f})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]
    assert "utm-timeseries" in answer.headers["content-disposition"]


def _points(count):
    random = np.random.default_rng(7)
    x, y = random.uniform(400_001, 402_399, count), random.uniform(3_898_216, 3_900_014, count)
    return x, y, *Transformer.from_crs(32611, 4326, always_xy=True).transform(x, y)


def _check_table(table, decoded, x, y, ids):
    points = {"x": xr.DataArray(x, dims="point"), "y": xr.DataArray(y, dims="point")}
    expected = decoded["utm"].displacement.sel(points, method="nearest").transpose("point", "time")
    found = table.pivot_table(
        index="id", columns="time", values="displacement", dropna=False, sort=False
    ).loc[list(ids)]
    np.testing.assert_array_equal(found.to_numpy().astype("f4"), expected)


def test_many_points_as_geojson(server, decoded):
    x, y, lon, lat = _points(40)
    features = [
        {
            "type": "Feature",
            "id": f"p{n}",
            "properties": {},
            "geometry": {"type": "Point", "coordinates": [lon[n], lat[n]]},
        }
        for n in range(40)
    ]
    answer = server.client.post(
        "utm/timeseries", params={"variables": "displacement", "f": "csv"},
        json={"type": "FeatureCollection", "features": features}, headers={"Content-Type": "application/geo+json"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    _check_table(_read_csv(answer.text), decoded, x, y, [f"p{n}" for n in range(40)])


@pytest.mark.parametrize("columns", ["lon,lat", "x,y", "x,y in mercator"])
def test_many_points_as_csv(server, decoded, columns):
    x, y, lon, lat = _points(50)
    asked = {"variables": "displacement", "f": "csv"}
    first, second = (lon, lat) if columns == "lon,lat" else (x, y)
    if "mercator" in columns:
        asked["crs"] = "EPSG:3857"
        first, second = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    rows = "".join(
        f"{first[n]!r},{second[n]!r},p{n}\n".replace("np.float64(", "").replace(")", "") for n in range(50)
    )
    body = f"{columns[:7].split(' ')[0]},id\n{rows}"
    answer = server.client.post(
        "utm/timeseries", params=asked, content=body, headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 200, answer.text
    _check_table(_read_csv(answer.text), decoded, x, y, [f"p{n}" for n in range(50)])


def test_too_many_points_are_too_many(server):
    body = "x,y\n" + "400100,3899000\n" * 51
    answer = server.client.post("utm/timeseries", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 413
    assert answer.json()["limits"] == {"points": 50}
    largest = 2 * 2**20
    huge = server.client.post(
        "utm/timeseries", content=b"x" * (largest + 1), headers={"Content-Type": "text/csv"}
    )
    assert huge.status_code == 413
    assert huge.json()["limits"] == {"bytes": largest}
    assert "Send fewer points at a time." in huge.text
    padded = "x,y\n400100,3899000\n".ljust(largest, "\n")
    answer = server.client.post("utm/timeseries", content=padded, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "parameter", "match"),
    [
        ("text/csv", "x,y\n400100,3899000\n1,2\n", "body", "number 2"),
        ("text/csv", "id,x,y\nhome,1,2\n", "body", "'home'"),
        ("text/csv", "x,y\n400100,north\n", "body", "Line 2"),
        ("application/json", "{", "body", "JSON"),
        ("application/json", json.dumps({"type": "Point", "coordinates": [0, 95]}), "body", "longitude"),
        ("text/html", "x", "Content-Type", "text/html"),
        ("", "", "Content-Type", "Points"),
    ],
)
def test_a_bad_body_is_explained(server, kind, body, parameter, match):
    answer = server.client.post("utm/timeseries", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["parameter"] == parameter
    assert match in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({}, "lon"),
        ({"lon": LON}, "lat"),
        ({"lon": "nan", "lat": LAT}, "lon"),
        ({"lon": "west", "lat": LAT}, "lon"),
        ({"lon": LON, "lat": 95}, "lon"),
        ({"lon": 2.3, "lat": 48.9}, "lon"),
        ({"lon": LON, "lat": LAT, "crs": "EPSG:32611"}, "crs"),
        ({"coords": "POINT(1 2", "crs": "EPSG:32611"}, "coords"),
        ({"coords": "POINT(1 2)", "crs": "EPSG:77"}, "crs"),
        ({"x": 1, "y": 2}, "x"),
        ({"lon": LON, "lat": LAT, "variables": "velocity"}, "variables"),
        ({"lon": LON, "lat": LAT, "variables": ""}, "variables"),
        ({"lon": LON, "lat": LAT, "datetime": "soon"}, "datetime"),
        ({"lon": LON, "lat": LAT, "datetime": "1999"}, "datetime"),
        ({"lon": LON, "lat": LAT, "f": "xlsx"}, "f"),
        ({"lon": LON, "lat": LAT, "f": "geotiff"}, "f"),
        ({"lon": LON, "lat": LAT, "level": "1"}, "level"),
        ({"lon": LON, "lat": LAT, "bbox": "1,2,3,4"}, "bbox"),
    ],
)
def test_a_bad_query_names_its_parameter(server, asked, parameter):
    answer = server.ask("utm/timeseries", status=400, **asked)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["parameter"] == parameter


def test_unknown_datasets_and_groups(server):
    server.ask("atlantis/timeseries", status=404, lon=1, lat=1)
    assert (
        "group"
        in server.ask("utm/timeseries", status=404, lon=LON, lat=LAT, group="nowhere").json()["detail"]
    )


def test_a_cube_without_crs_answers_native_points_only(server):
    answer = server.ask("plain/timeseries", x=11, y=9).json()
    assert answer["variables"]["a"]["values"] == 5
    problem = server.ask("plain/timeseries", status=400, lon=11, lat=9).json()
    assert "crs:" in problem["detail"]
    assert "native" in problem["accepted"]


def test_a_series_beyond_the_budget_says_what_would_fit(serve):
    small = serve("{chunks: 10}")
    problem = small.ask("utm/timeseries", status=413, lon=LON, lat=LAT, variables="displacement").json()
    assert problem["price"]["chunks"] == 12
    interval = problem["hint"].split("datetime=")[1].rstrip(".")
    table = _read_csv(
        small.ask(
            "utm/timeseries", lon=LON, lat=LAT, variables="displacement", datetime=interval, f="csv"
        ).text
    )
    assert 5 <= len(table) <= 10


def test_many_points_beyond_the_budget_say_how_many_would_fit(serve):
    small = serve("{cells: 100}")
    x, y, _, _ = _points(20)
    rows = [f"{float(x[n])!r},{float(y[n])!r}\n" for n in range(20)]
    asked = {"variables": "displacement"}

    def post(count):
        body = "x,y\n" + "".join(rows[:count])
        return small.client.post(
            "utm/timeseries", params=asked, content=body, headers={"Content-Type": "text/csv"}
        )

    assert post(20).status_code == 413
    count = int(post(20).json()["hint"].split("Up to ")[1].split()[0])
    assert 4 <= count <= 8
    assert post(count).status_code == 200


def test_it_is_documented(server):
    paths = server.client.get(str(server.client.base_url).replace("/datasets/", "/openapi.json")).json()[
        "paths"
    ]
    described = paths["/datasets/{dataset_id}/timeseries"]
    names = {each["name"] for each in described["get"]["parameters"]}
    assert {
        "dataset_id",
        "lon",
        "lat",
        "x",
        "y",
        "coords",
        "crs",
        "variables",
        "datetime",
        "where",
        "mask",
        "f",
        "group",
    } == names
    assert all(each["description"] for each in described["get"]["parameters"])
    assert set(described["post"]["requestBody"]["content"]) == {
        "application/geo+json",
        "application/json",
        "text/csv",
    }
    assert {"200", "400", "404", "413", "502"} <= set(described["get"]["responses"])
