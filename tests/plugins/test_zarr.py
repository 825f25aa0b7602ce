"""The Zarr plugin over real HTTP, against the files that its cubes are made of."""

import json
import shutil
import socket
import subprocess

import fsspec
import h5py
import httpx
import numpy as np
import pytest
import xarray as xr
import zarr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.settings import load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:Both zarr.json"),
    pytest.mark.filterwarnings("ignore:Object at"),
]

SHAPE, CHUNKS = (3, 50, 70), (1, 32, 32)
COMBINATIONS = [
    (zarr_format, consolidated) for zarr_format in (2, 3, None) for consolidated in (True, False, None)
]
VERBATIM_AND_PLAIN = ["zarr", "zarr-plain"]


def write_granule(path):
    """An HDF5 file with the features that matter: shuffle, byte orders, holes, strings, a CRS, a group."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "granule"
        for name, values in (
            ("time", np.array([10, 20, 40], "<i4")),
            ("y", np.arange(50, dtype="f8")[::-1] * 30 + 3_000_000.0),
            ("x", np.arange(70, dtype="f8") * 30 + 500_000.0),
        ):
            dataset = file.create_dataset(name, data=values)
            dataset.make_scale(name)
        file["time"].attrs["units"] = "days since 2020-01-01"
        file["time"].attrs["calendar"] = "standard"
        for name in ("x", "y"):
            file[name].attrs["standard_name"] = f"projection_{name}_coordinate"
            file[name].attrs["units"] = "m"
        mapping = file.create_dataset("crs", data=np.int32(0))
        mapping.attrs["crs_wkt"] = CRS.from_epsg(32611).to_wkt()
        mapping.attrs["grid_mapping_name"] = "transverse_mercator"

        values = rng.normal(size=SHAPE).astype("f4")
        values[:, 5:9, 5:9] = 0.0
        values[:, 0, 0] = -9999.0
        displacement = file.create_dataset(
            "displacement", data=values, chunks=CHUNKS, shuffle=True, compression="gzip", fillvalue=-9999.0
        )
        displacement.attrs["_FillValue"] = np.array([-9999.0], "f4")
        displacement.attrs["units"] = "m"
        plain = file.create_dataset("big endian", data=rng.integers(-5, 5, SHAPE), dtype=">i2", chunks=CHUNKS)
        sparse = file.create_dataset(
            "sparse", SHAPE, "<f8", chunks=CHUNKS, shuffle=True, compression="gzip", fillvalue=7.5
        )
        sparse[0, :32, :32] = rng.normal(size=(32, 32))
        for variable in (displacement, plain, sparse):
            variable.attrs["grid_mapping"] = "crs"
            for number, name in enumerate(("time", "y", "x")):
                variable.dims[number].attach_scale(file[name])
        group = file.create_group("quality")
        group.create_dataset("flags", data=np.arange(12, dtype="u1").reshape(3, 4))


def write_native(path):
    dataset = xr.Dataset(
        {
            "v": (("t", "x"), np.arange(24, dtype="i2").reshape(4, 6)),
            "name": (("t",), np.array(["a", "", "long" * 9, "d"], dtype=object)),
            "scalar": ((), 2.5),
            "masked": (("t",), np.array([1.0, np.nan, 3.0, 0.0])),
        },
        {"x": np.arange(6) * 2.0},
        {"title": "native"},
    )
    dataset.v.attrs["valid_max"] = float("nan")
    encoding = {"v": {"chunks": (2, 4)}, "masked": {"_FillValue": -1.0, "dtype": "f4"}}
    dataset.to_zarr(path / "two", zarr_format=2, encoding=encoding, consolidated=True)
    dataset.to_zarr(
        path / "three",
        zarr_format=3,
        encoding={"v": {"chunks": (1, 2), "shards": (2, 4)}, "masked": {"_FillValue": -1.0, "dtype": "f4"}},
        consolidated=False,
    )
    return dataset


def collection(directory, name, kind, href):
    (directory / f"{name}.yaml").write_text(f"id: {name}\nsource: {{kind: {kind}, href: '{href}'}}\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory, scan_granule):
    root = tmp_path_factory.mktemp("cubes")
    write_granule(root / "granule.h5")
    shutil.copy(root / "granule.h5", root / "lost.h5")
    write_native(root)
    for name in ("granule", "lost"):
        references = scan_granule(root / f"{name}.h5", inline_threshold=0)
        (root / f"{name}.json").write_text(json.dumps(references))
    collections = root / "collections"
    collections.mkdir()
    collection(collections, "granule", "kerchunk", f"file://{root}/granule.json")
    collection(collections, "lost", "kerchunk", f"file://{root}/lost.json")
    collection(collections, "two", "zarr", f"file://{root}/two")
    collection(collections, "three", "zarr", f"file://{root}/three")
    (root / "cubegate.yaml").write_text(
        f"upstreams: {{'file://{root}/': {{}}}}\ncollections: ['collections/*.yaml']\n"
    )
    return root


@pytest.fixture(scope="module")
def server(files, serving):
    app = create_app(load_settings(files / "cubegate.yaml", {}), {})
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=f"{server}/datasets") as client:
        yield client


@pytest.fixture(scope="module")
def granule(files):
    with h5py.File(files / "granule.h5") as file:
        yield file


def encoded_chunk(file, path, chunk):
    """The bytes of one chunk as they lie in the HDF5 file."""
    dataset = file[path]
    info = dataset.id.get_chunk_info_by_coord(
        tuple(n * c for n, c in zip(chunk, dataset.chunks, strict=True))
    )
    return dataset.id.read_direct_chunk(info.chunk_offset)[1]


@pytest.mark.parametrize(("zarr_format", "consolidated"), COMBINATIONS)
@pytest.mark.parametrize("tree", VERBATIM_AND_PLAIN)
def test_xarray_reads_what_is_in_the_granule(server, granule, tree, zarr_format, consolidated):
    url = f"{server}/datasets/granule/{tree}"
    opened = xr.open_zarr(url, zarr_format=zarr_format, consolidated=consolidated, chunks=None)
    assert {"displacement", "big endian", "sparse", "crs", "x", "y", "time"} <= set(opened.variables)
    raw = granule["displacement"][...]
    np.testing.assert_array_equal(opened.displacement, np.where(raw == -9999, np.nan, raw))
    np.testing.assert_array_equal(opened["big endian"], granule["big endian"][...])
    np.testing.assert_array_equal(opened.x, granule["x"][...])
    assert opened.time.values.astype("M8[D]").tolist() == [
        np.datetime64("2020-01-01", "D").item() + np.timedelta64(days, "D").item() for days in (10, 20, 40)
    ]
    quality = xr.open_zarr(
        url, group="quality", zarr_format=zarr_format, consolidated=consolidated, chunks=None
    )
    np.testing.assert_array_equal(quality.flags, granule["quality/flags"][...])


@pytest.mark.parametrize(("zarr_format", "consolidated"), COMBINATIONS)
@pytest.mark.parametrize("tree", VERBATIM_AND_PLAIN)
def test_zarr_python_reads_every_raw_value(server, granule, tree, zarr_format, consolidated):
    group = zarr.open_group(
        f"{server}/datasets/granule/{tree}", mode="r", zarr_format=zarr_format, use_consolidated=consolidated
    )
    for path in ("displacement", "big endian", "sparse", "x", "y", "time", "crs", "quality/flags"):
        np.testing.assert_array_equal(group[path][...], granule[path][...])
    names = [name for name, _ in group.members(max_depth=None)]
    assert {"displacement", "big endian", "quality", "quality/flags"} <= set(names)
    assert group.attrs["title"] == "granule"


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("tree", VERBATIM_AND_PLAIN)
@pytest.mark.parametrize("cube", [("two", 2), ("two", 3), ("three", 3)])
def test_native_stores_read_as_they_do_from_disk(server, files, cube, tree, consolidated):
    name, zarr_format = cube
    url = f"{server}/datasets/{name}/{tree}"
    opened = xr.open_zarr(url, zarr_format=zarr_format, consolidated=consolidated, chunks=None)
    xr.testing.assert_equal(opened.load(), xr.open_zarr(files / name, consolidated=False, chunks=None).load())
    assert opened.attrs == {"title": "native"}
    assert np.isnan(opened.v.attrs["valid_max"])


def test_plain_v2_of_a_sharded_store(server, files):
    opened = xr.open_zarr(f"{server}/datasets/three/zarr-plain", zarr_format=2, chunks=None)
    xr.testing.assert_equal(
        opened.load(), xr.open_zarr(files / "three", consolidated=False, chunks=None).load()
    )


def test_verbatim_v2_leaves_a_sharded_array_out_and_says_why(server, http):
    opened = xr.open_zarr(f"{server}/datasets/three/zarr", zarr_format=2, chunks=None)
    assert "v" not in opened
    assert "masked" in opened
    for key in ("v/.zarray", "v/.zattrs", "v/0.0"):
        answer = http.get(f"/three/zarr/{key}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "sharded" in answer.json()["detail"]
    assert "sharded" in http.get("/three/zarr/").text


@pytest.mark.parametrize("key", ["displacement/1.0.2", "displacement/c/1/0/2"])
def test_chunks_are_the_bytes_of_the_file(http, granule, key):
    answer = http.get(f"/granule/zarr/{key}", headers={"Accept-Encoding": "gzip, br"})
    assert answer.status_code == 200
    assert answer.content == encoded_chunk(granule, "displacement", (1, 0, 2))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "content-encoding" not in answer.headers


def test_plain_chunks_are_the_values_in_stored_byte_order(http, granule):
    answer = http.get("/granule/zarr-plain/big%20endian/2.1.1")
    block = np.zeros(CHUNKS, ">i2")
    part = granule["big endian"][2:3, 32:64, 32:64]
    block[:, : part.shape[1], : part.shape[2]] = part
    received = np.frombuffer(answer.content, ">i2").reshape(CHUNKS)
    np.testing.assert_array_equal(received[:, : part.shape[1], : part.shape[2]], part)


@pytest.mark.parametrize("tree", VERBATIM_AND_PLAIN)
@pytest.mark.parametrize("key", ["sparse/2.1.2", "sparse/c/2/1/2"])
def test_unallocated_chunks_are_encoded_fill(http, tree, key):
    answer = http.get(f"/granule/{tree}/{key}")
    assert answer.status_code == 200
    if tree == "zarr-plain":
        np.testing.assert_array_equal(np.frombuffer(answer.content, "<f8"), np.full(32 * 32, 7.5))
    assert answer.content == http.get(f"/granule/{tree}/sparse/1.0.0").content


def test_scalar_chunk_keys(http):
    assert http.get("/two/zarr/scalar/0").content == http.get("/two/zarr/scalar/c").content
    assert http.get("/two/zarr-plain/scalar/c").content == np.float64(2.5).tobytes()
    for key in ("scalar/c/0", "scalar/1", "scalar/0.0", "scalar/c/"):
        assert http.get(f"/two/zarr/{key}").status_code == 404


NOWHERE = [
    "displacement/3.0.0", "displacement/0.2.0", "displacement/0.0", "displacement/0.0.0.0", "displacement/01.0.0",
    "displacement/-1.0.0", "displacement/0.0.+1", "displacement/c/3/0/0", "displacement/c/0/0", "displacement/c",
    "displacement/c/0/0/0/0", "displacement/c/00/0/0", "displacement/c/0.0.0", "displacement/0/0/0", "displacement/c/",
    "displacement/0.0.99999999999999999999999999", "displacement/0.0.\N{ARABIC-INDIC DIGIT ONE}", "displacement/.zgroup",
    "nothing/0.0.0", "nothing/.zarray", "nothing/zarr.json", "nothing", "nothing/", ".gmac", "pam.aux.xml", "0.0.0", "c/0/0/0",
    "displacement/.gmac", "displacement.aux.xml", "a/b/c/d/e", "../granule/zarr.json", "displacement//0.0.0", "quality/.zarray",
    "%00", ".zmetadata/", "zarr.json/x", "displacement/.zmetadata", "/zarr.json",
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


def test_lost_granules_are_errors_but_never_fill(http, files, server):
    known = http.get("/lost/zarr/displacement/0.0.0").headers["etag"]
    (files / "lost.h5").rename(files / "moved.h5")
    try:
        for key in ("displacement/2.1.1", "displacement/c/2/1/1"):
            for tree in VERBATIM_AND_PLAIN:
                answer = http.get(f"/lost/{tree}/{key}", headers={"Origin": "http://page"})
                assert answer.status_code == 502
                assert answer.headers["retry-after"]
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["access-control-allow-origin"]
                assert str(files) not in answer.text
        # what the client holds is still right, and an unallocated chunk needs no granule
        held = http.get("/lost/zarr/displacement/0.0.0", headers={"If-None-Match": known})
        assert held.status_code == 304
        tag = known
        assert http.get("/lost/zarr/displacement/2.1.1", headers={"If-None-Match": tag}).status_code == 502
        assert http.get("/lost/zarr/sparse/2.1.1").status_code == 200
        assert http.get("/lost/zarr/zarr.json").status_code == 200
    finally:
        (files / "moved.h5").rename(files / "lost.h5")
    assert http.get("/lost/zarr/displacement/2.1.1").status_code == 200


def test_listings_lead_to_every_child(server, http):
    filesystem = fsspec.filesystem("http", skip_instance_cache=True, use_listings_cache=False)
    base = f"{server}/datasets/granule/zarr"
    for root in (base, f"{base}/"):
        names = {found.removeprefix(base).strip("/") for found in filesystem.ls(root, detail=False)}
        assert {
            ".zgroup",
            ".zattrs",
            ".zmetadata",
            "zarr.json",
            "displacement",
            "big endian",
            "quality",
        } <= names
    arrays = filesystem.ls(f"{base}/displacement/", detail=False)
    assert sorted(found.rpartition("/")[2] for found in arrays) == [".zarray", ".zattrs", "zarr.json"]
    kinds = {entry["name"].removeprefix(f"{base}/"): entry["type"] for entry in filesystem.ls(f"{base}/")}
    assert kinds["quality/"] == "directory"
    assert kinds["zarr.json"] == "file"
    assert http.get("/granule/zarr/").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["granule/zarr", "granule/zarr-plain", "granule/zarr/quality", "granule/zarr/big%20endian"]
)
def test_groups_and_arrays_without_a_slash_lead_to_their_listing(http, path):
    for method in ("GET", "HEAD"):
        answer = http.request(method, f"/{path}", follow_redirects=True)
        assert answer.status_code == 200
        assert str(answer.url).endswith(f"{path}/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


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
        collection(tmp_path, "hanging", "kerchunk", f"file://{tmp_path}/references.json")
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


gdal = pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL is not installed")


@gdal
@pytest.mark.gdal
@pytest.mark.parametrize("name", ["displacement", "sparse"])
def test_gdal_reads_values_and_crs_of_the_plain_tree(server, granule, tmp_path, name):
    source = f'ZARR:"/vsicurl/{server}/datasets/granule/zarr-plain":/{name}'
    described = subprocess.run(
        ["gdalmdiminfo", f'ZARR:"/vsicurl/{server}/datasets/granule/zarr-plain"'],
        check=True,
        capture_output=True,
        text=True,
    )
    assert f'"{name}"' in described.stdout
    information = subprocess.run(
        ["gdalinfo", "-json", f"{source}:1"], check=True, capture_output=True, text=True
    )
    found = json.loads(information.stdout)
    assert found["size"] == [70, 50]
    assert CRS.from_wkt(found["coordinateSystem"]["wkt"]).to_epsg() == 32611
    assert found["geoTransform"] == [500_000.0 - 15, 30, 0, 3_000_000.0 + 49 * 30 + 15, 0, -30]
    subprocess.run(["gdal_translate", "-q", "-of", "ENVI", f"{source}:1", str(tmp_path / "band")], check=True)
    values = np.fromfile(tmp_path / "band", granule[name].dtype).reshape(50, 70)
    np.testing.assert_array_equal(values, granule[name][1])
