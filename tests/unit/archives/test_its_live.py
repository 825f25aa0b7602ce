"""From ITS_LIVE's catalog to mounted cubes, over servers that hold cubes of its form."""

import asyncio
import contextlib
import csv
import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pyproj
import pytest
import xarray as xr
import yaml
from aiohttp import web
from tests.s3_server import connect, running_s3
from tests.unit.archives.its_live_archive import (
    AMAZON,
    COUNT,
    catalog,
    cube_name,
    feature,
    running_web,
    write_cube,
)

from cubegate.app import create_app
from cubegate.archives.collection_file import write_collections
from cubegate.archives.download import read_document
from cubegate.archives.its_live import addresses
from cubegate.catalog.collection import CollectionFiles
from cubegate.cli import main
from cubegate.errors import CubegateError
from cubegate.settings import load_settings

REAL_SERIES = (
    Path(__file__).resolve().parents[4]
    / "shared/data/itslive/its_live_tool/process_regression/data/LAT69.1117--LON-49.4604.csv"
)
# two cubes of neighbouring UTM zones that overlap, and one beside the first
WEST, EAST, NORTH = (32718, 600_000, 4_400_000), (32719, 200_000, 4_400_000), (32718, 600_000, 4_500_000)
CUBES = {cube_name(*where): where for where in (WEST, EAST, NORTH)}
BOTH = "-73.1,-50.2,-72.3,-49.9"
POINT = (-72.7, -50.0)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The folder of the cubes as they lie in the bucket."""
    folder = tmp_path_factory.mktemp("bucket")
    for name, where in CUBES.items():
        write_cube(folder / "datacubes/v2/S50W070" / f"{name}.zarr", *where)
    return folder


def local(stores, name):
    return stores / "datacubes/v2/S50W070" / f"{name}.zarr"


@pytest.fixture(scope="module")
def s3(stores):
    """Amazon's bucket, which anybody may read."""
    with running_s3() as endpoint:
        client = connect("s3", endpoint)
        client.create_bucket(Bucket="its-live-data", ACL="public-read")
        for file in stores.rglob("*"):
            if file.is_file():
                key = file.relative_to(stores).as_posix()
                client.put_object(Bucket="its-live-data", Key=key, Body=file.read_bytes(), ACL="public-read")
        client.close()
        yield endpoint


class Web:
    """Files over HTTP: `files` by path, and `answers` that are other ones."""

    def __init__(self, folder):
        self.folder, self.files, self.answers, self.asked = folder, {}, {}, []

    async def answer(self, request):
        path = request.path
        self.asked.append(path)
        if path in self.answers:
            return await self.answers[path](request)
        file = self.folder / path.lstrip("/")
        data = self.files.get(path) or (file.read_bytes() if file.is_file() else None)
        if data is None:
            return web.Response(status=404)
        wanted = request.http_range
        if wanted.start is None:
            return web.Response(body=data)
        part = data[wanted.start : wanted.stop]
        described = f"bytes {wanted.start}-{wanted.start + len(part) - 1}/{len(data)}"
        return web.Response(status=206, body=part, headers={"Content-Range": described})


@pytest.fixture
def site(stores, tmp_path):
    """A mirror of the bucket, and its catalog."""
    shutil.copytree(stores, tmp_path / "mirror")
    served = Web(tmp_path / "mirror")
    with running_web(served.answer) as url:
        served.url = url
        served.files["/catalog.json"] = catalog(*(feature(*where, base=url) for where in CUBES.values()))
        yield served


@pytest.fixture
def configuration(site, tmp_path):
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f'archives: {{its_live_catalog: "{site.url}/catalog.json"}}\n'
        f'upstreams: {{"{site.url}/datacubes/": {{}}}}\n'
        "collections: [cubes/*.yaml]\n"
    )
    return file


@pytest.fixture
def amazon(configuration, s3, tmp_path):
    """Read Amazon's bucket; returns what writes a catalog of its cubes, below a base address."""
    upstream = f'{{anonymous: true, region: us-west-2, endpoint_url: "{s3}"}}'
    configuration.write_text(
        f'upstreams: {{"s3://its-live-data/": {upstream}}}\ncollections: [cubes/*.yaml]\n'
    )

    def amazon(base):
        file = tmp_path / "catalog.json"
        file.write_bytes(catalog(*(feature(*where, base=base) for where in CUBES.values())))
        return str(file)

    return amazon


