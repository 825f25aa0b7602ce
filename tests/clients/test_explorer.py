"""The explorer page in a real browser, and what it shows beside the demo's granules read without cubegate."""

import json
import subprocess
import sys
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import matplotlib as mpl
import matplotlib.image as mpl_image
import netCDF4
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from pyproj import CRS, Transformer
from tests.clients.chromium import PROGRAM
from tests.clients.programs import needs

from cubegate.app import create_app
from cubegate.query.description import describe_crs
from cubegate.settings import load_settings

pytestmark = needs("chromium", PROGRAM)

X, Y = 389_295.0, 3_773_895.0
OTHERS = [(391_005.0, 3_775_005.0), (385_995.0, 3_770_985.0)]
ICE_X, ICE_Y = -184_980.0, -2_274_500.0


@pytest.fixture(scope="module")
def demo(demo_cubes):
    return demo_cubes


@pytest.fixture(scope="module")
def base(demo_url):
    return f"{demo_url}/"


@pytest.fixture
def page(browser, base):
    """The browser's page; nothing may go wrong in it, and nothing may be asked of others."""
    browser.requests.clear()
    browser.errors.clear()
    browser.size(1400, 1000)
    yield browser
    others = [
        url for url in browser.requests if not url.startswith((base, "data:", f"blob:{base}", "about:"))
    ]
    assert others == []
    assert browser.errors == []


def plotted(page, count=1):
    """The times and the values of each pixel that are plotted, once there are `count` pixels."""
    page.wait(f"(document.getElementById('chart').plotted ?? []).length === {count + 1}")
    times, *values = page.run("document.getElementById('chart').plotted.map((each) => [...each])")
    return np.array(times), [np.array(each, float) for each in values]


def state(page):
    return {
        name: values[0] for name, values in parse_qs(urlsplit(page.run("location.href")).fragment).items()
    }


def on_screen(page, x, y):
    """Where a place in the cube's CRS is seen, by the view that the address names."""
    middle_x, middle_y, resolution = map(float, state(page)["view"].split(","))
    left, top, width, height = page.run(
        "(() => {const b = document.getElementById('map').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]})()"
    )
    return left + width / 2 + (x - middle_x) / resolution, top + height / 2 - (y - middle_y) / resolution


def opened(page, url):
    page.open(url)
    page.wait("location.hash.includes('view=') && !document.getElementById('legend').hidden")


def test_a_click_on_a_pixel_plots_the_numbers_of_the_granules(page, base, demo, compared):
    opened(page, f"{base}#cube=opera-f11116&variable=displacement")
    page.click_at(*on_screen(page, X, Y))
    times, (values,) = plotted(page)
    assert times.tolist() == [date.timestamp() for date in demo.dates()]
    np.testing.assert_array_equal(values.astype("f4"), demo.series(X, Y))
    compared(values)
    assert page.wait("document.querySelectorAll('#points li').length") == 1
    link = page.run("document.querySelector('#points a').getAttribute('href')")
    assert urlsplit(link).path == "datasets/opera-f11116/timeseries"
    assert parse_qs(urlsplit(link).query).keys() == {"x", "y", "variables", "f"}
    rows = [line for line in httpx.get(urljoin(base, link), timeout=60).text.splitlines() if line[0] != "#"]
    np.testing.assert_array_equal(np.array([row.split(",")[1] for row in rows[1:]], "f4"), demo.series(X, Y))
    # the table says the same to those who cannot see the plot
    said = page.run(
        "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[1].textContent)"
    )
    np.testing.assert_array_equal(np.array(said, "f4"), demo.series(X, Y))


def test_several_pixels_are_compared_and_one_is_removed(page, base, demo, compared):
    opened(page, f"{base}#cube=opera-f11116&variable=displacement")
    for count, place in enumerate(OTHERS, start=1):
        page.click_at(*on_screen(page, *place))
        plotted(page, count)
    _, found = plotted(page, 2)
    for values, place in zip(found, OTHERS, strict=True):
        np.testing.assert_array_equal(values.astype("f4"), demo.series(*place))
        compared(values)
    page.click("#points li:first-child button")
    _, found = plotted(page, 1)
    np.testing.assert_array_equal(found[0].astype("f4"), demo.series(*OTHERS[1]))
    assert len(state(page)["points"].split(";")) == 1


