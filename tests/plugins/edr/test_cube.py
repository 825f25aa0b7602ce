"""Cube queries: boxes with heights, across the antimeridian and in another CRS."""

import io

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


BOX = "-118.096,35.2245,-118.0885,35.234"


def test_a_cube_is_the_cells_in_the_box(edr, decoded, is_covjson):
    cube = decoded["utm"]
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(*np.meshgrid(cube.x, cube.y))
    west, south, east, north = map(float, BOX.split(","))
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    found = edr(
        "/collections/utm/cube", bbox=BOX, parameter_name="displacement", datetime="2020-02-03"
    ).json()
    is_covjson(found)
    axes = found["domain"]["axes"]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert set(cube.x.to_numpy()[columns]) <= set(axes["x"]["values"])
    assert set(cube.y.to_numpy()[rows]) <= set(axes["y"]["values"])
    expected = cube.displacement.sel(time="2020-02-03", x=axes["x"]["values"], y=axes["y"]["values"])
    values = [np.nan if cell is None else cell for cell in found["ranges"]["displacement"]["values"]]
    np.testing.assert_array_equal(np.array(values, "f4").reshape(expected.shape), expected)


def test_a_cube_with_heights_and_over_the_antimeridian(edr, decoded):
    cube = decoded["globe"].t.sel(level=850).isel(member=0)
    for asked in (
        {"bbox": "168,-10,-168,10", "z": "850"},
        {"bbox": "168,-10,800,-168,10,900"},
        {"bbox": "168,-10,192,10", "z": "800/900"},
    ):
        found = edr("/collections/globe/cube", **asked, member="0").json()
        assert found["domain"]["axes"]["x"]["values"] == [170, 175, 180, 185, 190]
        expected = cube.sel(lon=[170, 175, 180, 185, 190], lat=slice(10, -10))
        np.testing.assert_array_equal(
            np.float32(found["ranges"]["t"]["values"]), expected.to_numpy().reshape(-1)
        )
    flat = edr(
        "/collections/utm/cube",
        bbox="-118.096,35.2245,0,-118.0885,35.234,100",
        datetime="2020-02-03",
        z="5",
        parameter_name="displacement",
    ).json()
    assert flat["ranges"]["displacement"]["values"]


def test_a_cube_in_another_crs_is_reprojected_as_a_subset_is(edr, server):
    asked = {"datetime": "2020-01-03", "f": "geotiff"}
    found = edr(
        "/collections/utm/cube", bbox=BOX, crs="OGC:CRS84", parameter_name="displacement", **asked
    ).content
    subset = server.client.get(
        "utm/subset", params={"bbox": BOX, "crs": "OGC:CRS84", "variables": "displacement", **asked}
    )
    with rasterio.open(io.BytesIO(found)) as one, rasterio.open(io.BytesIO(subset.content)) as other:
        assert one.transform == other.transform
        assert one.crs.is_geographic
        np.testing.assert_array_equal(one.read(), other.read())
