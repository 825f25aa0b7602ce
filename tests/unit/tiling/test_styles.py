"""The default style of a variable, by its metadata and some of its values, and the colours that it gives."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from cubegate.errors import InvalidParameter
from cubegate.tiling.layers import find_layers
from cubegate.tiling.png import write_png
from cubegate.tiling.statistics import find_style, read_sample
from cubegate.tiling.style import Categories, Style, choose_style, default_style, paint, parse_rescale

EVEN = np.linspace(0, 100, 10_001)


@pytest.mark.parametrize(
    ("name", "attributes", "sample", "expected"),
    [
        ("v", {}, EVEN, ("viridis", 2.0, 98.0)),
        ("v", {}, EVEN - 60, ("RdBu_r", -60.0, 60.0)),
        ("v", {}, EVEN - 1, ("viridis", 1.0, 97.0)),
        ("displacement", {}, EVEN, ("RdBu_r", -100.0, 100.0)),
        ("v", {"standard_name": "surface_anomaly"}, -EVEN, ("RdBu_r", -100.0, 100.0)),
        ("v", {"valid_range": [0, 50]}, EVEN, ("viridis", 2.0, 50.0)),
        ("v", {"valid_min": 10.0, "valid_max": 50.0}, EVEN, ("viridis", 10.0, 50.0)),
        ("v", {"valid_range": "x"}, EVEN, ("viridis", 2.0, 98.0)),
        ("v", {"valid_range": [0, 50]}, EVEN * np.nan, ("viridis", 0.0, 50.0)),
        ("v", {}, np.empty(0), ("viridis", 0.0, 1.0)),
        ("v", {}, np.full(9, 4.0), ("viridis", 3.8, 4.2)),
        ("v", {}, np.zeros(9), ("viridis", -1.0, 1.0)),
        ("flow_direction", {"units": "degrees"}, EVEN, ("twilight", 0.0, 360.0)),
        ("v", {"long_name": "azimuth", "units": "degree"}, -EVEN, ("twilight", -180.0, 180.0)),
        ("v", {"flag_values": [1, 2], "flag_meanings": "one"}, EVEN, ("viridis", 2.0, 98.0)),
    ],
)  # fmt: skip
def test_the_default_suits_metadata_and_values(name, attributes, sample, expected):
    style = default_style(name, attributes, sample)
    assert (style.colormap, *np.round([style.low, style.high], 9)) == expected


def test_flags_have_a_colour_each():
    style = default_style("v", {"flag_values": np.array([0, 4], "i1"), "flag_meanings": "land water"}, EVEN)
    assert (style.values, style.labels) == ((0.0, 4.0), ("land", "water"))
    np.testing.assert_array_equal(style.index(np.array([0.0, 4.0, 5.0, np.nan])), [1, 2, 3, 0])
    assert choose_style(style, None, "magma") == Style("magma", 0.0, 4.0)


@pytest.mark.parametrize("count", [1, 9, 15, 100, 254])
def test_many_flags_fit_into_a_palette(count):
    style = Categories(tuple(range(count)), tuple(map(str, range(count))))
    picture = np.array(
        Image.open(io.BytesIO(paint(np.arange(count, dtype=float)[None], style))).convert("RGB")
    )
    assert len({tuple(colour) for colour in picture[0].tolist()}) >= min(count, 100) * 0.9


def test_a_scale_has_equal_steps_and_holds_what_is_beyond_it():
    style = Style("magma", -1.0, 1.0)
    values = np.array([-np.inf, -1e300, -1.0, 0.0, 0.999999, 1.0, 7.0, 1e308, np.inf, np.nan])
    np.testing.assert_array_equal(style.index(values), [0, 1, 1, 128, 255, 255, 255, 255, 0, 0])
    found = np.array(Image.open(io.BytesIO(paint(values[None], style))).convert("RGBA"))[0]
    assert tuple(found[0]) == tuple(found[-1]) == (0, 0, 0, 0)
    assert tuple(found[3]) == tuple(mpl.colormaps["magma"](127.5 / 255, bytes=True))


def test_what_is_asked_for_replaces_the_default():
    default = Style("viridis", 0.0, 5.0)
    assert choose_style(default, None, None) is default
    assert choose_style(default, (1.0, 2.0), None) == Style("viridis", 1.0, 2.0)
    assert choose_style(default, (1.0, 2.0), "magma") == Style("magma", 1.0, 2.0)
    with pytest.raises(InvalidParameter, match="no colour map"):
        choose_style(default, None, "none")


@pytest.mark.parametrize(
    "text", ["1", "1,2,3", "2,1", "1,1", "a,b", "nan,1", "0,inf", "-1e308,1e308", "0,5e-324"]
)
def test_what_is_no_scale_is_refused(text):
    with pytest.raises(InvalidParameter) as refused:
        parse_rescale(text)
    assert refused.value.parameter == "rescale"


def test_png_files_hold_each_pixel():
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (37, 91)).astype(np.uint8)
    colours = random.integers(0, 256, (255, 3)).astype(np.uint8)
    for background in (None, (1, 2, 3)):
        found = np.array(Image.open(io.BytesIO(write_png(pixels, colours, background))).convert("RGBA"))
        shown = pixels > 0
        np.testing.assert_array_equal(found[shown][:, :3], colours[pixels[shown] - 1])
        assert (found[shown][:, 3] == 255).all()
        assert {tuple(each) for each in found[~shown].tolist()} == {
            (0, 0, 0, 0) if background is None else (1, 2, 3, 255)
        }


async def test_the_sample_is_bounded_and_always_the_same(made, source, limits):
    layer = (await find_layers([source(made["utm"][0])], ""))["v"]
    first, again = await read_sample(layer, limits), await read_sample(layer, limits)
    np.testing.assert_array_equal(first, again)
    assert 0 < first.size <= 3 * 128 * 128
    style = await find_style(layer, limits)
    truth = made["utm"][0].v.values
    assert style.colormap == "RdBu_r"
    assert abs(style.high - np.nanpercentile(truth, 98)) < 0.2


async def test_a_cube_that_is_too_large_is_sampled_in_parts(made, source, limits):
    layer = (await find_layers([source(made["utm"][0])], ""))["v"]
    small = limits.model_copy(update={"cells": 200})
    found = await read_sample(layer, small)
    assert 0 < found.size <= 3 * 5 * 200
