"""Cubes by DAP2, read by netCDF-C, pydap and xarray, against what h5py and xarray read from the files."""

import base64
import contextlib
import hashlib
import json
import shutil
import struct
import subprocess
import warnings
from html.parser import HTMLParser
from types import SimpleNamespace

import h5py
import httpx
import netCDF4
import numpy as np
import pytest
import rasterio
import xarray as xr
from pydap.client import open_url

from cubegate.app import create_app
from cubegate.dap import data
from cubegate.dap.constraint import Part
from cubegate.settings import load_settings

SHAPE = (9, 40, 200)
STORED = {
    "height": ("f4", {"units": "m"}, ("time", "y", "x")),
    "speed": ("i2", {"_FillValue": -32767, "scale_factor": 0.5, "add_offset": 10.0}, ("time", "y", "x")),
    "quality": ("u1", {"_FillValue": 255}, ("time", "y", "x")),
    "sign": ("i1", {"_FillValue": -128, "valid_range": [-100, 100]}, ("y", "x")),
    "count": ("u2", {}, ("y", "x")),
    "many": ("u4", {}, ("y", "x")),
    "id": ("i8", {"_FillValue": -(2**63)}, ("time",)),
    "huge": ("i8", {}, ("time", "y", "x")),
    "lost": ("i8", {}, ("time",)),
    "moment": ("i8", {"_FillValue": -(2**63), "units": "nanoseconds since 1970-01-01"}, ("time",)),
    "pairs": ("f8", {"long_name": 'the "pairs" of \\ two'}, ("time", "pair")),
    "version": ("u1", {}, ()),
}


def write_file(path):
    random = np.random.default_rng(21)
    sizes = dict(zip(("time", "y", "x", "pair", "letters"), (*SHAPE, 2, 3), strict=True))
    with netCDF4.Dataset(path, "w") as file:
        file.title = "Heights of a file"
        for name, size in sizes.items():
            file.createDimension(name, size)
        for name, dtype, units in (
            ("time", "i8", "seconds since 2020-01-01"),
            ("y", "f8", "m"),
            ("x", "f8", "m"),
        ):
            variable = file.createVariable(name, dtype, (name,))
            variable.units = units
            variable[:] = (
                np.arange(sizes[name]) * 100_000_007 if name == "time" else np.arange(sizes[name]) * 30.0
            )
        for name, (dtype, attributes, dims) in STORED.items():
            shape = tuple(sizes[dim] for dim in dims)
            fill = attributes.get("_FillValue", False)
            variable = file.createVariable(
                name,
                dtype,
                dims,
                zlib=bool(dims),
                chunksizes=tuple(min(7, size) for size in shape) or None,
                fill_value=fill,
            )
            variable.set_auto_maskandscale(False)
            variable.setncatts({key: value for key, value in attributes.items() if key != "_FillValue"})
            variable[...] = make_values(random, np.dtype(dtype), shape, name)
        code = file.createVariable("code", "S1", ("time", "letters"))
        code[:] = np.array([f"S{number}" for number in range(SHAPE[0])], "S3").view("S1").reshape(-1, 3)


