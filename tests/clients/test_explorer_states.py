"""The explorer where something is missing, wrong or under way, and whether it can be seen, reached and taken back."""

import contextlib
import json
import threading

import numpy as np
import pytest
import xarray as xr
import yaml
from pyproj import CRS, Transformer
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from tests.clients.chromium import PROGRAM
from tests.clients.programs import needs

pytestmark = needs("chromium", PROGRAM)

SIDE = 16


def write_cube(folder, name, *, crs=3413, dates=3, href=""):
    """A store of `temperature`, whose value is the number of the date; its collection reads `href`, or the folder."""
    steps = 1000.0 * np.arange(SIDE)
    named = "projection_{}_coordinate" if crs else "axis {}"
    axes = {
        axis: (
            axis,
            values,
            {"standard_name": named.format(axis), "axis": axis.upper()} | ({"units": "m"} if crs else {}),
        )
        for axis, values in (("x", steps), ("y", -steps))
    }
    about = {"units": "K"} | ({"grid_mapping": "mapping"} if crs else {})
    values = np.arange(dates, dtype="f4")[:, None, None] + np.zeros((dates, SIDE, SIDE), "f4")
    mapping = {"mapping": ((), np.int32(0), CRS(crs).to_cf())} if crs else {}
    times = np.datetime64("2000-01-01", "ns") + np.arange(dates) * np.timedelta64(1, "D")
    cube = xr.Dataset(
        {"temperature": (("time", "y", "x"), values, about), **mapping}, {**axes, "time": times}
    )
    cube.to_zarr(folder / f"{name}.zarr", zarr_format=2)
    source = {"kind": "zarr", "href": href or f"{name}.zarr"}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({"id": name, "title": f"The cube {name}", "source": source})
    )


class Upstream:
    """The files of a folder, but for chunks, which are refused while it is `lost`."""

    def __init__(self, folder):
        self.lost = threading.Event()
        self._files = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])

    async def __call__(self, scope, receive, send):
        chunk = scope["type"] == "http" and scope["path"].rpartition("/")[2][0].isdigit()
        answer = (
            Response(status_code=503)
            if chunk and self.lost.is_set() and "temperature" in scope["path"]
            else self._files
        )
        await answer(scope, receive, send)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def upstream(folder):
    return Upstream(folder)


@pytest.fixture(scope="module")
def base(folder, upstream, serve_application, serve_configuration):
    """The explorer over cubes without a CRS, of one date, of 2000 dates, of EPSG:6933, and one of an upstream that may be lost."""
    origin = serve_application(upstream)
    write_cube(folder, "no-crs", crs=None)
    write_cube(folder, "one-date", dates=1)
    write_cube(folder, "many-dates", dates=2000)
    write_cube(folder, "ease", crs=6933)
    write_cube(folder, "lost", href=f"{origin}/lost.zarr")
    settings = {"upstreams": {f"{folder.as_uri()}/": {}, f"{origin}/": {}}, "collections": ["*.yaml"]}
    (folder / "cubegate.yml").write_text(yaml.safe_dump(settings))
    return f"{serve_configuration(folder / 'cubegate.yml', {})}/"


@pytest.fixture
def page(browser):
    browser.requests.clear()
    browser.errors.clear()
    browser.size(1400, 1000)
    browser.scheme("light")
    yield browser
    assert browser.errors == []


def opened(page, url):
    page.open(url)
    page.wait("location.hash.includes('view=') && document.getElementById('busy').hidden")


def test_an_empty_catalog_says_what_to_do(page, tmp_path, served):
    (tmp_path / "cubegate.yaml").write_text(yaml.safe_dump({"collections": []}))
    with served(tmp_path / "cubegate.yaml") as url:
        page.open(f"{url}/")
        page.wait("document.getElementById('cubes').textContent.includes('no cubes yet')")
        assert "cubegate build" in page.text("#cubes")
        shown = page.run(
            "['place', 'results', 'find', 'drawing'].map((id) => document.getElementById(id).checkVisibility())"
        )
        assert shown == [False] * 4
        page.open("about:blank#")


def test_a_cube_without_crs_has_a_note_and_its_series(page, base):
    opened(page, f"{base}#cube=no-crs&points=3000,-5000")
    assert "crs:" in page.text("#map-note")
    assert page.run("document.getElementById('problem').hidden")
    # a length without a unit would be a guess
    assert not page.run("document.querySelector('.ol-scale-line').checkVisibility()")
    page.wait("document.getElementById('chart').plotted?.length === 2")
    assert page.run("[...document.getElementById('chart').plotted[1]]") == [0, 1, 2]
    assert not [url for url in page.requests if "/tiles/" in url or "/legend" in url]


def test_one_date_has_no_slider_and_a_point_in_the_middle(page, base):
    opened(page, f"{base}#cube=one-date&points=3000,-5000")
    page.wait("document.getElementById('chart').plotted?.length === 2")
    assert page.text("#date") == "2000-01-01 (1 of 1)"
    assert not page.run("document.getElementById('time').checkVisibility()")
    assert "1 date, 2000-01-01" in page.wait(
        "document.querySelector('[aria-current] small:last-child')?.textContent"
    )


def test_two_thousand_dates_are_reached_by_slider_and_steps(page, base):
    opened(page, f"{base}#cube=many-dates&points=3000,-5000")
    page.wait("document.getElementById('chart').plotted?.[1].length === 2000")
    page.run("document.getElementById('time').focus()")
    page.press("Home")
    page.wait("location.hash.includes('datetime=2000-01-01T')")
    page.click("#later")
    page.wait("location.hash.includes('datetime=2000-01-02T')")
    assert page.text("#date") == "2000-01-02 (2 of 2000)"
    assert page.run("document.querySelector('#points span').textContent").endswith(": 1 K")
    page.run("document.querySelector('#table-details summary').click()")
    assert page.run("document.querySelectorAll('#table tbody tr').length") == 2000


