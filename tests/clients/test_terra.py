"""R's terra reads subsets, Zarr and DAP of cubes over the poles, across the antimeridian and of the demo, and projects them."""

import csv
import io
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.clients.places import DATES
from tests.clients.programs import answers, needs
from tests.clients.screens import Expected

pytestmark = needs("R's terra", answers("Rscript", "-e", "library(terra)"))

PRELUDE = Path(__file__).with_name("terra.R")
IDS = ("pole", "south", "seam", "aleutians")
# how terra is given the cube at `cube`, its file downloaded as `file`
WAYS = {
    "geotiff": '"/vsicurl/{cube}/subset?f=geotiff"',
    "geotiff-file": '"{file}.tif"',
    "netcdf": "'NETCDF:\"/vsicurl/{cube}/subset?f=netcdf\":v'",
    "netcdf-file": '"{file}.nc"',
    "dap": "'NETCDF:\"{cube}/opendap\":v'",
    "zarr-plain": "'ZARR:\"/vsicurl/{cube}/zarr-plain\":/v:1'",
}
# terra asks DAP for each row alone
CUBES = [(id_, way) for id_ in IDS for way in WAYS if way != "dap" or id_ in ("pole", "seam")]
SIZE = 240, 180
# how the cube is read, and the map that it is projected to
PROJECTED = {
    "pole-dap": ("EPSG:3995", (-2.9e6, -2.9e6, 2.9e6, 2.9e6)),
    "pole-zarr-plain": ("EPSG:3995", (-3e5, -3e5, 3e5, 3e5)),
    "pole-netcdf": ("EPSG:4326", (-180, 63, 180, 90)),
    "south-geotiff": ("EPSG:3857", (-20037508, -2e7, 20037508, -9e6)),
    "seam-netcdf": ("EPSG:3413", (-3e6, 1.2e6, -1.2e6, 3e6)),
    "seam-geotiff": ("EPSG:32601", (-3e5, 6.4e6, 1e6, 7.8e6)),
    "aleutians-netcdf": ("EPSG:4326", (178, 51, 182, 53)),
    "aleutians-zarr-plain": ("EPSG:32660", (6e5, 5.68e6, 8.3e5, 5.84e6)),
}
# in each cube's own coordinates
POINTS = {
    "pole": [(1_234, -5_678), (-2_012_345, 1_012_345)],
    "south": [(1_234, -5_678), (2_012_345, -1_012_345)],
    "seam": [(179.97, 65.03), (184.97, 61.02)],
    "aleutians": [(200_700, 5_800_300), (399_300, 5_700_300)],
}


class Script:
    """Lines of R that tell something of rasters under a name, all run by one process, and what they told."""

    def __init__(self, folder):
        self._folder, self._lines = folder, [PRELUDE.read_text()]

    def tell(self, name, expression):
        self._lines.append(f'tell("{name}", function() {expression})')

    def run(self):
        file = self._folder / "questions.R"
        file.write_text("\n".join(self._lines) + "\n")
        command = ["Rscript", "--vanilla", str(file), str(self._folder)]
        result = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, timeout=600, check=False
        )
        assert result.returncode == 0, result.stderr

    def facts(self, name):
        said = (self._folder / f"{name}.txt").read_text()
        assert not said.startswith("ERROR"), said
        code, size, extent, times, names, units = said.splitlines()
        return SimpleNamespace(
            crs=f"EPSG:{code}", size=[int(each) for each in size.split()], names=names.split("|"), units=units.split("|"),
            extent=[float(each) for each in extent.split()], times=np.array(times.split(), "M8[ms]"),
            values=self.numbers(name).reshape([int(size.split()[place]) for place in (2, 0, 1)]),
        )  # fmt: skip

    def numbers(self, name):
        said = (self._folder / f"{name}.txt").read_text()
        assert not said.startswith("ERROR"), said
        return np.fromfile(self._folder / f"{name}.bin")


def download(address, file):
    urllib.request.urlretrieve(address, file)  # noqa: S310 - loopback


# of the demo's displacement, what is read: rows and columns
WINDOW = slice(100, 112), slice(20, 160)


def window_of(demo):
    """West, south, east, north of the window, in metres."""
    rows, columns = WINDOW
    edges = (
        demo.x[columns.start] - 15,
        demo.y[rows.stop - 1] - 15,
        demo.x[columns.stop - 1] + 15,
        demo.y[rows.start] + 15,
    )
    return [float(each) for each in edges]


def ask_of_the_demo(script, demo, url):
    west, south, east, north = window_of(demo)
    cube = f"{url}/datasets/opera-f11116"
    subset = (
        f"{cube}/subset?variables=displacement&bbox={west},{south},{east},{north}&bbox-crs=native&f=netcdf"
    )
    script.tell("demo-netcdf", f"rast('NETCDF:\"/vsicurl/{subset}\":displacement')")
    dap = f"rast('NETCDF:\"{cube}/opendap\":displacement')[[c(1, 12, 24)]]"
    script.tell("demo-dap", f"crop({dap}, ext({west}, {east}, {south}, {north}))")
    ice = f"{url}/datasets/its-live/subset?variables=v&datetime=2015-01-01/2015-02-15&f=netcdf"
    script.tell("demo-ice", f"rast('NETCDF:\"/vsicurl/{ice}\":v')")


