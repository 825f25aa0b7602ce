"""Combined collections: each value is that of the cube that owns its place, found here by pyproj and NumPy."""

import asyncio
import re
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio.warp
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from cubegate.errors import (
    BudgetExceeded,
    ConfigurationError,
    CubegateError,
    InvalidParameter,
    NotAcceptable,
    NotFound,
)
from cubegate.query import parameters
from cubegate.query.points import read_points
from cubegate.settings import LimitSettings
from cubegate.store.encoded import EncodedStore

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

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


@pytest.fixture
def polar():
    return Made("EPSG:3413", -50.0, 65.0, 200.0, 60, POLAR_TIMES, 1)


@pytest.fixture
def utm():
    return Made("EPSG:32622", -49.75, 65.0, 120.0, 140, UTM_TIMES, 2)


@pytest.fixture
def mounted(opened, tmp_path):
    """Write cubes, mount them and a combined collection over them; gives what asks it."""

    async def mounted(*, order=None, south_first=(), **cubes):
        for name, made in cubes.items():
            made.write(tmp_path / f"{name}.zarr", south_first=name in south_first)
        files = {name: f"source: {{kind: zarr, href: ../{name}.zarr}}" for name in cubes}
        members = ", ".join(order or cubes)
        catalog = opened(**files, all=f"source: {{kind: combined, members: [{members}]}}")
        return Asking(catalog)

    return mounted


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


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857", "EPSG:32622"])
async def test_each_cell_of_an_area_is_that_of_its_owner(mounted, polar, utm, *, crs, swapped, compared):
    cubes = {"utm": utm, "polar": polar} if swapped else {"polar": polar, "utm": utm}
    ask = await mounted(**cubes, south_first=("utm",))
    found = await ask.area(BOTH, **({"crs": crs} if crs else {}))
    assert found.crs == (crs or next(iter(cubes.values())).crs)
    owner = check_area(found, list(cubes.values()), compared)
    assert {1, 2} <= set(np.unique(owner))
    assert found.facts == {"cubes": "1 utm, 2 polar" if swapped else "1 polar, 2 utm"}
    cube = found.dataset["cube"]
    assert cube.attrs["flag_values"].tolist() == [1, 2]
    assert cube.attrs["flag_meanings"] == " ".join(cubes)
    assert cube.encoding["_FillValue"] == -1
    assert CRS.from_cf(found.dataset.spatial_ref.attrs) == CRS.from_user_input(found.crs)
    assert found.dataset.v.attrs["units"] == "m/y"


