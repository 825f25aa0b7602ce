"""What a collection file may say below `derived`, and what is wrong with it, told before any query."""

import asyncio

import numpy as np
import pytest
import xarray as xr
from tests.unit.derived.cubes import CONTINUOUS, by_hand, days, projected, stack

from cubegate.catalog.chunk_layout import describe_layout
from cubegate.catalog.inspection import describe_cube
from cubegate.errors import ConfigurationError


@pytest.fixture
def mixed(truth):
    """Continuous displacement, velocities, and variables that fit neither."""
    dataset = stack(truth.stored, truth.times, truth.references)
    dataset["vx"] = (("y", "x"), truth.signal[0], {"units": "m/year"})
    dataset["vy"] = (("y", "x"), truth.signal[1], {"units": "m/year"})
    dataset["days"] = (("y", "x"), truth.signal[1], {"units": "m/day"})
    dataset["flow"] = (("time", "y", "x"), truth.signal, {"units": "m/year"})
    dataset["name"] = ("time", [f"granule {number}" for number in range(12)])
    dataset["short"] = ("other", days([1, 2]))
    dataset["dates"] = (("time", "other"), np.broadcast_to(truth.times[:, None], (12, 2)))
    # few chunks are written sooner
    return dataset.isel(y=slice(7), x=slice(8))


