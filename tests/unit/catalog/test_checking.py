"""What `cubegate check` reads and says."""

import io
import json

import numpy as np
import pytest
import zarr
from rich.console import Console

from cubegate.catalog.checking import check_cube, sample_chunks
from cubegate.errors import UpstreamDenied
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.store.encoded import EncodedStore

KERCHUNK = "source: {kind: kerchunk, href: ../stack/stack.json}"


def array(shape, chunks):
    document = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "<i4", "fill_value": 0,
                "order": "C", "filters": None, "compressor": None}  # fmt: skip
    return parse_array_v2("v", document, {})


async def check(catalog, samples=4, name="cube"):
    console = Console(file=io.StringIO(), width=80)
    failures = await check_cube(catalog, name, samples, console)
    return failures, console.file.getvalue().splitlines()


def test_samples_are_spread_from_the_first_to_the_last():
    assert sample_chunks(array([10, 10], [3, 5]), 3) == [(0, 0), (1, 1), (3, 1)]
    assert sample_chunks(array([10, 10], [3, 5]), 1) == [(0, 0)]
    assert sample_chunks(array([10, 10], [5, 5]), 99) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sample_chunks(array([], []), 4) == [()]
    assert sample_chunks(array([0, 4], [1, 4]), 4) == []


def test_written_chunks_are_sampled_first():
    grid = array([100], [1])
    written = np.array([[40], [41], [90]])
    assert sample_chunks(grid, 2, written) == [(40,), (90,)]
    assert sample_chunks(grid, 3, written) == [(40,), (41,), (90,)]
    assert sample_chunks(grid, 5, written) == [(40,), (41,), (90,), (0,), (24,)]
    assert sample_chunks(grid, 2, np.zeros((0, 1), np.int64)) == [(0,), (99,)]
    for samples in range(1, 120):
        picked = sample_chunks(grid, samples, written)
        assert len(picked) == len(set(picked)) <= samples
        assert {(40,), (41,), (90,)} <= set(picked) or samples < 3


async def test_every_value_inside_the_arrays_is_counted(opened, stack):
    failures, lines = await check(opened(cube=KERCHUNK), samples=100)
    values = 2 * 3 * 20 * 24 + 3 + 20 + 24 + 1
    assert failures == 0
    assert lines == [f"cube: {2 * 27 + 1 + 1 + 1 + 1} chunks of 6 arrays read, {values:,} values: ok"]


async def test_what_was_never_written_is_said(opened, stack):
    references = json.loads(stack.references.read_text())
    kept = {
        k: v
        for k, v in references["refs"].items()
        if not (k.startswith("coherence/") and "/.z" not in k and k != "coherence/2.2.2")
    }
    stack.references.write_text(json.dumps({**references, "refs": kept}))
    catalog = opened(cube=KERCHUNK)
    failures, lines = await check(catalog, samples=1)
    assert (failures, len(lines)) == (0, 1)
    assert "never written" not in lines[0]
    failures, lines = await check(catalog, samples=3)
    assert failures == 0
    assert "(2 never written: fill)" in lines[-1]


async def test_an_array_of_nothing_but_fill_is_noted(opened, tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.create_array("never", shape=(8,), chunks=(2,), dtype="f4", dimension_names=["n"])
    root.create_array("partly", shape=(8,), chunks=(2,), dtype="f4", dimension_names=["n"])[:2] = 1
    failures, lines = await check(opened(cube="source: {kind: zarr, href: ../a.zarr}"))
    assert failures == 0
    assert lines[0] == "cube: note: never: none of its chunks was ever written: all fill"
    assert lines[-1] == "cube: 8 chunks (7 never written: fill) of 2 arrays read, 2 values: ok"


@pytest.mark.parametrize("samples", [4, 100])
async def test_a_cut_granule_fails_chunk_by_chunk(opened, stack, samples):
    whole = stack.granules[2].read_bytes()
    assert (await check(opened(cube=KERCHUNK), samples))[0] == 0
    stack.granules[2].write_bytes(whole[: len(whole) // 3])
    # another catalog, since the first one holds the chunks in memory
    failures, lines = await check(opened(cube=KERCHUNK), samples)
    assert failures > 0
    assert len([line for line in lines if " chunk (2, " in line]) == failures
    assert lines[-1].endswith(f"{failures} failures")


async def test_arrays_that_form_no_dataset_are_checked_all_the_same(opened, tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    for name, size in (("a", 3), ("b", 4)):
        root.create_array(name, shape=(size,), chunks=(2,), dtype="i4", dimension_names=["n"])[:] = 1
    failures, lines = await check(opened(cube="source: {kind: zarr, href: ../a.zarr}"))
    assert failures == 0
    assert lines[0].startswith("cube: note: Dimension 'n' has size 3")
    assert lines[1] == "cube: 4 chunks of 2 arrays read, 7 values: ok"
    (tmp_path / "a.zarr" / "a" / "c" / "0").write_bytes(b"no zstd")
    failures, lines = await check(opened(cube="source: {kind: zarr, href: ../a.zarr}"))
    assert failures == 1
    assert "a chunk (0,): CorruptChunk" in lines[0]


async def test_what_cannot_be_opened_is_one_failure(opened, stack):
    catalog = opened(cube=KERCHUNK)
    stack.references.unlink()
    failures, lines = await check(catalog)
    assert failures == 1
    assert lines[0].startswith("cube: cannot be opened: ")


async def test_a_refusal_is_printed_by_its_name_and_with_what_to_do(opened, stack, monkeypatch):
    catalog = opened(cube=KERCHUNK)

    async def refuse(*_):
        raise UpstreamDenied("s3://bucket/x refuses access.", state="eula", mend="Accept the licence.")

    monkeypatch.setattr(EncodedStore, "get", refuse)
    failures, lines = await check(catalog, samples=1)
    assert failures > 0
    said = "UpstreamDenied: eula: s3://bucket/x refuses access. Accept the licence."
    assert lines[0].endswith(said)
    monkeypatch.setattr(catalog, "get", refuse)
    _, lines = await check(catalog)
    assert lines == ["cube: cannot be opened: eula: s3://bucket/x refuses access. Accept the licence."]
