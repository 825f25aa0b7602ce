"""A combined collection over HTTP: what says which cube answered, and what it does not serve."""

import contextlib
import io
import json

import httpx
import netCDF4
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.app import create_app
from cubegate.settings import load_settings

A_TIMES = np.array(["2020-03-01", "2020-01-01", "2020-01-01"], "M8[ns]")
B_TIMES = np.array(["2020-02-01", "2020-01-01"], "M8[ns]")
POLAR, UTM, BOTH = (-50.1, 65.0), (-49.6, 65.0), "-50.05,64.98,-49.7,65.02"


def make(crs, place, step, size, times, seed):  # noqa: PLR0917
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(*place)
    x, y = round(x) + step * (np.arange(size) - size / 2), round(y) - step * (np.arange(size) - size / 2)
    values = np.random.default_rng(seed).normal(size=(len(times), size, size)).astype("f4")
    metres = {"units": "m"}
    cube = xr.Dataset(
        {
            "v": (("mid_date", "y", "x"), values, {"units": "m/y", "grid_mapping": "mapping"}),
            "satellite": ("mid_date", [f"{seed}{number}" for number in range(len(times))]),
        },
        {
            "mid_date": times,
            "x": ("x", x, {"standard_name": "projection_x_coordinate", **metres}),
            "y": ("y", y, {"standard_name": "projection_y_coordinate", **metres}),
        },
    )
    cube["mapping"] = ((), np.int32(0), CRS.from_user_input(crs).to_cf())
    return cube


@pytest.fixture(scope="module")
def made():
    return {
        "polar": make("EPSG:3413", (-50.0, 65.0), 200.0, 60, A_TIMES, 1),
        "utm": make("EPSG:32622", (-49.75, 65.0), 150.0, 110, B_TIMES, 2),
    }


