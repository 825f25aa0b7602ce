"""Cubes over poles, across the antimeridian and around the Earth, as others than the server read them."""

import re

import numpy as np
import xarray as xr
import yaml
from pyproj import CRS, Transformer
from tests.clients.places import COLUMNS, DATES, ROWS, Place

DAYS = [str(date)[:10] for date in DATES]
PLACES = ["pole", "south", "seam", "aleutians"]
GLOBES = {"east": np.arange(0.5, 360), "middle": np.arange(-179.5, 180), "centred": np.arange(0, 360, 2.0)}
LATITUDES = {
    "east": np.arange(89.5, -90, -1),
    "middle": np.arange(-89.5, 90),
    "centred": np.arange(90, -91, -2.0),
}
TARGETS = ["EPSG:4326", "EPSG:3857", "EPSG:3413", "EPSG:3995", "EPSG:3031", "EPSG:32601"]
# how far x goes around the Earth
TURNS = {"EPSG:4326": 360.0, "EPSG:3857": 2 * np.pi * 6_378_137}
# of a cell: a place so near to the border of two may be in either, by rounding
BORDER = 0.01
# what rounding takes of metres, and of degrees
EXACT = 1e-6


class Source:
    """A cube as others read it: `data` of (3 dates, rows, columns), and where its cells are."""

    def __init__(self, crs, data, x, y):
        self.crs, self.data, self.x, self.y = CRS(crs), data, x, y
        self.steps = x[1] - x[0], y[1] - y[0]

    def centres(self, crs):
        """The centres of all cells in `crs`; longitudes from -180 to 180."""
        x, y = Transformer.from_crs(self.crs, crs, always_xy=True).transform(*np.meshgrid(self.x, self.y))
        return ((x + 180) % 360 - 180, y) if crs == "EPSG:4326" else (x, y)

    def cells(self, crs, x, y):
        """The row and column of the cells that hold places, -1 outside; and which are too near to a border."""
        x, y = Transformer.from_crs(crs, self.crs, always_xy=True).transform(x, y)
        column, row = (x - self.x[0]) / self.steps[0], (y - self.y[0]) / self.steps[1]
        if self.crs.is_geographic:
            column = (column + 0.5) % (360 / self.steps[0]) - 0.5
        with np.errstate(invalid="ignore"):
            near = np.min([np.abs(place % 1 - 0.5) for place in (column, row)], axis=0) < BORDER
        row, column = np.floor(np.nan_to_num([row, column], nan=-9, posinf=-9, neginf=-9) + 0.5).astype(int)
        outside = (row < 0) | (column < 0) | (row >= len(self.y)) | (column >= len(self.x))
        return np.where(outside, -1, row), np.where(outside, -1, column), near

    def at(self, crs, x, y):
        """The values of (3 dates, *places), NaN outside, and which places may not be compared."""
        row, column, near = self.cells(crs, x, y)
        return np.where(row < 0, np.nan, self.data[:, row, column]), near


def make_globe(name):
    """Random values all around the Earth."""
    x, y = GLOBES[name], LATITUDES[name]
    values = np.random.default_rng(len(x)).integers(0, 255, (3, len(y), len(x))).astype("f4") + 0.5
    return Source("EPSG:4326", values, x, y)


def write_globe(directory, name, globe):
    """Write a globe and its collection file."""
    xr.Dataset(
        {"v": (("time", "lat", "lon"), globe.data, {"units": "m"})},
        {
            "time": DATES,
            "lat": ("lat", globe.y, {"units": "degrees_north"}),
            "lon": ("lon", globe.x, {"units": "degrees_east"}),
        },
    ).to_zarr(directory / f"{name}.zarr", zarr_format=2, encoding={"v": {"chunks": (1, 30, 30)}})
    source = {"kind": "zarr", "href": (directory / f"{name}.zarr").as_uri()}
    (directory / "cubes" / f"{name}.yaml").write_text(yaml.safe_dump({"id": name, "source": source}))


def read_place(place: Place):
    """What rasterio reads of the granules of a place."""
    column, row = np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5
    x, y = (place.transform @ (column, 0.5))[0], (place.transform @ (0.5, row))[1]
    return Source(place.crs, np.stack([place.values(date) for date in range(3)]), x, y)


def axes(dataset):
    """The x and y of an answer."""
    y, x = dataset["v"].dims[-2:]
    return dataset[x].to_numpy().astype("f8"), dataset[y].to_numpy().astype("f8")


def check_cells(source, crs, dataset, compared):
    """Compare all values of an answer in `crs` with the cells that hold its centres; returns which cells these are."""
    x, y = np.meshgrid(*axes(dataset))
    expected, near = source.at(crs, x, y)
    got = dataset["v"].to_numpy()
    dates = [DAYS.index(str(time)[:10]) for time in dataset["time"].to_numpy()]
    for date, plane in zip(dates, got, strict=True):
        np.testing.assert_array_equal(plane[~near], expected[date][~near])
    compared(got[:, ~near])
    assert near.mean() < 0.3
    row, column, _ = source.cells(crs, x, y)
    return row, column


def contiguous(x, step=None):
    """Whether coordinates go on by one step."""
    steps = np.diff(x)
    return np.ptp(steps) <= 1e-6 * np.abs(steps).max() and (step is None or np.isclose(steps[0], step))


def chunks_asked(client, name):
    """How many chunks were asked for up to now: of the memory, or of a Zarr store, which is not remembered."""
    pattern = r'^cubegate_cache_(?:hits|misses)_total\{(?=.*tier="memory")(?=.*kind="chunk").*\} (\S+)$'
    if name in GLOBES:
        pattern = r"^cubegate_upstream_requests_total\{.*\} (\S+)$"
    return sum(map(float, re.findall(pattern, client.get("/metrics").text, re.MULTILINE)))
