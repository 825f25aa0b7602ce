"""Tiles, TileJSON and legends over HTTP: colours compared with matplotlib's of the cells that PROJ finds."""

import io
import json
import math

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from pyproj import CRS, Transformer

from cubegate.app import create_app
from cubegate.settings import load_settings

WORLD = 2 * 20037508.342789244
RESCALE = (-2.0, 2.0)


def picture(response):
    assert response.headers["content-type"] == "image/png"
    return np.array(Image.open(io.BytesIO(response.content)).convert("RGBA"))


def coloured(values, low, high, colormap):
    """What matplotlib's colours of 255 equal parts of a scale are."""
    number = np.clip(np.floor((np.nan_to_num(values) - low) / (high - low) * 255), 0, 254)
    found = np.array(mpl.colormaps[colormap]((number + 0.5) / 255, bytes=True))
    found[np.isnan(values)] = (0, 0, 0, 0)
    return found


def assert_same_picture(found, expected):
    shown = expected[..., 3] > 0
    assert shown.any()
    np.testing.assert_array_equal(found[..., 3] > 0, shown)
    np.testing.assert_array_equal(found[shown], expected[shown])


def mercator_tile(z, x, y):
    side = WORLD / 2**z
    step = (np.arange(256) + 0.5) / 256 * side
    return np.meshgrid(x * side - WORLD / 2 + step, WORLD / 2 - y * side - step)


def cells_under(places, crs, cube, names=("x", "y")):
    """The rows and columns of a regular cube under places in Web Mercator, and whether there are any."""
    x, y = Transformer.from_crs(3857, crs, always_xy=True).transform(*places)
    axes = [cube[name].values.astype(float) for name in names]
    if names[0] == "lon":
        x = (x + 2.5) % 360 - 2.5
    column = np.floor((x - axes[0][0]) / (axes[0][1] - axes[0][0]) + 0.5)
    row = np.floor((y - axes[1][0]) / (axes[1][1] - axes[1][0]) + 0.5)
    inside = (column >= 0) & (column < len(axes[0])) & (row >= 0) & (row < len(axes[1]))
    return np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int), inside


def values_under(cells, plane):
    row, column, inside = cells
    return np.where(inside, np.asarray(plane, float)[row, column], np.nan)


