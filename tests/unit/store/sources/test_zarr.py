from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
import zarr

from cubegate.errors import (
    InvalidMetadata,
    InvalidReference,
    UpstreamObjectMissing,
    UpstreamUnavailable,
)
from cubegate.store.sources.zarr import open_zarr_store

RANDOM = np.random.default_rng(2)


def write_store(folder, zarr_format):
    """A hierarchy with both separators, partial chunks, a gap, a space in a name and a scalar."""
    root = zarr.open_group(folder, mode="w", zarr_format=zarr_format, attributes={"title": "a cube"})
    inner = root.create_group("deep/deeper", attributes={"level": 2})
    for group, name, separator in ((root, "dotted", "."), (root, "slashed", "/"), (inner, "a name", "/")):
        encoding = {
            "name": "v2" if zarr_format == 2 or separator == "." else "default",
            "separator": separator,
        }
        array = group.create_array(
            name,
            shape=(7, 9),
            chunks=(3, 4),
            dtype="f4",
            fill_value=np.nan,
            chunk_key_encoding=encoding,
            attributes={"units": "m"},
        )
        array[:6] = RANDOM.random((6, 9), dtype="f4")
    root.create_array("scalar", shape=(), dtype="i4")[...] = 42
    root.create_array("scalar_v2_key", shape=(), dtype="i4", chunk_key_encoding={"name": "v2"})[...] = 43
    if zarr_format == 3:
        array = root.create_array(
            "sharded", shape=(16, 16), shards=(8, 8), chunks=(2, 4), dtype="<i2", fill_value=-1
        )
        array[:8] = RANDOM.integers(0, 99, (8, 16))
    return root


def consolidate(folder, zarr_format, path=None):
    with warnings.catch_warnings():
        # zarr-python warns that v3 has no standard for it yet
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(folder, path=path, zarr_format=zarr_format)


def rooted(folder, zarr_format):
    return zarr.open_group(folder, mode="r", zarr_format=zarr_format, use_consolidated=False)


