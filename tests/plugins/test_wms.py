"""WMS over HTTP: maps compared with the cells that PROJ finds, in each CRS and both versions; OWSLib reads it."""

import io
import json
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from owslib.util import ServiceException
from owslib.wms import WebMapService
from PIL import Image
from pyproj import Transformer

NEW, OLD = "1.3.0", "1.1.1"
WMS = "{http://www.opengis.net/wms}"
OGC = "{http://www.opengis.net/ogc}"
STYLE = {"rescale": "-2,2", "colormap": "magma"}


def parse(text):
    return ET.fromstring(text)  # noqa: S314 - of our own server


def picture(response):
    assert response.headers["content-type"] == "image/png", response.text
    return np.array(Image.open(io.BytesIO(response.content)).convert("RGBA"))


def coloured(values):
    number = np.clip(np.floor((np.nan_to_num(values) + 2) / 4 * 255), 0, 254)
    found = np.array(mpl.colormaps["magma"]((number + 0.5) / 255, bytes=True))
    found[np.isnan(values)] = 0
    return found


def displacement_at(cube, crs, box, size, date=-1):
    """The values of the cells that hold the centres of pixels; the box is west, south, east, north."""
    west, south, east, north = box
    x = west + (np.arange(size[0]) + 0.5) / size[0] * (east - west)
    y = north - (np.arange(size[1]) + 0.5) / size[1] * (north - south)
    x, y = Transformer.from_crs(crs, 32611, always_xy=True).transform(*np.meshgrid(x, y))
    column, row = np.floor((x - 400_000) / 30), np.floor((3_900_015 - y) / 30)
    inside = (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
    values = cube.displacement.values[date].astype(float)
    return np.where(
        inside, values[np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)], np.nan
    )


def box_around(crs, margin=0.1):
    x, y = np.meshgrid([400_000, 401_200, 402_400], [3_898_215, 3_899_100, 3_900_015])
    x, y = Transformer.from_crs(32611, crs, always_xy=True).transform(x, y)
    across, down = np.ptp(x) * margin, np.ptp(y) * margin
    return float(x.min() - across), float(y.min() - down), float(x.max() + across), float(y.max() + down)


def ask_map(server, version, crs, box, status=200, **more):
    west, south, east, north = box
    turned = version == NEW and crs == "EPSG:4326"
    asked = {
        "SERVICE": "WMS", "VERSION": version, "REQUEST": "GetMap", "LAYERS": "displacement", "STYLES": "",
        "CRS" if version == NEW else "SRS": crs, "WIDTH": "160", "HEIGHT": "120", "FORMAT": "image/png",
        "TRANSPARENT": "TRUE", "BBOX": f"{south},{west},{north},{east}" if turned else f"{west},{south},{east},{north}",
        **STYLE, **more,
    }  # fmt: skip
    response = server.client.get(
        "/utm/wms", params={name: text for name, text in asked.items() if text is not None}
    )
    assert response.status_code == status, response.text
    return response


CRS = ["EPSG:32611", "EPSG:4326", "CRS:84", "EPSG:3857", "EPSG:3413", "EPSG:3995"]


@pytest.mark.parametrize("version", [NEW, OLD])
@pytest.mark.parametrize("crs", CRS)
def test_a_map_shows_the_cell_under_each_pixel(server, decoded, version, crs, compared):
    known = "OGC:CRS84" if crs == "CRS:84" else crs
    box = box_around(known)
    truth = displacement_at(decoded["utm"], known, box, (160, 120))
    found = picture(ask_map(server, version, crs, box))
    expected = coloured(truth)
    shown = ~np.isnan(truth)
    assert 0.2 < shown.mean() < 0.95
    np.testing.assert_array_equal(found[..., 3] > 0, shown)
    np.testing.assert_array_equal(found[shown], expected[shown])
    compared(truth)


def test_the_time_chooses_the_date_and_nothing_else_does(server, decoded):
    box = box_around("EPSG:3857")
    for text, number in (
        ("2020-02-15T00:00:00Z", 3),
        ("2020-02-15", 3),
        ("2020-02-10/2020-02-20", 3),
        ("", -1),
    ):
        found = picture(ask_map(server, NEW, "EPSG:3857", box, TIME=text))
        truth = displacement_at(decoded["utm"], "EPSG:3857", box, (160, 120), number)
        shown = ~np.isnan(truth)
        np.testing.assert_array_equal(found[shown], coloured(truth)[shown])


