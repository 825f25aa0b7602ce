"""Areas over several cubes: each cell is that of the cube that owns it, found here by pyproj and NumPy."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio.warp
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from cubegate.query import parameters

from .cubes import BOTH, ONLY_POLAR, ONLY_UTM, POLAR_TIMES, UTM_TIMES, Made, check_area, expected


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
    # longitudes from 0, around all of it
    around = check_area(await ask.area("300,64,320,66"), [polar, utm], compared)
    # a row or a column more or less
    assert abs((around == 1).sum() - (owner == 1).sum()) < 250
    assert abs((around == 2).sum() - (owner == 2).sum()) < 250


async def test_cells_of_the_finest_cube_are_not_moved_in_its_own_crs(mounted, polar, utm):
    ask = await mounted(utm=utm, polar=polar)
    found = await ask.area(BOTH)
    steps = np.diff(found.dataset.x), -np.diff(found.dataset.y)
    np.testing.assert_allclose(np.concatenate(steps), 120.0)
    assert ((found.dataset.x.values - utm.x0) % 120 == 0).all()
    assert ((found.dataset.y.values - utm.y0) % 120 == 0).all()


async def test_cells_of_the_finest_cube_are_not_moved_at_another_turn_of_longitudes(mounted, polar):
    def write(path, **_):
        # neither as many cells around the Earth as there are whole ones, nor west of Greenwich
        lon, lat = 309.9 + 0.0007 * np.arange(400), 65.05 - 0.0007 * np.arange(150)
        values = np.arange(150 * 400.0).reshape(1, 150, 400)
        xr.Dataset(
            {"v": (("mid_date", "lat", "lon"), values, {"units": "m/y"})},
            {
                "mid_date": np.array(["2020-01-01"], "M8[ns]"),
                "lat": ("lat", lat, {"units": "degrees_north"}),
                "lon": ("lon", lon, {"units": "degrees_east"}),
            },
        ).to_zarr(path, zarr_format=2)

    ask = await mounted(fine=SimpleNamespace(write=write), polar=polar)
    dataset = (await ask.area("-50.11,64.98,-49.9,65.02")).dataset
    fine = dataset["cube"].values == 1
    assert 0.9 < fine.mean() < 1
    row, column = np.divmod(np.nanmax(dataset.v.values, axis=0)[fine].astype(int), 400)
    here = np.nonzero(fine)
    np.testing.assert_allclose(dataset.lon.values[here[1]] + 360, 309.9 + 0.0007 * column, atol=1e-9)
    np.testing.assert_allclose(dataset.lat.values[here[0]], 65.05 - 0.0007 * row, atol=1e-9)


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


async def test_no_more_memory_is_used_than_was_said(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    plans = [
        await ask.plan(parameters.read_cube([("bbox", BOTH), ("variables", names)]).query)
        for names in ("count", "v,count")
    ]
    smaller, selection = [await plan.enforce() for plan in plans]
    read = sum(tile.part.dataset.nbytes for tile in selection.tiles)
    members = sum(tile.part.selection.cells for tile in selection.tiles)
    fine = replace(
        selection.lattice,
        width_of_cell=selection.lattice.width_of_cell / 8, width=selection.lattice.width * 8,
        height_of_cell=selection.lattice.height_of_cell / 8, height=selection.lattice.height * 8,
    )  # fmt: skip
    large = replace(selection, lattice=fine)
    loaded = await selection.load()
    tracemalloc.start()
    try:
        await large.load()
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used <= large.nbytes < 5 * used
    assert selection.nbytes - smaller.nbytes >= loaded.dataset.v.nbytes + read / 2
    answered = sum(variable.size for variable in loaded.dataset.data_vars.values())
    assert plans[1].price.cells == members + answered


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
    one, other = [await ask.area(f"179.75,65.97,{end},66.03") for end in (180.25, -179.75)]
    xr.testing.assert_identical(one.dataset, other.dataset)


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
