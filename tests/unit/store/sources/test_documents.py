from __future__ import annotations

import copy

import pytest

from cubegate.errors import InvalidMetadata
from cubegate.store.sources.documents import build_hierarchy

V2 = {
    "zarr_format": 2,
    "shape": [4, 5],
    "chunks": [2, 3],
    "dtype": "<f4",
    "fill_value": "NaN",
    "order": "C",
    "filters": [{"id": "delta", "dtype": "<f4"}],
    "compressor": {"id": "zlib", "level": 1},
    "dimension_separator": ".",
}
V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 5],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": "NaN",
    "codecs": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
    ],
    "attributes": {"units": "m", "_FillValue": "AAAAAAAA+H8="},
    "dimension_names": ["y", "x"],
}
ROOT = {
    ".zarray": {".zgroup": {"zarr_format": 2}},
    "zarr.json": {"zarr.json": {"zarr_format": 3, "node_type": "group"}},
}
JUNK = [
    None,
    1,
    -1,
    1e400,
    True,
    "x",
    [],
    {},
    [1],
    [None],
    [[1]],
    {"name": "x"},
    [{"name": None}],
    {"configuration": []},
]


def places(document, place=()):
    if place:
        yield place
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))
        else:
            yield (*place, key)


def changed(document, place, value):
    document = copy.deepcopy(document)
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return document


@pytest.mark.parametrize(("name", "document"), [(".zarray", V2), ("zarr.json", V3)])
def test_a_malformed_array_is_served_or_skipped_and_hides_no_other(name, document):
    assert build_hierarchy({**ROOT[name], f"a/{name}": document}).arrays.keys() == {"a"}
    skipped = 0
    for place in places(document):
        for junk in JUNK:
            documents = {**ROOT[name], f"a/{name}": changed(document, place, junk), f"b/{name}": document}
            hierarchy = build_hierarchy(documents)
            assert hierarchy.arrays.keys() | hierarchy.skipped.keys() == {"a", "b"}
            assert "b" in hierarchy.arrays
            skipped += len(hierarchy.skipped)
    assert skipped > 100


@pytest.mark.parametrize("name", [".zarray", "zarr.json"])
@pytest.mark.parametrize("document", [None, [], "text", {}, {"zarr_format": 4}])
def test_a_document_of_another_kind_is_skipped(name, document):
    hierarchy = build_hierarchy({**ROOT[name], f"deep/a/{name}": document})
    assert hierarchy.skipped.keys() == {"deep/a"}
    assert hierarchy.arrays == {}


@pytest.mark.parametrize(
    "documents", [{"zarr.json": None}, {".zgroup": []}, {".zgroup": {"zarr_format": 2}, ".zattrs": 1}]
)
def test_a_malformed_root_is_an_error(documents):
    with pytest.raises(InvalidMetadata):
        build_hierarchy(documents)