def write(directory, made, more=""):
    (directory / "collections").mkdir()
    for name, cube in made.items():
        cube.to_zarr(directory / f"{name}.zarr", zarr_format=2)
        references = {
            str(file.relative_to(directory / f"{name}.zarr")): [file.as_uri(), 0, file.stat().st_size]
            for file in sorted((directory / f"{name}.zarr").rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        }
        documents = {
            str(file.relative_to(directory / f"{name}.zarr")): file.read_text()
            for file in (directory / f"{name}.zarr").rglob(".z*")
            if file.name != ".zmetadata"
        }
        (directory / f"{name}.json").write_text(
            json.dumps({"version": 1, "refs": {**documents, **references}})
        )
        source = (
            f'source: {{kind: kerchunk, href: "{(directory / f"{name}.json").as_uri()}", fill: declared}}'
        )
        (directory / f"collections/{name}.yaml").write_text(f"id: {name}\n{source}\n")
    (directory / "collections/all.yaml").write_text(
        f"id: all\ntitle: Both\nsource: {{kind: combined, members: [{', '.join(made)}]}}\n"
    )
    file = directory / "cubegate.yaml"
    file.write_text(f'upstreams: {{"{directory.as_uri()}/": {{}}}}\n{more}\n')
    return create_app(load_settings(file, {}), {})


@pytest.fixture(scope="module")
def client(made, tmp_path_factory, serving):
    with (
        serving(write(tmp_path_factory.mktemp("combined"), made)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.fixture
def start(made, tmp_path, serving, monkeypatch):
    # a change of a file is noticed at the next request
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 0.0)
    with contextlib.ExitStack() as stack:

        def start(more=""):
            url = stack.enter_context(serving(write(tmp_path, made, more)))
            return stack.enter_context(httpx.Client(base_url=url, timeout=60))

        yield start


def get(client, path, status=200, **parameters):
    response = client.get(path, params=parameters)
    assert response.status_code == status, response.text
    return response


def series(cube, crs, place):
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(*place)
    return cube.v.sel(x=x, y=y, method="nearest").sortby("mid_date", ascending=True).values


@pytest.mark.parametrize(("place", "owner", "crs"), [(POLAR, "polar", 3413), (UTM, "utm", 32622)])
def test_every_format_of_a_series_names_its_cube(client, made, compared, *, place, owner, crs):
    asked = {"lon": place[0], "lat": place[1], "variables": "v,satellite"}
    expected = series(made[owner], crs, place)
    answered = get(client, "/datasets/all/timeseries", **asked).json()
    alone = get(client, f"/datasets/{owner}/timeseries", **asked).json()
    assert (answered["cube"], answered["dataset"], answered["title"]) == (owner, "all", "Both")
    assert answered["version"] != alone["version"]
    assert {key: answered[key] for key in ("point", "time", "variables", "crs")} == {
        key: alone[key] for key in ("point", "time", "variables", "crs")
    }
    np.testing.assert_allclose(answered["variables"]["v"]["values"], expected)
    compared(expected)
    text = get(client, "/datasets/all/timeseries", f="csv", **asked).text
    assert f"# cube: {owner}\n" in text
    values = get(client, f"/datasets/{owner}/timeseries", f="csv", **asked).text
    assert text.partition("\ntime,")[2] == values.partition("\ntime,")[2]
    document = get(client, "/datasets/all/timeseries", f="netcdf", **asked).content
    with netCDF4.Dataset("memory", memory=document) as file:
        assert file.cube == owner
        np.testing.assert_array_equal(file["v"][:], expected)
    table = pq.read_table(io.BytesIO(get(client, "/datasets/all/timeseries", f="parquet", **asked).content))
    assert table.schema.metadata[b"cube"].decode() == owner
    coverage = get(
        client, "/datasets/all/timeseries", f="covjson", lon=place[0], lat=place[1], variables="v"
    ).json()
    coverages = coverage.get("coverages", [coverage])
    assert coverage["cubegate"]["cube"] == owner
    assert sum(len(each["ranges"]["v"]["values"]) for each in coverages) == len(expected)
    assert get(client, "/datasets/all/timeseries", f="png", **asked).content.startswith(b"\x89PNG")


def test_every_format_of_a_table_names_the_cube_of_each_point(client, made, compared):
    body = f"id,lon,lat\nfirst,{UTM[0]},{UTM[1]}\nsecond,{POLAR[0]},{POLAR[1]}\n"

    def ask(name):
        response = client.post(
            "/datasets/all/timeseries", params={"f": name, "variables": "v,satellite"}, content=body,
            headers={"Content-Type": "text/csv"},
        )  # fmt: skip
        assert response.status_code == 200, response.text
        return response

    answered = ask("json").json()
    assert [(point["id"], point["cube"]) for point in answered["points"]] == [
        ("first", "utm"),
        ("second", "polar"),
    ]
    assert answered["time"] == [f"2020-{month}-01T00:00:00Z" for month in ("01", "01", "02", "03")]
    utm, polar = series(made["utm"], 32622, UTM).tolist(), series(made["polar"], 3413, POLAR).tolist()
    expected = [[utm[0], None, utm[1], None], [polar[0], polar[1], None, polar[2]]]
    found = np.array(answered["variables"]["v"]["values"], float)
    np.testing.assert_allclose(found, np.array(expected, float))
    compared(found)
    satellites = [["21", None, "20", None], ["11", "12", None, "10"]]
    assert answered["variables"]["satellite"]["values"] == satellites
    lines = [line.split(",") for line in ask("csv").text.splitlines() if not line.startswith("#")]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [row["cube"] for row in rows] == ["utm"] * 4 + ["polar"] * 4
    assert [row["satellite"] for row in rows] == [name or "" for names in satellites for name in names]
    table = pq.read_table(io.BytesIO(ask("parquet").content)).to_pydict()
    assert table["cube"] == ["utm"] * 4 + ["polar"] * 4
    assert table["v"] == [value for values in expected for value in values]
    with netCDF4.Dataset("memory", memory=ask("netcdf").content) as file:
        assert file["cube"][:].tolist() == ["utm", "polar"]
        np.testing.assert_array_equal(file["v"][:].filled(np.nan), np.array(expected, float).astype("f4"))
    with_points = ask("covjson").json()
    assert len({json.dumps(each["domain"]["axes"]["x"]) for each in with_points["coverages"]}) == 2
    assert ask("png").content.startswith(b"\x89PNG")


def test_every_format_of_an_area_holds_the_source_cubes(client, compared):
    asked = {"bbox": BOTH, "variables": "v", "crs": "EPSG:4326"}
    document = get(client, "/datasets/all/subset", **asked).content
    with netCDF4.Dataset("memory", memory=document) as file:
        assert file.cubes == "1 polar, 2 utm"
        cube = file["cube"]
        assert (cube.flag_values.tolist(), cube.flag_meanings) == ([1, 2], "polar utm")
        assert cube.grid_mapping == "spatial_ref"
        cubes, values = cube[:].filled(-1), file["v"][:].filled(np.nan)
    assert {1, 2} <= set(np.unique(cubes))
    assert np.isfinite(values[3][cubes == 1]).all()
    assert np.isnan(values[3][cubes != 1]).all()
    with (
        rasterio.MemoryFile(get(client, "/datasets/all/subset", f="geotiff", **asked).content) as memory,
        memory.open() as image,
    ):
        assert image.descriptions[-1] == "cube"
        assert image.crs == "EPSG:4326"
        bands = image.read()
        np.testing.assert_array_equal(bands[:-1], values.astype("f4"))
        np.testing.assert_array_equal(np.nan_to_num(bands[-1], nan=-1), cubes)
        compared(bands)
    lines = get(client, "/datasets/all/subset", f="csv", **asked).text.splitlines()
    assert "# cubes: 1 polar, 2 utm" in lines
    table = pq.read_table(io.BytesIO(get(client, "/datasets/all/subset", f="parquet", **asked).content))
    numbers = np.array([-1 if each is None else each for each in table["cube"].to_pylist()])
    np.testing.assert_array_equal(numbers.reshape(values.shape)[0], cubes)
    assert "cube" in json.dumps(get(client, "/datasets/all/subset", f="covjson", **asked).json())
    assert get(client, "/datasets/all/subset", f="png", **asked).content.startswith(b"\x89PNG")


def test_an_area_in_one_cube_is_its_own_answer(client):
    asked = {"bbox": "-50.04,64.99,-49.98,65.01", "variables": "v", "f": "csv"}
    found, alone = (get(client, f"/datasets/{name}/subset", **asked).text for name in ("all", "polar"))
    assert "# cube: polar\n" in found
    assert found.partition("\ntime,")[2] == alone.partition("\ntime,")[2] != ""


def test_it_is_listed_and_ready(client):
    assert get(client, "/datasets").json() == ["all", "polar", "utm"]
    assert get(client, "/readyz").json() == {"status": "ok", "datasets": 3}


@pytest.mark.parametrize(
    "path", ["zarr/.zmetadata", "zarr/zarr.json", "zarr-plain/v/.zarray", "zarr/v/0.0.0", "zarr/"]
)
def test_it_has_no_zarr_tree_and_says_whose_there_is(client, path):
    problem = get(client, f"/datasets/all/{path}", 404).json()
    assert problem["title"] == "Not found"
    assert "/datasets/polar/, /datasets/utm/" in problem["detail"]
    assert get(client, "/datasets/polar/zarr/.zmetadata").json()


@pytest.mark.parametrize("path", ["", "info", "dict", "keys", "dims", "vars"])
def test_what_needs_one_dataset_says_that_there_is_none(client, path):
    mounted = client.get(f"/datasets/polar/{path}").status_code
    problem = client.get(f"/datasets/all/{path}")
    assert problem.status_code == 404, problem.text
    if mounted == 200:
        assert "/datasets/polar/, /datasets/utm/" in problem.json()["detail"]


def test_a_place_in_no_cube_is_a_problem_with_the_extents(client):
    for path, asked in (("timeseries", {"lon": -40, "lat": 65}), ("subset", {"bbox": "-40,64,-39,65"})):
        problem = get(client, f"/datasets/all/{path}", 400, **asked).json()
        assert "polar: x -50" in problem["accepted"]
        assert "utm: x -49" in problem["accepted"]


def test_the_price_is_known_before(client):
    answered = get(client, "/datasets/all/estimate", bbox=BOTH, variables="v").json()
    assert answered["fits"]
    parts = [
        get(client, f"/datasets/{name}/estimate", bbox=BOTH, variables="v").json()
        for name in ("polar", "utm")
    ]
    assert answered["chunks"] >= 1
    assert answered["cells"] > sum(part["cells"] for part in parts) / 2
    one = {"lon": POLAR[0], "lat": POLAR[1]}
    assert (
        get(client, "/datasets/all/estimate", **one).json()
        == get(client, "/datasets/polar/estimate", **one).json()
    )


def test_what_is_too_large_is_refused_with_a_query_that_fits(start):
    client = start("limits: {cells: 9000}")
    asked = {"bbox": BOTH, "variables": "v"}
    problem = get(client, "/datasets/all/subset", 413, **asked).json()
    assert get(client, "/datasets/all/estimate", **asked).json()["hint"] == problem["hint"]
    offered = problem["hint"].removeprefix("It would fit with ").rstrip(".").replace(" and ", "&")
    smaller = {**asked, **dict(part.split("=") for part in offered.split("&"))}
    get(client, "/datasets/all/subset", **smaller)


def test_a_client_keeps_its_answer_until_any_member_changes(start, made, tmp_path):
    client = start()
    asked = {"lon": POLAR[0], "lat": POLAR[1], "variables": "v"}
    first = get(client, "/datasets/all/timeseries", **asked)
    held = {"If-None-Match": first.headers["etag"]}
    assert client.get("/datasets/all/timeseries", params=asked, headers=held).status_code == 304
    version = first.json()["version"]
    assert get(client, f"/datasets/all@{version}/timeseries", **asked).json()["cube"] == "polar"
    references = json.loads((tmp_path / "utm.json").read_text())
    references["refs"][".zattrs"] = '{"changed": true}'
    (tmp_path / "new.json").write_text(json.dumps(references))
    (tmp_path / "new.json").replace(tmp_path / "utm.json")
    again = client.get("/datasets/all/timeseries", params=asked, headers=held)
    assert again.status_code == 200
    assert again.headers["etag"] != held["If-None-Match"]
    assert again.json()["version"] != version
    assert again.json()["variables"] == first.json()["variables"]
    get(client, f"/datasets/all@{version}/timeseries", 404, **asked)


def test_a_broken_member_fails_for_its_own_places_only(start, tmp_path):
    client = start()
    for chunk in (tmp_path / "utm.zarr" / "v").glob("[0-9]*"):
        chunk.unlink()
    get(client, "/datasets/all/timeseries", lon=POLAR[0], lat=POLAR[1])
    for path, asked in (("timeseries", {"lon": UTM[0], "lat": UTM[1]}), ("subset", {"bbox": BOTH})):
        problem = client.get(f"/datasets/all/{path}", params={**asked, "variables": "v"})
        assert problem.status_code in {502, 503}
        assert str(tmp_path) not in problem.text
    assert get(client, "/datasets/all/subset", bbox="-50.04,64.99,-49.98,65.01", variables="v").content


def test_a_member_that_cannot_be_opened_fails_for_its_own_places_only(start, tmp_path):
    (tmp_path / "later").mkdir()
    client = start()
    (tmp_path / "utm.json").rename(tmp_path / "later/utm.json")
    assert get(client, "/datasets/all/timeseries", lon=POLAR[0], lat=POLAR[1]).json()["cube"] == "polar"
    for path, asked in (("timeseries", {"lon": UTM[0], "lat": UTM[1]}), ("subset", {"bbox": BOTH})):
        assert client.get(f"/datasets/all/{path}", params=asked).status_code in {502, 503}
    (tmp_path / "later/utm.json").rename(tmp_path / "utm.json")
    assert get(client, "/datasets/all/timeseries", lon=UTM[0], lat=UTM[1]).json()["cube"] == "utm"


def test_the_statistics_of_a_polygon_are_those_of_its_cube(client):
    def ring(west, south, east, north):
        return [[[west, south], [east, south], [east, north], [west, south]]]

    def records(name, west, east):
        body = {"type": "Polygon", "coordinates": ring(west, 64.99, east, 65.01)}
        response = client.post(f"/datasets/{name}/statistics", json=body, params={"variables": "v"})
        assert response.status_code == 200, response.text
        return response.json()

    alone, together = (records(name, POLAR[0] - 0.02, POLAR[0] + 0.02) for name in ("polar", "all"))
    assert together["statistics"] == alone["statistics"]
    assert len(alone["statistics"]) == 3
    assert together["cube"] == "polar"
    assert {record["count"] > 0 for record in records("all", -50.05, -49.7)["statistics"]} == {True}
