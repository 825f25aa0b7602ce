"""Values read through the reader equal what zarr-python reads from the same stored bytes."""

import asyncio
import json
import warnings

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.source import ChunkReference
from cubegate.errors import CorruptChunk, UpstreamObjectMissing, UpstreamUnavailable
from cubegate.index.location import UNALLOCATED, Stored
from cubegate.index.metadata import Hierarchy, with_parents
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.backend import open_dataset
from cubegate.store.bridge import LoopThread
from cubegate.store.columns import ColumnCache
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray


class DictLocator:
    def __init__(self, keys):
        self.keys = keys

    def locate(self, array, chunks):
        return [self._locate(array, chunk) for chunk in chunks]

    def _locate(self, array, chunk):
        if array.zarr_format == 2:
            key = f"{array.path}/{'.'.join(map(str, chunk)) or '0'}"
        else:
            key = "/".join([array.path, "c", *map(str, chunk)])
        return Stored(ChunkReference(f"memory:///{key}")) if key in self.keys else UNALLOCATED

    def stored_nbytes(self, array, chunks):
        return None


class DictSource:
    def __init__(self, files):
        self.files = files
        self.reads = 0
        self.failing = ()

    async def get(self, reference):
        self.reads += 1
        await asyncio.sleep(0)
        key = reference.url.removeprefix("memory:///")
        if key in self.failing:
            raise UpstreamUnavailable("down")
        try:
            return self.files[key]
        except KeyError:
            raise UpstreamObjectMissing("gone") from None


def mount(directory, columns=None):
    files = {
        str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()
    }
    arrays = {}
    for key, content in files.items():
        path = key.rpartition("/")[0]
        if key.endswith(".zarray"):
            attributes = json.loads(files.get(f"{path}/.zattrs", b"{}"))
            arrays[path] = parse_array_v2(path, json.loads(content), attributes)
        if path and key.endswith("zarr.json"):
            arrays[path] = parse_array_v3(path, json.loads(content))
    source = DictSource(files)
    hierarchy = Hierarchy(with_parents({}, arrays), arrays)
    return EncodedStore(
        hierarchy, DictLocator(set(files)), Coalesced(source), version="v", columns=columns
    ), source


RNG = np.random.default_rng(7)
FLOATS = RNG.normal(size=(7, 11, 13)).astype("f4")
INTS = RNG.integers(-30_000, 30_000, (7, 11, 13)).astype("i2")

V2 = {
    "plain": (FLOATS, {}),
    "zlib": (FLOATS, {"compressor": numcodecs.Zlib(4)}),
    "shuffle+zlib": (FLOATS, {"filters": [numcodecs.Shuffle(4)], "compressor": numcodecs.Zlib(4)}),
    "shuffle(8)+zlib": (FLOATS, {"filters": [numcodecs.Shuffle(8)], "compressor": numcodecs.Zlib(4)}),
    "shuffle+zlib F": (
        FLOATS,
        {"filters": [numcodecs.Shuffle(4)], "compressor": numcodecs.Zlib(4), "order": "F"},
    ),
    "shuffle+zlib big-endian": (
        FLOATS.astype(">f4"),
        {"filters": [numcodecs.Shuffle(4)], "compressor": numcodecs.Zlib(4)},
    ),
    "shuffle only": (INTS, {"filters": [numcodecs.Shuffle(2)]}),
    "fletcher32+shuffle+zlib": (
        INTS,
        {"filters": [numcodecs.Shuffle(2), numcodecs.Zlib(1)], "compressor": numcodecs.Fletcher32()},
    ),
    "fletcher32 first": (
        INTS,
        {"filters": [numcodecs.Fletcher32(), numcodecs.Shuffle(2)], "compressor": numcodecs.Zlib(1)},
    ),
    "blosc": (FLOATS, {"compressor": numcodecs.Blosc()}),
    "zstd": (FLOATS, {"compressor": numcodecs.Zstd()}),
    "lz4": (FLOATS, {"compressor": numcodecs.LZ4()}),
    "bz2": (FLOATS, {"compressor": numcodecs.BZ2()}),
    "gzip": (FLOATS, {"compressor": numcodecs.GZip()}),
    "lzma": (INTS, {"compressor": numcodecs.LZMA()}),
    "delta": (INTS, {"filters": [numcodecs.Delta("<i2")], "compressor": numcodecs.Zlib(1)}),
    "delta big-endian": (INTS.astype(">i2"), {"filters": [numcodecs.Delta(">i2", astype=">i4")]}),
    "fixedscaleoffset": (FLOATS, {"filters": [numcodecs.FixedScaleOffset(0, 100, "<f4", "<i2")]}),
    "quantize": (FLOATS, {"filters": [numcodecs.Quantize(3, "<f4")], "compressor": numcodecs.Zlib(1)}),
    "bool": (INTS > 0, {"compressor": numcodecs.Zlib(1)}),
    "packbits": (INTS > 0, {"filters": [numcodecs.PackBits()]}),
    "complex": (FLOATS.astype("c8"), {"filters": [numcodecs.Shuffle(8)], "compressor": numcodecs.Zlib(4)}),
    "datetime": (np.arange(1001).reshape(7, 11, 13).astype("M8[s]"), {"compressor": numcodecs.Zlib(1)}),
    "bytes": (np.arange(1001).reshape(7, 11, 13).astype("S6"), {"compressor": numcodecs.Zlib(1)}),
    "unicode": (np.arange(1001).reshape(7, 11, 13).astype("U6"), {"compressor": numcodecs.Zlib(1)}),
}

