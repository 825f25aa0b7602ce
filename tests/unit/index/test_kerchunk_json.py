from __future__ import annotations

import gzip
import json
import shutil
import warnings

import h5py
import netCDF4
import numpy as np
import pytest
import virtualizarr
import zarr
import zstandard
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from scipy.io import netcdf_file
from virtualizarr.parsers import HDFParser

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.source import ChunkReference
from cubegate.errors import InvalidReference, UpstreamRefused
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.location import Inlined, Stored, Unallocated
from cubegate.index.references import resolve_url
from cubegate.index.settling import settle_references

BASE = "s3://references/folder/cube.json"
ARRAY = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 2], "dtype": "<f4", "fill_value": None,
         "filters": None, "compressor": None, "order": "C"}  # fmt: skip


def build(references, **options):
    data = references if isinstance(references, bytes) else json.dumps(references).encode()
    return build_from_kerchunk_json(data, **({"base_url": BASE, "check_url": lambda _: None} | options))


def one_array(chunks, document=ARRAY, attributes=None):
    return {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": document,
        "v/.zattrs": attributes or {"_ARRAY_DIMENSIONS": ["y", "x"]},
        **chunks,
    }


def location(index, path, chunk):
    return index.locate(index.hierarchy.arrays[path], [chunk])[0]


def test_hdf5_references_lead_to_the_bytes_that_fsspec_reads(granule, scan_hdf5, compare_with_fsspec):
    references = scan_hdf5(granule)
    index = build(references)
    assert compare_with_fsspec(index, references) == 60
    assert set(index.hierarchy.groups) == {"", "quality", "quality/inner"}
    assert index.hierarchy.arrays["partial"].chunk_count == 12
    assert index.counts("partial").unallocated == 8
    assert index.hierarchy.arrays["swapped"].dtype == np.dtype(">i2")
    assert not index.hierarchy.skipped


def test_hdf5_references_with_inlined_chunks(granule, scan_hdf5, compare_with_fsspec):
    references = scan_hdf5(granule, inline=700)
    index = build(references)
    compare_with_fsspec(index, references)
    assert index.counts("x").inlined == 1
    assert isinstance(location(index, "x", (0,)), Inlined)


def test_combined_references(combined, compare_with_fsspec):
    index = build(combined)
    assert compare_with_fsspec(index, combined) > 200
    assert index.granules == 5
    assert index.hierarchy.arrays["shuffled"].shape == (5, 50, 70)
    assert index.content.tables["shuffled"].pencil_axis == 0


def test_netcdf3_references(tmp_path, scan_netcdf3, compare_with_fsspec):
    path = tmp_path / "classic.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 5)
        file.createVariable("x", "f8", ("x",))[:] = np.arange(5)
        values = file.createVariable("values", "i2", ("time", "x"))
        other = file.createVariable("other", "f4", ("time", "x"))
        for step in range(4):
            values[step] = np.arange(5) + step
            other[step] = np.arange(5) / 3
    references = scan_netcdf3(path)
    index = build(references)
    assert compare_with_fsspec(index, references) == 9


def test_a_group_can_be_the_root(granule, scan_hdf5, compare_with_fsspec):
    references = scan_hdf5(granule)
    index = build(references, group="/quality/")
    assert set(index.hierarchy.arrays) == {"inner/flag"}
    assert compare_with_fsspec(index, references, group="quality") == 4
    with pytest.raises(InvalidReference, match="group 'lost'"):
        build(references, group="lost")


