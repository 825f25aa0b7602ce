"""Legends: the colours of a style with its numbers or names, as a PNG file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from cubegate.formats.drawing import FAINT, INK, drawable
from cubegate.tiling.colours import require_matplotlib
from cubegate.tiling.layers import Layer
from cubegate.tiling.style import AnyStyle, Categories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100
_WIDTH = 2.6
_SCALE_HEIGHT = 0.72
_MOST_ROWS = 60
_LONGEST = 34


def draw_legend(layer: Layer, style: AnyStyle) -> bytes:
    """Return a legend, about 260 pixels wide.

    Raises:
        NotAcceptable: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy, and optional

    figure = _draw_categories(layer, style) if isinstance(style, Categories) else _draw_scale(layer, style)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def legend_size(style: AnyStyle | None) -> tuple[int, int]:
    """Return the width and height of a legend in pixels; None is any style that is a scale."""
    height = _category_height(style) if isinstance(style, Categories) else _SCALE_HEIGHT
    return int(_WIDTH * _DPI), int(height * _DPI)


def _category_height(style: Categories) -> float:
    more = len(style.values) > _MOST_ROWS
    return 0.34 + 0.2 * (min(len(style.values), _MOST_ROWS) + more)


def _title(layer: Layer) -> str:
    units = f" ({layer.units})" if layer.units else ""
    return drawable(_short(layer.title, _LONGEST - len(units)) + units)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(1, length - 1)].rstrip() + "…"


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and optional

    return Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")


def _draw_scale(layer: Layer, style: Any) -> Figure:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - heavy, and optional

    figure = _figure(_SCALE_HEIGHT)
    axes = figure.add_axes((0.07, 0.42, 0.86, 0.2))
    axes.imshow(
        style.colours[None], extent=(style.low, style.high, 0, 1), aspect="auto", interpolation="nearest"
    )
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-4, 5), useOffset=False)
    axes.tick_params(labelsize=7.5, colors=INK, length=3)
    axes.set_xlim(style.low, style.high)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    figure.text(0.07, 0.95, _title(layer), va="top", size=8.5, color=INK)
    return figure


def _draw_categories(layer: Layer, style: Categories) -> Figure:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - heavy, and optional

    rows = list(zip(style.values, style.labels, style.colours[:-1] / 255, strict=True))
    left_out = len(rows) - _MOST_ROWS
    if left_out > 0:
        rows = rows[:_MOST_ROWS]
    height = _category_height(style)
    figure = _figure(height)
    figure.text(0.07, 1 - 0.06 / height, _title(layer), va="top", size=8.5, color=INK)
    for number, (value, label, colour) in enumerate(rows):
        middle = 1 - (0.38 + 0.2 * number) / height
        box = Rectangle(
            (0.07, middle - 0.06 / height), 0.07, 0.12 / height, facecolor=tuple(colour), edgecolor=FAINT,
            linewidth=0.5, transform=figure.transFigure,
        )  # fmt: skip
        figure.add_artist(box)
        words = f"{value:g} {_short(label.replace('_', ' '), _LONGEST)}"
        figure.text(0.18, middle, drawable(words), va="center", size=7.5, color=INK)
    if left_out > 0:
        middle = 1 - (0.38 + 0.2 * len(rows)) / height
        figure.text(0.18, middle, f"and {left_out} more", va="center", size=7.5, color=FAINT)
    return figure
