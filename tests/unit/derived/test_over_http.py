"""Derived variables over HTTP: in every answer of values, and nowhere in the Zarr tree."""

from __future__ import annotations

import csv
import io

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.unit.derived.cubes import by_hand, stack

from cubegate.app import create_app
from cubegate.settings import load_settings

COLLECTIONS = {
    "bare": "{}",
    "whole": "{c: {kind: continuous, variable: displacement}, o: {kind: continuous, variable: displacement, missing: omit}}",
    "broken": "{c: {kind: continuous, variable: gone}}",
}


@pytest.fixture
def values(truth):
    values = truth.stored.copy()
    values[3, 5, 9] = np.nan
    return values


@pytest.fixture
async def client(tmp_path, truth, values):
    """A server over one store: as it is, with derived variables, and with a wrong one."""
    store = tmp_path / "cube.zarr"
    dataset = stack(values, truth.times, truth.references)
    dataset["quality"] = (("time", "y", "x"), np.ones(values.shape, "u1"), {"grid_mapping": "spatial_ref"})
    dataset.quality[3, 0, 0] = 0
    chunks = {"chunks": (1, 8, 8)}
    dataset.to_zarr(store, zarr_format=2, encoding={"displacement": chunks, "quality": chunks})
    (tmp_path / "collections").mkdir()
    for name, derived in COLLECTIONS.items():
        text = f"id: {name}\nsource: {{kind: zarr, href: '{store.as_uri()}'}}\nderived: {derived}\n"
        (tmp_path / "collections" / f"{name}.yaml").write_text(text, "utf-8")
    (tmp_path / "cubegate.yaml").write_text(
        f"upstreams: {{'{store.as_uri()}/': {{}}}}\nlimits: {{chunks: 120}}\ncollections: ['collections/*.yaml']\n",
        "utf-8",
    )
    app = create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://cube", timeout=60
        ) as client,
    ):
        yield client


@pytest.fixture
def expected(truth, values):
    return {
        name: by_hand(values, truth.times, truth.references, omit=omit)
        for name, omit in (("c", False), ("o", True))
    }


def at(dataset_x, dataset_y, ix, iy):
    return {"x": dataset_x + 30 * ix, "y": dataset_y - 30 * iy}


PLACE = at(500_015, 3_900_000, 9, 5)


async def ask(client, path, status=200, **parameters):
    response = await client.get(path, params=parameters)
    assert response.status_code == status, response.text
    return response


async def test_a_series_as_json_and_csv(client, expected, truth):
    json = (await ask(client, "/datasets/whole/timeseries", **PLACE, variables="c,o", f="json")).json()
    text = (await ask(client, "/datasets/whole/timeseries", **PLACE, variables="c,o", f="csv")).text
    rows = list(
        csv.DictReader(
            io.StringIO("".join(line for line in text.splitlines(True) if not line.startswith("#")))
        )
    )
    assert len(rows) == 12
    for name in ("c", "o"):
        series = expected[name][:, 5, 9]
        found = json["variables"][name]["values"]
        np.testing.assert_array_equal(np.array(found, float), series)
        np.testing.assert_array_equal([float(row[name] or "nan") for row in rows], series)
    assert np.isnan(expected["c"][3:, 5, 9]).all()
    assert np.isnan(expected["o"][3:, 5, 9]).sum() == 1