def test_what_is_missing_has_the_background_unless_it_is_transparent(server):
    box = box_around("EPSG:3857")
    for asked, expected in (({"TRANSPARENT": "FALSE"}, (255, 255, 255, 255)), ({"TRANSPARENT": None}, (255, 255, 255, 255)),
                            ({"TRANSPARENT": "false", "BGCOLOR": "0x102030"}, (16, 32, 48, 255))):  # fmt: skip
        assert tuple(picture(ask_map(server, NEW, "EPSG:3857", box, **asked))[0, 0]) == expected


BAD = [
    ({"LAYERS": "none"}, "LayerNotDefined", 400),
    ({"LAYERS": "displacement,counts"}, "LayerNotDefined", 400),
    ({"STYLES": "none"}, "StyleNotDefined", 400),
    ({"CRS": "EPSG:999999"}, "InvalidCRS", 400),
    ({"CRS": "EPSG:2154"}, "InvalidCRS", 400),
    ({"CRS": "+proj=longlat"}, "InvalidCRS", 400),
    ({"CRS": None}, "InvalidCRS", 400),
    ({"TIME": "2020-02-16"}, "InvalidDimensionValue", 400),
    ({"TIME": "2020-02"}, "InvalidDimensionValue", 400),
    ({"TIME": "now"}, "InvalidDimensionValue", 400),
    ({"FORMAT": "image/jpeg"}, "InvalidFormat", 400),
    ({"REQUEST": "GetTile"}, "OperationNotSupported", 400),
    ({"SERVICE": "WFS"}, "InvalidParameterValue", 400),
    ({"WIDTH": "2049"}, "InvalidParameterValue", 400),
    ({"WIDTH": "0"}, "InvalidParameterValue", 400),
    ({"HEIGHT": None}, "MissingParameterValue", 400),
    ({"BBOX": "1,2,3"}, "InvalidParameterValue", 400),
    ({"BBOX": "1,2,1,3"}, "InvalidParameterValue", 400),
    ({"BBOX": "nan,2,1,3"}, "InvalidParameterValue", 400),
    ({"BGCOLOR": "red", "TRANSPARENT": "FALSE"}, "InvalidParameterValue", 400),
    ({"rescale": "5"}, "InvalidParameterValue", 400),
    ({"colormap": "none"}, "InvalidParameterValue", 400),
    ({"mask": "none"}, "InvalidParameterValue", 400),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "code", "status"), BAD, ids=[json.dumps(case[0]) for case in BAD])
def test_bad_input_is_a_service_exception(server, asked, code, status):
    response = ask_map(server, NEW, "EPSG:3857", box_around("EPSG:3857"), status, **asked)
    assert response.headers["content-type"].startswith("text/xml")
    report = parse(response.text)
    assert (report.tag, report.get("version")) == (f"{OGC}ServiceExceptionReport", NEW)
    assert report.find(f"{OGC}ServiceException").get("code") == code


def test_exceptions_of_the_older_version_are_its_own(server):
    response = ask_map(server, OLD, "EPSG:999999", box_around("EPSG:3857"), 400)
    assert response.headers["content-type"].startswith("application/vnd.ogc.se_xml")
    report = parse(response.text)
    assert (report.tag, report.get("version")) == ("ServiceExceptionReport", OLD)
    assert report.find("ServiceException").get("code") == "InvalidSRS"


def test_text_that_xml_cannot_hold_does_not_break_an_exception(server):
    response = ask_map(server, NEW, "EPSG:3857", box_around("EPSG:3857"), 400, LAYERS="a\x00<&\x1b\"'")
    assert "a?<&?" in parse(response.text)[0].text.replace("\\x00", "?").replace("\\x1b", "?")


def test_a_map_over_the_budget_is_an_exception(serve):
    server = serve("{tile_chunks: 2}")
    response = ask_map(server, NEW, "EPSG:3857", box_around("EPSG:3857"), 413)
    assert "Zoom in" in parse(response.text)[0].text


