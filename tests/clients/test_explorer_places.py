"""The explorer over the poles and across the antimeridian, beside the granules as GDAL reads them."""

import json

import httpx
import netCDF4
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from tests.clients.chromium import PROGRAM
from tests.clients.places import COLUMNS, RESCALE, ROWS
from tests.clients.programs import needs
from tests.clients.screens import Expected, settled

pytestmark = needs("chromium", PROGRAM)

PLACES = ("pole", "south", "seam", "aleutians")
DATES = ("2020-01-03T00:00:00Z", "2020-01-15T00:00:00Z", "2020-01-27T00:00:00Z")
# the map's own colour where the page is light
BACKGROUND = (0xE6, 0xEC, 0xEF)


@pytest.fixture
def page(browser, places_url):
    """The browser's page; nothing may go wrong in it, and nothing may be asked of others."""
    browser.requests.clear()
    browser.errors.clear()
    yield browser
    allowed = (f"{places_url}/", "data:", f"blob:{places_url}", "about:")
    assert [url for url in browser.requests if not url.startswith(allowed)] == []
    assert browser.errors == []


def map_box(page):
    """Left, top, width and height of the map's picture, which the browser puts onto whole pixels."""
    return page.run(
        "(() => {const c = document.querySelector('#map canvas'); const b = c.getBoundingClientRect(); return [Math.round(b.x), Math.round(b.y), c.width, c.height]})()"
    )


class View:
    """A view of a place in which `pixels` of the screen are one cell, with a corner of cells in the middle of the map."""

    def __init__(self, page, place, *, pixels, cell=(COLUMNS // 2, ROWS // 2)):
        self.left, self.top, self.width, self.height = map_box(page)
        self.resolution = place.transform.a / pixels
        x, y = place.transform @ cell
        # the middle of a map with an odd number of pixels is the middle of one
        self.x = x + self.width % 2 * self.resolution / 2
        self.y = y - self.height % 2 * self.resolution / 2

    def __str__(self):
        return f"{self.x!r},{self.y!r},{self.resolution!r}"

    @property
    def bounds(self):
        across, down = self.width * self.resolution / 2, self.height * self.resolution / 2
        return self.x - across, self.y - down, self.x + across, self.y + down

    def on_screen(self, x, y):
        west, _, _, north = self.bounds
        return self.left + (x - west) / self.resolution, self.top + (north - y) / self.resolution


def opened(page, places_url, query):
    page.open(f"{places_url}/#{query}")
    page.wait("location.hash.includes('view=') && !document.getElementById('legend').hidden")


def series(place, x, y):
    column, row = (int(np.floor(part)) for part in ~place.transform @ (x, y))
    return np.array([place.values(date)[row, column] for date in range(3)])


def plotted(page, count):
    page.wait(f"(document.getElementById('chart').plotted ?? []).length === {count + 1}")
    times, *values = page.run("document.getElementById('chart').plotted.map((each) => [...each])")
    return times, [np.array(each, float) for each in values]


@pytest.mark.parametrize("name", PLACES)
def test_the_map_and_its_link_show_each_cell_in_its_place(page, places, places_url, name, compared):
    place = places[name]
    opened(page, places_url, f"cube={name}")
    for date, pixels in ((0, 4), (1, 2)):
        view = View(page, place, pixels=pixels)
        query = f"cube={name}&variable=v&datetime={DATES[date]}&colormap=plasma&rescale={RESCALE}&view={view}"
        opened(page, places_url, query)
        # lines, labels and buttons lie above the picture
        page.run(
            "document.querySelectorAll('#map .ol-layer, #map .ol-overlaycontainer-stopevent, #map > p').forEach((each) => { each.style.visibility = 'hidden'; })"
        )
        expected = Expected(place, date, place.crs, bounds=view.bounds, size=(view.width, view.height))

        def wrong(seen, view=view, expected=expected):
            part = seen[view.top : view.top + view.height, view.left : view.left + view.width]
            return expected.wrong(part, "plasma", BACKGROUND)

        assert wrong(settled(page, lambda seen, wrong=wrong: not wrong(seen))) == 0
        assert expected.present.size > 10_000
        compared(expected.present)


@pytest.mark.parametrize("name", PLACES)
def test_clicks_on_either_side_plot_the_series_of_the_granules(page, places, places_url, name, compared):
    place = places[name]
    opened(page, places_url, f"cube={name}")
    lonlat = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True)
    # cells around the pole, or on both sides of 180 degrees
    if name in {"pole", "south"}:
        column, row = (int(part) for part in ~place.transform @ (0, 0))
        cells = [(column + across, row + down) for across in (-2, 1) for down in (-2, 1)]
    else:
        to_cube = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True)
        column, row = 100 if name == "seam" else int((~place.transform @ to_cube.transform(180, 52))[0]), 70
        cells = [(column - 3, 40), (column + 3, 40), (column - 3, 100), (column + 8, 100)]
    view = View(page, place, pixels=8, cell=(column, row))
    opened(page, places_url, f"cube={name}&variable=v&view={view}")
    expected, longitudes = [], []
    for count, cell in enumerate(cells, start=1):
        x, y = place.transform @ (cell[0] + 0.5, cell[1] + 0.5)
        page.click_at(*view.on_screen(x, y))
        expected.append(series(place, x, y))
        longitudes.append(lonlat.transform(x, y)[0] % 360)
        times, found = plotted(page, count)
    assert times == [np.datetime64(date[:-1], "s").astype(int) for date in DATES]
    np.testing.assert_array_equal(np.array(found, "f4"), expected)
    compared(np.array(found))
    assert min(longitudes) < 180 < max(longitudes)
    # the address gives the same to who opens it
    link = page.run("location.href")
    page.open(link)
    np.testing.assert_array_equal(np.array(plotted(page, len(cells))[1], "f4"), expected)
    assert page.run("location.href") == link