def test_virtualizarr_references(tmp_path, compare_with_fsspec):
    path = tmp_path / "checked.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("y", 50)
        file.createDimension("x", 40)
        for name, options in {
            "checked": {"fletcher32": True, "zlib": True},
            "plain": {"zlib": True, "shuffle": True},
            "declared": {"fill_value": -1.5},
        }.items():
            variable = file.createVariable(name, "f4", ("y", "x"), chunksizes=(16, 16), **options)
            variable[:] = np.random.default_rng(1).normal(size=(50, 40))
        file.createVariable("lazy", "f4", ("y", "x"), chunksizes=(16, 16))[:10, :10] = 1
        file.createVariable("scalar", "f8", ())[:] = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registry = ObjectStoreRegistry({"file://": LocalStore()})
        virtual = virtualizarr.open_virtual_dataset(
            path.as_uri(), registry, parser=HDFParser(), loadable_variables=["plain"]
        )
        references = virtual.vz.to_kerchunk(format="dict")
    index = build(references)
    # fsspec finds no chunk of an array without dimensions under the key that VirtualiZarr writes
    readable = {**references["refs"], "scalar/0": references["refs"]["scalar/"]}
    assert compare_with_fsspec(index, {"version": 1, "refs": readable}) == 12 + 1 + 12 + 1 + 1
    assert index.counts("lazy").unallocated == 11
    declared = index.hierarchy.arrays["declared"]
    assert declared.declared_fill == np.float32(-1.5)
    assert "_FillValue" not in declared.attributes


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bytes])
def test_compressed_and_plain_files_give_the_same_index(granule, scan_hdf5, compress):
    references = scan_hdf5(granule)
    data = json.dumps(references).encode()
    assert build(compress(data)).version == build(data).version


def test_version_0_is_a_flat_mapping(granule, scan_hdf5):
    references = scan_hdf5(granule)
    assert build(references["refs"]).version == build(references).version


def test_the_version_depends_on_content_and_not_on_order(granule, scan_hdf5):
    references = scan_hdf5(granule, inline=700)["refs"]
    version = build(references).version
    assert len(version) == 16
    assert build(dict(reversed(references.items()))).version == version
    versions = {version}
    for key, value in references.items():
        if key.endswith(("/.zattrs", "/.zarray")):
            changed = json.dumps({**json.loads(value), "note": "changed"})
        elif isinstance(value, list):
            changed = [value[0], value[1] + 1, value[2]]
        elif key.endswith((".zgroup", ".zattrs")):
            continue
        else:
            changed = "other"
        versions.add(build({**references, key: changed}).version)
    assert len(versions) == sum("/.zg" not in key and "/" in key for key in references) + 1


def test_consolidated_metadata_serve_where_there_are_no_others():
    full = one_array({"v/0.0": ["a.nc", 0, 16]})
    metadata = {key: value for key, value in full.items() if "/.z" in key or key.startswith(".z")}
    only = {".zmetadata": {"zarr_consolidated_format": 1, "metadata": metadata}, "v/0.0": ["a.nc", 0, 16]}
    assert build(only).version == build(full).version
    assert build({**full, ".zmetadata": "ignored"}).version == build(full).version


def test_forms_of_references():
    index = build(
        one_array(
            {
                "v/0.0": ["a.nc"],
                "v/0.1": ["s3://data/b.nc", 5, 16],
                "v/0.2": "plain \N{SNOWMAN}",
                "v/1.0": "base64:AAEC/w==",
            }
        )
    )
    assert location(index, "v", (0, 0)) == Stored(ChunkReference("s3://references/folder/a.nc"))
    assert location(index, "v", (0, 1)) == Stored(ChunkReference("s3://data/b.nc", 5, 16))
    assert location(index, "v", (0, 2)) == Inlined("plain \N{SNOWMAN}".encode())
    assert location(index, "v", (1, 0)) == Inlined(b"\0\1\2\xff")
    assert location(index, "v", (1, 1)) == Unallocated()
    array = index.hierarchy.arrays["v"]
    assert index.stored_nbytes(array, np.array([(0, 1), (0, 2), (1, 1)])) == 16
    assert index.stored_nbytes(array, np.array([(0, 0), (0, 1)])) is None
    assert tuple(index.counts("v")) == (6, 2, 2, 2, 16)
    assert index.allocated_count("v") == 4
    with pytest.raises(IndexError):
        index.locate(array, [(2, 0)])
    assert index.locate(array, []) == []


