"""The STAC API as pystac-client and pystac see it, and against the extension's own schema."""

import json
from pathlib import Path

import httpx
import jsonschema
import netCDF4
import numpy as np
import pystac
import pystac_client
import pytest
import referencing
import xarray as xr
from pyproj import CRS, Transformer
from pystac.validation import validate_dict

from cubegate.app import create_app
from cubegate.settings import load_settings

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
SCHEMA = SHARED / "conformance/stac_datacube/json-schema/schema.json"
DATACUBE = "https://stac-extensions.github.io/datacube/v2.3.0/schema.json"
PLACED = ["globe", "polar", "utm"]


@pytest.fixture(scope="module")
def root(server):
    return str(server.client.base_url).removesuffix("/datasets/")


def collection(root, name, status=200):
    response = httpx.get(f"{root}/stac/collections/{name}", timeout=60)
    assert response.status_code == status, response.text
    return response.json()


def test_pystac_client_opens_the_catalog_and_finds_the_cubes(root):
    catalog = pystac_client.Client.open(f"{root}/stac")
    assert catalog.conforms_to("COLLECTIONS")
    assert catalog.conforms_to("COLLECTION_SEARCH")
    assert not catalog.conforms_to("ITEM_SEARCH")
    found = {each.id: each for each in catalog.get_collections()}
    # one has no known CRS
    assert sorted(found) == PLACED
    assert catalog.get_collection("utm").to_dict() == found["utm"].to_dict()
    assert {link.href.rpartition("/")[2] for link in catalog.get_links("child")} == {*PLACED, "plain"}


@pytest.mark.parametrize("name", PLACED)
def test_collections_are_valid(root, name):
    document = collection(root, name)
    assert document["stac_extensions"] == [DATACUBE]
    # without the extension, whose schema pystac would fetch
    validate_dict({**document, "stac_extensions": []})


@pytest.mark.skipif(not SCHEMA.exists(), reason=f"{SCHEMA} is not here")
@pytest.mark.parametrize("name", PLACED)
def test_cubes_are_described_as_the_extension_asks(root, name):
    document = collection(root, name)
    schema = json.loads(SCHEMA.read_text("utf-8"))
    projjson = referencing.Resource.from_contents({"type": "object"}, referencing.jsonschema.DRAFT7)
    registry = referencing.Registry().with_resource(
        "https://proj.org/schemas/v0.7/projjson.schema.json", projjson
    )
    validator = jsonschema.Draft7Validator(schema, registry=registry)
    assert [error.message for error in validator.iter_errors(document)] == []
    broken = {**document, "cube:dimensions": {"x": {"type": "spatial", "axis": "x"}}}
    assert not validator.is_valid(broken)


def test_the_landing_page_is_a_valid_catalog(root):
    document = httpx.get(f"{root}/stac", timeout=60).json()
    validate_dict(document)
    links = {link["rel"]: link for link in document["links"]}
    for rel in ("self", "root", "service-desc", "service-doc", "conformance", "data"):
        response = httpx.get(links[rel]["href"], timeout=60)
        assert response.status_code == 200, rel
        assert response.headers["content-type"].replace("; ", ";").startswith(links[rel]["type"])
    assert httpx.get(links["conformance"]["href"], timeout=60).json()["conformsTo"] == document["conformsTo"]
    assert set(httpx.get(links["service-desc"]["href"], timeout=60).json()["paths"]) == {
        "/stac", "/stac/api", "/stac/conformance", "/stac/collections", "/stac/collections/{collection_id}"
    }  # fmt: skip


def test_dimensions_and_extents_are_those_of_the_cube(root, cubes):
    cube, document = cubes["utm"], collection(root, "utm")
    dimensions = document["cube:dimensions"]
    x, y = cube["x"].values, cube["y"].values
    assert dimensions["x"] == {
        "type": "spatial", "axis": "x", "extent": [x[0] - 15, x[-1] + 15], "step": 30.0, "reference_system": 32611
    }  # fmt: skip
    assert dimensions["y"]["extent"] == [y[-1] - 15, y[0] + 15]
    times = [f"{np.datetime_as_string(time, 's')}Z" for time in cube["time"].values]
    assert dimensions["time"] == {"type": "temporal", "extent": [times[0], times[-1]], "values": times}
    assert document["extent"]["temporal"]["interval"] == [[times[0], times[-1]]]
    corners = Transformer.from_crs(CRS(32611), "OGC:CRS84", always_xy=True).transform_bounds(
        x[0] - 15, y[-1] - 15, x[-1] + 15, y[0] + 15, densify_pts=101
    )
    assert document["extent"]["spatial"]["bbox"] == [pytest.approx(corners, abs=1e-6)]
    assert document["cube:variables"]["displacement"] == {
        "type": "data", "dimensions": ["time", "y", "x"], "description": "displacement", "unit": "m"
    }  # fmt: skip
    assert document["cube:variables"]["quality"]["dimensions"] == ["y", "x"]
    assert {"displacement", "counts", "quality"} < set(document["keywords"])


def test_levels_are_vertical_and_other_calendars_are_no_time(root):
    document = collection(root, "globe")
    dimensions = document["cube:dimensions"]
    assert dimensions["level"] == {
        "type": "spatial",
        "axis": "z",
        "extent": [500.0, 850.0],
        "values": [500.0, 850.0],
    }
    assert dimensions["member"] == {"type": "other", "extent": [0.0, 2.0], "values": [0, 1, 2]}
    assert dimensions["time"]["type"] == "other"
    assert document["extent"]["temporal"]["interval"] == [[None, None]]
    assert document["extent"]["spatial"]["bbox"] == [[-180, -90, 180, 90]]
    assert set(document["cube:variables"]["t"]["dimensions"]) == set(dimensions)


