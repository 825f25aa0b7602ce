"""Speed, direction and strain rates, against velocity fields whose gradients are known."""

import numpy as np
import pytest
import xarray as xr
from tests.unit.derived.cubes import days, projected, query_box, query_series

from cubegate.derived.units import parse_velocity_unit
from cubegate.errors import ConfigurationError
from cubegate.settings import LimitSettings

COMPONENTS = ("effective", "longitudinal", "transverse", "shear", "first-principal", "second-principal")
ALL = "".join(
    f"\n  {name.replace('-', '_')}: {{kind: strain, component: {name}, x: vx, y: vy}}" for name in COMPONENTS
)
VELOCITY = "{speed: {kind: speed, x: vx, y: vy}, direction: {kind: direction, x: vx, y: vy}}"
NAMES = [name.replace("-", "_") for name in COMPONENTS]


def velocity(u, v, *, units="m/year", cell=100.0, epsg=3413, dims=("time", "y", "x")):
    dataset = xr.Dataset({"vx": (dims, u, {"units": units}), "vy": (dims, v, {"units": units})})
    if "time" in dims:
        dataset = dataset.assign_coords(time=days(np.arange(len(u)) * 30))
    return projected(dataset, ["vx", "vy"], epsg, cell)


def random_velocity(shape=(2, 21, 26), dtype="f8"):
    random = np.random.default_rng(3)
    return random.normal(200, 90, shape).astype(dtype), random.normal(-80, 120, shape).astype(dtype)


def by_hand(u, v, cell=100.0):
    """All components by the eigenvalues and the rotation of the tensor; NaN where a neighbour is missing.

    Rows go from north to south, as the cubes of these tests do.
    """
    found = {name: np.full(u.shape, np.nan) for name in NAMES}
    for number in np.ndindex(u.shape[:-2]):
        for y in range(1, u.shape[-2] - 1):
            for x in range(1, u.shape[-1] - 1):
                cells = [(y, x), (y, x - 1), (y, x + 1), (y + 1, x), (y - 1, x)]
                near = np.array([[field[number][at] for field in (u, v)] for at in cells])
                if np.isnan(near).any():
                    continue
                gradient = np.stack([near[2] - near[1], near[4] - near[3]], axis=1) / (2 * cell)
                tensor = (gradient + gradient.T) / 2
                values = np.linalg.eigvalsh(tensor)
                along = near[0] / np.linalg.norm(near[0])
                across = np.array([-along[1], along[0]])
                vertical = -np.trace(tensor)
                at = (*number, y, x)
                found["first_principal"][at], found["second_principal"][at] = values[1], values[0]
                found["longitudinal"][at] = along @ tensor @ along
                found["transverse"][at] = across @ tensor @ across
                found["shear"][at] = along @ tensor @ across
                found["effective"][at] = np.sqrt(((tensor**2).sum() + vertical**2) / 2)
    return found


async def test_every_component_is_that_of_the_tensor(open_cube, asking, compared):
    u, v = random_velocity()
    u[0, 7, 8] = v[1, 3, 3] = np.nan
    cube = await open_cube(velocity(u, v), ALL)
    expected = by_hand(u, v)
    box = await asking.box(cube, NAMES)
    part = await asking.box(cube, NAMES, slice(6, 11), slice(0, 17))
    rows, columns = np.array([0, 6, 7, 12, 20]), np.array([5, 8, 8, 25, 25])
    points = await asking.series(cube, rows, columns, NAMES)
    one = await asking.series(cube, 12, 13, NAMES)
    for name in NAMES:
        np.testing.assert_allclose(box[name].values, expected[name], rtol=1e-9, atol=1e-15)
        assert np.isnan(expected[name][0, [7, 7, 7, 6, 8], [8, 7, 9, 8, 8]]).all()
        assert np.isfinite(expected[name][0, 6, 7])
        np.testing.assert_array_equal(part[name].values, box[name].values[:, 6:11, :17])
        np.testing.assert_array_equal(points[name].values, box[name].values[:, rows, columns].T)
        np.testing.assert_array_equal(one[name].values, box[name].values[:, 12, 13])
        assert box[name].attrs["units"] == "1/year"
        compared(box[name].values)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        ((0.01, 0, 0, 0), {"longitudinal": 0.01, "transverse": 0, "shear": 0, "effective": 0.01}),
        (
            (0, 0, 0, 0.01),
            {"longitudinal": 0, "transverse": 0.01, "second_principal": 0, "first_principal": 0.01},
        ),
        (
            (0, 0.02, 0, 0),
            {"shear": 0.01, "longitudinal": 0, "first_principal": 0.01, "second_principal": -0.01},
        ),
        ((0, 0.01, -0.01, 0), dict.fromkeys(NAMES, 0)),  # a rotation
    ],
)
async def test_plain_flows_along_x(open_cube, asking, gradient, expected):
    """du/dx, du/dy, dv/dx and dv/dy of a flow along x through the middle of the grid."""
    ux, uy, vx, vy = gradient
    x, y = np.meshgrid(100.0 * (np.arange(9) - 4), -100.0 * (np.arange(7) - 3))
    cube = await open_cube(velocity(500 + ux * x + uy * y, vx * x + vy * y, dims=("y", "x")), ALL)
    box = await asking.box(cube, NAMES)
    for name, value in expected.items():
        assert box[name].values[3, 4] == pytest.approx(value, abs=1e-12)


