"""pystac-client walks the catalog of the demo's cubes and of those over the poles and the antimeridian, and follows each asset to its values."""

import json
from pathlib import Path

import httpx
import jsonschema
import netCDF4
import numpy as np
import pystac_client
import pytest
import referencing
import xarray as xr
from pyproj import CRS, Transformer
from pystac.validation import validate_dict
from tests.clients.pictures import shown_numbers
from tests.clients.places import COLUMNS, DATES, RESCALE, ROWS
from tests.clients.screens import HALF, Expected
from tests.tile_documents import check_tilejson

SCHEMA = Path(__file__).resolve().parents[3] / "shared/data/conformance/stac_datacube/json-schema/schema.json"
BOXES = {"pole": (-180, 180), "south": (-180, 180), "seam": (170, -170), "aleutians": None}


@pytest.fixture(scope="module")
def catalog(places_url):
    return pystac_client.Client.open(f"{places_url}/stac")


def cell_centres(place):
    """Longitudes from -180 to 180 and latitudes of all cells."""
    x, y = place.transform @ np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5)
    lon, lat = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True).transform(x, y)
    return (lon + 180) % 360 - 180, lat


def within(box, lon, lat):
    """Which places are in a box as GeoJSON has it, with its west in the east where it crosses the antimeridian."""
    west, south, east, north = box
    across = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
    return across & (lat >= south) & (lat <= north)


def test_extents_hold_all_cells_and_little_else(catalog, places, compared):
    found = {each.id: each for each in catalog.get_collections()}
    assert sorted(found) == sorted(places)
    for name, place in places.items():
        ((west, south, east, north),) = found[name].extent.spatial.bboxes
        lon, lat = cell_centres(place)
        assert within((west, south, east, north), lon, lat).all()
        half = np.abs(np.diff(lat, axis=0)).max() + np.abs(np.diff(lat, axis=1)).max()
        pole = {"pole": 90, "south": -90}.get(name)
        assert south == pytest.approx(-90 if pole == -90 else lat.min(), abs=half)
        assert north == pytest.approx(90 if pole == 90 else lat.max(), abs=half)
        if BOXES[name]:
            assert (west, east) == BOXES[name]
        else:
            assert west > east
            beyond = lon % 360
            step = np.abs(np.diff(beyond, axis=1)).max()
            assert west == pytest.approx(beyond.min(), abs=step)
            assert east + 360 == pytest.approx(beyond.max(), abs=step)
        ((start, end),) = found[name].extent.temporal.intervals
        assert [f"{time:%Y-%m-%d}" for time in (start, end)] == [str(DATES[0])[:10], str(DATES[-1])[:10]]
        compared(lon)


def test_dimensions_are_those_of_the_grid(catalog, places):
    for name, place in places.items():
        dimensions = catalog.get_collection(name).extra_fields["cube:dimensions"]
        west, south, east, north = place.bounds
        x, y = (dimensions[each] for each in (("lon", "lat") if name == "seam" else ("x", "y")))
        assert (x["extent"], y["extent"]) == (pytest.approx([west, east]), pytest.approx([south, north]))
        assert x["step"] == pytest.approx(place.transform.a)
        assert y["step"] == pytest.approx(-place.transform.e)
        assert x["reference_system"] == y["reference_system"] == CRS(place.crs).to_epsg()
        assert [text[:10] for text in dimensions["time"]["values"]] == [str(date)[:10] for date in DATES]


@pytest.mark.skipif(not SCHEMA.exists(), reason=f"{SCHEMA} is not here")
def test_collections_are_valid_with_the_datacube_extension(catalog, demo_url):
    projjson = referencing.Resource.from_contents({"type": "object"}, referencing.jsonschema.DRAFT7)
    registry = referencing.Registry().with_resource(
        "https://proj.org/schemas/v0.7/projjson.schema.json", projjson
    )
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8")), registry=registry)
    for one in (catalog, pystac_client.Client.open(f"{demo_url}/stac")):
        for each in one.get_collections():
            document = httpx.get(each.get_self_href(), timeout=60).json()
            assert [error.message for error in validator.iter_errors(document)] == []
            # without the extension, whose schema pystac would fetch
            validate_dict({**document, "stac_extensions": []})
            broken = {**document, "cube:dimensions": {"x": {"type": "spatial", "axis": "x"}}}
            assert not validator.is_valid(broken)


SEARCHES = [
    ({"bbox": [179, 60, 181, 61]}, ["seam"]),
    ({"bbox": [179, 60, -179, 61]}, ["seam"]),
    ({"bbox": [-181, 60, -179, 61]}, ["seam"]),
    ({"bbox": [-179.5, 51.5, -179, 52]}, ["aleutians"]),
    ({"bbox": [0, 60, 1, 61]}, []),
    ({"bbox": [0, 85, 1, 86]}, ["pole"]),
    ({"bbox": [-180, -90, 180, -80]}, ["south"]),
    ({"bbox": [-180, -90, 180, 90]}, ["aleutians", "pole", "seam", "south"]),
    ({"datetime": "2020-01-05/2020-01-06"}, ["aleutians", "pole", "seam", "south"]),
    ({"datetime": "2019"}, []),
    ({"bbox": [150, 50, -150, 71], "datetime": "2020-01-27/..", "q": "seam"}, ["seam"]),
]