@pytest.fixture(scope="module")
def told(*, places_url, demo_cubes, demo_url, tmp_path_factory):
    """What terra says of the places and the demo."""
    folder = tmp_path_factory.mktemp("terra")
    script = Script(folder)
    ask_of_the_demo(script, demo_cubes, demo_url)
    for id_ in IDS:
        cube, file = f"{places_url}/datasets/{id_}", folder / id_
        download(f"{cube}/subset?f=geotiff", f"{file}.tif")
        download(f"{cube}/subset?f=netcdf", f"{file}.nc")
        for way in [way for each, way in CUBES if each == id_]:
            script.tell(f"{id_}-{way}", f"rast({WAYS[way].format(cube=cube, file=file)})")
        x, y = (f"c({','.join(map(str, each))})" for each in zip(*POINTS[id_], strict=True))
        name = WAYS["netcdf"].format(cube=cube)
        script.tell(f"{id_}-series", f"as.matrix(extract(rast({name}), cbind({x}, {y})))")
    for read, (crs, bounds) in PROJECTED.items():
        id_, way = read.split("-", 1)
        cube = f"{places_url}/datasets/{id_}"
        west, south, east, north = bounds
        grid = f'rast(ext({west}, {east}, {south}, {north}), ncols={SIZE[0]}, nrows={SIZE[1]}, crs="{crs}")'
        name = WAYS[way].format(cube=cube)
        script.tell(f"projected-{read}", f'project(rast({name}), {grid}, method="near")')
    script.run()
    return script


@pytest.mark.parametrize(("id_", "way"), CUBES)
def test_a_whole_cube(places, told, compared, id_, way):
    place, found = places[id_], told.facts(f"{id_}-{way}")
    assert found.crs == place.crs
    west, south, east, north = place.bounds
    np.testing.assert_allclose(found.extent, (west, east, south, north), rtol=1e-12)
    dates = [1] if way == "zarr-plain" else [0, 1, 2]
    truth = np.stack([place.values(date) for date in dates])
    np.testing.assert_array_equal(found.values, truth)
    compared(truth)
    if way in ("netcdf", "netcdf-file", "dap"):
        np.testing.assert_array_equal(found.times, DATES)
        assert found.units == ["m"] * 3
    if way.startswith("geotiff"):
        # terra has no times of GeoTIFF
        assert found.names == [f"v {np.datetime_as_string(date, 's')}Z" for date in DATES]


@pytest.mark.parametrize("id_", IDS)
def test_a_point_is_its_series(*, places, places_url, told, compared, id_):
    place = places[id_]
    found = told.numbers(f"{id_}-series").reshape(len(DATES), len(POINTS[id_])).T
    for series, (x, y) in zip(found, POINTS[id_], strict=True):
        column, row = (int(np.floor(each)) for each in ~place.transform @ (x, y))
        truth = np.array([place.values(date)[row, column] for date in range(len(DATES))])
        assert np.isfinite(truth).all()
        np.testing.assert_array_equal(series, truth)
        address = f"{places_url}/datasets/{id_}/timeseries?x={x}&y={y}&f=csv"
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - loopback
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        asked = [float(row["v"]) for row in csv.DictReader(io.StringIO("\n".join(lines)))]
        np.testing.assert_array_equal(series, asked)
        compared(truth)


@pytest.mark.parametrize("read", PROJECTED)
def test_terra_projects_as_rasterio_does(places, told, compared, read):
    crs, bounds = PROJECTED[read]
    found = told.facts(f"projected-{read}")
    assert found.crs == crs
    dates = [1] if read.endswith("zarr-plain") else [0, 1, 2]
    for picture, date in zip(found.values, dates, strict=True):
        expected = Expected(places[read.split("-")[0]], date, crs, bounds=bounds, size=SIZE)
        np.testing.assert_array_equal(picture[expected.clear], expected.numbers[expected.clear])
        assert expected.present.size > 0.01 * picture.size
        compared(picture[expected.clear])


@pytest.mark.parametrize(("form", "dates"), [("netcdf", range(24)), ("dap", (0, 11, 23))])
def test_the_demos_displacement_and_its_dates(*, demo_cubes, told, compared, form, dates):
    found = told.facts(f"demo-{form}")
    assert found.crs == "EPSG:32611"
    west, south, east, north = window_of(demo_cubes)
    np.testing.assert_allclose(found.extent, (west, east, south, north), rtol=1e-12)
    truth = np.stack([demo_cubes.displacement(date)[WINDOW] for date in dates])
    assert np.isnan(truth).any() or np.isfinite(truth).all()
    np.testing.assert_array_equal(found.values, truth)
    np.testing.assert_array_equal(
        found.times, np.array([demo_cubes.dates()[date] for date in dates], "M8[ms]")
    )
    # a choice of layers has lost its units
    assert set(found.units) == ({"m"} if form == "netcdf" else {""})
    compared(truth)


def test_the_demos_velocities_bear_their_dates_in_their_names(demo_cubes, told, compared):
    """Of a time dimension with another name than `time`, terra makes names and no times."""
    ice, found = demo_cubes.ice(), told.facts("demo-ice")
    assert found.crs == "EPSG:3413"
    days = ice["mid_date"][:]
    dates = [date for date in np.argsort(days, kind="stable") if days[date] <= 16480]
    assert len(found.names) == len(dates) > 3
    for name, values, date in zip(found.names, found.values, dates, strict=True):
        nanoseconds = int(name.split("=")[1].split("_")[0])
        assert abs(nanoseconds - days[date] * 86_400e9) < 2_000
        truth = ice["v"][date].astype(float)
        truth[truth == -32767] = np.nan
        np.testing.assert_array_equal(values, truth)
        compared(truth)
