"""GDAL's command line tools read cubes and subsets over HTTP, with the right CRS, place and values."""

import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import h5py
import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
import yaml
from tests.clients.gdal_tools import NEEDS_GDAL, run

from cubegate.app import create_app
from cubegate.settings import load_settings

pytestmark = NEEDS_GDAL

ROWS, COLUMNS = 45, 70
NODATA = {"displacement": "NaN", "speed": -32767, "mask": None}
DATES = np.array(["2020-01-03", "2020-01-15", "2020-01-27"], "M8[ns]")
# name: EPSG code, names of y and x, first y and x, steps of y and x
GRIDS = {
    "utm": (32611, "y", "x", 3_900_000.0, 400_015.0, -30.0, 30.0),
    "polar": (3413, "y", "x", -2_261_060.0, -194_940.0, -120.0, 120.0),
    "lonlat": (4326, "lat", "lon", 47.9, 5.1, -0.2, 0.2),
    "ascending": (32611, "y", "x", 3_900_000.0, 400_015.0, 30.0, 30.0),
}
PROJECTED = {
    "y": {"standard_name": "projection_y_coordinate", "units": "m"},
    "x": {"standard_name": "projection_x_coordinate", "units": "m"},
    "lat": {"standard_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "units": "degrees_east"},
}


def write_cube(path, grid):
    """A stack with shuffled floats, integers with a fill value, and a layer without time."""
    epsg, y, x, top, left, y_step, x_step = GRIDS[grid]
    random = np.random.default_rng(epsg)
    shape = (len(DATES), ROWS, COLUMNS)
    displacement = random.standard_normal(shape).astype("f4")
    displacement[:, :7, :9] = np.nan
    speed = random.integers(0, 3000, shape).astype("i2")
    speed[:, 30:, 50:] = -32767
    mapped = {"grid_mapping": "spatial_ref"}
    dataset = xr.Dataset(
        {
            "displacement": (("time", y, x), displacement, {"units": "m", **mapped}),
            "speed": (("time", y, x), speed, {"units": "meter/year", **mapped}),
            "mask": ((y, x), random.integers(0, 2, shape[1:]).astype("u1"), mapped),
            "spatial_ref": ((), np.int32(0), pyproj.CRS.from_epsg(epsg).to_cf()),
        },
        {
            "time": DATES,
            y: (y, top + y_step * np.arange(ROWS), PROJECTED[y]),
            x: (x, left + x_step * np.arange(COLUMNS), PROJECTED[x]),
        },
    )
    compressed = {"zlib": True, "shuffle": True}
    encoding = {
        "displacement": {**compressed, "chunksizes": (1, 16, 32), "_FillValue": np.float32(np.nan)},
        "speed": {**compressed, "chunksizes": (2, 16, 32), "_FillValue": np.int16(-32767)},
        "mask": {**compressed, "chunksizes": (16, 32), "_FillValue": None},
    }
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)


class Recorder:
    """Passes requests on, and notes method, path, what was asked for and the status of each."""

    def __init__(self, application):
        self._application = application
        self.requests = []

    async def __call__(self, scope, receive, send):
        async def note(message):
            if message["type"] == "http.response.start":
                headers = dict(scope["headers"])
                asked = headers.get(b"range", b"").decode()
                self.requests.append((scope["method"], scope["path"], asked, message["status"]))
            await send(message)

        await self._application(scope, receive, note if scope["type"] == "http" else send)


@pytest.fixture(scope="module")
def cubes(tmp_path_factory, scan_granule, serve_application):
    """A server over one cube a grid; `spooled` counts the answers that it has computed."""
    directory = tmp_path_factory.mktemp("gdal")
    (directory / "collections").mkdir()
    for grid in GRIDS:
        file = directory / f"{grid}.nc"
        write_cube(file, grid)
        (directory / f"{grid}.json").write_text(json.dumps(scan_granule(file)))
        source = {"kind": "kerchunk", "href": (directory / f"{grid}.json").as_uri()}
        (directory / "collections" / f"{grid}.yaml").write_text(
            yaml.safe_dump({"id": grid, "source": source})
        )
    (directory / "cubegate.yaml").write_text(yaml.safe_dump({"upstreams": {f"{directory.as_uri()}/": {}}}))
    application = create_app(load_settings(directory / "cubegate.yaml", {}), {})
    recorder = Recorder(application)
    url = f"{serve_application(recorder)}/datasets"
    spool = application.state.services.spool
    return SimpleNamespace(
        url=url, directory=directory, requests=recorder.requests, spooled=lambda: spool._count
    )


def source(cubes, grid, name, date=None):
    """Read an array of a cube's granule, without the server."""
    with h5py.File(cubes.directory / f"{grid}.nc") as file:
        return file[name][...] if date is None else file[name][date]


def zarr_name(cubes, grid, variable, date=None):
    band = "" if date is None else f":{date}"
    return f'ZARR:"/vsicurl/{cubes.url}/{grid}/zarr-plain":/{variable}{band}'


def geotransform(grid, rows=slice(0, ROWS), columns=slice(0, COLUMNS)):
    _, _, _, top, left, y_step, x_step = GRIDS[grid]
    return [left + x_step * (columns.start - 0.5), x_step, 0, top + y_step * (rows.start - 0.5), 0, y_step]


def check_place(description, grid, expected=None):
    assert pyproj.CRS.from_wkt(description["coordinateSystem"]["wkt"]).to_epsg() == GRIDS[grid][0]
    np.testing.assert_allclose(description["geoTransform"], expected or geotransform(grid), rtol=1e-12)


