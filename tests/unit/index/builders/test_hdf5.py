"""The index of an HDF5 file leads to the values that h5py reads, and to no chunk before they are asked for."""

import gc
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
from tests.unit.index.builders.conftest import stored_values

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.source import ObjectState
from cubegate.errors import InvalidReference, UpstreamChanged, UpstreamRefused
from cubegate.index.build import build_index
from cubegate.index.builders import hdf5
from cubegate.index.builders.hdf5 import build_from_hdf5
from cubegate.index.partial_file import BLOCK_NBYTES

SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "data"


class Counting:
    """A source that counts what is read of it."""

    def __init__(self, source):
        self._source, self.ranges = source, []

    async def get(self, reference):
        self.ranges.append((reference.offset, reference.length))
        return await self._source.get(reference)

    async def stat(self, url):
        return await self._source.stat(url)


@pytest.fixture
def scan(local_source, allow_all):
    async def scan(path, *, source=local_source, group=""):
        return await build_from_hdf5(source, path.as_uri(), check_url=allow_all, group=group)

    return scan


@pytest.mark.parametrize(
    "options",
    [{}, {"libver": "latest"}, {"userblock_size": 512}, {"libver": "v110", "fs_strategy": "page"}],
    ids=["earliest", "latest", "userblock", "paged"],
)
async def test_every_kind_of_storage_gives_the_values_of_the_file(
    tmp_path, write_kinds, scan, same_values, options
):
    path = write_kinds(tmp_path / "kinds.h5", **options)
    index = await scan(path)
    expected = stored_values(path)
    assert set(index.hierarchy.arrays) == set(expected)
    assert index.hierarchy.skipped == {}
    assert await same_values(index, expected) > 15_000
    index.verify()


async def test_the_file_itself_says_what_is_declared(tmp_path, write_kinds, scan):
    index = await scan(write_kinds(tmp_path / "kinds.h5"))
    arrays = index.hierarchy.arrays
    assert (arrays["partial"].fill_value, arrays["partial"].declared_fill) == (-5, -5)
    assert (arrays["never"].fill_value, arrays["never"].declared_fill) == (7.5, None)
    assert arrays["plain"].declared_fill is None
    assert arrays["shuffled"].dimension_names == ("y", "x")
    assert arrays["shuffled"].attributes == {"units": "m", "valid_range": [0.5, 1.5]}
    assert index.hierarchy.groups[""].attributes == {"title": "all kinds"}


async def test_a_group_is_taken_as_the_root(tmp_path, write_kinds, scan):
    path = write_kinds(tmp_path / "kinds.h5")
    assert set((await scan(path, group="deep")).hierarchy.arrays) == {"big", "unwritten"}
    with pytest.raises(InvalidReference, match="has no group 'deep/none'"):
        await scan(path, group="deep/none")


async def test_what_netcdf4_writes_is_read_as_it_reads_it(granule, scan, same_values):
    index = await scan(granule)
    with netCDF4.Dataset(granule) as file:
        file.set_auto_maskandscale(False)
        expected = {name: np.asarray(array[...]) for name, array in file.variables.items() if name != "name"}
        dimensions = {name: array.dimensions for name, array in file.variables.items()}
        expected["quality/inner/flag"] = np.asarray(file["quality/inner/flag"][...])
        declared = {name for name, array in file.variables.items() if "_FillValue" in array.ncattrs()}
    assert await same_values(index, expected) > 20_000
    arrays = index.hierarchy.arrays
    assert {name: arrays[name].dimension_names for name in dimensions} == dimensions
    assert {name for name in dimensions if arrays[name].declared_fill is not None} == declared
    assert arrays["quality/inner/flag"].dimension_names == ("y", "x")


async def test_names_of_dimensions_that_netcdf4_hides_are_found(tmp_path, scan, values_of, local_source):
    path = tmp_path / "odd.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("n", 3)
        file.createDimension("m", 4)
        file.createVariable("n", "f4", ("m",))[:] = np.arange(4)
        file.createVariable("m", "f8", ("m", "n"))[:] = np.arange(12).reshape(4, 3)
        file.createVariable("v", "i2", ("n", "m"))[:] = 1
    index = await scan(path)
    arrays = index.hierarchy.arrays
    assert {name: array.dimension_names for name, array in arrays.items()} == {
        "n": ("m",),
        "m": ("m", "n"),
        "v": ("n", "m"),
    }
    np.testing.assert_array_equal(await values_of(index, "n", local_source), np.arange(4))