def test_a_pixel_of_a_polar_cube_is_that_of_its_store(page, base, demo, compared):
    opened(page, f"{base}#cube=its-live&variable=v")
    page.click_at(*on_screen(page, ICE_X, ICE_Y))
    times, (values,) = plotted(page)
    store = demo.ice()
    row, column = np.abs(store["y"][:] - ICE_Y).argmin(), np.abs(store["x"][:] - ICE_X).argmin()
    order = np.argsort(store["mid_date"][:], kind="stable")
    expected = store["v"][:, row, column].astype(float)[order]
    expected[expected == -32767] = np.nan
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(times, store["mid_date"][:][order] * 86400, atol=0.01)
    compared(values)


def test_the_map_shows_each_cell_in_the_colour_of_its_value(page, base, demo, compared):
    # one cell is four pixels of the screen, and neighbours differ in colour
    view = f"{X + 15},{Y + 15},7.5"
    row, column = demo.cell(X, Y)
    values = demo.displacement(23)[row - 40 : row + 40, column - 40 : column + 40]
    low, high = (round(float(end), 4) for end in np.nanpercentile(values, [5, 95]))
    opened(
        page,
        f"{base}#cube=opera-f11116&variable=displacement&colormap=plasma&rescale={low},{high}&view={view}",
    )
    colours = mpl.colormaps["plasma"](np.clip((values - low) / (high - low), 0, 1))
    expected = colours.reshape(-1, 4)[:, :3]
    present = ~np.isnan(values).reshape(-1)
    left, top = on_screen(page, demo.x[column - 40], demo.y[row - 40])
    across, down = np.meshgrid(left + 4 * np.arange(80), top + 4 * np.arange(80))
    file = demo.directory.parent / "map.png"

    def share(shift=0):
        picture = mpl_image.imread(file)[..., :3]
        seen = picture[down.astype(int).ravel(), across.astype(int).ravel() + shift]
        # the server has a colour less than matplotlib
        return np.isclose(seen, expected, atol=5 / 255).all(axis=1)[present].mean()

    for _ in range(200):
        file.write_bytes(page.picture())
        if share() > 0.9:
            break
        page.run("new Promise((done) => setTimeout(done, 100))")
    # the graticule and its labels are drawn above
    assert share() > 0.9
    assert share(4) < 0.5
    compared(expected)


def test_a_box_is_priced_first_and_downloads_the_cells_of_the_granules(page, base, demo, compared):
    opened(page, f"{base}#cube=opera-f11116&variable=displacement")
    page.click("#draw-box")
    page.drag(on_screen(page, X - 600, Y + 450), on_screen(page, X + 600, Y - 450))
    page.wait("document.querySelectorAll('#downloads a').length === 2")
    asked = [url for url in page.requests if "/estimate?" in url]
    assert asked
    assert "chunks and" in page.text("#price")
    west, south, east, north = map(float, state(page)["box"].split(","))
    rows = np.flatnonzero((demo.y >= south) & (demo.y <= north))
    columns = np.flatnonzero((demo.x >= west) & (demo.x <= east))
    assert rows.size > 25
    expected = demo.displacement(23)[np.ix_(rows, columns)]
    links = page.run(
        "[...document.querySelectorAll('#downloads a')].map((link) => link.getAttribute('href'))"
    )
    netcdf, geotiff = (httpx.get(urljoin(base, link), timeout=60).content for link in links)
    with rasterio.MemoryFile(geotiff) as file, file.open() as raster:
        np.testing.assert_array_equal(raster.read(1), expected)
        assert raster.crs.to_epsg() == 32611
    with netCDF4.Dataset("box", memory=netcdf) as file:
        np.testing.assert_array_equal(np.ma.filled(file["displacement"][:], np.nan)[0], expected)
    compared(expected)
    said = page.wait("document.querySelector('#histogram svg')?.getAttribute('aria-label')")
    assert f"of {np.isfinite(expected).sum()} values" in said
    counts = page.run(
        "[...document.querySelectorAll('#histogram title')].map((each) => Number(each.textContent))"
    )
    finite = expected[np.isfinite(expected)]
    assert sum(counts) == finite.size
    np.testing.assert_allclose(
        np.cumsum(counts), np.cumsum(np.histogram(finite.astype(float), 24)[0]), atol=2
    )