def read_raster(path):
    with rasterio.open(path) as raster:
        return raster.read()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "band",
    [("displacement", 0), ("displacement", 2), ("speed", 1), ("mask", None)],
)
def test_a_band_of_zarr_plain(cubes, compared, tmp_path, grid, band):
    variable, date = band
    name = zarr_name(cubes, grid, variable, date)
    first = len(cubes.requests)
    description = json.loads(run("gdalinfo", "-json", name, cwd=tmp_path))
    check_place(description, grid)
    assert description["size"] == [COLUMNS, ROWS]
    (described,) = description["bands"]
    assert described.get("noDataValue") == NODATA[variable]
    run("gdal_translate", "-q", name, "band.tif", cwd=tmp_path)
    check_place(json.loads(run("gdalinfo", "-json", "band.tif", cwd=tmp_path)), grid)
    (values,) = read_raster(tmp_path / "band.tif")
    np.testing.assert_array_equal(values, source(cubes, grid, variable, date), strict=True)
    compared(values)
    requests = cubes.requests[first:]
    assert {status for _, _, _, status in requests} == {200, 206, 404}
    assert {status for _, path, _, status in requests if path.endswith((".gmac", ".aux.xml"))} <= {404}


WINDOW = slice(5, 33), slice(11, 60)


def subset_url(cubes, grid, **options):
    """The address of a window of a cube, given by a bbox in its own CRS that goes around cell centres."""
    west, x_step, _, north, _, y_step = geotransform(grid, *WINDOW)
    height, width = (part.stop - part.start for part in WINDOW)
    x, y = sorted([west, west + x_step * width]), sorted([north, north + y_step * height])
    query = {"bbox": f"{x[0]},{y[0]},{x[1]},{y[1]}", "bbox-crs": "native", **options}
    return f"{cubes.url}/{grid}/subset?{'&'.join(f'{key}={value}' for key, value in query.items())}"


def north_up(grid):
    """Where a window is when its first row is the northernmost, and how to turn the source's rows."""
    if GRIDS[grid][5] < 0:
        return geotransform(grid, *WINDOW), slice(None)
    west, x_step, _, south, _, y_step = geotransform(grid, *WINDOW)
    return [west, x_step, 0, south + y_step * (WINDOW[0].stop - WINDOW[0].start), 0, -y_step], slice(
        None, None, -1
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variable", ["displacement", "speed"])
def test_a_geotiff_subset(cubes, compared, tmp_path, grid, variable):
    url = f"/vsicurl/{subset_url(cubes, grid, variables=variable, f='geotiff')}"
    place, turn = north_up(grid)
    before, first = cubes.spooled(), len(cubes.requests)
    description = json.loads(run("gdalinfo", "-json", url, cwd=tmp_path))
    run("gdal_translate", "-q", url, "subset.tif", cwd=tmp_path)
    check_place(description, grid, place)
    assert len(description["bands"]) == len(DATES)
    for band, date in zip(description["bands"], DATES, strict=True):
        assert variable in band["description"]
        assert str(date.astype("M8[D]")) in band["description"]
        assert band["noDataValue"] == NODATA[variable]
    values = read_raster(tmp_path / "subset.tif")
    expected = source(cubes, grid, variable)[:, *WINDOW][:, turn]
    np.testing.assert_array_equal(values, expected, strict=True)
    compared(values)
    check_requests(cubes, cubes.requests[first:], before)


def check_requests(cubes, requests, spooled_before):
    """What is there answers HEAD and ranges and is computed once; all else that GDAL tries is 404."""
    assert cubes.spooled() == spooled_before + 1
    answers = {(method, bool(asked), status) for method, path, asked, status in requests if "/subset" in path}
    assert answers <= {("HEAD", False, 200), ("GET", True, 206)}
    assert ("GET", True, 206) in answers
    assert {status for _, path, _, status in requests if "/subset" not in path} <= {404}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variable", ["displacement", "speed"])
def test_a_netcdf_subset(cubes, compared, tmp_path, grid, variable):
    url = subset_url(cubes, grid, variables=variable, f="netcdf")
    name = f'NETCDF:"/vsicurl/{url}":{variable}'
    before, first = cubes.spooled(), len(cubes.requests)
    description = json.loads(run("gdalinfo", "-json", name, cwd=tmp_path))
    run("gdal_translate", "-q", name, "subset.tif", cwd=tmp_path)
    check_requests(cubes, cubes.requests[first:], before)
    # GDAL's netCDF driver turns the rows of an ascending y
    place, turn = north_up(grid)
    check_place(description, grid, place)
    assert [band["noDataValue"] for band in description["bands"]] == [NODATA[variable]] * len(DATES)
    values = read_raster(tmp_path / "subset.tif")
    np.testing.assert_array_equal(values, source(cubes, grid, variable)[:, *WINDOW][:, turn], strict=True)
    compared(values)


@pytest.mark.parametrize("suffix", [".aux.xml", ".ovr", ".msk", ".gmac"])
@pytest.mark.parametrize(
    "path",
    ["subset", "zarr-plain/.zmetadata", "zarr-plain/displacement/.zarray", "zarr-plain/displacement/0.0.0"],
)
def test_the_files_that_gdal_looks_for_beside_another_are_404(cubes, path, suffix):
    request = urllib.request.Request(f"{cubes.url}/utm/{path}{suffix}", method="HEAD")  # noqa: S310 - loopback
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)  # noqa: S310 - loopback
    with caught.value as answer:
        assert answer.status == 404


@pytest.mark.parametrize("suffix", [".aux.xml", ".ovr", ".msk"])
def test_a_query_with_an_ending_that_gdal_adds_is_refused_and_not_computed(cubes, suffix):
    before = cubes.spooled()
    url = subset_url(cubes, "utm", variables="displacement", f="geotiff")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url + suffix, timeout=60)  # noqa: S310 - loopback
    with caught.value as answer:
        assert answer.status in (400, 404)
    assert cubes.spooled() == before