def arrays_of(group, prefix=""):
    found = {}
    for name, member in group.members(max_depth=None):
        if isinstance(member, zarr.Array):
            found[prefix + name] = member
    return found


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
async def test_values_equal_those_of_zarr_python(tmp_path, source, read_array, zarr_format, consolidated):
    folder = tmp_path / "my store.zarr"
    write_store(folder, zarr_format)
    if consolidated:
        consolidate(folder, zarr_format)

    store = await open_zarr_store(folder.as_uri(), source)

    expected = arrays_of(rooted(folder, zarr_format))
    assert store.hierarchy.arrays.keys() == expected.keys()
    assert len(expected) == (6 if zarr_format == 3 else 5)
    assert store.hierarchy.skipped == {}
    assert store.hierarchy.groups.keys() == {"", "deep", "deep/deeper"}
    assert store.hierarchy.groups[""].attributes == {"title": "a cube"}
    assert store.hierarchy.groups["deep/deeper"].attributes == {"level": 2}
    assert store.hierarchy.arrays["dotted"].attributes == {"units": "m"}
    assert not store.immutable
    for path, array in expected.items():
        np.testing.assert_array_equal(await read_array(store, path), array[...], strict=True)
    assert consolidated != any(
        url.endswith(("a%20name/zarr.json", "a%20name/.zarray")) for url in source.read
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_encoded_chunks_are_the_bytes_on_disk(tmp_path, source, zarr_format):
    folder = tmp_path / "store.zarr"
    write_store(folder, zarr_format)
    store = await open_zarr_store(folder.as_uri() + "/", source)
    slashed = "{}/{}" if zarr_format == 2 else "c/{}/{}"
    keys = {
        "dotted": "{}.{}",
        "slashed": slashed,
        "deep/deeper/a name": slashed,
        "sharded": "c/{}/{}",
        "scalar": "0" if zarr_format == 2 else "c",
        "scalar_v2_key": "0",
    }
    compared = missing = 0
    for path, array in store.hierarchy.arrays.items():
        for chunk in itertools.product(*map(range, array.chunk_grid)):
            file = folder / path / keys[path].format(*chunk)
            data = await store.get(array, chunk)
            assert data == (file.read_bytes() if file.exists() else None)
            compared, missing = compared + (data is not None), missing + (data is None)
    assert missing == 3 * 3 + (2 if zarr_format == 3 else 0)
    assert compared == 3 * 6 + 2 + (2 if zarr_format == 3 else 0)


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_plain_http_needs_consolidated_metadata(tmp_path, source, http_url, read_array, zarr_format):
    folder = tmp_path / "my store.zarr"
    write_store(folder, zarr_format)
    url = f"{http_url}/my%20store.zarr"
    with pytest.raises(InvalidReference, match="consolidate_metadata"):
        await open_zarr_store(url, source)
    consolidate(folder, zarr_format)

    store = await open_zarr_store(url, source)

    expected = arrays_of(rooted(folder, zarr_format))
    assert store.hierarchy.arrays.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(await read_array(store, path), array[...], strict=True)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
async def test_a_group_can_be_the_root(tmp_path, source, read_array, zarr_format, consolidated):
    folder = tmp_path / "store.zarr"
    root = write_store(folder, zarr_format)
    if consolidated:
        consolidate(folder, zarr_format)

    store = await open_zarr_store(folder.as_uri(), source, group="/deep/deeper/")

    assert store.hierarchy.arrays.keys() == {"a name"}
    assert store.hierarchy.groups[""].attributes == {"level": 2}
    np.testing.assert_array_equal(
        await read_array(store, "a name"), root["deep/deeper/a name"][...], strict=True
    )
    with pytest.raises(InvalidReference):
        await open_zarr_store(folder.as_uri(), source, group="nowhere")
    with pytest.raises(InvalidReference, match="is an array"):
        await open_zarr_store(folder.as_uri(), source, group="scalar")
    with pytest.raises(InvalidReference):
        await open_zarr_store(folder.as_uri(), source, group="deep/../deep")


async def test_a_group_with_consolidated_metadata_of_its_own(tmp_path, source):
    folder = tmp_path / "store.zarr"
    write_store(folder, 3)
    consolidate(folder, 3, "deep")
    store = await open_zarr_store(folder.as_uri(), source, group="deep")
    assert store.hierarchy.arrays.keys() == {"deeper/a name"}
    assert not any(url.endswith(("a%20name/zarr.json", "a%20name/.zarray")) for url in source.read)
    whole = await open_zarr_store(folder.as_uri(), source)
    assert "deep/deeper/a name" in whole.hierarchy.arrays


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_an_array_as_the_whole_store(tmp_path, source, http_url, read_array, zarr_format):
    values = RANDOM.random((5, 4))
    array = zarr.create_array(
        tmp_path / "one array", shape=(5, 4), chunks=(2, 3), dtype="f8", zarr_format=zarr_format
    )
    array[...] = values
    array.attrs["units"] = "K"
    for url in ((tmp_path / "one array").as_uri(), f"{http_url}/one%20array"):
        store = await open_zarr_store(url, source)
        assert store.hierarchy.arrays.keys() == {"one array"}
        assert store.array("one array").attributes == {"units": "K"}
        np.testing.assert_array_equal(await read_array(store, "one array"), values, strict=True)


async def test_v3_wins_where_both_formats_are_written(tmp_path, source):
    write_store(tmp_path / "store.zarr", 3)
    root = zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=2)
    root.create_array("old", shape=(2,), dtype="i4")
    for document in (tmp_path / "other.zarr").rglob(".z*"):
        target = tmp_path / "store.zarr" / document.relative_to(tmp_path / "other.zarr")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(document.read_bytes())
    store = await open_zarr_store((tmp_path / "store.zarr").as_uri(), source)
    assert "old" not in store.hierarchy.arrays
    assert {array.zarr_format for array in store.hierarchy.arrays.values()} == {3}


