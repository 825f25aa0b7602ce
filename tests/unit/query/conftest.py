"""Small cubes in memory, on the kinds of grid that real archives have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyproj import CRS


def _cube(x, y, times, *, names=("x", "y"), attributes=({}, {}), crs=None):
    x_name, y_name = names
    shape = (len(times), len(y), len(x))
    values = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    dataset = xr.Dataset(
        {"displacement": (("time", y_name, x_name), values, {"units": "m"})},
        {
            "time": ("time", times),
            y_name: (y_name, np.asarray(y), attributes[1]),
            x_name: (x_name, np.asarray(x), attributes[0]),
        },
    )
    if crs is not None:
        dataset["spatial_ref"] = ((), 0, CRS.from_user_input(crs).to_cf())
        dataset["displacement"].attrs["grid_mapping"] = "spatial_ref"
    return dataset


PROJECTED = (
    {"standard_name": "projection_x_coordinate", "units": "m"},
    {"standard_name": "projection_y_coordinate", "units": "m"},
)
DEGREES = ({"units": "degrees_east"}, {"units": "degrees_north"})


@pytest.fixture
def times():
    return pd.date_range("2020-01-01", periods=6, freq="12D").to_numpy()


@pytest.fixture
def utm(times):
    """30 m, y descending, EPSG:32611."""
    x = 400_015 + 30.0 * np.arange(80)
    y = 3_900_000 - 30.0 * np.arange(60)
    return _cube(x, y, times, attributes=PROJECTED, crs="EPSG:32611")


@pytest.fixture
def polar(times):
    """Around the north pole, EPSG:3413, 100 km."""
    x = np.arange(-2_450_000, 2_500_000, 100_000.0)
    return _cube(x, -x, times, attributes=PROJECTED, crs="EPSG:3413")


@pytest.fixture
def globe(times):
    """Longitudes 0 to 358, latitudes descending, no grid mapping."""
    return _cube(
        np.arange(0, 360, 2.0), np.arange(88, -90, -2.0), times, names=("lon", "lat"), attributes=DEGREES
    )


@pytest.fixture
def irregular(times):
    """A Gaussian-like grid: irregular latitudes, longitudes -180 to 180."""
    lat = np.array([-80.0, -55, -32, -14, -3, 5, 21, 44, 70])
    return _cube(np.arange(-175, 180, 10.0), lat, times, names=("longitude", "latitude"), attributes=DEGREES)


@pytest.fixture
def make_cube():
    return _cube
