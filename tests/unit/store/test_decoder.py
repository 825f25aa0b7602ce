"""Every codec on the list decodes to what was encoded, and other bytes are errors and nothing else."""

import itertools
import json
import math
import struct
import warnings

import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from cubegate.errors import CorruptChunk
from cubegate.index.codecs import TIFF_CODECS, V2_CODECS
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.decoder import Decoder, decode

COMPRESSORS = [
    {"id": "zlib"}, {"id": "gzip"}, {"id": "bz2"}, {"id": "lz4"}, {"id": "zstd"}, {"id": "lzma"},
    {"id": "blosc", "cname": "zstd", "shuffle": 2}, {"id": "blosc", "clevel": 0},
    {"id": "lzma", "format": 3, "filters": [{"id": 33, "preset": 1}]}, {"id": "lzma", "format": 2},
]  # fmt: skip
CHECKSUMS = [{"id": name} for name in ("adler32", "crc32", "crc32c", "fletcher32")]
CHECKSUMS += [{"id": "crc32", "location": "end"}, {"id": "jenkins_lookup3", "initval": 3}]
FILTERS = {
    "f4": [{"id": "shuffle", "elementsize": 4}, {"id": "bitround", "keepbits": 23},
           {"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": "<f4", "astype": "<i8"},
           {"id": "astype", "encode_dtype": "<f8", "decode_dtype": "<f4"},
           {"id": "quantize", "digits": 3, "dtype": "<f4", "astype": "<f8"}],
    "i2": [{"id": "shuffle", "elementsize": 2}, {"id": "delta", "dtype": "<i2"},
           {"id": "delta", "dtype": "<i2", "astype": "<i4"},
           {"id": "astype", "encode_dtype": "<i8", "decode_dtype": "<i2"}],
    "b1": [{"id": "packbits"}],
}  # fmt: skip
SHAPE = (7, 9)


def array_v2(dtype, filters=(), compressor=None, shape=SHAPE, **more):
    document = {
        "zarr_format": 2, "shape": list(shape), "chunks": list(shape), "dtype": dtype, "fill_value": None,
        "filters": list(filters) or None, "compressor": compressor, "order": "C", **more,
    }  # fmt: skip
    return parse_array_v2("v", document, {})


def encode(values, array):
    encoded = values
    for configuration in [*array.codecs.filters, *filter(None, [array.codecs.compressor])]:
        encoded = numcodecs.get_codec(dict(configuration)).encode(encoded)
    return bytes(numcodecs.compat.ensure_bytes(encoded))


def values_of(dtype):
    numbers = np.arange(math.prod(SHAPE)).reshape(SHAPE) % 60
    return (numbers % 2 if dtype == "b1" else numbers).astype(dtype)


V2_PIPELINES = [(dtype, []) for dtype in FILTERS]
V2_PIPELINES += [(dtype, [one]) for dtype, all_of in FILTERS.items() for one in all_of]
V2_PIPELINES += [("f4", [one]) for one in CHECKSUMS]
V2_PIPELINES += [("i2", [FILTERS["i2"][2], FILTERS["i2"][0]]), ("f4", [FILTERS["f4"][2], CHECKSUMS[0]])]


def name(pipeline):
    return "-".join(str(part.get("id", "")) for part in pipeline) or "plain"


@pytest.mark.parametrize("compressor", [None, *COMPRESSORS], ids=lambda c: name([c or {}]))
@pytest.mark.parametrize(
    ("dtype", "filters"), V2_PIPELINES, ids=lambda p: p if isinstance(p, str) else name(p)
)
def test_every_v2_pipeline_gives_back_what_was_encoded(dtype, filters, compressor):
    values = values_of(dtype)
    array = array_v2(np.dtype(dtype).str, filters, compressor)
    encoded = encode(values, array)
    np.testing.assert_array_equal(decode(array, encoded), values)
    np.testing.assert_array_equal(Decoder(array).open(encoded)[:, 2:5], values[:, 2:5])
    # one item more than the array has
    other = array_v2(np.dtype(dtype).str, filters, compressor, shape=(8, 8))
    with pytest.raises(CorruptChunk):
        decode(other, encoded)


def test_every_codec_of_the_list_is_tried():
    tried = {one["id"] for one in [*COMPRESSORS, *CHECKSUMS, *itertools.chain(*FILTERS.values())]}
    assert tried | {"json2", "vlen-utf8", "vlen-bytes", "fill_hdf_strings"} | TIFF_CODECS == V2_CODECS


TEXTS = np.array(["", "a", "\N{SNOWMAN}" * 40, "b"], dtype=object)
OF_TEXTS = {
    "vlen-utf8": TEXTS,
    "vlen-bytes": np.array([b"", b"a", b"c" * 99, b"d"], dtype=object),
    "json2": np.array([None, [1, 2], {"a": [3]}, "b"], dtype=object),
}


