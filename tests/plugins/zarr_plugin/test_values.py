"""What clients read through the Zarr plugin, against the files that its cubes are made of."""

import json
import shutil
import subprocess

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from pyproj import CRS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:Both zarr.json"),
    pytest.mark.filterwarnings("ignore:Object at"),
]

CHUNKS = (1, 32, 32)
COMBINATIONS = [
    (zarr_format, consolidated) for zarr_format in (2, 3, None) for consolidated in (True, False, None)
]
VERBATIM_AND_PLAIN = ["zarr", "zarr-plain"]


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
