from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.source import ChunkReference
from cubegate.errors import InvalidReference, UpstreamObjectMissing, UpstreamRefused
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.builders.kerchunk_parquet import build_from_kerchunk_parquet
from cubegate.index.location import Inlined, Stored, Unallocated

DOCUMENT = {"zarr_format": 2, "shape": [4, 6], "chunks": [1, 2], "dtype": "<f4", "fill_value": None}


@pytest.fixture
def build(local_source, allow_all):
    async def build(folder, **options):
        return await build_from_kerchunk_parquet(
            local_source, folder.as_uri(), **({"check_url": allow_all} | options)
        )

    return build


def hand_written(folder, columns, record_size=12, document=DOCUMENT):
    (folder / "v").mkdir(parents=True)
    metadata = {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": document,
        "v/.zattrs": {"_ARRAY_DIMENSIONS": ["y", "x"]},
    }
    (folder / ".zmetadata").write_text(json.dumps({"metadata": metadata, "record_size": record_size}))
    pq.write_table(pa.table(columns), folder / "v" / "refs.0.parq")
    return folder


def columns(rows=12, **changes):
    whole = {
        "path": pa.array([f"s3://data/{row}" for row in range(rows)]),
        "offset": pa.array(range(rows), pa.int64()),
        "size": pa.array([9] * rows, pa.int64()),
        "raw": pa.nulls(rows, pa.binary()),
    }
    return {name: column for name, column in (whole | changes).items() if column is not None}


@pytest.fixture
def inlined_references(granule, scan_hdf5):
    return scan_hdf5(granule, inline=100)


@pytest.mark.parametrize("record_size", [1, 7, 1000])
async def test_what_kerchunk_writes_is_what_fsspec_reads(
    inlined_references, write_parquet, build, compare_with_fsspec, record_size
):
    references = inlined_references
    missing = {"spatial_ref", "partial"}
    folder = write_parquet(references, record_size)
    index = await build(folder, allow_missing_partitions=missing)
    assert compare_with_fsspec(index, references) == 60
    assert index.counts("partial").unallocated == 8
    assert isinstance(index.locate(index.hierarchy.arrays["name"], [(0,)])[0], Inlined)


async def test_json_and_parquet_give_the_same_index(combined, write_parquet, build, allow_all):
    folder = write_parquet(combined, 50)
    from_parquet = await build(folder, allow_missing_partitions=["spatial_ref", "partial"])
    data = json.dumps(combined).encode()
    from_json = build_from_kerchunk_json(data, base_url=folder.as_uri(), check_url=allow_all)
    assert from_parquet.version == from_json.version
    assert from_parquet.hierarchy == from_json.hierarchy
    assert len(from_json.hierarchy.arrays) >= 8


async def test_a_group_can_be_the_root(granule, scan_hdf5, write_parquet, build, compare_with_fsspec):
    references = scan_hdf5(granule)
    index = await build(write_parquet(references), group="quality")
    assert set(index.hierarchy.arrays) == {"inner/flag"}
    assert compare_with_fsspec(index, references, group="quality") == 4


async def test_forms_of_rows(tmp_path, build):
    path = pa.array(["a.nc", "s3://data/b", None, None, None] + ["s3://data/b"] * 7).dictionary_encode()
    raw = pa.array([None, None, b"plain", b"base64:AAEC", None] + [None] * 7, pa.binary())
    offset, size = pa.array([0, 3] + [0] * 3 + [1] * 7), pa.array([0, 9] + [0] * 3 + [2] * 7)
    folder = hand_written(tmp_path / "r.parq", columns(path=path, raw=raw, offset=offset, size=size))
    index = await build(folder)
    found = index.locate(index.hierarchy.arrays["v"], [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (3, 2)])
    assert found == [
        Stored(ChunkReference((tmp_path / "a.nc").as_uri())),
        Stored(ChunkReference("s3://data/b", 3, 9)),
        Inlined(b"plain"),
        Inlined(b"\0\1\2"),
        Unallocated(),
        Stored(ChunkReference("s3://data/b", 1, 2)),
    ]


async def test_columns_that_hold_nothing_may_be_absent(tmp_path, build):
    index = await build(hand_written(tmp_path / "a.parq", columns(raw=None)))
    assert index.counts("v").stored == 12
    raw = pa.array([b"abcd"] * 12)
    for number, path in enumerate([None, pa.array([float("nan")] * 12), pa.nulls(12)]):
        only_raw = columns(path=path, raw=raw, offset=None, size=None)
        index = await build(hand_written(tmp_path / f"b{number}.parq", only_raw))
        assert index.counts("v").inlined == 12


async def test_the_last_partition_may_be_shorter_or_padded(tmp_path, build):
    padded = columns(20, path=pa.array([f"s3://data/{row}" for row in range(12)] + [None] * 8))
    for number, table in enumerate([columns(), padded]):
        index = await build(hand_written(tmp_path / f"{number}.parq", table, record_size=20))
        assert index.counts("v").stored == 12


async def test_a_missing_partition_is_an_error_unless_allowed(
    granule, scan_hdf5, write_parquet, build, tmp_path
):
    folder = write_parquet(scan_hdf5(granule), 5)
    partitions = sorted((folder / "shuffled").iterdir())
    assert len(partitions) == 3
    partitions[1].unlink()
    allowed = {"spatial_ref", "partial"}
    with pytest.raises(InvalidReference, match="partition 1 of array 'shuffled'"):
        await build(folder, allow_missing_partitions=allowed)
    index = await build(folder, allow_missing_partitions={*allowed, "shuffled"})
    assert index.counts("shuffled").unallocated == 5
    shutil.rmtree(folder / "shuffled")
    index = await build(folder, allow_missing_partitions={*allowed, "shuffled"})
    assert index.counts("shuffled").unallocated == 12


