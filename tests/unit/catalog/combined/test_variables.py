"""Variables, dates and conditions in areas and tables over several cubes."""

import shutil

import numpy as np
import pytest
import xarray as xr

from cubegate.errors import (
    InvalidParameter,
    NotAcceptable,
)
from cubegate.query import parameters

from .cubes import BOTH, check_area, expected


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
    # the second has all cells filled, and only layers that one cube lacks
    wide, inside = "-50.3,64.9,-49.5,65.1", "-49.95,64.98,-49.75,65.02"
    for bbox in (wide, inside):
        found = await ask.area(bbox, crs="EPSG:4326")
        assert found.dataset.v.dtype == np.dtype(promoted)
        owner = check_area(found, [polar, utm], compared)
        assert (owner < 0).any() == (bbox == wide)


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
    places = ["-50,65", "-49.6,65"]
    table = (await ask.table(places, variables="v,satellite", where="satellite='b'")).dataset
    np.testing.assert_array_equal(
        table.mid_date, np.sort(np.concatenate([polar.times[[1, 3]], utm.times[[0]]]))
    )
    assert [[str(name) for name in names] for names in table.satellite.values] == [
        ["b", "b", "nan"],
        ["nan", "nan", "b"],
    ]
    table = (await ask.table(places, variables="v", where="satellite='c'")).dataset
    assert np.isnan(table.v.values[0]).all()
    assert np.isfinite(table.v.values[1]).all()
    for work in (
        ask.area(BOTH, where="satellite='d'"),
        ask.table(places, variables="v", where="satellite='d'"),
    ):
        with pytest.raises(InvalidParameter, match="No date meets"):
            await work


async def test_masks_apply_in_each_cube(mounted, polar, utm, compared):
    ask = await mounted(polar=polar, utm=utm)
    found = (await ask.area(BOTH, mask="count>=100", crs="EPSG:4326")).dataset
    for made in (polar, utm):
        made.values = np.where(made.count >= 100, made.values, np.nan)
    x, y = np.meshgrid(found.lon.values, found.lat.values)
    _, values, _ = expected([polar, utm], 4326, x, y)
    np.testing.assert_array_equal(found.v.values, values)
    compared(values)
