"""CDO on cubes by DAP2 and on NetCDF subsets: grids, times and values as they are in the granules."""

import re

import cftime
import numpy as np
import pytest
from pyproj import CRS, Transformer
from tests.clients.netcdf_programs import fail, granule_axes, granule_stack, missing, run, stored
from tests.clients.places import DATES, GRIDS
from tests.clients.programs import needs_program

pytestmark = needs_program("cdo")
# what CDO cannot read from a CF grid mapping is told to it in the words of PROJ
PROJ = {"aleutians": "+proj=utm +zone=1 +datum=WGS84", "opera": "+proj=utm +zone=11 +datum=WGS84"}
POINTS = 200


def cdo(*arguments, cwd):
    return run("cdo", "-s", *arguments, cwd=cwd)


@pytest.fixture(params=["opendap", "subset"])
def source(request, places_url, tmp_path):
    """Returns what CDO opens of a place: its address by DAP2, or a file of the whole place from `/subset`."""

    def source(place):
        base = f"{places_url}/datasets/{place.id}"
        if request.param == "opendap":
            return f"{base}/opendap"
        box = ",".join(map(str, place.bounds))
        asked = f"{base}/subset?bbox={box}&bbox-crs=native&variables=v&f=netcdf"
        run("curl", "-fsSg", "-o", "subset.nc", asked, cwd=tmp_path)
        return tmp_path / "subset.nc"

    return source


def numbers(text):
    return np.array(text.split(), "f8")


def read_description(text):
    return dict(re.findall(r"^(\w+) *= (.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", GRIDS)
def test_cdo_knows_the_grid_and_the_times(places, source, tmp_path, name):
    place = places[name]
    opened = source(place)
    described = read_description(cdo("griddes", opened, cwd=tmp_path))
    (x, columns), (y, rows) = granule_axes(place)
    geographic = CRS(place.crs).is_geographic
    assert described["gridtype"] == ("lonlat" if geographic else "projection")
    assert (described["xname"], described["yname"]) == (x, y)
    assert (int(described["xsize"]), int(described["ysize"])) == (columns.size, rows.size)
    for key, expected in (
        ("xfirst", columns[0]), ("yfirst", rows[0]), ("xinc", place.transform.a), ("yinc", place.transform.e),
    ):  # fmt: skip
        assert float(described[key]) == pytest.approx(expected, rel=1e-12), key
    if not geographic:
        assert described["grid_mapping_name"] == CRS(place.crs).to_cf()["grid_mapping_name"]
    times = cdo("showtimestamp", opened, cwd=tmp_path).split()
    assert times == [f"{date}T00:00:00" for date in DATES.astype("M8[D]").astype(str)]
    summary = cdo("sinfo", opened, cwd=tmp_path)
    assert "F32" in summary or "F64" in summary
    assert "points=24000 (200x120)" in summary


@pytest.mark.parametrize("name", GRIDS)
def test_cdo_sums_up_every_date(places, source, tmp_path, name):
    values = missing(granule_stack(places[name])).astype("f8")
    lines = [line.split() for line in cdo("infon", source(places[name]), cwd=tmp_path).splitlines()]
    rows = [line for line in lines if line[-1] == "v"]
    for row, layer in zip(rows, values, strict=True):
        # number : date time level gridsize miss : minimum mean maximum : name
        assert int(row[6]) == np.isnan(layer).sum()
        assert [float(part) for part in row[8:11]] == pytest.approx(
            [np.nanmin(layer), np.nanmean(layer), np.nanmax(layer)], rel=1e-4
        )


@pytest.mark.parametrize("name", GRIDS)
def test_cdo_picks_dates_and_takes_means(places, source, tmp_path, compared, name):
    stack = granule_stack(places[name])
    values = missing(stack).astype("f8")
    opened = source(places[name])
    cdo("-select,name=v,timestep=1,3", opened, "dates.nc", cwd=tmp_path)
    picked = missing(stored(tmp_path / "dates.nc", "v"))
    np.testing.assert_array_equal(picked, values[[0, 2]])
    compared(picked)
    cdo("-timmean", "-selname,v", opened, "mean.nc", cwd=tmp_path)
    mean = missing(stored(tmp_path / "mean.nc", "v"))[0]
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-6)
    compared(mean)
    (_, _), (_, rows) = granule_axes(places[name])
    edges = np.stack([rows - places[name].transform.e / 2, rows + places[name].transform.e / 2])
    # of a grid in degrees cells are weighted by their areas on the sphere
    weights = np.abs(np.diff(np.sin(np.radians(edges)), axis=0))[0] if name == "seam" else np.ones(rows.size)
    weights = np.broadcast_to(weights[:, None], values.shape[1:])
    expected = [
        np.average(layer[np.isfinite(layer)], weights=weights[np.isfinite(layer)]) for layer in values
    ]
    printed = cdo(
        "outputf,%.9g",
        "-fldmean,weights=FALSE" if name != "seam" else "-fldmean",
        "-selname,v",
        opened,
        cwd=tmp_path,
    )
    assert numbers(printed) == pytest.approx(expected, rel=1e-6)


