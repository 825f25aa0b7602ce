"""Cubes over a pole and across the antimeridian, as zarrita reads them, drawn by their coordinates and grid mapping alone."""

import h5py
import numpy as np
import pyproj
import pytest
import rasterio.warp
from rasterio.transform import Affine, from_bounds
from tests.clients.places import COLUMNS, PARTS, ROWS
from tests.clients.programs import NEEDS_ZARRITA
from tests.clients.zarrita.driver import Job
from tests.clients.zarrita.expected import OF_ZARR, attributes, same

pytestmark = NEEDS_ZARRITA
NAMES = ("pole", "south", "seam", "aleutians")
WAYS = [(tree, version) for tree in ("zarr", "zarr-plain") for version in ("v2", "v3")]
WIDTH, HEIGHT = 181, 157
# the maps that a cube is drawn on: across the seam where the cube is, and over the pole where it is
MAPS = {
    "pole": ("EPSG:3413", "EPSG:3995", "EPSG:4326"),
    "south": ("EPSG:3031", "EPSG:4326"),
    "seam": ("EPSG:3832", "EPSG:3413"),
    "aleutians": ("EPSG:3832", "EPSG:3413"),
}


def axes_of(name):
    return ("lat", "lon") if name == "seam" else ("y", "x")


@pytest.mark.parametrize("name", NAMES)
def test_every_array(read, places, places_url, compared, name):
    files = [h5py.File(granule) for granule in places[name].granules]
    answers = read(*(Job(f"{places_url}/datasets/{name}/{tree}", version) for tree, version in WAYS))
    for (_, version), answer in zip(WAYS, answers, strict=True):
        assert answer.arrays.keys() == {"v", "time", "mapping", *axes_of(name)}
        for path, found in answer.arrays.items():
            joined = path in ("v", "time")
            expected = np.concatenate([file[path][:] for file in files]) if joined else files[0][path][()]
            same(found, np.asarray(expected), compared)
            kept = {key: value for key, value in found.attributes.items() if key not in OF_ZARR}
            assert kept == {k: v for k, v in attributes(files[0][path]).items() if k not in OF_ZARR}
        assert answer.arrays["v"].fill == -9999
        assert (version == "v2") == ("_ARRAY_DIMENSIONS" in answer.arrays["v"].attributes)
    for file in files:
        file.close()


def drawn(found, name, date, crs, bounds):
    """The picture of a date by what zarrita read alone: values, coordinates, fill and CRS."""
    values, mapping = found["v"], found["mapping"].attributes["crs_wkt"]
    assert values.attributes["grid_mapping"] == "mapping"
    y, x = (found[axis].values for axis in axes_of(name))
    across, down = (x[-1] - x[0]) / (x.size - 1), (y[-1] - y[0]) / (y.size - 1)
    corner = Affine.translation(x[0] - across / 2, y[0] - down / 2) @ Affine.scale(across, down)
    raster = np.where(values.values[date] == values.fill, np.float32(np.nan), values.values[date])
    picture = np.full((HEIGHT, WIDTH), np.nan, "f4")
    rasterio.warp.reproject(
        raster.repeat(PARTS, 0).repeat(PARTS, 1), picture,
        src_transform=corner @ Affine.scale(1 / PARTS), src_crs=mapping, src_nodata=np.nan,
        dst_transform=from_bounds(*bounds, WIDTH, HEIGHT), dst_crs=crs, dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling.nearest,
    )  # fmt: skip
    return picture


def between_cells(place, crs, bounds):
    """The pixels whose centres lie within a hundredth of a cell of a border between two."""
    x, y = from_bounds(*bounds, WIDTH, HEIGHT) @ np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    there = pyproj.Transformer.from_crs(crs, place.crs, always_xy=True).transform(x, y)
    if place.id == "seam":
        there = (there[0] % 360, there[1])
    cells = ~place.transform @ there
    return np.any([np.abs(cell - np.round(cell)) < 0.01 for cell in cells], axis=0)


def extent(place, crs):
    """Where a map in `crs` shows all of a place, or as much of it as a rectangle may."""
    if crs == "EPSG:4326":
        return (-180, 50, 180, 90) if place.id == "pole" else (-180, -90, 180, -50)
    there = pyproj.Transformer.from_crs(place.crs, crs, always_xy=True)
    rows, columns = np.meshgrid(np.linspace(0, ROWS, 21), np.linspace(0, COLUMNS, 21))
    x, y = there.transform(*(place.transform @ (columns, rows)))
    return x.min(), y.min(), x.max(), y.max()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_by_coordinates_and_grid_mapping(read, places, places_url, compared, name):
    place = places[name]
    reads = ["v", "mapping", *axes_of(name)]
    answers = read(
        *(Job(f"{places_url}/datasets/{name}/zarr", version, reads=reads) for version in ("v2", "v3"))
    )
    for date, answer in enumerate(answers):
        for crs in MAPS[name]:
            bounds = extent(place, crs)
            picture, expected = (
                drawn(answer.arrays, name, date, crs, bounds),
                place.warped(date, crs, bounds, WIDTH, HEIGHT),
            )
            clear = ~between_cells(place, crs, bounds)
            np.testing.assert_array_equal(picture[clear], expected[clear])
            assert clear.mean() > 0.9
            assert np.isfinite(expected[clear]).sum() > 4_000, (crs, np.isfinite(expected).sum())
            compared(expected[clear])
