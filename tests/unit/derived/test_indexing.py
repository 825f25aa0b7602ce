"""Whatever way a derived variable is indexed, it gives what NumPy gives of its whole."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.derived.cubes import cut, days, projected

from cubegate.derived.array import positions_of, spread

SHAPE = (6, 9, 10)
DERIVED = """
  c: {kind: continuous, variable: displacement}
  r: {kind: continuous, variable: displacement, reference: {kind: point, lon: -116.9993, lat: 35.2415}}
  speed: {kind: speed, x: vx, y: vy}
  shear: {kind: strain, component: shear, x: vx, y: vy}
"""
NAMES = ("c", "r", "speed", "shear")


@pytest.fixture
async def dataset(open_cube):
    random = np.random.default_rng(5)
    order = np.array([3, 0, 5, 1, 4, 2])
    times, references = days(np.arange(1, 7) * 12), days(np.array([0, 0, 24, 24, 48, 48]))
    stored = cut(random.standard_normal(SHAPE), times, references)[order]
    dims = ("time", "y", "x")
    made = xr.Dataset(
        {
            "displacement": (dims, stored),
            "vx": (dims, random.standard_normal(SHAPE), {"units": "m/year"}),
            "vy": (dims, random.standard_normal(SHAPE), {"units": "m/year"}),
            "reference_time": ("time", references[order]),
        },
        {"time": times[order]},
    )
    cube = await open_cube(projected(made, ["displacement", "vx", "vy"]), f"\n{DERIVED}")
    return await cube.dataset()


def indexer(size):
    positions = st.integers(-size, size - 1)
    return st.one_of(
        positions,
        st.slices(size),
        st.lists(positions, max_size=5).map(lambda chosen: np.array(chosen, int)),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_outer_indexing(dataset, data):
    chosen = {dim: data.draw(indexer(size)) for dim, size in zip(("time", "y", "x"), SHAPE, strict=True)}
    again = data.draw(st.sampled_from([{}, {"time": slice(None, None, -1)}, {"y": slice(1, None)}]))
    for name in NAMES:
        whole = dataset[name].variable.copy(deep=False).load()
        lazy = dataset[name].variable.isel(chosen)
        expected = whole.isel(chosen)
        again = {dim: each for dim, each in again.items() if dim in expected.dims}
        np.testing.assert_array_equal(lazy.isel(again).values, expected.isel(again).values)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_vectorized_indexing(dataset, data):
    shape = data.draw(st.sampled_from([(1,), (4,), (2, 3)]))
    names = ("p", "q")[: len(shape)]
    along = data.draw(st.sets(st.sampled_from(("time", "y", "x")), min_size=2))
    chosen = {
        dim: xr.Variable(
            names,
            np.array(
                data.draw(
                    st.lists(
                        st.integers(-size, size - 1), min_size=math.prod(shape), max_size=math.prod(shape)
                    )
                )
            ).reshape(shape),
        )
        if dim in along
        else data.draw(st.one_of(st.integers(0, size - 1), st.slices(size)))
        for dim, size in zip(("time", "y", "x"), SHAPE, strict=True)
    }
    for name in NAMES:
        whole = dataset[name].variable.copy(deep=False).load()
        lazy = dataset[name].variable.isel(chosen)
        expected = whole.isel(chosen)
        assert lazy.dims == expected.dims
        np.testing.assert_array_equal(lazy.values, expected.values)
        np.testing.assert_array_equal(lazy.transpose(*lazy.dims[::-1]).values, expected.values.T)


def test_positions_from_the_end_and_slices_are_spread_as_numpy_does():
    values = np.arange(60).reshape(3, 4, 5)
    points = np.array([[-1, 0], [2, -3]])
    along = spread((points, slice(None, None, -2), points), values.shape)
    np.testing.assert_array_equal(values[tuple(along)], values[points, ::-2, points])
    assert all(each.min() >= 0 for each in along)
    assert positions_of(-1, 5).tolist() == [4]
    assert positions_of(np.array([-5, 1]), 5).tolist() == [0, 1]