@pytest.mark.parametrize("compressor", [None, *COMPRESSORS], ids=lambda c: name([c or {}]))
@pytest.mark.parametrize("codec", OF_TEXTS)
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_objects_come_back(codec, compressor, shape):
    values = OF_TEXTS[codec].reshape(shape)
    array = array_v2("|O", [{"id": codec}], compressor, shape=shape)
    encoded = encode(values, array)
    assert decode(array, encoded).tolist() == values.tolist()
    with pytest.raises(CorruptChunk):
        decode(array_v2("|O", [{"id": codec}], compressor, shape=(5,)), encoded)


def test_what_only_claims_to_be_json_of_objects_is_refused():
    array = array_v2("|O", [{"id": "json2"}], shape=(2,))
    good = ["a", "b", "|O", [2]]
    assert decode(array, json.dumps(good).encode()).tolist() == ["a", "b"]
    bad = [
        [], ["|O", [2]], ["a", "|O", [2]], ["a", "b", "c", "|O", [2]], ["a", "b", "<f8", [2]],
        ["a", "b", "|O", [10**12]], ["a", "b", "|O", 2], ["a", "b", "|O", [2, -1]], ["a", "b", "|O", ["2"]],
        ["a", "b", "|O", [1, 2]], {"a": 1}, 7, None,
    ]  # fmt: skip
    for document in bad:
        with pytest.raises(CorruptChunk):
            decode(array, json.dumps(document).encode())
    for text in (b"", b"\xff", b"[" * 100_000):
        with pytest.raises(CorruptChunk):
            decode(array, text)


@pytest.mark.parametrize("size", [None, 2**32 - 1, 5])
def test_the_count_of_texts_is_held_to_the_chunk(size):
    array = array_v2("|O", [{"id": "vlen-utf8"}], shape=(4,))
    header = b"" if size is None else struct.pack("<I", size)
    with pytest.raises(CorruptChunk):
        decode(array, header + bytes(40))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_zstandard_frames_that_follow_one_another(known, cut):
    values = np.random.default_rng(1).integers(0, 99, 200_000).astype("i4")
    parts = [
        zstandard.ZstdCompressor(write_content_size=known, write_checksum=n % 2 == 0).compress(part.tobytes())
        for n, part in enumerate(np.array_split(values, 3))
    ]
    data = b"".join(parts)
    array = array_v2("<i4", compressor={"id": "zstd"}, shape=values.shape)
    if cut == 0:
        np.testing.assert_array_equal(decode(array, data), values)
        for wrong in (parts[0], data + parts[0], data + b"x", b"x" + data, b""):
            with pytest.raises(CorruptChunk):
                decode(array, wrong)
    else:
        with pytest.raises(CorruptChunk):
            decode(array, data[:-cut])


@pytest.mark.parametrize("compressor", [{"id": "gzip"}, {"id": "bz2"}, {"id": "lzma"}], ids=lambda c: c["id"])
def test_streams_that_follow_one_another(compressor):
    values = np.random.default_rng(1).integers(0, 99, 20_000).astype("i4")
    codec = numcodecs.get_codec(compressor)
    data = b"".join(codec.encode(part.tobytes()) for part in np.array_split(values, 3))
    array = array_v2("<i4", compressor=compressor, shape=values.shape)
    np.testing.assert_array_equal(decode(array, data), values)
    for wrong in (data[:-1], data[:-9], data + data, data[5:], b""):
        with pytest.raises(CorruptChunk):
            decode(array, wrong)


PIPELINES_V2 = [array_v2("<f4", [{"id": "shuffle", "elementsize": 4}], one) for one in COMPRESSORS]
PIPELINES_V2 += [array_v2("<f4", [one]) for one in [*CHECKSUMS, *FILTERS["f4"]]]
PIPELINES_V2 += [array_v2("|b1", [{"id": "packbits"}]), array_v2("<i2", [FILTERS["i2"][1]])]


@given(
    which=st.sampled_from(PIPELINES_V2),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4),
    cut=st.integers(0, 400) | st.none(),
    more=st.binary(max_size=8),
)
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_one_chunk_or_an_error(which, changes, cut, more):
    values = np.arange(63).reshape(SHAPE).astype(which.dtype)
    damaged = bytearray(encode(values, which))[:cut] + more
    for position, change in changes:
        if damaged:
            damaged[position % len(damaged)] ^= change
    try:
        decoded = decode(which, bytes(damaged))
    except CorruptChunk:
        return
    assert (decoded.shape, decoded.dtype) == (SHAPE, which.dtype)


def write_v3(values, chunk, fill=0, **options):
    """Write `values` by zarr-python; return the metadata and the encoded chunks by their coordinates."""
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            store, name="v", shape=values.shape, dtype=values.dtype, chunks=chunk, fill_value=fill, **options
        )
        array[...] = values
    held = {key: value.to_bytes() for key, value in store._store_dict.items()}
    metadata = parse_array_v3("v", json.loads(held["v/zarr.json"]))
    chunks = {
        tuple(map(int, key.split("/")[2:])): data for key, data in held.items() if key.startswith("v/c/")
    }
    return metadata, chunks