def test_a_box_that_is_too_large_is_told_so_and_not_offered(page, base):
    opened(page, f"{base}#cube=its-live&variable=v&box=-195000,-2282600,-175200,-2261000&dates=all")
    page.wait("document.getElementById('price').textContent.includes('cells')")
    price = httpx.get(f"{base}datasets/its-live/estimate?variables=v", timeout=60).json()
    assert f"{price['cells']:,} cells" in page.text("#price")


def test_a_link_restores_the_view(page, base, demo):
    start = f"{base}#cube=opera-f11116&variable=displacement"
    opened(page, start)
    page.click_at(*on_screen(page, X, Y))
    plotted(page, 1)
    page.click("#earlier")
    page.wait("location.hash.includes('datetime=2023-10-20')")
    page.run(
        "(() => {const c = document.getElementById('colormap'); c.value = 'magma'; c.dispatchEvent(new Event('change', {bubbles: true}))})()"
    )
    for name, value in (("low", "-0.2"), ("high", "0.1")):
        page.run(
            f"(() => {{const c = document.getElementById('{name}'); c.value = '{value}'; c.dispatchEvent(new Event('change', {{bubbles: true}}))}})()"
        )
    page.run("document.getElementById('box').value = '385000,3770000,386000,3771000'")
    page.click("#box-form button")
    page.wait("location.hash.includes('box=')")
    left = page.run("location.href")
    assert {"cube", "variable", "datetime", "colormap", "rescale", "view", "points", "box"} <= state(
        page
    ).keys()
    values = plotted(page, 1)[1][0]
    page.requests.clear()
    opened(page, left)
    np.testing.assert_array_equal(plotted(page, 1)[1][0], values)
    page.wait("document.querySelectorAll('#downloads a').length === 2")
    assert page.run("location.href") == left
    assert page.run("['colormap', 'low', 'high', 'variable'].map((id) => document.getElementById(id).value)") == [
        "magma", "-0.2", "0.1", "displacement",
    ]  # fmt: skip
    assert page.text("#date") == "2023-10-20 13:59:49Z (23 of 24)"
    tiles = [url for url in page.requests if "/tiles/native/" in url and ".png" in url]
    assert tiles
    assert all("datetime=2023-10-20T13:59:49Z&rescale=-0.2,0.1&colormap=magma" in url for url in tiles)


