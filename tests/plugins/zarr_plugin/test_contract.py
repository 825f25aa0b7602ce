"""The HTTP contract of the Zarr plugin, over real HTTP."""

import gc
import json
import socket
import weakref

import httpx
import pytest
from xpublish.rest import Rest

from cubegate.app import create_app
from cubegate.settings import load_settings
from cubegate_plugins.zarr import ZarrPlugin

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:Both zarr.json"),
    pytest.mark.filterwarnings("ignore:Object at"),
]

VERBATIM_AND_PLAIN = ["zarr", "zarr-plain"]

NOWHERE = [
    "displacement/3.0.0", "displacement/0.2.0", "displacement/0.0", "displacement/0.0.0.0", "displacement/01.0.0",
    "displacement/-1.0.0", "displacement/0.0.+1", "displacement/c/3/0/0", "displacement/c/0/0", "displacement/c",
    "displacement/c/0/0/0/0", "displacement/c/00/0/0", "displacement/c/0.0.0", "displacement/0/0/0", "displacement/c/",
    "displacement/0.0.99999999999999999999999999", "displacement/0.0.\N{ARABIC-INDIC DIGIT ONE}", "displacement/.zgroup",
    "nothing/0.0.0", "nothing/.zarray", "nothing/zarr.json", "nothing", "nothing/", ".gmac", "pam.aux.xml", "0.0.0", "c/0/0/0",
    "displacement/.gmac", "displacement.aux.xml", "a/b/c/d/e", "../granule/zarr.json", "displacement//0.0.0", "quality/.zarray",
    "%00", "%0A", "displacement/0.0.0%0A", ".zmetadata/", "zarr.json/x", "displacement/.zmetadata", "/zarr.json",
]  # fmt: skip


@pytest.mark.parametrize("tree", VERBATIM_AND_PLAIN)
@pytest.mark.parametrize("key", NOWHERE)
def test_keys_that_cannot_exist_are_exactly_404(http, tree, key):
    for method in ("GET", "HEAD"):
        answer = http.request(
            method, httpx.URL(f"{http.base_url}granule/{tree}/{key}"), headers={"Origin": "http://page"}
        )
        assert answer.status_code == 404, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["access-control-allow-origin"]


@pytest.mark.parametrize("dataset", ["nothing", "granule@deadbeef"])
def test_unknown_datasets_are_404(http, dataset):
    assert http.get(f"/{dataset}/zarr/zarr.json").status_code == 404


CONTRACT_KEYS = [
    "granule/zarr/.zmetadata",
    "granule/zarr/displacement/0.0.0",
    "two/zarr/v/0.0",
    "two/zarr-plain/v/c/0/0",
    "two/zarr/",
]