@pytest.fixture
def run(configuration, tmp_path, capsys):
    """Run a command; returns its exit code, and what it printed."""

    def run(command, *options):
        output = ["-o", str(tmp_path / "cubes")] if command == "build" else []
        code = main([command, "its-live", *output, "--config", str(configuration), *options])
        return code, capsys.readouterr()

    return run


@pytest.fixture
def server(configuration, serving):
    @contextlib.contextmanager
    def server():
        app = create_app(load_settings(configuration, {}), {})
        with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client

    return server


def written(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def series(path, lon, lat, variable="v"):
    """The sorted series of the cell that holds a point, read by xarray."""
    with xr.open_zarr(path, consolidated=True) as dataset:
        epsg = dataset.attrs["projection"]
        x, y = pyproj.Transformer.from_crs(4326, int(epsg), always_xy=True).transform(lon, lat)
        one = dataset[variable].sel(x=x, y=y, method="nearest").load()
        assert abs(float(one.x) - x) <= 2_500
        assert abs(float(one.y) - y) <= 2_500
        order = np.argsort(one.mid_date.values, kind="stable")
        assert (np.diff(one.mid_date.values) < np.timedelta64(0, "ns")).any()
        assert len(np.unique(one.mid_date.values)) < COUNT
        return one.mid_date.values[order], one.values[order]


def check_series(client, dataset, path, point=POINT):
    answer = client.get(
        f"/datasets/{dataset}/timeseries",
        params={"lon": point[0], "lat": point[1], "variables": "v,vx", "f": "netcdf"},
    )
    assert answer.status_code == 200, answer.text
    with xr.open_dataset(answer.content, engine="h5netcdf") as got:
        for variable in ("v", "vx"):
            times, values = series(path, *point, variable)
            assert np.array_equal(got.mid_date.values, times)
            assert np.array_equal(got[variable].values.reshape(-1), values, equal_nan=True)
            assert np.isfinite(values).any()


def test_a_point_mounts_its_cube(run, server, stores, tmp_path, compared):
    name = cube_name(*NORTH)
    code, said = run("build", "--point=-73.0,-49.2")
    assert code == 0, said.err
    assert written(tmp_path / "cubes") == [f"{name}.yaml"]
    assert f"Wrote {tmp_path}/cubes/{name}.yaml" in said.out
    with server() as client:
        check_series(client, name, local(stores, name), (-73.0, -49.2))
        # as stored: the very bytes, in the order of the store
        for key in ("mid_date/0", "v/0.0.0", "v/1.1.1", "satellite_img1/0"):
            assert (
                client.get(f"/datasets/{name}/zarr/{key}").content == (local(stores, name) / key).read_bytes()
            )
        with (
            xr.open_zarr(f"{client.base_url}/datasets/{name}/zarr", zarr_format=2) as ours,
            xr.open_zarr(local(stores, name), consolidated=True) as direct,
        ):
            assert np.array_equal(ours.mid_date.values, direct.mid_date.values)
            assert np.array_equal(ours.v.values, direct.v.values, equal_nan=True)
            assert list(ours.satellite_img1.values) == list(direct.satellite_img1.values)
            compared(direct.v)


def test_the_id_can_be_chosen(run, tmp_path):
    code, said = run("build", "--point=-73.0,-49.2", "--id", "grey", "--json")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["id"] == "grey"
    assert report["collections"] == [str(tmp_path / "cubes/grey.yaml")]
    assert [member["id"] for member in report["members"]] == ["grey"]
    assert report["left_out"] == {}
    document = yaml.safe_load((tmp_path / "cubes/grey.yaml").read_text())
    assert document["source"]["href"].endswith(f"{cube_name(*NORTH)}.zarr")
    # the cube says what its grid is
    assert document.keys() == {"id", "title", "source"}


def test_an_area_mounts_its_cubes_and_one_over_them(run, server, stores, tmp_path):
    code, said = run("build", f"--bbox={BOTH}")
    assert code == 0, said.err
    names = nearest_first([cube_name(*EAST), cube_name(*WEST)], -72.7, -50.05)
    assert written(tmp_path / "cubes") == sorted([*(f"{name}.yaml" for name in names), "its-live.yaml"])
    document = yaml.safe_load((tmp_path / "cubes/its-live.yaml").read_text())
    assert document["id"] == "its-live"
    assert document["source"] == {"kind": "combined", "members": names}
    with server() as client:
        for name in names:
            check_series(client, name, local(stores, name))


def holds(name, lon, lat):
    epsg, left, bottom = CUBES[name]
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    return (left < x) & (x < left + 100_000) & (bottom < y) & (y < bottom + 100_000)


def test_a_point_goes_to_its_cube(run, server, stores, compared):
    assert run("build", f"--bbox={BOTH}", "--id", "grey")[0] == 0
    names = nearest_first([cube_name(*EAST), cube_name(*WEST)], -72.7, -50.05)
    # in the one, in both, in the other
    places = [(-73.4, -50.1), (-73.0, -50.1), POINT, (-72.4, -50.3), (-72.0, -50.0)]
    owners = [next(name for name in names if holds(name, *place)) for place in places]
    assert set(owners) == set(names)
    assert sum(all(holds(name, *place) for name in names) for place in places) >= 2
    with server() as client:
        for place, owner in zip(places, owners, strict=True):
            check_series(client, "grey", local(stores, owner), place)
            question = {"lon": place[0], "lat": place[1], "variables": "v", "f": "json"}
            assert client.get("/datasets/grey/timeseries", params=question).json()["cube"] == owner
            compared(series(local(stores, owner), *place)[1])
        outside = client.get("/datasets/grey/timeseries", params={"lon": -70, "lat": -50, "variables": "v"})
        assert outside.status_code == 400


@pytest.mark.parametrize("crs", ["EPSG:32718", "EPSG:32719", "EPSG:4326"])
def test_an_area_over_two_projections_is_one_answer(crs, run, server, stores, compared):
    assert run("build", f"--bbox={BOTH}", "--id", "grey")[0] == 0
    names = nearest_first([cube_name(*EAST), cube_name(*WEST)], -72.7, -50.05)
    with server() as client:
        answer = client.get(
            "/datasets/grey/subset",
            params={"bbox": "-73.5,-50.2,-71.9,-49.9", "crs": crs, "variables": "v", "f": "netcdf"},
        )
    assert answer.status_code == 200, answer.text
    with xr.open_dataset(answer.content, engine="h5netcdf") as got:
        x, y = (got[got.v.dims[-1]].values, got[got.v.dims[-2]].values)
        lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(*np.meshgrid(x, y))
        owner = np.select([holds(name, lon, lat) for name in names], range(1, 3), 0)
        assert {1, 2} <= set(owner.flat)
        assert np.array_equal(np.nan_to_num(got.cube.values), owner)
        values, times = got.v.values, got.mid_date.values
        assert len(times) == 2 * COUNT
        for number, name in enumerate(names, 1):
            with xr.open_zarr(local(stores, name), consolidated=True) as stored:
                one = stored[["v"]].load().isel(mid_date=np.argsort(stored.mid_date.values, kind="stable"))
            rows, columns = np.nonzero(owner == number)
            cells = pyproj.Transformer.from_crs(crs, CUBES[name][0], always_xy=True).transform(
                x[columns], y[rows]
            )
            direct = one.v.sel(
                x=xr.DataArray(cells[0], dims="cell"), y=xr.DataArray(cells[1], dims="cell"), method="nearest"
            ).values
            own = np.isin(times, one.mid_date.values)
            assert np.array_equal(times[own], one.mid_date.values)
            assert np.array_equal(values[own][:, rows, columns], direct, equal_nan=True)
            assert np.isnan(values[~own][:, rows, columns]).all()
            compared(direct)


@pytest.mark.skipif(not REAL_SERIES.exists(), reason="the real series is not here")
def test_the_real_dates_of_a_place_come_sorted(run, server, site, tmp_path, compared):
    with REAL_SERIES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    times = np.array([row["mid_date"] for row in rows], dtype="M8[ns]")
    assert (np.diff(times) < np.timedelta64(0, "ns")).any()
    velocities = {
        name: np.array([float(row[f"{name} [m/yr]"]) for row in rows]).astype("i2")
        for name in ("v", "vx", "vy")
    }
    satellites = np.array([row["satellite"] for row in rows])
    where = (3413, -200_000, -2_300_000)
    name = cube_name(*where)
    pairs = (times, velocities, satellites)
    write_cube(site.folder / "datacubes/v2/S50W070" / f"{name}.zarr", *where, pairs=pairs)
    site.files["/catalog.json"] = catalog(feature(*where, base=site.url))
    place = {"lon": rows[0]["lon"], "lat": rows[0]["lat"]}
    assert run("build", f"--point={place['lon']},{place['lat']}")[0] == 0
    with server() as client:
        answer = client.get(
            f"/datasets/{name}/timeseries", params={**place, "variables": "v,vx,vy", "f": "netcdf"}
        )
    assert answer.status_code == 200, answer.text
    order = np.argsort(times, kind="stable")
    with xr.open_dataset(answer.content, engine="h5netcdf") as got:
        assert np.array_equal(got.mid_date.values, times[order])
        for variable, values in velocities.items():
            assert np.array_equal(got[variable].values.reshape(-1), values[order])
            compared(values)


def nearest_first(names, lon, lat):
    def far(name):
        epsg, left, bottom = CUBES[name]
        centre = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform(left + 5e4, bottom + 5e4)
        return pyproj.Geod(ellps="WGS84").inv(lon, lat, *centre)[2]

    return sorted(names, key=far)


@pytest.mark.parametrize("base", [AMAZON, "https://its-live-data.s3.amazonaws.com", "s3://its-live-data",
                                  "https://its-live-data.s3.us-west-2.amazonaws.com"])  # fmt: skip
def test_amazon_s_addresses_are_read_through_s3(base, amazon, run, server, tmp_path):
    code, said = run("build", "--point=-73.0,-49.2", "--catalog", amazon(base), "--id", "one")
    assert code == 0, said.err
    document = yaml.safe_load((tmp_path / "cubes/one.yaml").read_text())
    name = cube_name(*NORTH)
    assert document["source"]["href"] == f"s3://its-live-data/datacubes/v2/S50W070/{name}.zarr"
    with server() as client:
        check_series(client, "one", local(tmp_path / "mirror", name), (-73.0, -49.2))


@pytest.mark.parametrize(
    ("url", "forms"),
    [
        (f"{AMAZON}/a/b.zarr", ("s3://its-live-data/a/b.zarr", "https://its-live-data.s3.amazonaws.com/a/b.zarr",
                                f"{AMAZON}/a/b.zarr")),
        ("https://its-live-data.s3.us-west-2.amazonaws.com/a%20b.zarr",
         ("s3://its-live-data/a b.zarr", "https://its-live-data.s3.us-west-2.amazonaws.com/a%20b.zarr")),
        ("s3://its-live-data/a b.zarr", ("s3://its-live-data/a b.zarr",
                                         "https://its-live-data.s3.amazonaws.com/a%20b.zarr")),
        ("http://127.0.0.1:9000/a.zarr", ("http://127.0.0.1:9000/a.zarr",)),
        ("https://its-live-data.s3.amazonaws.com.example.org/a.zarr",
         ("https://its-live-data.s3.amazonaws.com.example.org/a.zarr",)),
    ],
)  # fmt: skip
def test_the_forms_of_an_address(url, forms):
    assert addresses(url) == forms


@pytest.mark.parametrize(
    ("base", "line"),
    [
        (AMAZON, '"s3://its-live-data/": {anonymous: true, region: us-west-2}'),
        ("https://elsewhere.s3.amazonaws.com", '"s3://elsewhere/": {anonymous: true}'),
        ("https://mirror.example.org:8443", '"https://mirror.example.org:8443/": {}'),
    ],
)
def test_a_missing_upstream_is_said_as_the_line_to_add(base, line, run, configuration, tmp_path):
    file = tmp_path / "catalog.json"
    file.write_bytes(catalog(feature(*NORTH, base=base)))
    code, said = run("build", "--point=-73.0,-49.2", "--catalog", str(file))
    assert code == 1
    assert f"Add this line to upstreams: {line}" in said.err
    assert written(tmp_path / "cubes") == []
    # the line is one that a configuration can have
    settings = yaml.safe_load(f"upstreams:\n  {line}")
    configuration.write_text(yaml.safe_dump(settings))
    assert load_settings(configuration, {}).upstreams.keys() == settings["upstreams"].keys()


def broken_cubes(site):
    """Break a cube in each way; returns what is said of it."""
    folder = site.folder / "datacubes/v2/S50W070"
    west = folder / f"{cube_name(*WEST)}.zarr"

    def again(where, **options):
        shutil.rmtree(west)
        write_cube(west, *where, **options)

    def cut():
        metadata = (west / ".zmetadata").read_bytes()
        (west / ".zmetadata").write_bytes(metadata[: len(metadata) // 2])

    return {
        "is gone": (lambda: shutil.rmtree(west), "There is no Zarr"),
        "has no v": (lambda: again(WEST, drop=["v"]), "no variable v"),
        "is in another projection": (
            lambda: again((32719, 600_000, 4_400_000)),
            "Its projection is WGS 84 / UTM zone 19S, and EPSG:32718 in the catalog.",
        ),
        "lies elsewhere": (lambda: again((32718, 500_000, 4_400_000)), "lies beside the outline"),
        "is cut": (cut, "JSON"),
        "has no x": (lambda: again(WEST, drop=["x"]), "no x and y axes"),
        "has no time": (lambda: again(WEST, drop=["mid_date"]), "mid_date"),
    }


@pytest.mark.parametrize(
    "way",
    [
        "is gone",
        "has no v",
        "is in another projection",
        "lies elsewhere",
        "is cut",
        "has no x",
        "has no time",
    ],
)
def test_a_cube_that_cannot_be_mounted_is_named(way, site, run, tmp_path):
    change, message = broken_cubes(site)[way]
    change()
    code, said = run("build", f"--bbox={BOTH}")
    assert code == 1
    assert "1 of 2 cubes cannot be mounted, and nothing was written. --leave-out" in said.err
    assert f"{cube_name(*WEST)}: " in said.err
    assert message in said.err
    assert written(tmp_path / "cubes") == []
    code, said = run("build", f"--bbox={BOTH}", "--leave-out", "--json")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert message in report["left_out"][cube_name(*WEST)]
    assert written(tmp_path / "cubes") == [f"{cube_name(*EAST)}.yaml"]


def test_where_all_are_broken_all_are_named(site, run, tmp_path):
    shutil.rmtree(site.folder / "datacubes")
    code, said = run("build", f"--bbox={BOTH}", "--leave-out")
    assert code == 1
    assert "2 of 2 cubes cannot be mounted" in said.err
    assert all(cube_name(*where) in said.err for where in (WEST, EAST))
    assert written(tmp_path / "cubes") == []


def test_a_cube_without_a_grid_mapping_gets_the_catalog_s(site, run, server, stores, tmp_path):
    name = cube_name(*NORTH)
    path = site.folder / "datacubes/v2/S50W070" / f"{name}.zarr"
    shutil.rmtree(path)
    write_cube(path, *NORTH, mapping=False)
    code, said = run("build", "--point=-73.0,-49.2")
    assert code == 0, said.err
    assert yaml.safe_load((tmp_path / f"cubes/{name}.yaml").read_text())["crs"] == "EPSG:32718"
    with server() as client:
        check_series(client, name, local(stores, name), (-73.0, -49.2))


def test_a_former_build_is_replaced_or_stays_whole(site, run, tmp_path):
    assert run("build", f"--bbox={BOTH}")[0] == 0
    before = {path.name: path.read_text() for path in (tmp_path / "cubes").iterdir()}
    shutil.rmtree(site.folder / "datacubes/v2/S50W070" / f"{cube_name(*WEST)}.zarr")
    assert run("build", f"--bbox={BOTH}")[0] == 1
    assert {path.name: path.read_text() for path in (tmp_path / "cubes").iterdir()} == before
    site.files["/catalog.json"] = catalog(
        *(feature(*where, base=site.url, folder="v02") for where in CUBES.values())
    )
    (site.folder / "datacubes/v2").rename(site.folder / "datacubes/v02")
    write_cube(site.folder / "datacubes/v02/S50W070" / f"{cube_name(*WEST)}.zarr", *WEST)
    assert run("build", f"--bbox={BOTH}")[0] == 0
    after = {path.name: path.read_text() for path in (tmp_path / "cubes").iterdir()}
    assert after.keys() == before.keys()
    assert all("/v02/" in after[f"{cube_name(*where)}.yaml"] for where in (WEST, EAST))


def test_where_one_file_cannot_be_written_none_is(run, tmp_path):
    (tmp_path / "cubes/its-live.yaml").mkdir(parents=True)
    code, said = run("build", f"--bbox={BOTH}")
    assert code == 1
    assert "Is a directory" in said.err
    assert written(tmp_path / "cubes") == ["its-live.yaml"]


def test_collection_files_are_written_in_order(tmp_path, monkeypatch):
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(to.name), replace(self, to))[1])
    write_collections([(tmp_path / f"{name}.yaml", {"id": name}) for name in ("z", "a", "all")])
    assert order == ["z.yaml", "a.yaml", "all.yaml"]
    assert written(tmp_path) == sorted(order)


def test_two_cubes_of_one_name_are_refused(site, run, tmp_path):
    site.files["/catalog.json"] = catalog(
        feature(*NORTH, base=site.url), feature(*NORTH, base=site.url, folder="v02")
    )
    code, said = run("build", "--point=-73.0,-49.2")
    assert code == 1
    assert f"Two cubes here are called {cube_name(*NORTH)}" in said.err
    assert written(tmp_path / "cubes") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--point=-73.0"], "'-73.0' is no point."),
        (["--point=-73.0,95"], "is no point"),
        (["--bbox=1,2,3"], "is no box"),
        (["--bbox=1,2,1,3"], "The box has no area."),
        (["--point=10,10"], "No cube of the catalog meets the area"),
        (["--point=-73.0,-49.2", "--id", "../etc"], "is no id"),
        ([f"--bbox={BOTH}", "--id", cube_name(*WEST)], "is the name of one of the cubes"),
        (["--point=-73.0,-49.2", "--catalog", "/nowhere/catalog.json"], "cannot be read (No such file"),
        (["--point=-73.0,-49.2", "--catalog", "/"], "is not a file"),
        (
            ["--point=-73.0,-49.2", "--catalog", "s3://its-live-data/c.json"],
            "neither a file nor an http address",
        ),
        (["--point=-73.0,-49.2", "--catalog", "http://a/../c.json"], "dot segments"),
    ],
)
def test_what_cannot_be_asked_says_why(options, message, run, tmp_path):
    code, said = run("build", *options)
    assert code == 1
    assert message in said.err
    assert written(tmp_path / "cubes") == []