def test_assets_lead_to_the_data(root, decoded):
    found = pystac.Collection.from_dict(collection(root, "utm"))
    assert list(found.assets) == ["zarr", "tiles", "edr", "dap"]
    expected = decoded["utm"]["displacement"]
    with xr.open_zarr(found.assets["zarr"].href, zarr_format=2, chunks=None) as opened:
        assert np.array_equal(opened["displacement"].values, expected.values, equal_nan=True)
    with netCDF4.Dataset(found.assets["dap"].href) as opened:
        opened.set_auto_maskandscale(False)
        assert np.array_equal(opened["displacement"][...], expected.values, equal_nan=True)
    assert httpx.get(found.assets["edr"].href, timeout=60).json()["id"] == "utm"
    assert httpx.get(found.assets["tiles"].href, timeout=60).json()["tilejson"]
    assert all(asset.media_type and asset.roles for asset in found.assets.values())


def test_pages_follow_each_other(root):
    catalog = pystac_client.Client.open(f"{root}/stac")
    address, seen = f"{root}/stac/collections?limit=1", []
    while address:
        page = httpx.get(address, timeout=60).json()
        seen += [each["id"] for each in page["collections"]]
        assert (len(page["collections"]), page["numberReturned"]) == (1, 1)
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert seen == PLACED == [each.id for each in catalog.get_collections()]
    for query in ("limit=0", "limit=101", "limit=x", "offset=-1", "none=1", "limit=1&limit=2"):
        assert httpx.get(f"{root}/stac/collections?{query}", timeout=60).status_code == 400, query
    assert httpx.get(f"{root}/stac/collections?offset=100", timeout=60).json()["collections"] == []


SEARCHES = [
    ({}, PLACED),
    ({"bbox": [-119, 35, -118, 36]}, ["globe", "utm"]),
    ({"bbox": [-119, 35, 0, -118, 36, 9]}, ["globe", "utm"]),
    ({"bbox": [241, 35, 242, 36]}, ["globe", "utm"]),
    ({"bbox": [170, 60, -50, 80]}, ["globe", "polar"]),
    ({"bbox": [-40, 60, 170, 80]}, ["globe"]),
    ({"datetime": "2019"}, ["globe"]),
    ({"datetime": "2020-01-03T00:00:00Z"}, ["globe", "utm"]),
    ({"datetime": "2020-06-15T00:00:10Z/2020-07-01"}, ["globe", "polar"]),
    ({"datetime": "../2020-01-03T00:00:00Z"}, ["globe", "utm"]),
    ({"datetime": "2020-02-01/.."}, PLACED),
    ({"q": "DISPLACEMENT"}, ["utm"]),
    ({"q": "nothing,the polar"}, ["polar"]),
    ({"q": "nothing"}, []),
    ({"bbox": [-119, 35, -118, 36], "q": "utm", "datetime": "2020-03"}, ["utm"]),
]


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize(("asked", "expected"), SEARCHES)
def test_collections_are_found_by_place_time_and_words(root, asked, expected, limit):
    search = pystac_client.Client.open(f"{root}/stac").collection_search(**asked, limit=limit)
    assert [each.id for each in search.collections()] == expected
    assert search.matched() == len(expected)


@pytest.mark.parametrize(
    "query",
    ["bbox=1,2,3", "bbox=1,2,3,x", "bbox=1,3,2,2", "bbox=1,2,3,91", "bbox=1e3,2,3,4", "datetime=2020-13", "bbox=1,2,3,4&bbox=1,2,3,5",
     "datetime=2021/2020"],
)  # fmt: skip
def test_a_search_that_means_nothing_is_400(root, query):
    assert httpx.get(f"{root}/stac/collections?{query}", timeout=60).json()["parameter"] in (
        "bbox",
        "datetime",
    )


def test_the_catalog_is_at_its_address_with_a_slash_too(root):
    catalog = pystac_client.Client.open(f"{root}/stac/")
    assert sorted(each.id for each in catalog.get_collections()) == PLACED


def test_what_is_not_there_or_nowhere_is_not_found(root):
    assert "none" in collection(root, "none", 404)["detail"]
    assert "crs:" in collection(root, "plain", 404)["detail"]


def test_a_broken_cube_never_breaks_the_list(tmp_path, cubes, serving):
    cubes["utm"].to_zarr(tmp_path / "utm.zarr", zarr_format=2)
    for name, source in {
        "a-broken": f'{{kind: zarr, href: "{(tmp_path / "nothing.zarr").as_uri()}"}}',
        "b-good": f'{{kind: zarr, href: "{(tmp_path / "utm.zarr").as_uri()}"}}',
        "c-both": "{kind: combined, members: [b-good, a-broken]}",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(f"id: {name}\ndescription: Of {name}\nsource: {source}\n")
    (tmp_path / "cubegate.yaml").write_text(
        f'upstreams: {{"{tmp_path.as_uri()}/": {{}}}}\ncollections: ["?-*.yaml"]\n'
    )
    with serving(create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})) as root:
        found = {each.id: each for each in pystac_client.Client.open(f"{root}/stac").get_collections()}
        assert list(found) == ["b-good", "c-both"]
        assert found["b-good"].description == "Of b-good"
        both = found["c-both"].to_dict()
        validate_dict({**both, "stac_extensions": []})
        assert set(both["assets"]) == {"tiles", "edr"}
        assert both["cube:dimensions"]["x"]["reference_system"] == 4326
        assert both["cube:variables"]["displacement"]["dimensions"] == ["time", "y", "x"]
        assert collection(root, "a-broken", 502)["status"] == 502
