"""OWSLib reads our WMS, EDR and Coverages: over the poles and across the antimeridian, beside GDAL's warp and the granules."""

import io
import json

import matplotlib.image as mpl_image
import numpy as np
import pytest
from owslib.ogcapi.coverages import Coverages
from owslib.ogcapi.edr import EnvironmentalDataRetrieval
from owslib.util import ServiceException
from owslib.wms import WebMapService
from pyproj import Transformer
from tests.clients.pictures import shown_numbers
from tests.clients.places import COLUMNS, DATES, RESCALE, ROWS
from tests.clients.screens import HALF, Expected
from tests.wms_schemas import NEW, OLD, WMSSchemas

VERSIONS = pytest.mark.parametrize("version", [NEW, OLD])
WIDTH, HEIGHT = 200, 150
COLORMAP = "turbo"
# west, south, east, north
MAPS = [
    ("pole", "EPSG:4326", (-180, 60, 180, 90)),
    ("pole", "EPSG:4326", (150, 70, 210, 85)),
    ("pole", "EPSG:3857", (-HALF, 9e6, HALF, 19e6)),
    ("pole", "EPSG:3413", (-2.6e6, -1.6e6, 2.6e6, 1.6e6)),
    ("pole", "EPSG:3413", (-4e5, -3e5, 4e5, 3e5)),
    ("pole", "EPSG:3995", (-3e6, -3e6, 3e6, 3e6)),
    ("south", "EPSG:4326", (-180, -90, 180, -62)),
    ("south", "EPSG:3857", (-HALF, -19e6, HALF, -9e6)),
    ("south", "EPSG:3031", (-2.6e6, -1.6e6, 2.6e6, 1.6e6)),
    ("south", "EPSG:3031", (-4e5, -3e5, 4e5, 3e5)),
    ("seam", "EPSG:4326", (165, 55, 195, 72)),
    ("seam", "EPSG:4326", (-182, 60, -165, 72)),
    ("seam", "EPSG:4326", (-180, 50.03, 179.5, 80.07)),
    ("seam", "EPSG:3857", (HALF - 1.2e6, 8e6, HALF + 1.2e6, 1.1e7)),
    ("seam", "EPSG:3413", (-3e6, 1.2e6, -1.2e6, 3e6)),
    ("seam", "EPSG:3995", (-7e5, 2.1e6, 7e5, 3.6e6)),
    ("seam", "EPSG:32601", (-5e5, 6.3e6, 1e6, 7.9e6)),
    ("seam", "EPSG:32660", (-1e5, 6.3e6, 1.3e6, 7.9e6)),
    ("aleutians", "EPSG:4326", (171, 50, 181, 54)),
    ("aleutians", "EPSG:4326", (177, 51, 185, 53)),
    ("aleutians", "EPSG:3857", (HALF - 6e5, 6.6e6, HALF + 6e5, 7.1e6)),
    ("aleutians", "EPSG:3413", (-3.5e6, 2.7e6, -3e6, 3.2e6)),
    ("aleutians", "EPSG:3995", (-4.5e5, 4.1e6, 1e5, 4.6e6)),
    ("aleutians", "EPSG:32601", (1.9e5, 5.69e6, 4.1e5, 5.83e6)),
    ("aleutians", "EPSG:32660", (4e5, 5.6e6, 9e5, 5.9e6)),
]


def service(url, name, version):
    return WebMapService(f"{url}/datasets/{name}/wms", version=version)


def ask_map(wms, crs, bounds, **more):
    asked = {
        "layers": ["v"], "styles": [""], "srs": crs, "bbox": bounds, "size": (WIDTH, HEIGHT), "format": "image/png",
        "transparent": True, "rescale": RESCALE, "colormap": COLORMAP, **more,
    }  # fmt: skip
    return wms.getmap(**asked)