def test_slash_separated_keys_and_arrays_inside_arrays_paths():
    document = {**ARRAY, "dimension_separator": "/"}
    index = build(
        {
            "deep/group/v/.zarray": document,
            "deep/group/v/1/2": ["s3://data/a", 0, 16],
            "deep/group/.zattrs": {"title": "deep"},
        }
    )
    assert location(index, "deep/group/v", (1, 2)) == Stored(ChunkReference("s3://data/a", 0, 16))
    assert set(index.hierarchy.groups) == {"", "deep", "deep/group"}
    assert index.hierarchy.groups["deep/group"].attributes == {"title": "deep"}


def test_zarr_v3_documents(tmp_path):
    group = zarr.create_group(tmp_path / "store.zarr", zarr_format=3, attributes={"title": "three"})
    array = group.create_array("v", shape=(4, 6), chunks=(2, 2), dtype="f4", dimension_names=("y", "x"))
    array[:] = np.arange(24).reshape(4, 6)
    store = tmp_path / "store.zarr"
    references = {
        str(path.relative_to(store)): json.loads(path.read_text())
        if path.name == "zarr.json"
        else [str(path), 0, path.stat().st_size]
        for path in store.rglob("*")
        if path.is_file()
    }
    index = build(references)
    assert index.hierarchy.groups[""].attributes == {"title": "three"}
    for chunk in [(0, 0), (1, 2), (0, 1)]:
        found = location(index, "v", chunk)
        assert found.reference.url == (store / "v" / "c" / str(chunk[0]) / str(chunk[1])).as_uri()


def test_arrays_without_dimensions():
    document = {**ARRAY, "shape": [], "chunks": []}
    for key in ("v/0", "v/"):
        index = build(one_array({key: "abcd"}, document, {"_ARRAY_DIMENSIONS": []}))
        assert location(index, "v", ()) == Inlined(b"abcd")


def test_arrays_that_cannot_be_served_are_skipped_with_the_reason():
    references = one_array({"v/0.0": ["s3://data/a", 0, 16]})
    references |= {
        "grib/.zarray": {**ARRAY, "filters": [{"id": "grib"}]},
        "grib/0.0": ["s3://data/b", 0, 16],
        "odd/.zarray": {**ARRAY, "dtype": "nonsense"},
        "huge/.zarray": {**ARRAY, "shape": [2**40, 2**40], "chunks": [1, 1]},
        "pickled/.zarray": {**ARRAY, "dtype": "|O", "filters": [{"id": "pickle"}]},
    }
    index = build(references)
    assert set(index.hierarchy.arrays) == {"v"}
    assert set(index.hierarchy.skipped) == {"grib", "odd", "huge", "pickled"}
    assert "grib" in index.hierarchy.skipped["grib"]
    assert list(index.urls) == ["s3://data/a"]


def test_a_trailing_compressor_moves_out_of_the_filters(granule, scan_hdf5):
    references = scan_hdf5(granule)
    before = json.loads(references["refs"]["shuffled/.zarray"])
    assert [codec["id"] for codec in before["filters"]] == ["shuffle", "zlib"]
    assert before["compressor"] is None
    after = build(references).hierarchy.arrays["shuffled"]
    assert after.document["compressor"] == before["filters"][1]
    assert after.document["filters"] == before["filters"][:1]
    assert after.codecs.compressor == before["filters"][1]
    only = {**ARRAY, "filters": [{"id": "zlib", "level": 1}]}
    assert build(one_array({}, only)).hierarchy.arrays["v"].document["filters"] is None
    last = {**ARRAY, "filters": [{"id": "zlib", "level": 1}, {"id": "fletcher32"}]}
    assert build(one_array({}, last)).hierarchy.arrays["v"].document == last


def test_not_a_number_is_accepted_in_metadata():
    references = json.dumps(one_array({}, {**ARRAY, "fill_value": float("nan")}, {"valid_max": float("inf")}))
    array = build(references.encode()).hierarchy.arrays["v"]
    assert np.isnan(array.fill_value)
    assert array.attributes == {"valid_max": float("inf")}


def test_empty_templates_are_nothing():
    document = {"version": 1, "templates": {}, "gen": [], "refs": one_array({})}
    assert build(document).version == build(one_array({})).version