def test_the_lines_of_code_run_and_give_what_is_on_the_screen(page, base, demo, tmp_path, compared):
    box = "388000,3773000,388600,3773600"
    opened(page, f"{base}#cube=opera-f11116&variable=displacement&points={X},{Y}&box={box}")
    names = page.run("[...document.querySelectorAll('#lines h3')].map((each) => each.textContent)")
    texts = page.run("[...document.querySelectorAll('#lines pre')].map((each) => each.textContent)")
    printed = {}
    for name, text in zip(names, texts, strict=True):
        tool = [sys.executable, "-W", "ignore", "-c"] if name.startswith("Python") else ["bash", "-c"]
        done = subprocess.run(
            [*tool, text], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (name, done.stderr)
        printed[name] = done.stdout
    assert "(time: 24, y: 740, x: 1000)" in printed["Python: open the cube"]
    rows = [line.split(",") for line in printed["curl: the series"].splitlines() if line[0] != "#"]
    np.testing.assert_array_equal(np.array([row[1] for row in rows[1:]], "f4"), demo.series(X, Y))
    table = [line.split() for line in printed["Python: the series"].splitlines() if line.startswith("2023-")]
    np.testing.assert_allclose([float(row[2]) for row in table], demo.series(X, Y), atol=1e-6)
    with netCDF4.Dataset(tmp_path / "box.nc") as file:
        values = np.ma.filled(file["displacement"][:], np.nan)
        window = np.ix_(np.isin(demo.y, file["y"][:]), np.isin(demo.x, file["x"][:]))
        assert values.shape == (1, 20, 20)
        assert set(np.abs(np.diff(file["x"][:]))) == {30}
    np.testing.assert_array_equal(values[0], demo.displacement(23)[window])
    assert "(time: 1, y: 20, x: 20" in printed["Python: the box"].replace("Size", "")
    compared(values)


def test_all_can_be_done_by_the_keyboard(page, base, demo, compared):
    page.open(f"{base}#cube=its-live&variable=v")
    page.wait("document.querySelectorAll('#cubes small').length > 3")
    focused, before = [], None
    for _ in range(60):
        page.press("Tab")
        here = page.run("document.activeElement.id || document.activeElement.textContent.slice(0, 60)")
        if here in focused:
            break
        focused.append(here)
        if here.startswith("opera-f11116Syn") and before is None:
            before = here
            page.press("Enter")
            page.wait("location.hash.includes('cube=opera-f11116&')")
        if here == "time":
            page.press("ArrowLeft")
            page.wait("location.hash.includes('datetime=2023-10-20')")
        if here == "map":
            page.press("Enter")
            plotted(page, 1)
    order = [
        "theme",
        "find",
        before,
        "variable",
        "colormap",
        "low",
        "high",
        "time",
        "map",
        "point-x",
        "point-y",
        "box",
    ]
    assert [here for here in focused if here in order] == order
    x, y = map(float, state(page)["points"].split(","))
    # the middle of the grid is the corner of four cells
    around = [demo.series(x + right, y + up) for right in (-1, 1) for up in (-1, 1)]
    assert plotted(page, 1)[1][0].astype("f4").tolist() in [series.tolist() for series in around]
    page.run("document.getElementById('point-x').focus()")
    page.type(str(X))
    page.press("Tab")
    page.type(str(Y))
    page.press("Enter")
    np.testing.assert_array_equal(plotted(page, 2)[1][1].astype("f4"), demo.series(X, Y))
    compared(demo.series(X, Y))
    page.wait("document.getElementById('announcement').textContent.includes('of 24 values')")


def test_a_screen_reader_finds_a_name_for_every_control(page, base):
    opened(
        page, f"{base}#cube=its-live&variable=v&points={ICE_X},{ICE_Y}&box=-190000,-2276000,-185000,-2271000"
    )
    plotted(page, 1)
    page.wait("document.querySelectorAll('#downloads a').length === 2")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button", "link", "textbox", "slider", "combobox", "checkbox", "radio", "searchbox", "application", "img", "image",
    }  # fmt: skip
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in roles
    ]
    assert {"button", "link", "textbox", "slider", "combobox", "checkbox", "radio", "searchbox"} <= {
        role for role, _ in found
    }
    # a sign alone, such as that of multiplication, is no name
    assert [role for role, name in found if not any(letter.isalpha() for letter in name)] == []
    assert len(found) > 25


def test_errors_of_the_server_are_shown_in_words(page, base):
    page.open(f"{base}#cube=none")
    page.wait("document.getElementById('problem').textContent.includes(\"There is no dataset 'none'\")")
    opened(page, f"{base}#cube=opera-f11116&variable=displacement&points=1,2")
    page.wait("document.getElementById('problem').textContent.includes('outside the grid')")
    assert page.text("#points") == ""
    # the browser itself says of each that it was refused
    page.errors[:] = [error for error in page.errors if "responded with a status of 40" not in error]


def test_it_is_dark_where_the_system_is_and_the_switch_stays(page, base):
    def background():
        return page.run("getComputedStyle(document.body).backgroundColor")

    page.scheme("light")
    page.open(base)
    light = background()
    page.scheme("dark")
    dark = page.wait(
        f"getComputedStyle(document.body).backgroundColor !== {json.dumps(light)} && getComputedStyle(document.body).backgroundColor"
    )
    page.click("#theme")
    assert background() == light
    page.open(base)
    assert background() == light
    page.run("localStorage.clear()")
    page.open(base)
    assert background() == dark
    page.scheme("light")


