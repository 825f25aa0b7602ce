"""The capabilities of a map service are XML, whatever a cube says of itself."""

from xml.etree import ElementTree as ET

import pytest

from cubegate.tiling.capabilities import ServiceFacts, write_capabilities
from cubegate.tiling.layers import find_layers


@pytest.mark.parametrize("version", ["1.3.0", "1.1.1"])
async def test_texts_that_xml_cannot_hold_are_written_with_a_mark_in_their_place(made, source, version):
    dataset = made["utm"][0].isel(time=0, drop=True).expand_dims({"odd\x01": ["a\x02<", "b"]})
    dataset["odd\x01"].attrs["units"] = 'm\x00"\ufffe'
    dataset["v"].attrs |= {"long_name": "</Title>\x1b", "units": "m\x03"}
    layers = await find_layers([source(dataset, "made")], "")
    facts = ServiceFacts("\x04&", "http://localhost/wms", version, {})
    root = ET.fromstring(write_capabilities(facts, list(layers.values())))  # noqa: S314 - our own
    named = {each.get("name"): each for each in root.iter() if each.tag.endswith("Dimension")}
    assert named["odd?"].get("units") == 'm?"?'
    (stated,) = [
        each for each in root.iter() if each.tag.endswith(("Extent", "Dimension")) and each.get("default")
    ]
    assert (stated.get("default"), stated.text) == ("a?<", "a?<,b")