def tile_of(lon, lat, z):
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    side = WORLD / 2**z
    return z, int((x + WORLD / 2) // side), int((WORLD / 2 - y) // side)


def test_the_own_grid_is_drawn_cell_by_cell(server, decoded, compared):
    response = server.ask(
        "/utm/tiles/native/0/0/0.png", variables="displacement", rescale="-2,2", colormap="RdBu_r"
    )
    truth = np.full((256, 256), np.nan)
    truth[:60, :80] = decoded["utm"].displacement.values[-1]
    assert np.isnan(truth[:5, :9]).all()
    assert_same_picture(picture(response), coloured(truth, -2, 2, "RdBu_r"))
    compared(truth)


CASES = [
    ("utm", "EPSG:32611", (-118.085, 35.23), {"variables": "displacement"}, (10, 12, 14, 17)),
    ("polar", "EPSG:3413", (-51.3, 71.35), {"variables": "v"}, (3, 6, 8, 11)),
    ("globe", "EPSG:4326", (30.0, 20.0), {"variables": "t", "level": "850", "member": "2"}, (0, 1, 3, 5)),
]


@pytest.mark.parametrize(("name", "crs", "place", "asked", "zooms"), CASES, ids=[case[0] for case in CASES])
def test_a_tile_shows_the_cell_under_each_pixel(server, decoded, compared, *, name, crs, place, asked, zooms):
    cube = decoded[name]
    variable = cube[asked["variables"]]
    time = variable.dims[0]
    last = int(np.argsort(cube[time].values, kind="stable")[-1])
    plane = variable.isel({time: last})
    names = ("x", "y")
    if name == "globe":
        plane, names = plane.sel(level=850.0).isel(member=2), ("lon", "lat")
    low, high = (0, 3000) if name == "polar" else RESCALE
    for z in zooms:
        z, x, y = tile_of(*place, z)  # noqa: PLW2901
        truth = values_under(cells_under(mercator_tile(z, x, y), crs, cube, names), plane.values)
        given = {**asked, "rescale": f"{low},{high}", "colormap": "magma"}
        found = picture(server.ask(f"/{name}/tiles/WebMercatorQuad/{z}/{x}/{y}.png", **given))
        assert_same_picture(found, coloured(truth, low, high, "magma"))
        compared(truth)


def test_of_several_at_one_date_the_first_is_drawn(server, decoded):
    cube = decoded["polar"]
    times = cube.mid_date.values
    again = times[0]
    assert (times == again).sum() == 2
    answer = server.ask(
        "/polar/tiles/native/0/0/0.png",
        variables="v",
        datetime=str(again),
        rescale="0,3000",
        colormap="magma",
    )
    truth = np.full((256, 256), np.nan)
    truth[:50, :50] = cube.v.values[int(np.flatnonzero(times == again)[0])]
    assert_same_picture(picture(answer), coloured(truth, 0, 3000, "magma"))


@pytest.mark.parametrize(
    "text", ["2020-03-15", "2020-03-15T00:00:00Z", "2020-03-04/2020-04-01", "2020-03-14/2020-03-31"]
)
def test_a_date_is_taken_where_it_is_the_only_one_inside(server, decoded, text):
    answer = server.ask(
        "/utm/tiles/native/0/0/0.png",
        variables="displacement",
        datetime=text,
        rescale="-2,2",
        colormap="magma",
    )
    truth = np.full((256, 256), np.nan)
    truth[:60, :80] = decoded["utm"].displacement.sel(time="2020-03-15").values
    assert_same_picture(picture(answer), coloured(truth, -2, 2, "magma"))


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        (
            "2020-03-14",
            "2020-02-15T00:00:00Z, 2020-03-03T00:00:00Z, 2020-03-15T00:00:00Z, 2020-04-03T00:00:00Z",
        ),
        ("2020-03", "2020-03-03T00:00:00Z, 2020-03-15T00:00:00Z"),
        ("2030", "2020-06-03T00:00:00Z, 2020-06-15T00:00:00Z"),
        ("1990/1991", "2020-01-03T00:00:00Z, 2020-01-15T00:00:00Z"),
    ],
)
def test_another_date_is_refused_with_the_nearest(server, text, accepted):
    problem = server.ask("/utm/tiles/native/0/0/0.png", 400, variables="displacement", datetime=text).json()
    assert problem["parameter"] == "datetime"
    assert accepted in problem["accepted"]


def test_a_mask_hides_cells(server, decoded, compared):
    answer = server.ask(
        "/utm/tiles/native/0/0/0.png",
        variables="displacement",
        mask="quality>=128",
        rescale="-2,2",
        colormap="magma",
    )
    cube = decoded["utm"]
    truth = np.full((256, 256), np.nan)
    truth[:60, :80] = np.where(cube.quality.values >= 128, cube.displacement.values[-1], np.nan)
    assert_same_picture(picture(answer), coloured(truth, -2, 2, "magma"))
    compared(truth)


def test_where_refuses_a_date_that_does_not_meet_it(server):
    for condition, status in (("time<2020-03", 400), ("time>2020-03", 200)):
        server.ask("/utm/tiles/native/0/0/0.png", status, variables="displacement", where=condition)


def test_nothing_but_transparent_pixels_outside_of_the_cube(server):
    z, x, y = tile_of(100.0, 10.0, 8)
    found = picture(server.ask(f"/utm/tiles/WebMercatorQuad/{z}/{x}/{y}.png"))
    assert found.shape == (256, 256, 4)
    assert (found[..., 3] == 0).all()


