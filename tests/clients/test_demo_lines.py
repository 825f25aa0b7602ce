"""Runs what `cubegate demo` prints, as printed, and compares the answers with the granules."""

import csv
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import matplotlib.image
import netCDF4
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import zarr
from tests.clients.demo_cubes import Demo

from cubegate.demo import lines
from cubegate.demo.lines import BBOX, ICE_X, ICE_Y, LAT, LON

unbuilt = [
    f"cubegate_plugins.{name}"
    for name in ("zarr", "timeseries", "subset", "estimate")
    if find_spec(f"cubegate_plugins.{name}") is None
]
pytestmark = pytest.mark.skipif(bool(unbuilt), reason=f"not built yet: {', '.join(unbuilt)}")

NAMES = [pytest.param(line.name, id=f"{line.tool}: {line.name}") for line in lines("http://server")]


class RunningDemo(Demo):
    """A running `cubegate demo`, and its granules read without it."""

    def __init__(self, directory, port, log):
        super().__init__(directory)
        self.log = log
        self.lines = {line.name: line for line in lines(f"http://127.0.0.1:{port}")}

    def printed_series(self):
        """The series of the place that the lines name."""
        return self.series(*pyproj.Transformer.from_crs(4326, 32611, always_xy=True).transform(LON, LAT))

    def window(self, y, x):
        """The rows and columns of pixel centres, each of which must be exactly one of the grid's."""
        rows, columns = np.searchsorted(-self.y, -np.asarray(y)), np.searchsorted(self.x, x)
        np.testing.assert_array_equal(self.y[rows], y)
        np.testing.assert_array_equal(self.x[columns], x)
        return np.ix_(rows, columns)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clients") / "demo-data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = directory.parent / "log"
    command = [sys.executable, "-m", "cubegate", "demo", "--directory", str(directory), "--port", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            last_line = lines(f"http://127.0.0.1:{port}")[-1].text
            deadline = time.monotonic() + 300
            while last_line not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield RunningDemo(directory, port, log)
        finally:
            process.terminate()


@pytest.fixture
def run(demo, tmp_path):
    """Run one line as it was printed, in an empty directory; returns what it prints and writes."""

    def run_line(name):
        line = demo.lines[name]
        assert f"\n{line.text}\n" in demo.log.read_text()
        tool = line.text.split()[0]
        if line.tool != "Python" and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
        command = [sys.executable, "-c", line.text] if line.tool == "Python" else ["bash", "-c", line.text]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        assert [path.name for path in tmp_path.iterdir() if path.suffix != ".xml"] == (
            [line.output] if line.output else []
        )
        return result.stdout, tmp_path / line.output

    return run_line


def check_python_series(demo, printed, _):
    rows = [line.split() for line in printed.splitlines() if re.match(r"\d{4}-", line)]
    assert [pd.Timestamp(f"{row[0]} {row[1]}") for row in rows] == demo.dates()
    np.testing.assert_allclose([float(row[2]) for row in rows], demo.printed_series(), atol=1e-6)


def check_python_ice(demo, printed, _):
    store = zarr.open_group(demo.directory / "its-live.zarr", mode="r")
    row, column = np.abs(store["y"][:] - ICE_Y).argmin(), np.abs(store["x"][:] - ICE_X).argmin()
    speed = store["v"][:, row, column].astype(float)
    speed[speed == -32767] = np.nan
    years = pd.to_datetime(store["mid_date"][:], unit="D").year
    expected = pd.Series(speed).groupby(np.asarray(years)).median()
    rows = [line.split() for line in printed.splitlines() if re.match(r"\d{4} ", line)]
    assert {int(year): float(value) for year, value in rows} == expected.to_dict()
    assert len(expected) == 9


def check_csv(demo, printed, _):
    body = [line for line in printed.splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(body))))
    assert [pd.Timestamp(row["time"]).tz_localize(None) for row in rows] == demo.dates()
    np.testing.assert_array_equal(
        np.array([row["displacement"] for row in rows], dtype="f4"), demo.printed_series()
    )


def check_png(demo, _, file):
    picture = matplotlib.image.imread(file)
    assert min(picture.shape[:2]) > 200
    assert np.ptp(picture) > 0.5


def check_netcdf(demo, _, file):
    with netCDF4.Dataset(file) as subset:
        values = np.ma.filled(subset["displacement"][:], np.nan)
        window = demo.window(subset["y"][:], subset["x"][:])
        mapping = subset[subset["displacement"].grid_mapping]
        assert pyproj.CRS.from_wkt(mapping.crs_wkt).to_epsg() == 32611
    assert values.shape[0] == 24
    check_covers_bbox(demo, window)
    for number in range(24):
        np.testing.assert_array_equal(values[number], demo.displacement(number)[window])


def check_covers_bbox(demo, window):
    west, south, east, north = map(float, BBOX.split(","))
    to_grid = pyproj.Transformer.from_crs(4326, 32611, always_xy=True)
    rows, columns = window[0].ravel(), window[1].ravel()
    for lon, lat in ((west, south), (west, north), (east, south), (east, north)):
        x, y = to_grid.transform(lon, lat)
        # a cell belongs to an area that its centre lies in: a corner may stick out by less than a cell
        assert demo.x[columns[0]] - 30 < x < demo.x[columns[-1]] + 30
        assert demo.y[rows[-1]] - 30 < y < demo.y[rows[0]] + 30


def check_raster(demo, file, numbers):
    with rasterio.open(file) as raster:
        assert raster.crs.to_epsg() == 32611
        assert (raster.count, raster.res) == (len(numbers), (30, 30))
        left, top = raster.transform.c, raster.transform.f
        y, x = top - 30 * (np.arange(raster.height) + 0.5), left + 30 * (np.arange(raster.width) + 0.5)
        window = demo.window(y, x)
        for band, number in enumerate(numbers, 1):
            np.testing.assert_array_equal(raster.read(band), demo.displacement(number)[window])
    return window


def check_geotiff(demo, _, file):
    check_covers_bbox(demo, check_raster(demo, file, [21, 22, 23]))


def check_estimate(demo, printed, _):
    # 3 x 2 chunks of every date cover the area, one of them unallocated
    assert re.search(r'"chunks": ?14[34]\b', json.dumps(json.loads(printed)))


def check_translated(demo, printed, file):
    assert "UTM zone 11N" in printed
    assert "(118d21'24.11\"W, 34d11'55.01\"N)" in printed
    assert check_raster(demo, file, [23])[0].size == 740


def check_gdalinfo_geotiff(demo, printed, _):
    assert "UTM zone 11N" in printed
    assert "Band 3 " in printed
    assert "Band 4 " not in printed


CHECKS = {
    "displacement of one pixel at all dates": check_python_series,
    "median speed of a glacier, year by year": check_python_ice,
    "a time series as CSV": check_csv,
    "a time series as a plot": check_png,
    "an area at all dates as NetCDF": check_netcdf,
    "an area at the last dates as GeoTIFF": check_geotiff,
    "what that area costs to read": check_estimate,
    "the last date of the cube as a GeoTIFF": check_translated,
    "an area as GeoTIFF, read over HTTP": check_gdalinfo_geotiff,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_line_works_and_answers_with_the_granules_values(demo, run, name):
    CHECKS[name](demo, *run(name))
