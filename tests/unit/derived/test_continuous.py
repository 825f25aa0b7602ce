"""Series made continuous: the truth that was cut into reference epochs comes back, however it is asked for."""

import numpy as np
import pytest
from tests.unit.derived.cubes import CONTINUOUS, HEIGHT, WIDTH, by_hand, query_box, query_series, stack

from cubegate.errors import BudgetExceeded
from cubegate.settings import LimitSettings

ALL = [(0, 0), (5, 9), (HEIGHT - 1, WIDTH - 1)]
OMITTED = "{c: {kind: continuous, variable: displacement, missing: omit}}"


async def assert_everywhere(asking, cube, expected, compared):
    """The variable c is `expected`, of shape (time, y, x) and in time's order, at points and in boxes."""
    box = await asking.box(cube, ["c"])
    np.testing.assert_array_equal(box.c.values, expected)
    part = await asking.box(cube, ["c"], rows=slice(3, 12), columns=slice(7, 20))
    np.testing.assert_array_equal(part.c.values, expected[:, 3:12, 7:20])
    rows, columns = np.array([each[0] for each in ALL]), np.array([each[1] for each in ALL])
    points = await asking.series(cube, rows, columns, ["c"])
    np.testing.assert_array_equal(points.c.values, expected[:, rows, columns].T)
    for iy, ix in ALL:
        one = await asking.series(cube, iy, ix, ["c"])
        np.testing.assert_array_equal(one.c.values, expected[:, iy, ix])
    whole = await (await cube.dataset()).c.copy(deep=False).load_async()
    assert whole.shape == expected.shape
    compared(box.c.values)
    compared(part.c.values)
    compared(points.c.values)


@pytest.mark.parametrize(("dtype", "zarr_format"), [("f8", 2), ("f8", 3), ("f4", 2)])
async def test_the_truth_comes_back(open_cube, asking, truth, compared, dtype, zarr_format):  # noqa: PLR0917
    stored = truth.stored.astype(dtype)
    cube = await open_cube(stack(stored, truth.times, truth.references), CONTINUOUS, zarr_format=zarr_format)
    expected = by_hand(stored, truth.times, truth.references).astype(dtype)
    np.testing.assert_allclose(expected, truth.signal, atol=1e-12 if dtype == "f8" else 1e-5)
    # up to the first change nothing is computed at all
    np.testing.assert_array_equal(expected[:4], stored[:4])
    assert np.abs(expected[4:] - stored[4:]).max() > 1
    await assert_everywhere(asking, cube, expected, compared)
    assert (await cube.dataset()).c.dtype == dtype
    assert cube.notes == ()


@pytest.mark.parametrize(
    "datetime", ["2020-05-24", "2020-04-01/2020-04-30", "2020-02-01/..", "../2020-03-01"]
)
async def test_a_part_of_a_series_has_the_values_of_the_whole(open_cube, asking, truth, datetime):
    cube = await open_cube(stack(truth.stored, truth.times, truth.references), CONTINUOUS)
    expected = by_hand(truth.stored, truth.times, truth.references)
    one = await asking.series(cube, 5, 9, ["c"], datetime)
    inside = np.isin(truth.times, one.time.values)
    assert 0 < inside.sum() < len(truth.times)
    np.testing.assert_array_equal(one.c.values, expected[inside, 5, 9])
    rows, columns = np.array([0, 20]), np.array([0, 25])
    points = await asking.series(cube, rows, columns, ["c"], datetime)
    np.testing.assert_array_equal(points.c.values, expected[inside][:, rows, columns].T)
    box = await asking.box(cube, ["c"], slice(2, 9), slice(5, 30), datetime)
    np.testing.assert_array_equal(box.c.values, expected[inside][:, 2:9, 5:30])


