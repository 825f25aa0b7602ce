"""Zarr clients as readers: zarr-python and xarray, which raise or give the right values."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr
import zarr

from .cube import CALENDAR, CHUNK, DATES, VARIABLES, Cube
from .routes import Box, Wrong, compare, draw_box

Read = Callable[[str], None]


def read_by_xarray(zarr_format: int) -> Callable[[Cube, random.Random], tuple[Box, Read]]:
    """Open the dataset at a URL with xarray and read a box of it."""

    def ask(cube: Cube, draw: random.Random) -> tuple[Box, Read]:
        box = draw_box(draw)

        def read(url: str) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with xr.open_zarr(f"{url}/zarr", zarr_format=zarr_format, chunks=None) as dataset:
                    if box.name not in dataset:
                        raise Wrong(f"{box.name} is not there", fill=True)
                    got = dataset[box.name][box.dates, box.rows, box.columns].load()
            compare(box.name, got.values, box.expected(cube)[box.name])
            for name in ("x", "y"):
                compare(name, got[name].values, box.expected(cube)[name])
            if not np.array_equal(got["time"].values.astype("M8[ns]"), CALENDAR[box.dates]):
                raise Wrong("time differs")

        return box, read

    return ask


def read_by_zarr(cube: Cube, draw: random.Random) -> tuple[Box, Read]:
    """Open one array at a URL with zarr-python and read some chunks of it, as stored."""
    name, date = draw.choice(sorted(VARIABLES)), draw.randrange(DATES)
    row, column = draw.randrange(2) * CHUNK, draw.randrange(2) * CHUNK
    box = Box(name, slice(date, date + 1), slice(row, row + 2 * CHUNK), slice(column, column + 2 * CHUNK))

    def read(url: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = zarr.open_array(f"{url}/zarr-plain/{name}", mode="r", zarr_format=2)
            got = array[box.dates, box.rows, box.columns]
        expected = cube.stored[name][box.dates, box.rows, box.columns]
        compare(name, np.asarray(got), expected, storage=VARIABLES[name].storage)

    return box, read


READERS = {
    "xarray on zarr v2": read_by_xarray(2),
    "xarray on zarr v3": read_by_xarray(3),
    "zarr-python": read_by_zarr,
}
