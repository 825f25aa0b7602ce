"""Points of a combined collection: each is answered by the cube that owns it."""

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer

from cubegate.errors import (
    InvalidParameter,
)

from .cubes import BOTH, UTM_TIMES, Made, expected


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
