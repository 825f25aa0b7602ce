"""The capabilities of a map service are XML, whatever a cube says of itself."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cubegate.errors import BudgetExceeded
from cubegate.tiling import capabilities
from cubegate.tiling.capabilities import ServiceFacts, write_capabilities
from cubegate.tiling.layers import find_layers

DATES = np.datetime64("1990-01-01T00:00:00") + np.cumsum(
    np.random.default_rng(3).integers(60, 9_000, 5_000)
).astype("m8[s]")


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


@pytest.fixture
async def crowded(made, source):
    """Layers of two variables at many uneven dates, and of one without."""
    dataset = made["utm"][0].isel(x=slice(0, 2), y=slice(0, 2))
    dates = DATES.astype("M8[ns]")
    times = dataset.isel(time=np.zeros(len(dates), int)).assign_coords(time=dates)
    cube = times.assign(w=times.v, still=dataset.v.isel(time=0, drop=True))
    return list((await find_layers([source(cube, "made")], "")).values())


async def test_many_dates_are_stated_in_full(crowded):
    facts = ServiceFacts("made", "http://localhost/wms", "1.3.0", {})
    root = ET.fromstring(write_capabilities(facts, crowded))  # noqa: S314 - our own
    stated = [each for each in root.iter() if each.tag.endswith("}Dimension")]
    expected = [f"{date}Z" for date in np.datetime_as_string(DATES)]
    assert [(each.get("default"), each.text.split(",")) for each in stated] == [(expected[-1], expected)] * 2


async def test_more_dates_than_a_document_can_have_are_refused_with_a_way_out(crowded, monkeypatch):
    facts = ServiceFacts("made", "http://localhost/wms", "1.3.0", {})
    monkeypatch.setattr(capabilities, "_MOST_TEXT", 21 * len(DATES) + 10)
    with pytest.raises(BudgetExceeded, match="layers=NAME,NAME"):
        write_capabilities(facts, crowded)
    assert write_capabilities(facts, crowded[1:])