@pytest.mark.parametrize("key", CONTRACT_KEYS)
def test_head_is_get_without_the_body(http, key):
    whole, head = http.get(f"/{key}"), http.head(f"/{key}")
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    for header in ("content-length", "etag", "content-type", "cache-control", "accept-ranges"):
        assert head.headers[header] == whole.headers[header]
    assert whole.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("key", CONTRACT_KEYS)
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)), ("bytes=3-9", slice(3, 10)), ("bytes=5-", slice(5, None)), ("bytes=-4", slice(-4, None)),
        ("bytes=0-999999999", slice(None)), ("bytes=-999999999", slice(None)), ("BYTES=2-3", slice(2, 4)),
    ],
)  # fmt: skip
def test_one_range(http, key, asked, part):
    whole = http.get(f"/{key}").content
    answer = http.get(f"/{key}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[part]
    start, stop, _ = part.indices(len(whole))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    head = http.head(f"/{key}", headers={"Range": asked})
    assert (head.status_code, head.headers["content-length"]) == (206, str(len(answer.content)))


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=999999999-9999999999", "bytes=-0"])
def test_a_range_outside_is_416(http, asked):
    length = len(http.get("/granule/zarr/zarr.json").content)
    answer = http.get("/granule/zarr/zarr.json", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{length}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "bytes=5-2", "bytes=-", "items=0-1", "bytes=a-b", "bytes=0-1-2", ""]
)
def test_other_ranges_get_the_whole(http, asked):
    answer = http.get("/granule/zarr/zarr.json", headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == http.get("/granule/zarr/zarr.json").content


@pytest.mark.parametrize("key", CONTRACT_KEYS)
def test_if_range(http, key):
    etag = http.get(f"/{key}").headers["etag"]
    assert http.get(f"/{key}", headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert http.get(f"/{key}", headers={"Range": "bytes=0-1", "If-Range": other}).status_code == 200


@pytest.mark.parametrize("key", CONTRACT_KEYS)
def test_if_none_match(http, key):
    whole = http.get(f"/{key}")
    etag = whole.headers["etag"]
    assert etag.startswith('"')
    for held in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        for method in ("GET", "HEAD"):
            answer = http.request(method, f"/{key}", headers={"If-None-Match": held, "Range": "bytes=0-1"})
            assert answer.status_code == 304
            assert answer.content == b""
            assert answer.headers["etag"] == etag
            assert answer.headers["cache-control"] == whole.headers["cache-control"]
    assert http.get(f"/{key}", headers={"If-None-Match": '"other"'}).status_code == 200


def test_every_entity_has_a_tag_of_its_own(http):
    keys = [
        ".zmetadata",
        "zarr.json",
        "displacement/0.0.0",
        "displacement/1.0.0",
        "sparse/1.0.0",
        "displacement/.zarray",
    ]
    tags = [
        http.head(f"/granule/{tree}/{key}").headers["etag"] for tree in VERBATIM_AND_PLAIN for key in keys
    ]
    assert len(set(tags)) == len(tags)
    same = [http.head(f"/granule/zarr/displacement/{key}").headers["etag"] for key in ("1.0.2", "c/1/0/2")]
    assert same[0] == same[1]


def test_the_tag_of_a_native_chunk_follows_its_content(http, files):
    first = http.get("/two/zarr/v/0.0")
    chunk = files / "two" / "v" / "0.0"
    kept = chunk.read_bytes()
    try:
        chunk.write_bytes(http.get("/two/zarr/v/1.1").content)
        second = http.get("/two/zarr/v/0.0", headers={"If-None-Match": first.headers["etag"]})
        assert second.status_code == 200
        assert second.headers["etag"] != first.headers["etag"]
    finally:
        chunk.write_bytes(kept)
    assert http.get("/two/zarr/v/0.0").headers["etag"] == first.headers["etag"]


def version_of(http, dataset):
    detail = http.get(f"/{dataset}@0/zarr/zarr.json").json()["detail"]
    return detail.split("'")[-2]


def test_caching_is_forever_on_a_version_and_short_without(http):
    version = version_of(http, "granule")
    for key in ("zarr.json", "displacement/0.0.0", "sparse/2.1.1", ""):
        current, pinned = http.get(f"/granule/zarr/{key}"), http.get(f"/granule@{version}/zarr/{key}")
        assert pinned.content == current.content
        assert pinned.headers["etag"] == current.headers["etag"]
        assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert current.headers["cache-control"] == "public, max-age=60, must-revalidate"
    native = http.get(f"/two@{version_of(http, 'two')}/zarr/v/0.0")
    assert native.status_code == 200
    assert "immutable" not in native.headers["cache-control"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "OPTIONS"])
@pytest.mark.parametrize("key", ["", "/", "/zarr.json", "/displacement/0.0.0", "/nothing"])
def test_other_methods_are_405(http, method, key):
    answer = http.request(method, f"/granule/zarr{key}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_browser_may_ask_for_ranges_and_see_the_answer(http):
    preflight = http.options(
        "/granule/zarr/zarr.json",
        headers={
            "Origin": "http://page",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        },
    )
    assert preflight.status_code == 200
    assert "range" in preflight.headers["access-control-allow-headers"].lower()
    answer = http.get("/granule/zarr/zarr.json", headers={"Origin": "http://page", "Range": "bytes=0-3"})
    assert answer.headers["access-control-allow-origin"]
    assert "Content-Range" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "path", ["granule/zarr", "granule/zarr-plain", "granule/zarr/quality", "granule/zarr/big%20endian"]
)
def test_groups_and_arrays_without_a_slash_lead_to_their_listing(http, path):
    for method in ("GET", "HEAD"):
        answer = http.request(method, f"/{path}", follow_redirects=True)
        assert answer.status_code == 200
        assert str(answer.url).endswith(f"{path}/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_head_reads_nothing_where_the_length_is_known(http, files):
    keys = ["displacement/1.1.2", "displacement/c/1/1/2", "big%20endian/1.1.2"]
    lengths = {(tree, key): None for tree in VERBATIM_AND_PLAIN for key in keys}
    # opening asks the granule about its fill
    assert http.get("/lost/zarr/.zmetadata").status_code == 200
    (files / "lost.h5").rename(files / "moved.h5")
    try:
        for tree, key in lengths:
            answer = http.head(f"/lost/{tree}/{key}", headers={"Range": "bytes=2-"})
            assert answer.status_code == 206
            lengths[tree, key] = int(answer.headers["content-range"].partition("/")[2])
            assert http.get(f"/lost/{tree}/{key}").status_code == 502
    finally:
        (files / "moved.h5").rename(files / "lost.h5")
    for (tree, key), length in lengths.items():
        assert len(http.get(f"/lost/{tree}/{key}").content) == length


def test_what_is_remembered_of_a_key_ends_with_its_version(tmp_path, files, serving, monkeypatch):
    (tmp_path / "references.json").write_bytes((files / "granule.json").read_bytes())
    collection = "id: cube\nsource: {{kind: kerchunk, href: references.json}}\ncrs: {}\n"
    (tmp_path / "cube.yaml").write_text(collection.format("EPSG:32611"))
    (tmp_path / "cubegate.yaml").write_text(
        f"upstreams: {{'file://{files}/': {{}}, 'file://{tmp_path}/': {{}}}}\ncollections: [cube.yaml]\n"
    )
    app = create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})
    keys = ["zarr/displacement/0.0.0", "zarr/displacement/.zattrs", "zarr-plain/displacement/c/0/0/0"]

    def read(url):
        # what was read before is remembered, and what is remembered is read
        monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
        found = [[httpx.get(f"{url}/datasets/cube/{key}") for key in keys] for _ in range(3)]
        assert {answer.status_code for answers in found for answer in answers} == {200}
        for again in found[1:]:
            assert [each.content for each in again] == [each.content for each in found[0]]
            assert [each.headers["etag"] for each in again] == [each.headers["etag"] for each in found[0]]
        return found[0]

    def look_now(url):
        monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 0.0)
        assert httpx.get(f"{url}/datasets/cube/zarr/zarr.json").status_code == 200

    with serving(app) as url:
        before = read(url)
        old = weakref.ref(app.state.services.catalog.held("cube"))
        references = json.loads((files / "granule.json").read_text())
        references["refs"]["displacement/0.0.0"] = references["refs"]["displacement/1.0.0"]
        written = tmp_path / "written.json"
        written.write_text(json.dumps(references))
        written.replace(tmp_path / "references.json")
        look_now(url)
        after = read(url)
        (tmp_path / "cube.yaml").write_text(collection.format("EPSG:32612"))
        look_now(url)
        described_anew = read(url)
        gc.collect()
        assert old() is None
    for number, changed in enumerate((True, False, True)):
        assert (before[number].content != after[number].content) == changed
        assert (before[number].headers["etag"] != after[number].headers["etag"]) == changed
    assert after[0].headers["etag"] == described_anew[0].headers["etag"]
    assert after[1].content != described_anew[1].content
    assert after[1].headers["etag"] != described_anew[1].headers["etag"]


