"""Overviews of the demo cubes have the values of the granules, and of the ITS_LIVE store in its own order of time."""

import json
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from cubegate.cli import main


@pytest.fixture
def overviews(demo, capsys):
    """Build overviews of one variable, in a folder of their own; returns the group of a level."""
    folder = demo / "beside"

    def build(name, variable, factor):
        arguments = ["overviews", name, "--variables", variable, "-o", str(folder / name), "--json"]
        assert main([*arguments, "--config", str(demo / "cubegate.yaml")]) == 0
        report = json.loads(capsys.readouterr().out)
        store = folder / name / f"{report['version']}.zarr"
        root = zarr.open_group(store, mode="r").attrs["cubegate_overviews"]["root"]
        return xr.open_zarr(store, group=f"{root}/overview_{factor}", decode_times=False).load()

    yield build
    shutil.rmtree(folder)


def means(values, factor):
    *lead, height, width = values.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.full((*lead, rows * factor, columns * factor), np.nan)
    padded[..., :height, :width] = values
    blocks = padded.reshape(*lead, rows, factor, columns, factor)
    there = np.zeros((rows * factor, columns * factor))
    there[:height, :width] = 1
    known = np.isfinite(blocks).sum(axis=(-3, -1))
    enough = 2 * known >= there.reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        return np.where(enough, np.nansum(blocks, axis=(-3, -1)) / known, np.nan)


def test_the_opera_cube(demo, granules, overviews, compared):
    with overviews("opera-f11116-json", "displacement", 4) as found:
        for number, path in enumerate(granules):
            with h5py.File(path) as granule:
                wanted = means(granule["displacement"][...].squeeze(), 4)
            np.testing.assert_allclose(found.displacement.values[number], wanted, rtol=1e-5, atol=1e-8)
        compared(found.displacement.values)


def test_the_its_live_cube(demo, overviews, compared):
    with overviews("its-live", "v", 2) as found, xr.open_zarr(demo / "its-live.zarr") as cube:
        np.testing.assert_allclose(found.v.values, means(cube.v.values, 2), rtol=1e-6)
        compared(found.v.values)
        with xr.open_zarr(demo / "its-live.zarr", decode_times=False) as raw:
            np.testing.assert_array_equal(found.mid_date.values, raw.mid_date.values)
