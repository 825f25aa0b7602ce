"""Files of every kind that HDF5 knows, and all values that an index finds in them."""

import itertools

import h5py
import numpy as np
import pytest

from cubegate.index.location import Inlined, Stored
from cubegate.store.decoder import decode


def _write_kinds(path, **options):
    """Write one dataset for each way in which HDF5 keeps values; `options` are of the file."""
    random = np.random.default_rng(5)
    with h5py.File(path, "w", **options) as file:
        axes = {"y": np.arange(30.0), "x": np.arange(50, dtype=">i4")}
        for name, values in axes.items():
            file[name] = values
            file[name].make_scale(name)
        grid = random.normal(size=(30, 50)).astype("f4")
        chunked = {"chunks": (8, 16)}
        made = {
            "plain": file.create_dataset("plain", data=grid, **chunked),
            "deflated": file.create_dataset("deflated", data=grid, compression="gzip", **chunked),
            "shuffled": file.create_dataset(
                "shuffled", data=grid, shuffle=True, compression="gzip", compression_opts=7, **chunked
            ),
            "summed": file.create_dataset(
                "summed", data=grid, shuffle=True, compression="gzip", fletcher32=True, **chunked
            ),
            "big": file.create_dataset("deep/big", data=grid.astype(">f8"), compression="gzip", **chunked),
            "contiguous": file.create_dataset("contiguous", data=grid.astype(">i2")),
            "bytes": file.create_dataset(
                "bytes", data=random.integers(0, 255, (30, 50), dtype="u1"), shuffle=True, compression="gzip"
            ),
        }
        partial = file.create_dataset("partial", (30, 50), "i2", fillvalue=-5, compression="gzip", **chunked)
        partial[8:16, 16:40] = 3
        partial.attrs["_FillValue"] = np.int16(-5)
        unwritten = file.create_dataset("deep/unwritten", (30, 50), "f4", fillvalue=np.nan, **chunked)
        never = file.create_dataset("never", (30, 50), "f8", fillvalue=7.5)
        for array in (*made.values(), partial, unwritten, never):
            array.dims[0].attach_scale(file["y"])
            array.dims[1].attach_scale(file["x"])
        file["scalar"] = np.float32(2.5)
        file["shuffled"].attrs["units"], file["shuffled"].attrs["valid_range"] = "m", [0.5, 1.5]
        file.attrs["title"] = "all kinds"
    return path


@pytest.fixture
def write_kinds():
    return _write_kinds


def stored_values(path):
    """Return what h5py reads of every dataset of a file, by path."""
    found = {}

    def read(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()], object if item.dtype.kind == "O" else None)

    # opened as a file object, since HDF5 would lock the file by its name
    with path.open("rb") as opened, h5py.File(opened, "r") as file:
        file.visititems(read)
    return found


@pytest.fixture
def values_of():
    """Return all values of an array of an index."""

    async def values_of(index, path, source):
        array = index.hierarchy.arrays[path]
        values = np.empty(array.shape, array.dtype)
        values[...] = ("" if array.dtype.hasobject else 0) if array.fill_value is None else array.fill_value
        for chunk in itertools.product(*map(range, array.chunk_grid)):
            (location,) = index.locate(array, [chunk])
            if isinstance(location, Inlined):
                data = location.data
            elif isinstance(location, Stored):
                data = await source.get(location.reference)
            else:
                continue
            sizes = zip(chunk, array.chunk_shape, strict=True)
            part = values[(*(slice(at * size, (at + 1) * size) for at, size in sizes), ...)]
            part[...] = decode(array, data)[tuple(slice(0, size) for size in part.shape)]
        return values

    return values_of


@pytest.fixture
def same_values(values_of, local_source):
    """Compare arrays of an index with those that h5py reads; returns how many values were."""

    async def same_values(index, expected, source=local_source):
        count = 0
        for path, wanted in expected.items():
            got = await values_of(index, path, source)
            assert got.shape == wanted.shape, path
            if wanted.dtype.kind == "O":
                texts = [text.decode("utf-8", "replace") for text in wanted.reshape(-1)]
                assert list(got.reshape(-1)) == texts, path
            else:
                assert got.dtype.kind == wanted.dtype.kind, path
                np.testing.assert_array_equal(got, wanted, err_msg=path)
            count += wanted.size
        return count

    return same_values