def test_the_plugin_works_on_a_plain_xpublish_server_and_forgets_what_is_too_much(
    files, serving, monkeypatch
):
    monkeypatch.setattr("cubegate_plugins.zarr.MAX_RESOURCES", 2)
    plugin = ZarrPlugin()
    ours = create_app(load_settings(files / "cubegate.yaml", {}), {})
    app = Rest(plugins={"zarr": plugin}).app
    app.state.services = ours.state.services
    with (
        serving(ours) as url,
        serving(app) as plain_url,
        httpx.Client(base_url=f"{url}/datasets") as http,
        httpx.Client(base_url=f"{plain_url}/datasets") as plain,
    ):
        for key in (*CONTRACT_KEYS, "granule/zarr", "granule/zarr/nothing", "nothing/zarr/zarr.json"):
            for method in ("GET", "HEAD"):
                for headers in ({}, {"Range": "bytes=1-2"}, {"If-None-Match": "*"}):
                    answer = plain.request(method, f"/{key}", headers=headers)
                    expected = http.request(method, f"/{key}", headers=headers)
                    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
                    for name in ("etag", "content-type", "content-length", "content-range", "location"):
                        assert answer.headers.get(name) == expected.headers.get(name)
    assert len(plugin._verbatim._resources) == 2


def test_openapi_describes_both_trees(server):
    paths = httpx.get(f"{server}/openapi.json").json()["paths"]
    for tree in VERBATIM_AND_PLAIN:
        operation = paths[f"/datasets/{{dataset_id}}/{tree}/{{key}}"]["get"]
        assert {"200", "206", "304", "404", "416", "502", "503", "504"} <= set(operation["responses"])
        assert [parameter["name"] for parameter in operation["parameters"]] == ["dataset_id", "key"]


def test_an_upstream_that_hangs_is_504_within_the_deadline(files, tmp_path, serving):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        references = json.loads((files / "granule.json").read_text())
        written = json.dumps(references).replace(f'"{files}/', f'"{origin}')
        (tmp_path / "references.json").write_text(written)
        (tmp_path / "hanging.yaml").write_text(
            f"id: hanging\nsource: {{kind: kerchunk, href: 'file://{tmp_path}/references.json'}}\n"
        )
        (tmp_path / "cubegate.yaml").write_text(
            f"upstreams: {{'file://{tmp_path}/': {{}}, '{origin}': {{}}}}\n"
            "collections: [hanging.yaml]\nlimits: {deadline: 500ms}\n"
        )
        app = create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})
        with serving(app) as url:
            answer = httpx.get(f"{url}/datasets/hanging/zarr/displacement/0.0.0", timeout=30)
            assert answer.status_code == 504
            assert answer.headers["retry-after"]
            assert origin not in answer.text
