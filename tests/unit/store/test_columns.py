"""Columns that were kept equal the array they came from, however it is cut into chunks."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamUnavailable
from cubegate.index.location import Stored
from cubegate.index.metadata import Hierarchy, with_parents
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.store import columns
from cubegate.store.columns import ColumnCache, column_layout
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray


class Chunks:
    """An uncompressed array in memory, as a source of its chunks that counts the reads."""

    def __init__(self, values, chunks, dims):
        self.values, self.chunks = values, chunks
        self.reads = 0
        self.lost = set()
        document = {
            "zarr_format": 2, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str,
            "compressor": None, "filters": None, "fill_value": None, "order": "C",
        }  # fmt: skip
        self.array = parse_array_v2("v", document, {"_ARRAY_DIMENSIONS": dims})

    def locate(self, array, chunks):
        return [Stored(ChunkReference("mem://x/" + ".".join(map(str, chunk)))) for chunk in chunks]

    async def get(self, reference):
        self.reads += 1
        chunk = tuple(map(int, reference.url.rpartition("/")[2].split(".")))
        if chunk in self.lost:
            raise UpstreamUnavailable("lost")
        block = np.zeros(self.chunks, self.values.dtype)
        part = self.values[tuple(slice(n * c, n * c + c) for n, c in zip(chunk, self.chunks, strict=True))]
        block[tuple(map(slice, part.shape))] = part
        return block.tobytes()

    def store(self, cache):
        hierarchy = Hierarchy(with_parents({}, {"v": self.array}), {"v": self.array})
        return EncodedStore(hierarchy, self, Coalesced(self), version="1", columns=ColumnCache(cache, "1"))


@st.composite
def cubes(draw):
    ndim = draw(st.integers(2, 4))
    shape = tuple(draw(st.integers(2, 40)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, size + 3)) for size in shape)
    dims = draw(st.permutations(["time", "y", "x", "level"][:ndim]))
    return shape, chunks, dims, draw(st.sampled_from(["<f4", ">i2", "u1"]))


@st.composite
def selections(draw, shape, dims):
    indexers = []
    for size, name in zip(shape, dims, strict=True):
        if name == "time":
            indexers.append(draw(st.sampled_from([slice(None), slice(None, None, -1), slice(1, None, 2), 0])))
        else:
            start = draw(st.integers(0, size - 1))
            several = slice(start, start + draw(st.integers(1, 4)))
            indexers.append(draw(st.sampled_from([start, start - size, several, np.array([start, 0])])))
    return indexers


def expected_of(values, indexers):
    for axis in reversed(range(values.ndim)):
        values = values[(slice(None),) * axis + (indexers[axis],)]
    return values


@given(st.data())
def test_columns_equal_the_array(data):
    shape, chunks, dims, dtype = data.draw(cubes())
    values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    source = Chunks(values, chunks, dims)
    array = EncodedArray(source.store(MemoryCache(10**8)), source.array)
    wanted = [data.draw(selections(shape, dims)) for _ in range(6)]

    async def check():
        for indexers in wanted:
            np.testing.assert_array_equal(await array.read(indexers), expected_of(values, indexers))
        await asyncio.gather(*array._store.columns._writes)
        for indexers in wanted:
            np.testing.assert_array_equal(await array.read(indexers), expected_of(values, indexers))

    asyncio.run(check())


@given(st.data())
def test_columns_at_points_equal_the_array(data):
    shape, chunks, dims, dtype = data.draw(cubes())
    values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    source = Chunks(values, chunks, dims)
    array = EncodedArray(source.store(MemoryCache(10**8)), source.array)
    count = data.draw(st.integers(1, 9))
    along = data.draw(st.sampled_from([{"y", "x"}, {"x"}, {"y"}, {"time", "x"}]))
    if not along & set(dims):
        along = {"y"}
    indexers = [
        np.array([data.draw(st.integers(0, size - 1)) for _ in range(count)])
        if name in along
        else slice(None)
        for size, name in zip(shape, dims, strict=True)
    ]
    expected = np.stack([
        values[tuple(i[n] if isinstance(i, np.ndarray) else i for i in indexers)] for n in range(count)
    ])  # fmt: skip

    async def check():
        for _ in range(3):
            np.testing.assert_array_equal(await array.read_points(indexers), expected)
            await asyncio.gather(*array._store.columns._writes)

    asyncio.run(check())


@pytest.fixture
def stack():
    values = np.random.default_rng(3).normal(size=(30, 100, 90)).astype("f4")
    return Chunks(values, (1, 64, 64), ["time", "y", "x"])


async def test_a_neighbour_is_read_without_any_chunk(stack, monkeypatch):
    monkeypatch.setattr(columns, "_DELAY", 0)
    store = stack.store(MemoryCache(10**8))
    array = EncodedArray(store, stack.array)
    await array.read([slice(None), 10, 20])
    assert stack.reads == 30
    for settle in (False, True):
        if settle:
            await asyncio.gather(*store.columns._writes)
            assert not store.columns._fresh
            assert not store.columns._pending_nbytes
        found = await array.read([slice(3, 9), slice(12, 15), 22])
        np.testing.assert_array_equal(found, stack.values[3:9, 12:15, 22])
    assert stack.reads == 30


async def test_another_process_finds_the_columns(stack, monkeypatch):
    monkeypatch.setattr(columns, "_DELAY", 0)
    cache = MemoryCache(10**8)
    first, second = stack.store(cache), stack.store(cache)
    await EncodedArray(first, stack.array).read([slice(None), 10, 20])
    await asyncio.gather(*first.columns._writes)
    reads = stack.reads
    found = await EncodedArray(second, stack.array).read([slice(None), 11, 21])
    np.testing.assert_array_equal(found, stack.values[:, 11, 21])
    assert stack.reads == reads


async def test_a_read_of_some_times_leaves_no_columns(stack):
    store = stack.store(MemoryCache(10**8))
    await EncodedArray(store, stack.array).read([slice(0, 29), 10, 20])
    assert not store.columns._fresh


async def test_a_read_that_failed_leaves_no_columns(stack):
    store = stack.store(MemoryCache(10**8))
    stack.lost = {(29, 0, 0)}
    with pytest.raises(UpstreamUnavailable):
        await EncodedArray(store, stack.array).read([slice(None), 10, 20])
    assert not store.columns._fresh
    assert not store.columns._writes


async def test_what_is_pending_is_bounded(stack, monkeypatch):
    monkeypatch.setattr(columns, "MOST_PENDING_NBYTES", 600_000)
    store = stack.store(MemoryCache(10**8))
    array = EncodedArray(store, stack.array)
    await array.read([slice(None), 10, 20])
    assert 0 < store.columns._pending_nbytes <= 600_000
    held = set(store.columns._fresh)
    await array.read([slice(None), 90, 80])
    assert set(store.columns._fresh) == held
    for task in store.columns._writes:
        task.cancel()
    await asyncio.gather(*store.columns._writes, return_exceptions=True)
    assert not store.columns._pending_nbytes


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype", "block", "window"),
    [
        ((209, 7721, 9462), (1, 256, 256), "<f4", (16, 16), (64, 64)),
        ((80832, 833, 833), (40000, 20, 20), "<i2", (1, 1), (8, 8)),
        ((209, 40, 5), (1, 20, 256), "<f4", (16, 16), (20, 64)),
        ((5000, 800, 800), (5000, 100, 100), "<f8", (2, 2), (16, 16)),
    ],
)
def test_blocks_fit_a_redis_value_and_windows_the_budget(shape, chunks, dtype, block, window):
    array = Chunks(np.broadcast_to(np.zeros((), dtype), shape), chunks, ["time", "y", "x"]).array
    layout = column_layout(array)
    assert (layout.block, layout.window) == (block, window)


@pytest.mark.parametrize(("shape", "dims"), [((5,), ["time"]), ((1, 9, 9), ["time", "y", "x"])])
def test_what_has_no_columns_has_no_layout(shape, dims):
    assert column_layout(Chunks(np.zeros(shape), shape, dims).array) is None
