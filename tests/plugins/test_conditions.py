"""Filters of dates, masks and columns with one value a date, over HTTP, against xarray and pandas alone."""

import csv
import io
import json
import socket
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.demo.its_live import write_cube
from cubegate.settings import load_settings

COUNT = 12
X, Y = -199_000.0, -2_001_000.0
POINT = {"x": X, "y": Y}


def make_pairs():
    """A cube in the shape of ITS_LIVE, with every type that one value a date may have, and masks."""
    rng = np.random.default_rng(8)
    shape = (COUNT, 40, 30)
    acquired = np.datetime64("2020-01-01", "ns") + np.arange(COUNT) * np.timedelta64(37, "h")
    acquired[2] = np.datetime64("NaT", "ns")
    lasting = (np.arange(COUNT) * np.timedelta64(6, "h")).astype("m8[ns]")
    lasting[4] = np.timedelta64("NaT", "ns")
    coherence = rng.random(shape).astype("f4")
    coherence[rng.random(shape) < 0.1] = np.nan
    velocity = rng.integers(0, 900, shape).astype("i2")
    velocity[rng.random(shape) < 0.1] = -32767
    days = rng.permutation(COUNT)
    days[3] = days[7]
    cube = xr.Dataset(
        {
            "v": (("mid_date", "y", "x"), velocity, {"_FillValue": np.int16(-32767), "units": "meter/year"}),
            "raw": (("mid_date", "y", "x"), rng.integers(0, 2**16, shape).astype("u2")),
            "coherence": (("mid_date", "y", "x"), coherence),
            "good": (("mid_date", "y", "x"), rng.integers(0, 2, shape).astype("u1")),
            "land": (("y", "x"), rng.integers(0, 2, shape[1:]).astype("u1")),
            "satellite": ("mid_date", np.array([b"1A", b"1B", b"8 "] * 4, "S4")),
            "mission": ("mid_date", np.array(["S", "S", 'L, "7"'] * 4, object)),
            "acquired": ("mid_date", acquired),
            "lasting": ("mid_date", lasting),
            "date_dt": ("mid_date", np.arange(COUNT) * 1.5, {"units": "days"}),
            "roi": ("mid_date", np.arange(COUNT).astype("i4"), {"_FillValue": np.int32(3)}),
            "usable": ("mid_date", np.arange(COUNT) % 2 == 0),
            # xarray 2026.9 itself reads the missing one as -2**63 days
            "lag": ("mid_date", np.arange(COUNT).astype("i2"), {"_FillValue": np.int16(5), "units": "days"}),
        },
        {
            "mid_date": np.datetime64("2020-01-01", "ns") + days * np.timedelta64(1, "D"),
            "y": (
                "y",
                -2e6 - 1000.0 * np.arange(40),
                {"standard_name": "projection_y_coordinate", "units": "m"},
            ),
            "x": (
                "x",
                -2e5 + 1000.0 * np.arange(30),
                {"standard_name": "projection_x_coordinate", "units": "m"},
            ),
        },
    )
    cube["mapping"] = ((), np.int32(0), CRS.from_epsg(3413).to_cf())
    for name in ("v", "raw", "coherence", "good", "land"):
        cube[name].attrs["grid_mapping"] = "mapping"
    return cube


@pytest.fixture(scope="module")
def archive(tmp_path_factory, running):
    """`ask(path, status=200, **parameters)` of a server over both cubes; what xarray alone reads of them."""
    root = tmp_path_factory.mktemp("conditions")
    write_cube(root / "its.zarr", lambda: None)
    chunks = {name: {"chunks": (5, 16, 16)} for name in ("v", "raw", "coherence", "good")}
    make_pairs().to_zarr(
        root / "pairs.zarr", zarr_format=2, encoding={**chunks, "land": {"chunks": (16, 16)}}
    )
    for name in ("its", "pairs"):
        href = (root / f"{name}.zarr").as_uri()
        (root / f"{name}.yaml").write_text(f'id: {name}\nsource: {{kind: zarr, href: "{href}"}}\n')
    (root / "cubegate.yaml").write_text(
        f'upstreams: {{"{root.as_uri()}/": {{}}}}\nlimits: {{chunks: 400}}\ncollections: [its.yaml, pairs.yaml]\n'
    )

    def ask(client, path, status=200, **parameters):
        names = {"bbox_crs": "bbox-crs"}
        response = client.get(path, params={names.get(key, key): text for key, text in parameters.items()})
        assert response.status_code == status, response.text
        return response

    with running(create_app(load_settings(root / "cubegate.yaml", {}), {})) as client:
        yield SimpleNamespace(
            ask=lambda path, status=200, **given: ask(client, path, status, **given),
            client=client,
            its=xr.open_zarr(root / "its.zarr", chunks=None).load(),
            pairs=xr.open_zarr(root / "pairs.zarr", chunks=None).load(),
        )