async def test_arrays_without_scales_share_dimensions_by_their_size(tmp_path, scan):
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["a"], file["b"], file["square"] = np.zeros((3, 4)), np.zeros((4,)), np.zeros((3, 3))
    names = {
        name: a.dimension_names for name, a in (await scan(tmp_path / "bare.h5")).hierarchy.arrays.items()
    }
    assert names["a"] == ("phony_dim_3", "phony_dim_4")
    assert names["b"] == ("phony_dim_4",)
    assert len(set(names["square"])) == 2


async def test_strings_are_copied(tmp_path, scan, same_values):
    path = tmp_path / "text.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "names", data=["a", "bc", "\N{GREEK SMALL LETTER DELTA}"], dtype=h5py.string_dtype()
        )
        file["one"] = "text"
        file.create_dataset("fixed", data=np.array([b"ab", b"c"], "S3"))
    index = await scan(path)
    assert await same_values(index, stored_values(path)) == 6


async def test_large_contiguous_arrays_are_cut_into_chunks(tmp_path, scan, same_values):
    path = tmp_path / "wide.h5"
    with h5py.File(path, "w") as file:
        file["v"] = np.random.default_rng(1).normal(size=(12, 600, 500)).astype("f4")
    index = await scan(path)
    assert index.hierarchy.arrays["v"].chunk_shape == (1, 300, 500)
    assert await same_values(index, stored_values(path)) == 12 * 600 * 500


async def test_no_chunk_is_read(tmp_path, scan, local_source):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        values = np.random.default_rng(1).normal(size=(64, 256, 256))
        file.create_dataset("v", data=values, chunks=(1, 256, 256))
        file.create_dataset("w", data=values[:2], chunks=(1, 128, 128))
    counting = Counting(local_source)
    index = await scan(path, source=counting)
    assert index.counts("v").stored == 64
    read = sum(length for _, length in counting.ranges)
    assert read < 12 * BLOCK_NBYTES < path.stat().st_size / 8
    # each part of the file once
    assert len({offset for offset, _ in counting.ranges}) == len(counting.ranges)


async def test_metadata_that_lie_all_over_a_file_are_bounded(tmp_path, scan, monkeypatch):
    path = tmp_path / "spread.h5"
    with h5py.File(path, "w") as file:
        for number in range(20):
            file[f"g{number}/v"] = np.zeros(BLOCK_NBYTES)
    monkeypatch.setattr(hdf5, "MAX_METADATA_NBYTES", 4 * BLOCK_NBYTES)
    with pytest.raises(InvalidReference, match=r"spread\.h5 has its metadata spread over more than"):
        await scan(path)


