"""Large cells are made of small ones as numpy would, cell by cell."""

import numpy as np
import pytest

from cubegate.rechunk.coarsening import choose_resampling, coarse_type, coarsen


def blocks(values, side):
    """Yield row, column and what there is of each block."""
    for row in range(-(-values.shape[0] // side)):
        for column in range(-(-values.shape[1] // side)):
            yield (
                row,
                column,
                values[row * side : (row + 1) * side, column * side : (column + 1) * side],
                slice(row * side, (row + 1) * side),
            )


def mean_of(block, weights):
    weights = np.broadcast_to(weights[: len(block), None], block.shape)
    known = np.isfinite(block)
    if weights[known].sum() < 0.5 * weights.sum() * (1 - 1e-9):
        return np.nan
    return np.average(block[known].astype("f8"), weights=weights[known])


def mode_of(block):
    values, counts = np.unique(block[np.isfinite(block)], return_counts=True)
    return np.nan if 2 * counts.sum() < block.size else values[counts.argmax()]


@pytest.fixture
def holes():
    rng = np.random.default_rng(4)
    values = rng.normal(100, 5, (37, 50)).astype("f4")
    values[rng.random(values.shape) < 0.45] = np.nan
    values[:11, :9] = np.nan
    values[20, 20] = np.inf
    return values


@pytest.mark.parametrize("weighted", [False, True])
def test_means_are_of_the_known_cells_at_every_level(holes, weighted, compared):
    weights = np.cos(np.radians(np.linspace(80, 89, len(holes)))) if weighted else np.ones(len(holes))
    made = coarsen(holes, 5, "mean", weights)
    assert [each.dtype for each in made] == [np.dtype("f4")] * 5
    for level, coarse in enumerate(made, start=1):
        assert coarse.shape == tuple(-(-size // 2**level) for size in holes.shape)
        wanted = np.full(coarse.shape, np.nan)
        for row, column, block, rows in blocks(holes, 2**level):
            wanted[row, column] = mean_of(block, weights[rows])
        np.testing.assert_allclose(coarse, wanted, rtol=1e-6)
        compared(coarse)


def test_half_of_a_cell_is_enough_and_less_is_not():
    nan = np.nan
    values = np.array([[1.0, nan, 1.0, nan, 7.0], [3.0, nan, nan, nan, nan], [nan, nan, 5.0, 6.0, 8.0]])
    np.testing.assert_array_equal(
        coarsen(values, 1, "mean", np.ones(3))[0], [[2.0, nan, 7.0], [nan, 5.5, 8.0]]
    )


def test_integers_have_a_mean_that_is_no_integer():
    values = np.array([[1, 2], [2, 2]], "i2")
    found = coarsen(values, 1, "mean", np.ones(2))[0]
    assert (found.dtype, found.tolist()) == (coarse_type(values.dtype, "mean"), [[1.75]])
    assert coarse_type(np.dtype("i4"), "mean") == np.dtype("f8")
    assert coarse_type(np.dtype("u1"), "mode") == np.dtype("u1")


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1", "?"])
def test_classes_keep_the_most_frequent_and_the_lowest_of_several(dtype, compared):
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2 if dtype == "?" else 4, (33, 45)).astype(dtype)
    if dtype == "f4":
        values[rng.random(values.shape) < 0.5] = np.nan
    for level, coarse in enumerate(coarsen(values, 4, "mode", np.ones(33)), start=1):
        assert coarse.dtype == values.dtype
        for row, column, block, _ in blocks(values, 2**level):
            np.testing.assert_equal(coarse[row, column], mode_of(block))
        compared(coarse)


def test_what_goes_around_keeps_the_cell_at_the_middle(compared):
    values = np.arange(13 * 10.0).reshape(13, 10)
    for level, coarse in enumerate(coarsen(values, 3, "nearest", np.ones(13)), start=1):
        side = 2**level
        for row, column, _, _ in blocks(values, side):
            middle = min(row * side + side // 2, 12), min(column * side + side // 2, 9)
            assert coarse[row, column] == values[middle]
        compared(coarse)


@pytest.mark.parametrize(
    ("name", "attributes", "stored", "wanted"),
    [
        ("displacement", {"units": "m"}, "f4", "mean"),
        ("v", {"units": "m/y"}, "i2", "mean"),
        ("coherence", {"units": "1"}, "f4", "mean"),
        ("t2m", {"units": "degrees_Celsius"}, "f4", "mean"),
        ("t2m", {"units": "degree_C"}, "f4", "mean"),
        ("turning", {"units": "degrees/day"}, "f4", "mean"),
        ("unw", {"units": "radians", "long_name": "Unwrapped phase"}, "f4", "mean"),
        (
            "moved",
            {"units": "m", "long_name": "Displacement in the direction of the satellite"},
            "f4",
            "mean",
        ),
        ("mask", {}, "u1", "mode"),
        ("labels", {"units": "1"}, "i4", "mode"),
        ("quality", {"flag_values": [0, 1], "units": "m"}, "f4", "mode"),
        ("bits", {"flag_masks": [1, 2]}, "u1", "mode"),
        ("phase", {"units": "radians"}, "f4", "nearest"),
        ("slope_to", {"units": "degrees"}, "f4", "nearest"),
        ("longitude", {"units": "degrees_east"}, "f8", "nearest"),
        ("flow_direction", {}, "f4", "nearest"),
        ("wrapped", {"long_name": "wrapped interferogram"}, "f4", "nearest"),
    ],
)
def test_the_metadata_decide_how(name, attributes, stored, wanted):
    assert choose_resampling(name, attributes, np.dtype(stored)) == wanted