async def test_a_part_of_a_series_and_many_points(client, expected):
    one = await ask(
        client, "/datasets/whole/timeseries", **PLACE, variables="o", datetime="2020-05-24", f="json"
    )
    assert one.json()["variables"]["o"]["values"] == [expected["o"][-1, 5, 9]]
    body = "x,y\n" + "\n".join(
        f"{500_015 + 30 * ix},{3_900_000 - 30 * iy}" for iy, ix in ((5, 9), (0, 0), (20, 25))
    )
    many = await client.post(
        "/datasets/whole/timeseries", params={"variables": "o", "f": "netcdf"}, content=body,
        headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    assert many.status_code == 200, many.text
    with xr.open_dataset(io.BytesIO(many.content), engine="h5netcdf") as found:
        np.testing.assert_array_equal(found.o.values, expected["o"][:, [5, 0, 20], [9, 0, 25]].T)


async def test_a_box_as_netcdf(client, expected, truth):
    bounds = f"{500_015 + 30 * 4},{3_900_000 - 30 * 11},{500_015 + 30 * 20},{3_900_000 - 30 * 3}"
    answer = await ask(
        client, "/datasets/whole/subset",
        **{"bbox": bounds, "bbox-crs": "native", "variables": "c", "datetime": "2020-03-01/2020-04-30", "f": "netcdf"},
    )  # fmt: skip
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
        inside = np.isin(truth.times, found.time.values)
        assert inside.sum() == 6
        np.testing.assert_array_equal(found.c.values, expected["c"][inside][:, 3:12, 4:21])
        assert found.c.attrs["units"] == "meters"
        assert found.c.attrs["grid_mapping"] == "spatial_ref" or "spatial_ref" in found.coords


async def test_a_mask_hides_a_value_and_not_what_was_built_on_it(client, expected):
    place = {"x": 500_015, "y": 3_900_000}
    asked = {"variables": "c", "mask": "quality", "f": "json"}
    found = (await ask(client, "/datasets/whole/timeseries", **place, **asked)).json()
    series = expected["c"][:, 0, 0].copy()
    series[3] = np.nan
    assert np.isfinite(series).sum() == 11
    np.testing.assert_array_equal(np.array(found["variables"]["c"]["values"], float), series)


async def test_a_price_counts_earlier_epochs_and_limits_hold(client):
    bounds = f"500000,{3_900_000 - 30 * 21},{500_000 + 30 * 26},3900015"
    asked = {"bbox": bounds, "bbox-crs": "native", "datetime": "2020-05-24"}
    stored = (await ask(client, "/datasets/whole/estimate", **asked, variables="displacement")).json()
    derived = (await ask(client, "/datasets/whole/estimate", **asked, variables="c")).json()
    assert (stored["chunks"], derived["chunks"]) == (12, 48)
    await ask(client, "/datasets/whole/subset", **asked, variables="c", f="netcdf")
    asked["datetime"] = "../2020-05-24"
    refused = await ask(client, "/datasets/whole/subset", status=413, **asked, variables="c", f="netcdf")
    assert "144 chunks" in refused.json()["detail"]


@pytest.mark.parametrize("tree", ["zarr", "zarr-plain"])
async def test_the_zarr_tree_is_that_of_the_bare_cube(client, tree):
    for key in (".zmetadata", "zarr.json", ".zgroup", ".zattrs"):
        mine, bare = [
            (await ask(client, f"/datasets/{name}/{tree}/{key}")).content for name in ("whole", "bare")
        ]
        assert mine == bare
    listing = (await ask(client, f"/datasets/whole/{tree}/")).text
    assert "displacement" in listing
    for key in ("c/.zarray", "c/zarr.json", "c/0.0.0", "c/c/0/0/0"):
        await ask(client, f"/datasets/whole/{tree}/{key}", status=404)


async def test_an_answer_is_another_after_the_configuration_is(client, tmp_path):
    tags = set()
    for name in ("whole", "bare"):
        answer = await ask(client, f"/datasets/{name}/timeseries", **PLACE, variables="displacement", f="csv")
        tags.add(answer.headers.get("etag", name))
    assert len(tags) == 2


async def test_a_wrong_one_is_the_operators_and_leaves_the_others(client, caplog):
    for path in ("timeseries", "zarr/.zmetadata"):
        refused = await client.get(f"/datasets/broken/{path}", params=PLACE)
        assert refused.status_code == 503
        assert refused.json()["title"] == "The dataset is not configured correctly"
    assert "broken.yaml: derived.c.variable: there is no variable 'gone'" in caplog.text
    await ask(client, "/datasets/whole/timeseries", **PLACE, variables="c", f="json")