BAD = {
    "tiles/WebMercatorQuad/0/0/0.png?variables=none": ("variables", 400),
    "tiles/WebMercatorQuad/0/0/0.png?variables=displacement,counts": ("variables", 400),
    "tiles/WebMercatorQuad/0/0/0.png?variables=reference_time": ("variables", 400),
    "tiles/WebMercatorQuad/0/0/0.png?rescale=1": ("rescale", 400),
    "tiles/WebMercatorQuad/0/0/0.png?rescale=2,1": ("rescale", 400),
    "tiles/WebMercatorQuad/0/0/0.png?rescale=1,1": ("rescale", 400),
    "tiles/WebMercatorQuad/0/0/0.png?rescale=nan,1": ("rescale", 400),
    "tiles/WebMercatorQuad/0/0/0.png?rescale=-1e308,1e308": ("rescale", 400),
    "tiles/WebMercatorQuad/0/0/0.png?colormap=none": ("colormap", 400),
    "tiles/WebMercatorQuad/0/0/0.png?datetime=x": ("datetime", 400),
    "tiles/WebMercatorQuad/0/0/0.png?variables=quality&datetime=2020": ("datetime", 400),
    "tiles/WebMercatorQuad/0/0/0.png?level=5": ("level", 400),
    "tiles/native/0/0/0.png?mask=none&variables=displacement": ("mask", 400),
    "tiles/WebMercatorQuad/0/0/0.png?variables=quality&variables=counts": ("variables", 400),
    "tiles/WebMercatorQuad/x/0/0.png": ("z", 400),
    "tiles/WebMercatorQuad/0/0/1.png": (None, 404),
    "tiles/WebMercatorQuad/25/0/0.png": (None, 404),
    "tiles/WebMercatorQuad/-1/0/0.png": (None, 404),
    "tiles/GoogleMaps/0/0/0.png": (None, 404),
    "tiles/GoogleMaps": (None, 404),
    "tilejson.json?tileMatrixSet=none": (None, 404),
    "tilejson.json?datetime=1990": ("datetime", 400),
    "legend.png?variables=none": ("variables", 400),
    "tiles/WebMercatorQuad/0/0/0.png?group=none": (None, 404),
}  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_bad_input_is_a_problem(server, path):
    parameter, status = BAD[path]
    response = server.client.get(f"/utm/{path}")
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().get("parameter") == parameter


def test_dimensions_beyond_time_have_to_be_named(server):
    problem = server.ask("/globe/tiles/WebMercatorQuad/0/0/0.png", 400, level="500").json()
    assert (problem["parameter"], problem["accepted"]) == ("member", "0, 1, 2")


def test_a_cube_without_a_crs_has_no_tiles(server):
    assert "crs" in server.ask("/plain/tiles/native/0/0/0.png", 400).json()["detail"]


def test_tilejson_names_tiles_that_are_there(server):
    found = server.ask("/utm/tilejson.json", variables="displacement", rescale="-1,1").json()
    assert found["tilejson"] == "3.0.0"
    west, south, east, north = found["bounds"]
    x, y = Transformer.from_crs(32611, 4326, always_xy=True).transform(
        [400_000, 402_400], [3_898_215, 3_900_015]
    )
    np.testing.assert_allclose([west, south, east, north], [x[0], y[0], x[1], y[1]], atol=3e-4)
    assert (west, south) <= (x[0], y[0])
    z, x, y = tile_of(*found["center"][:2], found["center"][2])
    address = found["tiles"][0].format(z=z, x=x, y=y)
    assert "rescale=-1%2C1" in address
    assert (picture(server.client.get(address))[..., 3] > 0).any()
    assert server.client.get(found["legend"]).headers["content-type"] == "image/png"
    # at the last zooms a cell is several pixels
    cell = 30 / math.cos(math.radians(35.23))
    assert WORLD / 256 / 2 ** found["maxzoom"] < cell


