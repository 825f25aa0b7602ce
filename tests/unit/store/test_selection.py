"""Selections planned by chunk equal the same selections by NumPy."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubegate.store.selection import OuterSelection, PointSelection


@st.composite
def outer_cases(draw):
    ndim = draw(st.integers(1, 3))
    shape = [draw(st.integers(1, 9)) for _ in range(ndim)]
    chunks = [draw(st.integers(1, 5)) for _ in range(ndim)]
    indexers = []
    for size in shape:
        kind = draw(st.sampled_from(["int", "slice", "array"]))
        if kind == "int":
            indexers.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            indexers.append(draw(st.slices(size)))
        else:
            positions = draw(st.lists(st.integers(-size, size - 1), max_size=6))
            indexers.append(np.array(positions, dtype=int))
    return shape, chunks, indexers


def read_by_chunk(values, chunks, selection, result):
    padded_shape = [-(-size // chunk) * chunk for size, chunk in zip(values.shape, chunks, strict=True)]
    padded = np.full(padded_shape, -1)
    padded[tuple(slice(size) for size in values.shape)] = values
    touched = []
    for part in selection.parts():
        start = [number * chunk for number, chunk in zip(part.chunk, chunks, strict=True)]
        block = padded[tuple(slice(s, s + c) for s, c in zip(start, chunks, strict=True))]
        result[part.outside] = block[part.inside]
        touched.append(part.chunk)
    assert len(touched) == len(set(touched)) == selection.chunk_count
    assert sorted(map(tuple, selection.chunks().tolist())) == sorted(touched)


@given(outer_cases())
def test_an_outer_selection_equals_numpy(case):
    shape, chunks, indexers = case
    values = np.arange(np.prod(shape)).reshape(shape)
    selection = OuterSelection(shape, chunks, indexers)
    result = np.full(selection.shape, -2)
    read_by_chunk(values, chunks, selection, result)
    expected = values
    for axis, indexer in enumerate(indexers):
        keep = [indexer] if isinstance(indexer, int) else indexer
        expected = expected[(slice(None),) * axis + (keep,)]
    np.testing.assert_array_equal(result, expected)
    squeezed = result[selection.squeeze]
    assert squeezed.ndim == sum(not isinstance(indexer, int) for indexer in indexers)


@given(st.data())
def test_points_equal_numpy(data):
    shape = [data.draw(st.integers(1, 9)) for _ in range(3)]
    chunks = [data.draw(st.integers(1, 5)) for _ in range(3)]
    count = data.draw(st.integers(0, 12))
    points = [
        np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count)), dtype=int)
        for size in shape
    ]
    values = np.arange(np.prod(shape)).reshape(shape)
    selection = PointSelection(shape, chunks, points)
    result = np.full(count, -2)
    read_by_chunk(values, chunks, selection, result)
    np.testing.assert_array_equal(result, values[tuple(points)])


def test_points_broadcast_against_each_other():
    values = np.arange(24).reshape(4, 6)
    selection = PointSelection((4, 6), (3, 4), [np.array([[0], [3]]), np.array([[1, 5]])])
    result = np.empty(selection.flat_shape, int)
    read_by_chunk(values, (3, 4), selection, result)
    np.testing.assert_array_equal(result.reshape(selection.shape), values[[[0], [3]], [[1, 5]]])


def test_a_zero_dimensional_array_is_one_chunk():
    selection = OuterSelection((), (), ())
    assert selection.chunk_count == 1
    assert selection.chunks().shape == (1, 0)
    assert [part.chunk for part in selection.parts()] == [()]


@pytest.mark.parametrize("indexer", [slice(5, 5), np.array([], int)])
def test_an_empty_selection_touches_no_chunk(indexer):
    selection = OuterSelection((10, 10), (4, 4), (indexer, slice(None)))
    assert selection.chunk_count == 0
    assert list(selection.parts()) == []


@given(st.data())
def test_points_beside_slices_equal_numpy(data):
    shape = [data.draw(st.integers(1, 7)) for _ in range(4)]
    chunks = [data.draw(st.integers(1, 4)) for _ in range(4)]
    sliced = data.draw(st.sets(st.integers(0, 3), min_size=1, max_size=3))
    count = data.draw(st.integers(0, 5))
    indexers = [
        data.draw(st.slices(size))
        if axis in sliced
        else np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count)), int)
        for axis, size in enumerate(shape)
    ]
    values = np.arange(np.prod(shape)).reshape(shape)
    selection = PointSelection(shape, chunks, indexers)
    result = np.full(selection.flat_shape, -2)
    read_by_chunk(values, chunks, selection, result)
    expected = xr.DataArray(values, dims=list("abcd")).isel(
        {
            name: indexer if isinstance(indexer, slice) else xr.DataArray(indexer, dims="point")
            for name, indexer in zip("abcd", indexers, strict=True)
        }
    )
    np.testing.assert_array_equal(result, expected.transpose("point", ...))
