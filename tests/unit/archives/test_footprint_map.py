"""A map of footprints is one page that needs nothing else, and says nothing but what was found."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from cubegate.archive_commands.footprint_map import Footprint, footprint_map


def square(west, south, size=2.0):
    corners = [(0, 0), (size, 0), (size, size), (0, size), (0, 0)]
    return [((west + x + 180) % 360 - 180, south + y) for x, y in corners]


def drawing(page):
    return ET.fromstring(re.search(r"<svg.*</svg>", page, re.DOTALL)[0])  # noqa: S314 - our own


def labels(page, kind):
    return [each.text for each in drawing(page).iter("text") if each.get("class") == kind]


class Page(HTMLParser):
    """What a browser makes of a page: its tags, the ids, and where links lead."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.links = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in {"src", "href"}]


def test_each_footprint_is_a_link_to_what_is_said_of_it():
    page = footprint_map(
        "Frames",
        [
            Footprint(f"frame {n}", [square(-119 + n, 34)], f"{n} products", [f"2020-01-0{n}"])
            for n in range(4)
        ],
    )
    read = Page(page)
    assert read.links == ["#f0", "#f1", "#f2", "#f3"]
    assert {link[1:] for link in read.links} < set(read.ids)
    assert [each.get("aria-label") for each in drawing(page).iter("a")] == [
        f"frame {n}: {n} products" for n in range(4)
    ]
    assert "2020-01-03" in page


def test_nothing_is_loaded_from_anywhere():
    page = footprint_map("Frames", [Footprint("frame 1", [square(0, 0)], "", [])])
    assert "://" not in page
    assert "default-src 'none'" in page
    assert not {"link", "img", "iframe", "object"} & set(Page(page).tags)


def test_what_an_archive_says_is_text():
    hostile = "</title></details><script>alert(1)</script><!--map-->\"'&"
    page = footprint_map(hostile, [Footprint(hostile, [square(0, 0)], hostile, [hostile])])
    assert Page(page).tags.count("script") == 1
    assert page.count("<svg") == 1
    assert drawing(page).find(".//{*}title").text.startswith(hostile)


@pytest.mark.parametrize(
    ("west", "south", "lons", "lats"),
    [
        (-119, 34, ["119°W", "118°W", "117°W"], ["34°N", "35°N", "36°N"]),
        (179, -1, ["179°E", "180°", "179°W"], ["1°N", "0°", "1°S"]),
        (-1, 60, ["1°W", "0°", "1°E"], ["60°N", "61°N", "62°N"]),
    ],
)
def test_the_graticule_is_named(west, south, lons, lats):
    page = footprint_map("Frames", [Footprint("frame 1", [square(west, south)], "", [])])
    assert set(lons) <= set(labels(page, "lon"))
    assert set(lats) <= set(labels(page, "lat"))
    assert len(labels(page, "lon")) < 15


def test_a_corner_is_where_the_graticule_says():
    page = footprint_map("Frames", [Footprint("frame 1", [square(-119, 34)], "", [])])
    svg = drawing(page)
    at = {each.text: (float(each.get("x")), float(each.get("y"))) for each in svg.iter("text")}
    x, y = map(float, re.match(r"M([\d.]+),([\d.]+)", svg.find(".//{*}path").get("d")).groups())
    assert abs(x - at["119°W"][0]) < 0.2
    assert abs(y - (at["34°N"][1] - 4)) < 0.2


def test_across_the_antimeridian_footprints_stay_together():
    footprints = [Footprint("a", [square(179, 50)], "", []), Footprint("b", [square(-178, 50)], "", [])]
    svg = drawing(footprint_map("Frames", footprints))
    lefts = [float(re.match(r"M([\d.]+)", path.get("d"))[1]) for path in svg.iter("path")]
    width = float(svg.find(".//{*}rect").get("width"))
    assert 0 < lefts[0] < lefts[1] < width


def test_without_an_outline_there_is_a_list():
    page = footprint_map("Frames", [Footprint("frame 7", [], "3 products", [])])
    assert "<svg" not in page
    assert "frame 7" in page
    assert "Nothing was found" in footprint_map("Frames", [])
