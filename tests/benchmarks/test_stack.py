"""The stack is what it says: its values, its chunks, and the references over them."""

import json
import zlib

import numpy as np
import pytest
import xarray as xr

from .queries import VARIABLE, Box, Point
from .stack import CHUNK, LEFT, PIXEL, TOP, VARIABLES, build_stack, layer, write_json, write_parquet


def test_h5py_reads_the_values_that_were_written(stack):
    for name in VARIABLES:
        everything = stack.read(name, slice(None), slice(None), slice(None))
        assert everything.shape == (3, 300, 600)
        for date in range(3):
            np.testing.assert_array_equal(everything[date], layer(name, date, stack.size))


def test_a_chunk_is_the_place_and_date_that_it_should_be(stack):
    seen = set()
    for number, name in enumerate(VARIABLES):
        for date, row, column in np.ndindex(3, 2, 3):
            stored = stack.chunk_bytes(name, date, row, column)
            assert len(stored) == stack.locations.lengths[number, date, row, column]
            planes = np.frombuffer(zlib.decompress(stored), np.uint8).reshape(4, -1)
            values = planes.T.copy().view("<f4").reshape(CHUNK, CHUNK)
            height, width = min(CHUNK, 300 - CHUNK * row), min(CHUNK, 600 - CHUNK * column)
            expected = layer(name, date, stack.size)[CHUNK * row :, CHUNK * column :][:height, :width]
            np.testing.assert_array_equal(values[:height, :width], expected)
            seen.add(stored)
    assert len(seen) == 3 * 3 * 2 * 3


def test_chunks_are_as_large_as_those_of_the_archive(stack):
    full = stack.locations.lengths[:, :, 0, :2]
    assert 70_000 < full.mean() < 86_000


def test_the_stack_is_made_once(stack):
    before = [path.stat().st_mtime_ns for path in stack.granules]
    assert len(build_stack(stack.directory, stack.size).granules) == 3
    assert [path.stat().st_mtime_ns for path in stack.granules] == before


@pytest.mark.parametrize("write", [write_json, write_parquet])
def test_the_references_name_every_chunk(stack, tmp_path, write):
    references = stack.references("http://127.0.0.1:1/granules/")["refs"]
    chunks = {
        key: part for key, part in references.items() if key.startswith(f"{VARIABLE}/") and ".z" not in key
    }
    assert len(chunks) == 3 * 2 * 3
    for key, (url, offset, length) in chunks.items():
        date, row, column = map(int, key.partition("/")[2].split("."))
        assert url == f"http://127.0.0.1:1/granules/{stack.granules[date].name}"
        content = stack.granules[date].read_bytes()[offset : offset + length]
        assert content == stack.chunk_bytes(VARIABLE, date, row, column)
    write(tmp_path / "references", stack.references("http://127.0.0.1:1/granules"))
    assert (tmp_path / "references").exists()


def test_xarray_opens_the_references(stack, tmp_path):
    references = stack.references(stack.granules[0].parent.as_uri())
    (tmp_path / "stack.json").write_text(json.dumps(references), "utf-8")
    options = {"storage_options": {"remote_protocol": "file"}, "open_dataset_options": {"chunks": None}}
    with xr.open_dataset(str(tmp_path / "stack.json"), engine="kerchunk", **options) as dataset:
        np.testing.assert_array_equal(dataset.x[:2], [LEFT + PIXEL / 2, LEFT + 1.5 * PIXEL])
        assert dataset.time.size == 3
        series = dataset[VARIABLE].isel(y=299, x=599).values
    np.testing.assert_array_equal(series, stack.read(VARIABLE, slice(None), 299, 599))


def test_a_pixel_and_a_box_have_their_place_in_the_crs():
    assert Point(0, 0).xy == (LEFT + 15, TOP - 15)
    assert Point(2, 1).xy == (LEFT + 45, TOP - 75)
    assert Box((1, 3), (2, 5)).bounds == (LEFT + 60, TOP - 90, LEFT + 150, TOP - 30)
