"""Each pixel shows the cell that GDAL's warp gives it, on all grids, in all CRS."""

import numpy as np
import pytest
from pyproj import Transformer

from cubegate.query.crs import lonlat, parse_crs
from cubegate.query.lattice import Lattice
from cubegate.tiling import places, sampling
from cubegate.tiling.layers import find_layers
from cubegate.tiling.matrices import find_matrix_set
from cubegate.tiling.picture import View, plan_picture, value_at

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
# of the pixels, that GDAL places on the wrong side of an edge
FEW = 4e-3


def around(crs, lon, lat, span, size=(256, 256)):
    """A lattice whose middle is a place in degrees; its width is `span` in units of the CRS."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    cell = span / size[0]
    return Lattice(crs, x - span / 2, y + cell * size[1] / 2, cell, cell, *size)


async def draw(layer, lattice, limits, date=-1):
    picture = await plan_picture(View(layer, layer.times[date]), lattice, limits)
    return await picture.load()


def assert_alike(found, expected, compared, least=0.02):
    assert np.isfinite(expected).mean() > least
    differing = ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
    assert differing.mean() <= FEW, f"{differing.sum()} of {differing.size} differ"
    compared(expected)


CASES = [
    ("utm", "EPSG:3857", -118.06, 35.22, 9_000),
    ("utm", "EPSG:3857", -118.08, 35.22, 300),  # pixels smaller than cells
    ("utm", "EPSG:3857", -118.098, 35.23, 9_000),  # half outside
    ("utm", "EPSG:4326", -118.06, 35.21, 0.08),
    ("utm", "OGC:CRS84", -118.06, 35.21, 0.08),
    ("utm", "EPSG:32611", -118.06, 35.21, 9_000),
    ("utm", "EPSG:32610", -118.06, 35.21, 9_000),
    ("utm", "EPSG:3413", -118.06, 35.21, 12_000),
    ("utm", "EPSG:3995", -118.06, 35.21, 12_000),
    ("pole", "EPSG:3413", 3, 89.8, 4e6),
    ("pole", "EPSG:3995", 31, 89.7, 4e6),
    ("pole", "EPSG:3857", 20, 82, 2e6),
    ("pole", "EPSG:4326", 0, 84, 30),
    ("pole", "EPSG:4326", 0, 89.5, 1),
    ("pole", "EPSG:32631", 3, 84, 1e6),
    ("south", "EPSG:3031", 0, -90, 4e6),
    ("south", "EPSG:3857", 20, -82, 2e6),
    ("seam", "EPSG:3413", 179.3, 62, 2e6),
    ("seam", "EPSG:32660", 177, 62, 3e5),
    ("seam", "EPSG:32601", -177, 62, 3e5),
    ("seam", "EPSG:4326", 180, 62, 30),
    ("seam", "EPSG:3857", 175, 62, 5e5),
    ("seam", "EPSG:3857", 180, 62, 5e5),
    ("seam", "EPSG:3857", -180, 62, 5e5),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
async def test_a_picture_is_that_of_gdals_warp(case, *, made, layer_of, warped, limits, compared):
    name, crs, lon, lat, span = case
    dataset, source_crs, transform = made[name]
    crs = lonlat() if crs == "OGC:CRS84" else parse_crs(crs)
    lattice = around(crs, lon, lat, span)
    found = await draw(await layer_of(name), lattice, limits)
    expected = warped(dataset.v.values[-1], source_crs, transform, lattice)
    assert_alike(found, expected, compared)
    # and exactly those of PROJ, but for places on the edge of two cells
    x, y = Transformer.from_crs(crs, source_crs, always_xy=True).transform(*np.meshgrid(lattice.x, lattice.y))
    x = 170 + (x - 170) % 360 if name == "seam" else x
    with np.errstate(invalid="ignore"):
        column, row = (x - transform.c) / transform.a, (y - transform.f) / transform.e
    height, width = dataset.v.shape[1:]
    inside = np.isfinite(x) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    with np.errstate(invalid="ignore"):
        clear = ~(np.minimum(abs(column - np.round(column)), abs(row - np.round(row))) <= 2e-3)
    truth = np.full(x.shape, np.nan)
    truth[inside] = dataset.v.values[-1][row[inside].astype(int), column[inside].astype(int)]
    np.testing.assert_array_equal(found[clear], truth[clear])


@pytest.mark.parametrize("name", ["utm", "pole", "seam", "south"])
async def test_tiles_at_all_zooms_are_those_of_gdals_warp(name, *, made, layer_of, warped, limits, compared):
    dataset, source_crs, transform = made[name]
    layer = await layer_of(name)
    place = {"utm": (-118.06, 35.21), "pole": (100.0, 83.0), "seam": (178.0, 62.0), "south": (-20.0, -80.0)}[
        name
    ]
    for matrices in (
        find_matrix_set(each, layer.parts[0].footprint) for each in ("WebMercatorQuad", "WorldCRS84Quad")
    ):
        x, y = Transformer.from_crs(4326, matrices.crs, always_xy=True).transform(*place)
        for z in range(3, 14, 2) if name == "utm" else range(2, 8):
            lattice = matrices.lattice(z, *matrices.tile_at(z, x, y))
            found = await draw(layer, lattice, limits, 0)
            expected = warped(dataset.v.values[0], source_crs, transform, lattice)
            assert_alike(found, expected, compared, least=-1)


async def test_the_own_grid_shows_each_cell_as_it_is(made, layer_of, limits, compared):
    for name, (dataset, _, _) in made.items():
        layer = await layer_of(name)
        matrices = find_matrix_set("native", layer.parts[0].footprint)
        assert matrices.matrices[0].width == matrices.matrices[0].height == 1
        whole = await draw(layer, matrices.lattice(0, 0, 0), limits)
        height, width = dataset.v.shape[1:]
        np.testing.assert_array_equal(whole[:height, :width], dataset.v.values[-1])
        assert np.isnan(whole[height:]).all()
        assert np.isnan(whole[:, width:]).all()
        twice = await draw(layer, matrices.lattice(1, 0, 0), limits)
        np.testing.assert_array_equal(
            twice[: 2 * min(height, 128) : 2, ::2][: min(height, 128)], whole[:128, :128][: min(height, 128)]
        )
        compared(whole)


async def test_west_of_the_antimeridian_is_the_east_of_a_cube_across_it(made, layer_of, limits, compared):
    dataset = made["seam"][0]
    lattice = Lattice(lonlat(), -180.0, 70.0, 0.1, 0.1, 100, 120)
    found = await draw(await layer_of("seam"), lattice, limits)
    np.testing.assert_array_equal(found, dataset.v.values[-1][:, 100:])
    compared(found)


async def test_places_are_found_by_few_points_where_that_is_exact_and_by_all_where_not(layer_of, monkeypatch):
    layer = await layer_of("pole")
    footprint = layer.parts[0].footprint
    asked = []
    true = places.find_places
    monkeypatch.setattr(places, "find_places", lambda *each: asked.append(each[2].size) or true(*each))
    mercator = parse_crs("EPSG:3857")
    smooth = around(mercator, 20, 82, 1e6)
    x, y = places.find_pixels(smooth, footprint.crs, (25_000.0, 25_000.0))
    assert sum(asked) < 1000
    expected = true(mercator, footprint.crs, *np.meshgrid(smooth.x, smooth.y))
    np.testing.assert_allclose(x, expected[0], atol=25)
    np.testing.assert_allclose(y, expected[1], atol=25)
    asked.clear()
    # longitudes around a pole are smooth nowhere
    polar = around(parse_crs("EPSG:3413"), 20, 88, 2e6)
    x, y = places.find_pixels(polar, lonlat(), (1.0, 1.0))
    assert sum(asked) > 256 * 256
    expected = true(polar.crs, lonlat(), *np.meshgrid(polar.x, polar.y))
    np.testing.assert_array_equal(x, expected[0])
    np.testing.assert_array_equal(y, expected[1])


async def test_a_low_zoom_reads_every_nth_cell_and_shows_one_near_the_centre(
    layer_of, monkeypatch, made, limits
):
    monkeypatch.setattr(sampling, "FEWEST_CELLS", 90)
    monkeypatch.setattr(sampling, "MOST_CELLS_A_PIXEL", 0)
    layer = await layer_of("pole")
    lattice = around(parse_crs("EPSG:3857"), 20, 84, 3e6, (16, 16))
    found = sampling.sample(layer.parts[0].footprint, sampling.Pixels(lattice))
    assert max(found.stride) > 1
    picture = await plan_picture(View(layer, layer.times[-1]), lattice, limits)
    assert picture.price.cells <= 90
    values = await picture.load()
    truth = made["pole"][0].v.values[-1]
    x, y = Transformer.from_crs(3857, 3413, always_xy=True).transform(*np.meshgrid(lattice.x, lattice.y))
    for row, column in np.argwhere(np.isfinite(values))[::7]:
        ix, iy = int((x[row, column] + 1.5e6) / 25_000), int((1.5e6 - y[row, column]) / 25_000)
        near = truth[
            max(0, iy - found.stride[0]) : iy + found.stride[0] + 1,
            max(0, ix - found.stride[1]) : ix + found.stride[1] + 1,
        ]
        assert np.float32(values[row, column]) in near


async def test_the_value_at_a_pixel_is_the_one_that_is_shown(layer_of, limits, made):
    layer = await layer_of("utm")
    lattice = around(parse_crs("EPSG:3857"), -118.098, 35.23, 9_000, (64, 48))
    view = View(layer, layer.times[-1])
    picture = await plan_picture(view, lattice, limits)
    values = await picture.load()
    shown = 0
    for row in range(0, 48, 5):
        for column in range(0, 64, 5):
            found = value_at(picture, column, row)
            if found is None:
                assert np.isnan(values[row, column])
                continue
            iy, ix = found[1].indices(0)
            np.testing.assert_array_equal(
                np.float32(values[row, column]), made["utm"][0].v.values[-1, iy, ix]
            )
            shown += 1
    assert shown > 20


async def test_a_place_belongs_to_the_first_cube_that_holds_it(made, source, limits, warped, compared):
    dataset, crs, transform = made["pole"]
    part = dataset.isel(x=slice(40, 90), y=slice(30, 100), time=[2])
    layers = await find_layers([source(part * 0 + 7, "first"), source(dataset, "second")], "")
    layer = layers["v"]
    lattice = around(parse_crs("EPSG:3995"), 0, 88, 3e6)
    for number, expected in ((2, 7.0), (0, np.nan)):
        found = await draw(layer, lattice, limits, number)
        owned = (
            warped(
                np.where(np.pad(np.ones((70, 50)), ((30, 20), (40, 30))) > 0, 1.0, 0.0),
                crs,
                transform,
                lattice,
            )
            == 1
        )
        whole = warped(dataset.v.values[number], crs, transform, lattice)
        assert owned.mean() > 0.2
        assert (found[owned][np.isfinite(whole[owned])] == expected).mean() > 0.99 or np.isnan(
            found[owned]
        ).mean() > 0.99
        assert_alike(np.where(owned, 0, found), np.where(owned, 0, whole), compared)


async def test_pixels_are_placed_once_for_all_cubes_of_a_crs(made, source, monkeypatch, limits):
    asked = []

    def find_pixels(*given):
        asked.append(given)
        return places.find_pixels(*given)

    whole = made["utm"][0]
    strips = [whole.isel(x=slice(first, first + 20)) for first in range(0, 180, 20)]
    lattice = around(parse_crs("EPSG:3857"), -118.07, 35.22, 9_000, (64, 64))
    layers = await find_layers([source(strip, f"strip{n}") for n, strip in enumerate(strips)], "")
    alone = await find_layers([source(whole, "whole")], "")
    expected = await draw(alone["v"], lattice, limits)
    monkeypatch.setattr(sampling, "find_pixels", find_pixels)
    found = await draw(layers["v"], lattice, limits)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).sum() > 1000
    assert len(asked) == 1
