"""The pages, the files that they are made of, and what they are told of a cube."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
import yaml
from pyproj import CRS, Transformer
from tests.plugins.conftest import _serve, make_polar, make_utm

import cubegate_plugins

PAGES = Path(cubegate_plugins.__file__).parent / "explorer_page"
VENDORED = PAGES / "vendor"


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.scripts, self.inline = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [given[name] for name in ("src", "href") if given.get(name)]
        if tag == "script":
            self.scripts.append(given.get("src"))
        self.inline += [name for name in given if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_and_all_that_it_names_come_from_this_server_under_a_strict_policy(server, path):
    root = str(server.client.base_url).removesuffix("datasets/")
    page = httpx.get(urljoin(root, path), timeout=60)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    links = Links(page.text)
    assert None not in links.scripts
    assert links.inline == []
    assert len(links.found) >= 4
    for link in links.found:
        if not link.startswith("#"):
            url = urljoin(f"{root}{path[1:]}", link)
            assert url.startswith(root), link
            assert httpx.get(url, timeout=60).status_code == 200, url


def test_files_outside_of_the_page_are_not_served(server):
    root = str(server.client.base_url).removesuffix("/datasets/")
    for name in (
        "explorer/../explorer.py",
        "explorer/..%2Fexplorer.py",
        "explorer/%2e%2e/__init__.py",
        "explorer/",
        "explorer/none.js",
    ):
        answer = httpx.get(f"{root}/{name}", timeout=60)
        assert answer.status_code == 404, name
        assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.head(f"{root}/", timeout=60).status_code == 200
    held = httpx.get(f"{root}/explorer/explorer.css", timeout=60)
    again = httpx.get(
        f"{root}/explorer/explorer.css", headers={"If-None-Match": held.headers["etag"]}, timeout=60
    )
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_vendored_is_unmodified_and_has_its_licence():
    said = [line.split("  ") for line in (VENDORED / "SHA256SUMS").read_text().splitlines()]
    there = {str(file.relative_to(VENDORED)) for file in VENDORED.rglob("*") if file.is_file()}
    assert {name for _, name in said} == there - {"SHA256SUMS", "package.json"}
    for digest, name in said:
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest, name
    versions = yaml.safe_load((VENDORED / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    assert {name.split("/")[0] for name in there if "licen" in name.lower()} == set(versions)


def test_our_own_scripts_set_text_and_evaluate_nothing():
    own = list(PAGES.glob("*.js"))
    assert len(own) > 10
    for file in own:
        said = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3\.org)",
            file.read_text(),
        )
        assert said == [], file.name


@pytest.mark.parametrize(("name", "crs"), [("utm", "EPSG:32611"), ("polar", "EPSG:3413")])
def test_a_projected_cube_is_described(server, cubes, name, crs):
    said = server.ask(f"{name}/description").json()
    x, y = cubes[name].x.values, cubes[name].y.values
    half = abs(x[1] - x[0]) / 2
    box = [x.min() - half, y.min() - half, x.max() + half, y.max() + half]
    assert (said["id"], said["title"], said["members"]) == (name, f"The {name} cube", [])
    assert said["extent"]["native"] == box
    assert said["shape"] == [y.size, x.size]
    assert said["resolution"] == [2 * half, 2 * half]
    assert said["crs"]["name"] == crs
    assert CRS.from_json_dict(said["crs"]["projjson"]).equals(CRS.from_user_input(crs))
    assert said["crs"]["proj"].startswith("+proj=")
    both = [Transformer.from_crs("OGC:CRS84", each, always_xy=True) for each in (crs, said["crs"]["proj"])]
    np.testing.assert_allclose(both[0].transform(-117, 80), both[1].transform(-117, 80), atol=1e-6)
    # each corner of the ring, and all of it inside the box in degrees
    ring = np.array(said["extent"]["outline"])
    corners = Transformer.from_crs(crs, 4326, always_xy=True).transform(
        [box[0], box[2], box[2], box[0]], [box[1], box[1], box[3], box[3]]
    )
    for lon, lat in zip(*corners, strict=True):
        assert np.hypot(ring[:, 0] - lon, ring[:, 1] - lat).min() < 0.01
    west, _, _, north = said["extent"]["lonlat"]
    assert (ring[0] == ring[-1]).all()
    assert west <= ring[:, 0].min() <= west + 0.01
    assert north - 0.01 <= ring[:, 1].max() <= north


def test_variables_are_those_on_the_grid_and_times_are_each_there_once(server, cubes):
    said = server.ask("utm/description").json()
    found = {variable["name"]: variable for variable in said["variables"]}
    assert set(found) == {"displacement", "counts", "quality"}
    assert found["displacement"]["units"] == "m"
    assert (found["displacement"]["timed"], found["quality"]["timed"]) == (True, False)
    assert len(said["time"]["values"]) == 12
    polar = server.ask("polar/description").json()
    dates = sorted(set(cubes["polar"].mid_date.values))
    assert polar["time"]["name"] == "mid_date"
    assert [np.datetime64(text.removesuffix("Z")) for text in polar["time"]["values"]] == dates
    assert len(dates) < cubes["polar"].sizes["mid_date"]
    # each is one that a query takes
    for text in polar["time"]["values"]:
        answer = server.ask("polar/timeseries", x=-230_300, y=-2_010_100, datetime=text).json()
        assert set(answer["time"]) == {text}


def test_further_dimensions_have_the_values_that_select_along_them(server):
    said = server.ask("globe/description").json()
    assert said["crs"]["geographic"] is True
    assert said["extent"]["native"] == [-2.5, -90, 357.5, 90]
    assert said["dimensions"]["level"]["values"] == ["500.0", "850.0"]
    assert said["dimensions"]["member"] == {"size": 3, "units": "", "values": ["0", "1", "2"]}
    assert said["time"]["values"][0] == "2001-02-01T00:00:00Z"
    for level in said["dimensions"]["level"]["values"]:
        for member in said["dimensions"]["member"]["values"]:
            answer = server.ask("globe/timeseries", lon=0, lat=0, level=level, member=member)
            assert len(answer.json()["time"]) == 12


def test_a_cube_without_a_crs_is_described_in_its_own_coordinates(server):
    said = server.ask("plain/description").json()
    assert (said["crs"], said["time"]) == (None, None)
    assert said["extent"] == {"native": [-5, -5, 35, 25], "lonlat": None, "outline": None}
    server.ask("none/description", status=404)


def test_a_combined_cube_is_described_by_its_members(tmp_path, running):
    app_directory = tmp_path / "combined"
    app_directory.mkdir()
    cubes = {"utm": make_utm(), "polar": make_polar()}
    cubes["polar"] = cubes["polar"].rename(v="displacement", mid_date="time")
    app = _serve(app_directory, cubes, "{points: 50}")
    (app_directory / "collections" / "both.yaml").write_text(
        "id: both\ntitle: Both\nsource: {kind: combined, members: [utm, polar]}\n"
    )
    with running(app) as client:
        one, other = (client.get(f"{name}/description").json() for name in cubes)
        said = client.get("both/description").json()
    assert [member["id"] for member in said["members"]] == ["utm", "polar"]
    assert [member["crs"] for member in said["members"]] == ["EPSG:32611", "EPSG:3413"]
    boxes = np.array([one["extent"]["lonlat"], other["extent"]["lonlat"]])
    together = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
    assert said["extent"]["lonlat"] == said["extent"]["native"] == together
    assert said["time"]["values"] == sorted({*one["time"]["values"], *other["time"]["values"]})
    assert said["crs"]["name"] == "OGC:CRS84"


def test_files_of_the_page_are_sent_as_gzip_to_who_takes_it(server):
    root = str(server.client.base_url).removesuffix("/datasets/")
    url = f"{root}/explorer/vendor/ol/dist/ol.js"
    plain = httpx.get(url, headers={"Accept-Encoding": "identity"}, timeout=60)
    small = httpx.get(url, headers={"Accept-Encoding": "gzip, deflate, br"}, timeout=60)
    assert plain.content == small.content == (VENDORED / "ol/dist/ol.js").read_bytes()
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert plain.headers["vary"].split(", ").count("Accept-Encoding") == 1
    assert small.headers["vary"].split(", ").count("Accept-Encoding") == 1
    assert plain.headers["etag"] != small.headers["etag"]
    assert small.headers["content-security-policy"] == plain.headers["content-security-policy"]
    for answer, accepted in ((plain, "identity"), (small, "gzip")):
        headers = {"Accept-Encoding": accepted, "If-None-Match": f'"other", W/{answer.headers["etag"]}'}
        held = httpx.get(url, headers=headers, timeout=60)
        assert (held.status_code, held.content) == (304, b"")
        assert held.headers["etag"] == answer.headers["etag"]
        assert "Accept-Encoding" in held.headers["vary"]
    # what is held as gzip is not what a client without it may go on using
    headers = {"Accept-Encoding": "identity", "If-None-Match": small.headers["etag"]}
    assert httpx.get(url, headers=headers, timeout=60).status_code == 200
    head = httpx.head(url, headers={"Accept-Encoding": "gzip"}, timeout=60)
    assert (head.content, head.headers["content-length"]) == (b"", small.headers["content-length"])


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [("", False), ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.000, *", False), ("*", True), ("*;q=0", False)],
)  # fmt: skip
def test_gzip_is_sent_where_it_is_accepted(server, accepted, taken):
    root = str(server.client.base_url).removesuffix("/datasets/")
    answer = httpx.get(f"{root}/", headers={"Accept-Encoding": accepted}, timeout=60)
    assert ("content-encoding" in answer.headers) == taken
    assert "<title>cubegate</title>" in answer.text


def test_nothing_of_the_data_is_compressed_once_more(server):
    root = str(server.client.base_url)
    for path in ("utm/zarr/displacement/0.0.0", "utm/zarr/.zmetadata", "utm/description"):
        answer = httpx.get(f"{root}{path}", headers={"Accept-Encoding": "gzip"}, timeout=60)
        assert answer.status_code == 200
        assert "content-encoding" not in answer.headers
