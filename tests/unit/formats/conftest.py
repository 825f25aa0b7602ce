"""Results of many kinds, built with NumPy and pyproj alone."""

import io
from collections.abc import Callable
from dataclasses import replace

import cftime
import numpy as np
import pandas as pd
import pyproj
import pytest
import xarray as xr

from cubegate.formats.output import Result

PROVENANCE = {"dataset": "demo", "version": "abc123", "title": "A demo\ncube", "source": "kerchunk"}
DATES = np.array(["2020-01-13", "2020-01-25T06:30", "2020-02-06T00:00:00.123456789"], "M8[ns]")


def decoded_counts() -> xr.Variable:
    stored = xr.Variable(
        ("time", "y", "x"), np.arange(60, dtype="i2").reshape(3, 4, 5) - 20, {"_FillValue": np.int16(-7)}
    )
    return xr.conventions.decode_cf_variable("counts", stored)


def grid_variables(rng: np.random.Generator) -> dict[str, xr.Variable]:
    dims = ("time", "y", "x")
    displacement = rng.standard_normal((3, 4, 5)).astype("f4")
    displacement[:, 0, :2] = np.nan
    displacement[1, 2, 3] = 0.1
    texts = np.array([["plain", "", 'a "quote", here', "# no comment", "two\nlines"]] * 4, object)
    return {
        "displacement": xr.Variable(
            dims, displacement, {"units": "m", "long_name": "Displacement", "grid_mapping": "spatial_ref"}
        ),
        "coherence": xr.Variable(dims, rng.random((3, 4, 5)), {"units": "1", "grid_mapping": "spatial_ref"}),
        "counts": decoded_counts(),
        "big": xr.Variable(("y", "x"), np.arange(20).reshape(4, 5) + 2**60),
        "valid": xr.Variable(("y", "x"), rng.random((4, 5)) > 0.5),
        "label": xr.Variable(("y", "x"), texts),
        "observed": xr.Variable(
            ("time", "y", "x"), np.broadcast_to(DATES[:, None, None], (3, 4, 5)) + np.timedelta64(1, "s")
        ),
        "phasor": xr.Variable(dims, (rng.random((3, 4, 5)) + 1j * rng.random((3, 4, 5))).astype("c8")),
    }


@pytest.fixture
def cube() -> Callable[..., Result]:
    """Make a cube of the named variables; `crs`, `ascending` and `geographic` shape its grid."""

    def make(
        *names: str, crs: str = "EPSG:32611", ascending: bool = False, geographic: bool = False, **options
    ) -> Result:
        made = grid_variables(np.random.default_rng(1))
        y = 3_700_000.0 - 30 * np.arange(4) if not geographic else 35.5 - 0.25 * np.arange(4)
        x = 400_000.0 + 30 * np.arange(5) if not geographic else -118.5 + 0.25 * np.arange(5)
        coords = {"time": DATES, "y": y[::-1] if ascending else y, "x": x}
        dataset = xr.Dataset({name: made[name] for name in names or ("displacement",)}, coords)
        dataset["spatial_ref"] = xr.Variable((), 0, pyproj.CRS.from_user_input(crs).to_cf())
        return Result("cube", dataset, "x", "y", "time", crs, PROVENANCE, options)

    return make


@pytest.fixture
def series(cube) -> Callable[..., Result]:
    """Make the series of one pixel of the cube."""

    def make(*names: str, y: int = 2, x: int = 3, **arguments) -> Result:
        result = cube(*names, **arguments)
        dataset = result.dataset.isel(y=y, x=x).assign_coords(
            longitude=-118.07, latitude=33.41, distance=4.25
        )
        return replace(result, shape="series", dataset=dataset)

    return make


@pytest.fixture
def points(cube) -> Callable[..., Result]:
    """Make the series of three pixels of the cube."""

    def make(*names: str, **arguments) -> Result:
        result = cube(*names, **arguments)
        chosen = {"y": xr.DataArray([0, 2, 3], dims="point"), "x": xr.DataArray([0, 3, 4], dims="point")}
        dataset = (
            result.dataset.isel(chosen)
            .transpose("point", ...)
            .assign_coords(
                point=("point", [7, 8, 9]),
                requested_lon=("point", [-118.1, -118.2, -118.3]),
                longitude=("point", [-118.11, -118.21, -118.31]),
                latitude=("point", [33.1, 33.2, 33.3]),
                distance=("point", [1.5, 2.5, 0.0]),
            )
        )
        return replace(result, shape="points", dataset=dataset)

    return make


@pytest.fixture
def other_calendar(series) -> Callable[..., Result]:
    """Replace the times of a series by those of a 360-day calendar."""

    def make(*names: str) -> Result:
        result = series(*names)
        dates = [
            cftime.Datetime360Day(2020, 2, 30),
            cftime.Datetime360Day(2020, 3, 1, 6, 30),
            cftime.Datetime360Day(2020, 3, 2, 0, 0, 0, 5),
        ]
        return replace(result, dataset=result.dataset.assign_coords(time=np.array(dates, object)))

    return make


@pytest.fixture
def read_table() -> Callable[[bytes], pd.DataFrame]:
    """Read CSV as a person would, every cell as text."""
    return lambda body: pd.read_csv(io.BytesIO(body), comment="#", dtype=str, keep_default_na=False)
