"""The documents of whole cubes, read through zarr-python and xarray in both formats."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from cubegate.index.metadata import GroupMetadata, Hierarchy
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.documents import ZarrDocuments, plain_hierarchy

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:The data type"),
]


def array_v2(
    path, dtype, *, fill=None, attributes=None, declared=True, shape=(4,), names=("x",), filters=None
):
    document = {
        "zarr_format": 2, "shape": list(shape), "chunks": list(shape) or [], "dtype": dtype, "order": "C",
        "fill_value": fill, "filters": filters, "compressor": None,
    }  # fmt: skip
    attributes = {"_ARRAY_DIMENSIONS": list(names), **(attributes or {})}
    return parse_array_v2(path, document, attributes, fill_declared=declared)


def array_v3(path, data_type, *, fill=0, attributes=None, shape=(4,), codecs=None):
    return parse_array_v3(
        path,
        {
            "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": fill,
            "codecs": codecs or [{"name": "bytes", "configuration": {"endian": "little"}}],
            "attributes": attributes or {}, "dimension_names": ["x"],
        },
    )  # fmt: skip


def hierarchy_of(*arrays, groups=(), attributes=None):
    found = {path: GroupMetadata(path) for path in groups}
    return Hierarchy(
        {"": GroupMetadata("", attributes or {}), **found}, {array.path: array for array in arrays}
    )


def body_of(documents, key):
    return json.loads(documents.get(key).body)


def store_of(documents, hierarchy, chunks=None):
    """A store of all documents, and of one raw chunk an array under its v2 and v3 keys."""
    held = {}
    for path in (*hierarchy.groups, *hierarchy.arrays):
        for name in documents.keys_in(path):
            key = f"{path}/{name}" if path else name
            held[key] = documents.get(key).body
    for path, data in (chunks or {}).items():
        ndim = len(hierarchy.arrays[path].shape)
        held[f"{path}/{'.'.join(['0'] * ndim) or '0'}"] = data
        held["/".join([path, "c", *["0"] * ndim])] = data
    return MemoryStore({key: cpu.Buffer.from_bytes(data) for key, data in held.items()})


FILLS = [
    # dtype, fill_value, _FillValue, whether fill_value counts as declared, values, which are missing
    ("<f4", 0.0, None, False, [0, 1, 2, 0], [False, False, False, False]),
    ("<f4", 0.0, None, True, [0, 1, 2, 0], [True, False, False, True]),
    ("<f4", 0.0, -9999.0, True, [0, 1, -9999, 0], [False, False, True, False]),
    ("<f4", "NaN", None, False, [0, np.nan, 2, 0], [False, True, False, False]),
    ("<f4", None, None, True, [0, 1, 2, 0], [False, False, False, False]),
    (">f8", "NaN", -1e30, True, [0, -1e30, 2, 0], [False, True, False, False]),
    ("<f8", 0.0, 0.1, True, [0, 0.1, 2, 0], [False, True, False, False]),
    ("<f4", 0.0, 9.969209968386869e36, True, [0, 9.969209968386869e36, 2, 0], [False, True, False, False]),
    ("<i2", 0, None, False, [0, 1, 2, 0], [False, False, False, False]),
    ("<i2", 0, -32767, True, [0, 1, -32767, 0], [False, False, True, False]),
    ("<u2", None, 65535, True, [0, 1, 65535, 0], [False, False, True, False]),
    ("|u1", 255, None, True, [0, 1, 255, 0], [False, False, True, False]),
    ("|i1", 7, None, False, [0, 7, -1, 0], [False, False, False, False]),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("case", FILLS)
def test_true_values_are_never_masked_and_declared_fill_always_is(case, zarr_format):
    dtype, fill, attribute, declared, values, missing = case
    attributes = {} if attribute is None else {"_FillValue": attribute}
    hierarchy = hierarchy_of(array_v2("v", dtype, fill=fill, attributes=attributes, declared=declared))
    raw = np.array(values, dtype)
    store = store_of(ZarrDocuments(hierarchy), hierarchy, {"v": raw.tobytes()})
    opened = xr.open_zarr(store, zarr_format=zarr_format, chunks=None).v
    np.testing.assert_array_equal(np.isnan(opened.astype("f8")), missing)
    kept = ~np.array(missing)
    np.testing.assert_array_equal(opened.values[kept], raw[kept])
    unmasked = xr.open_zarr(store, zarr_format=zarr_format, mask_and_scale=False, chunks=None).v
    np.testing.assert_array_equal(unmasked.values, raw)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("data_type", "attribute", "raw"), [("float32", "AAAAAICHw8A=", -9999), ("int16", -9999, -9999)]
)
def test_fill_of_arrays_stored_as_v3(data_type, attribute, raw, zarr_format):
    hierarchy = hierarchy_of(array_v3("v", data_type, attributes={"_FillValue": attribute, "units": "m"}))
    data = np.array([0, 1, raw, 0], data_type)
    store = store_of(ZarrDocuments(hierarchy), hierarchy, {"v": data.tobytes()})
    opened = xr.open_zarr(store, zarr_format=zarr_format, chunks=None).v
    np.testing.assert_array_equal(opened.values, [0, 1, np.nan, 0])
    assert opened.attrs == {"units": "m"}


def test_booleans_are_never_missing():
    hierarchy = hierarchy_of(array_v2("v", "|b1", fill=True))
    documents = ZarrDocuments(hierarchy)
    assert body_of(documents, "v/.zarray")["fill_value"] is None
    assert body_of(documents, "v/zarr.json")["fill_value"] is True
    assert hierarchy.arrays["v"].fill_value == True  # noqa: E712 - a NumPy boolean
    assert hierarchy.arrays["v"].declared_fill is None


def test_v2_documents_never_have_a_fill_attribute():
    documents = ZarrDocuments(hierarchy_of(array_v2("v", "<f4", attributes={"_FillValue": -9999.0})))
    assert body_of(documents, "v/.zarray")["fill_value"] == -9999.0
    assert body_of(documents, "v/.zattrs") == {"_ARRAY_DIMENSIONS": ["x"]}
    assert body_of(documents, "v/zarr.json")["fill_value"] == -9999.0
    assert body_of(documents, "v/zarr.json")["attributes"] == {"_FillValue": "AAAAAICHw8A="}


@pytest.mark.parametrize(
    ("dtype", "fill", "filters", "written"),
    [
        ("<f4", "NaN", None, "NaN"),
        ("<f8", "Infinity", None, "Infinity"),
        ("<f8", "-Infinity", None, "-Infinity"),
        ("<c8", [1.0, "NaN"], None, [1.0, "NaN"]),
        ("<u8", 2**64 - 1, None, 2**64 - 1),
        ("|S3", "YQAA", None, "YQAA"),
        ("<U3", "abc", None, "abc"),
        ("<M8[s]", -(2**63), None, -(2**63)),
        (">M8[s]", 86400, None, 86400),
        ("|O", "none", [{"id": "vlen-utf8"}], "none"),
    ],
)
def test_fill_values_as_json_in_both_formats(dtype, fill, filters, written):
    hierarchy = hierarchy_of(array_v2("v", dtype, fill=fill, filters=filters))
    documents = ZarrDocuments(hierarchy)
    assert body_of(documents, "v/.zarray")["fill_value"] == written
    assert body_of(documents, "v/zarr.json")["fill_value"] == written
    array = hierarchy.arrays["v"]
    expected = np.array(array.fill_value, array.dtype.newbyteorder("="))
    for zarr_format in (2, 3):
        read = zarr.open_array(store_of(documents, hierarchy), path="v", mode="r", zarr_format=zarr_format)
        np.testing.assert_array_equal(np.array(read.fill_value, expected.dtype), expected)


@pytest.mark.parametrize("dtype", ["|S3", "<U3", "<M8[s]", "|O"])
def test_xarray_opens_v3_arrays_whose_fill_it_could_not_decode(dtype):
    filters = [{"id": "vlen-utf8"}] if dtype == "|O" else None
    hierarchy = hierarchy_of(array_v2("v", dtype, fill=0 if dtype == "<M8[s]" else "YWJj", filters=filters))
    opened = xr.open_zarr(store_of(ZarrDocuments(hierarchy), hierarchy), zarr_format=3, chunks=None)
    assert opened.v.shape == (4,)


def nested_hierarchy():
    return hierarchy_of(
        array_v2("v", "<f4"),
        array_v2("a/x", "<f4"),
        array_v2("a/b/deep", "<f4", shape=(), names=()),
        array_v2("a-b/y", "<i2"),
        array_v2("a/z", "<f4"),
        groups=("a", "a/b", "a-b", "empty"),
        attributes={"title": "nested"},
    )


class CountingStore(MemoryStore):
    def __init__(self, held):
        super().__init__(held)
        self.asked = []

    async def get(self, key, *arguments, **keywords):
        self.asked.append(key)
        return await super().get(key, *arguments, **keywords)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_spares_all_other_documents(zarr_format):
    hierarchy = nested_hierarchy()
    store = CountingStore(store_of(ZarrDocuments(hierarchy), hierarchy)._store_dict)
    group = zarr.open_consolidated(store, zarr_format=zarr_format)
    store.asked.clear()
    members = dict(group.members(max_depth=None))
    assert sorted(members) == ["a", "a-b", "a-b/y", "a/b", "a/b/deep", "a/x", "a/z", "empty", "v"]
    assert group.attrs["title"] == "nested"
    assert store.asked == []


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_group_has_consolidated_metadata_of_its_own(zarr_format):
    hierarchy = nested_hierarchy()
    store = store_of(ZarrDocuments(hierarchy), hierarchy)
    opened = xr.open_zarr(store, group="a", zarr_format=zarr_format, consolidated=True, chunks=None)
    assert sorted(opened.variables) == ["x", "z"]
    tree = xr.open_datatree(store, engine="zarr", zarr_format=zarr_format, consolidated=True, chunks=None)
    assert sorted(tree.groups) == ["/", "/a", "/a-b", "/a/b", "/empty"]
    assert "deep" in tree["a/b"].dataset


def test_the_crs_is_written_for_gdal_beside_the_other_attributes():
    hierarchy = hierarchy_of(array_v2("v", "<f4", attributes={"grid_mapping": "crs"}), array_v2("w", "<f4"))
    documents = ZarrDocuments(hierarchy, {"v": 'PROJCS["x"]'})
    for key, inside in (("v/.zattrs", lambda d: d), ("v/zarr.json", lambda d: d["attributes"])):
        attributes = inside(body_of(documents, key))
        assert attributes["_CRS"] == {"wkt": 'PROJCS["x"]'}
        assert attributes["grid_mapping"] == "crs"
    assert "_CRS" not in body_of(documents, "w/.zattrs")
    assert body_of(documents, ".zmetadata")["metadata"]["v/.zattrs"]["_CRS"] == {"wkt": 'PROJCS["x"]'}


def test_nan_in_attributes_is_bare():
    documents = ZarrDocuments(hierarchy_of(array_v2("v", "<f4", attributes={"valid_min": float("nan")})))
    assert b'"valid_min": NaN' in documents.get("v/.zattrs").body
    assert b'"valid_min": NaN' in documents.get("zarr.json").body


def test_texts_that_are_no_unicode_are_sent_with_a_mark_in_their_place():
    odd = {"units": "\udcb0C", "k\ud800": ["a", {"b": "\udce9"}], "valid_min": 1}
    hierarchy = hierarchy_of(array_v2("v", "<f4", attributes=odd))
    hierarchy = replace(hierarchy, groups={"": GroupMetadata("", odd)})
    documents = ZarrDocuments(hierarchy)
    said = {"units": "\ufffdC", "k\ufffd": ["a", {"b": "\ufffd"}], "valid_min": 1}
    for key in ("v/.zattrs", ".zattrs", "v/zarr.json", "zarr.json"):
        body = body_of(documents, key)
        attributes = body.get("attributes", body)
        assert {name: attributes[name] for name in said} == said


def test_arrays_without_a_form_are_left_out_with_the_reason():
    inner = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    structured = array_v2("table", [["a", "<i4"], ["b", "|S2"]], fill="AAAAAAAA")
    documents = ZarrDocuments(hierarchy_of(array_v3("sharded", "float32", codecs=[inner]), structured))
    assert documents.get("sharded/.zarray") is None
    assert documents.get("sharded/.zattrs") is None
    assert documents.get("table/zarr.json") is None
    assert set(body_of(documents, ".zmetadata")["metadata"]) == {
        ".zgroup",
        ".zattrs",
        "table/.zarray",
        "table/.zattrs",
    }
    assert set(body_of(documents, "zarr.json")["consolidated_metadata"]["metadata"]) == {"sharded"}
    assert "sharded" in documents.reasons["sharded", 2]
    assert "structured" in documents.reasons["table", 3] or "data type" in documents.reasons["table", 3]
    assert documents.keys_in("sharded") == ["zarr.json"]
    assert documents.keys_in("table") == [".zarray", ".zattrs"]
    assert documents.keys_in("") == [".zattrs", ".zgroup", ".zmetadata", "zarr.json"]


def test_plain_documents_have_no_filters_in_either_format():
    inner = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2],
            "codecs": [{"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    arrays = (
        array_v2("v", ">f4", filters=[{"id": "shuffle", "elementsize": 4}, {"id": "zlib", "level": 1}]),
        array_v2("s", "|O", filters=[{"id": "vlen-utf8"}, {"id": "zlib", "level": 1}]),
        array_v3("sharded", "string", fill="", codecs=[inner]),
    )
    documents = ZarrDocuments(plain_hierarchy(hierarchy_of(*arrays)))
    assert documents.reasons == {}
    for path, filters, codecs in (
        ("v", None, [{"name": "bytes", "configuration": {"endian": "big"}}]),
        ("s", [{"id": "vlen-utf8"}], [{"name": "vlen-utf8"}]),
        ("sharded", [{"id": "vlen-utf8"}], [{"name": "vlen-utf8"}]),
    ):
        assert body_of(documents, f"{path}/.zarray")["filters"] == filters
        assert body_of(documents, f"{path}/.zarray")["compressor"] is None
        assert body_of(documents, f"{path}/zarr.json")["codecs"] == codecs


def test_the_etag_is_of_the_content():
    first = ZarrDocuments(hierarchy_of(array_v2("v", "<f4")))
    again = ZarrDocuments(hierarchy_of(array_v2("v", "<f4")))
    other = ZarrDocuments(hierarchy_of(array_v2("v", "<f8")))
    assert first.get(".zmetadata").etag == again.get(".zmetadata").etag != other.get(".zmetadata").etag
    assert first.get(".zgroup").etag == other.get(".zgroup").etag
    assert first.get("nothing") is None
