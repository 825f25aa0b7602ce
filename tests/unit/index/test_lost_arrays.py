"""Arrays whose chunks the references lack though the granule holds them."""

from __future__ import annotations

import asyncio
import json
import logging

import h5py
import netCDF4
import numpy as np
import pytest

from cubegate.chunks.coalesced import Coalesced
from cubegate.errors import NotFound, UpstreamObjectMissing
from cubegate.index import granule as granule_module
from cubegate.index.build import build_index
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.file import open_index, write_index
from cubegate.index.settling import NO_CHUNK, settle_references
from cubegate.store.encoded import EncodedStore


def build(references):
    data = json.dumps(references).encode()
    return build_from_kerchunk_json(data, base_url="file:///r.json", check_url=lambda _: None)


def without(references, *keys):
    assert set(keys) <= set(references["refs"])
    return {"version": 1, "refs": {key: v for key, v in references["refs"].items() if key not in keys}}


async def settle(references, source, policy="auto"):
    return await settle_references(build(references), source, policy=policy)


@pytest.fixture
def compact_granule(tmp_path, write_compact):
    with h5py.File(tmp_path / "compact.h5", "w") as file:
        write_compact(file, "scalar", np.int32(7))
        write_compact(file, "series", np.arange(5.0))
        write_compact(file, "declared", np.full(4, 3, "i2")).attrs["_FillValue"] = np.int16(-9)
        write_compact(file, "zero", np.zeros(5, ">f4"))
        write_compact(file, "filled", np.full(3, np.nan), fill=np.nan)
        file.create_dataset("unwritten", (4,), "f4", fillvalue=-5)
        file.create_dataset("unwritten_chunks", (4,), "i4", chunks=(2,))
        file.create_dataset("counts", data=np.arange(6), chunks=(2,))
    return tmp_path / "compact.h5"


@pytest.mark.parametrize("error", ["warn", "ignore", "raise"])
async def test_compact_arrays_are_not_served_as_fill(compact_granule, scan_hdf5, local_source, error, caplog):
    index = await settle(scan_hdf5(compact_granule, error=error), local_source)
    lost = ["declared", "scalar", "series"]
    assert index.hierarchy.skipped == dict.fromkeys(lost, NO_CHUNK)
    assert index.assumed_fill == ()
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert logged == [f"array {path!r} is not served: {NO_CHUNK}" for path in lost]
    with h5py.File(compact_granule) as file:
        assert set(file) - set(index.hierarchy.arrays) == set(lost)
        for path in ("zero", "filled", "unwritten", "unwritten_chunks"):
            assert index.counts(path).allocated == 0
            expected = np.full(file[path].shape, index.hierarchy.arrays[path].fill_value)
            np.testing.assert_array_equal(expected, file[path][:], err_msg=path)


async def test_the_reason_reaches_who_asks_for_the_array(compact_granule, scan_hdf5, local_source, tmp_path):
    settled = await settle(scan_hdf5(compact_granule), local_source)
    write_index(settled, tmp_path / "cube.index")
    index = open_index(tmp_path / "cube.index")
    assert index.hierarchy.skipped == settled.hierarchy.skipped
    assert set(index.hierarchy.arrays) == set(settled.hierarchy.arrays)
    index.verify()
    store = EncodedStore(index.hierarchy, index, Coalesced(local_source), version=index.version)
    with pytest.raises(NotFound, match="build the references again"):
        store.array("scalar")


async def test_policies_that_ask_nobody_serve_what_the_references_say(
    compact_granule, scan_hdf5, local_source
):
    references = scan_hdf5(compact_granule)
    for policy in ("declared", "storage"):
        index = await settle(references, local_source, policy)
        assert index.hierarchy.skipped == {}
        assert "scalar" in index.hierarchy.arrays


