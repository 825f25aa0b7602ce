from __future__ import annotations

import json
import sys

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamMismatch, UpstreamObjectMissing
from cubegate.index import granule as granule_module
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.file import open_index, write_index
from cubegate.index.settling import settle_references


def build(references, group=""):
    data = json.dumps(references).encode()
    return build_from_kerchunk_json(data, base_url="file:///r.json", check_url=lambda _: None, group=group)


def fills(index):
    return {path: (array.fill_value, array.declared_fill) for path, array in index.hierarchy.arrays.items()}


class Counting:
    """Counts the bytes that a source is asked for."""

    def __init__(self, source):
        self.source, self.references = source, []

    async def get(self, reference):
        self.references.append(reference)
        return await self.source.get(reference)


async def test_auto_believes_what_the_granule_declares(hdf5_granule, scan_hdf5, local_source):
    index = build(scan_hdf5(hdf5_granule))
    assert fills(index) == {"below/counts2": (0, 0), "counts": (0, 0), "odd": (-5, -5), "tagged": (0, 0)}
    settled = await settle_references(index, local_source, policy="auto")
    assert fills(settled) == {
        "below/counts2": (0, None),
        "counts": (0, None),
        "odd": (-5, None),
        "tagged": (0, 0),
    }
    assert settled.assumed_fill == ()
    assert settled.version != index.version


async def test_netcdf4_variables_agree_with_the_granule(granule, scan_hdf5, local_source):
    index = build(scan_hdf5(granule))
    settled = await settle_references(index, local_source, policy="auto")
    unallocated = {path for path in index.hierarchy.arrays if index.counts(path).unallocated}
    assert unallocated == {"partial", "spatial_ref"}
    with h5py.File(granule) as file:
        for path, array in settled.hierarchy.arrays.items():
            dataset = file[path]
            declared = dataset.attrs.get("_FillValue")
            assert array.declared_fill == (None if declared is None else declared[0]), path
            if path in unallocated:
                assert array.fill_value == dataset.fillvalue, path


async def test_storage_fill_of_unallocated_chunks_is_the_granules(tmp_path, scan_hdf5, local_source):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, fill in {"zero": 0, "other": 7, "nan": np.nan, "infinite": -np.inf}.items():
            dataset = file.create_dataset(name, (8,), "f4", chunks=(4,), fillvalue=fill)
            dataset[:4] = 1
            dataset.attrs["_FillValue"] = np.float32("nan")
    settled = await settle_references(build(scan_hdf5(tmp_path / "a.h5")), local_source, policy="auto")
    with h5py.File(tmp_path / "a.h5") as file:
        for path, array in settled.hierarchy.arrays.items():
            np.testing.assert_array_equal(array.fill_value, file[path][4])
            assert np.isnan(array.declared_fill)


async def test_a_date_without_granule_stays_missing_in_a_stack(tmp_path, scan_hdf5, local_source):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("v", (1, 4), "f4", chunks=(1, 4), fillvalue=0)
        dataset.attrs["_FillValue"] = np.float32("nan")
        dataset[:] = 1
    references = scan_hdf5(tmp_path / "a.h5")
    document = json.loads(references["refs"]["v/.zarray"])
    references["refs"]["v/.zarray"] = json.dumps({**document, "shape": [2, 4]})
    settled = await settle_references(build(references), local_source, policy="auto")
    array = settled.hierarchy.arrays["v"]
    assert np.isnan(array.fill_value)
    assert np.isnan(array.declared_fill)


async def test_references_built_from_a_group(hdf5_granule, scan_hdf5, local_source):
    index = build(scan_hdf5(hdf5_granule), group="below")
    settled = await settle_references(index, local_source, policy="auto")
    assert fills(settled) == {"counts2": (0, None)}


