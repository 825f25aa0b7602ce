"""Reader (e): `xr.open_zarr` on cubegate's Zarr endpoint, at zarr's default concurrency."""

from __future__ import annotations

from typing import Any

import xarray as xr

from .subject import Measurements, run
from .xarray_queries import measure_queries


def measure(job: dict[str, Any], measured: Measurements) -> None:
    """Open the cube at the URL that the job names, and read."""
    with measured.timed("open"):
        dataset = xr.open_zarr(job["url"], zarr_format=2, chunks=None)
    measure_queries(dataset, job, measured)


if __name__ == "__main__":
    run(measure)