def test_tiles_begin_where_they_are_within_the_budget(serve):
    server = serve("{tile_chunks: 6}")
    found = server.ask("/utm/tilejson.json", variables="displacement").json()
    first = found["minzoom"]
    assert first > 10
    west, south, east, north = found["bounds"]
    for lon in np.linspace(west, east, 6):
        for lat in np.linspace(south, north, 6):
            z, x, y = tile_of(lon, lat, first)
            server.ask(f"/utm/tiles/WebMercatorQuad/{z}/{x}/{y}.png", variables="displacement", rescale="0,1")
    z, x, y = tile_of((west + east) / 2, (south + north) / 2, first - 2)
    problem = server.ask(f"/utm/tiles/WebMercatorQuad/{z}/{x}/{y}.png", 413, variables="displacement").json()
    assert problem["limits"]["chunks"] == 6 < problem["price"]["chunks"]
    assert f"begin at zoom {first}" in problem["hint"]
    # what a default style takes from the cube is within it too
    assert server.ask("/utm/legend.png", variables="displacement").content


def test_a_held_tile_is_answered_without_reading(tmp_path, cubes, running):
    client_of = running(make_indexed(tmp_path, cubes["utm"]))
    with client_of as client:
        address = "/utm/tiles/native/0/0/0.png?variables=displacement"
        first = client.get(address)
        assert first.status_code == 200
        assert first.headers["cache-control"] == "public, max-age=300"
        again = client.get(
            address, headers={"If-None-Match": first.headers["etag"], "Origin": "http://else.where"}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["access-control-allow-origin"] == "*"
        assert client.get(f"{address}&rescale=0,1").headers["etag"] != first.headers["etag"]
        head = client.head(address)
        assert (head.status_code, head.headers["etag"], head.content) == (200, first.headers["etag"], b"")
        assert client.get(address).content == first.content


def make_indexed(directory, cube, more=""):
    """A cube of references, which never changes, and so has ETags."""
    store = directory / "cube.zarr"
    cube.to_zarr(store, zarr_format=2)
    references = {
        str(file.relative_to(store)): file.read_text()
        if file.name.startswith(".")
        else [file.as_uri(), 0, file.stat().st_size]
        for file in sorted(store.rglob("*"))
        if file.is_file() and file.name != ".zmetadata"
    }
    (directory / "cube.json").write_text(json.dumps({"version": 1, "refs": references}))
    (directory / "utm.yaml").write_text(
        f"id: utm\nsource: {{kind: kerchunk, href: cube.json, fill: declared}}\n{more}"
    )
    (directory / "cubegate.yaml").write_text(
        f'upstreams: {{"{directory.as_uri()}/": {{}}}}\ncollections: [utm.yaml]\n'
    )
    return create_app(load_settings(directory / "cubegate.yaml", {}), {})


def test_derived_variables_and_categories_are_drawn(tmp_path, running):
    random = np.random.default_rng(6)
    x, y = 400_015 + 30.0 * np.arange(40), 3_900_000 - 30.0 * np.arange(30)
    metres = {"units": "m"}
    velocity = {"units": "m/y", "grid_mapping": "mapping"}
    flags = {
        "flag_values": np.array([0, 1, 4], "i1"),
        "flag_meanings": "land ice water",
        "grid_mapping": "mapping",
    }
    kinds = random.choice(np.array([0, 1, 4, 9], "i1"), (30, 40))
    cube = xr.Dataset(
        {
            "vx": (("y", "x"), random.normal(size=(30, 40)), velocity),
            "vy": (("y", "x"), random.normal(size=(30, 40)), velocity),
            "kind": (("y", "x"), kinds, flags),
        },
        {
            "x": ("x", x, {"standard_name": "projection_x_coordinate", **metres}),
            "y": ("y", y, {"standard_name": "projection_y_coordinate", **metres}),
        },
    )
    cube["mapping"] = ((), np.int32(0), CRS.from_epsg(32611).to_cf())
    app = make_indexed(tmp_path, cube, "derived:\n  speed: {kind: speed, x: vx, y: vy}\n")
    with running(app) as client:
        asked = {"variables": "speed", "rescale": "0,3", "colormap": "magma"}
        found = picture(client.get("/utm/tiles/native/0/0/0.png", params=asked))
        truth = np.full((256, 256), np.nan)
        truth[:30, :40] = np.hypot(cube.vx.values, cube.vy.values)
        assert_same_picture(found, coloured(truth, 0, 3, "magma"))
        found = picture(client.get("/utm/tiles/native/0/0/0.png", params={"variables": "kind"}))[:30, :40]
        colours = {
            value: {tuple(colour) for colour in found[kinds == value].tolist()} for value in (0, 1, 4, 9)
        }
        assert all(len(each) == 1 for each in colours.values())
        assert len(set.union(*colours.values())) == 4
        assert colours[9] == {(128, 128, 128, 255)}
        legend = client.get("/utm/legend.png", params={"variables": "kind"})
        shown = {tuple(colour) for colour in picture(legend).reshape(-1, 4).tolist()}
        assert set.union(*(colours[value] for value in (0, 1, 4))) <= shown


def test_the_documents_of_ogc_api_tiles_lead_to_each_other(server):
    found = server.ask("/utm/tiles").json()
    assert [each.get("tileMatrixSetURI", "own").rpartition("/")[2] for each in found["tilesets"]] == [
        "WebMercatorQuad", "WorldCRS84Quad", "own",
    ]  # fmt: skip
    for summary in found["tilesets"]:
        links = {link["rel"].rpartition("/")[2]: link for link in summary["links"]}
        tileset = server.client.get(links["self"]["href"]).json()
        matrices = server.client.get(links["tiling-scheme"]["href"]).json()["tileMatrices"]
        item = next(link for link in tileset["links"] if link["rel"] == "item")
        assert item["templated"] is True
        limits = tileset["tileMatrixSetLimits"]
        assert {each["tileMatrix"] for each in limits} <= {each["id"] for each in matrices}
        tile = (
            item["href"]
            .replace("{tileMatrix}", limits[0]["tileMatrix"])
            .replace("{tileCol}", "0")
            .replace("{tileRow}", "0")
        )
        assert server.client.get(tile).status_code == 200


def test_the_registered_sets_are_as_ogc_registered_them(server):
    mercator = server.ask("/utm/tiles/WebMercatorQuad/tileMatrixSet").json()
    first = mercator["tileMatrices"][0]
    assert math.isclose(first["scaleDenominator"], 559082264.028717, rel_tol=1e-9)
    assert math.isclose(first["cellSize"], 156543.033928041, rel_tol=1e-9)
    np.testing.assert_allclose(first["pointOfOrigin"], [-20037508.342789244, 20037508.342789244])
    assert (len(mercator["tileMatrices"]), mercator["tileMatrices"][5]["matrixWidth"]) == (25, 32)
    world = server.ask("/utm/tiles/WorldCRS84Quad/tileMatrixSet").json()["tileMatrices"]
    assert math.isclose(world[0]["scaleDenominator"], 279541132.014358, rel_tol=1e-9)
    assert (world[0]["cellSize"], world[0]["pointOfOrigin"]) == (0.703125, [-180, 90])
    assert (world[3]["matrixWidth"], world[3]["matrixHeight"]) == (16, 8)


def test_without_a_variable_the_first_with_a_unit_that_varies_is_drawn(server):
    found = server.ask("/utm/tilejson.json").json()
    assert found["tiles"][0].endswith("variables=displacement")
    every = server.ask("/utm/description").json()["variables"]
    # it is not simply the first of all
    assert min(each["name"] for each in every) != "displacement"
