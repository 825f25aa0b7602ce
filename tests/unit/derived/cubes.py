"""Cubes of known truth, and what is expected of them, computed by other ways than ours."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pyproj import CRS

from cubegate.query.cube import CubeQuery
from cubegate.query.interval import parse_interval
from cubegate.query.position import Points, PositionQuery

HEIGHT, WIDTH, CHUNK = 21, 26, 8
CONTINUOUS = "{c: {kind: continuous, variable: displacement}}"


def days(numbers):
    return np.datetime64("2020-01-01", "ns") + np.array(numbers) * np.timedelta64(1, "D")


def projected(dataset, names, epsg=32611, cell=30.0):
    """Put variables on a projected grid, y descending."""
    height, width = dataset[names[0]].shape[-2:]
    metres = {"units": "m"}
    dataset = dataset.assign_coords(
        x=("x", 500_015 + cell * np.arange(width), {"standard_name": "projection_x_coordinate", **metres}),
        y=("y", 3_900_000 - cell * np.arange(height), {"standard_name": "projection_y_coordinate", **metres}),
    )
    dataset["spatial_ref"] = ((), np.int32(0), CRS.from_epsg(epsg).to_cf())
    for name in names:
        dataset[name].attrs["grid_mapping"] = "spatial_ref"
    return dataset


def cut(truth, times, references):
    """What a product stores of a truth that is displacement since the first day: less that at the reference."""
    at = {time: number for number, time in enumerate(times)}
    first = references.min()
    return np.stack(
        [
            truth[number] - (0 if reference == first else truth[at[reference]])
            for number, reference in enumerate(references)
        ]
    )


def stack(values, times, references, **attributes):
    """A cube like DISP-S1's."""
    dataset = xr.Dataset(
        {
            "displacement": (("time", "y", "x"), values, {"units": "meters", **attributes}),
            "reference_time": ("time", references),
        },
        {"time": times},
    )
    return projected(dataset, ["displacement"])


def by_hand(values, times, references, *, omit=False):
    """The continuous values, epoch by epoch and without a loop over levels: recursion by the dates."""
    first = references.min()

    def carried(number):
        own = values[number].astype("f8")
        if omit:
            own = np.where(np.isnan(own), 0, own)
        return own + before(number)

    def before(number):
        if references[number] == first:
            return 0.0
        found = np.flatnonzero(times == references[number])
        return carried(found[0]) if found.size else np.nan

    return np.stack([values[number] + before(number) for number in range(len(times))])


def query_series(dataset, iy, ix, variables, datetime=None):
    """Ask for the series at one pixel or, with arrays of positions, at many, by the centres of the pixels."""
    x, y = dataset.x.values[ix], dataset.y.values[iy]
    points = Points(tuple(np.atleast_1d(x)), tuple(np.atleast_1d(y)), None, many=np.ndim(ix) > 0)
    return PositionQuery(points, tuple(variables), None if datetime is None else parse_interval(datetime))


def query_box(dataset, rows, columns, variables, datetime=None):
    """Ask for the box from the first to the last of rows and columns."""
    x, y = dataset.x.values[columns], dataset.y.values[rows]
    bounds = (x.min(), y.min(), x.max(), y.max())
    return CubeQuery(bounds, None, tuple(variables), None if datetime is None else parse_interval(datetime))