def test_every_url_is_checked_once_as_it_would_be_read():
    seen = []
    chunks = {"v/0.0": ["a b.nc", 0, 1], "v/0.1": ["./a b.nc", 2, 1], "v/0.2": ["/srv/a b.nc", 0, 1],
              "v/1.0": ["/srv//a b.nc", 1, 1], "v/1.1": ["S3://d/a", 1, 1]}  # fmt: skip
    index = build(one_array(chunks), check_url=seen.append)
    assert (
        sorted(seen)
        == list(index.urls)
        == ["file:///srv/a%20b.nc", "s3://d/a", "s3://references/folder/a b.nc"]
    )


def test_a_refusal_of_the_check_goes_through():
    def refuse(url):
        raise UpstreamRefused("no")

    with pytest.raises(UpstreamRefused):
        build(one_array({"v/0.0": ["s3://d/a", 0, 1]}), check_url=refuse)
    assert build(one_array({"v/0.0": "abcd"}), check_url=refuse).granules == 0


@pytest.mark.parametrize(
    ("written", "base", "expected"),
    [
        ("a.nc", "file:///srv/refs/r%20s.json", "file:///srv/refs/a.nc"),
        ("../d e/a#1.nc", "file:///srv/refs/r.json", "file:///srv/d%20e/a%231.nc"),
        ("a.nc", "https://host/refs/r.json", "https://host/refs/a.nc"),
        ("/srv/100%.nc", "s3://b/r.json", "file:///srv/100%25.nc"),
        ("file:///srv/a b.nc", "s3://b/r.json", "file:///srv/a%20b.nc"),
        ("file:///srv/a%20b.nc", "s3://b/r.json", "file:///srv/a%20b.nc"),
        ("HTTPS://Host/a?x=1", "s3://b/r.json", "https://Host/a?x=1"),
    ],
)
def test_urls_are_normalised(written, base, expected):
    assert resolve_url(written, base) == expected


def test_real_reference_sets(virtual_data, compare_with_fsspec):
    built = {}
    for path in sorted(virtual_data.rglob("*.json*")):
        try:
            built[path.name] = build(path.read_bytes(), base_url=path.as_uri())
        except InvalidReference:
            built[path.name] = None
    for name in ("RADAR.json", "reference.json", "ARG_combined.json", "HRRR_combined.json"):
        path = next(virtual_data.rglob(name))
        document = json.loads(path.read_bytes())["refs"]
        index = built[name]
        for key, value in document.items():
            array, _, chunk = key.rpartition("/")
            if array not in index.hierarchy.arrays or chunk.startswith(".z"):
                continue
            coordinates = tuple(map(int, chunk.split("."))) if index.hierarchy.arrays[array].shape else ()
            found = location(index, array, coordinates)
            if isinstance(value, list):
                assert found.reference == ChunkReference(*value)
            else:
                assert isinstance(found, Inlined)
        assert index.hierarchy.arrays


async def test_real_hdf5_files(virtual_data, scan_hdf5, compare_with_fsspec, tmp_path):
    compared = {}
    for path in sorted((virtual_data / "kerchunk").glob("*.[hn][5c]")):
        copy = shutil.copy(path, tmp_path)
        try:
            references = scan_hdf5(copy)
        except (NotImplementedError, RuntimeError, OSError, ValueError) as error:
            compared[path.name] = type(error).__name__
            continue
        index = build(references)
        settled = await settle_references(index, LocalFiles(parse_address(tmp_path.as_uri())), policy="auto")
        compared[path.name] = compare_with_fsspec(settled, references)
        with h5py.File(copy) as file:
            for name, array in settled.hierarchy.arrays.items():
                assert (array.declared_fill is not None) == ("_FillValue" in file[name].attrs)
    assert {name for name, count in compared.items() if isinstance(count, int)} >= {
        "air.nc",
        "hdf5_compression_blosc_lz4_bitshuffle.h5",
        "hdf5_mini_shuffle_zstd.h5",
    }
