"""The grids of overviews have the edges of the cells that they are made of; what is read at once is bounded."""

import numpy as np
import pytest
import xarray as xr

from cubegate.errors import InvalidParameter
from cubegate.query.axis import Axis
from cubegate.query.variables import GridSettings
from cubegate.rechunk.overview_layout import coarse_centres, plan_pyramid, runs_in


def made(shape=(3, 700, 1001), chunks=(1, 256, 256), **coordinates):
    x = 500_015 + 30.0 * np.arange(shape[2])
    y = 4_000_000 - 30.0 * np.arange(shape[1])
    sides = {
        "y": ("y", y, {"standard_name": "projection_y_coordinate"}),
        "x": ("x", x, {"standard_name": "projection_x_coordinate"}),
    } | coordinates
    dataset = xr.Dataset(
        {"v": (("time", "y", "x"), np.broadcast_to(np.float32(1), shape), {"units": "m"})},
        {"time": np.datetime64("2020-01-01", "ns") + np.arange(shape[0]) * np.timedelta64(1, "D"), **sides},
    )
    dataset.v.encoding["preferred_chunks"] = dict(zip(("time", "y", "x"), chunks, strict=True))
    return dataset


def plan(dataset, levels=None, times=None):
    return plan_pyramid("v", dataset, GridSettings().find(dataset, "v"), times, levels)


@pytest.mark.parametrize("step", [30.0, -0.1])
@pytest.mark.parametrize("size", [64, 61, 17])
def test_centres_lie_in_the_middle_of_the_cells_together(step, size):
    values = 12.5 + step * np.arange(size)
    for level in (1, 2, 3):
        side = 2**level
        corner = values[0] - step / 2
        wanted = corner + step * side * (np.arange(-(-size // side)) + 0.5)
        np.testing.assert_allclose(coarse_centres(Axis("x", values), level), wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("positions", "chunk", "most", "wanted"),
    [
        (range(7), 1, 16, [(n, n + 1) for n in range(7)]),
        (range(7), 3, 16, [(0, 3), (3, 6), (6, 7)]),
        (range(7), 100, 4, [(0, 4), (4, 7)]),
        ([0, 2, 3, 50, 51], 10, 16, [(0, 3), (3, 5)]),
    ],
)
def test_what_is_read_together_lies_in_one_chunk(positions, chunk, most, wanted):
    found = runs_in(np.array(list(positions)), chunk, most)
    assert [(each.start, each.stop) for each in found] == wanted


def test_levels_go_on_until_the_grid_is_one_chunk():
    assert [plan(made((1, side, side))).levels for side in (200, 256, 257, 1024, 1025, 9462)] == [
        1, 1, 1, 2, 3, 6,
    ]  # fmt: skip
    assert plan(made((1, 1000, 4))).levels == 1
    assert plan(made(), 9).levels == 9
    assert plan(made((1, 40, 40)), 30).levels == 5


def test_shapes_chunks_and_shards():
    pyramid = plan(made(), 2)
    assert (pyramid.shape(1), pyramid.shape(2)) == ((3, 350, 501), (3, 175, 251))
    assert (pyramid.layout(1).chunks, pyramid.layout(1).write) == ((1, 256, 256), (1, 512, 512))
    assert pyramid.layout(2).chunks == pyramid.layout(2).write == (1, 175, 251)


def test_little_is_read_at_once_and_each_chunk_once_where_that_is_possible():
    assert [plan(made(chunks=(time, 256, 256))).side for time in (1, 2, 3)] == [2048, 1024, 1024]
    assert plan(made(chunks=(1, 3000, 3000))).side == 4096
    assert plan(made((40, 700, 1001), (40, 256, 256))).side == 512
    assert plan(made()).again == 1
    assert plan(made((40, 700, 1001), (40, 700, 1001))).again == 3 * 2 * 2


def test_rows_near_a_pole_are_smaller():
    degrees = {
        "y": ("y", np.linspace(90, -90, 181), {"units": "degrees_north"}),
        "x": ("x", np.arange(360.0), {"units": "degrees_east"}),
    }
    weights = plan(made((1, 181, 360), **degrees)).weights
    edges = np.clip(np.arange(90.5, -91, -1), -90, 90)
    np.testing.assert_allclose(weights, np.diff(-np.sin(np.radians(edges))))
    assert weights[0] < weights[1] < weights[90]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (made(x=("x", np.arange(1001.0) ** 2, {"axis": "X"})), "different sizes"),
        (made((1, 3, 900)), "fewer than 4 cells"),
    ],
)
def test_some_grids_have_none(dataset, said):
    with pytest.raises(InvalidParameter, match=said):
        plan(dataset)


def test_dates_are_some():
    pyramid = plan(made(), 1, np.array([0, 2]))
    assert pyramid.shape(1) == (2, 350, 501)
    assert pyramid.indexers((slice(1, 2),), slice(0, 9), slice(0, 5))["time"] == slice(2, 3)
    with pytest.raises(InvalidParameter, match="no date"):
        plan(made(), 1, np.array([], int))