async def test_a_store_that_is_not_there_is_an_upstream_error(tmp_path, build):
    with pytest.raises(UpstreamObjectMissing):
        await build(tmp_path / "lost.parq")


async def test_cut_and_replaced_partitions_are_refused(tmp_path, build):
    folder = hand_written(tmp_path / "r.parq", columns())
    partition = folder / "v" / "refs.0.parq"
    whole = partition.read_bytes()
    for content in [b"", b"<html>Log in</html>", whole[:-1], whole[: len(whole) // 2], whole[:8]]:
        partition.write_bytes(content)
        with pytest.raises(InvalidReference, match="partition 0 of array 'v'"):
            await build(folder, allow_missing_partitions=["v"])


@pytest.mark.parametrize("other", ["declared/refs.1.parq", "shuffled/refs.0.parq"])
async def test_the_partition_of_another_array_or_place_is_refused(
    granule, scan_hdf5, write_parquet, build, other
):
    folder = write_parquet(scan_hdf5(granule), 6)
    allowed = {"spatial_ref", "partial"}
    await build(folder, allow_missing_partitions=allowed)
    (folder / "shuffled" / "refs.1.parq").write_bytes((folder / other).read_bytes())
    with pytest.raises(InvalidReference, match=r"partition \d of array '\w+' is the same file as partition"):
        await build(folder, allow_missing_partitions=allowed)


async def test_equal_partitions_of_inlined_chunks_are_what_they_are(tmp_path, build):
    raw = columns(path=pa.nulls(12, pa.string()), raw=pa.array([b"abcd"] * 12))
    folder = hand_written(tmp_path / "r.parq", raw)
    metadata = json.loads((folder / ".zmetadata").read_text())
    metadata["metadata"]["w/.zarray"] = metadata["metadata"]["v/.zarray"]
    (folder / ".zmetadata").write_text(json.dumps(metadata))
    shutil.copytree(folder / "v", folder / "w")
    assert (await build(folder)).counts("w").inlined == 12


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (columns(11), "11 rows instead of 12"),
        (columns(13), "record size"),
        (columns(offset=pa.array([-1] * 12)), "impossible byte range"),
        (columns(size=pa.array([-1] * 12)), "impossible byte range"),
        (columns(size=pa.array([2**32 - 1] * 12)), "impossible byte range"),
        (columns(size=pa.array([0] * 12)), "impossible byte range"),
        (columns(offset=pa.array([2**63] * 12, pa.uint64())), "impossible byte range"),
        (columns(size=pa.array([9.0] * 12)), "whole numbers"),
        (columns(size=pa.array([None] * 12, pa.int64())), "whole numbers"),
        (columns(path=pa.array([1] * 12)), "not text"),
        (columns(path=pa.array([["s3://data/a"]] * 12)), "not text"),
        (columns(path=pa.array([b"\xff"] * 12)), "not text"),
        (columns(path=pa.array(["{{u}}/a"] * 12)), "template"),
        (columns(path=pa.array(["s3://a/../b"] * 12)), "climbs"),
        (columns(raw=pa.array([1] * 12)), "not bytes"),
        (columns(raw=pa.array([b"base64:*"] * 12), path=pa.nulls(12, pa.string())), "base64"),
    ],
)
async def test_hostile_partitions_are_refused(tmp_path, build, table, match):
    folder = hand_written(tmp_path / "r.parq", table)
    with pytest.raises(InvalidReference, match=match):
        await build(folder)


async def test_references_beyond_the_chunk_grid_are_refused(tmp_path, build):
    folder = hand_written(tmp_path / "r.parq", columns(20), record_size=20)
    with pytest.raises(InvalidReference, match="beyond the chunk grid"):
        await build(folder)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "record_size"),
        ('{"metadata": {}, "record_size": 0}', "record_size"),
        ('{"metadata": {}, "record_size": true}', "record_size"),
        ('{"metadata": {}, "record_size": 1e3}', "record_size"),
        ('{"metadata": {}, "record_size": 99999999999}', "record_size"),
        ('{"metadata": {}, "record_size": 10}', "no Zarr metadata"),
        ('{"metadata": {"../v/.zarray": {}}, "record_size": 10}', "not a Zarr key"),
    ],
)
async def test_malformed_metadata_are_refused(tmp_path, build, text, match):
    (tmp_path / ".zmetadata").write_text(text)
    with pytest.raises(InvalidReference, match=match):
        await build(tmp_path)


async def test_every_url_is_checked(tmp_path, build):
    seen = []
    folder = hand_written(tmp_path / "r.parq", columns())
    index = await build(folder, check_url=seen.append)
    assert sorted(seen) == list(index.urls)
    assert len(seen) == 12

    def refuse(url):
        raise UpstreamRefused("no")

    with pytest.raises(UpstreamRefused):
        await build(folder, check_url=refuse)


async def test_the_real_parquet_set(virtual_data, allow_all):
    folder = virtual_data / "kerchunk_cookbook" / "foundations" / "combined.parq"
    source = LocalFiles(parse_address(virtual_data.resolve().as_uri()))
    index = await build_from_kerchunk_parquet(source, folder.resolve().as_uri(), check_url=allow_all)
    assert len(index.hierarchy.arrays) == 11
    for path, array in index.hierarchy.arrays.items():
        table = pq.read_table(folder / path / "refs.0.parq").to_pandas()
        for number in range(array.chunk_count):
            chunk = tuple(map(int, np.unravel_index(number, array.chunk_grid))) if array.shape else ()
            found = index.locate(array, [chunk])[0]
            row = table.iloc[number]
            if row.raw is not None:
                assert found == Inlined(row.raw)
            else:
                assert found == Stored(ChunkReference(row.path, row.offset, row["size"]))