def test_degrees_are_known_where_proj4_needs_a_proj_string(page, base):
    opened(page, f"{base}#cube=ease")
    page.mouse("mouseMoved", 600, 500)
    said = page.wait("document.getElementById('position').textContent")
    x, y = (float(part) for part in said.split(" (")[0].split(","))
    lon, lat = Transformer.from_crs(6933, "OGC:CRS84", always_xy=True).transform(x, y)
    shown = [float(part.strip("°")) for part in said.split(" (")[1].rstrip(")").split(", ")]
    np.testing.assert_allclose(shown, [lon, lat], atol=2e-5)


def test_what_fails_for_the_moment_keeps_the_pixels_and_is_tried_again(page, base, upstream):
    upstream.lost.set()
    link = f"{base}#cube=lost&points=3000,-5000"
    page.open(link)
    page.wait("Boolean(document.querySelector('#problem button'))")
    page.wait("document.querySelector('#points span')?.textContent.endsWith(': not read')")
    assert "points=3000,-5000" in page.run("location.hash")
    upstream.lost.clear()
    page.wait(
        f"fetch('{base}datasets/lost/timeseries?x=3000&y=-5000&variables=temperature').then((answer) => answer.ok)"
    )
    page.click("#problem button")
    page.wait("document.getElementById('chart')?.plotted?.length === 2")
    assert page.run("[...document.getElementById('chart').plotted[1]]") == [0, 1, 2]
    assert page.run("document.getElementById('problem').hidden")
    # the browser itself says of each that it was refused
    page.errors[:] = [error for error in page.errors if "responded with a status of 503" not in error]


def test_back_leads_to_the_cube_before_as_it_was(page, base):
    opened(page, f"{base}#cube=one-date&points=3000,-5000")
    left = page.run("location.hash")
    page.wait(
        "[...document.querySelectorAll('#cubes button')].some((each) => each.textContent.startsWith('ease'))"
    )
    page.run(
        "[...document.querySelectorAll('#cubes button')].find((each) => each.textContent.startsWith('ease')).click()"
    )
    page.wait("location.hash.includes('cube=ease&') && location.hash.includes('view=')")
    # what changes of one view is no step of its own
    page.click(".ol-zoom-in")
    page.run("history.back()")
    page.wait(f"location.hash === {json.dumps(left)} && document.title.startsWith('The cube one-date')")
    page.wait("document.getElementById('chart').plotted?.length === 2")
    page.run("history.forward()")
    page.wait("document.title.startsWith('The cube ease')")


def luminance(colour):
    parts = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """As WCAG 2.2 defines it: 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(page, base, scheme):
    page.scheme(scheme)
    page.open(base)
    style = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"

    def named(name):
        text = page.run(style.format(name))
        return "#" + "".join(2 * part for part in text[1:]) if len(text) == 4 else text

    text = [("text", "page"), ("text", "panel"), ("quiet", "panel"), ("quiet", "page"), ("accent", "panel"), ("on-accent", "accent"), ("problem", "problem-page"), ("text", "map")]  # fmt: skip
    parts = [("field", "panel"), ("field", "page"), ("graticule", "map"), ("accent", "map")]
    found = {pair: contrast(named(pair[0]), named(pair[1])) for pair in text + parts}
    assert {pair: value for pair, value in found.items() if value < (4.5 if pair in text else 3)} == {}
    colours = page.run(
        f"import('{base}explorer/series.js').then((m) => [0, 1, 2, 3, 4, 5, 6, 7].map(m.colourOf))"
    )
    assert {
        colour: contrast(colour, named("panel")) for colour in colours if contrast(colour, named("panel")) < 3
    } == {}


def test_what_is_touched_is_as_large_as_a_finger(page, base):
    page.size(390, 844, phone=True)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=1)
    with contextlib.ExitStack() as stack:
        stack.callback(page.send, "Emulation.setTouchEmulationEnabled", enabled=False)
        opened(page, f"{base}#cube=many-dates&points=3000,-5000&box=2000,-8000,6000,-4000")
        page.wait("document.querySelectorAll('#downloads a').length === 2")
        small = page.run(
            "[...document.querySelectorAll('button, select, summary, #points a, #downloads a, input:not([type=radio], [type=checkbox]), label.check')]"
            ".filter((each) => each.checkVisibility()).map((each) => [each.id || each.textContent, each.getBoundingClientRect()])"
            ".filter(([, box]) => box.height < 44 || box.width < 24).map(([name, box]) => `${name} ${box.width} x ${box.height}`)"
        )
        assert small == []
        assert page.run("document.documentElement.scrollWidth") <= 390


def test_where_the_keyboard_is_can_be_seen(page, base):
    opened(page, f"{base}#cube=many-dates&points=3000,-5000&box=2000,-8000,6000,-4000")
    page.wait("document.querySelectorAll('#downloads a').length === 2")
    rings, seen = {}, "start"
    page.run("document.activeElement.blur()")
    for _ in range(60):
        page.press("Tab")
        seen = page.run(
            "document.activeElement.id || document.activeElement.tagName + document.activeElement.textContent.slice(0, 30)"
        )
        if seen in rings or seen.startswith("BODY"):
            break
        rings[seen] = page.run(
            "[getComputedStyle(document.activeElement).outlineStyle, parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"
        )
    assert len(rings) > 20
    assert {name: ring for name, ring in rings.items() if ring[0] == "none" or ring[1] < 2} == {}
