"""How values become colours: a scale between two ends, or categories; and the style that suits a variable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter
from cubegate.query.parameters import parse_number
from cubegate.tiling.colours import COLOURS, check_colormap, colour_table, distinct_colours
from cubegate.tiling.png import write_png

SEQUENTIAL, DIVERGING, CYCLIC = "viridis", "RdBu_r", "twilight"
_DIFFERENCES = ("displacement", "anomaly", "difference", "tendency")
DIRECTIONS = ("direction", "azimuth", "heading", "aspect", "orientation")
_PERCENTILES = (2, 98)
# of the larger end of a scale that the smaller has to reach for both signs to count
_BOTH_SIGNS = 0.1
_MOST_CATEGORIES = COLOURS


@dataclass(frozen=True)
class Style:
    """A colour map between two values, which lie at its ends; values beyond have the colours of the ends."""

    colormap: str
    low: float
    high: float

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The colours, of shape (n, 3)."""
        return colour_table(self.colormap)

    def index(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return for each value the number of its colour from 1; 0 where it is not finite."""
        # in steps from 1, so that the same is what `astype` cuts off
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (values - self.low) * (COLOURS / (self.high - self.low)) + 1
        numbers = np.clip(scaled, 1, COLOURS)
        return np.where(np.isfinite(values), numbers, 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Categories:
    """A colour for each of some values; others, which the metadata do not name, are grey."""

    values: tuple[float, ...]
    labels: tuple[str, ...]

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The colours, of shape (n + 1, 3): the last is that of other values."""
        return np.vstack([distinct_colours(len(self.values)), np.full((1, 3), 128, np.uint8)])

    def index(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return for each value the number of its colour from 1; 0 where it is not finite."""
        numbers = np.full(values.shape, len(self.values) + 1, np.uint8)
        for number, value in enumerate(self.values, start=1):
            numbers[values == value] = number
        numbers[~np.isfinite(values)] = 0
        return numbers


AnyStyle = Style | Categories


def paint(
    values: NDArray[np.float64], style: AnyStyle, background: tuple[int, int, int] | None = None
) -> bytes:
    """Return the PNG file of values of shape (height, width); missing ones are transparent, or background."""
    return write_png(style.index(values), style.colours, background)


def parse_rescale(text: str) -> tuple[float, float]:
    """Read the two ends of a scale.

    Raises:
        InvalidParameter: these are not two numbers, the lower first.
    """
    parts = text.split(",")
    accepted = "lo,hi: two numbers, the lower first; a colour map that ends in _r is reversed"
    if len(parts) != 2:
        raise InvalidParameter("rescale", f"{text[:80]!r} is not two numbers.", accepted=accepted)
    low, high = (parse_number(part, "rescale") for part in parts)
    if not low < high or not math.isfinite(COLOURS / (high - low)) or not math.isfinite(high - low):
        raise InvalidParameter("rescale", f"{text[:80]!r} is no scale.", accepted=accepted)
    return low, high


def choose_style(default: AnyStyle, rescale: tuple[float, float] | None, colormap: str | None) -> AnyStyle:
    """Return the default with what is asked for in its place; categories become a scale.

    Raises:
        InvalidParameter: there is no such colour map.
    """
    if rescale is None and colormap is None:
        return default
    if isinstance(default, Categories):
        default = Style(SEQUENTIAL, min(default.values), max(*default.values, min(default.values) + 1))
    low, high = rescale or (default.low, default.high)
    return Style(default.colormap if colormap is None else check_colormap(colormap), low, high)


def default_style(name: str, attributes: Mapping[str, Any], sample: NDArray[np.float64]) -> AnyStyle:
    """Choose the style of a variable by its CF metadata and some of its values.

    Flags have categories. A scale goes from the 2nd to the 98th percentile, inside of the valid range;
    around zero where there are values of both signs, or where the name says that it is a difference; and
    once around where it is a direction.
    """
    categories = read_categories(attributes)
    if categories is not None:
        return categories
    words = f"{attributes.get('standard_name', '')} {attributes.get('long_name', '')} {name}".lower()
    finite = sample[np.isfinite(sample)]
    valid = _valid_range(attributes)
    if any(word in words for word in DIRECTIONS) and "deg" in str(attributes.get("units", "")):
        return Style(CYCLIC, -180.0, 180.0) if (finite < 0).any() else Style(CYCLIC, 0.0, 360.0)
    if not finite.size:
        return Style(SEQUENTIAL, *(valid or (0.0, 1.0)))
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    if valid is not None:
        low, high = max(low, valid[0]), min(high, valid[1])
    end = max(-low, high)
    differs = any(word in words for word in _DIFFERENCES)
    if end > 0 and (min(-low, high) > _BOTH_SIGNS * end or differs):
        end = max(abs(low), abs(high))
        return Style(DIVERGING, *_round_out(-end, end))
    if not low < high:
        margin = abs(low) * 0.05 or 1.0
        low, high = low - margin, low + margin
    return Style(SEQUENTIAL, *_round_out(low, high))


def _round_out(low: float, high: float) -> tuple[float, float]:
    """Widen a scale to ends that are short to write: two digits of its span."""
    step = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    ends = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    rounded = tuple(float(f"{end:.12g}") for end in ends)
    return (rounded[0], rounded[1]) if rounded[0] < rounded[1] else (low, high)


def _valid_range(attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    pair = attributes.get("valid_range", (attributes.get("valid_min"), attributes.get("valid_max")))
    try:
        low, high = (float(end) for end in np.asarray(pair).reshape(-1))
    except (TypeError, ValueError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def read_categories(attributes: Mapping[str, Any]) -> Categories | None:
    """Return the categories that CF flags name; None where there are none."""
    labels = str(attributes.get("flag_meanings", "")).split()
    try:
        values = tuple(float(value) for value in np.asarray(attributes.get("flag_values", ())).reshape(-1))
    except (TypeError, ValueError):
        return None
    if not values or len(values) != len(labels) or len(values) >= _MOST_CATEGORIES:
        return None
    return Categories(values, tuple(labels)) if all(map(math.isfinite, values)) else None