@pytest.mark.parametrize("version", [NEW, OLD])
def test_the_value_at_a_pixel_is_that_of_the_map(server, decoded, version):
    crs, box = "EPSG:3857", box_around("EPSG:3857")
    truth = displacement_at(decoded["utm"], crs, box, (160, 120), 3)
    across, down = ("I", "J") if version == NEW else ("X", "Y")
    asked = {"REQUEST": "GetFeatureInfo", "QUERY_LAYERS": "displacement", "TIME": "2020-02-15"}
    checked = 0
    for column, row in ((80, 60), (0, 0), (40, 100), (20, 20), (159, 119), (22, 12)):
        given = {**asked, across: str(column), down: str(row), "INFO_FORMAT": "application/json"}
        found = ask_map(server, version, crs, box, **given).json()["features"]
        x, y = (
            box[0] + (column + 0.5) / 160 * (box[2] - box[0]),
            box[3] - (row + 0.5) / 120 * (box[3] - box[1]),
        )
        if not found:
            assert np.isnan(truth[row, column])
            continue
        properties = found[0]["properties"]
        if np.isnan(truth[row, column]):
            assert properties["value"] is None
        else:
            assert np.float32(properties["value"]) == np.float32(truth[row, column])
        assert (properties["units"], properties["time"]) == ("m", "2020-02-15T00:00:00Z")
        there = Transformer.from_crs(3857, 32611, always_xy=True).transform(x, y)
        assert abs(properties["x"] - there[0]) <= 15.001
        assert abs(properties["y"] - there[1]) <= 15.001
        lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(
            properties["x"], properties["y"]
        )
        np.testing.assert_allclose(found[0]["geometry"]["coordinates"], [lon, lat])
        checked += 1
    assert checked >= 3
    given = {**asked, across: "80", down: "60"}
    text = ask_map(server, version, crs, box, **given, INFO_FORMAT="text/plain").text
    assert f"value = {float(truth[60, 80])}" in text
    assert "<th>value</th>" in ask_map(server, version, crs, box, **given, INFO_FORMAT="text/html").text
    gml = parse(ask_map(server, version, crs, box, **given, INFO_FORMAT="application/vnd.ogc.gml").text)
    assert gml.find("{http://www.opengis.net/gml}featureMember/cell/value").text == str(float(truth[60, 80]))
    refused = ask_map(server, version, crs, box, 400, **{**given, across: "160"})
    assert (
        "InvalidPoint" if version == NEW else "InvalidParameterValue"
    ) in refused.text or "InvalidPoint" in refused.text


@pytest.mark.parametrize("version", [NEW, OLD])
def test_owslib_reads_it(server, version, decoded):
    url = str(server.client.base_url.join("utm/wms"))
    wms = WebMapService(url, version=version)
    assert wms.identification.title == "The utm cube"
    assert set(wms.contents) == {"displacement", "counts", "quality"}
    layer = wms["displacement"]
    assert layer.title == "displacement (m)"
    assert layer.crsOptions[0] == "EPSG:32611" or "EPSG:32611" in layer.crsOptions
    assert {"EPSG:4326", "EPSG:3857", "EPSG:3413"} <= set(layer.crsOptions)
    assert {"default", "viridis", "RdBu_r"} <= set(layer.styles)
    assert layer.timepositions is not None
    assert layer.timepositions[0] == "2020-01-03T00:00:00Z"
    assert (len(layer.timepositions), layer.defaulttimeposition) == (12, "2020-06-15T00:00:00Z")
    assert wms["quality"].timepositions is None
    x, y = Transformer.from_crs(32611, 4326, always_xy=True).transform(
        [400_000, 402_400], [3_898_215, 3_900_015]
    )
    np.testing.assert_allclose(layer.boundingBoxWGS84, [x[0], y[0], x[1], y[1]], atol=3e-4)
    box = box_around("EPSG:32611")
    answer = wms.getmap(
        layers=["displacement"], styles=["default"], srs="EPSG:32611", bbox=box, size=(160, 120),
        format="image/png", transparent=True, time=layer.timepositions[3], **STYLE,
    )  # fmt: skip
    found = np.array(Image.open(io.BytesIO(answer.read())).convert("RGBA"))
    truth = displacement_at(decoded["utm"], "EPSG:32611", box, (160, 120), 3)
    shown = ~np.isnan(truth)
    np.testing.assert_array_equal(found[shown], coloured(truth)[shown])
    legend = server.client.get(layer.styles["default"]["legend"])
    assert legend.headers["content-type"] == "image/png"
    with pytest.raises(ServiceException, match="no date"):
        wms.getmap(layers=["displacement"], styles=[""], srs="EPSG:32611", bbox=box, size=(16, 12),
                   format="image/png", time="1990-01-01")  # fmt: skip


def test_the_boxes_of_the_capabilities_are_in_the_order_of_their_crs(server):
    root = parse(server.ask("/utm/wms", SERVICE="WMS", REQUEST="GetCapabilities").text)
    layer = next(each for each in root.iter(f"{WMS}Layer") if each.findtext(f"{WMS}Name") == "displacement")
    names = [each.text for each in layer.findall(f"{WMS}CRS")]
    assert names[0] == "EPSG:32611"
    boxes = {
        box.get("CRS"): [float(box.get(side)) for side in ("minx", "miny", "maxx", "maxy")]
        for box in layer.findall(f"{WMS}BoundingBox")
    }
    assert set(boxes) == set(names)
    for name, found in boxes.items():
        west, south, east, north = box_around("OGC:CRS84" if name == "CRS:84" else name, 0)
        expected = [south, west, north, east] if name == "EPSG:4326" else [west, south, east, north]
        np.testing.assert_allclose(found, expected, rtol=2e-3)
    order = [each.tag.removeprefix(WMS) for each in layer]
    wanted = ["Name", "Title", "CRS", "EX_GeographicBoundingBox", "BoundingBox", "Dimension", "Style"]
    assert list(dict.fromkeys(order)) == wanted


