"""TileJSON and the documents of OGC API - Tiles against what the standards say, and tile matrix sets by morecantile."""

import jsonschema
import morecantile
import numpy as np
import pytest
from tests.tile_documents import SCHEME, check_summary, check_tilejson, check_tileset, read_matrix_set

CUBES = {"utm": {}, "polar": {}, "globe": {"level": "500", "member": "1"}}
SETS = ["WebMercatorQuad", "WorldCRS84Quad", "native"]
BOUNDS = {
    "utm": (400_000, 3_898_215, 402_400, 3_900_015),
    "polar": (-250_500, -2_049_500, -200_500, -1_999_500),
    "globe": (-2.5, -90, 357.5, 90),
}


@pytest.mark.parametrize("name", CUBES)
@pytest.mark.parametrize("matrices", SETS)
def test_tilejson_is_valid(server, name, matrices):
    found = server.ask(f"/{name}/tilejson.json", tileMatrixSet=matrices, **CUBES[name]).json()
    check_tilejson(found)
    if name == "globe":
        assert (found["bounds"], found["center"][:2]) == ([-180, -90, 180, 90], [0, 0])
    for broken in ({"center": [999, 0, 0]}, {"tiles": []}, {"maxzoom": 31}, {"tilejson": "2.2.0"}):
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            check_tilejson({**found, **broken})


@pytest.mark.parametrize("name", CUBES)
def test_tilesets_are_valid_and_lead_to_their_matrices(server, name):
    found = server.ask(f"/{name}/tiles").json()
    assert [link["rel"] for link in found["links"]] == ["self"]
    assert len(found["tilesets"]) == len(SETS)
    for summary in found["tilesets"]:
        check_summary(summary)
        links = {link["rel"]: link["href"] for link in summary["links"]}
        tileset = server.client.get(links["self"], params=CUBES[name]).json()
        check_tileset(tileset)
        matrices = read_matrix_set(server.client.get(links[SCHEME], params=CUBES[name]).json())
        sizes = {each.id: each for each in matrices.tileMatrices}
        for limits in tileset["tileMatrixSetLimits"]:
            matrix = sizes[limits["tileMatrix"]]
            assert 0 <= limits["minTileRow"] <= limits["maxTileRow"] < matrix.matrixHeight
            assert 0 <= limits["minTileCol"] <= limits["maxTileCol"] < matrix.matrixWidth


@pytest.mark.parametrize("name", CUBES)
def test_the_own_matrices_cover_the_grid_cell_by_cell(server, name):
    model = read_matrix_set(server.ask(f"/{name}/tiles/native/tileMatrixSet", **CUBES[name]).json())
    west, south, east, north = BOUNDS[name]
    whole = model.tileMatrices[-4]
    assert whole.cellSize == pytest.approx({"utm": 30, "polar": 1000, "globe": 5}[name])
    for matrix in model.tileMatrices:
        first = model.xy_bounds(morecantile.Tile(0, 0, int(matrix.id)))
        last = model.xy_bounds(
            morecantile.Tile(matrix.matrixWidth - 1, matrix.matrixHeight - 1, int(matrix.id))
        )
        np.testing.assert_allclose([first.left, first.top], [west, north])
        assert last.right >= east - 1e-6
        assert last.bottom <= south + 1e-6
        # no tile is all outside
        assert last.left < east
        assert last.top > south