async def test_v2_without_a_dimension_separator_uses_dots(tmp_path, source):
    folder = tmp_path / "store.zarr"
    write_store(folder, 2)
    document = json.loads((folder / "dotted/.zarray").read_text())
    assert document.pop("dimension_separator") == "."
    (folder / "dotted/.zarray").write_text(json.dumps(document))
    store = await open_zarr_store(folder.as_uri(), source)
    assert await store.get(store.array("dotted"), (1, 2)) == (folder / "dotted/1.2").read_bytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_failing_document_is_an_error_and_not_an_absent_array(tmp_path, source, zarr_format):
    folder = tmp_path / "store.zarr"
    write_store(folder, zarr_format)
    url = folder.as_uri()
    for key in (".zmetadata", "zarr.json", "slashed/zarr.json" if zarr_format == 3 else "slashed/.zattrs"):
        source.broken = {f"{url}/{key}"}
        with pytest.raises(UpstreamUnavailable):
            await open_zarr_store(url, source)


async def test_a_failing_chunk_is_never_fill_and_a_missing_one_only_where_allowed(tmp_path, source):
    folder = tmp_path / "store.zarr"
    write_store(folder, 3)
    url = folder.as_uri()
    store = await open_zarr_store(url, source)
    strict = await open_zarr_store(url, source, missing="error")
    array = store.array("dotted")
    assert await store.get(array, (2, 0)) is None
    with pytest.raises(UpstreamObjectMissing):
        await strict.get(array, (2, 0))
    source.broken = {f"{url}/dotted/0.1"}
    with pytest.raises(UpstreamUnavailable):
        await store.get(array, (0, 1))


async def test_what_cannot_be_served_is_skipped_with_its_reason(tmp_path, source):
    folder = tmp_path / "store.zarr"
    write_store(folder, 2)

    def change(name, **entries):
        target = folder / name / ".zarray"
        target.parent.mkdir()
        document = json.loads((folder / "dotted/.zarray").read_text())
        target.write_text(json.dumps({**document, **entries}))

    change("pickled", filters=[{"id": "pickle"}])
    change("short", shape=[3])
    change("colons", dimension_separator=":")
    (folder / "broken").mkdir()
    (folder / "broken/.zarray").write_text("<html>")
    store = await open_zarr_store(folder.as_uri(), source)
    assert store.hierarchy.skipped.keys() == {"pickled", "short", "colons", "broken"}
    assert "pickle" in store.hierarchy.skipped["pickled"]
    assert "JSON" in store.hierarchy.skipped["broken"]
    assert "dotted" in store.hierarchy.arrays


async def test_a_v3_array_that_cannot_be_served_is_skipped(tmp_path, source):
    folder = tmp_path / "store.zarr"
    write_store(folder, 3)
    document = json.loads((folder / "dotted/zarr.json").read_text())
    changes = {
        "codec": {"codecs": [{"name": "mystery"}]},
        "grid": {"chunk_grid": {"name": "spiral", "configuration": {}}},
        "keys": {"chunk_key_encoding": {"name": "hashed"}},
        "kind": {"node_type": "table"},
        "type": {"data_type": "float5"},
    }
    for name, change in changes.items():
        (folder / name).mkdir()
        (folder / name / "zarr.json").write_text(json.dumps({**document, **change}))
    (folder / "broken").mkdir()
    (folder / "broken/zarr.json").write_text("[")
    store = await open_zarr_store(folder.as_uri(), source)
    assert store.hierarchy.skipped.keys() == {*changes, "broken"}
    assert "mystery" in store.hierarchy.skipped["codec"]


async def test_the_version_follows_metadata_and_address(tmp_path, source):
    for name in ("one.zarr", "two.zarr"):
        write_store(tmp_path / name, 3)
    one = await open_zarr_store((tmp_path / "one.zarr").as_uri(), source)
    assert len(one.version) == 16
    assert int(one.version, 16)
    again = await open_zarr_store((tmp_path / "one.zarr").as_uri() + "/", source)
    assert again.version == one.version
    two = await open_zarr_store((tmp_path / "two.zarr").as_uri(), source)
    assert two.version != one.version
    inner = await open_zarr_store((tmp_path / "one.zarr").as_uri(), source, group="deep")
    assert inner.version != one.version
    zarr.open_group(tmp_path / "one.zarr", mode="r+")["dotted"].attrs["units"] = "km"
    changed = await open_zarr_store((tmp_path / "one.zarr").as_uri(), source)
    assert changed.version != one.version


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/srv/store.zarr", "starts with file://"),
        ("ftp://host/store.zarr", "starts with file://"),
        ("https://host/store.zarr?signature=x", "no user name, query"),
        ("https://name@host/store.zarr", "no user name, query"),
        ("s3://bucket/store.zarr.zip", "ZIP"),
    ],
)
async def test_addresses_that_are_no_stores(source, url, reason):
    with pytest.raises(InvalidReference, match=reason):
        await open_zarr_store(url, source)
    assert source.read == []


