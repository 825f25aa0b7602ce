"""Plots of time series: a panel a variable, a line a point."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.drawing import FAINT, INK, add_headings, drawable, label_of, numbers, units_of
from cubegate.formats.facts import one_line, scalar_value
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result
from cubegate.formats.times import calendar_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 12
_LINES = 10
_COLOURS = (
    "#1f6fb4",
    "#d9622b",
    "#2a9d6f",
    "#b03a5b",
    "#7b5ea7",
    "#8c6d31",
    "#d17fb1",
    "#5f6b76",
    "#a3a82b",
    "#2fa9b8",
)


@dataclass(frozen=True)
class Chart:
    """What to draw: `panels` along the dimension `along`, and what is said at the foot."""

    contents: Contents
    panels: tuple[Field, ...]
    along: str
    note: str


def choose_panels(result: Result) -> Chart:
    """Choose what of series can be drawn.

    Raises:
        NotAcceptable: nothing can, or too much would have to be.
    """
    contents = read_contents(result)
    along = result.time or ""
    panels = tuple(f for f in contents.variables if along in f.dims and f.values.dtype.kind not in "OM")
    others = [field for field in contents.variables if field not in panels]
    if not panels:
        raise NotAcceptable(
            "A plot needs a variable of numbers over time, and there is none: use f=json or f=csv."
        )
    if len(panels) > _PANELS:
        raise NotAcceptable(f"A plot has up to {_PANELS} variables: name them in variables=, or use f=csv.")
    for field in panels:
        lines = int(
            np.prod([size for dim, size in zip(field.dims, field.values.shape, strict=True) if dim != along])
        )
        if lines > _LINES:
            raise NotAcceptable(
                f"A plot has up to {_LINES} lines, and {field.name!r} would have {lines}: ask for fewer "
                "points or use f=csv."
            )
    constant = [f"{field.name} = {scalar_value(field)}" for field in others if not field.dims]
    missing = [field.name for field in others if field.dims]
    notes = [*constant, *([f"not drawn: {', '.join(missing)}"] if missing else [])]
    return Chart(contents, panels, along, one_line("; ".join(notes)))


def draw_plots(result: Result, chart: Chart) -> Figure:
    """Draw a chart, one panel below the other over one time axis."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and optional

    count = len(chart.panels)
    height = 1.1 + (3.2 if count == 1 else 2.2 * count)
    figure = Figure(figsize=(9.5, height), layout="constrained", facecolor="white")
    rows = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    place, order, axis_label = _time_axis(chart)
    for axes, field in zip(rows, chart.panels, strict=True):
        _draw_panel(axes, chart, field, place, order)
    _format_time(rows[-1], place, axis_label)
    if len(rows[0].lines) > 1:
        rows[0].legend(
            loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False, fontsize=8, labelcolor=INK
        )
    add_headings(figure, result, chart.contents, chart.note)
    return figure


def _time_axis(chart: Chart) -> tuple[NDArray[Any], NDArray[np.intp], str]:
    """The positions along the axis in order, which cells they belong to, and what the axis is called."""
    time = chart.contents.time
    size = chart.contents.sizes[chart.along]
    if time is None or not (time.is_time or time.values.dtype.kind in "iuf"):
        return np.arange(size), np.arange(size), drawable(chart.along)
    if not time.is_time:
        order = np.argsort(time.values, kind="stable")
        return numbers(time, time.values[order]), order, label_of(time)
    order = np.flatnonzero(~time.missing(time.values))
    if time.values.dtype.kind == "M":
        order = order[np.argsort(time.values[order], kind="stable")]
        return time.values[order].astype("M8[us]"), order, ""
    years = np.array([_decimal_year(time.values[index]) for index in order], np.float64)
    ranks = np.argsort(years, kind="stable")
    return years[ranks], order[ranks], f"year ({calendar_of(time.values)} calendar)"


def _decimal_year(date: Any) -> float:
    start = date.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    length = start.replace(year=date.year + 1) - start
    return float(date.year + (date - start) / length)


def _draw_panel(axes: Axes, chart: Chart, field: Field, place: NDArray[Any], order: NDArray[np.intp]) -> None:
    others = [dim for dim in field.dims if dim != chart.along]
    values = field.values.transpose([field.dims.index(dim) for dim in (*others, chart.along)])
    seen = False
    for line, index in enumerate(product(*(range(size) for size in values.shape[:-1]))):
        drawn = numbers(field, values[index][order])
        present = int(np.isfinite(drawn).sum())
        seen = seen or present > 0
        size = 4.5 if present <= 60 else 2.6 if present <= 400 else 1.2
        name = _line_name(chart, others, index)
        colour = _COLOURS[line % len(_COLOURS)]
        axes.plot(place, drawn, "o-", color=colour, lw=1.1, markersize=size, markeredgewidth=0, label=name)
    axes.set_title(drawable(field.label), loc="left", fontsize=9.5, color=INK)
    axes.set_ylabel(units_of(field), fontsize=9, color=INK)
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.ticklabel_format(axis="y", useOffset=False, style="sci", scilimits=(-4, 6))
    if not seen:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color=FAINT, size=12
        )


def _line_name(chart: Chart, dims: list[str], index: tuple[int, ...]) -> str:
    names = []
    for dim, position in zip(dims, index, strict=True):
        field = chart.contents.coordinates.get(dim)
        names.append(f"{dim} {position if field is None else scalar_value(field, position)}")
    return drawable(", ".join(names))


def _format_time(axes: Axes, place: NDArray[Any], label: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - heavy, and optional

    axes.set_xlabel(label, fontsize=9, color=INK)
    if place.size:
        axes.set_xlim(*_limits(place))
    if place.dtype.kind != "M":
        axes.ticklabel_format(axis="x", useOffset=False)
        return
    if place.size:
        locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.xaxis.get_offset_text().set(color=INK, size=8.5)
    else:
        axes.set_xticks([])


def _limits(place: NDArray[Any]) -> tuple[Any, Any]:
    """The ends of the time axis, whether or not there are values on it."""
    first, last = place[0], place[-1]
    if first == last:
        margin = np.timedelta64(10, "D") if place.dtype.kind == "M" else 1.0
    else:
        margin = (last - first) / 40
    return first - margin, last + margin
