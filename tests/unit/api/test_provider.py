"""Any other xpublish plugin reads the same cubes, and leaves no trace in them."""

import netCDF4
import numpy as np
import pytest


def test_the_ids_are_those_of_the_catalog(server):
    assert server.http.get("/datasets").json() == ["lost", "stack"]


@pytest.mark.parametrize("name", ["displacement", "coherence", "x", "y"])
def test_another_plugin_reads_the_values_of_the_granules(server, name):
    read = np.array(server.http.get("/datasets/stack/values", params={"name": name}).json())
    expected = []
    for number in range(3):
        with netCDF4.Dataset(server.root / "stack" / f"granule{number}.nc") as file:
            file.set_auto_mask(False)
            expected.append(file[name][:])
    expected = expected[0] if name in "xy" else np.concatenate(expected)
    np.testing.assert_array_equal(read, expected.astype(float))


def test_a_version_is_a_dataset_too(server):
    version = server.app.state.services.catalog._cubes["stack"].cube.version
    assert server.http.get(f"/datasets/stack@{version}/values", params={"name": "x"}).status_code == 200
    assert server.http.get("/datasets/stack@0/values", params={"name": "x"}).status_code == 404


def test_the_id_that_xpublish_writes_reaches_no_other_answer(server):
    assert server.http.get("/datasets/stack/attributes").json()["_xpublish_id"] == "stack"
    for path in ("zarr/zarr.json", "zarr/.zmetadata", "zarr/.zattrs", "zarr-plain/zarr.json", "attributes"):
        response = server.http.get(f"/datasets/stack/{path}")
        assert response.status_code == 200
        assert ("_xpublish_id" in response.text) == (path == "attributes")
    subset = server.http.get("/datasets/stack/subset?f=netcdf")
    assert b"_xpublish_id" not in subset.content


def test_an_unknown_dataset_is_a_404_of_xpublish(server):
    response = server.http.get("/datasets/none/values", params={"name": "x"})
    assert response.status_code == 404
    assert "'none'" in response.json()["detail"]
