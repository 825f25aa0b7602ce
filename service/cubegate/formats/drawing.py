"""What plots and maps share: titles, colours, and text that any font can draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.formats.facts import one_line, origin
from cubegate.formats.fields import Contents, Field
from cubegate.formats.output import Result

INK = "#22303c"
FAINT = "#8a949e"
# Beyond it the axes' own arithmetic overflows.
_LARGEST = 1e300


def numbers(field: Field, values: NDArray[Any]) -> NDArray[np.float64]:
    """Cells as float64 to be drawn; what is missing or infinite is NaN."""
    drawn = values.astype(np.float64)
    drawn[field.missing(values) | ~(np.abs(drawn) < _LARGEST)] = np.nan
    return drawn


def drawable(text: Any) -> str:
    """Text on one line as it is, whatever it holds: no mathematics, no characters without a glyph."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415 - heavy, and optional

    glyphs = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in glyphs else "?" for c in one_line(text)).replace("$", r"\$")


def units_of(field: Field) -> str:
    """The units to write beside an axis; empty where the values are pure numbers."""
    return "" if field.units == "1" else drawable(field.units)


def label_of(field: Field) -> str:
    """The name of a variable with its units."""
    units = units_of(field)
    return drawable(field.label) + (f" ({units})" if units else "")


def short_time(text: str) -> str:
    """An ISO 8601 time to the minute, to the day where that is all."""
    return text[:16].removesuffix("T00:00").replace("T", " ").rstrip("Z")


def headings(result: Result, contents: Contents) -> tuple[str, str]:
    """The title of a figure, and the line below it: where, in which CRS, which version, what conditions."""
    facts = origin(result)
    title = facts.get("title") or facts.get("dataset") or ""
    crs = result.crs if len(result.crs) < 40 else "own CRS"
    parts = []
    if result.shape == "series":
        parts += [
            f"{name} {_number(contents.scalars[name])}"
            for name in dict.fromkeys((result.x, result.y, "longitude", "latitude"))
            if name in contents.scalars
        ]
    version = facts.get("version", "")
    parts += [crs, *([f"version {version[:12]}"] if version else [])]
    parts += [f"{name} {facts[name]}" for name in ("where", "mask") if name in facts]
    return drawable(title), drawable(" · ".join(part for part in parts if part))


def _number(field: Field) -> str:
    value = float(field.values.reshape(-1)[0])
    return f"{value:.5f}" if field.name in ("longitude", "latitude", "lon", "lat") else f"{value:.10g}"


def add_headings(figure: Any, result: Result, contents: Contents, note: str) -> None:
    """Write title, subtitle and foot note around a figure with constrained layout."""
    title, subtitle = headings(result, contents)
    height = figure.get_figheight()
    top = 1 - (0.62 if subtitle else 0.40) / height
    bottom = 0.26 / height if note else 0.04 / height
    figure.get_layout_engine().set(rect=(0.01, bottom, 0.98, top - bottom))
    width = figure.get_figwidth()
    title, subtitle = _shortened(title, 9 * width), _shortened(subtitle, 15 * width)
    note = _shortened(drawable(note), 17 * width)
    figure.text(0.02, 1 - 0.12 / height, title, va="top", size=13, weight="bold", color=INK)
    figure.text(0.02, 1 - 0.39 / height, subtitle, va="top", size=8.5, color=FAINT)
    figure.text(0.02, 0.08 / height, note, va="bottom", size=7.5, color=FAINT)


def _shortened(text: str, length: float) -> str:
    return text if len(text) <= length else text[: int(length) - 1].rstrip() + "…"