def _rows(text):
    return list(csv.DictReader(line for line in io.StringIO(text) if not line.startswith("#")))


def _facts(text):
    lines = (line[2:].strip() for line in text.splitlines() if line.startswith("# "))
    return dict(line.split(": ", 1) for line in lines)


def _order(cube, kept):
    kept = np.flatnonzero(kept)
    return kept[np.argsort(cube.mid_date.to_numpy()[kept], kind="stable")]


WHERE = {
    "date_dt<60d": lambda cube: cube.date_dt.to_numpy() < 60,
    "date_dt<=1152h,v_error<50": lambda cube: (
        (cube.date_dt.to_numpy() <= 48) & (cube.v_error.to_numpy() < 50)
    ),
    "satellite_img1='1A'": lambda cube: cube.satellite_img1.to_numpy().astype("U2") == "1A",
    "mission_img1!=S,satellite_img1=8": lambda cube: cube.satellite_img1.to_numpy().astype("U2") == "8",
    "mid_date>=2019-06": lambda cube: cube.mid_date.to_numpy() >= np.datetime64("2019-06-01"),
}


@pytest.mark.parametrize("where", WHERE)
def test_an_its_live_series_is_filtered_and_has_columns(archive, compared, where):
    cube = archive.its
    order = _order(cube, WHERE[where](cube))
    assert 0 < order.size < cube.mid_date.size
    names = "v,satellite_img1,mission_img1,date_dt,v_error"
    text = archive.ask("its/timeseries", x=-190_000, y=-2_270_000, variables=names, where=where, f="csv").text
    pixel = cube.sel(x=-190_000, y=-2_270_000, method="nearest").isel(mid_date=order)
    table = pd.read_csv(io.StringIO(text), comment="#", dtype={"satellite_img1": str})
    assert list(table.columns) == ["time", *names.split(",")]
    for name in ("v", "date_dt", "v_error"):
        np.testing.assert_array_equal(table[name].to_numpy("f4"), pixel[name].to_numpy())
        compared(pixel[name])
    for name in ("satellite_img1", "mission_img1"):
        assert table[name].tolist() == pixel[name].to_numpy().astype("U2").tolist()
    times = pd.to_datetime(table.time).dt.tz_localize(None).to_numpy()
    np.testing.assert_array_equal(times, pixel.mid_date.to_numpy())
    assert _facts(text)["where"].replace(" ", "") == where


COLUMNS = "v,satellite,mission,acquired,lasting,date_dt,roi,usable,lag"


def _times(values):
    return [None if np.isnat(time) else f"{str(time)[:19]}Z" for time in values]


def _columns(cube, order):
    """The columns as JSON has them, by hand from what is stored."""
    pixel = cube.sel(x=X, y=Y).isel(mid_date=order)

    def whole(values):
        return [None if np.isnan(value) else int(value) for value in values]

    return {
        "v": whole(pixel.v.to_numpy()),
        "satellite": [["1A", "1B", "8 "][n % 3] for n in order],
        "mission": [["S", "S", 'L, "7"'][n % 3] for n in order],
        "acquired": _times(pixel.acquired.to_numpy()),
        "lasting": [None if n == 4 else 6 * int(n) for n in order],
        "date_dt": [1.5 * n for n in order],
        "roi": [None if n == 3 else int(n) for n in order],
        "usable": [bool(n % 2 == 0) for n in order],
        "lag": [None if n == 5 else int(n) for n in order],
    }


FILTERS = {
    None: lambda n: n >= 0,
    "satellite=8": lambda n: n % 3 == 2,
    "lasting>=1d": lambda n: (n >= 4) & (n != 4),
    "acquired<2020-01-08": lambda n: (n <= 4) & (n != 2),
    "roi!=5,usable": lambda n: (n % 2 == 0) & (n != 3),
    "date_dt>4.5": lambda n: n > 3,
    "lag<=7d": lambda n: (n <= 7) & (n != 5),
    "mission='L, \"7\"',mid_date>=2020-01-02": None,
}


