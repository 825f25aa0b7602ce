"""The queries as selections on an xarray dataset, for all readers that give one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .queries import BOXES, POINTS, VARIABLE, Point, scattered_points
from .subject import Measurements


def measure_queries(dataset: xr.Dataset, job: dict[str, Any], measured: Measurements) -> None:
    """Time the queries in `job["queries"]`, and as many scattered points as `job["scattered"]` says."""
    array = dataset[VARIABLE]
    for name in job["queries"]:
        with measured.timed(name):
            measured.values[name] = read_query(array, name)
    if job["scattered"]:
        points = scattered_points(*array.shape[1:])[: job["scattered"]]
        with measured.timed("scattered"):
            series = [_read_point(array, point) for point in points]
        measured.values["scattered"] = np.stack(series)


def read_query(array: xr.DataArray, name: str) -> np.ndarray:
    """The values of one query: (time,) of a point, (time, y, x) of a box."""
    if name in POINTS:
        return _read_point(array, POINTS[name])
    box = BOXES[name]
    dates = slice(None) if box.date is None else slice(box.date, box.date + 1)
    return _values(array.isel(time=dates, y=slice(*box.rows), x=slice(*box.columns)))


def _read_point(array: xr.DataArray, point: Point) -> np.ndarray:
    return _values(array.isel(y=point.row, x=point.column))


def _values(selection: xr.DataArray) -> np.ndarray:
    # load() alone reads nothing where the kerchunk engine hides a dask array below the variable
    return np.asarray(selection.load().values)
