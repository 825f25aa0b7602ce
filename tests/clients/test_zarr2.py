"""zarr-python 2.18, in an environment of its own, reads the demo cubes as Zarr v2."""

import json
import subprocess

import h5py
import numpy as np
import pytest
import zarr
from rich.console import Console
from tests.clients.programs import ZARR2, needs

from cubegate.demo import make_demo

pytestmark = needs("zarr 2", ZARR2.exists())
# the first date, the one with a chunk that was never written, and the last
DATES = [0, 6, 23]
# neither is a multiple of the chunks' sizes
WINDOW = (slice(20, 95), slice(31, 62))

# What runs there: every array of a store through zarr itself and through xarray, into one file.
SCRIPT = """
import json, sys
import numpy as np, xarray as xr, zarr

assert zarr.__version__.startswith("2.18."), zarr.__version__
url, dates, rows, columns, target = json.loads(sys.argv[1])
found = {}
group = zarr.open_consolidated(url, mode="r")
listed = zarr.open_group(url, mode="r")
assert group.info and sorted(group.array_keys())
cube = xr.open_zarr(url, chunks=None, consolidated=True)
raw = xr.open_zarr(url, chunks=None, consolidated=True, mask_and_scale=False, decode_times=False)
for name, array in group.arrays():
    part = tuple(
        {"time": dates, "y": slice(*rows), "x": slice(*columns)}.get(dim, slice(None))
        for dim in array.attrs["_ARRAY_DIMENSIONS"]
    )
    found["zarr/" + name] = array.oindex[part] if part else array[()]
    assert (listed[name].shape, listed[name].dtype) == (array.shape, array.dtype)
    found["xarray/" + name] = cube[name][part].values
    found["raw/" + name] = raw[name][part].values
np.savez(target, **{key: value.astype(str) if value.dtype == object else value for key, value in found.items()})
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("zarr2") / "demo-data"
    make_demo(directory, Console(quiet=True))
    return directory


@pytest.fixture(scope="module")
def server(demo, serve_configuration):
    return f"{serve_configuration(demo / 'cubegate.yaml', {})}/datasets"


@pytest.fixture
def read(server, tmp_path):
    """What zarr 2.18 reads below an address: arrays, through zarr, and decoded and raw through xarray."""

    def read_cube(path):
        target = tmp_path / "values.npz"
        windows = [[part.start, part.stop] for part in WINDOW]
        options = json.dumps([f"{server}/{path}", DATES, *windows, str(target)])
        result = subprocess.run(
            [ZARR2, "-W", "error::RuntimeWarning", "-c", SCRIPT, options],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        with np.load(target) as file:
            return {key: file[key] for key in file}

    return read_cube


def masked(values, fill):
    return values if fill is None else np.where(values == fill, np.nan, values)


@pytest.mark.parametrize("path", ["opera-f11116/zarr", "opera-f11116/zarr-plain", "opera-f11116-json/zarr"])
def test_a_stack_of_granules(demo, read, compared, path):
    found = read(path)
    paths = sorted((demo / "granules").iterdir(), key=lambda path: path.name.split("_")[7])
    with h5py.File(paths[0]) as file:
        gridded = [name for name in file if file[name].ndim == 2]
        fills = {name: file[name].attrs.get("_FillValue", [None])[0] for name in gridded}
        for axis, part in zip(("y", "x"), WINDOW, strict=True):
            np.testing.assert_array_equal(found[f"xarray/{axis}"], file[axis][part])
    granules = [h5py.File(paths[date]) for date in DATES]
    for name in gridded:
        expected = np.stack([file[name][WINDOW] for file in granules])
        for way in ("zarr", "raw"):
            np.testing.assert_array_equal(found[f"{way}/{name}"], expected)
            assert found[f"{way}/{name}"].dtype == expected.dtype
            compared(expected)
        np.testing.assert_array_equal(found[f"xarray/{name}"], masked(expected, fills[name]))
        compared(expected)
    seconds = np.array([file["time"][()] for file in granules])
    np.testing.assert_array_equal(found["raw/time"], seconds)
    np.testing.assert_array_equal(found["xarray/time"], (seconds * 1e9).astype("M8[ns]"))
    for file in granules:
        file.close()
    assert len(gridded) == 5


@pytest.mark.parametrize("tree", ["zarr", "zarr-plain"])
def test_a_zarr_store_with_strings_and_integers_that_mean_missing(demo, read, compared, tree):
    found = read(f"its-live/{tree}")
    store = zarr.open_group(demo / "its-live.zarr", mode="r")
    for name, array in store.arrays():
        dims = array.attrs["_ARRAY_DIMENSIONS"]
        expected = array.oindex[tuple({"y": WINDOW[0], "x": WINDOW[1]}.get(dim, slice(None)) for dim in dims)]
        if expected.dtype.kind in "OTU":
            expected = expected.astype(object).astype(str)
        for way in ("zarr", "raw"):
            np.testing.assert_array_equal(found[f"{way}/{name}"], expected)
            compared(expected)
        if name in ("v", "vx", "vy"):
            np.testing.assert_array_equal(found[f"xarray/{name}"], masked(expected, -32767))
            assert np.isnan(found[f"xarray/{name}"]).any()
            compared(expected)
    days = np.datetime64("1970-01-01", "ns") + (store["mid_date"][:] * 86_400e9).astype("m8[ns]")
    assert np.abs(found["xarray/mid_date"] - days).max() < np.timedelta64(1, "us")
    assert {"v", "satellite_img1", "mission_img1", "mapping"} <= set(dict(store.arrays()))