@VERSIONS
@pytest.mark.parametrize(("name", "crs", "bounds"), MAPS)
def test_a_map_is_gdals_warp_of_the_granule(places, places_url, compared, *, version, name, crs, bounds):
    wms = service(places_url, name, version)
    assert crs in wms["v"].crsOptions
    date = MAPS.index((name, crs, bounds)) % 3
    found = shown_numbers(ask_map(wms, crs, bounds, time=str(DATES[date])[:10]).read(), COLORMAP)
    expected = Expected(places[name], date, crs, bounds=bounds, size=(WIDTH, HEIGHT))
    np.testing.assert_array_equal(found[expected.clear], expected.numbers[expected.clear])
    assert expected.present.size > 200
    compared(expected.present)


@VERSIONS
def test_the_capabilities_are_valid_and_their_boxes_hold_every_cell(places, places_url, compared, version):
    schemas = WMSSchemas()
    for name, place in places.items():
        wms = service(places_url, name, version)
        schemas.capabilities(wms.getServiceXML(), version)
        layer = wms["v"]
        x, y = place.transform @ np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5)
        lon, lat = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True).transform(x, y)
        west, south, east, north = layer.boundingBoxWGS84
        lon = (lon + 180) % 360 - 180
        assert ((lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)).all()
        # of 1.1.1 OWSLib reads one
        boxes = layer.crs_list if version == NEW else [layer.boundingBox]
        assert {box[4] for box in boxes} <= set(layer.crsOptions)
        assert len(boxes) == len(layer.crsOptions) if version == NEW else 1
        for *box, crs in boxes:
            inside = np.abs(lat) < 85 if crs == "EPSG:3857" else np.ones(lat.shape, bool)
            there = "OGC:CRS84" if crs == "CRS:84" else crs
            across, up = Transformer.from_crs("OGC:CRS84", there, always_xy=True).transform(
                lon[inside], lat[inside]
            )
            # of curved edges the box is that of points between which a little of an arc may be left out
            margin = (
                2e-3 * max(box[2] - box[0], box[3] - box[1])
                if "32" in crs or crs in ("EPSG:3413", "EPSG:3995")
                else 1e-6
            )
            assert (across >= box[0] - margin).all(), (name, crs)
            assert (across <= box[2] + margin).all(), (name, crs)
            assert (up >= box[1] - margin).all(), (name, crs)
            assert (up <= box[3] + margin).all(), (name, crs)
            compared(across)


def test_utm_zones_are_offered_across_the_antimeridian(places_url):
    offered = {
        name: {code for code in service(places_url, name, NEW)["v"].crsOptions if code.startswith("EPSG:326")}
        for name in ("seam", "aleutians", "pole")
    }
    assert offered["seam"] == {"EPSG:32659", "EPSG:32660", "EPSG:32601", "EPSG:32602"}
    assert offered["aleutians"] >= {"EPSG:32601", "EPSG:32660"}
    assert offered["pole"] == set()


@VERSIONS
@pytest.mark.parametrize(
    ("name", "crs", "bounds"), [MAPS[4], MAPS[9], MAPS[10], MAPS[13], MAPS[20], MAPS[24]]
)
def test_a_pixels_value_is_the_granules(places, places_url, compared, *, version, name, crs, bounds):
    place = places[name]
    wms = service(places_url, name, version)
    expected = Expected(place, 1, crs, bounds=bounds, size=(WIDTH, HEIGHT))
    random = np.random.default_rng(5)
    rows, columns = np.nonzero(expected.clear & ~np.isnan(expected.numbers))
    checked = []
    for chosen in random.choice(rows.size, 4, replace=False):
        row, column = int(rows[chosen]), int(columns[chosen])
        answer = wms.getfeatureinfo(
            layers=["v"], query_layers=["v"], styles=[""], srs=crs, bbox=bounds, size=(WIDTH, HEIGHT),
            format="image/png", info_format="application/json", xy=(column, row), time=str(DATES[1])[:10],
        )  # fmt: skip
        (feature,) = json.loads(answer.read())["features"]
        facts = feature["properties"]
        assert facts["value"] == expected.numbers[row, column]
        assert (facts["units"], facts["time"][:10], facts["cube"]) == ("m", str(DATES[1])[:10], name)
        i, j = ~place.transform @ (facts["x"], facts["y"])
        assert place.values(1)[int(j), int(i)] == facts["value"]
        checked.append(facts["value"])
    compared(np.array(checked))