async def test_speed_and_direction(open_cube, asking, compared):
    u, v = random_velocity(dtype="f4")
    u[0, 0, :4], v[0, 0, :4] = (0, 1, 0, -1), (1, 0, -1, 0)
    u[1, 2, 2], u[1, 3, 3], v[1, 3, 3] = np.nan, 0, 0
    cube = await open_cube(velocity(u, v), VELOCITY)
    box = await asking.box(cube, ["speed", "direction"])
    np.testing.assert_allclose(
        box.speed.values, np.sqrt(u.astype("f8") ** 2 + v.astype("f8") ** 2), rtol=1e-6
    )
    assert box.direction.values[0, 0, :4].tolist() == [0, 90, 180, 270]
    expected = np.angle(v.astype("f8") + 1j * u.astype("f8"), deg=True) % 360
    expected[1, 3, 3] = np.nan
    np.testing.assert_allclose(box.direction.values, expected, rtol=1e-6)
    assert box.speed.values[1, 3, 3] == 0
    assert np.isnan(box.speed.values[1, 2, 2])
    assert (box.speed.attrs["units"], box.direction.attrs["units"]) == ("m/year", "degree")
    assert box.speed.dtype == np.float32
    rows, columns = np.array([0, 3, 20]), np.array([2, 3, 25])
    points = await asking.series(cube, rows, columns, ["speed", "direction"])
    for name in ("speed", "direction"):
        np.testing.assert_array_equal(points[name].values, box[name].values[:, rows, columns].T)
        compared(box[name].values)


async def test_a_direction_just_west_of_north_is_never_360(open_cube, asking):
    u, v = np.full((1, 9, 9), -1e-30, "f4"), np.ones((1, 9, 9), "f4")
    cube = await open_cube(velocity(u, v), VELOCITY)
    assert (await asking.box(cube, ["direction"])).direction.values.max() == 0


async def test_packed_components(open_cube, asking):
    u, v = (np.round(each) for each in random_velocity())
    u[0, 7, 8] = np.nan
    packing = {"dtype": "i2", "_FillValue": -32767, "scale_factor": 0.5}
    cube = await open_cube(velocity(u, v), ALL, encoding={"vx": packing, "vy": packing})
    expected = by_hand(u, v)
    box = await asking.box(cube, NAMES)
    for name in NAMES:
        np.testing.assert_allclose(box[name].values, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("units", "metres", "time"),
    [
        ("m/year", 1, "year"),
        ("meter/year", 1, "year"),
        ("metres per day", 1, "day"),
        ("m yr-1", 1, "year"),
        ("m.y^-1", 1, "year"),
        ("m s**-1", 1, "s"),
        ("km/a", 1000, "year"),
        ("mm/yr", 0.001, "year"),
        ("cm d-1", 0.01, "day"),
    ],
)
async def test_units_of_velocity(open_cube, asking, units, metres, time):
    assert parse_velocity_unit(units) == (metres, time)
    u, v = random_velocity((1, 9, 9))
    cube = await open_cube(velocity(u, v, units=units), ALL)
    box = await asking.box(cube, ["effective"])
    np.testing.assert_allclose(box.effective.values, by_hand(u, v)["effective"] * metres, rtol=1e-9)
    assert box.effective.attrs["units"] == f"1/{time}"


