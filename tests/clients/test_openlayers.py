"""Pages of others with OpenLayers show the values of the granules in every projection, over the poles and across the antimeridian."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer
from tests.clients.chromium import PROGRAM, chromium
from tests.clients.places import RESCALE
from tests.clients.programs import needs
from tests.clients.screens import Expected, colours_of, settled

pytestmark = needs("chromium", PROGRAM)

SIDE = 512
BACKGROUND = (255, 0, 255)
DATES = ("2020-01-03", "2020-01-15", "2020-01-27")
DOCS = Path(__file__).parents[2] / "docs"
# as epsg.io prints them
DEFINED = {
    "EPSG:3413": "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs +type=crs",
    "EPSG:3031": "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs +type=crs",
    "EPSG:3995": "+proj=stere +lat_0=90 +lat_ts=71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs +type=crs",
    "EPSG:32601": "+proj=utm +zone=1 +datum=WGS84 +units=m +no_defs +type=crs",
}
# four maps, each of another source
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>maps</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/explorer/vendor/ol/ol.css">
<script src="{base}/explorer/vendor/ol/dist/ol.js"></script>
<script src="{base}/explorer/vendor/proj4/dist/proj4.js"></script>
<style>
  body {{ margin: 0; display: flex; flex-wrap: wrap; width: 1024px; }}
  body > div {{ width: 512px; height: 512px; background: rgb{background}; overflow: hidden; }}
</style>
<body></body>
<script type="module">
  for (const [code, text] of Object.entries({definitions})) proj4.defs(code, text);
  ol.proj.proj4.register(proj4);
  const cube = "{base}/datasets/{name}";

  function show({{ layer, source, crs, centre: [x, y], scale, origin: [west, north] }}) {{
    const target = document.body.appendChild(document.createElement("div"));
    const view = new ol.View({{ projection: crs, center: [0, 0], ...scale }});
    // a pixel of the screen is one of the picture
    const size = view.getResolution();
    view.setCenter([west + Math.round((x - west) / size) * size, north + Math.round((y - north) / size) * size]);
    new ol.Map({{ target, controls: [], layers: [new ol.layer[layer]({{ source }})], view }});
    return view.calculateExtent();
  }}

  window.bounds = {maps}.map(show);
</script>
"""
TILEJSON = 'new ol.source.TileJSON({{ url: `${{cube}}/tilejson.json?{query}`, crossOrigin: "anonymous" }})'
OGC = 'new ol.source.OGCMapTile({{ url: `${{cube}}/tiles/{set}?{query}`, projection: "{crs}", crossOrigin: "anonymous" }})'
WMS = (
    'new ol.source.{kind}({{ url: `${{cube}}/wms`, crossOrigin: "anonymous", params: {{ LAYERS: "v", VERSION: "{version}", '
    'TIME: "{date}", rescale: "'
    f'{RESCALE}", colormap: "plasma" }}}} }}}})'
)


def a_map(source, crs, centre, scale, *, layer="Tile", origin=(0, 0)):
    """One map of a page; `source` is an expression."""
    about = {"layer": layer, "crs": crs, "centre": centre, "scale": scale, "origin": origin}
    return f"{{ ...{json.dumps(about)}, source: {source} }}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), 2 * SIDE, 2 * SIDE) as page:
        yield page


@pytest.fixture(scope="module")
def publish(tmp_path_factory, serve_folder):
    """Put a page onto another server, so that its origin is not that of the cubes; gives its address."""
    folder = tmp_path_factory.mktemp("pages")
    url = serve_folder(folder)

    def publish(text):
        (folder / "page.html").write_text(text)
        return f"{url}/page.html"

    return publish


@pytest.fixture
def page(browser):
    browser.requests.clear()
    browser.errors.clear()
    yield browser
    assert browser.errors == []


@pytest.fixture
def show(page, publish, places_url, places, compared):
    """Show four maps of a cube, and compare each with the granule of its date."""

    def show(name, maps, drawn):
        text = PAGE.format(
            base=places_url, background=BACKGROUND, definitions=json.dumps(DEFINED), name=name, maps=f"[{', '.join(maps)}]",
        )  # fmt: skip
        page.open(publish(text))
        bounds = page.wait("window.bounds")
        expected = [
            Expected(places[name], date, crs, bounds=box, size=(SIDE, SIDE))
            for (date, crs), box in zip(drawn, bounds, strict=True)
        ]
        corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]

        def wrong(seen):
            parts = [seen[top : top + SIDE, left : left + SIDE] for top, left in corners]
            return [
                each.wrong(part, "plasma", BACKGROUND) for each, part in zip(expected, parts, strict=True)
            ]

        assert wrong(settled(page, lambda seen: not any(wrong(seen)))) == [0] * 4
        for each in expected:
            assert each.present.size > 5000
            assert each.clear.mean() > 0.9
            compared(each.present)

    return show


def placed(crs, lon, lat):
    return Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)


# the longitude and latitude that the maps show, the zooms in web Mercator and in degrees
TILES = {
    "pole": ((-100, 81), 4, 3),
    "south": ((170, -79), 4, 3),
    "seam": ((180, 64), 5, 5),
    "aleutians": ((-180, 52), 8, 7),
}


