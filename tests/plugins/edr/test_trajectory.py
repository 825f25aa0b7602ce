"""Trajectory queries: the pixels along a line, and the time at each."""

import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from pyproj import Transformer

LINE = "LINESTRING(-118.096 35.2245,-118.0885 35.226,-118.091 35.229)"

TIMED = "LINESTRINGM(-118.096 35.2245 1578614400,-118.0885 35.226 1585000000,-118.091 35.229 1590969600)"


def in_degrees(code, *places):
    x, y = Transformer.from_crs(code, 4326, always_xy=True).transform(*np.transpose(places))
    return [(float(lon), float(lat)) for lon, lat in zip(x, y, strict=True)]


ON_POLAR = in_degrees(3413, (-232_300, -2_030_700), (-213_200, -2_036_100), (-218_400, -2_018_900))


def table(answer):
    return pd.read_csv(io.StringIO(answer.text), comment="#", parse_dates=["time"])


@pytest.mark.parametrize(
    ("name", "line"),
    [("utm", LINE), ("polar", shapely.LineString(ON_POLAR).wkt.replace("LINESTRING (", "LINESTRING("))],
)
def test_a_trajectory_is_the_pixels_along_the_line(edr, decoded, name, line, is_covjson, conforms):  # noqa: PLR0917 - fixtures
    cube = decoded[name]
    code, time, variable = {"utm": (32611, "time", "displacement"), "polar": (3413, "mid_date", "v")}[name]
    asked = {"coords": line, "parameter_name": variable}
    found = edr(f"/collections/{name}/trajectory", **asked).json()
    is_covjson(found)
    coverages = [found] if found["type"] == "Coverage" else found["coverages"]
    vertices = np.array([each.split() for each in line[11:-1].split(",")], float)
    dense = np.concatenate([np.linspace(a, b, 40_000) for a, b in pairwise(vertices)])
    x, y = Transformer.from_crs(4326, code, always_xy=True).transform(*dense.T)
    columns = np.abs(x[:, None] - cube.x.to_numpy()[None]).argmin(1)
    rows = np.abs(y[:, None] - cube.y.to_numpy()[None]).argmin(1)
    cells = np.column_stack([rows, columns])
    runs = cells[np.append(True, (np.diff(cells, axis=0) != 0).any(1))]
    for coverage in coverages:
        composite = coverage["domain"]["axes"]["composite"]
        assert (coverage["domain"]["domainType"], composite["coordinates"]) in (
            ("MultiPointSeries", ["x", "y"]),
            ("Trajectory", ["t", "x", "y"]),
        )
        places = np.array([each[-2:] for each in composite["values"]], float)
        np.testing.assert_array_equal(
            places, np.column_stack([cube.x.to_numpy()[runs[:, 1]], cube.y.to_numpy()[runs[:, 0]]])
        )
        values = coverage["ranges"][variable]
        shape = values.get("shape", [len(places)])
        array = np.array(
            [np.nan if cell is None else cell for cell in values["values"]], cube[variable].dtype
        ).reshape(len(places), -1)
        assert shape[0] == len(places) == len(runs) > 30
        texts = coverage["domain"]["axes"].get("t", {}).get("values") or [composite["values"][0][0]]
        for number, text in enumerate(texts):
            same = np.flatnonzero(cube[time].to_numpy() == np.datetime64(text.rstrip("Z")))
            expected = cube[variable].to_numpy()[same][:, runs[:, 0], runs[:, 1]]
            assert any(np.array_equal(array[:, number], layer, equal_nan=True) for layer in expected)
    features = edr(f"/collections/{name}/trajectory", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == len(runs) * cube.sizes[time]


def test_a_line_with_times_takes_the_nearest_at_each_pixel(edr, decoded, is_covjson, conforms, tmp_path):
    cube = decoded["utm"]
    asked = {"coords": TIMED, "parameter_name": "displacement"}
    found = edr("/collections/utm/trajectory", **asked).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "Trajectory"
    assert set(found["domain"]["axes"]) == {"composite"}
    tuples = found["domain"]["axes"]["composite"]["values"]
    values = found["ranges"]["displacement"]["values"]
    vertices = np.array([each.split() for each in TIMED[12:-1].split(",")], float)
    dense = np.concatenate([np.linspace(a, b, 40_000) for a, b in pairwise(vertices)])
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(*dense[:, :2].T)
    seconds = cube.time.to_numpy().astype("M8[s]").astype(int)
    columns, rows = (
        np.abs(x[:, None] - cube.x.to_numpy()).argmin(1),
        np.abs(y[:, None] - cube.y.to_numpy()).argmin(1),
    )
    checked = 0
    for (text, at_x, at_y), value in zip(tuples, values, strict=True):
        there = (cube.x.to_numpy()[columns] == at_x) & (cube.y.to_numpy()[rows] == at_y)
        assert there.any()
        passing = dense[there, 2]
        time = np.datetime64(text.rstrip("Z"), "s").astype(int)
        near = {
            seconds[np.abs(seconds - moment).argmin()]
            for moment in (passing.min(), np.median(passing), passing.max())
        }
        assert time in near
        checked += len(near) == 1
        expected = cube.displacement.sel(time=text.rstrip("Z"), x=at_x, y=at_y)
        assert (np.isnan(expected) and value is None) or np.float32(value) == expected
    assert checked > 30
    assert len({text for text, _, _ in tuples}) > 6
    features = edr("/collections/utm/trajectory", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert [feature["properties"]["datetime"] for feature in features["features"]] == [
        text for text, _, _ in tuples
    ]
    rows = table(edr("/collections/utm/trajectory", **asked, f="csv"))
    assert [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in rows.time] == [text for text, _, _ in tuples]
    file = tmp_path / "path.nc"
    file.write_bytes(edr("/collections/utm/trajectory", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(
            dataset.displacement, np.array([np.nan if v is None else v for v in values], "f4")
        )
        assert (
            dataset.time.to_numpy() == np.array([text.rstrip("Z") for text, _, _ in tuples], "M8[ns]")
        ).all()


def test_a_line_at_one_time_is_a_trajectory_and_without_times_points(edr, is_covjson):
    found = edr(
        "/collections/utm/trajectory", coords=LINE, parameter_name="displacement", datetime="2020-01-15"
    ).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "Trajectory"
    assert {each[0] for each in found["domain"]["axes"]["composite"]["values"]} == {"2020-01-15T00:00:00Z"}
    found = edr("/collections/utm/trajectory", coords=LINE, parameter_name="quality").json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "MultiPoint"


def test_a_line_and_an_area_at_a_level(edr, decoded):
    cube = decoded["globe"].t.sel(level=850).isel(member=2)
    asked = {"z": "850", "member": "2", "f": "csv"}
    text = edr("/collections/globe/trajectory", coords="LINESTRING(11 12,31 13)", **asked).text
    found = pd.read_csv(io.StringIO(text), comment="#")
    expected = cube.sel(lon=[10, 15, 20, 25, 30], lat=12.5)
    np.testing.assert_array_equal(
        found.t.astype("f4").to_numpy().reshape(5, -1), expected.transpose("lon", "time").to_numpy()
    )
    ring = "POLYGON((9 6,21 6,21 14,9 14,9 6))"
    text = edr("/collections/globe/area", coords=ring, **{**asked, "z": "800/900"}).text
    found = pd.read_csv(io.StringIO(text), comment="#")
    expected = cube.sel(lon=[10, 15, 20], lat=[12.5, 7.5])
    np.testing.assert_array_equal(found.t.astype("f4"), expected.to_numpy().reshape(-1))
