"""QGIS draws the WMS: over the poles, across the antimeridian and of the demo's cubes, in both versions, with legends and values."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from pyproj import Transformer
from tests.clients.places import COLOURS, DATES
from tests.clients.qgis_process import (
    BACKGROUND,
    COLORMAP,
    NEEDS_QGIS,
    STYLE,
    VALUE,
    ask,
    check_map,
    draw,
    wms,
)
from tests.clients.screens import HALF, Expected, colours_of

pytestmark = NEEDS_QGIS

LAST = len(DATES) - 1
OLD = f"version=1.1.1&{STYLE}"
# QGIS 3.22 takes this CRS for one that is northing first
SWAPPED = "EPSG:3031"
# place, CRS, bounds, size. The pixels are such that no rounding in QGIS adds one to a part of a map
MAPS = [
    ("pole", "EPSG:3413", (-2_097_152, -1_048_576, 2_097_152, 1_048_576), (512, 256)),
    ("pole", "EPSG:3995", (-2e6, -2e6, 2e6, 2e6), (320, 320)),
    ("pole", "EPSG:4326", (-180, 64, 180, 90), (720, 52)),
    ("pole", "EPSG:3857", (-2e7, 1e7, 2e7, 2e7), (640, 160)),
    ("south", "EPSG:3031", (-2_097_152, -1_048_576, 2_097_152, 1_048_576), (512, 256)),
    ("south", "EPSG:4326", (-180, -90, 180, -64), (720, 52)),
    ("south", "EPSG:3857", (-2e7, -2e7, 2e7, -1e7), (640, 160)),
    ("seam", "EPSG:4326", (-180, 60, 180, 69), (720, 18)),
    ("seam", "EPSG:3413", (-2.9e6, 1.3e6, -1.3e6, 2.9e6), (320, 320)),
    ("seam", "EPSG:3995", (-6e5, 2.2e6, 6e5, 3.4e6), (300, 300)),
    ("seam", "EPSG:32601", (0, 6.5e6, 512e3, 7.268e6), (256, 384)),
    ("aleutians", "EPSG:32601", (175e3, 5.695e6, 425e3, 5.825e6), (500, 260)),
    ("aleutians", "EPSG:32660", (6.1e5, 5.7e6, 8.1e5, 5.82e6), (400, 240)),
    ("aleutians", "EPSG:3413", (-3.12e6, 2.92e6, -2.92e6, 3.12e6), (320, 320)),
    ("aleutians", "EPSG:3995", (-1.1e5, 4.22e6, 1e5, 4.34e6), (350, 200)),
]
# beyond a layer, and so across the antimeridian, QGIS asks only where it does not keep to the layer's extent
BEYOND = [
    ("pole", "EPSG:3413", (-2_621_440, -1_638_400, 2_621_440, 1_638_400), (640, 400)),
    ("south", "EPSG:3031", (-2_621_440, -1_638_400, 2_621_440, 1_638_400), (640, 400)),
    ("seam", "EPSG:4326", (165, 55, 195, 73), (300, 180)),
    ("seam", "EPSG:4326", (-195, 55, -165, 73), (300, 180)),
    ("seam", "EPSG:3857", (1.8e7, 7e6, 2.2e7, 1.2e7), (400, 500)),
    ("aleutians", "EPSG:4326", (178, 51, 183, 53), (500, 200)),
    ("aleutians", "EPSG:3857", (1.99e7, 6.6e6, 2.02e7, 7e6), (300, 400)),
]


def task(url, case, query=STYLE, **more):
    name, crs, bounds, size = case
    if crs == SWAPPED and query == STYLE:
        more["IgnoreAxisOrientation"] = 1
    return draw(wms(url, name, "v", crs, query, **more), crs, bounds, size)


@pytest.mark.parametrize("query", [STYLE, OLD], ids=["as QGIS asks by itself", "1.1.1"])
def test_maps_show_the_granules(places, places_url, tmp_path, query, compared):
    answers = ask(tmp_path, *(task(places_url, case, query) for case in MAPS))
    for answer, (name, crs, bounds, _) in zip(answers, MAPS, strict=True):
        check_map(answer, places[name], LAST, (crs, bounds), compared)


def test_maps_go_on_beyond_the_layer_and_the_antimeridian(places, places_url, tmp_path, compared):
    answers = ask(tmp_path, *(task(places_url, case, IgnoreReportedLayerExtents=1) for case in BEYOND))
    for answer, (name, crs, bounds, _) in zip(answers, BEYOND, strict=True):
        check_map(answer, places[name], LAST, (crs, bounds), compared)


# pixels are smaller than cells here
WHOLE = [
    ("pole", "EPSG:3413", (-2.6e6, -1.6e6, 2.6e6, 1.6e6), (416, 256)),
    ("pole", "EPSG:3995", (-3e6, -3e6, 3e6, 3e6), (600, 600)),
    ("south", "EPSG:3031", (-2.6e6, -1.6e6, 2.6e6, 1.6e6), (416, 256)),
    ("seam", "EPSG:4326", (-180, 55, -160, 73), (400, 360)),
    ("aleutians", "EPSG:32601", (19e4, 5.69e6, 41e4, 5.83e6), (440, 280)),
]


def test_a_whole_layer_is_where_it_is(places, places_url, tmp_path, compared):
    """QGIS stretches a picture that it has cut at the extent of its layer by up to a pixel."""
    answers = ask(tmp_path, *(task(places_url, case) for case in WHOLE))
    for answer, (name, crs, bounds, size) in zip(answers, WHOLE, strict=True):
        expected = Expected(places[name], LAST, crs, bounds=bounds, size=size).numbers
        colours = np.array([*colours_of(COLORMAP), BACKGROUND])
        picture = colours[np.where(np.isnan(expected), COLOURS, expected).astype(int)]
        padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), "edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
        drawn = answer["pixels"][..., :3]
        assert (around == drawn[..., None, None]).all(axis=2).any(axis=(2, 3)).all()
        assert (drawn == picture).all(axis=-1).mean() > 0.4
        shown = ~np.isnan(expected)
        assert (drawn[shown] != BACKGROUND).any(axis=-1).mean() > 0.98
        compared(expected)


# the CRS that hold each cube, and the box that QGIS keeps to in some of them
OFFERED = {
    "pole": (
        ["EPSG:3413", "EPSG:4326", "CRS:84", "EPSG:3857", "EPSG:3995"],
        {"EPSG:3413": (-2.5e6, -1.5e6, 2.5e6, 1.5e6), "EPSG:4326": (-180, None, 180, 90)},
    ),
    "south": (
        ["EPSG:3031", "EPSG:4326", "CRS:84", "EPSG:3857"],
        {"EPSG:4326": (-180, -90, 180, None), "EPSG:3857": (-HALF, None, HALF, None)},
    ),
    "seam": (
        [
            "EPSG:4326", "CRS:84", "EPSG:3857", "EPSG:3413", "EPSG:3995",
            "EPSG:32601", "EPSG:32602", "EPSG:32659", "EPSG:32660",
        ],
        {"EPSG:4326": (-180, 58, 180, 70), "EPSG:3857": (-HALF, None, HALF, None)},
    ),
    "aleutians": (
        ["EPSG:32601", "EPSG:4326", "CRS:84", "EPSG:3857", "EPSG:3413", "EPSG:3995", "EPSG:32660"],
        {"EPSG:32601": (2e5, 5.7e6, 4e5, 5.82e6), "EPSG:4326": (-180, None, 180, None)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", ["1.3.0", "1.1.1"])
def test_layers_say_where_they_are(places_url, tmp_path, version):
    query = OLD if version == "1.1.1" else STYLE
    cases = [(name, crs, box) for name, (_, boxes) in OFFERED.items() for crs, box in boxes.items()]
    tasks = [{"do": "describe", "source": wms(places_url, name, "v", crs, query)} for name, crs, _ in cases]
    for found, (name, crs, box) in zip(ask(tmp_path, *tasks), cases, strict=True):
        assert (found["crs"], found["layers"]) == (crs, ["v"])
        about = re.sub("<[^>]+>", " ", found["about"])
        assert re.search(r"WMS Version\s+(\S+)", about)[1] == version
        offered = re.findall(r"Available in CRS\s+(\S+)", about)
        # QGIS lists the first CRS of 1.1.1 alone, which may stand in one element
        assert offered == OFFERED[name][0]
        for side, expected in zip(found["extent"], box, strict=True):
            assert expected is None or side == pytest.approx(expected, rel=1e-9)


def test_a_layer_of_the_demo_is_the_granule_in_its_own_crs(demo_cubes, demo_url, tmp_path, compared):
    size, bounds = (1000, 740), (375_000, 3_762_810, 405_000, 3_785_010)
    source = wms(demo_url, "opera-f11116", "displacement", "EPSG:32611", "rescale=-0.05,0.05&colormap=RdBu_r")
    (answer,) = ask(tmp_path, draw(source, "EPSG:32611", bounds, size))
    np.testing.assert_allclose(answer["extent"], bounds, rtol=1e-12)
    values = demo_cubes.displacement(-1).astype(float)
    number = np.clip(np.floor((np.nan_to_num(values) + 0.05) / 0.1 * 255), 0, 254)
    expected = mpl.colormaps["RdBu_r"]((number + 0.5) / 255, bytes=True)[..., :3]
    known = np.isfinite(values)
    assert 0.5 < known.mean() < 0.99
    np.testing.assert_array_equal(answer["pixels"][known][:, :3], expected[known])
    assert (answer["pixels"][~known][:, :3] == BACKGROUND).all()
    compared(values)


def test_the_legend_has_the_colours_of_the_map(places_url, tmp_path, compared):
    sources = [
        wms(places_url, "pole", "v", "EPSG:3413", "rescale=0,255&colormap=viridis"),
        wms(places_url, "pole", "v", "EPSG:3413", "rescale=0,255&colormap=magma"),
        [wms(places_url, "pole", "v", "EPSG:3413", "")[0].replace("styles=", "styles=plasma"), "wms"],
    ]
    for answer, name in zip(
        ask(tmp_path, *({"do": "legend", "source": source} for source in sources)),
        ("viridis", "magma", "plasma"),
        strict=True,
    ):
        height, width = answer["pixels"].shape[:2]
        assert (width, height) == (260, 72)
        # the scale lies from 7 to 93% of the width, about half way down
        columns = np.arange(round(0.08 * width), round(0.92 * width))
        expected = mpl.colormaps[name](((columns + 0.5) / width - 0.07) / 0.86, bytes=True)[:, :3]
        row = answer["pixels"][round(0.48 * height), columns, :3]
        # a step of colour may be half a pixel aside
        assert np.abs(row.astype(int) - expected).max() <= 8
        compared(columns)


def identified(answer):
    """The value of each pixel that QGIS asked about; NaN where it is missing."""
    (text,) = answer["results"].values()
    found = VALUE.search(text)[1]
    return np.nan if found == "missing" else float(found)


ASKED = [
    ("pole", "EPSG:3413", (-2.5e6, -1.5e6, 2.5e6, 1.5e6), (1000, 600)),
    # wider than a map may be, as a screen is
    ("pole", "EPSG:3857", (-2e7, 1e7, 2e7, 2e7), (3840, 960)),
    ("seam", "EPSG:4326", (155, 55, 180, 73), (500, 360)),
    ("seam", "EPSG:4326", (-180, 55, -155, 73), (500, 360)),
    ("aleutians", "EPSG:32660", (6e5, 5.7e6, 8e5, 5.82e6), (1000, 600)),
]


def points(place, crs, bounds):
    """Centres of cells that lie on a map, 6 or more, two of them missing, and their values."""
    random, values = np.random.default_rng(6), place.values(LAST)
    rows, columns = random.integers(0, values.shape[0], 16), random.integers(0, values.shape[1], 16)
    rows[:2], columns[:2] = 12, (22, 25)
    x, y = place.transform @ (columns + 0.5, rows + 0.5)
    x, y = Transformer.from_crs(place.crs, crs, always_xy=True).transform(x, y)
    if crs == "EPSG:4326":
        x = (x + 180) % 360 - 180
    on_map = (x > bounds[0]) & (x < bounds[2]) & (y > bounds[1]) & (y < bounds[3])
    assert on_map.sum() >= 6
    return np.column_stack([x, y])[on_map].tolist(), values[rows, columns][on_map]


@pytest.mark.parametrize("query", ["", "version=1.1.1"])
def test_identified_values_are_the_granules(places, places_url, tmp_path, compared, query):
    tasks, expected = [], []
    for name, crs, bounds, (width, height) in ASKED:
        asked, values = points(places[name], crs, bounds)
        common = {
            "do": "identify", "form": "Text", "source": wms(places_url, name, "v", crs, query), "bounds": bounds,
            "width": width, "height": height,
        }  # fmt: skip
        tasks += [{**common, "point": point} for point in asked]
        expected += values.tolist()
    assert 0 < np.isnan(expected).sum() < len(expected)
    found = np.array([identified(answer) for answer in ask(tmp_path, *tasks)])
    np.testing.assert_array_equal(found, expected)
    compared(found)


def test_what_is_identified_is_of_the_map_that_is_shown(places, places_url, tmp_path):
    common = {
        "do": "identify", "point": (-2_487_500, 1_487_500), "bounds": (-2.5e6, -1.5e6, 2.5e6, 1.5e6),
        "width": 500, "height": 300,
    }  # fmt: skip
    sources = [
        wms(places_url, "pole", "v", "EPSG:3413", "time=2020-01-03"),
        wms(places_url, "pole", "v", "EPSG:3413", "time=2020-01-15"),
    ]
    for number, answer in enumerate(
        ask(tmp_path, *({**common, "source": source, "form": "Text"} for source in sources))
    ):
        assert identified(answer) == places["pole"].values(number)[0, 0]
    outside, page = ask(
        tmp_path,
        {**common, "source": sources[0], "form": "Text", "bounds": (-6e6, -3.6e6, 6e6, 3.6e6), "point": (3e6, 0)},
        {**common, "source": sources[0], "form": "Html"},
    )  # fmt: skip
    # QGIS does not ask outside of a layer
    assert outside["results"] == {"1": ""}
    assert f"<td>{places['pole'].values(0)[0, 0]}</td>" in page["results"]["0"]


def test_a_layer_that_is_not_there_is_not_drawn(places_url, tmp_path):
    sources = [
        wms(places_url, "pole", "none", "EPSG:3413"),
        wms(places_url, "none", "v", "EPSG:3413"),
        wms(places_url, "pole", "v", "EPSG:3413", "rescale=5"),
    ]
    for answer in ask(tmp_path, *({"do": "describe", "source": source} for source in sources)):
        assert "refused" in answer
