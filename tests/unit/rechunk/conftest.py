"""Cubes to be written again: a stack of granules in small chunks, and a native store of long ones."""

from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from cubegate.cli import main

TIMES, ROWS, COLUMNS = 40, 12, 10


def _write_pencils(path):
    """A Zarr v2 store with chunks of all times; returns its values, with NaN of two kinds and zeros of both signs."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(TIMES, ROWS, COLUMNS)).astype("f4")
    values[0, 0, :4] = [0.0, -0.0, np.nan, np.uint32(0x7FC00001).view("f4")]
    packed = rng.integers(-3000, 3000, (TIMES, ROWS, COLUMNS)).astype(">i2")
    names = np.array([f"pair {number % 7}" for number in range(TIMES)], object)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for name, array, dims, chunks, more in (
        ("v", values, ("time", "y", "x"), (TIMES, 2, 2), {"fill_value": 0.0}),
        ("packed", packed, ("time", "y", "x"), (TIMES, 3, 5), {"fill_value": -3}),
        ("time", np.arange(TIMES)[::-1].astype("i8"), ("time",), (TIMES,), {}),
        ("y", 4e6 - 120.0 * np.arange(ROWS), ("y",), (ROWS,), {}),
        ("x", 5e5 + 120.0 * np.arange(COLUMNS), ("x",), (COLUMNS,), {}),
        ("pair", names, ("time",), (16,), {}),
    ):
        dtype = str if array.dtype.hasobject else array.dtype
        made = root.create_array(name, shape=array.shape, dtype=dtype, chunks=chunks, **more)
        made[:] = array
        made.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    root["packed"].attrs.update({"scale_factor": 0.5, "units": "m/yr"})
    root["time"].attrs.update({"units": "days since 2020-01-01", "calendar": "standard"})
    root["y"].attrs["standard_name"] = "projection_y_coordinate"
    root["x"].attrs["standard_name"] = "projection_x_coordinate"
    root.attrs["title"] = "pencils"
    zarr.consolidate_metadata(path, zarr_format=2)
    return {"v": values, "packed": packed, "pair": names}


@pytest.fixture
def cubes(tmp_path, make_stack, write_configuration):
    """A configuration that mounts `stack` (HDF5 granules) and `pencils` (Zarr v2), and their true values."""
    stack = make_stack(tmp_path / "stack")
    pencils = _write_pencils(tmp_path / "pencils.zarr")
    config = write_configuration(
        tmp_path,
        stack="source: {kind: kerchunk, href: ../stack/stack.json}\ncrs: EPSG:32611",
        pencils="source: {kind: zarr, href: ../pencils.zarr}",
    )
    return SimpleNamespace(config=config, stack=stack, pencils=pencils)


@pytest.fixture
def rechunk(cubes, tmp_path):
    """Run the command on one of the cubes; returns the exit code, and where the output is."""

    def rechunk(dataset, *options, output=None):
        output = output or str(tmp_path / "written")
        return main(["rechunk", dataset, "-o", output, "--config", str(cubes.config), *options]), output

    return rechunk