@pytest.mark.parametrize("limit", [1, None])
@pytest.mark.parametrize(("asked", "expected"), SEARCHES)
def test_a_search_finds_what_lies_there(catalog, asked, expected, limit):
    search = catalog.collection_search(**asked, limit=limit)
    assert [each.id for each in search.collections()] == expected


def test_each_asset_leads_to_the_granules_values(catalog, places, compared):
    for name, place in places.items():
        assets = catalog.get_collection(name).assets
        assert sorted(assets) == ["dap", "edr", "tiles", "zarr"]
        expected = np.stack([place.values(date) for date in range(3)])
        with xr.open_zarr(assets["zarr"].href, zarr_format=2, chunks=None) as opened:
            np.testing.assert_array_equal(opened["v"].values, expected)
            np.testing.assert_array_equal(opened["time"].values, DATES)
        with netCDF4.Dataset(assets["dap"].href) as opened:
            np.testing.assert_array_equal(opened["v"][:].filled(np.nan), expected)
        edr = httpx.get(assets["edr"].href, timeout=60).json()
        lon, lat = cell_centres(place)
        place_text = f"POINT({lon[61, 99]} {lat[61, 99]})"
        position = edr["data_queries"]["position"]["link"]["href"]
        series = httpx.get(position, params={"coords": place_text}, timeout=60).json()
        assert series["ranges"]["v"]["values"] == expected[:, 61, 99].tolist()
        compared(expected)
        compared(expected)
        compared(expected[:, 61, 99])


def test_the_tiles_of_the_assets_are_gdals_warp(catalog, places, compared):
    for name, place in places.items():
        described = httpx.get(
            catalog.get_collection(name).assets["tiles"].href,
            params={"rescale": RESCALE, "colormap": "turbo", "datetime": str(DATES[1])[:10]},
            timeout=60,
        ).json()
        check_tilejson(described)
        longitude, latitude, _ = described["center"]
        lon, _ = cell_centres(place)
        aside = np.abs((lon - longitude + 180) % 360 - 180)
        # in the middle of the cells, whichever side of 180 degrees these are on
        assert name in ("pole", "south") or aside.max() < 12
        zoom = min(described["maxzoom"], 3 if name in ("pole", "south") else 6)
        count = 2**zoom
        there_x, there_y = Transformer.from_crs("OGC:CRS84", 3857, always_xy=True).transform(
            longitude, latitude
        )
        column = min(int((there_x + HALF) / (2 * HALF) * count), count - 1)
        row = int((HALF - there_y) / (2 * HALF) * count)
        address = described["tiles"][0]
        for key, number in (("{z}", zoom), ("{x}", column), ("{y}", row)):
            address = address.replace(key, str(number))
        found = shown_numbers(httpx.get(address, timeout=60).content, "turbo")
        side = 2 * HALF / count
        bounds = (
            -HALF + column * side,
            HALF - (row + 1) * side,
            -HALF + (column + 1) * side,
            HALF - row * side,
        )
        expected = Expected(place, 1, "EPSG:3857", bounds=bounds, size=(256, 256))
        np.testing.assert_array_equal(found[expected.clear], expected.numbers[expected.clear])
        assert expected.present.size > 1000
        compared(expected.present)


def test_the_demos_assets_lead_to_its_values(demo_cubes, demo_url, compared):
    catalog = pystac_client.Client.open(f"{demo_url}/stac")
    assert [each.id for each in catalog.collection_search(bbox=[-50, 69, -49, 70]).collections()] == [
        "its-live"
    ]
    cube = catalog.get_collection("opera-f11116")
    expected = np.stack([demo_cubes.displacement(number) for number in range(3)])
    with xr.open_zarr(cube.assets["zarr"].href, zarr_format=2, chunks=None) as opened:
        np.testing.assert_array_equal(opened["displacement"][:3].values, expected)
    with netCDF4.Dataset(cube.assets["dap"].href) as opened:
        opened.set_auto_mask(False)
        np.testing.assert_array_equal(opened["displacement"][:3], expected)
    compared(expected)
    compared(expected)
    dimensions = cube.extra_fields["cube:dimensions"]
    assert [text[:10] for text in dimensions["time"]["values"]] == [
        f"{date:%Y-%m-%d}" for date in demo_cubes.dates()
    ]
    ice = demo_cubes.ice()
    speeds = catalog.get_collection("its-live")
    assert speeds.extra_fields["cube:dimensions"]["x"]["reference_system"] == 3413
    with xr.open_zarr(speeds.assets["zarr"].href, zarr_format=2, chunks=None, mask_and_scale=False) as opened:
        np.testing.assert_array_equal(opened["v"][:5].values, ice["v"][:5])
        compared(opened["v"][:5].values)
