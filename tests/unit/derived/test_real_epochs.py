"""The real DISP-S1 epochs: stacked, cut anew where the reference date could have moved, and made continuous."""

import numpy as np
import pytest
import rasterio
from tests.unit.derived.cubes import CONTINUOUS, by_hand, stack

DATES = ("20160801", "20160825", "20160918", "20161012")


def day(text):
    return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}T00:51:33", "ns")


@pytest.fixture
def epochs(real_layers):
    values = []
    for date in DATES:
        with rasterio.open(real_layers / f"displacement_20160708_{date}.tif") as file:
            values.append(file.read(1))
    return np.stack(values), np.array([day(date) for date in DATES])


async def test_epochs_of_one_reference_date_are_as_stored(open_cube, asking, epochs, compared):
    values, times = epochs
    references = np.full(4, day("20160708"))
    cube = await open_cube(stack(values, times, references), CONTINUOUS)
    box = await asking.box(cube, ["c"])
    np.testing.assert_array_equal(box.c.values, values)
    compared(values)


async def test_epochs_cut_at_moving_reference_dates_are_put_together(open_cube, asking, epochs, compared):
    values, times = epochs
    # as the product would be, had its reference moved to the second and then to the third epoch
    cut = np.stack([values[0], values[1], values[2] - values[1], values[3] - values[2]])
    references = np.array([day("20160708"), day("20160708"), times[1], times[2]])
    # the reference is given by another granule, seconds off
    references[2:] += np.timedelta64(4, "s")
    cube = await open_cube(stack(cut, times, references), CONTINUOUS)
    box = await asking.box(cube, ["c"])
    exact = references - np.array([0, 0, 4, 4]) * np.timedelta64(1, "s")
    np.testing.assert_array_equal(box.c.values, by_hand(cut, times, exact).astype("f4"))
    np.testing.assert_allclose(box.c.values, values, atol=1e-6)
    assert np.isnan(values).any()
    iy, ix = 258, 142  # the reference point of the files
    one = await asking.series(cube, iy, ix, ["c"], "2016-10-12")
    np.testing.assert_allclose(one.c.values, values[3:, iy, ix], atol=1e-6)
    rows, columns = np.array([10, 200, 361]), np.array([300, 7, 356])
    points = await asking.series(cube, rows, columns, ["c"])
    np.testing.assert_array_equal(points.c.values, box.c.values[:, rows, columns].T)
    compared(box.c.values)
    compared(points.c.values)