@pytest.mark.parametrize("where", FILTERS)
def test_columns_of_every_type_in_every_format(archive, tmp_path, where):
    number = np.arange(COUNT)
    if FILTERS[where] is not None:
        kept = FILTERS[where](number)
    else:
        kept = (number % 3 == 2) & (archive.pairs.mid_date.to_numpy() >= np.datetime64("2020-01-02"))
    order = _order(archive.pairs, kept)
    expected = _columns(archive.pairs, order)
    asked = {**POINT, "variables": COLUMNS} | ({} if where is None else {"where": where})
    times = _times(archive.pairs.mid_date.to_numpy()[order])

    document = archive.ask("pairs/timeseries", **asked).json()
    assert document["time"] == times
    assert {name: each["values"] for name, each in document["variables"].items()} == expected
    assert document["variables"]["lasting"]["units"] == "hours"

    # a date that is there twice continues in another coverage
    ranges = {}
    covjson = archive.ask("pairs/timeseries", f="covjson", **asked).json()
    for number, coverage in enumerate(covjson.get("coverages", [covjson])):
        axis = coverage["domain"]["axes"]["t"]["values"]
        for name, each in coverage["ranges"].items():
            cells = zip(axis, [number] * len(axis), each["values"], strict=True)
            ranges.setdefault(name, []).extend(cells)
    found = {
        name: [cell[2] for cell in sorted(cells, key=lambda cell: cell[:2])] for name, cells in ranges.items()
    }
    assert found == expected

    rows = _rows(archive.ask("pairs/timeseries", f="csv", **asked).text)
    assert [row["time"] for row in rows] == times
    for name, values in expected.items():
        texts = ["" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        assert [row[name] for row in rows] == texts

    (tmp_path / "series.parquet").write_bytes(archive.ask("pairs/timeseries", f="parquet", **asked).content)
    table = pq.read_table(tmp_path / "series.parquet")
    for name, values in expected.items():
        found = table[name].to_pylist()
        assert [f"{v:%Y-%m-%dT%H:%M:%SZ}" if hasattr(v, "hour") else v for v in found] == values

    (tmp_path / "series.nc").write_bytes(archive.ask("pairs/timeseries", f="netcdf", **asked).content)
    with xr.open_dataset(tmp_path / "series.nc", engine="h5netcdf") as found:
        assert _times(found.acquired.to_numpy()) == expected["acquired"]
        assert found.satellite.to_numpy().astype(str).tolist() == expected["satellite"]
        assert found.mission.to_numpy().tolist() == expected["mission"]
        hours = found.lasting.to_numpy() / np.timedelta64(1, "h")
        np.testing.assert_array_equal(hours, [np.nan if v is None else v for v in expected["lasting"]])
        for name in ("v", "date_dt", "roi", "usable", "lag"):
            wanted = [np.nan if v is None else v for v in expected[name]]
            np.testing.assert_array_equal(found[name].astype("f8"), wanted)
        assert found.attrs.get("cubegate_where", "").replace(" ", "") == (where or "").replace(" ", "")

    picture = archive.ask("pairs/timeseries", f="png", **asked).content
    assert picture.startswith(b"\x89PNG")


def test_points_have_columns_filters_and_masks(archive):
    body = f"id,x,y\na,{X},{Y}\nb,-173000,-2030000\n"
    query = {
        "variables": "v,satellite,lasting",
        "where": "satellite!=8",
        "mask": "coherence>=0.5,land",
        "f": "csv",
    }
    headers = {"Content-Type": "text/csv"}
    response = archive.client.post("pairs/timeseries", params=query, content=body, headers=headers)
    assert response.status_code == 200, response.text
    rows = _rows(response.text)
    cube = archive.pairs
    order = _order(cube, np.arange(COUNT) % 3 != 2)
    expected = []
    with np.errstate(invalid="ignore"):
        good = (cube.coherence.to_numpy() >= 0.5) & (cube.land.to_numpy() != 0)
    for row, column in ((1, 1), (30, 27)):
        for n in order:
            value = cube.v.to_numpy()[n, row, column] if good[n, row, column] else np.nan
            hours = "" if n == 4 else str(6 * n)
            expected.append(("" if np.isnan(value) else str(int(value)), ["1A", "1B"][n % 3], hours))
    assert [(row["v"], row["satellite"], row["lasting"]) for row in rows] == expected
    assert 0 < sum(value != "" for value, _, _ in expected) < len(expected)
    facts = _facts(response.text)
    assert (facts["where"], facts["mask"]) == ("satellite!=8", "coherence>=0.5, land")


MASKS = {
    "good": lambda cube: cube.good.to_numpy() != 0,
    "land": lambda cube: np.broadcast_to(cube.land.to_numpy() != 0, cube.v.shape),
    "coherence>=0.6": lambda cube: cube.coherence.to_numpy() >= np.float32(0.6),
    "coherence>=0.6,good=1,land": lambda cube: (
        (cube.coherence.to_numpy() >= np.float32(0.6))
        & (cube.good.to_numpy() == 1)
        & (cube.land.to_numpy() != 0)
    ),
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_subset_is_masked_in_every_format(archive, tmp_path, compared, mask):
    cube = archive.pairs
    with np.errstate(invalid="ignore"):
        good = MASKS[mask](cube)
    asked = {"variables": "v,raw", "mask": mask, "datetime": "2020-01-03/2020-01-06"}
    days = cube.mid_date.to_numpy()
    order = _order(cube, (days >= np.datetime64("2020-01-03")) & (days < np.datetime64("2020-01-07")))
    expected = {
        name: np.where(good, cube[name].to_numpy().astype("f4"), np.nan)[order] for name in ("v", "raw")
    }
    assert 0 < np.isnan(expected["raw"]).sum() < expected["raw"].size

    (tmp_path / "area.nc").write_bytes(archive.ask("pairs/subset", f="netcdf", **asked).content)
    with xr.open_dataset(tmp_path / "area.nc", engine="h5netcdf") as found:
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
            compared(values)
        assert set(found.data_vars) - {"mapping"} == {"v", "raw"}
        assert found.attrs["cubegate_mask"].replace(" ", "") == mask

    (tmp_path / "area.tif").write_bytes(archive.ask("pairs/subset", f="geotiff", **asked).content)
    with rasterio.open(tmp_path / "area.tif") as image:
        bands = image.read().astype("f8")
        bands[bands == image.nodata] = np.nan
        np.testing.assert_array_equal(bands, np.concatenate([expected["v"], expected["raw"]]))
        assert image.tags()["mask"].replace(" ", "") == mask

    rows = _rows(archive.ask("pairs/subset", f="csv", **asked).text)
    numbers = [np.nan if row["raw"] == "" else float(row["raw"]) for row in rows]
    np.testing.assert_array_equal(numbers, expected["raw"].reshape(-1))
    (tmp_path / "area.parquet").write_bytes(archive.ask("pairs/subset", f="parquet", **asked).content)
    table = pd.read_parquet(tmp_path / "area.parquet")
    np.testing.assert_array_equal(table.v.to_numpy("f8", na_value=np.nan), expected["v"].reshape(-1))
    covjson = archive.ask("pairs/subset", f="covjson", **asked).json()
    first = covjson.get("coverages", [covjson])[0]["ranges"]["v"]["values"]
    numbers = [np.nan if value is None else value for value in first]
    known = set(expected["v"][~np.isnan(expected["v"])].tolist())
    assert set(np.array(numbers)[~np.isnan(numbers)].tolist()) <= known
    assert archive.ask("pairs/subset", f="png", **asked).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
def test_a_masked_subset_is_reprojected_after_it_is_masked(archive, tmp_path, resampling):
    asked = {"variables": "raw", "crs": "EPSG:3995", "resampling": resampling, "datetime": "2020-01-04"}
    plain = tmp_path / "plain.nc"
    masked = tmp_path / "masked.nc"
    plain.write_bytes(archive.ask("pairs/subset", **asked).content)
    masked.write_bytes(archive.ask("pairs/subset", mask="raw<1000", **asked).content)
    with xr.open_dataset(plain, engine="h5netcdf") as found:
        assert float(found.raw.max()) > 60_000
    with xr.open_dataset(masked, engine="h5netcdf") as found:
        assert float(found.raw.max()) < 1000
        assert int(np.isfinite(found.raw).sum()) > 5


def test_a_parameter_may_be_repeated(archive):
    items = [
        *POINT.items(),
        ("variables", "v"),
        ("where", "satellite!=8"),
        ("where", "date_dt>3"),
        ("f", "csv"),
    ]
    twice = archive.client.get("pairs/timeseries", params=items)
    once = archive.ask("pairs/timeseries", **POINT, variables="v", where="satellite!=8,date_dt>3", f="csv")
    assert twice.text == once.text
    assert len(_rows(once.text)) == 6
    assert twice.headers["content-type"] == once.headers["content-type"]


def test_the_address_as_curl_sends_it(archive):
    """Unquoted, since a client may send `<` as it is."""
    address = urlsplit(str(archive.client.base_url))
    query = f"x={X}&y={Y}&variables=v&where=date_dt<=3,satellite='1A'&mask=coherence>=0.1&f=csv"
    request = f"GET /datasets/pairs/timeseries?{query} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"# where: date_dt<=3, satellite='1A'\n# mask: coherence>=0.1\n" in answer


@pytest.mark.parametrize(
    ("path", "asked", "parameter", "said"),
    [
        ("timeseries", {"where": "date_dt<"}, "where", "no condition"),
        (
            "timeseries",
            {"where": "date_dt<0"},
            "where",
            "No date meets date_dt<0. Accepted: date_dt: 0.0 to 16.5.",
        ),
        ("timeseries", {"where": "satellite='2A'"}, "where", "'1A', '1B', '8'"),
        (
            "timeseries",
            {"where": "v>5"},
            "where",
            "conditions on acquired, date_dt, lag, lasting, mid_date, mission, roi, satellite, usable",
        ),
        ("timeseries", {"where": "__import__('os')"}, "where", "no condition"),
        ("timeseries", {"where": "roi<5d"}, "where", "'roi' has no units"),
        ("timeseries", {"mask": "satellite=8"}, "mask", "conditions on coherence, good, land, raw, v"),
        ("timeseries", {"variables": "v,land", "mask": "good"}, "mask", "this mask with variables=v"),
        ("subset", {"mask": "coherence>='high'"}, "mask", "no number"),
        ("subset", {"where": "lasting<5"}, "where", "5d, h, m or s"),
        ("estimate", {"where": "nothing<5"}, "where", "one value a date"),
        ("estimate", {"mask": "a b"}, "mask", "no condition"),
    ],
)
def test_what_cannot_be_used_is_400_and_says_what_can(archive, path, asked, parameter, said):
    place = {} if path == "subset" else POINT
    problem = archive.ask(f"pairs/{path}", 400, **{"variables": "v", **place, **asked}).json()
    assert problem["parameter"] == parameter
    assert said in problem["detail"]


def test_the_estimate_counts_the_conditions(archive):
    def price(**asked):
        answer = archive.ask("pairs/estimate", variables="v", **asked).json()
        return answer["chunks"], answer["cells"], answer["fits"]

    box = {"bbox": "-200500,-2010500,-189500,-1999500", "bbox_crs": "native"}
    # 3 chunks of dates; the box lies in one chunk of cells; one value a date is one chunk
    assert price(**POINT) == (3, COUNT, True)
    assert price(**POINT, where="date_dt<3") == (4, COUNT, True)
    assert price(**POINT, where="date_dt<3,satellite=8,date_dt>1") == (5, COUNT, True)
    assert price(**POINT, mask="coherence>0.5") == (6, COUNT, True)
    assert price(**POINT, mask="coherence>0.5,land,v>3") == (7, COUNT, True)
    assert price(**box, mask="land", where="usable") == (3 + 1 + 1, COUNT * 11 * 11, True)


def test_a_condition_is_part_of_the_etag(archive):
    tags = {
        archive.ask("pairs/timeseries", **POINT, variables="v", **conditions).headers.get(
            "etag", json.dumps(n)
        )
        for n, conditions in enumerate(({}, {"where": "usable"}, {"where": "roi>1"}, {"mask": "good"}))
    }
    assert len(tags) == 4


def test_every_parameter_is_described(archive):
    document = httpx.get(f"{str(archive.client.base_url).removesuffix('/datasets/')}/openapi.json").json()
    for path, method in (
        ("timeseries", "get"),
        ("timeseries", "post"),
        ("subset", "get"),
        ("estimate", "get"),
    ):
        described = document["paths"][f"/datasets/{{dataset_id}}/{path}"][method]["parameters"]
        named = {each["name"]: each for each in described}
        assert named["where"]["examples"]["example"]["value"] == "date_dt<60d"
        assert named["mask"]["examples"]["example"]["value"] == "temporal_coherence>=0.6"
