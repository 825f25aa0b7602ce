"""What a STAC API finds becomes a served cube whose values are those of the assets."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from rasterio.transform import from_origin
from tests.unit.archives.stac_api import running_stac_api

from cubegate.app import create_app
from cubegate.archives.stac_assets import choose_assets, collection_settings
from cubegate.cli import main
from cubegate.errors import InvalidParameter, InvalidReference, NotFound
from cubegate.settings import load_settings

EXAMPLES = Path(__file__).resolve().parents[4] / "shared/data/conformance/stac_datacube/examples"
COG, ZARR = "image/tiff; application=geotiff; profile=cloud-optimized", "application/vnd+zarr"
DAYS = ("2020-03-01T12:00:00Z", "2020-01-01T12:00:00Z", "2020-02-01T12:00:00Z")


@pytest.fixture
def api():
    with running_stac_api() as api:
        yield api


@pytest.fixture
def config(tmp_path, api):
    (tmp_path / "cubes").mkdir()
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f"upstreams: {{'{tmp_path.as_uri()}/': {{}}}}\ncollections: [cubes/*.yaml]\narchives: {{stac: '{api.url}'}}\n"
    )
    return file


@pytest.fixture
def build(tmp_path, config):
    def build(*options):
        where = ("-o", str(tmp_path / "cubes"), "--config", str(config))
        return main(["build", "stac", *options, *where])

    return build


@pytest.fixture
def served(config, serving):
    return lambda: serving(create_app(load_settings(config, {}), {}))


def write_tiff(path, seed):
    values = np.random.default_rng(seed).normal(size=(40, 50)).astype("f4")
    options = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1,
        "height": 40,
        "width": 50,
        "crs": "EPSG:32611",
    }
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(path, "w", **options, **blocks, transform=from_origin(5e5, 4e6, 30, 30)) as file:
        file.write(values, 1)
    return values


def write_zarr(path, west):
    rng = np.random.default_rng(int(west))
    axes = {"time": np.arange(3), "y": 4e6 - 30.0 * np.arange(12), "x": west + 30.0 * np.arange(10)}
    dataset = xr.Dataset({"v": (("time", "y", "x"), rng.normal(size=(3, 12, 10)).astype("f4"))}, axes)
    dataset["time"].attrs["units"] = "days since 2020-01-01"
    for name in "xy":
        dataset[name].attrs["standard_name"] = f"projection_{name}_coordinate"
    dataset.to_zarr(path, zarr_format=2, consolidated=True)
    return dataset


def test_cogs_are_stacked_along_the_time_of_their_items(api, build, served, tmp_path, compared):
    truth = {}
    for number, when in enumerate(DAYS):
        assets = {"thumbnail": {"href": "https://elsewhere.example/x.png", "type": "image/png"}}
        for key in ("vx", "vy"):
            path = tmp_path / f"{key}{number}.tif"
            truth[key, when] = write_tiff(path, 10 * number + len(key) + (key == "vy"))
            assets[key] = (path.as_uri(), COG)
        api.add(f"item{number}", when, assets)
    assert (
        build("--collection", "velocity", "--bbox=-10,-10,10,10", "--datetime", "2020-01-01/2020-12-31") == 0
    )
    assert api.searches[0]["bbox"] == [-10, -10, 10, 10]
    assert api.searches[0]["datetime"] == "2020-01-01T00:00:00Z/2020-12-31T23:59:59Z"
    assert len(api.searches) == 2
    with served() as url:
        with xr.open_zarr(f"{url}/datasets/velocity/zarr", zarr_format=2) as opened:
            times = [np.datetime64(when.removesuffix("Z"), "ns") for when in sorted(DAYS)]
            assert opened.time.values.tolist() == np.array(times).astype("M8[ns]").tolist()
            for (key, when), values in truth.items():
                found = opened[key].sel(time=np.datetime64(when.removesuffix("Z"))).values
                np.testing.assert_array_equal(found, values)
                compared(found)
        listed = httpx.get(f"{url}/datasets/velocity/timeseries?x=500015&y=3999985&variables=vx&f=json")
        assert listed.status_code == 200, listed.text


def test_a_stack_of_geotiffs_is_that_of_a_search(api, config, served, tmp_path, compared):
    write_zarr(tmp_path / "a.zarr", 5e5)
    truth = {}
    for number, when in enumerate(DAYS):
        path = tmp_path / f"v{number}.tif"
        truth[when] = write_tiff(path, number)
        # a kind that would be preferred, but here GeoTIFFs are asked for
        assets = {"v": (path.as_uri(), COG), "all": ((tmp_path / "a.zarr").as_uri(), ZARR)}
        api.add(f"item{number}", when, assets)
    where = ("-o", str(tmp_path / "cubes"), "--config", str(config))
    assert main(["build", "cog-stack", "--collection", "velocity", *where]) == 0
    with served() as url, xr.open_zarr(f"{url}/datasets/cog-stack/zarr", zarr_format=2) as opened:
        for when, values in truth.items():
            found = opened.v.sel(time=np.datetime64(when.removesuffix("Z"))).values
            np.testing.assert_array_equal(found, values)
            compared(found)
    both = ("--collection", "velocity", "--template", "x{year}.tif")
    assert main(["build", "cog-stack", *both, *where]) == 1


def test_one_zarr_store_is_mounted_as_it_is(api, build, served, tmp_path, compared):
    truth = write_zarr(tmp_path / "a.zarr", 5e5)
    dimensions = {
        "x": {"type": "spatial", "axis": "x", "reference_system": 32611},
        "y": {"type": "spatial", "axis": "y", "reference_system": 32611},
        "time": {"type": "temporal"},
    }
    api.add("a", None, {"zarr": ((tmp_path / "a.zarr").as_uri(), ZARR)}, start_datetime="2020-01-01T00:00:00Z",
            end_datetime="2020-02-01T00:00:00Z", **{"cube:dimensions": dimensions})  # fmt: skip
    assert build("--collection", "velocity") == 0
    written = yaml.safe_load((tmp_path / "cubes" / "velocity.yaml").read_text())
    assert written["title"] == "Velocities"
    assert written["crs"] == "EPSG:32611"
    assert written["dimensions"] == {"x": "x", "y": "y", "time": "time"}
    with served() as url:
        answer = httpx.get(f"{url}/datasets/velocity/timeseries?x=500060&y=3999940&f=json")
        found = np.array(answer.json()["variables"]["v"]["values"]) if "variables" in answer.json() else None
        assert answer.status_code == 200, answer.text
        with xr.open_zarr(f"{url}/datasets/velocity/zarr", zarr_format=2) as opened:
            np.testing.assert_array_equal(opened.v.values, truth.v.values)
            compared(opened.v.values)
    assert found is None or np.allclose(found, truth.v.values[:, 2, 2])


def test_several_zarr_stores_are_combined(api, build, tmp_path):
    for name, west in (("a", 5e5), ("b", 6e5)):
        write_zarr(tmp_path / f"{name}.zarr", west)
        api.add(name, DAYS[0], {"data": ((tmp_path / f"{name}.zarr").as_uri(), ZARR)})
    assert build("--collection", "velocity", "--id", "both") == 0
    cubes = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "cubes").glob("*.yaml")}
    assert set(cubes) == {"both", "both-a", "both-b"}
    assert cubes["both"]["source"] == {"kind": "combined", "members": ["both-a", "both-b"]}


def test_items_are_read_from_a_file(build, tmp_path, capsys):
    write_tiff(tmp_path / "v.tif", 1)
    item = {
        "type": "Feature", "id": "one", "properties": {"datetime": DAYS[0]}, "links": [],
        "assets": {"v": {"href": "./v.tif", "type": COG}},
    }  # fmt: skip
    (tmp_path / "items.json").write_text(json.dumps(item))
    assert build("--items", str(tmp_path / "items.json"), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["id"], report["granules"]) == ("items", ["one"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda api: setattr(api, "status", 503), "is not available (HTTP 503)"),
        (lambda api: setattr(api, "status", 403), "refuses the search (HTTP 403)"),
        (lambda api: setattr(api, "status", 400), "does not take the search (HTTP 400)"),
        (lambda api: setattr(api, "status", 302), "does not take the search (HTTP 302)"),
        (lambda api: setattr(api, "next_url", "http://127.0.0.1:1/search"), "links to another server"),
        (lambda api: api.items.clear(), "found no item"),
        (lambda api: api.items.__setitem__(0, {"type": "Feature", "id": "x"}), "no STAC item"),
        (lambda api: api.items[0]["assets"]["v"].update(href="https://elsewhere.example/v.tif?sig=hidden"), "No upstream may read v of item0"),
        (lambda api: api.items[1]["assets"].clear(), "No kind of asset that can be read is in every item"),
        (lambda api: api.items[0]["properties"].update(datetime="yesterday"), "no STAC item"),
    ],
)  # fmt: skip
def test_what_fails_is_said_and_nothing_is_mounted(api, build, tmp_path, capsys, *, change, said):
    for number in range(3):
        path = tmp_path / f"v{number}.tif"
        write_tiff(path, number)
        api.add(f"item{number}", DAYS[number], {"v": (path.as_uri(), COG)})
    change(api)
    assert build("--collection", "velocity") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "secret" not in told
    assert "hidden" not in told
    assert not list((tmp_path / "cubes").glob("*.yaml"))


def test_a_search_or_a_file_is_due(build, capsys):
    assert build() == 1
    assert "--collection or --items" in " ".join(capsys.readouterr().err.split())


def item(**assets):
    return {"id": "i", "properties": {"datetime": DAYS[0]}, "assets": assets}


def test_the_best_kind_that_all_have_is_taken():
    tif, cube = (
        {"href": "https://a.example/v.tif"},
        {"href": "https://a.example/v.nc", "type": "application/netcdf"},
    )
    references = {"href": "https://a.example/v.zarr.json.gz"}
    both = [item(v=tif, nc=cube, k=references), item(v=tif, nc=cube)]
    assert {asset.kind for asset in choose_assets(both, [], lambda _: True)} == {"file"}
    assert {asset.kind for asset in choose_assets(both[:1], [], lambda _: True)} == {"kerchunk"}
    assert {asset.key for asset in choose_assets(both, ["v"], lambda _: True)} == {"v"}
    with pytest.raises(InvalidParameter, match="no asset 'k'"):
        choose_assets(both, ["k"], lambda _: True)
    with pytest.raises(NotFound, match="found no item"):
        choose_assets([], [], lambda _: True)


def test_an_address_that_may_be_read_is_taken():
    asset = {"href": "https://a.example/v.tif", "alternate": {"s3": {"href": "s3://bucket/v.tif"}}}
    (found,) = choose_assets([item(v=asset)], [], lambda url: url.startswith("s3:"))
    assert found.url == "s3://bucket/v.tif"
    with pytest.raises(InvalidReference, match=r"s3://bucket/v\.tif"):
        choose_assets([item(v=asset)], [], lambda _: False)


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the real files are not beside the project")
def test_what_the_datacube_extension_says_is_taken():
    document = json.loads((EXAMPLES / "daymet-hi-annual.json").read_text())
    found = collection_settings(iter([{}, document]))
    assert found["dimensions"] == {"x": "x", "y": "y", "time": "time"}
    assert found["crs"].startswith("PROJCRS")


@pytest.mark.parametrize("references", [False, True])
def test_netcdf_files_and_references_over_them_are_joined(
    api, build, served, tmp_path, *, compared, make_stack, scan_granule, references
):
    stack = make_stack(tmp_path / "stack")
    for number, path in enumerate(stack.granules):
        assets = {"data": (path.as_uri(), "application/x-netcdf")}
        if references:
            document = scan_granule(path, inline_threshold=0)
            sidecar = path.with_suffix(".zarr.json")
            sidecar.write_text(json.dumps(document))
            assets["index"] = {"href": sidecar.as_uri(), "type": "application/json", "roles": ["index"]}
        # the files know their times better than their items
        api.add(f"item{number}", DAYS[0], assets)
    assert build("--collection", "velocity") == 0
    with served() as url, xr.open_zarr(f"{url}/datasets/velocity/zarr", zarr_format=2) as opened:
        assert opened.time.values.astype("M8[D]").astype(str).tolist() == [
            "2020-01-01",
            "2020-01-13",
            "2020-01-25",
        ]
        np.testing.assert_array_equal(opened.displacement.values, stack.displacement)
        compared(opened.displacement.values)


def test_files_without_a_time_have_that_of_their_items(api, build, served, tmp_path, compared):
    truth = {}
    for number, when in enumerate(DAYS):
        values = np.random.default_rng(number).normal(size=(12, 10)).astype("f4")
        axes = {"y": 4e6 - 30.0 * np.arange(12), "x": 5e5 + 30.0 * np.arange(10)}
        dataset = xr.Dataset({"v": (("y", "x"), values)}, axes)
        for name in "xy":
            dataset[name].attrs["standard_name"] = f"projection_{name}_coordinate"
        path = tmp_path / f"scene{number}.nc"
        dataset.to_netcdf(path, engine="h5netcdf", encoding={"v": {"zlib": True, "chunksizes": (6, 5)}})
        api.add(f"item{number}", when, {"data": (path.as_uri(), "application/netcdf")})
        truth[when] = values
    assert build("--collection", "velocity") == 0
    with served() as url, xr.open_zarr(f"{url}/datasets/velocity/zarr", zarr_format=2) as opened:
        for when, values in truth.items():
            found = opened.v.sel(time=np.datetime64(when.removesuffix("Z"))).values
            np.testing.assert_array_equal(found, values)
            compared(found)