BAD = [
    ({"time": "1990-01-01"}, "no date"),
    ({"layers": ["none"]}, "none"),
    ({"styles": ["none"]}, "none"),
    ({"srs": "EPSG:2154"}, "not offered in this CRS"),
    ({"format": "image/jpeg"}, "image/jpeg"),
    ({"size": (4000, 10)}, "4000"),
]


@VERSIONS
@pytest.mark.parametrize(("asked", "match"), BAD)
def test_what_is_refused_is_raised_with_its_reason(places_url, *, version, asked, match):
    wms = service(places_url, "pole", version)
    with pytest.raises(ServiceException, match=match):
        ask_map(wms, **{"crs": "EPSG:3413", "bounds": MAPS[3][2], **asked})


@VERSIONS
def test_the_demos_layers_are_named_and_dated(demo_cubes, demo_url, version):
    schemas = WMSSchemas()
    for name in ("opera-f11116", "its-live"):
        wms = service(demo_url, name, version)
        assert len(wms.contents) > 1
        schemas.capabilities(wms.getServiceXML(), version)
    wms = service(demo_url, "opera-f11116", version)
    layer = wms["displacement"]
    assert (layer.title.endswith("(m)"), layer.queryable) == (True, 1)
    assert layer.defaulttimeposition == f"{demo_cubes.dates()[-1]:%Y-%m-%dT%H:%M:%SZ}"
    answer = wms.getmap(
        layers=["displacement"], styles=["default"], srs="EPSG:32611", size=(50, 40), format="image/png",
        bbox=(demo_cubes.x[0], demo_cubes.y[39], demo_cubes.x[49], demo_cubes.y[0]), transparent=True,
    )  # fmt: skip
    assert mpl_image.imread(io.BytesIO(answer.read())).shape == (40, 50, 4)


@VERSIONS
def test_the_demos_speeds_are_asked_for_by_a_time_of_nanoseconds(demo_cubes, demo_url, compared, version):
    wms = service(demo_url, "its-live", version)
    ice = demo_cubes.ice()
    times, x, y = (ice[name][:] for name in ("mid_date", "x", "y"))
    listed = wms["v"].timepositions
    order = np.unique(times)
    assert len(listed) == len(order)
    half = abs(x[1] - x[0]) / 2
    bounds = (float(x.min() - half), float(y.min() - half), float(x.max() + half), float(y.max() + half))
    checked = []
    for number in (0, 7, len(order) - 1):
        (first, *_) = np.flatnonzero(times == order[number])
        for column, row in ((3, 4), (60, 50), (len(x) - 1, 0)):
            answer = wms.getfeatureinfo(
                layers=["v"], query_layers=["v"], styles=[""], srs="EPSG:3413", bbox=bounds, size=(len(x), len(y)),
                format="image/png", info_format="application/json", xy=(column, row), time=listed[number],
            )  # fmt: skip
            facts = json.loads(answer.read())["features"][0]["properties"]
            assert (facts["x"], facts["y"]) == (x[column], y[row])
            stored = ice["v"][first, row, column]
            fill = ice["v"].attrs.get("_FillValue", ice["v"].fill_value)
            assert facts["value"] == (None if stored == fill else stored)
            checked.append(stored)
    compared(np.array(checked))


def values(coverage, name):
    """The values of a coverage's parameter by its axes, NaN where nothing is known."""
    array = coverage["ranges"][name]
    return np.array([np.nan if each is None else each for each in array["values"]], "f4").reshape(
        array["shape"]
    )


