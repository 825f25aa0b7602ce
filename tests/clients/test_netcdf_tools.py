"""ncdump and the operators of NCO on cubes by DAP2: what they print and write is what is in the granules."""

import cftime
import netCDF4
import numpy as np
import pytest
from tests.clients.netcdf_programs import (
    attributes,
    compile_cdl,
    granule_axes,
    granule_stack,
    missing,
    run,
    stored,
)
from tests.clients.places import GRIDS
from tests.clients.programs import needs_program

pytestmark = [needs_program("ncdump"), needs_program("ncks")]
SLAB = (slice(0, None, 2), slice(100, 701, 7), slice(3, None, 11))
SLAB_OPTIONS = ("-d", "time,0,,2", "-d", "y,100,700,7", "-d", "x,3,,11")


@pytest.fixture
def opera(demo_url):
    return f"{demo_url}/datasets/opera-f11116/opendap"


@pytest.fixture
def ice(demo_url):
    return f"{demo_url}/datasets/its-live/opendap"


def displacement(demo_cubes, slab=(slice(None), slice(None), slice(None))):
    dates = range(len(demo_cubes.granules))[slab[0]]
    return np.stack([demo_cubes.displacement(date)[slab[1:]] for date in dates])


def assert_same(read, expected, compared):
    np.testing.assert_array_equal(read, expected)
    compared(np.asarray(read))


@pytest.mark.parametrize("name", GRIDS)
def test_ncdump_prints_a_whole_cube(places, places_url, tmp_path, compared, name):
    place = places[name]
    file = compile_cdl(
        run("ncdump", "-p", "9,17", f"{places_url}/datasets/{name}/opendap", cwd=tmp_path), tmp_path
    )
    assert_same(stored(file, "v"), granule_stack(place), compared)
    for axis, centres in granule_axes(place):
        assert_same(stored(file, axis), centres, compared)
    assert_same(stored(file, "time"), granule_stack(place, "time"), compared)
    about = attributes(file, "v")
    assert about["_FillValue"] == np.float32(-9999)
    assert {key: about[key] for key in ("long_name", "units", "grid_mapping")} == {
        "long_name": "made up", "units": "m", "grid_mapping": "mapping",
    }  # fmt: skip


def test_ncdump_prints_the_header(demo_cubes, opera, tmp_path):
    header = run("ncdump", "-h", opera, cwd=tmp_path)
    for line in (
        "time = UNLIMITED ; // (24 currently)", "x = 1000 ;", "y = 740 ;", "float displacement(time, y, x) ;",
        "displacement:_FillValue = NaNf ;", 'displacement:units = "m" ;', 'displacement:grid_mapping = "spatial_ref" ;',
        "recommended_mask:flag_values = 0b, 1b ;", 'spatial_ref:grid_mapping_name = "transverse_mercator" ;',
        ':Conventions = "CF-1.8" ;',
    ):  # fmt: skip
        assert f"\t{line}\n" in header, line


def test_ncdump_prints_some_variables(demo_cubes, opera, ice, tmp_path, compared):
    file = compile_cdl(run("ncdump", "-p", "9,17", "-v", "x,y,time", opera, cwd=tmp_path), tmp_path)
    assert_same(stored(file, "x"), demo_cubes.x, compared)
    assert_same(stored(file, "y"), demo_cubes.y, compared)
    times = cftime.num2pydate(stored(file, "time"), attributes(file, "time")["units"])
    assert [time.isoformat() for time in times] == [date.isoformat() for date in demo_cubes.dates()]
    file = compile_cdl(
        run("ncdump", "-p", "9,17", "-v", "mid_date,date_dt,satellite_img1", ice, cwd=tmp_path), tmp_path
    )
    store = demo_cubes.ice()
    assert_same(stored(file, "mid_date"), store["mid_date"][:], compared)
    assert_same(stored(file, "date_dt"), store["date_dt"][:], compared)
    read = [row.tobytes().rstrip(b"\0").decode() for row in stored(file, "satellite_img1")]
    assert read == store["satellite_img1"][:].tolist()


def test_ncdump_prints_times_as_dates(places_url, tmp_path):
    printed = run("ncdump", "-t", "-v", "time", f"{places_url}/datasets/pole/opendap", cwd=tmp_path)
    assert printed.endswith(' time = "2020-01-03", "2020-01-15", "2020-01-27" ;\n}\n')


def test_ncks_writes_a_hyperslab_with_strides(demo_cubes, opera, tmp_path, compared):
    run("ncks", "-O", "-v", "displacement", *SLAB_OPTIONS, opera, "part.nc", cwd=tmp_path)
    file = tmp_path / "part.nc"
    assert_same(stored(file, "displacement"), displacement(demo_cubes, SLAB), compared)
    assert_same(stored(file, "x"), demo_cubes.x[SLAB[2]], compared)
    assert_same(stored(file, "y"), demo_cubes.y[SLAB[1]], compared)
    assert "transverse_mercator" in attributes(file, "spatial_ref")["grid_mapping_name"]