async def test_the_order_of_the_members_decides_in_the_overlap(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    owners = {}
    for order in ("polar, utm", "utm, polar"):
        (ask.catalog._directory / "collections/all.yaml").write_text(
            f"id: all\nsource: {{kind: combined, members: [{order}]}}\n"
        )
        found = await ask.area(BOTH, crs="EPSG:4326")
        names = np.array([*found.dataset["cube"].attrs["flag_meanings"].split(), "none"])
        owners[order] = names[
            np.where(found.dataset["cube"].values > 0, found.dataset["cube"].values - 1, -1)
        ]
    first, second = owners.values()
    overlap = (first == "polar") & (second == "utm")
    assert overlap.sum() > 100
    assert ((first == second) | overlap).all()


async def test_the_whole_collection_is_an_area_too(mounted, polar, utm, compared):
    ask = await mounted(polar=polar, utm=utm)
    found = await ask.area(None)
    owner = check_area(found, [polar, utm], compared)
    cell = float(found.dataset.x[1] - found.dataset.x[0])
    assert (owner == 1).sum() * cell**2 == pytest.approx((60 * 200) ** 2, rel=0.02)


async def test_cells_of_the_finest_cube_are_not_moved_in_its_own_crs(mounted, polar, utm):
    ask = await mounted(utm=utm, polar=polar)
    found = await ask.area(BOTH)
    steps = np.diff(found.dataset.x), -np.diff(found.dataset.y)
    np.testing.assert_allclose(np.concatenate(steps), 120.0)
    assert ((found.dataset.x.values - utm.x0) % 120 == 0).all()
    assert ((found.dataset.y.values - utm.y0) % 120 == 0).all()


@pytest.mark.parametrize("resampling", ["bilinear", "average", "cubic"])
async def test_other_resamplings_mix_no_values_of_two_cubes(mounted, polar, utm, resampling, compared):
    polar.values[:], utm.values[:] = polar.values + 100_000, utm.values - 100_000
    ask = await mounted(polar=polar, utm=utm)
    found = await ask.area(BOTH, crs="EPSG:3857", resampling=resampling)
    x, y = found.dataset.x.values, found.dataset.y.values
    times, _, owner = expected([polar, utm], "EPSG:3857", *np.meshgrid(x, y))
    np.testing.assert_array_equal(found.dataset["cube"].values, owner)
    step = x[1] - x[0], y[1] - y[0]
    transform = Affine(step[0], 0, x[0] - step[0] / 2, 0, step[1], y[0] - step[1] / 2)
    layers = sorted({layer for made in (polar, utm) for layer in made.layers()})
    for number, made in enumerate((polar, utm), 1):
        for layer, stored in zip(made.layers(), made.values, strict=True):
            warped, _ = rasterio.warp.reproject(
                stored, np.full(owner.shape, np.nan, "f4"),
                src_transform=Affine(made.step, 0, made.x0 - made.step / 2, 0, -made.step, made.y0 + made.step / 2),
                src_crs=made.crs, src_nodata=np.nan, dst_transform=transform, dst_crs="EPSG:3857",
                dst_nodata=np.nan, resampling=rasterio.warp.Resampling[resampling],
            )  # fmt: skip
            answered = found.dataset.v.values[layers.index(layer)]
            own = owner == number
            # GDAL approximates the places of a window by those of its edges
            near = np.abs(answered[own] - warped[own]) < 300
            assert (near | np.isnan(answered[own]) | np.isnan(warped[own])).all()
            assert near.mean() > 0.9
            assert (np.sign(answered[own & np.isfinite(answered)]) == (1 if number == 1 else -1)).all()
            compared(answered[own])
    assert len(times) == found.dataset.sizes["mid_date"]


@pytest.mark.parametrize(
    ("lon", "owner"),
    [("-50.1", "polar"), ("-49.6", "utm"), ("-49.9", "polar")],
    ids=["first", "second", "both"],
)
async def test_a_point_is_answered_as_by_its_owner(mounted, polar, utm, lon, owner):
    ask = await mounted(polar=polar, utm=utm)
    asked = {"lon": lon, "lat": "65", "variables": "v,satellite,count"}
    found, alone = await ask.point(**asked), await ask.point(owner, **asked)
    xr.testing.assert_identical(found.dataset, alone.dataset)
    assert (found.x, found.y, found.time, found.crs) == (alone.x, alone.y, alone.time, alone.crs)
    assert (found.facts, alone.facts) == ({"cube": owner}, {})
    made = {"polar": polar, "utm": utm}[owner]
    row, column = made.cells(4326, float(lon), 65.0)
    order = np.argsort(made.times, kind="stable")
    np.testing.assert_array_equal(found.dataset.v, made.values[order, row, column])
    assert found.dataset.satellite.values.tolist() == made.satellites[order].tolist()


async def test_an_area_and_a_point_say_the_same_of_a_place(mounted, polar, utm, compared):
    ask = await mounted(polar=polar, utm=utm)
    area = (await ask.area(BOTH, crs="EPSG:4326")).dataset
    random = np.random.default_rng(3)
    rows = [
        (y, x)
        for y, x in zip(random.integers(0, area.sizes["lat"], 60), random.integers(0, area.sizes["lon"], 60), strict=True)
        if area["cube"].values[y, x] > 0
    ]  # fmt: skip
    asked = [
        f"{area.lon.values[x]!r},{area.lat.values[y]!r}".replace("np.float64(", "").replace(")", "")
        for y, x in rows
    ]
    table = (await ask.table(asked, variables="v")).dataset
    np.testing.assert_array_equal(table.mid_date, area.mid_date)
    for number, (y, x) in enumerate(rows):
        np.testing.assert_array_equal(table.v.values[number], area.v.values[:, y, x])
    compared(table.v.values)


async def test_many_points_are_one_table(mounted, polar, utm, compared):
    ask = await mounted(polar=polar, utm=utm)
    places = [(-49.6, 65.0), (-50.1, 65.01), (-49.9, 64.99), (-49.75, 65.02), (-50.0, 65.0)]
    found = await ask.table([f"{lon},{lat}" for lon, lat in places], variables="v,satellite,count")
    lon, lat = np.array(places).T
    times, values, owner = expected([polar, utm], 4326, lon, lat)
    dataset = found.dataset
    assert dataset["cube"].values.tolist() == [{1: "polar", 2: "utm"}[number] for number in owner]
    np.testing.assert_array_equal(dataset.mid_date, times)
    assert dataset.v.dims == ("point", "mid_date")
    np.testing.assert_array_equal(dataset.v, values.T)
    compared(values)
    layers = sorted({layer for made in (polar, utm) for layer in made.layers()})
    for point, number in enumerate(owner):
        made = (polar, utm)[number - 1]
        of = dict(zip(made.layers(), made.satellites, strict=True))
        said = [name if isinstance(name, str) else None for name in dataset.satellite.values[point]]
        assert said == [of.get(layer) for layer in layers]
        row, column = made.cells(4326, lon[point], lat[point])
        assert dataset["count"].values[point] == made.count[row, column]
        centre = Transformer.from_crs(made.crs, 4326, always_xy=True).transform(made.x[column], made.y[row])
        np.testing.assert_allclose(
            (dataset.longitude.values[point], dataset.latitude.values[point]), centre, atol=1e-9
        )
    assert dataset["count"].dtype == np.uint8
    assert (found.x, found.y, found.crs) == ("longitude", "latitude", "OGC:CRS84")
    assert "x" not in dataset.coords


async def test_points_of_one_cube_are_its_own_table_with_its_name(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    rows = ["-49.6,65", "-49.65,65.01"]
    found, alone = await ask.table(rows, variables="v"), await ask.table(rows, "utm", variables="v")
    xr.testing.assert_identical(found.dataset.drop_vars("cube"), alone.dataset)
    assert found.dataset["cube"].values.tolist() == ["utm", "utm"]
    assert found.crs == "EPSG:32622"


@pytest.mark.parametrize(
    ("bbox", "owner"), [(ONLY_POLAR, "polar"), (ONLY_UTM, "utm"), ("-50,64.98,-49.95,65.02", "polar")]
)
@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
async def test_an_area_in_one_cube_is_answered_as_by_it(mounted, polar, utm, *, bbox, owner, crs):
    ask = await mounted(polar=polar, utm=utm)
    more = {"variables": "v,count,satellite", **({"crs": crs} if crs else {})}
    found, alone = await ask.area(bbox, **more), await ask.area(bbox, owner, **more)
    xr.testing.assert_identical(found.dataset, alone.dataset)
    assert found.crs == alone.crs == (crs or {"polar": polar, "utm": utm}[owner].crs)
    assert found.facts == {"cube": owner}


async def test_equal_times_leave_no_gaps_and_integers_as_they_are(mounted, polar, utm, compared):
    polar.times = utm.times = np.array(["2020-01-01", "2020-03-01"], "M8[ns]")
    polar.values, utm.values = (made.values[:2].astype("i8") + 2**60 for made in (polar, utm))
    polar.satellites = utm.satellites = polar.satellites[:2]
    ask = await mounted(polar=polar, utm=utm)
    bbox = "-49.95,64.98,-49.75,65.02"
    found = await ask.area(bbox, crs="EPSG:4326")
    x, y = np.meshgrid(found.dataset.lon, found.dataset.lat)
    _, _, owner = expected([polar, utm], 4326, x, y)
    assert set(np.unique(owner)) == {1, 2}
    assert found.dataset.v.dtype == np.int64
    for number, made in enumerate((polar, utm), 1):
        row, column = made.cells(4326, x, y)
        own = owner == number
        np.testing.assert_array_equal(found.dataset.v.values[:, own], made.values[:, row[own], column[own]])
        compared(made.values[:, row[own], column[own]])
    # where there would be gaps, no float holds these
    with pytest.raises(NotAcceptable, match=r"'v' holds integers without a missing value"):
        await ask.area(BOTH)
    polar.values, utm.values = (made.values > 2**60 for made in (polar, utm))
    ask = await mounted(polar=polar, utm=utm)
    assert (await ask.area(bbox)).dataset.v.dtype == bool
    with pytest.raises(NotAcceptable, match=r"'v' holds truth values"):
        await ask.area(BOTH)


@pytest.mark.parametrize(
    ("dtype", "promoted"), [("i2", "f4"), ("i4", "f8"), ("u1", "f4"), ("f8", "f8"), ("i8", "f8")]
)
async def test_integers_become_floats_that_hold_them_where_something_is_missing(
    mounted, polar, utm, *, dtype, promoted, compared
):
    polar.values, utm.values = (np.abs(made.values % 200).astype(dtype) for made in (polar, utm))
    ask = await mounted(polar=polar, utm=utm)
    found = await ask.area(BOTH)
    assert found.dataset.v.dtype == np.dtype(promoted)
    check_area(found, [polar, utm], compared)


async def test_no_more_memory_is_used_than_was_said(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    query = parameters.read_cube([("bbox", BOTH), ("variables", "v,count")]).query
    plan = await ask.plan(query)
    selection = await plan.enforce()
    read = sum(tile.part.dataset.nbytes for tile in selection.tiles)
    loaded = await selection.load()
    assert selection.nbytes >= read + loaded.dataset.nbytes
    members = sum(tile.part.selection.cells for tile in selection.tiles)
    answered = sum(variable.size for variable in loaded.dataset.data_vars.values())
    assert plan.price.cells == members + answered


async def test_the_antimeridian_is_no_border(mounted, compared):
    east = Made("EPSG:32660", 179.9, 66.0, 150.0, 80, POLAR_TIMES, 5)
    west = Made("EPSG:32601", -179.9, 66.0, 150.0, 80, UTM_TIMES, 6)
    ask = await mounted(east=east, west=west)
    for bbox, crs in (("179.75,65.97,180.25,66.03", "EPSG:4326"), ("179.75,65.97,180.25,66.03", None), (None, "EPSG:4326"), (None, "EPSG:3413")):  # fmt: skip
        found = await ask.area(bbox, **({"crs": crs} if crs else {}))
        owner = check_area(found, [east, west], compared)
        assert {1, 2} <= set(np.unique(owner))
        if crs == "EPSG:4326":
            assert np.ptp(found.dataset.lon.values) < 1
    table = await ask.table(["179.9,66", "-179.9,66", "180.1,66"], variables="v")
    assert table.dataset["cube"].values.tolist() == ["east", "west", "west"]
    with pytest.raises(InvalidParameter, match="split it in two"):
        await ask.area("179.75,65.97,-179.75,66.03")


def write_globe(path, seed=10):
    """Longitudes from 0, half degrees, one date."""
    lon, lat = np.arange(0.25, 360, 0.5), np.arange(89.75, -90, -0.5)
    values = np.random.default_rng(seed).integers(0, 3000, (1, 360, 720)).astype("f4")
    xr.Dataset(
        {"v": (("mid_date", "lat", "lon"), values, {"units": "m/y"})},
        {
            "mid_date": np.array(["2020-01-01"], "M8[ns]"),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    ).to_zarr(path, zarr_format=2, encoding={"v": {"chunks": (1, 60, 60)}})
    return values[0]


@pytest.mark.parametrize("bbox", ["-0.9,65.7,1.1,66.3", "-0.4,65.9,0.6,66.1"])
async def test_the_seam_of_longitudes_is_no_border(mounted, bbox, compared):
    kept = {}
    globe = SimpleNamespace(write=lambda path, **_: kept.update(values=write_globe(path)))
    region = Made("EPSG:32631", 0.3, 66.0, 500.0, 40, UTM_TIMES, 11)
    ask = await mounted(region=region, globe=globe)
    for crs in (None, "EPSG:4326", "EPSG:3857"):
        found = await ask.area(bbox, **({"crs": crs} if crs else {}))
        dataset = found.dataset
        x, y = np.meshgrid(dataset[found.x], dataset[found.y])
        _, values, owner = expected([region], found.crs, x, y)
        lon, lat = Transformer.from_crs(found.crs, 4326, always_xy=True).transform(x, y)
        around = kept["values"][
            np.floor((90 - lat) / 0.5).astype(int), np.floor((lon % 360) / 0.5).astype(int)
        ]
        january = values[list(dataset.mid_date.values).index(np.datetime64("2020-01-01"))]
        january[owner < 0] = around[owner < 0]
        np.testing.assert_array_equal(dataset.v.values, values)
        np.testing.assert_array_equal(dataset["cube"].values, np.where(owner < 0, 2, 1))
        assert {1, 2} <= set(np.unique(dataset["cube"].values))
        compared(values)
    # what is read of the globe goes around the seam, not around the Earth
    price = (await ask.plan(parameters.read_cube([("bbox", bbox), ("variables", "v")]).query)).price
    assert price.chunks == 2 * 3 * 3 + 2


async def test_the_pole_is_no_border(mounted, compared):
    one = Made("EPSG:3413", 0.0, 90.0, 2000.0, 60, POLAR_TIMES, 7)
    other = Made("EPSG:3995", 30.0, 89.3, 2500.0, 60, UTM_TIMES, 8)
    ask = await mounted(one=one, other=other)
    for bbox in ("-180,89.2,180,90", None):
        found = await ask.area(bbox)
        assert found.crs == "EPSG:3413"
        owner = check_area(found, [one, other], compared)
        assert {1, 2} <= set(np.unique(owner))
    in_degrees = check_area(await ask.area("-180,89.2,180,90", crs="EPSG:4326"), [one, other], compared)
    assert {1, 2} <= set(np.unique(in_degrees))


async def test_a_place_in_no_cube_is_an_error_with_the_extents(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    with pytest.raises(InvalidParameter, match=r"outside the grids of all 2 cubes.*polar: x -50.*utm: x -4"):
        await ask.point(lon="-48", lat="65")
    with pytest.raises(InvalidParameter, match="point number 2 "):
        await ask.table(["-50,65", "-48,65"])
    with pytest.raises(InvalidParameter, match=r"meets none of the 2 cubes.*polar: x -50.*utm: x -4"):
        await ask.area("-48,64,-47,65")


async def test_coordinates_without_a_crs_need_one_that_all_cubes_share(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    native = {"x": str(polar.x[10]), "y": str(polar.y[20])}
    with pytest.raises(InvalidParameter, match="several coordinate reference systems"):
        await ask.point(**native)
    with pytest.raises(InvalidParameter, match="several coordinate reference systems"):
        await ask.area("0,0,1,1", bbox_crs="native")
    found = await ask.point(**native, crs="EPSG:3413", variables="v")
    np.testing.assert_array_equal(
        found.dataset.v, polar.values[np.argsort(polar.times, kind="stable"), 20, 10]
    )
    neighbour = Made("EPSG:3413", -49.75, 65.0, 200.0, 60, UTM_TIMES, 9)
    ask = await mounted(polar=polar, neighbour=neighbour)
    np.testing.assert_array_equal((await ask.point(**native, variables="v")).dataset.v, found.dataset.v)
    sides = (polar.x[5], polar.y[30], neighbour.x[50], polar.y[20])
    area = await ask.area(",".join(map(str, sides)), bbox_crs="native")
    assert area.facts == {"cubes": "1 polar, 2 neighbour"}
    table = await ask.table(["-50,65", "-49.7,65"], variables="v")
    assert (table.x, table.crs) == ("x", "EPSG:3413")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("speed", r"In the cube 'polar': There is no variable 'speed'"),
        ("v,satellite", r"'satellite' has no value of its own at each place"),
        ("satellite", r"'satellite' has no value of its own at each place"),
    ],
)
async def test_what_cannot_stand_in_one_answer_is_refused_by_name(mounted, polar, utm, asked, said):
    ask = await mounted(polar=polar, utm=utm)
    with pytest.raises(InvalidParameter, match=said):
        await ask.area(BOTH, variables=asked)


async def test_variables_that_mean_something_else_are_refused_by_name(mounted, polar, utm, tmp_path):
    utm.units = "m/d"
    ask = await mounted(polar=polar, utm=utm)
    with pytest.raises(InvalidParameter, match=r"'v' is in other units in utm \(m/d\) than in polar \(m/y\)"):
        await ask.area(BOTH)
    with pytest.raises(InvalidParameter, match="other units"):
        await ask.table(["-50,65", "-49.6,65"])
    assert (await ask.area(BOTH, variables="count")).dataset["count"].dims == ("y", "x")
    cube = xr.open_zarr(tmp_path / "utm.zarr").load().drop_vars("count")
    cube["v"] = cube["v"].isel(mid_date=0, drop=True)
    shutil.rmtree(tmp_path / "utm.zarr")
    cube.drop_encoding().to_zarr(tmp_path / "utm.zarr", zarr_format=2)
    everything = parameters.read_cube([("bbox", BOTH)]).query
    with pytest.raises(InvalidParameter, match="'count' is not in utm"):
        await ask.load(everything)
    polar.units = "m/d"
    polar.write(tmp_path / "polar.zarr")
    with pytest.raises(InvalidParameter, match="'v' has other dimensions in utm"):
        await ask.area(BOTH)


async def test_dates_are_chosen_in_each_cube(mounted, polar, utm, compared):
    ask = await mounted(polar=polar, utm=utm)
    whole = (await ask.area(BOTH)).dataset
    for interval in ("2020-02/2020-03", "2020-01", "2020-04", "2020-02-01/.."):
        found = (await ask.area(BOTH, datetime=interval)).dataset
        start, _, end = interval.partition("/")
        months = whole.mid_date.values.astype("M8[M]")
        inside = months >= np.datetime64(start[:7])
        inside &= months <= np.datetime64({"": start, "..": "2021-01"}.get(end, end)[:7])
        xr.testing.assert_equal(found.v, whole.v.isel(mid_date=np.flatnonzero(inside)))
        np.testing.assert_array_equal(found["cube"], whole["cube"])
        compared(found.v.values)
    with pytest.raises(InvalidParameter, match=r"In the cube 'polar': No time of the dataset lies inside"):
        await ask.area(BOTH, datetime="2021")
    table = (await ask.table(["-50,65", "-49.6,65"], variables="v", datetime="2020-04")).dataset
    assert np.isnan(table.v.values[0]).all()
    row, column = utm.cells(4326, -49.6, 65.0)
    np.testing.assert_array_equal(table.v.values[1], utm.values[[2], row, column])


async def test_conditions_apply_in_each_cube(mounted, polar, utm):
    polar.satellites, utm.satellites = np.array(["a", "b", "a", "b"]), np.array(["b", "c", "c"])
    ask = await mounted(polar=polar, utm=utm)
    whole = (await ask.area(BOTH)).dataset
    for name, kept in (("a", (polar, [2, 0])), ("c", (utm, [1, 2]))):
        found = (await ask.area(BOTH, where=f"satellite='{name}'")).dataset
        made, order = kept
        np.testing.assert_array_equal(found.mid_date, made.times[order])
        np.testing.assert_array_equal(found["cube"], whole["cube"])
        mine = found["cube"].values == (1 if made is polar else 2)
        assert np.isnan(found.v.values[:, ~mine]).all()
        assert np.isfinite(found.v.values[:, mine]).all()
    with pytest.raises(InvalidParameter, match="No date meets"):
        await ask.area(BOTH, where="satellite='d'")


async def test_what_is_too_large_is_refused_before_anything_is_read(mounted, polar, utm, monkeypatch):
    ask = await mounted(polar=polar, utm=utm)
    await ask.point(lon="-50", lat="65")
    await ask.point(lon="-49.6", lat="65")

    async def read(*_):
        raise AssertionError("read")

    monkeypatch.setattr(EncodedStore, "read", read)
    monkeypatch.setattr("cubegate.query.selection.load_variable", read)
    items = [("bbox", BOTH), ("variables", "v")]
    whole = (await ask.plan(parameters.read_cube(items).query)).price
    for share in (1.5, 5, 60, 10_000):
        limits = LimitSettings(cells=int(whole.cells / share))
        plan = await ask.plan(parameters.read_cube(items).query, limits=limits)
        with pytest.raises(BudgetExceeded) as caught:
            await plan.enforce()
        assert caught.value.hint == await plan.hint()
        assert caught.value.hint.startswith("It would fit with ")
        offered = dict(re.findall(r"(datetime|bbox|bbox-crs)=([^\s&]+?)(?=[.]?$|\s|&)", caught.value.hint))
        assert offered
        smaller = parameters.read_cube({**dict(items), **offered}.items()).query
        assert (await ask.plan(smaller, limits=limits)).price.within(limits)
    rows = "lon,lat\n" + "\n".join(["-50,65", "-49.6,65"] * 20)
    points = read_points(rows.encode(), "text/csv", None, 1000)
    query = parameters.read_table([("variables", "v")], points).query
    plan = await ask.plan(query, limits=LimitSettings(cells=100))
    with pytest.raises(BudgetExceeded, match=r"Up to \d+ of these points at once would fit"):
        await plan.enforce()
    assert (await ask.plan(query)).price.cells == 20 * 4 + 20 * 3 + 40 * 5


async def test_a_cube_that_cannot_be_opened_fails_for_its_own_places_only(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    (tmp_path / "utm.zarr").rename(tmp_path / "away.zarr")
    combined = await ask.catalog.get("all")
    before = combined.version
    assert [note.partition(":")[0] for note in combined.notes] == ["utm"]
    assert not combined.immutable
    for lon in ("-50.1", "-49.9"):
        assert (await ask.point(lon=lon, lat="65")).facts == {"cube": "polar"}
    assert (await ask.area("-50.05,64.98,-49.98,65.02")).facts == {"cube": "polar"}
    # no one knows whether it has the last of these places
    for lon in ("-49.6", "-40"):
        with pytest.raises(CubegateError) as caught:
            await ask.point(lon=lon, lat="65")
        assert not isinstance(caught.value, InvalidParameter)
    for bbox in (BOTH, ONLY_UTM, None):
        with pytest.raises(CubegateError) as caught:
            await ask.area(bbox)
        assert not isinstance(caught.value, InvalidParameter)
    (tmp_path / "away.zarr").rename(tmp_path / "utm.zarr")
    assert (await ask.point(lon="-49.6", lat="65")).facts == {"cube": "utm"}
    assert (await ask.catalog.get("all")).version != before


async def test_a_broken_cube_that_comes_first_may_own_any_place(mounted, polar, utm, tmp_path):
    ask = await mounted(utm=utm, polar=polar)
    (tmp_path / "utm.zarr").rename(tmp_path / "away.zarr")
    for work in (ask.point(lon="-50.1", lat="65"), ask.area(ONLY_POLAR)):
        with pytest.raises(CubegateError) as caught:
            await work
        assert not isinstance(caught.value, InvalidParameter)


async def test_an_area_over_a_chunk_that_cannot_be_read_fails(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    whole = await ask.area(BOTH)
    for chunk in (tmp_path / "utm.zarr" / "v").glob("0.*"):
        chunk.write_bytes(b"broken")
    ask.catalog._cubes.clear()
    with pytest.raises(CubegateError):
        await ask.area(BOTH)
    with pytest.raises(CubegateError):
        await ask.table(["-50,65", "-49.6,65"], variables="v")
    assert (await ask.point(lon="-50", lat="65", variables="v")).facts == {"cube": "polar"}
    assert whole.dataset.v.notnull().any()


async def test_a_change_of_a_member_is_noticed(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    old = await ask.catalog.get("all")
    versions = {old.version}
    identities = {old.identity}
    changed = Made("EPSG:32622", -49.75, 65.0, 120.0, 140, [*UTM_TIMES, "2020-05-01"], 12)
    changed.write(tmp_path / "utm.zarr")
    new = await ask.catalog.get("all")
    versions.add(new.version)
    found = await ask.point(lon="-49.6", lat="65", variables="v")
    row, column = changed.cells(4326, -49.6, 65.0)
    order = np.argsort(changed.times, kind="stable")
    np.testing.assert_array_equal(found.dataset.v, changed.values[order, row, column])
    (tmp_path / "collections/utm.yaml").write_text(
        "id: utm\ntitle: Changed\nsource: {kind: zarr, href: ../utm.zarr}\n"
    )
    configured = await ask.catalog.get("all")
    assert configured is not new
    identities |= {new.identity, configured.identity}
    assert (len(versions), len(identities)) == (2, 3)
    assert await ask.catalog.get(f"all@{configured.version}") is configured
    with pytest.raises(NotFound, match="not mounted in version"):
        await ask.catalog.get(f"all@{old.version}")


async def test_members_that_are_forgotten_are_held(mounted, polar, utm, monkeypatch):
    ask = await mounted(polar=polar, utm=utm)
    monkeypatch.setattr("cubegate.catalog.catalog.MAX_OPENED", 1)
    combined = await ask.catalog.get("all")
    assert ask.catalog.opened == 1
    found = await asyncio.gather(*(ask.point(lon=lon, lat="65") for lon in ("-50", "-49.6", "-50", "-49.6")))
    assert [each.facts["cube"] for each in found] == ["polar", "utm", "polar", "utm"]
    assert await ask.catalog.get("all") is combined


@pytest.mark.parametrize(
    ("source", "key", "said"),
    [
        ("{kind: combined, members: [a, absent]}", "source.members", "no collection 'absent'. Add its file"),
        (
            "{kind: combined, members: [a, other]}",
            "source.members",
            "'other' is itself a combined collection",
        ),
        ("{kind: combined, members: [all]}", "source.members", "itself a combined"),
        ("{kind: combined, members: [a, a]}", "source.members", "'a' is named twice"),
        ("{kind: combined, members: []}", "source.members", "Add it."),
        ("{kind: combined}", "source.members", "Add it."),
        ("{kind: combined, members: [a], href: a.zarr}", "source.href", "has members, and no href"),
        ("{kind: combined, members: [a], group: b}", "source.group", "has this from its members"),
        (
            "{kind: zarr, href: a.zarr, members: [a]}",
            "source.members",
            "only a collection of the kind combined",
        ),
        ("{kind: combined, members: [a]}\ncrs: EPSG:3413", "crs", "has this from its members"),
        ("{kind: combined, members: [a]}\nvariables: [v]", "variables", "has this from its members"),
    ],
)
def test_errors_name_the_file_the_key_and_the_mend(opened, tmp_path, source, key, said):
    zarr = "source: {kind: zarr, href: a.zarr}"
    with pytest.raises(ConfigurationError) as caught:
        opened(a=zarr, other="source: {kind: combined, members: [a]}", all=f"source: {source}")
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "collections/all.yaml"), key)
    assert said in str(caught.value)


async def test_a_combined_collection_has_no_store(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    with pytest.raises(NotFound, match=r"/datasets/polar/, /datasets/utm/\."):
        await ask.catalog.stored("all")
    assert (await ask.catalog.stored("utm")).id == "utm"
    assert ask.catalog.ids() == ["all", "polar", "utm"]


async def test_a_cube_without_a_crs_is_named(mounted, polar, tmp_path):
    plain = SimpleNamespace(write=lambda path, **_: xr.Dataset(
        {"v": (("y", "x"), np.zeros((3, 4)))}, {"x": np.arange(4) * 10.0, "y": np.arange(3) * 10.0}
    ).to_zarr(path, zarr_format=2))  # fmt: skip
    ask = await mounted(polar=polar, plain=plain)
    assert (await ask.point(lon="-50", lat="65")).facts == {"cube": "polar"}
    with pytest.raises(InvalidParameter, match="'plain' has no known coordinate reference system"):
        await ask.point(lon="-40", lat="65")
