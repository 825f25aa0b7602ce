"""EDR over a collection that is combined of several cubes, beside one that cannot be opened."""

import asyncio
import io
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.api.collections import describe_page, find_collections
from cubegate.app import create_app
from cubegate.edr.description import describe
from cubegate.edr.search import Search
from cubegate.query.interval import parse_interval
from cubegate.settings import load_settings

PLACES = {"west": ("EPSG:32611", -114.2, 60), "east": ("EPSG:32612", -114.15, 61)}
CELL, SIZE = 100.0, 50


def make(crs, longitude, seed):
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(longitude, 35.0)
    steps = CELL * (np.arange(SIZE) - SIZE / 2)
    times = np.array(["2020-01-01", f"2020-0{seed - 58}-01"], "M8[ns]")
    values = np.random.default_rng(seed).normal(size=(2, SIZE, SIZE)).astype("f4")
    cube = xr.Dataset(
        {"h": (("time", "y", "x"), values, {"units": "m", "grid_mapping": "spatial_ref"})},
        {
            "time": times,
            "x": ("x", round(x) + steps, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "y": ("y", round(y) - steps, {"standard_name": "projection_y_coordinate", "units": "m"}),
        },
    )
    cube["spatial_ref"] = ((), np.int32(0), CRS.from_user_input(crs).to_cf())
    return cube


@pytest.fixture(scope="module")
def made():
    return {name: make(*place) for name, place in PLACES.items()}


@pytest.fixture(scope="module")
def edr(made, tmp_path_factory, serving):
    """`ask(path, status=200, **parameters)` below `/edr/collections`."""
    root = tmp_path_factory.mktemp("combined")
    (root / "collections").mkdir()
    for name, cube in made.items():
        cube.to_zarr(root / f"{name}.zarr", zarr_format=2)
    (root / "bare.zarr").mkdir()
    xr.Dataset({"a": ("n", [1.0])}).to_zarr(root / "bare.zarr", zarr_format=2)
    for name in (*made, "lost", "bare"):
        href = (root / f"{name}.zarr").as_uri()
        (root / "collections" / f"{name}.yaml").write_text(
            f'id: {name}\nsource: {{kind: zarr, href: "{href}"}}\n'
        )
    for name, members in (("all", "west, east"), ("part", "lost, east")):
        text = f"id: {name}\ntitle: Together\nsource: {{kind: combined, members: [{members}]}}\n"
        (root / "collections" / f"{name}.yaml").write_text(text)
    (root / "cubegate.yaml").write_text(
        f'upstreams: {{"{root.as_uri()}/": {{}}}}\ncollections: ["collections/*.yaml"]\n'
    )
    app = create_app(load_settings(root / "cubegate.yaml", {}), {})
    with serving(app) as url, httpx.Client(timeout=60) as client:

        def ask(path="", status=200, **parameters):
            query = {name.replace("_", "-"): value for name, value in parameters.items()}
            answer = client.get(f"{url}/edr/collections{path}", params=query)
            assert answer.status_code == status, answer.text
            return answer

        yield ask


def value_at(made, order, lon, lat):
    """The values of the first cube in `order` that contains a place, and its name."""
    for name in order:
        cube = made[name]
        x, y = Transformer.from_crs(4326, PLACES[name][0], always_xy=True).transform(lon, lat)
        ix, iy = (x - float(cube.x[0])) / CELL, (float(cube.y[0]) - y) / CELL
        if -0.5 <= ix < SIZE - 0.5 and -0.5 <= iy < SIZE - 0.5:
            return cube.h.isel(x=round(ix), y=round(iy)), name
    raise AssertionError


def test_a_broken_collection_is_left_out_and_the_others_are_listed(edr):
    found = edr().json()
    assert [each["id"] for each in found["collections"]] == ["all", "east", "part", "west"]
    assert (found["numberMatched"], found["numberReturned"]) == (6, 4)
    for path in ("/lost", "/lost/position"):
        problem = edr(path, status=502, coords="POINT(0 0)").json()
        assert "lost.zarr" not in str(problem)
    assert edr("/bare", status=400).headers["content-type"] == "application/problem+json"


async def test_a_collection_that_takes_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr("cubegate.api.collections.PATIENCE", 0.1)
    asked = []

    class Catalog:
        async def get(self, name):
            asked.append(name)
            await asyncio.Event().wait()

    assert await describe_page(SimpleNamespace(catalog=Catalog()), ["a", "b"]) == []
    assert asked == ["a", "b"]


async def test_what_a_search_does_not_find_is_described_once(made, tmp_path, monkeypatch):
    made["west"].to_zarr(tmp_path / "west.zarr", zarr_format=2)
    (tmp_path / "west.yaml").write_text(
        f'id: west\nsource: {{kind: zarr, href: "{(tmp_path / "west.zarr").as_uri()}"}}\n'
    )
    (tmp_path / "cubegate.yaml").write_text(
        f'upstreams: {{"{tmp_path.as_uri()}/": {{}}}}\ncollections: [west.yaml]\n'
    )
    described = []
    monkeypatch.setattr(
        "cubegate.api.collections.describe",
        lambda *given: described.append(given) or describe(*given),
    )
    app = create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})
    async with app.router.lifespan_context(app):
        services = app.state.services
        here, elsewhere = Search(box=(-114.3, 34.9, -114.1, 35.1)), Search(box=(0.0, 34.9, 1.0, 35.1))
        for search, count in ((elsewhere, 1), (elsewhere, 1), (here, 2), (elsewhere, 2)):
            found, following = await find_collections(services, 0, 10, search.finds)
            assert ([each.id for each in found], following) == (["west"] if search is here else [], None)
            assert len(described) == count
        (found,), _ = await find_collections(services, 0, 10, here.finds)
        # what is found is described in full
        assert len(found.axes) == 2
        later = Search(interval=parse_interval("2020-01-15/2020-01-20"))
        assert [each.id for each in (await find_collections(services, 0, 10, later.finds))[0]] == ["west"]