@pytest.mark.parametrize(
    ("derived", "key", "problem", "mend"),
    [
        ("{vx: {kind: speed, x: vx, y: vy}}", "vx", "already", "another name"),
        ("{time: {kind: speed, x: vx, y: vy}}", "time", "already", "another name"),
        ("{other: {kind: speed, x: vx, y: vy}}", "other", "already", "another name"),
        ("{s: {kind: speed, x: vz, y: vy}}", "s.x", "no variable 'vz'", "vx"),
        ("{s: {kind: speed, x: vx, y: vz}}", "s.y", "no variable 'vz'", "vx"),
        ("{s: {kind: speed, x: vx, y: flow}}", "s.y", "another grid", "one grid"),
        ("{s: {kind: speed, x: vx, y: days}}", "s.y", "m/day", "same units"),
        ("{s: {kind: speed, x: name, y: vy}}", "s.x", "no real numbers", ""),
        ("{s: {kind: speed, x: vx, y: vy, units: m/day}}", "s.units", "m/year", "Leave"),
        ("{c: {kind: continuous, variable: displaced}}", "c.variable", "no variable 'displaced'", "displacement"),
        ("{c: {kind: continuous, variable: name}}", "c.variable", "no real numbers", ""),
        ("{c: {kind: continuous, variable: vx}}", "c.time", "no time", ""),
        ("{c: {kind: continuous, variable: reference_time}}", "c.variable", "no real numbers", ""),
        ("{c: {kind: continuous, variable: flow, time: x}}", "c.time", "no dates", ""),
        ("{c: {kind: continuous, variable: flow, time: short}}", "c.time", "does not run along", ""),
        ("{c: {kind: continuous, variable: flow, reference_time: gone}}", "c.reference_time", "no variable", ""),
        ("{c: {kind: continuous, variable: flow, reference_time: vx}}", "c.reference_time", "no dates", ""),
        ("{c: {kind: continuous, variable: flow, reference_time: short}}", "c.reference_time", "run along", ""),
        ("{c: {kind: continuous, variable: flow, reference_time: dates}}", "c.reference_time", "2 dim", ""),
        (
            "{c: {kind: continuous, variable: flow, reference: {kind: point, lon: 0, lat: 0}}}",
            "c.reference", "outside the grid", "inside",
        ),
        ("{gone/s: {kind: speed, x: vx, y: vy}}", "gone/s", "no group 'gone'", "group/name"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_an_error_when_the_cube_is_opened(  # noqa: PLR0917
    open_cube, mixed, derived, key, problem, mend
):
    with pytest.raises(ConfigurationError) as caught:
        await open_cube(mixed, derived)
    assert caught.value.key == f"derived.{key}"
    assert caught.value.file.endswith("cube0.yaml")
    assert problem in caught.value.problem
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("derived", "key", "said"),
    [
        ("{s: {x: vx, y: vy}}", "derived.s", "Add kind"),
        ("{s: {kind: velocity, x: vx, y: vy}}", "derived.s", "'speed'"),
        ("{s: {kind: speed, x: vx}}", "derived.s.y", "Add it"),
        ("{speed: {kind: speed, x: vx, y: vy, z: vz}}", "derived.speed.z", "Known keys here: x, y, units, kind"),
        ("{s: {kind: strain, x: vx, y: vy, component: total}}", "derived.s.component", "'transverse'"),
        ("{c: {kind: continuous, variable: v, missing: zero}}", "derived.c.missing", "'omit'"),
        ("{c: {kind: continuous, variable: v, tolerance: soon}}", "derived.c.tolerance", "duration"),
        (
            "{c: {kind: continuous, variable: v, reference: {kind: point, lon: 400, lat: 0}}}",
            "derived.c.reference.lon", "360",
        ),
        ("{'a b': {kind: speed, x: vx, y: vy}}", "derived.a b", "pattern"),
        ("{'/a': {kind: speed, x: vx, y: vy}}", "derived./a", "pattern"),
        ("[speed]", "derived", "keys and values"),
    ],
)  # fmt: skip
async def test_a_wrong_setting_is_named(open_cube, mixed, derived, key, said):
    with pytest.raises(ConfigurationError) as caught:
        await open_cube(mixed, derived)
    assert caught.value.key.removesuffix(".[key]") == key
    assert said in str(caught.value)


async def test_variables_of_the_collection_may_leave_out_an_input(open_cube, mixed):
    with pytest.raises(ConfigurationError, match="no variable 'reference_time'"):
        await open_cube(mixed, CONTINUOUS, more="variables: [displacement]")
    cube = await open_cube(mixed, CONTINUOUS, more="variables: [displacement, reference_time]")
    assert set((await cube.dataset()).data_vars) == {"displacement", "reference_time", "spatial_ref", "c"}


async def test_each_may_be_an_input_of_those_after_it(open_cube, asking, truth, mixed):
    derived = f"{{a: {CONTINUOUS[4:-1]}, b: {{kind: speed, x: a, y: a, units: meters}}}}"
    cube = await open_cube(mixed.drop_vars("flow"), derived)
    expected = by_hand(truth.stored, truth.times, truth.references)
    box = await asking.box(cube, ["b"], slice(3, 6), slice(4, 8))
    np.testing.assert_allclose(box.b.values, np.hypot(expected, expected)[:, 3:6, 4:8])


async def test_groups_have_derived_variables_of_their_own(open_cube, truth, mixed):
    group = projected(
        xr.Dataset({"u": (("y", "x"), truth.signal[2]), "v": (("y", "x"), truth.signal[3])}), ["u", "v"]
    )
    derived = f"{{c: {CONTINUOUS[4:-1]}, ice/flow/speed: {{kind: speed, x: u, y: v}}}}"
    cube = await open_cube({"": mixed, "ice/flow": group}, derived)
    root, flow = await cube.dataset(), await cube.dataset("ice/flow")
    assert ("c" in root, "speed" in root, "c" in flow, "speed" in flow) == (True, False, False, True)
    found = await flow.speed.copy(deep=False).load_async()
    np.testing.assert_allclose(found.values, np.hypot(truth.signal[2], truth.signal[3]))
    with pytest.raises(ConfigurationError) as caught:
        await open_cube({"": mixed, "ice/flow": group}, "{ice/flow/speed: {kind: speed, x: vx, y: v}}")
    assert caught.value.key == "derived.ice/flow/speed.x"


async def test_what_inspects_a_cube_stands_derived_variables(open_cube, mixed):
    cube = await open_cube(mixed, CONTINUOUS)
    assert await describe_cube(cube)
    assert await describe_layout(cube)


async def test_attributes_say_what_a_variable_is(open_cube, mixed):
    mixed.displacement.attrs["long_name"] = "LOS displacement"
    mixed.displacement.attrs["ancillary_variables"] = "vx"
    cube = await open_cube(mixed, CONTINUOUS)
    found = (await cube.dataset()).c
    said = dict(found.attrs)
    assert "reference_time" in said.pop("comment")
    assert said.pop("grid_mapping", found.encoding.get("grid_mapping")) == "spatial_ref"
    assert said == {"long_name": "LOS displacement, continuous along time", "units": "meters"}


async def test_a_synchronous_caller_gets_them_too(open_cube, mixed, truth):
    cube = await open_cube(mixed, CONTINUOUS)
    found = await asyncio.to_thread(lambda: cube.dataset_now().c[:, 3:5].values)
    np.testing.assert_array_equal(found, by_hand(truth.stored, truth.times, truth.references)[:, 3:5, :8])