V3 = {
    "plain": (FLOATS, {"compressors": None}),
    "zstd": (FLOATS, {"compressors": zarr.codecs.ZstdCodec()}),
    "gzip": (INTS, {"compressors": zarr.codecs.GzipCodec()}),
    "blosc": (FLOATS, {"compressors": zarr.codecs.BloscCodec()}),
    "crc32c": (FLOATS, {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]}),
    "big-endian": (FLOATS, {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": None}),
    "transpose": (FLOATS, {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))}),
    "sharded": (FLOATS, {"shards": (4, 8, 10), "compressors": zarr.codecs.ZstdCodec()}),
    "sharded F": (INTS, {"shards": (4, 8, 10), "filters": zarr.codecs.TransposeCodec(order=(2, 1, 0))}),
}

SELECTIONS = {
    "all": (slice(None), slice(None), slice(None)),
    "pixel": (slice(None), 5, 7),
    "box": (3, slice(2, 9), slice(4, 12)),
    "strided": (slice(None, None, 2), slice(9, 1, -3), slice(1, None, 4)),
    "outer": (np.array([0, 6, 2]), slice(3, 5), np.array([12, 0, 0])),
    "scalar": (6, 10, 12),
}


def create(directory, zarr_format, values, options, fill_value=None):
    chunks = (2, 4, 5)
    group = zarr.open_group(directory, mode="w", zarr_format=zarr_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if zarr_format == 2:
            options = {
                "compressors": options.get("compressor"),
                "filters": options.get("filters"),
                "order": options.get("order", "C"),
            }
        array = group.create_array(
            "v",
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype,
            fill_value=fill_value,
            dimension_names=None if zarr_format == 2 else ("t", "y", "x"),
            **options,
        )
        array[:] = values
        if zarr_format == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = ["t", "y", "x"]
        return array[:]


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(
    ("zarr_format", "case"), [*((2, name) for name in V2), *((3, name) for name in V3)], ids=str
)
async def test_every_codec_reads_as_zarr_reads_it(tmp_path, zarr_format, case, selection):
    values, options = (V2 if zarr_format == 2 else V3)[case]
    expected = create(
        tmp_path / "a.zarr",
        zarr_format,
        values,
        options,
        fill_value=0 if values.dtype.kind in "fiu" else None,
    )
    store, _ = mount(tmp_path / "a.zarr")
    indexers = SELECTIONS[selection]
    result = await EncodedArray(store, store.array("v")).read(indexers)
    for axis in (2, 1, 0):
        expected = expected[(slice(None),) * axis + (indexers[axis],)]
    np.testing.assert_array_equal(result, expected)
    assert result.dtype.kind == expected.dtype.kind
    store, _ = mount(tmp_path / "a.zarr", ColumnCache(MemoryCache(10**8), "v"))
    for _ in range(2):
        again = await EncodedArray(store, store.array("v")).read(indexers)
        np.testing.assert_array_equal(again, expected)
        assert again.dtype == result.dtype
        await asyncio.gather(*store.columns._writes)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("filters", [None, "shuffle"])
async def test_an_array_without_dimensions_is_read(tmp_path, zarr_format, filters):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    shuffled = filters and zarr_format == 2
    array = group.create_array(
        "v", shape=(), dtype="i8", filters=[numcodecs.Shuffle(8)] if shuffled else "auto"
    )
    array[...] = 7
    store, _ = mount(tmp_path / "a.zarr")
    assert await EncodedArray(store, store.array("v")).read(()) == 7


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_an_unallocated_chunk_is_fill_and_costs_no_read(tmp_path, zarr_format):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    array = group.create_array("v", shape=(4, 4), chunks=(2, 2), dtype="f4", fill_value=-9.5)
    array[:2, :2] = 1
    expected = array[:]
    store, source = mount(tmp_path / "a.zarr")
    result = await EncodedArray(store, store.array("v")).read((slice(None), slice(None)))
    np.testing.assert_array_equal(result, expected)
    assert source.reads == 1


async def test_a_failed_chunk_fails_the_read(tmp_path):
    create(tmp_path / "a.zarr", 2, FLOATS, {}, fill_value=0)
    store, source = mount(tmp_path / "a.zarr")
    source.failing = ("v/1.1.1",)
    with pytest.raises(UpstreamUnavailable):
        await EncodedArray(store, store.array("v")).read(SELECTIONS["all"])


@pytest.mark.parametrize(
    "options", [{}, *(V2[name][1] for name in ("shuffle+zlib", "blosc", "zstd", "lz4", "gzip", "bz2"))]
)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: data[:0], lambda data: b"<html>" + data[6:]]
)
async def test_damaged_bytes_are_never_values(tmp_path, options, damage):
    create(tmp_path / "a.zarr", 2, FLOATS, options, fill_value=0)
    store, source = mount(tmp_path / "a.zarr")
    damaged = damage(source.files["v/0.0.0"])
    if not options and len(damaged) == len(source.files["v/0.0.0"]):
        pytest.skip("bytes that nothing protects: a checksum in the index would tell")
    source.files["v/0.0.0"] = damaged
    array = EncodedArray(store, store.array("v"))
    with pytest.raises(CorruptChunk):
        await array.read(SELECTIONS["all"])
    with pytest.raises(CorruptChunk):
        await array.read((0, 0, 0))