def check_v3(values, metadata, chunks):
    assert chunks
    decoder = Decoder(metadata)
    for place, data in chunks.items():
        inside = tuple(slice(n * c, (n + 1) * c) for n, c in zip(place, metadata.chunk_shape, strict=True))
        expected = values[inside]
        decoded = decoder.decode(data)
        assert decoded.shape == metadata.chunk_shape
        np.testing.assert_array_equal(decoded[tuple(slice(0, n) for n in expected.shape)], expected)
        for wrong in (data[:-1], b"", data + b"x"):
            try:
                shorter = decoder.decode(wrong)
            except CorruptChunk:
                continue
            # nobody looks behind the end of a compressed stream
            assert wrong == data + b"x"
            np.testing.assert_array_equal(shorter, decoded)


V3 = np.random.default_rng(3).integers(0, 99, (12, 20)).astype("i4")
V3[:6, :10] = 0


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    V3_PIPELINES = [
        {"compressors": None},
        {"compressors": zarr.codecs.GzipCodec()},
        {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()]},
        {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
        {"filters": zarr.codecs.TransposeCodec(order=(1, 0)), "compressors": zarr.codecs.GzipCodec()},
        {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": None},
        {"filters": zarr.codecs.numcodecs.Delta(dtype="<i4"), "compressors": zarr.codecs.numcodecs.Zlib(level=5)},
        {"filters": zarr.codecs.numcodecs.AsType(encode_dtype="<i8", decode_dtype="<i4"),
         "compressors": zarr.codecs.ZstdCodec()},
        {"compressors": [zarr.codecs.numcodecs.Shuffle(elementsize=4), zarr.codecs.numcodecs.BZ2(level=5)]},
        {"compressors": [zarr.codecs.numcodecs.LZMA(), zarr.codecs.numcodecs.LZ4(acceleration=1)]},
        {"shards": (12, 20)},
        {"shards": (6, 20), "compressors": None},
        {"shards": (6, 10), "compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]},
        {"shards": (6, 20), "filters": zarr.codecs.TransposeCodec(order=(1, 0))},
        {"shards": (6, 20), "serializer": zarr.codecs.BytesCodec(endian="big")},
        {"serializer": zarr.codecs.ShardingCodec(
            chunk_shape=(3, 5), codecs=[zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()],
            index_codecs=[zarr.codecs.BytesCodec(endian="big")], index_location="start"),
         "compressors": None},
        {"serializer": zarr.codecs.ShardingCodec(chunk_shape=(3, 5), codecs=[zarr.codecs.BytesCodec()]),
         "compressors": zarr.codecs.GzipCodec()},
        {"filters": zarr.codecs.TransposeCodec(order=(1, 0)), "compressors": None,
         "serializer": zarr.codecs.ShardingCodec(
             chunk_shape=(2, 2), codecs=[zarr.codecs.BytesCodec(endian="big")])},
        {"compressors": None, "serializer": zarr.codecs.ShardingCodec(
            chunk_shape=(6, 10), codecs=[
                zarr.codecs.ShardingCodec(chunk_shape=(3, 5), codecs=[zarr.codecs.BytesCodec()])])},
    ]  # fmt: skip


@pytest.mark.parametrize("options", V3_PIPELINES, ids="-".join)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_kind_of_v3_pipeline_gives_back_what_zarr_wrote(options):
    chunk = (3, 5) if "shards" in options else (6, 10)
    if "shards" not in options and "Sharding" in repr(options):
        chunk = (6, 10)
    metadata, chunks = write_v3(V3, chunk, **options)
    check_v3(V3, metadata, chunks)


@pytest.mark.parametrize("shards", [None, (4, 4)])
def test_texts_of_v3_come_back(shards):
    texts = np.array([[f"{y}{x}" * x for x in range(8)] for y in range(4)], dtype="O").astype(
        np.dtypes.StringDType()
    )
    metadata, chunks = write_v3(texts, (2, 2), fill="", shards=shards)
    decoder = Decoder(metadata)
    for (row, column), data in chunks.items():
        size = metadata.chunk_shape
        inside = texts[row * size[0] : (row + 1) * size[0], column * size[1] : (column + 1) * size[1]]
        assert decoder.decode(data).tolist() == inside.tolist()
    assert chunks


@given(
    where=st.integers(0, 2**16),
    change=st.integers(1, 255),
    times=st.integers(1, 4),
    cut=st.integers(0, 2**16) | st.none(),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_shard_is_an_error_or_one_chunk(where, change, times, cut):
    metadata, data = SHARD
    damaged = bytearray(data)[: None if cut is None else cut % len(data)]
    for n in range(times):
        if damaged:
            damaged[(where * (n + 1)) % len(damaged)] ^= change
    try:
        decoded = decode(metadata, bytes(damaged))
    except CorruptChunk:
        return
    assert decoded.shape == metadata.chunk_shape


def _one_shard():
    options = {"serializer": zarr.codecs.ShardingCodec(
        chunk_shape=(3, 5), codecs=[zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()],
        index_codecs=[zarr.codecs.BytesCodec()])}  # fmt: skip
    metadata, chunks = write_v3(V3, V3.shape, compressors=None, **options)
    return metadata, chunks[0, 0]


SHARD = _one_shard()