async def test_netcdf3_fills_are_declared(tmp_path, scan_netcdf3, local_source):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 30)
        for name in ("plain", "filled"):
            file.createVariable(name, "i4", ("x",))[:] = np.arange(30)
        file.variables["filled"]._FillValue = np.int32(0)
    index = build(scan_netcdf3(tmp_path / "a.nc"))
    settled = await settle_references(index, local_source, policy="auto")
    assert fills(settled) == fills(index) == {"plain": (None, None), "filled": (0, 0)}
    assert settled.assumed_fill == ()


async def test_policies(hdf5_granule, scan_hdf5, local_source):
    index = build(scan_hdf5(hdf5_granule))
    assert await settle_references(index, local_source, policy="declared") is index
    storage = await settle_references(index, local_source, policy="storage")
    assert fills(storage) == {
        "below/counts2": (0, None),
        "counts": (0, None),
        "odd": (-5, -5),
        "tagged": (0, None),
    }


async def test_an_attribute_always_wins(hdf5_granule, scan_hdf5, local_source):
    references = scan_hdf5(hdf5_granule)
    for path in ("counts", "tagged"):
        references["refs"][f"{path}/.zattrs"] = json.dumps({"_FillValue": 9})
    for policy in ("auto", "storage", "declared"):
        settled = await settle_references(build(references), local_source, policy=policy)
        assert settled.hierarchy.arrays["counts"].declared_fill == 9
        assert settled.hierarchy.arrays["tagged"].declared_fill == 9


async def test_an_unreadable_granule_leaves_the_fill_declared_and_says_so(
    hdf5_granule, scan_hdf5, local_source, caplog
):
    index = build(scan_hdf5(hdf5_granule))
    whole = hdf5_granule.read_bytes()
    for content in [whole[:8] + bytes(200), b"GRIB" + bytes(200)]:
        hdf5_granule.write_bytes(content)
        caplog.clear()
        settled = await settle_references(index, local_source, policy="auto")
        assert fills(settled) == fills(index)
        # -5 is neither HDF5's nor netCDF's own fill, so that nothing is assumed
        assert settled.assumed_fill == ("below/counts2", "counts", "tagged")
        assert ("cannot be asked" in caplog.text) == (content[:4] != b"GRIB")


async def test_without_h5py_the_fill_is_assumed(hdf5_granule, scan_hdf5, local_source, monkeypatch, caplog):
    index = build(scan_hdf5(hdf5_granule))
    monkeypatch.setitem(sys.modules, "h5py", None)
    settled = await settle_references(index, local_source, policy="auto")
    assert settled.assumed_fill == ("below/counts2", "counts", "tagged")
    assert "h5py is not installed" in caplog.text


async def test_a_dataset_that_the_granule_lacks_is_assumed(hdf5_granule, scan_hdf5, local_source):
    references = scan_hdf5(hdf5_granule)["refs"]
    renamed = {key.replace("counts/", "renamed/"): value for key, value in references.items()}
    settled = await settle_references(build(renamed), local_source, policy="auto")
    assert settled.assumed_fill == ("renamed",)
    (note,) = settled.notes
    assert note.startswith("array 'renamed': no granule could be asked")


async def test_an_inlined_array_is_settled_by_the_granule_of_the_others(
    hdf5_granule, scan_hdf5, local_source
):
    references = scan_hdf5(hdf5_granule)["refs"]
    references = {key: "abcd" if key.startswith("below/counts2/0") else value for key, value in references.items()
                  if not key.startswith("below/counts2/1")}  # fmt: skip
    settled = await settle_references(build(references), local_source, policy="auto")
    assert fills(settled)["below/counts2"] == (0, None)


async def test_arrays_without_any_granule_are_assumed(local_source):
    document = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<i4", "fill_value": 0}
    index = build({"v/.zarray": document, "v/0": "a" * 16})
    settled = await settle_references(index, local_source, policy="auto")
    assert settled.assumed_fill == ("v",)


