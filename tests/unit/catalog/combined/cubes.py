"""Two overlapping cubes of different projections, and what a combined collection over them must answer."""

from collections import Counter

import numpy as np
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.query import parameters
from cubegate.query.points import read_points
from cubegate.settings import LimitSettings

LIMITS = LimitSettings()
# unsorted, and one of them twice
POLAR_TIMES = ["2020-03-01", "2020-01-01", "2020-02-01", "2020-01-01"]
UTM_TIMES = ["2020-02-01", "2020-01-01", "2020-04-01"]
# the two cubes overlap between about -49.93 and -49.87
BOTH, ONLY_POLAR, ONLY_UTM = "-50.1,64.96,-49.6,65.04", "-50.12,64.96,-50.05,65.04", "-49.8,64.96,-49.7,65.04"


class Made:
    """A cube as made: `values` of (time, y, x) with y descending, cells of `step`, `x0`, `y0` the first centres."""

    units = "m/y"

    def __init__(self, crs, lon, lat, step, size, times, seed):  # noqa: PLR0917
        self.crs, self.step, self.size = crs, step, size
        x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
        self.x0, self.y0 = round(x) - step * size / 2, round(y) + step * size / 2
        self.times = np.array(times, "M8[ns]")
        random = np.random.default_rng(seed)
        self.values = random.integers(-3000, 3000, (len(times), size, size)).astype("f4")
        self.count = random.integers(0, 200, (size, size)).astype("u1")
        self.satellites = np.array([f"{seed}-{number}" for number in range(len(times))])

    @property
    def x(self):
        return self.x0 + self.step * np.arange(self.size)

    @property
    def y(self):
        return self.y0 - self.step * np.arange(self.size)

    def write(self, path, *, south_first=False):
        def projected(axis, values):
            return axis, values, {"standard_name": f"projection_{axis}_coordinate", "units": "m"}

        cube = xr.Dataset(
            {
                "v": (("mid_date", "y", "x"), self.values, {"units": self.units}),
                "count": (("y", "x"), self.count),
                "satellite": ("mid_date", self.satellites),
            },
            {"mid_date": self.times, "x": projected("x", self.x), "y": projected("y", self.y)},
        )
        cube["mapping"] = ((), np.int32(0), CRS.from_user_input(self.crs).to_cf())
        for name in ("v", "count"):
            cube[name].attrs["grid_mapping"] = "mapping"
        encoding = {"v": {"chunks": (2, 16, 16)}, "count": {"chunks": (16, 16)}}
        cube.isel(y=slice(None, None, -1) if south_first else slice(None)).to_zarr(
            path, zarr_format=2, encoding=encoding, mode="w"
        )

    def cells(self, crs, x, y):
        """The row and column that hold each place, -1 outside."""
        there_x, there_y = Transformer.from_crs(crs, self.crs, always_xy=True).transform(x, y)
        column = np.floor((np.asarray(there_x) - self.x0) / self.step + 0.5)
        row = np.floor((self.y0 - np.asarray(there_y)) / self.step + 0.5)
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size)
        return np.where(inside, row, -1).astype(int), np.where(inside, column, -1).astype(int)

    def layers(self):
        """The (time, occurrence) of each layer, as stored."""
        seen, found = Counter(), []
        for time in self.times:
            found.append((time, seen[time]))
            seen[time] += 1
        return found


def expected(members, crs, x, y, name="v"):
    """What an area or points must answer: times, values of (time, *places), and the number of the owner."""
    times = sorted({layer for made in members for layer in made.layers()})
    values = np.full((len(times), *np.shape(x)), np.nan)
    owner = np.full(np.shape(x), -1)
    for number, made in enumerate(members, 1):
        row, column = made.cells(crs, x, y)
        own = (row >= 0) & (owner < 0)
        owner[own] = number
        for layer, stored in zip(made.layers(), made.values, strict=True):
            values[times.index(layer)][own] = stored[row[own], column[own]]
    return np.array([time for time, _ in times]), values, owner


class Asking:
    def __init__(self, catalog):
        self.catalog = catalog

    async def plan(self, query, name="all", limits=LIMITS):
        return await (await self.catalog.get(name)).plan("", query, limits)

    async def load(self, query, name="all", limits=LIMITS):
        return await (await (await self.plan(query, name, limits)).enforce()).load()

    async def area(self, bbox, name="all", **more):
        items = {"bbox": bbox, "variables": "v", **more} if bbox else {"variables": "v", **more}
        query = parameters.read_cube((key.replace("_", "-"), value) for key, value in items.items()).query
        return await self.load(query, name)

    async def point(self, name="all", **items):
        return await self.load(parameters.read_position(items.items()).query, name)

    async def table(self, rows, name="all", **items):
        points = read_points(("lon,lat\n" + "\n".join(rows)).encode(), "text/csv", None, 1000)
        return await self.load(parameters.read_table(items.items(), points).query, name)


def check_area(found, members, compared, *, name="v"):
    """Compare each value of an area over several cubes with the one found by hand."""
    dataset = found.dataset
    x, y = np.meshgrid(dataset[found.x].values, dataset[found.y].values)
    times, values, owner = expected(members, found.crs, x, y)
    np.testing.assert_array_equal(dataset["mid_date"].values, times)
    np.testing.assert_array_equal(dataset[name].values, values)
    np.testing.assert_array_equal(dataset["cube"].values, owner)
    compared(values)
    compared(owner)
    return owner
