"""Readers (a) and (b): xarray's kerchunk engine, as users write it, and with what makes it faster.

(b) goes without the dask array that the engine puts below the variables, and lets zarr have 128 requests in
flight instead of 10.
"""

from __future__ import annotations

from typing import Any

import xarray as xr
import zarr

from .subject import Measurements, run
from .xarray_queries import measure_queries


def measure(job: dict[str, Any], measured: Measurements) -> None:
    """Open the references that the job names, and read."""
    options: dict[str, Any] = {"storage_options": {"remote_protocol": "http"}}
    if job["tuned"]:
        zarr.config.set({"async.concurrency": 128})
        options["open_dataset_options"] = {"chunks": None}
    with measured.timed("open"):
        dataset = xr.open_dataset(job["references"], engine="kerchunk", **options)
    measure_queries(dataset, job, measured)


if __name__ == "__main__":
    run(measure)
