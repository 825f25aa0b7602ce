"""Every row of the codec translation, proved by zarr-python reading the same bytes in the other format."""

import itertools
import json

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from cubegate.errors import NotRepresentable
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.documents_v2 import array_documents_v2
from cubegate.store.documents_v3 import array_document_v3

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:The codec `vlen"),
]

SHAPE, CHUNKS = (7, 10), (4, 5)


RNG = np.random.default_rng(7)
WORDS = {
    "S": np.array([b"a", b"bc", b"defgh"]),
    "U": np.array(["\N{LATIN SMALL LETTER E WITH ACUTE}", "bc", ""]),
    "O": np.array(["x", "", "l\N{GREEK SMALL LETTER OMEGA}ng" * 9], dtype=object),
}


def values_of(dtype, shape=SHAPE):
    dtype = np.dtype(dtype)
    if dtype.kind in WORDS:
        return WORDS[dtype.kind][RNG.integers(0, 3, shape)].astype(dtype)
    if dtype.kind == "V":
        return np.frombuffer(RNG.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    if dtype.kind in "fc":
        values = (RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if dtype.kind == "c" else 0)).astype(
            dtype
        )
        values.flat[3] = np.nan
        return values
    return RNG.integers(0, 2 if dtype.kind == "b" else 100, shape).astype("i8").astype(dtype)


def write_v2(values, *, filters=None, compressor=None, order="C", chunks=CHUNKS, dtype=None):
    """Write with zarr-python in v2, each chunk through numcodecs; return metadata and chunks."""
    dtype = values.dtype if dtype is None else np.dtype(dtype)
    # what bitround would round is exact already, and it cannot encode big-endian
    encoding = [numcodecs.get_codec(f) for f in filters or () if f["id"] != "bitround"]
    if compressor:
        encoding.append(numcodecs.get_codec(compressor))
    grid = [range(-(-size // chunk)) for size, chunk in zip(values.shape, chunks, strict=True)]
    encoded = {}
    for chunk in itertools.product(*grid):
        part = tuple(slice(n * c, n * c + c) for n, c in zip(chunk, chunks, strict=True))
        block = np.zeros(chunks, dtype) if not dtype.hasobject else np.full(chunks, "", object)
        block[tuple(slice(0, size) for size in values[part].shape)] = values[part]
        data = block.ravel(order=order)
        for codec in encoding:
            data = codec.encode(data)
        encoded[chunk] = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
    document = {
        "zarr_format": 2,
        "shape": list(values.shape),
        "chunks": list(chunks),
        "dtype": "|O" if dtype.hasobject else dtype.str,
        "order": order,
        "fill_value": None,
        "filters": filters,
        "compressor": compressor,
    }
    return parse_array_v2("v", document, {"_ARRAY_DIMENSIONS": ["y", "x"][: values.ndim]}), encoded


def read_v3(array, encoded):
    document = json.loads(json.dumps(array_document_v3(array)))
    store = {"zarr.json": json.dumps(document).encode()}
    for chunk, data in encoded.items():
        store["/".join(["c", *map(str, chunk)])] = data
    return read(store, 3)


def read_v2(array, encoded):
    documents = array_documents_v2(array)
    store = {name: json.dumps(document).encode() for name, document in documents.items()}
    for chunk, data in encoded.items():
        store[".".join(map(str, chunk)) or "0"] = data
    return read(store, 2)


def read(store, zarr_format):
    buffers = {key: cpu.Buffer.from_bytes(data) for key, data in store.items()}
    return zarr.open_array(MemoryStore(buffers), mode="r", zarr_format=zarr_format)[...]


def same(left, right):
    if right.dtype.kind == "V":
        return left.tobytes() == right.tobytes()
    np.testing.assert_array_equal(np.asarray(left, dtype=right.dtype.newbyteorder("=")), right)
    return True


ZLIB = {"id": "zlib", "level": 3}
DTYPES = ["|b1", "|i1", "|u1", "<i2", ">i2", "<u2", ">u4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8",
          "<c8", ">c16", "|S5", "<U3", ">U3", "<M8[s]", ">M8[ns]", "<m8[h]", "|V6"]  # fmt: skip


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_data_type_in_both_formats(dtype, order):
    values = values_of(dtype)
    array, encoded = write_v2(values, compressor=ZLIB, order=order)
    assert same(read_v2(array, encoded), values)
    assert same(read_v3(array, encoded), values)


PIPELINES = {
    "none": ([], None),
    "gzip": ([], {"id": "gzip", "level": 1}),
    "gzip out of range": ([], {"id": "gzip", "level": -1}),
    "zstd": ([], {"id": "zstd", "level": 5}),
    "zstd checksum": ([], {"id": "zstd", "level": 5, "checksum": True}),
    "zlib": ([], ZLIB),
    "bz2": ([], {"id": "bz2", "level": 1}),
    "lzma": ([], {"id": "lzma"}),
    "lz4": ([], {"id": "lz4"}),
    "crc32c": ([{"id": "crc32c"}], None),
    "crc32c at the start": ([{"id": "crc32c", "location": "start"}], ZLIB),
    "crc32": ([{"id": "crc32"}], None),
    "crc32 at the end": ([{"id": "crc32", "location": "end"}], None),
    "adler32": ([{"id": "adler32"}], ZLIB),
    "jenkins": ([{"id": "jenkins_lookup3"}], None),
    "fletcher32": ([{"id": "fletcher32"}], None),
    "shuffle default": ([{"id": "shuffle"}], ZLIB),
    "shuffle": ([{"id": "shuffle", "elementsize": 4}], ZLIB),
    "shuffle, zlib, fletcher32": ([{"id": "shuffle", "elementsize": 4}, ZLIB, {"id": "fletcher32"}], None),
    "shuffle and zlib as filters": ([{"id": "shuffle", "elementsize": 4}, ZLIB], None),
}
for shuffle, cname in itertools.product((-1, 0, 1, 2), ("lz4", "lz4hc", "blosclz", "zstd", "zlib")):
    PIPELINES[f"blosc {cname} {shuffle}"] = (
        [],
        {"id": "blosc", "cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0},
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_bytes_codec_in_both_formats(pipeline, dtype, order):
    filters, compressor = PIPELINES[pipeline]
    values = values_of(dtype)
    array, encoded = write_v2(values, filters=filters or None, compressor=compressor, order=order)
    assert same(read_v2(array, encoded), values)
    assert same(read_v3(array, encoded), values)


ARRAY_FILTERS = {
    "delta": ("<i4", [{"id": "delta", "dtype": "<i4"}]),
    "delta big-endian": (">i4", [{"id": "delta", "dtype": ">i4"}]),
    "delta as": ("<i4", [{"id": "delta", "dtype": "<i4", "astype": "<i2"}]),
    "delta as big-endian": ("<i4", [{"id": "delta", "dtype": "<i4", "astype": ">i2"}]),
    "delta to bytes": ("<i2", [{"id": "delta", "dtype": "<i2", "astype": "|i1"}]),
    "scale": (
        "<f4",
        [{"id": "fixedscaleoffset", "scale": 100, "offset": 1, "dtype": "<f4", "astype": "<i2"}],
    ),
    "scale bytes": (
        "<f8",
        [{"id": "fixedscaleoffset", "scale": 5, "offset": 0, "dtype": "<f8", "astype": "|i1"}],
    ),
    "scale big-endian": (
        ">f8",
        [{"id": "fixedscaleoffset", "scale": 100, "offset": 5.5, "dtype": ">f8", "astype": ">i4"}],
    ),
    "scale, delta": (
        "<f8",
        [
            {"id": "fixedscaleoffset", "scale": 100, "offset": 1, "dtype": "<f8", "astype": "<i4"},
            {"id": "delta", "dtype": "<i4"},
            {"id": "shuffle", "elementsize": 4},
        ],
    ),
    "quantize": ("<f4", [{"id": "quantize", "digits": 2, "dtype": "<f4"}]),
    "bitround": ("<f4", [{"id": "bitround", "keepbits": 9}]),
    "bitround big-endian": (">f8", [{"id": "bitround", "keepbits": 9}]),
    "astype": ("<f8", [{"id": "astype", "encode_dtype": "<f4", "decode_dtype": "<f8"}]),
    "astype big-endian": (">f8", [{"id": "astype", "encode_dtype": ">i2", "decode_dtype": ">f8"}]),
    "packbits": ("|b1", [{"id": "packbits"}]),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "compressor", [None, ZLIB, {"id": "blosc", "cname": "lz4", "shuffle": -1, "clevel": 1}]
)
@pytest.mark.parametrize("name", ARRAY_FILTERS)
def test_every_array_filter_in_both_formats(name, compressor, order):
    dtype, filters = ARRAY_FILTERS[name]
    values = np.arange(70).reshape(SHAPE) % 17
    values = (values % 2).astype(bool) if dtype == "|b1" else values.astype(dtype)
    array, encoded = write_v2(values, filters=filters, compressor=compressor, order=order)
    assert same(read_v2(array, encoded), values)
    assert same(read_v3(array, encoded), values)


@pytest.mark.parametrize("compressor", [None, ZLIB, {"id": "zstd", "level": 1}])
@pytest.mark.parametrize("order", ["C", "F"])
def test_strings_of_any_length(compressor, order):
    values = values_of("O")
    array, encoded = write_v2(values, filters=[{"id": "vlen-utf8"}], compressor=compressor, order=order)
    assert read_v2(array, encoded).tolist() == values.tolist()
    assert read_v3(array, encoded).tolist() == values.tolist()


def test_bytes_of_any_length():
    values = np.array([b"a", b"", b"long" * 30], dtype=object)
    array, encoded = write_v2(values, filters=[{"id": "vlen-bytes"}], chunks=(3,))
    assert read_v2(array, encoded).tolist() == values.tolist()
    assert read_v3(array, encoded).tolist() == values.tolist()


def test_zero_dimensions():
    values = np.array(42.5, "<f8")
    array, encoded = write_v2(values, compressor=ZLIB, chunks=())
    assert read_v2(array, encoded)[()] == 42.5
    assert read_v3(array, encoded)[()] == 42.5


@pytest.mark.parametrize(
    ("dtype", "filters", "reason"),
    [
        ("|O", [{"id": "json2"}], "has no codec 'json2'"),
        (
            "<i4",
            [{"id": "shuffle", "elementsize": 4}, {"id": "delta", "dtype": "<i4"}],
            "no place for its filter 'delta'",
        ),
        ("<i4", [{"id": "delta", "dtype": ">i4"}], "gives >i4 where <i4 is due"),
        (
            "<f4",
            [{"id": "quantize", "digits": 2, "dtype": "<f4", "astype": "<f2"}],
            "cannot change the data type",
        ),
        ("|u1", [{"id": "delta", "dtype": "|u1", "astype": "<i2"}], "byte order"),
        ("<i4", [{"id": "blosc", "nonsense": 1}], "is not valid"),
        ([["a", "<i4"], ["b", "<f8"]], None, "no data type"),
        ("<f16", None, "no data type"),
    ],
)
def test_what_v3_cannot_say_is_refused_with_the_reason(dtype, filters, reason):
    document = {
        "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": dtype, "order": "C",
        "fill_value": None, "filters": filters, "compressor": None,
    }  # fmt: skip
    array = parse_array_v2("v", document, {"_ARRAY_DIMENSIONS": ["x"]})
    with pytest.raises(NotRepresentable, match=reason):
        array_document_v3(array)
    assert array_documents_v2(array)[".zarray"]["dtype"] == dtype


def write_v3(values, codecs, *, data_type=None):
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": data_type or values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(CHUNKS)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "" if data_type == "string" else 0,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": ["y", "x"],
    }
    store = MemoryStore({"zarr.json": cpu.Buffer.from_bytes(json.dumps(document).encode())})
    written = zarr.open_array(store, mode="r+", zarr_format=3)
    written[...] = values
    encoded = {
        tuple(map(int, key.split("/")[1:])): data.to_bytes()
        for key, data in store._store_dict.items()
        if key.startswith("c/")
    }
    return parse_array_v3("v", document), encoded


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
V3_PIPELINES = {
    "bytes": [LITTLE],
    "big-endian": [BIG],
    "transpose": [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE],
    "identity transpose": [{"name": "transpose", "configuration": {"order": [0, 1]}}, LITTLE],
    "transpose twice": [
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        BIG,
    ],
    "gzip": [LITTLE, {"name": "gzip", "configuration": {"level": 5}}],
    "zstd": [BIG, {"name": "zstd", "configuration": {"level": 3, "checksum": True}}],
    "blosc": [
        LITTLE,
        {"name": "blosc", "configuration": {"typesize": 4, "cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}},
    ],
    "crc32c": [LITTLE, {"name": "crc32c"}],
    "zstd, crc32c": [LITTLE, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}, {"name": "crc32c"}],
    "shuffle": [
        LITTLE,
        {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}},
        {"name": "numcodecs.zlib", "configuration": {"level": 1}},
    ],
    "shuffle without a size": [LITTLE, {"name": "numcodecs.shuffle", "configuration": {}}],
    "lz4": [LITTLE, {"name": "numcodecs.lz4", "configuration": {}}],
    "fletcher32": [LITTLE, {"name": "numcodecs.fletcher32", "configuration": {}}],
    "delta": [{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}, LITTLE],
    "scale": [
        {"name": "numcodecs.fixedscaleoffset", "configuration": {"scale": 10, "offset": 0, "dtype": "<f4", "astype": "<i2"}},
        LITTLE,
    ],
    "scale without a dtype": [
        {"name": "numcodecs.fixedscaleoffset", "configuration": {"scale": 10, "offset": 0, "astype": "<i2"}},
        LITTLE,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", V3_PIPELINES)
def test_every_v3_pipeline_in_both_formats(name):
    values = (np.arange(70).reshape(SHAPE) % 17 + 1).astype("f4")
    array, encoded = write_v3(values, V3_PIPELINES[name])
    assert len(encoded) == 4
    assert same(read_v2(array, encoded), values)
    assert same(read_v3(array, encoded), values)


def test_v3_strings_in_both_formats():
    values = values_of("O")
    array, encoded = write_v3(
        values, [{"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}], data_type="string"
    )
    assert read_v2(array, encoded).tolist() == values.tolist()
    assert read_v3(array, encoded).tolist() == values.tolist()


SHARDED = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [2, 5],
        "codecs": [LITTLE],
        "index_codecs": [LITTLE, {"name": "crc32c"}],
    },
}


@pytest.mark.parametrize(
    ("shape", "codecs", "reason"),
    [
        ((4, 5), [SHARDED], "it is sharded"),
        ((4, 5, 6), [{"name": "transpose", "configuration": {"order": [1, 0, 2]}}, LITTLE], r"cannot transpose to axes \[1, 0, 2\]"),
        ((4, 5), [{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}, BIG], "do not chain"),
    ],
)  # fmt: skip
def test_what_v2_cannot_say_is_refused_with_the_reason(shape, codecs, reason):
    document = {
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs,
    }  # fmt: skip
    array = parse_array_v3("v", document)
    with pytest.raises(NotRepresentable, match=reason):
        array_documents_v2(array)
    assert array_document_v3(array)["codecs"] == codecs
