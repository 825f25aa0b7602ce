from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubegate.errors import InvalidMetadata, InvalidReference, UnsupportedCodec
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3

ARRAY = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 2], "dtype": "<f4", "fill_value": 1.5,
         "filters": [{"id": "shuffle", "elementsize": 4}], "compressor": {"id": "zlib", "level": 1},
         "order": "C", "dimension_separator": "."}  # fmt: skip
ARRAY_V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 6],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0.0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
    "dimension_names": ["y", "x"],
    "storage_transformers": [],
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["<f4", "|O", "|S4", "<M8[ns]", "<c8", "NaN", "bytes", "regular", "default", "int8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "name", "configuration", "separator", "chunk_shape", "codecs", "a"]), inner, max_size=3
    ),
    max_leaves=6,
)  # fmt: skip


@given(key=st.sampled_from(sorted(ARRAY)), value=VALUES)
@settings(max_examples=400, deadline=None)
def test_no_v2_document_does_more_than_be_refused(key, value):
    references = {"v/.zarray": {**ARRAY, key: value}, "v/0.0": "abcd"}
    check_build(references)


@given(key=st.sampled_from(["_ARRAY_DIMENSIONS", "_FillValue", "units"]), value=VALUES)
@settings(max_examples=200, deadline=None)
def test_no_attribute_does_more_than_be_refused(key, value):
    check_build({"v/.zarray": ARRAY, "v/.zattrs": {key: value}, "v/0.0": "abcd"})


@given(key=st.sampled_from(sorted(ARRAY_V3)), value=VALUES)
@settings(max_examples=400, deadline=None)
def test_no_v3_document_does_more_than_be_refused(key, value):
    check_build({"v/zarr.json": {**ARRAY_V3, key: value}, "v/c/0/0": "abcd"})


def check_build(references):
    data = json.dumps(references).encode()
    try:
        index = build_from_kerchunk_json(data, base_url="s3://refs/r.json", check_url=lambda _: None)
    except InvalidReference:
        return
    for array in index.hierarchy.arrays.values():
        if array.chunk_count:
            index.locate(array, [tuple(0 for _ in array.shape)])


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("<f4", 1.5), (">f8", np.nan), ("<f8", -np.inf), ("<i2", -9999), (">u4", 2**32 - 1), ("<i8", 2**62),
        ("<u8", 2**64 - 1), ("<c8", 1 + 2j), ("<c16", complex(np.nan, np.inf)), ("|S5", b"ab"),
        ("<U4", "\N{SNOWMAN}b"), ("<M8[s]", np.datetime64("2020-01-01", "s")), ("<m8[ns]", np.timedelta64(5, "ns")),
        ("<f2", 0.25), ("|V4", np.void(b"abcd")), ("<f4", None),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_v2_documents_mean_what_zarr_python_reads(tmp_path, dtype, fill):
    zarr.create_array(
        tmp_path / "a.zarr",
        shape=(4, 6),
        chunks=(2, 4),
        dtype=np.dtype(dtype),
        fill_value=fill,
        zarr_format=2,
    )
    document = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    if fill is None:
        document["fill_value"] = None
    parsed = parse_array_v2("a", document, {"_ARRAY_DIMENSIONS": ["y", "x"], "units": "m"})
    expected = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert parsed.dtype == np.dtype(dtype)
    assert parsed.shape == expected.shape
    assert parsed.chunk_shape == expected.chunks
    assert parsed.dimension_names == ("y", "x")
    assert parsed.attributes == {"units": "m"}
    if fill is None:
        assert parsed.fill_value is None
        return
    wanted = np.full(3, fill, dtype=dtype)
    assert np.full(3, parsed.fill_value, dtype=dtype).tobytes() == wanted.tobytes()
    assert np.full(3, parsed.declared_fill, dtype=dtype).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("dtype", "fill", "options"),
    [
        ("<f4", np.nan, {}), ("<f8", 2.5, {"serializer": zarr.codecs.BytesCodec(endian="big")}), ("<i2", -9999, {}),
        ("<u8", 2**64 - 1, {"shards": (4, 6)}), ("|b1", True, {}), ("<c8", 1 + 2j, {}),
        ("<i4", 7, {"shards": (4, 6), "serializer": zarr.codecs.BytesCodec(endian="big")}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_v3_documents_mean_what_zarr_python_reads(tmp_path, dtype, fill, options):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 6), chunks=(2, 3), dtype=dtype, fill_value=fill, zarr_format=3,
        dimension_names=("y", "x"), attributes={"units": "m"}, **options,
    )  # fmt: skip
    array[...] = np.arange(24).reshape(4, 6)
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    parsed = parse_array_v3("a", document)
    big = isinstance(options.get("serializer"), zarr.codecs.BytesCodec)
    assert parsed.dtype == np.dtype(dtype).newbyteorder(">" if big else "=")
    assert parsed.chunk_shape == options.get("shards", (2, 3))
    assert parsed.codecs.sharded == ("shards" in options)
    assert parsed.attributes == {"units": "m"}
    assert parsed.declared_fill is None
    np.testing.assert_array_equal(np.asarray(parsed.fill_value), np.asarray(fill, dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "written", "expected"),
    [
        ("<f4", "AAAAAAAAFMA=", -5.0), ("<f4", -5, -5.0), ("<f8", "NaN", np.nan), ("<f8", [1.5], 1.5),
        ("<i2", -1, -1), ("<i2", [3], 3), ("|S1", " ", b" "), ("|S3", "YWI=", b"ab"),
    ],
)  # fmt: skip
def test_fill_attributes(dtype, written, expected):
    parsed = parse_array_v2("a", {**ARRAY, "dtype": dtype, "fill_value": None}, {"_FillValue": written})
    np.testing.assert_array_equal(parsed.declared_fill, np.array(expected, dtype=dtype))
    np.testing.assert_array_equal(parsed.fill_value, parsed.declared_fill)
    assert "_FillValue" not in parsed.attributes


def test_fill_that_only_storage_uses():
    parsed = parse_array_v2("a", ARRAY, {}, fill_declared=False)
    assert (parsed.fill_value, parsed.declared_fill) == (1.5, None)
    parsed = parse_array_v2("a", ARRAY, {"_FillValue": 2.5}, fill_declared=False)
    assert (parsed.fill_value, parsed.declared_fill) == (1.5, 2.5)


@pytest.mark.parametrize("codec", ["pickle", "nonsense", None])
def test_codecs_off_the_list_are_refused(codec):
    with pytest.raises(UnsupportedCodec):
        parse_array_v2("a", {**ARRAY, "compressor": {"id": codec}}, {})
    nested = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": codec}]}}
    for codecs in ([{"name": codec}], [nested]):
        with pytest.raises(UnsupportedCodec):
            parse_array_v3("a", {**ARRAY_V3, "codecs": codecs})


def test_chunks_that_decode_to_too_much_are_refused():
    with pytest.raises(InvalidMetadata, match="2 GiB"):
        parse_array_v2("a", {**ARRAY, "shape": [2**20, 2**20], "chunks": [2**20, 2**20]}, {})
    grid = {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20]}}
    with pytest.raises(InvalidMetadata, match="2 GiB"):
        parse_array_v3("a", {**ARRAY_V3, "shape": [2**20, 2**20], "chunk_grid": grid})