@pytest.mark.parametrize("libver", ["earliest", ("v110", "v110"), "latest"])
async def test_only_the_blocks_that_are_needed_are_read(
    tmp_path, scan_hdf5, local_source, monkeypatch, libver
):
    monkeypatch.setattr(granule_module, "_BLOCK", 4096)
    path = tmp_path / "large.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("counts", data=np.zeros((500, 500), "i4"), chunks=(100, 100))
        file.create_dataset("padding", data=np.zeros(10**6, "u1"))
    source = Counting(local_source)
    settled = await settle_references(build(scan_hdf5(path)), source, policy="auto")
    assert settled.hierarchy.arrays["counts"].declared_fill is None
    assert len(set(source.references)) == len(source.references)
    assert 1 < sum(reference.length for reference in source.references) < path.stat().st_size / 10


async def test_fills_survive_the_index_file(hdf5_granule, scan_hdf5, local_source, tmp_path):
    settled = await settle_references(build(scan_hdf5(hdf5_granule)), local_source, policy="auto")
    write_index(settled, tmp_path / "cube.index")
    opened = open_index(tmp_path / "cube.index")
    assert fills(opened) == fills(settled)
    assert opened.version == settled.version
    hdf5_granule.write_bytes(hdf5_granule.read_bytes()[:8] + bytes(200))
    assumed = await settle_references(build(scan_without(settled)), local_source, policy="auto")
    write_index(assumed, tmp_path / "assumed.index")
    assert open_index(tmp_path / "assumed.index").assumed_fill == assumed.assumed_fill == ("counts",)


def scan_without(index):
    return {
        "counts/.zarray": dict(index.hierarchy.arrays["counts"].document),
        "counts/0.0": [index.urls[0], 1, 2],
    }


@pytest.mark.parametrize(
    ("dtype", "fill", "storage"),
    [
        ("<f4", 9.969209968386869e36, True), ("<f8", 9.969209968386869e36, True), ("<f4", 1e20, False),
        ("<i2", -32767, True), ("<i2", -9999, False), (">i4", -2147483647, True), ("|u1", 255, True),
        ("<u2", 65535, True), ("|i1", -127, True), ("<i8", -9223372036854775806, True), ("<f8", 0.0, True),
        ("|S3", "IAAA", True), ("|S3", "YWJj", False), ("|b1", False, True), ("<M8[s]", 0, True),
        ("<c8", [0.0, 0.0], True), ("<U2", "", True),
    ],
)  # fmt: skip
async def test_what_looks_like_a_storage_fill(local_source, dtype, fill, storage):
    document = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": dtype, "fill_value": fill}
    index = build({"v/.zarray": document, "v/0": "a"})
    settled = await settle_references(index, local_source, policy="storage")
    assert (settled.hierarchy.arrays["v"].declared_fill is None) == storage


async def test_a_granule_that_cannot_be_read_is_an_error(hdf5_granule, scan_hdf5, local_source, caplog):
    index = build(scan_hdf5(hdf5_granule))
    whole = hdf5_granule.read_bytes()
    for content in [whole[:200], b""]:
        hdf5_granule.write_bytes(content)
        with pytest.raises(UpstreamMismatch):
            await settle_references(index, local_source, policy="auto")
    hdf5_granule.unlink()
    with pytest.raises(UpstreamObjectMissing):
        await settle_references(index, local_source, policy="auto")
    assert "fill: declared or storage asks nothing" in caplog.text
    for policy in ("declared", "storage"):
        assert (await settle_references(index, local_source, policy=policy)).assumed_fill == ()


async def test_a_source_that_fails_midway_is_an_error(hdf5_granule, scan_hdf5, local_source, monkeypatch):
    class Failing:
        async def get(self, reference: ChunkReference):
            if reference.offset:
                raise UpstreamObjectMissing("gone")
            return await local_source.get(reference)

    monkeypatch.setattr(granule_module, "_BLOCK", 1024)
    with pytest.raises(UpstreamObjectMissing):
        await settle_references(build(scan_hdf5(hdf5_granule)), Failing(), policy="auto")