async def test_virtual_and_external_data_are_data(tmp_path, scan_hdf5, local_source):
    path = tmp_path / "outside.h5"
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["v"] = np.zeros(4)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "v", (4,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", data=np.arange(4.0), external=[(str(tmp_path / "raw"), 0, 32)])
        file["here"] = np.arange(3)
    references = scan_hdf5(path, error="ignore")
    keys = [key for key in references["refs"] if key in ("virtual/0", "external/0")]
    index = await settle(without(references, *keys), local_source)
    assert index.hierarchy.skipped == {"virtual": NO_CHUNK, "external": NO_CHUNK}


async def test_empty_strings_that_the_scan_leaves_out_are_empty(tmp_path, scan_hdf5, local_source):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["empty"], file["names"], file["counts"] = ["", ""], ["a", "b"], np.arange(3)
    references = scan_hdf5(tmp_path / "a.h5")
    assert "empty/0" not in references["refs"]
    index = await settle(references, local_source)
    assert set(index.hierarchy.arrays) == {"empty", "names", "counts"}
    assert not index.hierarchy.arrays["empty"].fill_value
    lost = await settle(without(references, "names/0"), local_source)
    assert lost.hierarchy.skipped == {"names": NO_CHUNK}


async def test_an_array_larger_than_is_compared_is_lost(tmp_path, scan_hdf5, local_source, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["zeros"], file["counts"] = np.zeros(100), np.arange(3)
    references = without(scan_hdf5(tmp_path / "a.h5"), "zeros/0")
    assert (await settle(references, local_source)).hierarchy.skipped == {}
    monkeypatch.setattr(granule_module, "_MAX_COMPARED_NBYTES", 799)
    assert (await settle(references, local_source)).hierarchy.skipped == {"zeros": NO_CHUNK}


async def test_values_that_cannot_be_decoded_are_data(tmp_path, scan_hdf5, local_source):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        squeezed = file.create_dataset("squeezed", data=np.arange(4.0), chunks=(4,), compression="gzip")
        at = squeezed.id.get_chunk_info(0)
        file["counts"] = np.arange(3)
    references = without(scan_hdf5(path), "squeezed/0")
    with path.open("r+b") as raw:
        raw.seek(at.byte_offset)
        raw.write(b"\xff" * at.size)
    index = await settle(references, local_source)
    assert index.hierarchy.skipped == {"squeezed": NO_CHUNK}
    assert index.assumed_fill == ()


@pytest.mark.parametrize("attribute", [None, -9])
async def test_fewer_chunks_than_the_only_granule_holds(tmp_path, scan_hdf5, local_source, attribute):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("whole", "sparse"):
            dataset = file.create_dataset(name, (4, 6), "i4", chunks=(2, 2), compression="gzip")
            dataset[:, : 4 if name == "sparse" else 6] = 5
            if attribute is not None:
                dataset.attrs["_FillValue"] = np.int32(attribute)
    references = scan_hdf5(tmp_path / "a.h5")
    if attribute is not None:
        for name in ("whole", "sparse"):
            references["refs"][f"{name}/.zattrs"] = json.dumps({"_FillValue": attribute})
    complete = await settle(references, local_source)
    assert complete.hierarchy.skipped == {}
    assert complete.counts("sparse").unallocated == 2
    index = await settle(without(references, "whole/1.2", "sparse/0.0"), local_source)
    assert index.hierarchy.skipped == {
        "whole": "its references name 5 chunks, yet the granule holds 6: build the references again",
        "sparse": "its references name 3 chunks, yet the granule holds 4: build the references again",
    }
    assert index.hierarchy.arrays == {}


async def test_inlined_values_without_their_chunks_of_fill_are_complete(tmp_path, scan_hdf5, local_source):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        # nothing reads lzf but HDF5: kerchunk inlines the values of a small array
        file.create_dataset("v", data=np.arange(8, dtype="i4") // 4, chunks=(4,), compression="lzf")
        file["counts"] = np.arange(3)
    references = scan_hdf5(tmp_path / "a.h5")
    assert [key for key in references["refs"] if key.startswith("v/") and "/.z" not in key] == ["v/1"]
    index = await settle(references, local_source)
    assert index.hierarchy.skipped == {}
    assert index.hierarchy.arrays["v"].fill_value == 0


async def test_a_stack_may_lack_chunks_that_its_first_granule_has(combined, local_source):
    index = await settle(combined, local_source)
    assert index.hierarchy.skipped == {}
    gone = await settle(without(combined, "shuffled/1.0.0"), local_source)
    assert "shuffled" in gone.hierarchy.arrays
    keys = [key for key in combined["refs"] if key.startswith("shuffled/") and "/.z" not in key]
    lost = await settle(without(combined, *keys), local_source)
    assert lost.hierarchy.skipped == {"shuffled": NO_CHUNK}


async def test_netcdf4_arrays_never_written_stay(tmp_path, scan_hdf5, local_source):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 8)
        file.createVariable("mapping", "i4", ()).crs_wkt = "LOCAL_CS"
        file.createVariable("empty", "f4", ("x",), zlib=True, chunksizes=(4,), fill_value=-1)
        file.createVariable("written", "f4", ("x",))[:] = 1
    index = await settle(scan_hdf5(tmp_path / "a.nc"), local_source)
    assert index.hierarchy.skipped == {}
    assert index.assumed_fill == ()
    assert {path for path in index.hierarchy.arrays if not index.counts(path).allocated} == {
        "mapping", "empty",
    }  # fmt: skip


async def test_an_array_without_chunks_is_noted_when_nobody_can_be_asked(
    compact_granule, scan_hdf5, local_source, caplog
):
    references = scan_hdf5(compact_granule)
    references["refs"]["series/.zattrs"] = json.dumps({"_FillValue": 4.0})
    compact_granule.write_bytes(compact_granule.read_bytes()[:8] + bytes(200))
    index = await settle(references, local_source)
    assert {"declared", "scalar", "series", "unwritten", "filled"} < set(index.assumed_fill)
    assert len(caplog.records) == 1
    assert len(index.notes) == len(index.assumed_fill)


async def test_contents_spread_too_widely_leave_the_fill_settled(
    compact_granule, scan_hdf5, local_source, monkeypatch
):
    monkeypatch.setattr(granule_module, "_MAX_BLOCKS_OF_CONTENTS", 0)
    index = await settle(scan_hdf5(compact_granule), local_source)
    assert index.hierarchy.arrays["counts"].declared_fill is None
    assert set(index.assumed_fill) == set(index.hierarchy.arrays) - {"counts"}


async def test_a_failure_while_contents_are_read_is_an_error(
    compact_granule, scan_hdf5, local_source, monkeypatch
):
    class Failing:
        async def get(self, reference):
            if reference.offset:
                raise UpstreamObjectMissing("gone")
            return await local_source.get(reference)

    monkeypatch.setattr(granule_module, "_BLOCK", 512)
    with pytest.raises(UpstreamObjectMissing):
        await settle(scan_hdf5(compact_granule), Failing())


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_progress_is_told_of_every_step(tmp_path, combined, local_source, write_parquet, kind):
    if kind == "json":
        path = tmp_path / "references.json"
        path.write_text(json.dumps(combined))
    else:
        path = write_parquet(combined)
    told = []
    work = build_index(
        path.as_uri(),
        local_source,
        check_url=lambda _: None,
        allow_missing_partitions=build(combined).hierarchy.arrays,
        progress=lambda *step: told.append(step),
    )
    index = asyncio.run(work)
    assert index.hierarchy.arrays
    steps = [what for what, _, _ in told]
    for what in ("Reading references", "Asking granules", "Copying coordinate"):
        assert any(step.startswith(what) for step in steps), what
    assert all(0 <= done <= total for _, done, total in told)