def test_a_catalog_can_be_a_file_url(run, site, tmp_path):
    file = tmp_path / "a catalog.json"
    file.write_bytes(site.files["/catalog.json"])
    code, said = run("search", "--point=-73.0,-49.2", "--catalog", file.as_uri(), "--json")
    assert code == 0, said.err
    assert [cube["name"] for cube in json.loads(said.out)] == [cube_name(*NORTH)]
    assert site.asked == []


def test_the_search_lists_cubes(run, site, tmp_path):
    code, said = run("search", f"--bbox={BOTH}", "--geojson", str(tmp_path / "outlines.json"), "--json")
    assert code == 0, said.err
    cubes = {cube["name"]: cube for cube in json.loads(said.out)}
    assert cubes.keys() == {cube_name(*WEST), cube_name(*EAST)}
    assert cubes[cube_name(*EAST)]["epsg"] == 32719
    assert cubes[cube_name(*EAST)]["url"].startswith(site.url)
    west, south, east, north = cubes[cube_name(*WEST)]["bbox"]
    corner = pyproj.Transformer.from_crs(32718, 4326, always_xy=True).transform(
        [600_000, 700_000, 600_000], [4_400_000, 4_500_000, 4_500_000]
    )
    assert (west, east) == (pytest.approx(corner[0][2], abs=0.05), pytest.approx(corner[0][1], abs=0.1))
    assert (south, north) == (pytest.approx(-50.55, abs=0.05), pytest.approx(corner[1][2], abs=0.05))
    outlines = json.loads((tmp_path / "outlines.json").read_text())
    assert {each["properties"]["name"] for each in outlines["features"]} == cubes.keys()
    assert all(each["geometry"]["type"] == "Polygon" for each in outlines["features"])
    # nothing but the catalog was read
    assert site.asked == ["/catalog.json"]


