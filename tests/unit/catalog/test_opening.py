"""Collections as opened: every kind of source holds the granules' values, restricted where configured."""

import asyncio
import json
import os
import re
import warnings

import netCDF4
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS

from cubegate.cli import main
from cubegate.errors import ConfigurationError, CorruptChunk, NotFound, UpstreamChanged, UpstreamRefused

ARRAYS = ("coherence", "displacement", "spatial_ref", "time", "x", "y")
KERCHUNK = "source: {kind: kerchunk, href: ../stack/stack.json}"


@pytest.fixture
def native(tmp_path, stack):
    """The stack as Zarr stores in both formats."""
    with xr.open_mfdataset(stack.granules, chunks=None, data_vars="all", decode_times=False) as dataset:
        loaded = dataset.load()
    loaded["spatial_ref"] = loaded.spatial_ref.isel(time=0, drop=True)
    for variable in loaded.variables.values():
        variable.encoding.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        for zarr_format in (2, 3):
            loaded.to_zarr(tmp_path / f"v{zarr_format}.zarr", zarr_format=zarr_format)


@pytest.fixture
def index_file(tmp_path, stack):
    """The stack's index, as `cubegate index` writes it."""
    output = tmp_path / "stack.index"
    allow = f"{tmp_path.as_uri()}/"
    # without them it holds just what the references do
    options = ["--allow", allow, "--no-validators"]
    assert main(["index", str(stack.references), "-o", str(output), *options]) == 0
    return output


async def test_every_kind_of_source_gives_the_values_of_the_granules(opened, stack, native, index_file):
    catalog = opened(
        references=KERCHUNK,
        absolute=f"source: {{kind: kerchunk, href: '{stack.references.as_uri()}'}}",
        index="source: {kind: index, href: ../stack.index}",
        v2="source: {kind: zarr, href: ../v2.zarr}",
        v3="source: {kind: zarr, href: ../v3.zarr}",
    )
    assert catalog.ids() == ["absolute", "index", "references", "v2", "v3"]
    versions = {}
    for name in catalog.ids():
        cube = await catalog.get(name)
        versions[name] = cube.version
        dataset = await cube.dataset()
        np.testing.assert_array_equal((await dataset.displacement.load_async()).values, stack.displacement)
        for number, granule in enumerate(stack.granules):
            with netCDF4.Dataset(granule) as file:
                file.set_auto_mask(False)
                for variable in ("x", "y"):
                    np.testing.assert_array_equal(dataset[variable].values, file[variable][:])
                np.testing.assert_array_equal(dataset.coherence[number].values, file["coherence"][0])
    assert versions["references"] == versions["absolute"] == versions["index"]
    assert len({versions[name] for name in ("index", "v2", "v3")}) == 3


@pytest.fixture
def indexed(opened, tmp_path, stack):
    """Open a cube whose index was made with the given options of `cubegate index`."""

    async def indexed(*options):
        output = tmp_path / "strict.index"
        command = ["index", str(stack.references), "-o", str(output), "--allow", f"{tmp_path.as_uri()}/"]
        assert await asyncio.to_thread(main, [*command, *options]) == 0
        return await opened(strict="source: {kind: index, href: ../strict.index}").get("strict")

    return indexed


@pytest.fixture
def chunk(stack):
    """Where the first chunk of the first date is, in its granule."""
    references = json.loads(stack.references.read_text())
    _, offset, length = references["refs"]["displacement/0.0.0"]
    return stack.granules[0], offset, length


