"""Position queries: every format, CRS and level, against the arrays."""

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyproj import Transformer

POINT = "POINT(-118.0899 35.2301)"

POINTS = "MULTIPOINT((-118.0899 35.2301),(-118.0951 35.2251))"


def table(answer):
    return pd.read_csv(io.StringIO(answer.text), comment="#", parse_dates=["time"])


def test_a_point_is_its_pixels_series_in_every_format(edr, decoded, conforms, is_covjson, tmp_path):
    cube = decoded["utm"]
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(-118.0899, 35.2301)
    pixel = cube.sel(x=x, y=y, method="nearest")
    asked = {"coords": POINT, "parameter_name": "displacement,counts"}
    found = edr("/collections/utm/position", **asked).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "PointSeries"
    assert (found["domain"]["axes"]["x"]["values"], found["domain"]["axes"]["y"]["values"]) == (
        [pixel.x],
        [pixel.y],
    )
    np.testing.assert_array_equal(np.float32(found["ranges"]["displacement"]["values"]), pixel.displacement)
    features = edr("/collections/utm/position", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == 12
    for feature, time, value, count in zip(
        features["features"],
        pixel.time.to_numpy(),
        pixel.displacement.to_numpy(),
        pixel.counts.to_numpy(),
        strict=True,
    ):
        properties = feature["properties"]
        assert np.datetime64(properties["datetime"].rstrip("Z")) == time
        assert np.float32(properties["displacement"]) == value
        assert properties["counts"] == (None if np.isnan(count) else count)
        assert feature["geometry"]["coordinates"] == pytest.approx([-118.0899, 35.2301], abs=3e-4)
        assert properties["edrqueryendpoint"] == "/edr/collections/utm/position"
        assert properties["parameter-name"] == ["displacement", "counts"]
    rows = table(edr("/collections/utm/position", **asked, f="csv"))
    np.testing.assert_array_equal(rows.displacement.astype("f4"), pixel.displacement)
    file = tmp_path / "position.nc"
    file.write_bytes(edr("/collections/utm/position", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset.displacement.to_numpy().reshape(-1), pixel.displacement)


def test_many_points_are_features_each(edr, decoded, conforms, is_covjson):
    cube = decoded["utm"]
    found = edr("/collections/utm/position", coords=POINTS, parameter_name="quality,displacement").json()
    is_covjson(found)
    features = edr("/collections/utm/position", coords=POINTS, f="geojson", datetime="2020-02").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == 4
    to_grid = Transformer.from_crs(4326, 32611, always_xy=True)
    for feature in features["features"]:
        x, y = to_grid.transform(*feature["geometry"]["coordinates"])
        time = np.datetime64(feature["properties"]["datetime"].rstrip("Z"))
        expected = cube.sel(x=x, y=y, method="nearest").sel(time=time)
        assert np.float32(feature["properties"]["displacement"]) == expected.displacement
        assert feature["properties"]["quality"] == expected.quality


def test_what_crs_names_is_of_the_coordinates_and_of_the_answer(edr, decoded, is_covjson):
    pixel = decoded["utm"].isel(x=40, y=20)
    native = edr(
        "/collections/utm/position",
        coords=f"POINT({float(pixel.x) + 9} {float(pixel.y) - 9})",
        crs="EPSG:32611",
        parameter_name="displacement",
    ).json()
    assert native["domain"]["axes"]["x"]["values"] == [float(pixel.x)]
    mercator = Transformer.from_crs(32611, 3857, always_xy=True).transform(float(pixel.x), float(pixel.y))
    found = edr(
        "/collections/utm/position",
        coords=f"POINT({mercator[0]!r} {mercator[1]!r})",
        crs="EPSG:3857",
        parameter_name="displacement",
    ).json()
    is_covjson(found)
    assert found["domain"]["axes"]["x"]["values"] == pytest.approx([mercator[0]], abs=1e-3)
    assert found["domain"]["referencing"][0]["system"]["id"].endswith("/3857")
    np.testing.assert_array_equal(np.float32(found["ranges"]["displacement"]["values"]), pixel.displacement)
    degrees = Transformer.from_crs(32611, 4326, always_xy=True).transform(float(pixel.x), float(pixel.y))
    rows = table(
        edr(
            "/collections/utm/position",
            coords=f"MULTIPOINT({degrees[0]!r} {degrees[1]!r})",
            crs="OGC:CRS84",
            f="csv",
        )
    )
    assert rows.lon.to_numpy() == pytest.approx(degrees[0])
    np.testing.assert_array_equal(rows.displacement.astype("f4"), pixel.displacement)


def test_conditions_hold_here_too(edr, decoded):
    pixel = decoded["utm"].isel(x=40, y=20)
    coords = f"POINT({float(pixel.x)} {float(pixel.y)})"
    kept = table(
        edr(
            "/collections/utm/position",
            coords=coords,
            crs="native",
            mask="counts>0",
            parameter_name="displacement",
            f="csv",
        )
    )
    expected = pixel.displacement.where(pixel.counts > 0)
    np.testing.assert_array_equal(kept.displacement.astype("f4"), expected)
    dates = table(
        edr(
            "/collections/utm/position",
            coords=coords,
            crs="native",
            where="time>=2020-04-01",
            parameter_name="displacement",
            f="csv",
        )
    )
    assert dates.time.dt.tz_localize(None).tolist() == list(
        pd.to_datetime(pixel.time.sel(time=slice("2020-04-01", None)))
    )


def test_formats_by_name_and_by_header(edr):
    assert (
        edr("/collections/utm/position", coords=POINT).headers["content-type"]
        == "application/prs.coverage+json"
    )
    assert (
        edr("/collections/utm/position", coords=POINT, f="CoverageJSON").headers["content-type"]
        == "application/prs.coverage+json"
    )
    for accept, kind in (
        ("application/geo+json", "application/geo+json"),
        ("text/csv;q=0.5, application/x-netcdf", "application/x-netcdf"),
        ("image/tiff, text/csv;q=0.1", "text/csv; charset=utf-8"),
        ("*/*", "application/prs.coverage+json"),
        ("nonsense;q=x", "application/prs.coverage+json"),
    ):
        answer = edr("/collections/utm/position", coords=POINT, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind
        assert "Accept" in answer.headers["vary"]


def test_answers_have_heads_and_ranges(edr, server):
    answer = edr("/collections/utm/position", coords=POINT)
    url = str(answer.url)
    part = server.client.get(url, headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, answer.content[2:10])
    head = server.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]


@pytest.mark.parametrize(
    ("z", "levels"),
    [("500", [500]), ("400/900", [500, 850]), ("400/600", [500]), ("500,850", [500, 850]), ("850", [850]), ("R3/500/175", [500, 850])],
)  # fmt: skip
def test_levels_in_every_form(edr, decoded, z, levels):
    found = edr("/collections/globe/position", coords="POINT(11 12)", z=z, f="netcdf").content
    with xr.open_dataset(io.BytesIO(found), engine="h5netcdf") as dataset:
        expected = decoded["globe"].t.sel(lon=10, lat=12.5, level=levels)
        assert np.atleast_1d(dataset.level).tolist() == levels
        values = dataset.t if "level" in dataset.t.dims else dataset.t.expand_dims("level")
        np.testing.assert_array_equal(values.transpose("time", "level", "member"), expected)