@pytest.mark.parametrize("omit", [False, True])
async def test_a_missing_value_at_a_change_propagates_or_counts_as_0(
    open_cube, asking, truth, compared, omit
):
    values = truth.stored.copy()
    # epochs 3, 6 and 8 carry others on; 5 and 11 do not
    values[3, 5, 9] = values[6, 0, 0] = values[8, 5, 9] = values[5, 2, 2] = values[11, 4, 4] = np.nan
    cube = await open_cube(stack(values, truth.times, truth.references), OMITTED if omit else CONTINUOUS)
    expected = by_hand(values, truth.times, truth.references, omit=omit)
    lost = np.isnan(expected)
    assert lost[3:, 5, 9].all() == (not omit)
    assert lost[[3, 8], 5, 9].all()
    assert lost[:, 2, 2].sum() == lost[:, 4, 4].sum() == 1
    assert lost[7:, 0, 0].all() == (not omit)
    if omit:
        interval = truth.signal[3, 5, 9]
        assert expected[4, 5, 9] == pytest.approx(truth.signal[4, 5, 9] - interval)
    await assert_everywhere(asking, cube, expected, compared)
    said = (await cube.dataset()).c.attrs["comment"]
    assert ("missing: omit" in said, "missing: propagate" in said) == (omit, not omit)


async def test_times_in_any_order_and_twice(open_cube, asking, truth):
    order = np.array([7, 3, 11, 0, 1, 10, 5, 2, 8, 9, 6, 4, 2])
    values, times, references = truth.stored[order], truth.times[order], truth.references[order]
    cube = await open_cube(stack(values, times, references), CONTINUOUS)
    expected = by_hand(truth.stored, truth.times, truth.references)[order]
    stored_order = await (await cube.dataset()).c.isel(y=4).load_async()
    np.testing.assert_array_equal(stored_order.values, expected[:, 4])
    sorted_order = np.argsort(times, kind="stable")
    box = await asking.box(cube, ["c"])
    np.testing.assert_array_equal(box.c.values, expected[sorted_order])
    one = await asking.series(cube, 5, 9, ["c"], "2020-04-01/2020-05-20")
    inside = sorted_order[np.isin(times[sorted_order], one.time.values)]
    np.testing.assert_array_equal(one.c.values, expected[inside, 5, 9])


async def test_where_no_epoch_is_of_the_reference_date_nothing_is_guessed(open_cube, asking, truth):
    kept = np.arange(12) != 3  # what the first change needs
    values, times, references = truth.stored[kept], truth.times[kept], truth.references[kept]
    for derived in (CONTINUOUS, OMITTED):
        cube = await open_cube(stack(values, times, references), derived)
        box = await asking.box(cube, ["c"])
        np.testing.assert_array_equal(box.c.values[:3], values[:3])
        assert np.isnan(box.c.values[3:]).all()
        (note,) = cube.notes
        assert "8 epochs" in note
        assert "2020-02-18T00:00:00Z" in note
        assert note.removeprefix("derived.c: ") in box.c.attrs["comment"]
        one = await asking.series(cube, 5, 9, ["c"], "2020-03-01/..")
        assert np.isnan(one.c.values).all()


async def test_dates_that_differ_by_seconds_are_of_one_acquisition(open_cube, asking, truth):
    references = truth.references + np.arange(12) * np.timedelta64(2, "s")
    cube = await open_cube(stack(truth.stored, truth.times, references), CONTINUOUS)
    box = await asking.box(cube, ["c"])
    np.testing.assert_array_equal(box.c.values, by_hand(truth.stored, truth.times, truth.references))
    strict = "{c: {kind: continuous, variable: displacement, tolerance: 1s}}"
    cube = await open_cube(stack(truth.stored, truth.times, references), strict)
    assert len(cube.notes) == 1


async def test_scale_factors_and_fill_values_are_undone_first(open_cube, asking, truth, compared):
    values = np.round(truth.stored, 2)
    values[3, 5, 9] = values[10, 1, 1] = np.nan
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -32768}
    cube = await open_cube(
        stack(values, truth.times, truth.references), CONTINUOUS, encoding={"displacement": packing}
    )
    decoded = (await asking.box(cube, ["displacement"])).displacement.values
    np.testing.assert_allclose(decoded, values, atol=1e-5)
    expected = by_hand(decoded, truth.times, truth.references).astype(decoded.dtype)
    assert np.isnan(expected[3:, 5, 9]).all()
    await assert_everywhere(asking, cube, expected, compared)


