"""morecantile finds our tiles from the definitions that OGC API - Tiles gives, in each tile matrix set, over the poles and across the antimeridian."""

import httpx
import numpy as np
import pytest
from morecantile import Tile
from pyproj import Transformer
from tests.clients.pictures import shown_numbers
from tests.clients.places import DATES, RESCALE
from tests.clients.screens import Expected
from tests.tile_documents import SCHEME, check_tileset, read_matrix_set

DATE = 2


def tiles_of(model, place, zoom):
    """The tiles that hold the middle of a place, and a cell near its corner."""
    west, south, east, north = place.bounds
    x = np.array([(west + east) / 2 + 1, west + (east - west) / 50])
    y = np.array([(south + north) / 2 + 1, north - (north - south) / 50])
    if place.crs == "EPSG:4326":
        x, y = x - 1, y - 1
    crs = model.crs._pyproj_crs
    x, y = Transformer.from_crs(place.crs, crs, always_xy=True).transform(x, y)
    if model.id == "native":
        return {model._tile(float(a), float(b), zoom) for a, b in zip(x, y, strict=True)}
    return {model._tile(float((a + 180) % 360 - 180) if crs.is_geographic else float(a), float(b), zoom)
            for a, b in zip(x, y, strict=True)}  # fmt: skip


@pytest.mark.parametrize("matrices", ["WebMercatorQuad", "WorldCRS84Quad", "native"])
@pytest.mark.parametrize("name", ["pole", "south", "seam", "aleutians"])
def test_a_tile_is_gdals_warp_of_the_granule(places, places_url, compared, name, matrices):
    place = places[name]
    asked = {"rescale": RESCALE, "colormap": "turbo", "datetime": str(DATES[DATE])[:10]}
    tileset = httpx.get(f"{places_url}/datasets/{name}/tiles/{matrices}", params=asked, timeout=60).json()
    check_tileset(tileset)
    links = {link["rel"]: link["href"] for link in tileset["links"]}
    model = read_matrix_set(httpx.get(links[SCHEME], timeout=60).json())
    zooms = [int(limits["tileMatrix"]) for limits in tileset["tileMatrixSetLimits"]]
    zoom = zooms[-4] if matrices == "native" else min(zooms[-1], 3 if name in ("pole", "south") else 6)
    seen = 0
    for tile in tiles_of(model, place, zoom):
        address = links["item"]
        for key, number in (("{tileMatrix}", zoom), ("{tileCol}", tile.x), ("{tileRow}", tile.y)):
            address = address.replace(key, str(number))
        found = shown_numbers(httpx.get(address, timeout=60).content, "turbo")
        box = model.xy_bounds(Tile(tile.x, tile.y, zoom))
        crs = {"WebMercatorQuad": "EPSG:3857", "WorldCRS84Quad": "EPSG:4326"}.get(matrices, place.crs)
        expected = Expected(
            place, DATE, crs, bounds=(box.left, box.bottom, box.right, box.top), size=(256, 256)
        )
        np.testing.assert_array_equal(found[expected.clear], expected.numbers[expected.clear])
        compared(expected.present)
        seen += expected.present.size
    assert seen > 1000
