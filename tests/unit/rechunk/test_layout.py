"""Chunks for series and for maps, and the blocks in which they are copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.index.metadata import ArrayMetadata, CodecsV2
from cubegate.rechunk.layout import lay_out, regions


def array(shape, chunks, dims=("time", "y", "x"), dtype="f4"):
    return ArrayMetadata("v", shape, chunks, np.dtype(dtype), dims, {}, None, None, CodecsV2(), {})


def test_series_have_all_times_of_a_window():
    layout = lay_out(array((209, 7721, 9462), (1, 256, 256)), "series", "time")
    assert layout.chunks == (209, 32, 32)
    # a shard is a column of chunks of the source, each of which is read once
    assert (layout.write, layout.between) == ((209, 256, 256), None)


def test_maps_have_one_time_of_a_large_window():
    layout = lay_out(array((209, 7721, 9462), (1, 256, 256)), "maps", "time")
    assert layout.chunks == (1, 512, 512)
    assert layout.between is None


def test_transposed_chunks_take_a_store_between():
    layout = lay_out(array((80832, 833, 833), (40000, 20, 20)), "maps", "time")
    assert layout.between is not None
    assert layout.read[0] >= 20_000


def test_named_chunks_are_taken_and_others_kept():
    layout = lay_out(array((209, 1000, 1000), (1, 256, 256)), {"time": 50, "y": 5000}, "time")
    assert layout.chunks == (50, 1000, 256)


@pytest.mark.parametrize("purpose", ["series", "maps"])
@pytest.mark.parametrize("dims", [("y", "x"), ("time",), (), ("time", "level", "y", "x")])
def test_other_shapes_have_chunks_inside(purpose, dims):
    sizes = {"time": 7, "level": 3, "y": 30, "x": 40}
    shape = tuple(sizes[dim] for dim in dims)
    layout = lay_out(array(shape, tuple(max(1, size // 2) for size in shape), dims), purpose, "time")
    assert all(0 < chunk <= size for chunk, size in zip(layout.chunks, shape, strict=True))


SIZES = st.integers(1, 60)


@given(data=st.data(), purpose=st.sampled_from(["series", "maps"]))
def test_blocks_are_whole_chunks_and_cover_all(data, purpose):
    shape = data.draw(st.tuples(SIZES, SIZES, SIZES))
    chunks = data.draw(st.tuples(SIZES, SIZES, SIZES))
    layout = lay_out(array(shape, chunks), purpose, "time", chunk_nbytes=256, block_nbytes=4096)
    # writers that share a chunk would undo each other's work
    cuts = [(layout.write, layout.chunks)] + (
        [] if layout.between is None else [(layout.read, layout.between)]
    )
    for block, chunk in cuts:
        assert all(whole % part == 0 for whole, part in zip(block, chunk, strict=True))
    for block in (layout.write, layout.read):
        seen = np.zeros(shape, int)
        for region in regions(shape, block):
            seen[region] += 1
        assert (seen == 1).all()
