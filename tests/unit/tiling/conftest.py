"""Cubes in memory on the kinds of grid that maps are drawn of, and GDAL's picture of the same values."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio.crs
import rasterio.warp
import xarray as xr
from pyproj import CRS
from rasterio.transform import Affine

from cubegate.query.budget import plan_query
from cubegate.query.variables import GridSettings
from cubegate.settings import LimitSettings
from cubegate.tiling.layers import find_layers

PARTS = 16


class Source:
    """A cube in memory."""

    def __init__(self, dataset, name="made"):
        self.id, self._dataset, self.grid_settings = name, dataset, GridSettings()

    async def dataset(self, group=""):
        return self._dataset

    async def sidecar(self, group):
        return None

    async def plan(self, group, query, limits):
        return plan_query(self._dataset, self.grid_settings, query, limits)


def _cube(crs, x, y, seed, *, degrees=False, dates=3):
    random = np.random.default_rng(seed)
    values = random.normal(size=(dates, len(y), len(x))).astype("f4")
    values[:, :2, :3] = np.nan
    names = ("lon", "lat") if degrees else ("x", "y")
    units = ("degrees_east", "degrees_north") if degrees else ("m", "m")
    standard = (
        ("longitude", "latitude") if degrees else ("projection_x_coordinate", "projection_y_coordinate")
    )
    coordinates = {
        name: (name, values_there, {"units": unit, "standard_name": said})
        for name, values_there, unit, said in zip(names, (x, y), units, standard, strict=True)
    }
    time = np.datetime64("2020-01-01", "ns") + np.arange(dates) * np.timedelta64(12, "D")
    dataset = xr.Dataset(
        {"v": (("time", *names[::-1]), values, {"units": "m", "grid_mapping": "mapping"})},
        {"time": time, **coordinates},
    )
    dataset["mapping"] = ((), np.int32(0), CRS.from_user_input(crs).to_cf())
    return dataset


@pytest.fixture(scope="session")
def made():
    """By name: a dataset, its CRS, and the affine transform of its grid."""
    polar = 25_000 * (np.arange(-60, 60) + 0.5)
    return {
        "utm": (_cube("EPSG:32611", 400_015 + 30.0 * np.arange(180), 3_900_000 - 30.0 * np.arange(150), 1),
                "EPSG:32611", Affine(30, 0, 400_000, 0, -30, 3_900_015)),
        "pole": (_cube("EPSG:3413", polar, -polar, 2), "EPSG:3413", Affine(25_000, 0, -1.5e6, 0, -25_000, 1.5e6)),
        "seam": (_cube("EPSG:4326", 170.05 + 0.1 * np.arange(200), 70.05 - 0.1 * np.arange(120) - 0.1, 3, degrees=True),
                 "EPSG:4326", Affine(0.1, 0, 170, 0, -0.1, 70)),
        "south": (_cube("EPSG:3031", polar, -polar, 4), "EPSG:3031", Affine(25_000, 0, -1.5e6, 0, -25_000, 1.5e6)),
    }  # fmt: skip


@pytest.fixture
def layer_of(made):
    async def find(*names):
        layers = await find_layers([Source(made[name][0], name) for name in names], "")
        return layers["v"]

    return find


def _warped(values, source_crs, source, lattice):
    picture = np.full((lattice.height, lattice.width), np.nan, values.dtype)
    # GDAL places a pixel up to an eighth of a cell beside where it lies: here of a part of a cell
    finer = np.repeat(np.repeat(values, PARTS, 0), PARTS, 1)
    rasterio.warp.reproject(
        finer, picture, src_transform=source * Affine.scale(1 / PARTS), src_crs=source_crs, src_nodata=np.nan,
        dst_transform=Affine(lattice.width_of_cell, 0, lattice.west, 0, -lattice.height_of_cell, lattice.north),
        dst_crs=rasterio.crs.CRS.from_wkt(lattice.crs.to_wkt()), dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling.nearest,
    )  # fmt: skip
    return picture


@pytest.fixture
def warped():
    """Return what GDAL's warp makes of values on a lattice, with an eighth of a sixteenth of a cell as its tolerance."""
    return _warped


@pytest.fixture
def limits():
    return LimitSettings()


@pytest.fixture
def source():
    return Source


@pytest.fixture
def facts():
    return SimpleNamespace
