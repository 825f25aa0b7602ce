from __future__ import annotations

import gc
import itertools
import warnings
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h5py
import netCDF4
import numpy as np
import pytest
from fsspec.implementations.reference import LazyReferenceMapper, ReferenceFileSystem
from kerchunk.combine import MultiZarrToZarr
from kerchunk.hdf import SingleHdf5ToZarr
from kerchunk.netCDF3 import NetCDF3ToZarr

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.index.location import Inlined, Stored, Unallocated

VIRTUAL = Path(__file__).parents[4] / "shared" / "data" / "grids" / "virtual"


@pytest.fixture
def virtual_data():
    if not VIRTUAL.is_dir():
        pytest.skip("the shared kerchunk sets are not beside the project")
    return VIRTUAL


@pytest.fixture
def local_source(tmp_path):
    return LocalFiles(parse_address(tmp_path.as_uri()))


@pytest.fixture
def allow_all():
    return lambda _: None


def write_granule(path, day=0):
    generator = np.random.default_rng(day)
    with netCDF4.Dataset(path, "w") as granule:
        for name, size in (("time", None), ("y", 50), ("x", 70)):
            granule.createDimension(name, size)
        time = granule.createVariable("time", "i4", ("time",))
        time.units = "days since 2020-01-01"
        time[:] = [day]
        granule.createVariable("y", ">f8", ("y",), endian="big")[:] = np.arange(50, 0, -1)
        granule.createVariable("x", "f8", ("x",))[:] = np.arange(70)
        grid = ("time", "y", "x")
        chunks = {"chunksizes": (1, 16, 32)}
        plain = granule.createVariable("shuffled", "f4", grid, zlib=True, shuffle=True, **chunks)
        plain[:] = generator.normal(size=(1, 50, 70))
        swapped = granule.createVariable("swapped", ">i2", grid, zlib=True, endian="big", **chunks)
        swapped[:] = generator.integers(-99, 99, size=(1, 50, 70))
        declared = granule.createVariable("declared", "i2", grid, fill_value=-9999, **chunks)
        declared[:] = generator.integers(0, 9, size=(1, 50, 70))
        zero = granule.createVariable("zero_declared", "u1", grid, fill_value=0, zlib=True, **chunks)
        zero[:] = generator.integers(0, 3, size=(1, 50, 70))
        partial = granule.createVariable("partial", "f4", grid, zlib=True, **chunks)
        partial[0, 40:, 60:] = 1.5
        granule.createVariable("spatial_ref", "i4", ()).crs_wkt = "LOCAL_CS"
        names = granule.createVariable("name", str, ("time",))
        names[0] = f"granule {day} \N{GREEK SMALL LETTER DELTA}"
        inner = granule.createGroup("quality").createGroup("inner")
        inner.createVariable("flag", "u1", ("y", "x"), zlib=True, chunksizes=(25, 35))[:] = (
            generator.integers(0, 2, size=(50, 70))
        )
    return path


def write_hdf5_without_fill(path):
    with h5py.File(path, "w") as file:
        counts = file.create_dataset(
            "counts", shape=(40, 40), dtype="i4", chunks=(16, 16), compression="gzip"
        )
        counts[:16, :16] = np.arange(256).reshape(16, 16)
        tagged = file.create_dataset("tagged", shape=(40, 40), dtype="i4", chunks=(16, 16))
        tagged.attrs["_FillValue"] = np.int32(0)
        tagged[:] = 3
        odd = file.create_dataset("odd", shape=(40,), dtype="f4", chunks=(16,), fillvalue=-5.0)
        odd[:20] = 1
        group = file.create_group("below")
        group.create_dataset("counts2", data=np.zeros((4, 4), dtype="u2"), chunks=(2, 2))
    return path


@pytest.fixture
def granule(tmp_path):
    return write_granule(tmp_path / "granule one.nc")


@pytest.fixture
def hdf5_granule(tmp_path):
    return write_hdf5_without_fill(tmp_path / "plain.h5")


@pytest.fixture
def stack(tmp_path):
    return [write_granule(tmp_path / f"granule_{day}.nc", day) for day in range(5)]


@contextmanager
def kerchunk_at_work():
    # kerchunk holds HDF5's lock while zarr's thread works for it: if that thread collected a forgotten
    # HDF5 object, both would wait for ever
    gc.collect()
    gc.disable()
    try:
        # kerchunk and the zarr that it calls warn about each other
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.enable()


def scan(path, inline=0, error="raise"):
    with kerchunk_at_work():
        return SingleHdf5ToZarr(
            str(path), inline_threshold=inline, error=error, vlen_encode="embed"
        ).translate()


@pytest.fixture
def scan_hdf5():
    return scan


@pytest.fixture
def write_compact():
    """Write an array into the header of its HDF5 dataset, from where kerchunk makes no reference to it."""

    def write_compact(file, name, values, fill=None):
        values = np.asarray(values)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        if fill is not None:
            properties.set_fill_value(np.asarray(fill, values.dtype))
        space = h5py.h5s.create_simple(values.shape) if values.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = h5py.h5t.py_create(values.dtype, logical=True)
        dataset = h5py.h5d.create(file.id, name.encode(), kind, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return h5py.Dataset(dataset)

    return write_compact


@pytest.fixture
def scan_netcdf3():
    def scan_netcdf3(path):
        with kerchunk_at_work():
            return NetCDF3ToZarr(str(path), inline_threshold=0).translate()

    return scan_netcdf3


@pytest.fixture
def combined(stack):
    # kerchunk runs an event loop of its own, which an asynchronous test could not
    scanned = [scan(path, inline=50) for path in stack]
    with kerchunk_at_work():
        return MultiZarrToZarr(
            scanned,
            concat_dims=["time"],
            identical_dims=["x", "y", "spatial_ref"],
            remote_protocol="file",
        ).translate()


@pytest.fixture
def write_parquet(tmp_path):
    def write_parquet(references, record_size=7, engine="pyarrow", name="references.parq"):
        with kerchunk_at_work():
            folder = tmp_path / name
            mapper = LazyReferenceMapper.create(str(folder), record_size=record_size, engine=engine)
            for key in sorted(references["refs"]):
                mapper[key] = references["refs"][key]
            mapper.flush()
        return folder

    return write_parquet


def encoded_bytes(location):
    if isinstance(location, Inlined):
        return location.data
    assert isinstance(location, Stored)
    reference = location.reference
    data = Path(unquote(urlsplit(reference.url).path)).read_bytes()
    if reference.length is None:
        return data
    return data[reference.offset : reference.offset + reference.length]


@pytest.fixture
def compare_with_fsspec():
    """Compares every chunk of an index with what fsspec's reference filesystem reads for its key."""

    def compare(index, references, group=""):
        filesystem = ReferenceFileSystem(references, remote_protocol="file", skip_instance_cache=True)
        compared = 0
        for path, array in index.hierarchy.arrays.items():
            chunks = list(itertools.product(*map(range, array.chunk_grid)))
            for chunk, location in zip(chunks, index.locate(array, chunks), strict=True):
                key = "/".join(filter(None, (group, path, ".".join(map(str, chunk)) or "0")))
                try:
                    expected = filesystem.cat_file(key)
                except (FileNotFoundError, KeyError):
                    assert isinstance(location, Unallocated), key
                    continue
                assert encoded_bytes(location) == expected, key
                compared += 1
        assert compared > 0
        return compared

    return compare
