"""The encoded fill chunk, read back by zarr-python as a chunk that somebody wrote."""

import json

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from cubegate.errors import InvalidMetadata
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.fill import encode_fill

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:The data type"),
]

SHAPE, CHUNKS = (3, 4), (2, 4)
ZLIB = {"id": "zlib", "level": 1}
SHUFFLE = {"id": "shuffle", "elementsize": 4}


def array_v2(dtype, fill, filters=None, compressor=None, *, order="C", chunks=CHUNKS):
    document = {
        "zarr_format": 2, "shape": list(SHAPE)[: len(chunks)], "chunks": list(chunks), "dtype": dtype, "order": order,
        "fill_value": fill, "filters": filters, "compressor": compressor,
    }  # fmt: skip
    return document, parse_array_v2("v", document, {})


def array_v3(data_type, fill, codecs, chunks=CHUNKS):
    document = {
        "zarr_format": 3, "node_type": "array", "shape": list(SHAPE)[: len(chunks)], "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": fill, "codecs": codecs, "attributes": {},
    }  # fmt: skip
    return document, parse_array_v3("v", document)


def read_chunk(document, key, data, *, other_fill):
    """Read one chunk under a document whose own fill is another, so that only the chunk can give the value."""
    name = ".zarray" if document["zarr_format"] == 2 else "zarr.json"
    held = {name: json.dumps({**document, "fill_value": other_fill}).encode(), key: data}
    store = MemoryStore({key: cpu.Buffer.from_bytes(data) for key, data in held.items()})
    return zarr.open_array(store, mode="r", zarr_format=document["zarr_format"])[:2]


V2 = [
    ("<f4", "NaN", None, None),
    ("<f4", -9999.0, [SHUFFLE], ZLIB),
    (">f4", 1.5, [SHUFFLE, ZLIB], None),
    ("<i2", 0, None, {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}),
    ("<i4", 7, [{"id": "delta", "dtype": "<i4"}], ZLIB),
    (
        "<f8",
        2.5,
        [{"id": "fixedscaleoffset", "scale": 10, "offset": 0, "dtype": "<f8", "astype": "<i2"}],
        None,
    ),
    ("<f4", 0.1, [{"id": "bitround", "keepbits": 3}], ZLIB),
    ("<f4", 0.123456, [{"id": "quantize", "digits": 1, "dtype": "<f4"}], ZLIB),
    ("|b1", True, [{"id": "packbits"}], None),
    ("<i4", 5, [{"id": "fletcher32"}], None),
    ("|S3", "YWJj", None, {"id": "zstd", "level": 1}),
    (">M8[s]", 86400, None, ZLIB),
    ("<c8", [1.0, "NaN"], None, ZLIB),
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("dtype", "fill", "filters", "compressor"), V2)
def test_every_v2_pipeline_brings_the_fill_back(dtype, fill, filters, compressor, order):
    document, array = array_v2(dtype, fill, filters, compressor, order=order)
    encoded = encode_fill(array)
    other = "eHh4" if dtype == "|S3" else 1
    values = read_chunk(document, "0.0", encoded, other_fill=[0.0, 0.0] if dtype == "<c8" else other)
    np.testing.assert_array_equal(
        values, np.full(CHUNKS, array.fill_value, np.dtype(dtype).newbyteorder("="))
    )
    assert encode_fill(array) == encoded


def test_no_fill_is_zero():
    document, array = array_v2("<f4", None, [SHUFFLE], ZLIB)
    assert array.fill_value is None
    np.testing.assert_array_equal(
        read_chunk(document, "0.0", encode_fill(array), other_fill=3), np.zeros(CHUNKS)
    )


def test_zero_dimensions():
    document, array = array_v2("<f8", 4.5, None, ZLIB, chunks=())
    held = {".zarray": json.dumps(document).encode(), "0": encode_fill(array)}
    store = MemoryStore({key: cpu.Buffer.from_bytes(data) for key, data in held.items()})
    assert zarr.open_array(store, mode="r")[()] == 4.5