@pytest.mark.parametrize("part", [0, 3, 100, 0.3, 0.9, 0.999])
async def test_a_cut_file_is_refused_by_name(tmp_path, write_kinds, scan, part):
    data = write_kinds(tmp_path / "whole.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(data[: part if isinstance(part, int) else int(part * len(data))])
    with pytest.raises(InvalidReference, match=r"cut\.h5"):
        await scan(cut)


async def test_damage_is_refused_or_changes_nothing(tmp_path, write_kinds, scan, same_values):
    whole = write_kinds(tmp_path / "whole.h5")
    data, expected = whole.read_bytes(), stored_values(whole)
    random = np.random.default_rng(3)
    refused = []
    for number in range(60):
        damaged = bytearray(data)
        start = int(random.integers(8, 4096))
        damaged[start : start + 4] = random.bytes(4)
        path = tmp_path / f"damaged{number}.h5"
        path.write_bytes(damaged)
        try:
            await scan(path)
        except InvalidReference as error:
            refused.append(path.name in str(error))
    assert len(refused) > 5
    assert all(refused)
    assert await same_values(await scan(whole), expected)


async def test_other_formats_are_refused_by_name(tmp_path, scan):
    page = tmp_path / "page.nc"
    page.write_text("<html>log in</html>" * 100)
    with pytest.raises(InvalidReference, match=r"page\.nc is damaged, or no HDF5 file"):
        await scan(page)


async def test_what_byte_ranges_cannot_describe_is_left_out_with_the_reason(tmp_path, scan):
    (tmp_path / "other.bin").write_bytes(bytes(80))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["v"] = np.arange(4)
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["kept"] = np.arange(3)
        file.create_dataset("lzf", data=np.zeros(99), compression="lzf")
        file.create_dataset("scaled", data=np.arange(99), scaleoffset=0)
        file["pairs"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
        file.create_dataset("lists", (3,), h5py.vlen_dtype("i4"))
        file.create_dataset("external", (10,), "f8", external=[(str(tmp_path / "other.bin"), 0, 80)])
        file["link"] = h5py.ExternalLink("other.h5", "v")
        file["dangling"] = h5py.SoftLink("/nowhere")
        layout = h5py.VirtualLayout((4,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "v", (4,))
        file.create_virtual_dataset("virtual", layout)
        file["nothing"] = h5py.Empty("f4")
        mixed = file.create_dataset("mixed", (8,), "i4", chunks=(4,), compression="gzip")
        mixed[:4] = 1
        mixed.id.write_direct_chunk((4,), np.arange(4, dtype="i4").tobytes(), filter_mask=1)
        file["alias"] = h5py.SoftLink("/kept")
        file["loop"] = file["/"]
    index = await scan(path)
    assert set(index.hierarchy.arrays) == {"kept", "alias"}
    reasons = {name: reason.partition(": ")[2] for name, reason in index.hierarchy.skipped.items()}
    assert "LZF" in reasons["lzf"]
    assert "scale-offset" in reasons["scaled"]
    assert "no form in Zarr" in reasons["pairs"]
    assert "lists of variable length" in reasons["lists"]
    assert {reasons["external"], reasons["virtual"]} == {"its values are in other files"}
    assert {reasons["link"], reasons["dangling"]} == {"it is a link that leads into another file, or nowhere"}
    assert reasons["nothing"] == "it has no values"
    assert reasons["mixed"] == "some of its chunks skip filters that others have"
    assert reasons["loop"] == "it is a second name of a group"


async def test_chunks_that_all_skip_a_filter_are_read_without_it(tmp_path, scan, same_values):
    path = tmp_path / "skipping.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("v", (8,), "i4", chunks=(4,), shuffle=True, compression="gzip")
        for start in (0, 4):
            values = np.arange(start, start + 4, dtype="i4")
            array.id.write_direct_chunk((start,), values.tobytes(), filter_mask=0b11)
    index = await scan(path)
    assert await same_values(index, {"v": np.arange(8)}) == 8


async def test_a_file_that_is_replaced_meanwhile_is_an_error(tmp_path, write_kinds, scan, local_source):
    path = write_kinds(tmp_path / "kinds.h5")

    class Replaced(Counting):
        async def stat(self, url):
            known = await super().stat(url)
            return ObjectState('"another"', known.nbytes)

    with pytest.raises(UpstreamChanged):
        await scan(path, source=Replaced(local_source))


async def test_only_allowed_addresses_are_scanned(tmp_path, write_kinds, local_source):
    path = write_kinds(tmp_path / "kinds.h5")
    counting = Counting(local_source)

    def refuse(url):
        raise UpstreamRefused("not listed")

    with pytest.raises(UpstreamRefused):
        await build_from_hdf5(counting, path.as_uri(), check_url=refuse)
    assert counting.ranges == []


@pytest.mark.parametrize("name", ["granule.nc", "granule.HDF5", "granule"])
async def test_a_build_knows_hdf5_by_its_name_or_its_first_bytes(
    tmp_path, write_kinds, same_values, local_source, name
):
    path = write_kinds(tmp_path / name)
    index = await build_index(path.as_uri(), local_source, check_url=lambda _: None, validators=True)
    assert index.counts("x").inlined == 1
    assert list(index.content.validators) == [(await local_source.stat(path.as_uri())).validator]
    assert await same_values(index, stored_values(path)) > 15_000


def _real_files():
    files = sorted(path for path in SHARED.rglob("*") if path.is_file() and path.suffix != ".py")
    return [path for path in files if b"\x89HDF\r\n\x1a\n" in path.read_bytes()[:1024]]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real files are not beside the project")
async def test_real_files_are_read_as_h5py_reads_them_or_refused(allow_all, same_values):
    source = LocalFiles(parse_address(SHARED.as_uri()))
    arrays = 0
    for path in _real_files():
        index = await build_from_hdf5(source, path.as_uri(), check_url=allow_all)
        expected = {}
        with path.open("rb") as opened, h5py.File(opened, "r") as file:
            for name, array in index.hierarchy.arrays.items():
                hidden = f"{name.rpartition('/')[0]}/_nc4_non_coord_{name.rpartition('/')[2]}".strip("/")
                dataset = file[hidden if hidden in file else name]
                if dataset.size > 2**20 or not dataset.id.get_create_plist().all_filters_avail():
                    continue
                expected[name] = np.asarray(dataset[()], object if array.dtype.hasobject else None)
        await same_values(index, expected, source)
        arrays += len(expected)
        gc.collect()
    assert arrays > 600