async def test_one_reference_date_for_all_needs_nothing(open_cube, asking, truth):
    dataset = stack(truth.stored, truth.times, truth.references)
    dataset["reference_time"] = ((), truth.references[0])
    cube = await open_cube(dataset, CONTINUOUS)
    box = await asking.box(cube, ["c"])
    np.testing.assert_array_equal(box.c.values, truth.stored)


async def test_the_time_of_another_name_and_dimension(open_cube, asking, truth):
    dataset = stack(truth.stored, truth.times, truth.references).rename(time="granule").reset_index("granule")
    dataset = dataset.rename(granule="secondary").reset_coords("secondary")
    assert dataset.displacement.dims[0] != "time"
    derived = "{c: {kind: continuous, variable: displacement, time: secondary}}"
    cube = await open_cube(dataset, derived)
    found = await (await cube.dataset()).c.isel(y=slice(3, 9)).load_async()
    np.testing.assert_array_equal(found.values, by_hand(truth.stored, truth.times, truth.references)[:, 3:9])


async def test_a_place_as_reference(open_cube, asking, truth, compared):
    iy, ix = 4, 17
    derived = "{c: {kind: continuous, variable: displacement, reference: {kind: point, lon: %s, lat: %s}}}"
    plain = await open_cube(stack(truth.stored, truth.times, truth.references))
    place = await asking.series(plain, iy, ix, ["displacement"])
    derived %= float(place.longitude), float(place.latitude)
    cube = await open_cube(stack(truth.stored, truth.times, truth.references), derived)
    expected = by_hand(truth.stored, truth.times, truth.references)
    await assert_everywhere(asking, cube, expected - expected[:, iy : iy + 1, ix : ix + 1], compared)
    one = await asking.series(cube, 5, 9, ["c"], "2020-05-24")
    np.testing.assert_array_equal(
        one.c.values, [expected[-1, 5, 9] - expected[-1, iy, ix]] if one.sizes["time"] else []
    )


@pytest.mark.parametrize("reference", ["", ", reference: {kind: point, lon: -116.9942, lat: 35.242}"])
@pytest.mark.parametrize(
    ("datetime", "epochs"),
    [(None, 12), ("2020-01-25", 1), ("2020-03-01/2020-03-20", 3), ("2020-05-24", 4)],
)
async def test_the_price_is_what_is_read(open_cube, truth, chunks_read, datetime, epochs, reference):  # noqa: PLR0917
    derived = f"{{c: {{kind: continuous, variable: displacement{reference}}}}}"
    cube = await open_cube(stack(truth.stored, truth.times, truth.references), derived)
    limits = LimitSettings()
    dataset = await cube.dataset()
    for query, columns in (
        (query_series(dataset, 5, 9, ["c"], datetime), 1),
        (query_series(dataset, np.array([5, 6, 20]), np.array([9, 9, 25]), ["c"], datetime), 2),
        (query_box(dataset, slice(5, 9), slice(0, 20), ["c"], datetime), 2 * 3),
    ):
        plan = await cube.plan("", query, limits)
        chunks_read.clear()
        await (await plan.enforce()).load()
        counted = {chunk for path, chunk in chunks_read if path == "displacement"}
        assert len({chunk[0] for chunk in counted}) == epochs
        if reference:
            assert len(counted) <= plan.price.chunks <= len(counted) * 2
        else:
            assert plan.price.chunks == len(counted) == epochs * columns


async def test_a_query_of_few_epochs_is_refused_for_all_that_it_needs(open_cube, truth):
    cube = await open_cube(stack(truth.stored, truth.times, truth.references), CONTINUOUS)
    dataset = await cube.dataset()
    query = query_series(dataset, 5, 9, ["c"], "2020-05-24")
    await (await cube.plan("", query, LimitSettings(chunks=4))).enforce()
    with pytest.raises(BudgetExceeded, match="4 chunks"):
        await (await cube.plan("", query, LimitSettings(chunks=3))).enforce()