@pytest.mark.parametrize(("fill", "expected"), [("none", "none"), (0, ""), (None, "")])
def test_strings(fill, expected):
    document, array = array_v2("|O", fill, [{"id": "vlen-utf8"}], ZLIB)
    values = read_chunk(document, "0.0", encode_fill(array), other_fill="other")
    assert values.tolist() == [[expected] * 4] * 2


def test_bytes_of_any_length():
    document, array = array_v2("|O", "YWI=", [{"id": "vlen-bytes"}])
    assert read_chunk(document, "0.0", encode_fill(array), other_fill="").tolist() == [[b"ab"] * 4] * 2


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}


def sharded(inner, *, location="end"):
    configuration = {
        "chunk_shape": [1, 2], "codecs": inner, "index_codecs": [LITTLE, CRC], "index_location": location,
    }  # fmt: skip
    return {"name": "sharding_indexed", "configuration": configuration}


V3 = {
    "bytes": ("float32", "NaN", [LITTLE]),
    "big-endian": ("int16", -5, [BIG, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}]),
    "transpose": ("float64", 0.1, [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE, CRC]),
    "delta": ("int32", 9, [{"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}, LITTLE]),
    "bitround": ("float32", 0.1, [{"name": "numcodecs.bitround", "configuration": {"keepbits": 3}}, LITTLE]),
    "strings": ("string", "none", [{"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}]),
}


@pytest.mark.parametrize("name", V3)
def test_every_v3_pipeline_brings_the_fill_back(name):
    data_type, fill, codecs = V3[name]
    document, array = array_v3(data_type, fill, codecs)
    encoded = encode_fill(array)
    values = read_chunk(document, "c/0/0", encoded, other_fill="other" if data_type == "string" else 1)
    expected = np.full(CHUNKS, array.fill_value, object if data_type == "string" else data_type)
    np.testing.assert_array_equal(np.asarray(values, expected.dtype), expected)
    assert encode_fill(array) == encoded


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize(
    ("data_type", "fill"), [("float32", "NaN"), ("float32", -9999), ("int16", 4), ("string", "none")]
)
def test_an_empty_shard_is_fill(data_type, fill, location):
    inner = [{"name": "vlen-utf8"}] if data_type == "string" else [LITTLE, CRC]
    document, array = array_v3(data_type, fill, [sharded(inner, location=location)])
    encoded = encode_fill(array)
    assert len(encoded) == 4 * 16 + 4
    values = read_chunk(document, "c/0/0", encoded, other_fill=fill)
    expected = np.full(CHUNKS, array.fill_value, object if data_type == "string" else data_type)
    np.testing.assert_array_equal(np.asarray(values, expected.dtype), expected)


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_a_compressed_shard_is_encoded_in_full():
    document, array = array_v3(
        "float32", 2, [sharded([LITTLE]), {"name": "gzip", "configuration": {"level": 1}}]
    )
    values = read_chunk(document, "c/0/0", encode_fill(array), other_fill=1)
    np.testing.assert_array_equal(values, np.full(CHUNKS, 2, "f4"))


@pytest.mark.parametrize(
    ("dtype", "fill", "filters"),
    [
        (
            "<f8",
            "NaN",
            [{"id": "fixedscaleoffset", "scale": 10, "offset": 0, "dtype": "<f8", "astype": "<i2"}],
        ),
        (
            "<f8",
            0.123,
            [{"id": "fixedscaleoffset", "scale": 10, "offset": 0, "dtype": "<f8", "astype": "<i2"}],
        ),
        ("<f8", 1e-30, [{"id": "astype", "encode_dtype": "<f4", "decode_dtype": "<f8"}]),
    ],
)
def test_a_fill_that_the_codecs_would_change_is_an_error(dtype, fill, filters):
    _, array = array_v2(dtype, fill, filters)
    with pytest.raises(InvalidMetadata, match="do not bring its fill value"):
        encode_fill(array)