def test_edr_leads_to_the_collections_and_their_queries(places, places_url):
    edr = EnvironmentalDataRetrieval(f"{places_url}/edr")
    assert sorted(edr.data()) == sorted(places)
    assert "/collections/{collection_id}/cube" in edr.api()["paths"]
    assert any("ogcapi-edr-1/1.1/conf/core" in each for each in edr.conformance()["conformsTo"])
    assert edr.collection("pole")["parameter_names"]["v"]["unit"]["symbol"]["value"] == "m"


def test_edr_gives_the_granules_values(places, places_url, compared):
    edr = EnvironmentalDataRetrieval(f"{places_url}/edr")
    for name, place in places.items():
        to_degrees = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True)
        row, column = 63, 101
        lon, lat = to_degrees.transform(*(place.transform @ (column + 0.4, row + 0.6)))
        found = edr.query_data(name, "position", coords=f"POINT({lon} {lat})", parameter_names=["v"])
        expected = np.array([place.values(date)[row, column] for date in range(3)])
        np.testing.assert_array_equal(values(found, "v"), expected)
        compared(expected)
        x, y = place.transform @ (np.arange(90, 120) + 0.5, np.arange(50, 80) + 0.5)
        west, east, south, north = x[0], x[-1], y[-1], y[0]
        date = str(DATES[1])[:10]
        block = place.values(1)[50:80, 90:120]
        ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
        asked = {"crs": "native" if name != "seam" else "OGC:CRS84", "datetime_": date}
        box = edr.query_data(name, "cube", bbox=[west, south, east, north], **asked)
        area = edr.query_data(name, "area", coords=f"POLYGON(({ring}))", **asked)
        for each in (box, area):
            np.testing.assert_array_equal(values(each, "v").reshape(30, 30), block)
            np.testing.assert_allclose(each["domain"]["axes"]["x"]["values"], x)
            np.testing.assert_allclose(each["domain"]["axes"]["y"]["values"], y)
            compared(block)
        line = edr.query_data(
            name, "trajectory", coords=f"LINESTRING({west} {north},{east} {north})", **asked
        )
        np.testing.assert_array_equal(values(line, "v").reshape(-1), block[0])
        compared(block[0])


def test_coverages_are_cut_along_their_own_axes(places, places_url, compared):
    api = Coverages(f"{places_url}/edr")
    assert sorted(api.coverages()) == sorted(places)
    for name, place in places.items():
        x, y = place.transform @ (np.arange(90, 120) + 0.5, np.arange(50, 80) + 0.5)
        names = ("lon", "lat") if name == "seam" else ("x", "y")
        subset = [(names[0], x[0], x[-1]), (names[1], y[-1], y[0])]
        dates = [str(DATES[0])[:10], str(DATES[1])[:10]]
        answer = json.load(api.coverage(name, subset=subset, properties=["v"], datetime=dates))
        expected = np.stack([place.values(date)[50:80, 90:120] for date in (0, 1)])
        np.testing.assert_array_equal(values(answer, "v"), expected)
        compared(expected)


def test_the_demo_by_edr(demo_cubes, demo_url, compared):
    edr = EnvironmentalDataRetrieval(f"{demo_url}/edr")
    x, y = float(demo_cubes.x[70]), float(demo_cubes.y[41])
    lon, lat = Transformer.from_crs(32611, "OGC:CRS84", always_xy=True).transform(x, y)
    found = edr.query_data(
        "opera-f11116", "position", coords=f"POINT({lon} {lat})", parameter_names=["displacement"]
    )
    expected = demo_cubes.series(x, y)
    np.testing.assert_array_equal(values(found, "displacement"), expected)
    assert [text[:10] for text in found["domain"]["axes"]["t"]["values"]] == [
        f"{date:%Y-%m-%d}" for date in demo_cubes.dates()
    ]
    compared(expected)