def test_flow_arrows_point_where_the_ice_flows(page, base, demo, compared):
    opened(page, f"{base}#cube=its-live&variable=v&arrows=1")
    page.wait(
        "performance.getEntriesByType('resource').some((each) => each.name.includes('f=covjson') && each.responseEnd > 0)"
    )
    asked = next(url for url in page.requests if "f=covjson" in url)
    box = [float(part) for part in parse_qs(urlsplit(asked).query)["bbox"][0].split(",")]
    made = page.run(
        f"Promise.all([import('{base}explorer/arrows.js'), fetch({json.dumps(asked)}).then((answer) => answer.json())])"
        f".then(([module, coverage]) => module.arrowsOf(coverage, {box}))"
    )
    assert len(made) > 50
    store = demo.ice()
    number = int(store["mid_date"][:].argmax())
    vx, vy = store["vx"][number].astype(float), store["vy"][number].astype(float)
    for (x, y), (head_x, head_y), *_ in made:
        row, column = np.abs(store["y"][:] - y).argmin(), np.abs(store["x"][:] - x).argmin()
        across, up = vx[row, column], vy[row, column]
        length = np.hypot(head_x - x, head_y - y)
        np.testing.assert_allclose(
            [(head_x - x) / length, (head_y - y) / length],
            np.array([across, up]) / np.hypot(across, up),
            atol=1e-6,
        )
    compared(np.array([arrow[0] for arrow in made]))


def test_text_of_the_data_stays_text(page, tmp_path, serving):
    title = '<img src="x" onerror="document.title=1"><script>document.title=2</script>'
    axes = {
        name: (name, values, {"standard_name": f"projection_{name}_coordinate", "units": "m"})
        for name, values in (("x", 1000.0 * np.arange(8)), ("y", -1000.0 * np.arange(8)))
    }
    height = (
        ("y", "x"),
        np.arange(64.0).reshape(8, 8),
        {"long_name": title, "units": title, "grid_mapping": "mapping"},
    )
    mapping = ((), np.int32(0), CRS("EPSG:3413").to_cf())
    xr.Dataset({"height": height, "mapping": mapping}, axes).to_zarr(tmp_path / "a.zarr", zarr_format=2)
    (tmp_path / "a.yaml").write_text(
        yaml.safe_dump({"id": "a", "title": title, "source": {"kind": "zarr", "href": "a.zarr"}})
    )
    (tmp_path / "cubegate.yaml").write_text(
        yaml.safe_dump({"upstreams": {f"{tmp_path.as_uri()}/": {}}, "collections": ["a.yaml"]})
    )
    with serving(create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})) as url:
        page.open(f"{url}/#points=3000,-2000")
        page.wait("document.getElementById('cube-title').textContent.startsWith('<img')")
        page.wait("document.querySelector('#points li span')?.textContent.includes('<img')")
        assert page.run("document.querySelectorAll('img[src=\"x\"], main script').length") == 0
        assert page.run("document.title") == f"{title}: cubegate"
        page.open("about:blank#")
    page.requests[:] = [each for each in page.requests if not each.startswith(url)]


def test_the_page_of_the_interface_lists_the_routes(page, base):
    page.open(f"{base}docs")
    page.wait("document.body.innerText.includes('/datasets/{dataset_id}/timeseries')")