@pytest.mark.parametrize("name", TILES)
def test_tiles_of_tilejson_and_of_ogc_api(show, places, name):
    place = places[name]
    middle, mercator, degrees = TILES[name]
    west, south, east, north = place.bounds
    centre = ((west + east) / 2, (south + north) / 2)
    cell = place.transform.a
    query = f"variables=v&rescale={RESCALE}&colormap=plasma&datetime="
    own = OGC.format(set="native", query=f"{query}{DATES[0]}", crs=place.crs).replace(
        "crossOrigin", "wrapX: false, crossOrigin"
    )
    maps = [
        a_map(TILEJSON.format(query=f"{query}{DATES[1]}"), "EPSG:3857", placed("EPSG:3857", *middle), {"zoom": mercator}),
        a_map(OGC.format(set="WorldCRS84Quad", query=f"{query}{DATES[2]}", crs="EPSG:4326"), "EPSG:4326", middle, {"resolution": 180 / 256 / 2**degrees}),
        # each pixel is a cell, and each cell is four times four pixels
        a_map(own, place.crs, centre, {"resolution": cell}, origin=(west, north)),
        a_map(own, place.crs, centre, {"resolution": cell / 4}, origin=(west, north)),
    ]  # fmt: skip
    show(name, maps, [(1, "EPSG:3857"), (2, "EPSG:4326"), (0, place.crs), (0, place.crs)])


# what the middle of the map shows, and the zoom
WMS_MAPS = {
    ("pole", "EPSG:3413"): ((0, 90), 5),
    ("pole", "EPSG:3995"): ((0, 90), 5),
    ("pole", "EPSG:4326"): ((-100, 82), 4),
    ("pole", "EPSG:3857"): ((-60, 80), 4),
    ("south", "EPSG:3031"): ((0, -90), 5),
    ("south", "EPSG:4326"): ((170, -80), 4),
    ("south", "EPSG:3857"): ((30, -78), 4),
    ("seam", "EPSG:3413"): ((180, 64), 5),
    ("seam", "EPSG:3995"): ((180, 64), 6),
    ("seam", "EPSG:4326"): ((180, 64), 6),
    ("seam", "EPSG:3857"): ((180, 64), 5),
    ("aleutians", "EPSG:32601"): ((179.5, 52), 9),
    ("aleutians", "EPSG:3413"): ((180, 52), 9),
    ("aleutians", "EPSG:3995"): ((180, 52), 9),
    ("aleutians", "EPSG:4326"): ((-180, 52), 8),
    ("aleutians", "EPSG:3857"): ((180, 52), 8),
}


@pytest.mark.parametrize(("name", "crs"), WMS_MAPS)
def test_wms_of_both_versions_in_tiles_and_as_one_image(show, name, crs):
    middle, zoom = WMS_MAPS[name, crs]
    kinds = [(kind, version) for kind in ("Tile", "Image") for version in ("1.3.0", "1.1.1")]
    maps = [
        a_map(WMS.format(kind=f"{kind}WMS", version=version, date=DATES[number % 3]), crs, placed(crs, *middle), {"zoom": zoom}, layer=kind)
        for number, (kind, version) in enumerate(kinds)
    ]  # fmt: skip
    show(name, maps, [(number % 3, crs) for number in range(4)])


def page_of_the_docs():
    """The page that the docs print."""
    blocks = [
        block
        for file in DOCS.rglob("*.md")
        for block in re.findall(r"```html\n(.*?)```", file.read_text(), re.DOTALL)
    ]
    return next(block for block in blocks if "OGCMapTile" in block)


def test_the_page_that_the_docs_print_shows_a_polar_cube_and_the_series_of_a_pixel(
    page, publish, demo_url, demo_cubes, compared
):
    printed = page_of_the_docs()
    assert "http://127.0.0.1:8000/" in printed
    page.open(publish(printed.replace("http://127.0.0.1:8000", demo_url)))
    left, top, width, height = page.wait(
        "(() => {const b = document.querySelector('#map canvas')?.getBoundingClientRect(); return b && [b.x, b.y, b.width, b.height]})()"
    )
    # `fit` shows all 180 rows of 120 m in the height of the map: each cell is 4 times 4 pixels
    store = demo_cubes.ice()
    x, y = store["x"][:], store["y"][:]
    times = height / y.size
    assert times == 4
    speeds = store["v"][int(store["mid_date"][:].argmax())].astype(float).repeat(4, 0).repeat(4, 1)
    colours = colours_of("viridis")[np.clip(speeds / 200 * 255, 0, 254).astype(int)]
    first = int(left + (width - speeds.shape[1]) / 2)

    def wrong(seen):
        part = seen[int(top) : int(top + height), first : first + speeds.shape[1]]
        return int(((part != colours).any(axis=-1) & shown).sum())

    shown = speeds != -32767
    assert wrong(settled(page, lambda seen: not wrong(seen))) == 0
    compared(speeds[shown])
    page.click_at(left + width / 2, top + height / 2 - 3)
    lines = page.wait("(document.getElementById('series').textContent.match(/^\\d.*/gm) ?? []).slice()")
    middle, above = x.size // 2, y.size // 2 - 1
    order = np.argsort(store["mid_date"][:], kind="stable")
    found = np.array([line.split(",")[1] or "nan" for line in lines], float)
    expected = np.where(store["v"][:, above, middle] == -32767, np.nan, store["v"][:, above, middle])[order]
    np.testing.assert_array_equal(found, expected)
    compared(found)