@pytest.mark.parametrize("width", ["60", "250"])
def test_the_search_prints_names_whole_on_any_terminal(width, run, site, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    code, said = run("search", f"--bbox={BOTH}")
    assert code == 0
    for where in (WEST, EAST):
        line, *others = (line for line in said.out.splitlines() if cube_name(*where) in line)
        assert str(where[0]) in line.replace(cube_name(*where), "", 1)
        assert f"{site.url}/datacubes/v2/S50W070/{cube_name(*where)}.zarr" in " ".join([line, *others])
    assert "2 cubes" in said.out


def test_the_search_needs_no_configuration_file(site, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cubegate.yaml").unlink(missing_ok=True)
    monkeypatch.setenv("CUBEGATE_ARCHIVES__ITS_LIVE_CATALOG", f"{site.url}/catalog.json")
    assert main(["search", "its-live", "--point=-73.0,-49.2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


async def _moved(request):
    return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})


async def _forbidden(request):
    return web.Response(status=403, text="secret upstream words")


async def _page(request):
    return web.Response(text="<html>secret upstream words</html>", content_type="text/html")


async def _short(request):
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"type"')
    request.transport.close()
    return answer


async def _large(request):
    return web.Response(body=b" " * 5_000)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_moved, "has moved (HTTP 302), and redirects are not followed"),
        (_forbidden, "may not be read (HTTP 403)"),
        (_page, "is not JSON, or not all of it"),
        (_short, "cannot be reached"),
        (_large, "more than 4,000 bytes"),
    ],
)
def test_a_catalog_that_is_none_says_so(answer, message, site, run, monkeypatch):
    monkeypatch.setattr("cubegate.archives.download._PAUSES", (0.001,))
    monkeypatch.setattr("cubegate.conversions.its_live._LARGEST_CATALOG", 4_000)
    site.answers["/catalog.json"] = answer
    code, said = run("search", "--point=-73.0,-49.2")
    assert code == 1
    assert message in said.err
    assert f"{site.url}/catalog.json" in said.err
    assert "secret" not in said.err + said.out
    assert "Traceback" not in said.err + said.out


