"""The cubes of `cubegate demo`, and their granules read without cubegate."""

import h5py
import numpy as np
import pandas as pd
import zarr


class Demo:
    """`opera-f11116`: 24 dates of displacement, EPSG:32611; `its-live`: speeds, EPSG:3413."""

    def __init__(self, directory):
        self.directory = directory
        self.granules = sorted((directory / "granules").iterdir(), key=lambda path: path.name.split("_")[7])
        with h5py.File(self.granules[0]) as file:
            self.x, self.y = file["x"][:], file["y"][:]

    def displacement(self, number):
        with h5py.File(self.granules[number]) as file:
            return file["displacement"][:]

    def cell(self, x, y):
        return int(np.abs(self.y - y).argmin()), int(np.abs(self.x - x).argmin())

    def dates(self):
        return [pd.Timestamp(path.name.split("_")[7][:-1]) for path in self.granules]

    def series(self, x, y):
        return np.array([self.displacement(number)[self.cell(x, y)] for number in range(len(self.granules))])

    def ice(self):
        """The store of `its-live`, as zarr alone opens it."""
        return zarr.open_group(self.directory / "its-live.zarr", mode="r")