def test_on_a_phone_nothing_is_wider_than_the_screen(page, base):
    page.size(390, 844, phone=True)
    opened(
        page,
        f"{base}#cube=opera-f11116&variable=displacement&points={X},{Y}&box=385000,3770000,386000,3771000",
    )
    plotted(page, 1)
    assert page.run("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def module(page, base):
    """Call a function of one of the page's modules; gives what it returns."""
    page.open(f"{base}docs")

    def call(file, expression):
        return page.run(f"import('{base}explorer/{file}').then((m) => {expression})")

    return call


def test_a_state_is_read_back_as_it_was_written(module):
    left = {
        "cube": "a&b=c#d", "variable": "v w", "datetime": "2020-01-01T00:00:00Z", "colormap": "RdBu_r", "low": "-1", "high": "2.5",
        "dimensions": {"level": "500.0"}, "view": [1, -2.5, 30], "points": [[1, 2], [-3.25, 4e5]], "box": [0, 1, 2, 3],
        "boxDates": "all", "arrows": True,
    }  # fmt: skip
    assert module("state.js", f"m.readState(m.writeState({json.dumps(left)}))") == left
    read = module("state.js", "m.readState('#points=1,2;x,y;3&view=1,2&box=1,2,3,nan&rescale=&dates=none')")
    assert (read["points"], read["view"], read["box"], read["low"], read["boxDates"]) == (
        [[1, 2]],
        None,
        None,
        "",
        "one",
    )


def test_series_of_other_dates_share_one_axis(module):
    first = {
        "times": ["2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z", "2020-01-03T00:00:00Z"],
        "values": [1, 2, 3],
    }
    second = {"times": ["2020-01-02T00:00:00.123456789Z", "2020-01-03T00:00:00Z"], "values": [4, None]}
    joined = module("numbers.js", f"m.align({json.dumps([first, second])})")
    assert joined["times"] == [first["times"][0], second["times"][0], first["times"][1], first["times"][1]]
    assert joined["values"] == [[1, None, 2, 3], [None, 4, None, None]]


def test_numbers_dates_and_counts_are_as_people_read_them(module):
    said = module(
        "numbers.js",
        "[m.shown(0.00000123), m.shown(-12.345678), m.shown(null), m.bytes(1536), m.shortDate('2020-01-01T00:00:00Z')]",
    )
    assert said == ["1.2300e-6", "-12.346", "no value", "1.5 KiB", "2020-01-01"]
    found = module("numbers.js", "m.histogram([0, 1, 2, 3, null, 4], 4)")
    assert found == {"low": 0, "high": 4, "missing": 1, "counts": [1, 1, 1, 2]}
    assert module("numbers.js", "m.histogram([null]).counts") == []
    assert module("numbers.js", "m.histogram([7, 7]).counts") == [2]


def test_the_graticule_over_a_pole_has_all_longitudes(module):
    ways = "((r) => [([x, y]) => [Math.atan2(x, -y) * r, 90 - Math.hypot(x, y)], ([lon, lat]) => [(90 - lat) * Math.sin(lon / r), -(90 - lat) * Math.cos(lon / r)]])(180 / Math.PI)"
    lines = module(
        "graticule.js",
        f"(([toLonLat, fromLonLat]) => m.graticule([-20, -20, 20, 20], {{toLonLat, fromLonLat}}))({ways})",
    )
    meridians = [line["text"] for line in lines if line["meridian"]]
    assert len(meridians) == 12
    assert {"0°", "90°E", "90°W", "180°"} <= set(meridians)
    parallels = {line["text"]: np.array(line["places"]) for line in lines if not line["meridian"]}
    np.testing.assert_allclose(np.hypot(*parallels["80°N"].T), 10, atol=1e-9)


def given(crs):
    """What the server gives to the page of a CRS, without its name."""
    return {
        name: text for name, text in describe_crs(CRS(crs)).items() if name in {"projjson", "wkt", "proj"}
    }


@pytest.mark.parametrize("crs", [3413, 3031, 3995, 32611, 32722, 3857, 5070, 6931, 3408, 6933, 3410])
def test_places_have_the_longitude_and_latitude_that_proj_gives(page, base, crs):
    page.open(base)
    page.wait("Boolean(window.proj4)")
    lonlat = {3413: (-49, 69), 3031: (100, -75), 3995: (170, 80), 32611: (-118, 34), 32722: (-49, -20)}
    lon, lat = lonlat.get(crs, (12.5, 41.25))
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    about = {
        "id": "a",
        "crs": {"name": f"EPSG:{crs}", "geographic": False, "metres": 1, **given(crs)},
        "extent": {"native": [x, y, x + 1, y + 1], "outline": [[lon, lat]]},
    }
    opening = f"import('{base}explorer/projection.js').then((m) => m.openProjection({{}}))"
    found = page.run(
        opening.replace("{}", json.dumps(about))
        + f".then((way) => [way.toLonLat([{x}, {y}]), way.fromLonLat([{lon}, {lat}])])"
    )
    np.testing.assert_allclose(found[0], [lon, lat], atol=1e-6)
    np.testing.assert_allclose(found[1], [x, y], atol=0.05)
    # what proj4 says otherwise than the server is not used, nor a method that it does not know
    elsewhere = {**about, "extent": {**about["extent"], "outline": [[lon + 0.001, lat + 0.001]]}}
    unknown = {**about, "crs": {**about["crs"], **given("ESRI:54012")}}
    for other in (elsewhere, unknown):
        assert page.run(opening.replace("{}", json.dumps(other)) + ".then((way) => way.toLonLat)") is None
