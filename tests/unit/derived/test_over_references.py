"""Derived variables over byte ranges of a granule, cold, and again from what the caches hold."""

import json

import numpy as np
import pytest
from tests.unit.derived.cubes import by_hand, stack

from cubegate.app import open_catalog
from cubegate.settings import load_settings

DERIVED = """
derived:
  c: {kind: continuous, variable: displacement}
  double: {kind: speed, x: displacement, y: displacement}
  effective: {kind: strain, component: effective, x: displacement, y: displacement, units: m/year}
"""


@pytest.fixture
async def cube(tmp_path, scan_granule, truth, write_configuration):
    dataset = stack(truth.stored.astype("f4"), truth.times, truth.references)
    del dataset.displacement.attrs["units"]
    encoding = {"displacement": {"chunksizes": (1, 8, 8), "zlib": True, "shuffle": True}}
    dataset.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf", encoding=encoding)
    (tmp_path / "cube.json").write_text(json.dumps(scan_granule(tmp_path / "cube.nc")), "utf-8")
    file = write_configuration(tmp_path, cube=f"source: {{kind: kerchunk, href: ../cube.json}}\n{DERIVED}")
    catalog, upstreams, bridge, cache = open_catalog(load_settings(file, {}), {})
    yield await catalog.get("cube")
    bridge.close()
    await cache.aclose()
    await upstreams.aclose()


async def test_points_of_a_cold_and_a_warm_cache_are_those_of_the_box(cube, asking, truth, compared):
    names = ["c", "double", "effective"]
    expected = by_hand(truth.stored.astype("f4"), truth.times, truth.references).astype("f4")
    place = 9, 7  # at the edge of a chunk
    cold = await asking.series(cube, *place, names)
    part = await asking.series(cube, *place, names, "2020-05-24")
    near = await asking.series(cube, 10, 7, names)
    warm = await asking.series(cube, *place, names)
    points = await asking.series(cube, np.array([9, 10]), np.array([7, 7]), names)
    box = await asking.box(cube, names)
    np.testing.assert_array_equal(box.c.values, expected)
    np.testing.assert_array_equal(box.double.values, np.hypot(*[truth.stored.astype("f4")] * 2))
    assert np.isfinite(box.effective.values[:, 1:-1, 1:-1]).all()
    for name in names:
        series = box[name].values[:, 9, 7]
        np.testing.assert_array_equal(cold[name].values, series)
        np.testing.assert_array_equal(warm[name].values, series)
        np.testing.assert_array_equal(part[name].values, series[-1:])
        np.testing.assert_array_equal(near[name].values, box[name].values[:, 10, 7])
        np.testing.assert_array_equal(points[name].values, box[name].values[:, 9:11, 7].T)
        compared(points[name].values)