def make_values(random, dtype, shape, name):
    if name in ("huge", "lost"):
        return np.arange(np.prod(shape)).reshape(shape) + 2**53
    if name == "moment":
        return np.array([-(2**63), *(1_600_000_000_123_456_000 + 10**14 * np.arange(shape[0] - 1))])
    if dtype.kind == "f":
        values = random.normal(size=shape).astype(dtype)
        values[..., :2] = np.nan if name == "height" else 0.1
        return values
    limits = np.iinfo(dtype)
    largest = min(limits.max, 2**53)
    return random.integers(max(limits.min, -largest), largest, shape, dtype=dtype, endpoint=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("dap") / "heights.nc"
    write_file(path)
    return path


@pytest.fixture(scope="module")
def start(file, scan_granule, running, tmp_path_factory):
    """Serve a file with some limits; gives the client of the datasets."""
    with contextlib.ExitStack() as stack:

        def start(limits="{}", file=file):
            root = tmp_path_factory.mktemp("configuration")
            (root / "heights.json").write_text(json.dumps(scan_granule(file, inline_threshold=0)), "utf-8")
            (root / "heights.yaml").write_text("id: heights\nsource: {kind: kerchunk, href: heights.json}\n")
            (root / "all.yaml").write_text("id: all\nsource: {kind: combined, members: [heights]}\n")
            prefixes = "".join(f"'{each.as_uri()}/': {{}}, " for each in (root, file.parent))
            (root / "cubegate.yaml").write_text(
                f"upstreams: {{{prefixes}}}\ncollections: [heights.yaml, all.yaml]\nlimits: {limits}\n"
            )
            return stack.enter_context(running(create_app(load_settings(root / "cubegate.yaml", {}), {})))

        yield start


@pytest.fixture(scope="module")
def client(start):
    return start()


@pytest.fixture(scope="module")
def address(client):
    return f"{client.base_url}heights/opendap"


def stored(file, name):
    with h5py.File(file) as opened:
        return opened[name][...]


READ = [name for name in STORED if name not in ("huge", "lost", "moment")]


@pytest.mark.parametrize("name", [*READ, "time", "x", "y"])
def test_netcdf_reads_what_is_stored(file, address, name):
    expected = stored(file, name)
    with netCDF4.Dataset(address) as opened:
        opened.set_auto_maskandscale(False)
        read = np.asarray(opened[name][...]).reshape(expected.shape)
    if expected.dtype == np.uint8 and expected.ndim:
        # netCDF-C has them as signed, and `_Unsigned` tells
        read = read.view(np.uint8)
    assert np.array_equal(read.astype(expected.dtype), expected, equal_nan=expected.dtype.kind == "f")
    assert np.array_equal(read, expected, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("name", READ)
def test_pydap_reads_what_is_stored(file, address, name):
    expected = stored(file, name)
    opened = open_url(address, protocol="dap2")
    read = opened[name]
    read = read.array if hasattr(read, "array") else read
    read = np.asarray(read.data[...] if expected.ndim else read.data)
    assert np.array_equal(read, expected, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("slabs", [
    (slice(1, 9, 3), slice(5, 38, 7), slice(3, 170, 9)),
    (slice(4, 5), slice(0, 40), slice(199, 200)),
    (slice(0, 9), slice(39, 40, 2), slice(0, 200, 199)),
])  # fmt: skip
@pytest.mark.parametrize("name", ["height", "speed", "quality"])
def test_strides_are_read_as_start_stride_stop(file, address, name, slabs):
    expected = stored(file, name)[slabs]
    with netCDF4.Dataset(address) as opened:
        opened.set_auto_maskandscale(False)
        read = np.asarray(opened[name][slabs])
    read = read.view(np.uint8) if name == "quality" else read
    assert np.array_equal(read, expected, equal_nan=expected.dtype.kind == "f")
    grid = open_url(address, protocol="dap2")[name]
    assert np.array_equal(np.asarray(grid.array[slabs].data), expected, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("engine", ["netcdf4", "pydap"])
def test_xarray_decodes_what_it_decodes_of_the_file(file, address, engine):
    with (
        xr.open_dataset(file) as expected,
        warnings.catch_warnings(action="ignore"),
        xr.open_dataset(address, engine=engine, drop_variables=["huge"]) as opened,
    ):
        assert set(opened.variables) == set(expected.variables) - {"huge", "lost"}
        for name in set(expected.variables) - {"huge", "lost", "code"}:
            # 64-bit integers are doubles, and floats whose fill value is named are as wide
            xr.testing.assert_equal(opened[name].load().variable, expected[name].load().variable)
        assert [
            str(code, "ascii") if isinstance(code, bytes) else code for code in opened["code"].values
        ] == [f"S{number}" for number in range(SHAPE[0])]
        assert opened.attrs["title"] == "Heights of a file"


def test_the_attributes_are_those_of_the_file(address):
    with netCDF4.Dataset(address) as opened:
        opened.set_auto_maskandscale(False)
        assert np.isnan(opened["height"]._FillValue)
        assert opened["height"].units == "m"
        assert (opened["speed"]._FillValue, opened["speed"].scale_factor, opened["speed"].add_offset) == (
            -32767,
            0.5,
            10,
        )
        assert opened["speed"]._FillValue.dtype == np.int16
        assert opened["sign"].valid_range.tolist() == [-100, 100]
        assert opened["pairs"].long_name == 'the "pairs" of \\ two'
        assert opened["id"]._FillValue == -(2.0**63)
        assert "_FillValue" not in opened["x"].ncattrs()
        assert opened["time"].units == "seconds since 2020-01-01"


def test_large_variables_are_grids_and_small_ones_are_not(client):
    text = client.get("heights/opendap.dds").text
    grid = "Grid {\n      ARRAY:\n        Float32 height[time = 9][y = 40][x = 200];\n      MAPS:\n"
    assert grid in text
    assert "    Int16 sign[y = 40][x = 200];\n" in text
    assert "    Float64 pairs[time = 9][pair = 2];\n" in text
    assert "    String code[time = 9];\n" in text
    assert text.endswith("} heights;\n")


def test_a_constraint_shapes_the_structure(client):
    asked = "heights/opendap.dds?speed[0:2:8][1][2:4],height.y[0:1:3],height.height[0][0][0]"
    assert client.get(asked).text == (
        "Dataset {\n    Grid {\n      ARRAY:\n        Int16 speed[time = 5][y = 1][x = 3];\n      MAPS:\n"
        "        Float64 time[time = 5];\n        Float64 y[y = 1];\n        Float64 x[x = 3];\n    } speed;\n"
        "    Structure {\n        Float32 height[time = 1][y = 1][x = 1];\n        Float64 y[y = 4];\n    } height;\n"
        "} heights;\n"
    )


def test_values_are_xdr(file, client):
    plain = client.get("heights/opendap.dods?quality[0][0][0:1:4],sign[0][0:1:2],code[0:1],version,x[0:1]")
    encoded = client.get(
        "heights/opendap.dods?quality%5B0%5D%5B0%5D%5B0:1:4%5D,sign%5B0%5D%5B0:1:2%5D,code[0:1],version,x[0:1]"
    )
    assert encoded.content == plain.content
    head, _, values = plain.content.partition(b"\nData:\n")
    assert head.startswith(b"Dataset {\n")
    quality, sign, time, y, x = (stored(file, name) for name in ("quality", "sign", "time", "y", "x"))
    expected = struct.pack(">2I", 5, 5) + quality[0, 0, :5].tobytes() + bytes(3)
    expected += (
        struct.pack(">2Id", 1, 1, time[0])
        + struct.pack(">2Id", 1, 1, y[0])
        + struct.pack(">2I5d", 5, 5, *x[:5])
    )
    expected += struct.pack(">2I3i", 3, 3, *sign[0, :3])
    expected += struct.pack(">I", 2) + b"".join(struct.pack(">I4s", 2, text) for text in (b"S0", b"S1"))
    expected += struct.pack(">i", stored(file, "version")) + struct.pack(">2I2d", 2, 2, *x[:2])
    assert values == expected
    assert plain.headers["content-description"] == "dods_data"
    assert plain.headers["xdap"] == "2.0"


def test_text_has_the_values_with_their_indices(file, client):
    sign = stored(file, "sign")
    text = client.get("heights/opendap.ascii?sign[3:2:5][0:9:18],code[8]").text
    assert text.partition("-" * 45 + "\n")[2] == (
        f"sign[2][3]\n[0], {', '.join(map(str, sign[3, 0:19:9]))}\n[1], {', '.join(map(str, sign[5, 0:19:9]))}\n\n"
        'code[1]\n"S8"\n\n'
    )


@pytest.mark.parametrize(("constraint", "said"), [
    ("height[0:1:9][0][0]", "goes beyond dimension 'time', whose last index is 8"),
    ("height[-1][0][0]", "is no part of a dimension"),
    ("height[3:1:2][0][0]", "ends before it starts"),
    ("height[0:0:2][0][0]", "The stride of [0:0:2] is 0"),
    ("height[0][0]", "has 3 dimensions, and 2 parts are given"),
    ("height[0:1:1:1][0][0]", "is no part of a dimension"),
    ("height[0][0][0", "is no projection"),
    ("version[0]", "has 0 dimensions"),
    ("none", "There is no variable 'none'"),
    ("x.x", "There is no variable 'x.x'"),
    ("geogrid(height,1,2,3,4)", "is no projection"),
    ("x&x>5", "Selections by value"),
    ("x,,y", "is no projection"),
    ("x[0],x[1]", "asked for twice"),
    ("height.x[0],height.x[1]", "asked for twice"),
    ("x[99999999999999999999]", "is no part of a dimension"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["dds", "dods", "ascii"])
def test_what_cannot_be_asked_is_an_error_of_dap(client, suffix, constraint, said):
    response = client.get(f"heights/opendap.{suffix}?{constraint}")
    assert response.status_code == 400
    assert response.text.startswith('Error {\n    code = 400;\n    message = "')
    assert said in response.text
    assert response.headers["content-description"] == "dods_error"


def test_integers_that_would_be_rounded_are_refused(file, client):
    response = client.get("heights/opendap.dods?huge")
    assert response.status_code == 400
    assert "64-bit integers" in response.text
    coordinates = b"".join(struct.pack(">2Id", 1, 1, 0) for _ in range(3))
    # the first is 2^53 itself
    assert client.get("heights/opendap.dods?huge[0][0][0]").content.endswith(
        struct.pack(">2Id", 1, 1, 2.0**53) + coordinates
    )


def test_small_ones_that_would_be_are_left_out_and_times_take_a_coarser_unit(file, client):
    assert "lost" not in client.get("heights/opendap.dds").text
    assert client.get("heights/opendap.dods?lost").status_code == 400
    text = client.get("heights/opendap.das").text
    assert "moment {\n        Float64 _FillValue -9.223372036854776e+18;\n" in text
    assert 'String units "microseconds since 1970-01-01";' in text
    values = client.get("heights/opendap.dods?moment").content.partition(b"\nData:\n")[2]
    assert struct.unpack(">9d", values[8:]) == (-(2.0**63), *(stored(file, "moment")[1:] / 1000))


def test_what_costs_too_much_is_refused_and_the_hint_fits(start):
    client = start("{cells: 5000, chunks: 200}")
    response = client.get("heights/opendap.dods?height")
    assert response.status_code == 413
    hint = response.text.partition("It would fit with ?")[2].partition(" at once")[0]
    assert client.get(f"heights/opendap.dods?{hint}").status_code == 200
    assert client.get("heights/opendap.dods").status_code == 413
    assert client.get("heights/opendap.dds").status_code == 200


def test_names_that_do_not_exist_are_told_in_dap(client):
    for name in ("none", "all"):
        response = client.get(f"{name}/opendap.dds")
        assert response.status_code == 404
        assert response.text.startswith("Error {")
    assert "/datasets/heights/" in response.text


def test_an_answer_has_its_length_and_is_not_sent_twice(client):
    response = client.get("heights/opendap.dods?height,sign")
    assert int(response.headers["content-length"]) == len(response.content)
    again = client.get(
        "heights/opendap.dods?height,sign", headers={"If-None-Match": response.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    head = client.head("heights/opendap.dods?height,sign")
    assert (head.status_code, head.headers["content-length"]) == (200, response.headers["content-length"])
    assert "content-length" not in client.head("heights/opendap.dods?code").headers


def test_the_version_is_told(client):
    assert client.get("heights/opendap.ver").text.startswith("Core version: DAP/2.0\n")


@pytest.mark.parametrize("rows", [1, 2])
def test_time_is_the_dimension_of_records_where_each_is_stored_by_itself(start, tmp_path, rows):
    file = tmp_path / "heights.nc"
    with netCDF4.Dataset(file, "w") as made:
        for name, size in {"time": 6, "x": 5}.items():
            made.createDimension(name, size)
        made.createVariable("time", "f8", ("time",), chunksizes=(6,))[:] = np.arange(6)
        made["time"].units = "days since 2020-01-01"
        made.createVariable("height", "f4", ("time", "x"), chunksizes=(rows, 5))[:] = np.eye(6, 5)
    client = start(file=file)
    told = '    DODS_EXTRA {\n        String Unlimited_Dimension "time";\n    }\n}\n'
    assert client.get("heights/opendap.das").text.endswith(told) == (rows == 1)
    with netCDF4.Dataset(f"{client.base_url}heights/opendap") as opened:
        assert [name for name, dim in opened.dimensions.items() if dim.isunlimited()] == ["time"][: rows == 1]
        assert np.array_equal(opened["height"][1::2, ::-1], np.eye(6, 5)[1::2, ::-1])


class Links(HTMLParser):
    """The addresses that a page leads to, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.found, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("href", "src")]


def test_the_page_has_the_address_and_links_to_values_of_every_variable(client, address):
    page = client.get("heights/opendap", follow_redirects=True)
    assert page.url.path.endswith("/heights/opendap.html")
    assert f">{address}</pre>" in page.text
    links = Links(page.text)
    served = ("time", "x", "y", "code", "huge", "moment", *READ)
    shown = [link.partition("?")[2].partition("[")[0] for link in links.found if ".ascii?" in link]
    assert sorted(shown) == sorted(served)
    for link in links.found:
        found = client.get(f"heights/{link}")
        # integers that no double holds
        assert found.status_code == (400 if "?huge" in link else 200), link
    assert "script" not in links.tags


def test_the_page_takes_texts_of_the_data_as_texts(start, file, tmp_path):
    marked = tmp_path / "heights.nc"
    shutil.copy(file, marked)
    with netCDF4.Dataset(marked, "a") as opened:
        opened["height"].long_name = "<script>alert(1)</script>&amp;"
        opened["height"].units = '"><img src=x>'
    page = start(file=marked).get("heights/opendap.html")
    assert Links(page.text).tags.isdisjoint({"script", "img"})
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;; in &quot;&gt;&lt;img" in page.text
    policy = page.headers["content-security-policy"]
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


@pytest.mark.parametrize("suffix", ["dods", "ascii"])
@pytest.mark.parametrize("constraint", [
    "height", "code", "height[0:2:8][1:3:39][0:7:196]", "quality[2:8][5:37][3:199]", "x[1:5:199]", "sign[3][0:199]",
])  # fmt: skip
def test_an_answer_in_blocks_is_the_answer_at_once(client, monkeypatch, suffix, constraint):
    whole = client.get(f"heights/opendap.{suffix}?{constraint}")
    for nbytes in (2**16, 5000):
        monkeypatch.setattr(data, "BLOCK", nbytes)
        again = client.get(f"heights/opendap.{suffix}?{constraint}", headers={"Cache-Control": "no-cache"})
        assert again.content == whole.content


def rows_of_blocks(chunk_rows):
    stored = np.empty((), "f4")
    variable = SimpleNamespace(
        chunk_shape=(chunk_rows, 5),
        dap_type=SimpleNamespace(is_text=False),
        stored=stored,
        variable=stored.astype("f8"),
    )
    blocks = list(data.blocks(Part(variable, (slice(1, 20, 1), slice(0, 10, 1)))))
    assert all(columns == slice(0, 10, 1) for _, columns in blocks)
    return [(rows.start, rows.stop) for rows, _ in blocks]


def test_blocks_end_where_chunks_do(monkeypatch):
    monkeypatch.setattr(data, "BLOCK", 4 * 10 * 7)
    assert rows_of_blocks(3) == [(1, 6), (6, 12), (12, 18), (18, 20)]


def test_chunks_longer_than_a_block_are_read_once_a_block(monkeypatch):
    monkeypatch.setattr(data, "BLOCK", 4 * 10 * 7)
    assert rows_of_blocks(300) == [(1, 8), (8, 15), (15, 20)]


def test_what_fails_after_the_first_values_does_not_end_well(start, file, tmp_path, monkeypatch):
    copy = tmp_path / "heights.nc"
    copy.write_bytes(file.read_bytes())
    client = start(file=copy)
    with h5py.File(file) as opened:
        height = opened["height"].id
        chunks = [height.get_chunk_info(number) for number in range(height.get_num_chunks())]
    lost = max((chunk for chunk in chunks if chunk.chunk_offset[0] == 7), key=lambda chunk: chunk.byte_offset)
    content = bytearray(file.read_bytes())
    content[lost.byte_offset : lost.byte_offset + lost.size] = bytes(lost.size)
    copy.write_bytes(content)
    monkeypatch.setattr(data, "BLOCK", 2**15)
    assert client.get("heights/opendap.dods?height[8][0:39][0:199]").status_code == 502
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("heights/opendap.dods?height")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("heights/opendap.ascii?height")


@pytest.mark.gdal
@pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="GDAL's tools are not installed")
@pytest.mark.parametrize("name", ["height", "speed", "quality", "count"])
def test_gdal_reads_what_is_stored(file, address, tmp_path, name):
    target = tmp_path / "read.tif"
    source = f'NETCDF:"{address}":{name}'
    subprocess.run(
        ["gdal_translate", "-q", "-ot", "Float64", source, str(target)], check=True, capture_output=True
    )
    with warnings.catch_warnings(action="ignore"), rasterio.open(target) as opened:
        read = opened.read()
    expected = stored(file, name)
    # rows lead from north to south there
    read = read.reshape(expected.shape)[..., ::-1, :]
    assert np.array_equal(read, expected, equal_nan=expected.dtype.kind == "f")
