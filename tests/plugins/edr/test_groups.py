"""EDR and Coverages of a cube with several groups, each with a grid and times of its own."""

import io

import httpx
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.settings import load_settings


def make(cell, name, seed):
    shape = (2, 40, 50)
    metres = {"units": "m"}
    cube = xr.Dataset(
        {name: (("time", "y", "x"), np.random.default_rng(seed).normal(size=shape), {"grid_mapping": "m"})},
        {
            "time": np.array([f"20{seed}-01-01", f"20{seed}-02-01"], "M8[ns]"),
            "x": (
                "x",
                400_000 + cell * np.arange(50.0),
                {"standard_name": "projection_x_coordinate", **metres},
            ),
            "y": (
                "y",
                3_900_000 - cell * np.arange(40.0),
                {"standard_name": "projection_y_coordinate", **metres},
            ),
        },
    )
    cube["m"] = ((), np.int32(0), CRS.from_epsg(32611).to_cf())
    return cube


@pytest.fixture(scope="module")
def groups():
    return {"": make(30, "fine", 20), "coarse": make(90, "rough", 21)}


@pytest.fixture(scope="module")
def edr(groups, tmp_path_factory, serving):
    """`ask(path, status=200, **parameters)` below the collection."""
    directory = tmp_path_factory.mktemp("groups")
    for name, cube in groups.items():
        cube.to_zarr(directory / "cube.zarr", group=name or None, mode="a", zarr_format=2)
    (directory / "cube.yaml").write_text(
        f'id: cube\nsource: {{kind: zarr, href: "{(directory / "cube.zarr").as_uri()}"}}\n'
    )
    for name, cube in groups.items():
        far = cube.assign_coords(x=cube.x.assign_attrs(cube.x.attrs) + 50_000)
        far.x.attrs = cube.x.attrs
        far.to_zarr(directory / "far.zarr", group=name or None, mode="a", zarr_format=2)
    (directory / "far.yaml").write_text(
        f'id: far\nsource: {{kind: zarr, href: "{(directory / "far.zarr").as_uri()}"}}\n'
    )
    (directory / "both.yaml").write_text("id: both\nsource: {kind: combined, members: [far, cube]}\n")
    (directory / "cubegate.yaml").write_text(
        f'upstreams: {{"{directory.as_uri()}/": {{}}}}\ncollections: [cube.yaml, far.yaml, both.yaml]\n'
    )
    with serving(create_app(load_settings(directory / "cubegate.yaml", {}), {})) as url:

        def ask(path, status=200, name="cube", **asked):
            answer = httpx.get(f"{url}/edr/collections/{name}{path}", params=asked, timeout=60)
            assert answer.status_code == status, answer.text
            return answer

        yield ask


# of the second group, outside of the first
X, Y = 403_240, 3_897_570
ASKED = {
    "position": {"coords": f"POINT({X + 20} {Y - 20})"},
    "area": {"coords": f"POLYGON(({X - 9} {Y - 9},{X + 9} {Y - 9},{X} {Y + 9},{X - 9} {Y - 9}))"},
    "cube": {"bbox": f"{X - 9},{Y - 9},{X + 9},{Y + 9}"},
    "trajectory": {"coords": f"LINESTRING({X} {Y},{X + 9} {Y + 9})"},
}


@pytest.mark.parametrize("kind", ASKED)
def test_a_query_is_of_the_group_that_is_named(edr, groups, kind):
    asked = {**ASKED[kind], "crs": "native", "group": "coarse", "f": "csv"}
    rows = pd.read_csv(io.StringIO(edr(f"/{kind}", **asked).text), comment="#").dropna()
    expected = groups["coarse"].rough.sel(x=X, y=Y)
    np.testing.assert_array_equal(rows.rough, expected)
    first = edr(f"/{kind}", 400, **{**asked, "group": ""}).json()
    assert "outside" in first["detail"] or "does not meet" in first["detail"]
    assert "nowhere" in edr(f"/{kind}", 404, **{**asked, "group": "nowhere"}).json()["detail"]


def test_a_line_with_times_has_those_of_its_group(edr, groups):
    coords = f"LINESTRINGM({X} {Y} 1611000000,{X + 9} {Y + 9} 1611000001)"
    text = edr("/trajectory", coords=coords, crs="EPSG:32611", group="coarse", f="csv").text
    rows = pd.read_csv(io.StringIO(text), comment="#")
    assert rows.rough.tolist() == [float(groups["coarse"].rough.sel(x=X, y=Y, time="2021-02-01"))]


def test_a_coverage_is_of_the_group_that_is_named(edr, groups):
    axes = edr("/coverage/domainset", group="coarse").json()["generalGrid"]["axis"]
    assert axes[0]["resolution"] == 90
    assert [each["id"] for each in edr("/coverage/rangetype", group="coarse").json()["field"]] == ["rough"]
    subset = f"x({X - 9}:{X + 9}),y({Y - 9}:{Y + 9})"
    rows = pd.read_csv(
        io.StringIO(edr("/coverage", subset=subset, group="coarse", f="csv").text), comment="#"
    )
    np.testing.assert_array_equal(rows.rough, groups["coarse"].rough.sel(x=X, y=Y))
    assert "outside" in edr("/coverage", 400, subset=subset).json()["detail"]
    edr("/coverage/domainset", 404, group="nowhere")


def test_parameter_names_in_owslibs_spelling_are_understood(edr):
    answer = edr("/position", 400, **ASKED["position"], crs="native", parameter_names="speed")
    assert "speed" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ASKED)
def test_a_group_of_a_combined_collection_is_that_of_its_members(edr, groups, kind):
    asked = {**ASKED[kind], "crs": "EPSG:32611", "group": "coarse", "f": "csv"}
    rows = pd.read_csv(io.StringIO(edr(f"/{kind}", name="both", **asked).text), comment="#").dropna()
    np.testing.assert_array_equal(rows.rough, groups["coarse"].rough.sel(x=X, y=Y))
    assert "nowhere" in edr(f"/{kind}", 404, name="both", **{**asked, "group": "nowhere"}).json()["detail"]