def write_points(directory, crs, x, y, chosen):
    """Write what CDO takes for a grid of points: the chosen cells' centres in degrees."""
    rows, columns = chosen
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x[columns], y[rows])
    lines = (
        f"gridtype = unstructured\ngridsize = {lon.size}\nxunits = degrees\nyunits = degrees\n"
        f"xvals = {' '.join(map(repr, lon.tolist()))}\nyvals = {' '.join(map(repr, lat.tolist()))}\n"
    )
    (directory / "points.txt").write_text(lines)
    return "points.txt"


@pytest.mark.parametrize("name", GRIDS)
def test_cdo_finds_points_by_longitude_and_latitude(places, source, tmp_path, compared, name):
    place = places[name]
    (_, x), (_, y) = granule_axes(place)
    random = np.random.default_rng(8)
    chosen = random.integers(0, y.size, POINTS), random.integers(0, x.size, POINTS)
    points = write_points(tmp_path, place.crs, x, y, chosen)
    told = [f"-setprojparams,{PROJ[name]}"] if name in PROJ else []
    cdo(f"-remapnn,{points}", *told, "-selname,v", source(place), "points.nc", cwd=tmp_path)
    read = missing(stored(tmp_path / "points.nc", "v"))
    np.testing.assert_array_equal(read, missing(granule_stack(place))[:, chosen[0], chosen[1]])
    compared(read)


def test_cdo_refuses_a_projection_that_it_does_not_know(places, source, tmp_path):
    # and does not take metres for degrees
    said = fail(
        "cdo",
        "-s",
        "-remapnn,lon=179_lat=52",
        "-selname,v",
        source(places["aleutians"]),
        "point.nc",
        cwd=tmp_path,
    )
    assert "Unsupported projection" in said


@pytest.mark.parametrize("name", ["opera", "its-live"])
def test_cdo_reads_the_series_of_a_point(demo_cubes, demo_url, tmp_path, compared, name):
    if name == "opera":
        x, y, code = demo_cubes.x, demo_cubes.y, 32611
        address, variable = f"{demo_url}/datasets/opera-f11116/opendap", "displacement"
    else:
        store = demo_cubes.ice()
        x, y, code = store["x"][:], store["y"][:], 3413
        address, variable = f"{demo_url}/datasets/its-live/opendap", "v"
    rows, columns = np.array([120, 77]), np.array([90, 31])
    points = write_points(tmp_path, code, x, y, (rows, columns))
    told = [f"-setprojparams,{PROJ[name]}"] if name in PROJ else []
    # chains of -selname and -seltimestep read more
    chosen = (f"-select,name={variable},timestep=1/12", address)
    cdo(f"-remapnn,{points}", *told, *chosen, "points.nc", cwd=tmp_path)
    read = stored(tmp_path / "points.nc", variable)
    if name == "opera":
        expected = np.stack([demo_cubes.displacement(date)[rows, columns] for date in range(12)])
        times = demo_cubes.dates()
    else:
        expected = store["v"][:12][:, rows, columns]
        times = cftime.num2pydate(store["mid_date"][:], "days since 1970-01-01")
    np.testing.assert_array_equal(read, expected)
    compared(read)
    printed = np.array(cdo("showtimestamp", address, cwd=tmp_path).split(), "M8[s]")
    assert np.abs(printed - np.array(times, "M8[us]")).max() <= np.timedelta64(1, "s")


def test_cdo_cuts_a_box_across_the_antimeridian(places, source, tmp_path, compared):
    (_, columns), (_, rows) = granule_axes(places["seam"])
    cdo("-sellonlatbox,178,-178,60,65", "-selname,v", source(places["seam"]), "box.nc", cwd=tmp_path)
    inside = np.ix_((rows > 60) & (rows < 65), (columns > 178) & (columns < 182))
    read = missing(stored(tmp_path / "box.nc", "v"))
    np.testing.assert_array_equal(read, missing(granule_stack(places["seam"]))[:, *inside])
    compared(read)
    lon = stored(tmp_path / "box.nc", "lon")
    np.testing.assert_allclose(lon % 360, columns[(columns > 178) & (columns < 182)])