def test_a_combined_collection_is_described_by_all_its_members(edr, made):
    found = edr("/all").json()
    assert (found["id"], found["title"]) == ("all", "Together")
    assert found["crs"][0].endswith("/OGC/1.3/CRS84")
    assert found["extent"]["temporal"]["values"] == [
        "2020-01-01T00:00:00Z",
        "2020-02-01T00:00:00Z",
        "2020-03-01T00:00:00Z",
    ]
    (box,) = found["extent"]["spatial"]["bbox"]
    parts = [edr(f"/{name}").json()["extent"]["spatial"]["bbox"][0] for name in made]
    assert box == pytest.approx(
        [f(side) for f, side in zip((min, min, max, max), zip(*parts, strict=True), strict=True)]
    )
    boxes = [edr(f"/{name}").json()["extent"]["spatial"]["bbox"][0] for name in ("part", "east")]
    assert boxes[0] == pytest.approx(boxes[1])
    problem = edr("/all/coverage/domainset", status=400).json()
    assert "several grids" in problem["detail"]


@pytest.mark.parametrize("longitude", [-114.21, -114.16, -114.13])
def test_a_point_is_answered_by_the_first_cube_that_contains_it(edr, made, longitude):
    rows = pd.read_csv(
        io.StringIO(edr("/all/position", coords=f"POINT({longitude} 35.001)", f="csv").text), comment="#"
    )
    expected, _ = value_at(made, PLACES, longitude, 35.001)
    np.testing.assert_array_equal(rows.h.astype("f4"), expected)


def test_a_trajectory_goes_from_one_cube_to_the_next(edr, made):
    text = edr(
        "/all/trajectory", coords="LINESTRING(-114.215 34.99,-114.13 35.01)", datetime="2020-01-01", f="csv"
    ).text
    rows = pd.read_csv(io.StringIO(text), comment="#")
    owners = []
    for row in rows.itertuples():
        expected, owner = value_at(made, PLACES, row.longitude, row.latitude)
        assert (owner, np.float32(row.h)) == (row.cube, expected.sel(time="2020-01-01"))
        owners.append(owner)
    assert owners == sorted(owners, reverse=True)
    assert set(owners) == {"west", "east"}
    assert len(rows) > 80
    # no gap: from one cell to the next along the line
    assert np.hypot(np.diff(rows.longitude) * 91_000, np.diff(rows.latitude) * 111_000).max() < 2.3 * CELL
    timed = "LINESTRINGM(-114.215 34.99 1577836800,-114.13 35.01 1577923200)"
    again = pd.read_csv(io.StringIO(edr("/all/trajectory", coords=timed, f="csv").text), comment="#")
    np.testing.assert_array_equal(again.h, rows.h)


def test_an_area_over_both_cubes_is_cut_out_of_the_cube_query(edr):
    ring = [(-114.2, 34.99), (-114.14, 34.995), (-114.165, 35.015), (-114.2, 34.99)]
    asked = {"parameter_name": "h", "datetime": "2020-01-01", "f": "csv"}
    box = ",".join(map(str, shapely.Polygon(ring).bounds))
    whole = pd.read_csv(io.StringIO(edr("/all/cube", bbox=box, **asked).text), comment="#")
    found = pd.read_csv(
        io.StringIO(edr("/all/area", coords=shapely.Polygon(ring).wkt, **asked).text), comment="#"
    )
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(whole.x, whole.y)
    inside = shapely.contains_xy(shapely.Polygon(ring), lon, lat)
    expected = whole[inside].dropna().set_index(["y", "x"]).h
    kept = found.dropna().set_index(["y", "x"]).h
    assert len(expected) > 500
    pd.testing.assert_series_equal(kept.sort_index(), expected.sort_index())


def test_what_lies_outside_all_cubes_is_400(edr):
    for kind, coords in (
        ("position", "POINT(10 10)"),
        ("trajectory", "LINESTRING(10 10,11 11)"),
        ("area", "POLYGON((10 10,11 10,11 11,10 10))"),
    ):
        assert edr(f"/all/{kind}", status=400, coords=coords).json()["parameter"] in ("coords", "bbox")
