"""GDAL's tools find each cell of files and services where it is: over the poles, across the antimeridian, and in the demo's cubes."""

import csv
import io
import urllib.request

import netCDF4
import numpy as np
import pytest
import rasterio.crs
from pyproj import Transformer
from tests.clients.gdal_tools import NEEDS_GDAL, describe, filled, run, translate, warp
from tests.clients.places import COLUMNS, DATES, ROWS
from tests.clients.screens import HALF, Expected

pytestmark = NEEDS_GDAL

IDS = ("pole", "south", "seam", "aleutians")
# GDAL asks DAP for each row alone, which takes its time
BY_DAP = ("pole", "seam")
SIZE = 240, 180


def download(address, file):
    urllib.request.urlretrieve(address, file)  # noqa: S310 - loopback
    return str(file)


# how GDAL is given the whole of a cube `v`, all dates: its address, a folder, and the variable
SOURCES = {
    "geotiff": lambda cube, _, v: f"/vsicurl/{cube}/subset?variables={v}&f=geotiff",
    "geotiff file": lambda cube, folder, v: download(
        f"{cube}/subset?variables={v}&f=geotiff", folder / "cube.tif"
    ),
    "netcdf": lambda cube, _, v: f'NETCDF:"/vsicurl/{cube}/subset?variables={v}&f=netcdf":{v}',
    "netcdf file": lambda cube, folder, v: (
        f'NETCDF:"{download(f"{cube}/subset?variables={v}&f=netcdf", folder / "cube.nc")}":{v}'
    ),
    "dap": lambda cube, _, v: f'NETCDF:"{cube}/opendap":{v}',
}


def zarr_plain(cube, variable, date=None):
    band = "" if date is None else f":{date}"
    return f'ZARR:"/vsicurl/{cube}/zarr-plain":/{variable}{band}'


def times_of(description, tags):
    """The times of the bands: from their descriptions, or from what the netCDF driver says."""
    if "time" in tags[0]:
        assert all(
            tag["time"] in band["description"] for tag, band in zip(tags, description["bands"], strict=True)
        )
        return np.array([tag["time"].removesuffix("Z") for tag in tags], "M8[ns]")
    (key,) = [key for key in tags[0] if key.startswith("NETCDF_DIM_")]
    said = description["metadata"][""]
    name = key.removeprefix("NETCDF_DIM_")
    units, calendar = said[f"{name}#units"], said[f"{name}#calendar"]
    numbers = [float(tag[key]) for tag in tags]
    return np.array(netCDF4.num2date(numbers, units, calendar, only_use_cftime_datetimes=False), "M8[ns]")


@pytest.mark.parametrize(
    ("id_", "source"),
    [(id_, source) for id_ in IDS for source in SOURCES if source != "dap" or id_ in BY_DAP],
)
def test_a_whole_cube(*, places, places_url, tmp_path, compared, id_, source):
    place = places[id_]
    name = SOURCES[source](f"{places_url}/datasets/{id_}", tmp_path, "v")
    raster = translate(name, cwd=tmp_path)
    assert raster.crs == rasterio.crs.CRS.from_user_input(place.crs)
    np.testing.assert_allclose(raster.transform, place.transform, rtol=1e-12, atol=1e-12)
    assert raster.nodata is not None
    truth = np.stack([place.values(date) for date in range(len(DATES))])
    assert raster.values.dtype == truth.dtype
    np.testing.assert_array_equal(filled(raster), truth)
    compared(truth)
    np.testing.assert_array_equal(times_of(describe(name, tmp_path), raster.tags), DATES)