def test_ncks_writes_whole_variables(demo_cubes, ice, tmp_path, compared):
    run("ncks", "-O", "-4", "-v", "v,vx,interp_mask", ice, "whole.nc", cwd=tmp_path)
    for name in ("v", "vx", "interp_mask", "mid_date", "x", "y"):
        expected = demo_cubes.ice()[name][...]
        read = stored(tmp_path / "whole.nc", name)
        assert_same(read.view(expected.dtype) if expected.dtype.itemsize == 1 else read, expected, compared)
    assert attributes(tmp_path / "whole.nc", "v")["_FillValue"] == -32767


@pytest.mark.parametrize("name", GRIDS)
def test_ncks_takes_a_box_by_its_coordinates(places, places_url, tmp_path, compared, name):
    # of the seam it lies on both sides of 180
    place = places[name]
    (x, columns), (y, rows) = granule_axes(place)
    west, east = columns[70] - place.transform.a / 3, columns[130] + place.transform.a / 3
    south, north = rows[80] + place.transform.e / 3, rows[40] - place.transform.e / 3
    box = ("-d", f"{x},{west},{east}", "-d", f"{y},{south},{north}")
    run("ncks", "-O", *box, f"{places_url}/datasets/{name}/opendap", "box.nc", cwd=tmp_path)
    assert_same(stored(tmp_path / "box.nc", "v"), granule_stack(place)[:, 40:81, 70:131], compared)
    assert_same(stored(tmp_path / "box.nc", x), columns[70:131], compared)


def test_ncks_prints_cdl(places, places_url, tmp_path, compared):
    address = f"{places_url}/datasets/south/opendap"
    printed = run("ncks", "--cdl", "-v", "v", "-d", "x,5,190,37", "-d", "y,9,14", address, cwd=tmp_path)
    assert_same(
        stored(compile_cdl(printed, tmp_path), "v"),
        granule_stack(places["south"])[:, 9:15, 5:191:37],
        compared,
    )


def test_operators_of_nco_reckon_with_what_is_in_the_granules(demo_cubes, opera, tmp_path, compared):
    part = ("-v", "displacement", "-d", "y,300,400", "-d", "x,100,700,3")
    expected = displacement(demo_cubes, (slice(None), slice(300, 401), slice(100, 701, 3)))
    assert np.isnan(expected).any()
    known = np.isfinite(expected).any(0)
    largest = np.where(known, np.where(np.isnan(expected), -np.inf, expected).max(0), np.nan)
    run("ncra", "-O", "-y", "max", *part, opera, "max.nc", cwd=tmp_path)
    assert_same(stored(tmp_path / "max.nc", "displacement")[0], largest.astype("f4"), compared)
    counts = np.isfinite(expected).sum(0)
    mean = np.where(known, np.nansum(expected, 0, "f8") / np.maximum(counts, 1), np.nan)
    run("ncra", "-O", *part, opera, "mean.nc", cwd=tmp_path)
    read = stored(tmp_path / "mean.nc", "displacement")[0]
    np.testing.assert_allclose(read, mean, rtol=1e-6, atol=1e-9)
    compared(read)
    # ncwa alone of them does not take NaN for missing, so that it must be another number first
    run("ncks", "-O", *part, opera, "part.nc", cwd=tmp_path)
    run("ncatted", "-a", "_FillValue,displacement,m,f,-9999", "part.nc", cwd=tmp_path)
    run("ncwa", "-O", "-a", "y,x", "part.nc", "series.nc", cwd=tmp_path)
    read = stored(tmp_path / "series.nc", "displacement")
    np.testing.assert_allclose(read, np.nanmean(expected, (1, 2), "f8"), rtol=1e-5, atol=1e-9)
    compared(read)


def test_operators_of_nco_mask_what_is_fill(places, places_url, tmp_path, compared):
    values = missing(granule_stack(places["pole"])).astype("f8")
    assert np.isnan(values).sum() == 3 * 72
    run(
        "ncwa", "-O", "-v", "v", "-a", "time,y,x", f"{places_url}/datasets/pole/opendap", "w.nc", cwd=tmp_path
    )
    np.testing.assert_allclose(stored(tmp_path / "w.nc", "v"), np.nanmean(values), rtol=1e-6)
    run(
        "ncpdq", "-O", "-v", "v", "-a", "-y", f"{places_url}/datasets/pole/opendap", "turned.nc", cwd=tmp_path
    )
    assert_same(stored(tmp_path / "turned.nc", "v"), granule_stack(places["pole"])[:, ::-1], compared)


def test_records_of_cubes_are_joined(places, places_url, tmp_path, compared):
    address = f"{places_url}/datasets/pole/opendap"
    run("ncrcat", "-O", "-v", "v", "-d", "time,0,,2", address, "records.nc", cwd=tmp_path)
    assert_same(stored(tmp_path / "records.nc", "v"), granule_stack(places["pole"])[::2], compared)
    with netCDF4.Dataset(tmp_path / "records.nc") as opened:
        assert opened.dimensions["time"].isunlimited()
