from __future__ import annotations

import itertools

import numpy as np
import pytest

from cubegate.errors import CorruptIndex
from cubegate.index.table import ChunkTable, Column, Rows, TextTable, find_pencil_axis, table_in_c_order
from cubegate.index.zarr_v2 import parse_array_v2


def array(shape, chunks, names=None):
    document = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "<f4", "fill_value": None}
    return parse_array_v2("v", document, {"_ARRAY_DIMENSIONS": names} if names else {})


def numbered_table(metadata):
    count = metadata.chunk_count
    numbers = np.arange(count)
    return table_in_c_order(metadata, Rows(numbers, numbers * 1000, numbers + 7))


@pytest.mark.parametrize(
    ("shape", "chunks", "names", "pencil_axis"),
    [
        ([5, 7, 9], [1, 2, 4], ["time", "y", "x"], 0),
        ([5, 7, 9], [2, 2, 4], ["y", "x", "mid_date"], 2),
        ([5, 7, 9, 3], [1, 4, 4, 2], ["level", "Valid_Time", "y", "x"], 1),
        ([5, 7], [2, 3], None, 0),
        ([11], [2], ["x"], 0),
        ([], [], None, 0),
    ],
)
def test_look_up_agrees_with_c_order(shape, chunks, names, pencil_axis):
    metadata = array(shape, chunks, names)
    table = numbered_table(metadata)
    assert table.pencil_axis == find_pencil_axis(metadata) == pencil_axis
    every = np.array(list(itertools.product(*map(range, metadata.chunk_grid))), dtype=np.int64).reshape(
        metadata.chunk_count, len(shape)
    )
    expected = np.array(
        [np.ravel_multi_index(tuple(chunk), metadata.chunk_grid) if shape else 0 for chunk in every]
    )
    order = np.random.default_rng(0).permutation(len(every))
    rows = table.look_up(every[order])
    np.testing.assert_array_equal(rows.granule, expected[order])
    np.testing.assert_array_equal(rows.offset, expected[order] * 1000)
    np.testing.assert_array_equal(rows.length, expected[order] + 7)
    ones = [table.look_up_one(tuple(chunk)) for chunk in every.tolist()]
    assert ones == [(number, number * 1000, number + 7, None) for number in expected.tolist()]


def test_the_chunks_of_a_pencil_are_adjacent():
    metadata = array([6, 7, 9], [2, 2, 4], ["y", "time", "x"])
    table = numbered_table(metadata)
    pencil = table.look_up(np.array([(1, time, 2) for time in range(4)])).granule
    everything = table.all().granule.tolist()
    start = everything.index(pencil[0])
    assert everything[start : start + 4] == pencil.tolist()


@pytest.mark.parametrize("chunk", [(0, 0, 3), (0, -1, 0), (3, 0, 0), (0, 0)])
def test_chunks_outside_the_grid_are_programming_errors(chunk):
    table = numbered_table(array([6, 6, 9], [2, 2, 3], ["time", "y", "x"]))
    with pytest.raises(IndexError):
        table.look_up(np.array([chunk]))
    with pytest.raises(IndexError):
        table.look_up_one(chunk)


def test_an_array_of_no_size_has_an_empty_table():
    metadata = array([0, 4], [1, 4], ["time", "x"])
    assert len(numbered_table(metadata).all().granule) == 0


def test_a_table_of_another_size_is_refused():
    short = Column(np.zeros(3))
    with pytest.raises(CorruptIndex, match="4 chunks"):
        ChunkTable((2, 2), 0, short, short, short)


def test_urls_are_a_sequence():
    urls = [f"s3://bucket/{number}/\N{SNOWMAN}" for number in range(20)]
    table = TextTable.of(urls)
    assert list(table) == urls
    assert [table[0], table[0]] == [urls[0]] * 2
    assert table[-1] == urls[-1]
    assert table[3:7] == urls[3:7]
    assert table.take(np.array([7, 0, 7])) == [urls[7], urls[0], urls[7]]
    with pytest.raises(IndexError):
        table[20]
    assert list(TextTable.of([])) == []


def test_urls_beyond_the_memory_bound_are_decoded_anew(monkeypatch):
    monkeypatch.setattr("cubegate.index.table._MAX_DECODED", 4)
    urls = [f"s3://bucket/{number}" for number in range(9)]
    table = TextTable.of(urls)
    for first in range(6):
        assert table[first : first + 3] == urls[first : first + 3]
    assert table[0:9] == urls


@pytest.mark.parametrize(("shape", "names"), [((5, 3, 4), "tyx"), ((3, 5, 4), "ytx"), ((3, 4, 5), "yxt")])
def test_rows_name_the_chunks_that_look_up_finds(shape, names):
    document = {"zarr_format": 2, "shape": shape, "chunks": (1, 1, 1), "dtype": "<i4", "fill_value": 0,
                "order": "C", "filters": None, "compressor": None}  # fmt: skip
    array = parse_array_v2("v", document, {"_ARRAY_DIMENSIONS": list(names)})
    numbers = np.arange(60)
    table = table_in_c_order(array, Rows(numbers, numbers, numbers))
    chunks = table.chunks_of(np.arange(60))
    assert table.look_up(chunks).granule.tolist() == table.all().granule.tolist()
    assert len(np.unique(chunks, axis=0)) == 60