async def test_an_address_without_a_store(tmp_path, source, http_url):
    for url in (tmp_path.as_uri(), (tmp_path / "nowhere").as_uri(), http_url):
        with pytest.raises(InvalidReference, match="no Zarr array or group"):
            await open_zarr_store(url, source)


@pytest.mark.parametrize("key", ["../outside/.zarray", "a//b/.zarray", "/a/.zarray"])
async def test_consolidated_metadata_cannot_lead_out_of_the_store(tmp_path, source, key):
    write_store(tmp_path / "store.zarr", 2)
    document = json.loads((tmp_path / "store.zarr/dotted/.zarray").read_text())
    consolidated = {"zarr_consolidated_format": 1, "metadata": {".zgroup": {"zarr_format": 2}, key: document}}
    (tmp_path / "store.zarr/.zmetadata").write_text(json.dumps(consolidated))
    with pytest.raises(InvalidMetadata, match="not a path"):
        await open_zarr_store((tmp_path / "store.zarr").as_uri(), source)


@pytest.mark.parametrize(
    "consolidated", [{"kind": "elsewhere", "metadata": {}}, {"metadata": []}, [], {"kind": "inline"}]
)
async def test_consolidated_metadata_of_another_kind_is_refused(tmp_path, source, consolidated):
    write_store(tmp_path / "store.zarr", 3)
    document = json.loads((tmp_path / "store.zarr/zarr.json").read_text())
    (tmp_path / "store.zarr/zarr.json").write_text(
        json.dumps({**document, "consolidated_metadata": consolidated})
    )
    with pytest.raises(InvalidMetadata):
        await open_zarr_store((tmp_path / "store.zarr").as_uri(), source)


REAL_STORES = [
    *(f"zarr/zarrita_js/{name}" for name in ("v2/data.zarr", "v3/data.zarr", "v3/data.zarr/consolidated")),
    *(f"cfdm/example_field_0.zarr{number}" for number in (2, 3)),
    *(
        f"titiler_xarray/{name}.zarr"
        for name in ("dataset_3d", "pyramid", "zarr_5d", "zarr_invalid_coord", "zarr_invalid_coord_name")
    ),
]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize("name", REAL_STORES)
async def test_real_stores(shared_data, source, read_array, name):
    folder = shared_data / name
    store = await open_zarr_store(folder.as_uri(), source)
    assert store.hierarchy.skipped == {}
    assert store.hierarchy.arrays
    for path, array in store.hierarchy.arrays.items():
        values = await read_array(store, path)
        expected = _real_values(folder, array)
        if values.dtype.hasobject:
            assert values.tolist() == expected.tolist()
        else:
            np.testing.assert_array_equal(values, expected)
            assert values.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")


def _real_values(folder, array):
    if array.zarr_format == 3:
        return np.asarray(zarr.open_group(folder, mode="r", zarr_format=3)[array.path][...])
    if any(codec["id"] == "json2" for codec in array.codecs.filters):
        # zarr-python 3 has no data type for json2, whose chunks are JSON lists that end in dtype and shape
        blocks = [json.loads((folder / array.path / str(i)).read_bytes()) for i in range(array.chunk_count)]
        values = [value for block in blocks for value in block[:-2]]
        return np.array(values, dtype=object)[: array.shape[0]]
    return np.asarray(zarr.open_array(folder / array.path, mode="r", zarr_format=2)[...])