def test_a_server_that_is_busy_is_asked_again(site, run, monkeypatch):
    monkeypatch.setattr("cubegate.archives.download._PAUSES", (0.001, 0.001))
    statuses = [503, 429]

    async def busy(request):
        if statuses:
            return web.Response(status=statuses.pop())
        return web.Response(body=site.files["/catalog.json"])

    site.answers["/catalog.json"] = busy
    code, said = run("search", "--point=-73.0,-49.2", "--json")
    assert code == 0, said.err
    assert site.asked == ["/catalog.json"] * 3


async def test_a_server_that_hangs_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr("cubegate.archives.download._PAUSES", ())
    monkeypatch.setattr("cubegate.archives.download._DEADLINE", 0.2)

    async def hang(request):
        await asyncio.sleep(3600)

    site.answers["/catalog.json"] = hang
    with pytest.raises(CubegateError, match=r"did not answer within 0\.2 s"):
        await read_document(f"{site.url}/catalog.json", parameter="catalog", most=100)


def test_what_is_written_is_a_configuration(run, tmp_path):
    assert run("build", "--point=-73.0,-49.2")[0] == 0
    (configured,) = CollectionFiles(["cubes/*.yaml"], tmp_path).read().values()
    assert configured.collection.source.kind == "zarr"
    assert configured.collection.title == f"ITS_LIVE, {cube_name(*NORTH)}"
    assert (configured.file.stat().st_mode & 0o777) == 0o644
