"""Clients ask at the addresses that the capabilities give, so these hold what the client asked for beyond WMS."""

import io
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

LINK = "{http://www.w3.org/1999/xlink}href"
BEYOND = {
    "rescale": "-2,2",
    "colormap": "magma",
    "where": "time>2020-02-10",
    "mask": "quality>100",
    "TIME": "2020-03-15",
}


def addresses(server, path, **asked):
    """The address of each operation, of the service, and of the legend of the second style of the first layer."""
    answer = server.ask(path, SERVICE="WMS", REQUEST="GetCapabilities", **asked)
    root = ET.fromstring(answer.text)  # noqa: S314 - of our own server
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    found = {
        name: root.find(f"Capability/Request/{name}/DCPType/HTTP/Get/OnlineResource").get(LINK)
        for name in ("GetCapabilities", "GetMap", "GetFeatureInfo")
    }
    found["service"] = root.find("Service/OnlineResource").get(LINK)
    found["legend"] = root.findall(".//Layer/Style")[1].find("LegendURL/OnlineResource").get(LINK)
    return found


@pytest.mark.parametrize("version", ["1.3.0", "1.1.1"])
def test_what_wms_does_not_know_stays_asked(server, version):
    found = addresses(server, "/utm/wms", VERSION=version, **BEYOND)
    service = found.pop("service")
    assert not urlsplit(service).query
    for name, address in found.items():
        assert address.startswith(f"{service}?")
        given = {key: texts[0] for key, texts in parse_qs(urlsplit(address).query).items()}
        if name == "legend":
            assert given.pop("request") == "GetLegendGraphic"
            assert (given.pop("layer"), given.pop("style")) == ("counts", "viridis")
            assert (given.pop("service"), given.pop("version"), given.pop("format")) == (
                "WMS",
                version,
                "image/png",
            )
        else:
            assert address.endswith("&")
        assert given == BEYOND


def test_the_map_at_that_address_is_the_asked_one(server, decoded, compared):
    address = addresses(server, "/utm/wms", **BEYOND)["GetMap"]
    rest = (
        "SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=displacement&STYLES=&CRS=EPSG:32611&WIDTH=80&HEIGHT=60"
        "&BBOX=400000,3898215,402400,3900015&FORMAT=image/png&TRANSPARENT=TRUE"
    )
    answer = server.client.get(address + rest)
    assert answer.status_code == 200, answer.text
    found = np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    cube = decoded["utm"]
    values = np.where(
        cube.quality.values > 100, cube.displacement.sel(time="2020-03-15").values.squeeze(), np.nan
    )
    number = np.clip(np.floor((np.nan_to_num(values) + 2) / 4 * 255), 0, 254)
    expected = np.array(mpl.colormaps["magma"]((number + 0.5) / 255, bytes=True))
    expected[np.isnan(values)] = 0
    assert 0.3 < np.isnan(values).mean() < 0.7
    np.testing.assert_array_equal(found, expected)
    compared(values)


def test_without_more_the_address_asks_for_nothing(server):
    found = addresses(server, "/utm/wms", VERSION="1.3.0")
    assert found["GetMap"] == f"{found['service']}?"


def test_a_mistake_is_said_before_a_map_is_asked_for(server):
    answer = server.client.get(
        "/utm/wms", params={"service": "WMS", "request": "GetCapabilities", "rescale": "2"}
    )
    assert answer.status_code == 400
    assert "two numbers, the lower first" in answer.text