def change_byte(granule, position):
    """Change one byte, and nothing else that would tell."""
    before = granule.stat()
    data = bytearray(granule.read_bytes())
    data[position] ^= 1
    granule.write_bytes(data)
    os.utime(granule, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_strict_index_gives_the_values_of_the_granules(indexed, stack):
    cube = await indexed("--checksums")
    dataset = await cube.dataset()
    np.testing.assert_array_equal((await dataset.displacement.load_async()).values, stack.displacement)
    located = cube.store.locator.locate(cube.store.array("displacement"), [(0, 0, 0), (2, 1, 1)])
    assert all(one.reference.crc32 is not None and one.reference.validator for one in located)
    await asyncio.to_thread(cube.store.locator.verify)
    assert cube.notes == ()


@pytest.mark.parametrize("plane", ["encoded", "values"])
async def test_a_flipped_byte_is_an_error_in_both_planes(indexed, chunk, plane):
    granule, offset, length = chunk
    cube = await indexed("--checksums", "--no-validators")
    # the last bytes are the checksum of zlib, which nobody else looks at
    change_byte(granule, offset + length - 1)
    array, dataset = cube.store.array("displacement"), await cube.dataset()
    for _ in range(2):
        reading = {
            "encoded": cube.store.get(array, (0, 0, 0)),
            "values": dataset.displacement[0, 0, 0].load_async(),
        }
        with pytest.raises(CorruptChunk, match=r"granule0\.nc at .* does not have the checksum"):
            await reading.pop(plane)
        reading.popitem()[1].close()
    assert cube.store.held(array, (0, 0, 0)) is None
    assert len(await cube.store.get(array, (0, 0, 1))) > 0


async def test_a_granule_that_was_replaced_since_is_an_error_that_says_so(indexed, stack):
    cube = await indexed()
    array = cube.store.array("displacement")
    assert len(await cube.store.get(array, (0, 0, 0))) > 0
    granule = stack.granules[0]
    os.utime(granule, ns=(0, granule.stat().st_mtime_ns + 10**9))
    with pytest.raises(UpstreamChanged, match=r"granule0\.nc"):
        await cube.store.get(array, (0, 1, 1))
    assert len(await cube.store.get(array, (1, 0, 0))) > 0


async def test_references_that_are_mounted_as_they_are_hold_nobody_to_anything(opened, stack):
    cube = await opened(a=KERCHUNK).get("a")
    (located,) = cube.store.locator.locate(cube.store.array("displacement"), [(0, 0, 0)])
    assert (located.reference.validator, located.reference.crc32) == (None, None)


def test_an_index_with_checksums_is_not_made_of_chunks_that_are_none(tmp_path, stack, chunk, capsys):
    granule, offset, _ = chunk
    change_byte(granule, offset)
    output = tmp_path / "strict.index"
    command = ["index", str(stack.references), "-o", str(output), "--allow", f"{tmp_path.as_uri()}/"]
    assert main([*command, "--checksums"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"chunk \(0, 0, 0\) of array 'displacement' in file://\S+granule0\.nc: A chunk of", said)
    assert not output.exists()
    # nobody looks at it without
    assert main(command) == 0


def test_a_granule_that_is_not_there_fails_the_index(tmp_path, stack, capsys):
    stack.granules[1].unlink()
    output = tmp_path / "strict.index"
    command = ["index", str(stack.references), "-o", str(output), "--allow", f"{tmp_path.as_uri()}/"]
    assert main([*command, "--fill", "declared"]) == 1
    assert "granule1.nc" in capsys.readouterr().err
    assert not output.exists()


async def test_variables_restrict_the_tree_and_keep_what_describes_them(opened, stack):
    catalog = opened(
        whole=KERCHUNK, part=f"variables: [displacement]\n{KERCHUNK}", bare=f"variables: [x]\n{KERCHUNK}"
    )
    whole, part, bare = [await catalog.get(name) for name in ("whole", "part", "bare")]
    assert set(whole.store.hierarchy.arrays) == {"displacement", "coherence", "spatial_ref", "time", "x", "y"}
    assert set(part.store.hierarchy.arrays) == {"displacement", "spatial_ref", "time", "x", "y"}
    assert set(bare.store.hierarchy.arrays) == {"x"}
    with pytest.raises(NotFound, match="coherence"):
        part.store.array("coherence")
    dataset = await part.dataset()
    assert set(dataset.variables) == {"displacement", "spatial_ref", "time", "x", "y"}
    np.testing.assert_array_equal((await dataset.displacement.load_async()).values, stack.displacement)
    for plain in (False, True):
        documents = await part.documents(plain=plain)
        assert documents.get("displacement/zarr.json") is not None
        assert documents.get("coherence/zarr.json") is None
        assert b"coherence" not in documents.get("zarr.json").body


async def test_an_unknown_variable_names_the_file_and_those_that_exist(opened, stack, tmp_path):
    catalog = opened(a=f"variables: [displacment]\n{KERCHUNK}")
    with pytest.raises(
        ConfigurationError, match=r"'displacment'.*coherence, displacement, spatial_ref"
    ) as caught:
        await catalog.get("a")
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "collections/a.yaml"), "variables")


async def test_an_address_outside_the_upstreams_is_refused(opened, stack, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "stack.json"
    elsewhere.write_bytes(stack.references.read_bytes())
    catalog = opened(a=f"source: {{kind: kerchunk, href: '{elsewhere.as_uri()}'}}")
    with pytest.raises(UpstreamRefused):
        await catalog.get("a")


async def test_the_crs_of_the_arrays_is_that_of_the_granules_or_of_the_configuration(opened, stack):
    catalog = opened(own=KERCHUNK, given=f"crs: EPSG:32612\n{KERCHUNK}")
    for name, code in (("own", 32611), ("given", 32612)):
        cube = await catalog.get(name)
        documents = await cube.documents()
        written = {name: json.loads(documents.get(f"{name}/.zattrs").body).get("_CRS") for name in ARRAYS}
        assert {name for name, crs in written.items() if crs} == {"displacement", "coherence"}
        assert CRS.from_wkt(written["displacement"]["wkt"]).to_epsg(min_confidence=20) == code


async def test_a_group_that_does_not_exist_is_not_found(opened, stack):
    cube = await opened(a=KERCHUNK).get("a")
    with pytest.raises(NotFound, match="no group 'quality'"):
        await cube.dataset("quality")
    assert (await cube.dataset("/")) is (await cube.dataset())


async def test_a_dataset_can_be_had_outside_the_event_loop(opened, stack):
    cube = await opened(a=KERCHUNK).get("a")
    dataset = await asyncio.to_thread(cube.dataset_now)
    values = await asyncio.to_thread(lambda: dataset.displacement[1, 3:5].values)
    np.testing.assert_array_equal(values, stack.displacement[1, 3:5])