@pytest.mark.parametrize("name", ["seam", "aleutians", "pole"])
def test_a_box_across_180_or_over_the_pole_downloads_the_cells_of_the_granule(
    page, places, places_url, name, compared
):
    place = places[name]
    rows, columns = slice(50, 70), slice(80, 120)
    west, north = place.transform @ (columns.start + 0.1, rows.start + 0.1)
    east, south = place.transform @ (columns.stop - 0.1, rows.stop - 0.1)
    opened(page, places_url, f"cube={name}&variable=v&datetime={DATES[1]}&box={west},{south},{east},{north}")
    page.wait("document.querySelectorAll('#downloads a').length === 2")
    links = page.run("[...document.querySelectorAll('#downloads a')].map((link) => link.href)")
    expected = place.values(1)
    # a box holds the cells whose middles lie in it
    netcdf, geotiff = (httpx.get(link, timeout=60).content for link in links)
    with netCDF4.Dataset("box", memory=netcdf) as file:
        found = np.ma.filled(file["v"][:], np.nan)[0]
        np.testing.assert_array_equal(found, expected[rows, columns])
    with rasterio.MemoryFile(geotiff) as memory, memory.open() as raster:
        np.testing.assert_array_equal(raster.read(1), expected[rows, columns])
        np.testing.assert_allclose(raster.transform @ (0, 0), place.transform @ (columns.start, rows.start))
    compared(found)
    said = page.wait("document.querySelector('#histogram svg')?.getAttribute('aria-label')")
    finite = expected[rows, columns][np.isfinite(expected[rows, columns])]
    assert f"of {finite.size} values from {finite.min():g} to {finite.max():g} " in said


@pytest.mark.parametrize("name", PLACES)
def test_lines_of_degrees_lie_where_proj_puts_them(page, places, places_url, name, compared):
    place = places[name]
    opened(page, places_url, f"cube={name}")
    west, south, east, north = place.bounds
    wide = [
        west - (east - west) / 2,
        south - (north - south) / 2,
        east + (east - west) / 2,
        north + (north - south) / 2,
    ]
    lines = page.run(
        f"Promise.all([import('./explorer/graticule.js'), import('./explorer/projection.js'), fetch('datasets/{name}/description').then((answer) => answer.json())])"
        f".then(([lines, projection, about]) => lines.graticule({json.dumps(wide)}, projection.openProjection(about)))"
    )
    assert {line["meridian"] for line in lines} == {True, False}
    back = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True)
    for line in lines:
        text = line["text"]
        size = float(text.rstrip("NSEW").rstrip("°")) * (-1 if text[-1] in "SW" else 1)
        lon, lat = back.transform(*np.array(line["places"]).T)
        if line["meridian"]:
            away = np.abs((lon - size + 180) % 360 - 180) * np.cos(np.radians(lat))
        else:
            away = np.abs(lat - size)
        # labels are rounded, lines are not
        assert away.max() < 1e-6, text
        compared(away)
    texts = {line["text"] for line in lines if line["meridian"]}
    assert len(texts) == sum(line["meridian"] for line in lines)
    assert not {text for text in texts if text.startswith("180") and text[-1] in "EW"}
    if name != "aleutians":
        assert "180°" in texts


def test_lines_of_degrees_are_seen_where_they_are(page, places, places_url):
    place = places["south"]
    opened(page, places_url, "cube=south")
    view = View(page, place, pixels=1.25)
    opened(page, places_url, f"cube=south&variable=v&view={view}")
    around = np.radians(np.arange(0, 360, 0.25))

    def drawn(seen, latitude):
        """The part of a parallel that is darker than the map, outside of the cube."""
        lat = np.full(around.size, latitude)
        x, y = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True).transform(np.degrees(around), lat)
        west, south, east, north = place.bounds
        outside = (x < west) | (x > east) | (y < south) | (y > north)
        left, top = view.on_screen(x[outside], y[outside])
        inside = (np.abs(left - view.left - view.width / 2) < view.width / 2 - 100) & (
            np.abs(top - view.top - view.height / 2) < view.height / 2 - 100
        )
        return (seen[top[inside].astype(int), left[inside].astype(int)].sum(axis=-1) < 600).mean()

    seen = settled(page, lambda seen: drawn(seen, -60) > 0.25)
    # dashes are as long as what is between them
    assert drawn(seen, -60) > 0.25
    assert drawn(seen, -57) < 0.15