@pytest.mark.parametrize("id_", IDS)
def test_zarr_plain_by_date_and_as_a_whole(*, places, places_url, tmp_path, compared, id_):
    place, cube = places[id_], f"{places_url}/datasets/{id_}"
    for date in (0, 2):
        raster = translate(zarr_plain(cube, "v", date), cwd=tmp_path)
        assert raster.crs == rasterio.crs.CRS.from_user_input(place.crs)
        np.testing.assert_allclose(raster.transform, place.transform, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(filled(raster), place.values(date)[None])
        compared(raster.values)
    whole = zarr_plain(cube, "v").removesuffix(":/v")
    run("gdalmdimtranslate", "-q", "-of", "netCDF", "-array", "v", whole, "cube.nc", cwd=tmp_path)
    with netCDF4.Dataset(tmp_path / "cube.nc") as copied:
        y, x = copied["v"].dimensions[1:]
        columns, rows = (
            place.transform @ (np.arange(COLUMNS) + 0.5, 0.5),
            place.transform @ (0.5, np.arange(ROWS) + 0.5),
        )
        np.testing.assert_allclose(copied[x][:], columns[0], rtol=1e-12)
        np.testing.assert_allclose(copied[y][:], rows[1], rtol=1e-12, atol=1e-9)
        time = copied["time"]
        dates = netCDF4.num2date(time[:], time.units, time.calendar, only_use_cftime_datetimes=False)
        np.testing.assert_array_equal(np.array(dates, "M8[ns]"), DATES)
        truth = np.stack([place.values(date) for date in range(len(DATES))])
        np.testing.assert_array_equal(copied["v"][:].filled(np.nan), truth)
    compared(truth)


WARPS = [
    ("pole", "EPSG:4326", (-180, 63, 180, 90)),
    ("pole", "EPSG:3857", (-HALF, 9e6, HALF, 2e7)),
    ("pole", "EPSG:3995", (-3e5, -3e5, 3e5, 3e5)),
    ("pole", "EPSG:32631", (-2e6, 7.5e6, 3e6, 1.25e7)),
    ("south", "EPSG:4326", (-180, -90, 180, -63)),
    ("south", "EPSG:3857", (-HALF, -2e7, HALF, -9e6)),
    ("south", "EPSG:3031", (-3e5, -3e5, 3e5, 3e5)),
    ("seam", "EPSG:4326", (165, 55, 195, 75)),
    ("seam", "EPSG:4326", (-180, 55, -165, 75)),
    ("seam", "EPSG:3413", (-3e6, 1.2e6, -1.2e6, 3e6)),
    ("seam", "EPSG:32601", (-3e5, 6.4e6, 1e6, 7.8e6)),
    ("seam", "EPSG:3857", (-HALF, 7.9e6, HALF, 1.11e7)),
    ("aleutians", "EPSG:4326", (178, 51, 182, 53)),
    ("aleutians", "EPSG:32660", (6e5, 5.68e6, 8.3e5, 5.84e6)),
    ("aleutians", "EPSG:3995", (-1.2e5, 4.2e6, 1.1e5, 4.4e6)),
]


@pytest.mark.parametrize(("id_", "crs", "bounds"), WARPS)
def test_gdal_warps_our_answers_as_rasterio_does_the_granules(
    *, places, places_url, tmp_path, compared, id_, crs, bounds
):
    place, cube = places[id_], f"{places_url}/datasets/{id_}"
    source = list(SOURCES)[WARPS.index((id_, crs, bounds)) % (len(SOURCES) - 1)]
    found = filled(warp(SOURCES[source](cube, tmp_path, "v"), crs, bounds, SIZE, cwd=tmp_path))
    # GDAL 3.6 mixes up the axes of Zarr arrays that it slices, its own too, unless it is told their CRS
    told = ("-s_srs", place.crs)
    plain = filled(warp(zarr_plain(cube, "v", 1), crs, bounds, SIZE, *told, cwd=tmp_path))
    for picture, date in ((found[0], 0), (found[1], 1), (found[2], 2), (plain[0], 1)):
        expected = Expected(place, date, crs, bounds=bounds, size=SIZE)
        np.testing.assert_array_equal(picture[expected.clear], expected.numbers[expected.clear])
        assert expected.present.size > 0.01 * picture.size
        compared(picture[expected.clear])


def truth_at(place, date, x, y):
    """The values of the cells that hold places in the cube's CRS, NaN outside; and where a border is near."""
    if place.crs == "EPSG:4326":
        x = place.bounds[0] + (x - place.bounds[0]) % 360
    column, row = ~place.transform @ (x, y)
    with np.errstate(invalid="ignore"):
        inside = (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS)
        clear = ~(np.minimum(abs(column - np.round(column)), abs(row - np.round(row))) <= 0.01)
    found = np.full(x.shape, np.nan, "f4")
    found[inside] = place.values(date)[row[inside].astype(int), column[inside].astype(int)]
    return found, clear


def centres(raster):
    rows, columns = raster.values.shape[1:]
    return raster.transform @ tuple(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5))