@pytest.mark.parametrize(
    "units", ["", "m", "m/", "/year", "degrees/year", "m/fortnight", "m year", "m-1", "1", "m/year2"]
)
def test_what_is_no_unit_of_velocity(units):
    assert parse_velocity_unit(units) is None


@pytest.mark.parametrize(
    ("rows", "columns"), [(5, 5), (8, 5), (7, 8), (0, 0), (np.array([1, 7]), np.array([1, 7]))]
)
async def test_the_price_of_points_includes_their_neighbours(open_cube, chunks_read, rows, columns):
    cube = await open_cube(velocity(*random_velocity()), ALL)
    query = query_series(await cube.dataset(), rows, columns, ["shear"])
    plan = await cube.plan("", query, LimitSettings())
    chunks_read.clear()
    await (await plan.enforce()).load()
    counted = [chunk for chunk in chunks_read if chunk[0] in ("vx", "vy")]
    # a box around the cell is priced, of which a corner may lie in a chunk that is not needed
    assert len(counted) <= plan.price.chunks
    assert np.ndim(rows) or plan.price.chunks <= len(counted) * 4 / 3


async def test_points_with_the_same_neighbours_are_priced_once(open_cube):
    cube = await open_cube(velocity(*random_velocity()), ALL)
    dataset = await cube.dataset()
    prices = []
    for cells in ([1], [1, 2, 3, 4, 5, 6], [1, 7], [0, 7, 8, 9]):
        query = query_series(dataset, np.array(cells), np.full(len(cells), 3), ["shear"])
        prices.append((await cube.plan("", query, LimitSettings())).price.chunks)
    # two inputs at two times, in 1 chunk; 1; 1 and 2; 1 at row 0, the same 2 at rows 7 and 8, 1 at row 9
    assert prices == [4, 4, 12, 16]


async def test_the_price_of_a_box_includes_its_margin(open_cube, chunks_read):
    cube = await open_cube(velocity(*random_velocity()), ALL)
    dataset = await cube.dataset()
    for rows, columns, chunks in (
        (slice(9, 15), slice(9, 15), 1),
        (slice(8, 15), slice(9, 16), 4),
        (slice(0, 21), slice(0, 26), 12),
    ):
        plan = await cube.plan("", query_box(dataset, rows, columns, ["shear"]), LimitSettings())
        chunks_read.clear()
        await (await plan.enforce()).load()
        counted = [chunk for chunk in chunks_read if chunk[0] in ("vx", "vy")]
        assert plan.price.chunks == len(counted) == chunks * 2 * 2


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"units": "furlong/year"}, "units", "furlong/year"),
        ({"units": ""}, "units", "unknown"),
        ({"epsg": 4326}, "x", "not in metres"),
    ],
)
async def test_strain_needs_metres_and_a_unit_of_velocity(open_cube, change, key, said):
    dataset = velocity(*random_velocity(), **change)
    if "epsg" in change:
        dataset = dataset.assign_coords(
            x=("x", np.arange(26.0), {"units": "degrees_east"}),
            y=("y", np.arange(21.0), {"units": "degrees_north"}),
        )
    with pytest.raises(ConfigurationError, match=said) as caught:
        await open_cube(dataset, "{e: {kind: strain, component: shear, x: vx, y: vy}}")
    assert caught.value.key == f"derived.e.{key}"


async def test_a_grid_in_kilometres(open_cube, asking):
    u, v = random_velocity((1, 9, 9))
    dataset = velocity(u, v)
    for name in ("x", "y"):
        dataset[name] = (name, dataset[name].values / 1000, {**dataset[name].attrs, "units": "km"})
    cube = await open_cube(dataset, ALL)
    box = await asking.box(cube, ["shear"])
    np.testing.assert_allclose(box.shear.values, by_hand(u, v)["shear"], rtol=1e-9)


async def test_units_may_be_configured_where_attributes_do_not_say(open_cube, asking):
    u, v = random_velocity((1, 9, 9))
    derived = "{effective: {kind: strain, component: effective, x: vx, y: vy, units: m/day}}"
    cube = await open_cube(velocity(u, v, units=""), derived)
    box = await asking.box(cube, ["effective"])
    assert box.effective.attrs["units"] == "1/day"
    with pytest.raises(ConfigurationError, match="m/year"):
        await open_cube(velocity(u, v), derived)