async def test_points_are_one_plan(tmp_path):
    expected = create(tmp_path / "a.zarr", 2, FLOATS, V2["shuffle+zlib"][1], fill_value=0)
    store, source = mount(tmp_path / "a.zarr")
    t, y, x = np.arange(7)[:, None], np.array([1, 10, 1]), np.array([12, 0, 12])
    result = await EncodedArray(store, store.array("v")).read_points([t, y, x])
    np.testing.assert_array_equal(result, expected[t, y, x])
    assert source.reads == 8


async def test_xarray_reads_lazily_and_asynchronously(tmp_path):
    times = np.array([3.0, 1.0, 1.0])
    dataset = xr.Dataset(
        {"v": (("time", "y", "x"), INTS[:3], {"_FillValue": np.int16(7), "units": "m"})},
        coords={
            "time": ("time", times, {"units": "days since 2020-01-01"}),
            "y": np.arange(11.0),
            "x": np.arange(13.0),
        },
    )
    dataset.to_zarr(
        tmp_path / "a.zarr", zarr_format=2, consolidated=False, encoding={"v": {"chunks": (2, 4, 5)}}
    )
    expected = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    store, source = mount(tmp_path / "a.zarr")
    bridge = LoopThread()
    opened = await open_dataset(store, bridge)
    reads = source.reads
    assert opened.sizes == expected.sizes
    xr.testing.assert_identical(opened.time, expected.time.load())
    assert source.reads == reads, "coordinates are in memory"
    pixel = await opened.isel(y=5, x=slice(2, 4)).load_async()
    xr.testing.assert_identical(pixel, expected.isel(y=5, x=slice(2, 4)).load())
    scattered = {"y": xr.DataArray([1, 10], dims="p"), "x": xr.DataArray([0, 12], dims="p")}
    xr.testing.assert_identical(await opened.isel(scattered).load_async(), expected.isel(scattered).load())
    xr.testing.assert_identical(await asyncio.to_thread(opened.load), expected.load())
    bridge.close()


async def test_cost_counts_chunks(tmp_path):
    create(tmp_path / "a.zarr", 2, FLOATS, {}, fill_value=0)
    store, source = mount(tmp_path / "a.zarr")
    array = EncodedArray(store, store.array("v"))
    assert array.cost((slice(None), 5, 7)).chunks == 4
    assert array.cost((slice(0, 3), slice(2, 9), slice(None))).chunks == 2 * 3 * 3
    assert array.cost((slice(0, 0), 0, 0)).chunks == 0
    assert array.cost((0, 0, 0)).nbytes == 2 * 4 * 5 * 4
    assert source.reads == 0


async def test_false_is_never_missing(tmp_path):
    values = INTS > 0
    create(tmp_path / "a.zarr", 2, values, {"compressor": numcodecs.Zlib(1)}, fill_value=False)
    store, _ = mount(tmp_path / "a.zarr")
    assert store.array("v").declared_fill is None
    bridge = LoopThread()
    opened = await open_dataset(store, bridge)
    np.testing.assert_array_equal((await opened.load_async())["v"], values)
    bridge.close()