# a CRS, and a box in degrees that is asked for
REPROJECTED = [
    ("pole", "EPSG:4326", None),
    ("pole", "EPSG:3857", None),
    ("pole", "EPSG:3995", None),
    ("pole", "EPSG:3995", (-60, 80, 60, 89)),
    ("south", "EPSG:4326", None),
    ("south", "EPSG:3857", (-60, -84, 60, -80)),
    ("seam", "EPSG:4326", (-185, 60, -175, 65)),
    ("seam", "EPSG:3413", None),
    ("seam", "EPSG:32601", (175, 60, 185, 65)),
    ("seam", "EPSG:3857", (-179, 60, -175, 65)),
    ("seam", "EPSG:3857", None),
    ("seam", "EPSG:3857", (175, 60, 185, 65)),
    ("aleutians", "EPSG:32660", None),
    ("aleutians", "EPSG:3413", (179, 51.5, 181, 52.2)),
    ("aleutians", "EPSG:4326", None),
    ("aleutians", "EPSG:4326", (179, 51.5, 181, 52.2)),
    ("aleutians", "EPSG:3857", None),
]


@pytest.mark.parametrize(("id_", "crs", "box"), REPROJECTED)
def test_what_the_server_reprojects_are_the_cells_at_its_pixels(
    *, places, places_url, tmp_path, compared, id_, crs, box
):
    place = places[id_]
    asked = "" if box is None else f"&bbox={','.join(map(str, box))}"
    raster = translate(
        f"/vsicurl/{places_url}/datasets/{id_}/subset?crs={crs}{asked}&datetime=2020-01-15&f=geotiff",
        cwd=tmp_path,
    )
    assert raster.crs == rasterio.crs.CRS.from_user_input(crs)
    (found,) = filled(raster)
    x, y = centres(raster)
    truth, clear = truth_at(place, 1, *Transformer.from_crs(crs, place.crs, always_xy=True).transform(x, y))
    # what is there is right, and within the box all is there
    wanted = np.ones(found.shape, bool)
    if box is not None:
        lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
        west, south, east, north = box
        wanted = ((lon - west) % 360 < east - west) & (lat > south) & (lat < north)
    there = clear & (wanted | ~np.isnan(found))
    np.testing.assert_array_equal(found[there], truth[there])
    compared(found[there])
    # most cells have a pixel
    assert np.isfinite(found).sum() > 0.3 * cells_in(place, box)


def cells_in(place, box):
    """How many cells have their centre in a box in degrees."""
    x, y = place.transform @ tuple(np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5))
    if box is None:
        return x.size
    lon, lat = Transformer.from_crs(place.crs, 4326, always_xy=True).transform(x, y)
    west, south, east, north = box
    return (((lon - west) % 360 < east - west) & (lat > south) & (lat < north)).sum()


POINTS = {
    "pole": [(0, 89.97), (-45.3, 80.2), (179.99, 85.01), (-179.99, 85.01)],
    "seam": [(179.97, 65.03), (-175.03, 61.02), (185.52, 60.53)],
    "aleutians": [(179.61, 51.93), (-179.42, 52.07)],
}


@pytest.mark.parametrize("id_", POINTS)
def test_points_of_edr(places, places_url, tmp_path, compared, id_):
    place, points = places[id_], np.array(POINTS[id_])
    listed = ",".join(f"({lon}%20{lat})" for lon, lat in points)
    address = (
        f"{places_url}/edr/collections/{id_}/position?coords=MULTIPOINT({listed})&parameter-name=v&f=geojson"
    )
    described = run("ogrinfo", "-al", "-so", address, cwd=tmp_path)
    assert "datetime: DateTime" in described
    assert "v: Real" in described
    text = run("ogr2ogr", "-f", "CSV", "-lco", "GEOMETRY=AS_XY", "/vsistdout/", address, cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(points) * len(DATES)
    x, y = Transformer.from_crs(4326, place.crs, always_xy=True).transform(*points.T)
    values = []
    for row in rows:
        number, date = int(row["point"]), row["datetime"].split("+")[0].replace("/", "-")
        date = list(DATES).index(np.datetime64(date))
        truth, clear = truth_at(place, date, x[number : number + 1], y[number : number + 1])
        assert clear.all()
        assert float(row["v"]) == truth[0]
        # the feature is in the cell that holds the point
        at = Transformer.from_crs(4326, place.crs, always_xy=True).transform(float(row["X"]), float(row["Y"]))
        assert truth_at(place, date, *(np.array([each]) for each in at))[0] == truth
        values.append(truth)
    compared(np.array(values))
