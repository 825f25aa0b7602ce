"""GetFeatureInfo of screens that are wider than a map may be, in the CRS that it names, and as GML."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

# the utm cube at 0.5 m a pixel, in parts of which a map may show it
WIDTH, HEIGHT = 4800, 3600
ASKED = {
    "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "displacement",
    "QUERY_LAYERS": "displacement", "STYLES": "", "CRS": "EPSG:32611", "BBOX": "400000,3898215,402400,3900015",
    "WIDTH": str(WIDTH), "HEIGHT": str(HEIGHT), "INFO_FORMAT": "application/json",
}  # fmt: skip


def ask(server, column, row, **more):
    return server.client.get("/utm/wms", params={**ASKED, "I": str(column), "J": str(row), **more})


@pytest.mark.parametrize("column", [0, 2047, 2048, 4095, 4096, 4799])
def test_a_wide_screen_is_asked_about(server, decoded, compared, column):
    values = decoded["utm"].displacement.values[-1]
    for row in (900, 2047, 2048, 3599):
        answer = ask(server, column, row)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["features"]
        expected = values[row // 60, column // 60]
        assert found["properties"]["value"] == (None if np.isnan(expected) else pytest.approx(expected))
        assert found["properties"]["x"] == 400_015 + 30 * (column // 60)
        assert found["properties"]["y"] == 3_900_000 - 30 * (row // 60)
        compared(expected)


def test_a_map_stays_as_small_as_it_may_be(server):
    answer = ask(server, 1, 1, REQUEST="GetMap", FORMAT="image/png")
    assert answer.status_code == 400
    assert "1 to 2048" in answer.text
    assert ask(server, 1, 1, WIDTH="40000").status_code == 400


def test_features_name_their_crs(server):
    for column in (2000, 4799):
        document = ask(server, column, 3000).json()
        assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:OGC:1.3:CRS84"


GML = "{http://www.opengis.net/gml}"


def test_gml_says_the_same_as_json(server, compared):
    missing = 0
    for column, row in ((2000, 3000), (30, 30), (4799, 0)):
        (feature,) = ask(server, column, row).json()["features"]
        answer = ask(server, column, row, INFO_FORMAT="application/vnd.ogc.gml")
        assert answer.headers["content-type"] == "application/vnd.ogc.gml"
        root = ET.fromstring(answer.text)  # noqa: S314 - of our own server
        cell = root.find(f"{GML}featureMember/cell")
        point = cell.find(f"geometry/{GML}Point")
        assert point.get("srsName") == "EPSG:4326"
        found = [float(part) for part in point.find(f"{GML}coordinates").text.split(",")]
        assert found == feature["geometry"]["coordinates"]
        said = {each.tag: each.text for each in cell if each.tag != "geometry"}
        expected = feature["properties"]
        missing += expected["value"] is None
        assert said == {name: "missing" if each is None else str(each) for name, each in expected.items()}
        compared(np.array(found))
    assert missing == 1


def test_gml_of_nothing_has_no_feature(server):
    answer = ask(server, 0, 0, BBOX="300000,3898215,302400,3900015", INFO_FORMAT="application/vnd.ogc.gml")
    assert len(ET.fromstring(answer.text)) == 0  # noqa: S314 - of our own server