def test_the_capabilities_of_some_layers(server):
    def named(**asked):
        root = parse(server.ask("/utm/wms", request="GetCapabilities", **asked).text)
        return [each.findtext(f"{WMS}Name") for each in root.findall(f".//{WMS}Layer/{WMS}Layer")]

    assert named(LAYERS="quality,displacement") == ["quality", "displacement"]
    assert set(named(layers="")) == set(named()) > {"quality", "displacement"}
    refused = parse(server.ask("/utm/wms", 400, request="GetCapabilities", layers="quality,nothing").text)[0]
    assert refused.get("code") == "LayerNotDefined"
    assert "'nothing'" in refused.text
    assert "quality" in refused.text


def test_versions_are_negotiated(server):
    for asked, version in (
        ({}, NEW),
        ({"VERSION": "1.3.0"}, NEW),
        ({"VERSION": "1.1.1"}, OLD),
        ({"version": "1.0.0"}, OLD),
        ({"VERSION": "2.0"}, NEW),
        ({"VERSION": "1.2"}, OLD),
    ):
        root = parse(server.ask("/utm/wms", Service="wms", request="getcapabilities", **asked).text)
        assert root.get("version") == version
        assert root.tag.endswith("WMS_Capabilities" if version == NEW else "WMT_MS_Capabilities")


def test_other_dimensions_have_a_default_that_is_stated(server, decoded):
    root = parse(server.ask("/globe/wms").text)
    layer = root.find(f".//{WMS}Layer/{WMS}Layer")
    stated = {each.get("name"): (each.get("default"), each.text) for each in layer.findall(f"{WMS}Dimension")}
    assert stated["level"] == ("500.0", "500.0,850.0")
    assert stated["member"] == ("0", "0,1,2")
    asked = {
        "REQUEST": "GetMap", "VERSION": NEW, "LAYERS": "t", "STYLES": "", "CRS": "CRS:84", "WIDTH": "72", "HEIGHT": "36",
        "FORMAT": "image/png", "BBOX": "-2.5,-90,357.5,90", **STYLE,
    }  # fmt: skip
    cube = decoded["globe"].t.isel(time=-1)
    for dims, plane in (
        ({}, cube.sel(level=500.0).isel(member=0)),
        ({"DIM_LEVEL": "850", "dim_member": "2"}, cube.sel(level=850.0).isel(member=2)),
    ):
        found = picture(server.ask("/globe/wms", **asked, **dims))
        np.testing.assert_array_equal(found, coloured(plane.values.astype(float)))
    refused = server.ask("/globe/wms", 400, **asked, DIM_LEVEL="7").text
    assert "level=7 is not on this dimension" in refused


def test_a_polar_map_over_the_pole_and_a_box_across_the_antimeridian(server, decoded, compared):
    cube = decoded["globe"].t.isel(time=-1, member=0).sel(level=500.0).values.astype(float)
    asked = {
        "REQUEST": "GetMap",
        "VERSION": NEW,
        "LAYERS": "t",
        "STYLES": "",
        "WIDTH": "128",
        "HEIGHT": "128",
        "FORMAT": "image/png",
        "TRANSPARENT": "TRUE",
        **STYLE,
    }
    for crs, box in (
        ("EPSG:3413", (-3e6, -3.1e6, 3.05e6, 3e6)),
        ("EPSG:3031", (-3e6, -3.1e6, 3.05e6, 3e6)),
        ("CRS:84", (160.3, 10.2, 200.1, 40.4)),
    ):
        step_x, step_y = (box[2] - box[0]) / 128, (box[3] - box[1]) / 128
        x, y = np.meshgrid(box[0] + step_x * (np.arange(128) + 0.5), box[3] - step_y * (np.arange(128) + 0.5))
        lon, lat = Transformer.from_crs(
            "OGC:CRS84" if crs == "CRS:84" else crs, 4326, always_xy=True
        ).transform(x, y)
        column, row = (
            np.floor((lon + 2.5) % 360 / 5).astype(int) % 72,
            np.clip(np.floor((90 - lat) / 5), 0, 35).astype(int),
        )
        found = picture(server.ask("/globe/wms", **asked, CRS=crs, BBOX=",".join(map(str, box))))
        np.testing.assert_array_equal(found, coloured(cube[row, column]))
        compared(cube[row, column])
