"""Maps of a cube: some times of one variable, or several variables at their first time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.crs import known_crs
from cubegate.formats.drawing import FAINT, INK, add_headings, drawable, label_of, numbers, short_time
from cubegate.formats.facts import scalar_value
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result
from cubegate.formats.times import iso_times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAPS = 6
_PIXELS = 1500


@dataclass(frozen=True)
class Plane:
    """One map: a variable, the positions along its other dimensions, and its caption."""

    field: Field
    index: dict[str, int]
    caption: str


@dataclass(frozen=True)
class Atlas:
    """The maps of a figure; of one variable they share a colour scale."""

    contents: Contents
    planes: tuple[Plane, ...]
    note: str

    @property
    def shared(self) -> bool:
        """Whether all maps show one variable."""
        return len({plane.field.name for plane in self.planes}) == 1


@dataclass(frozen=True)
class Axis:
    """A grid axis as drawn: cell centres in `unit`, ascending or not, evenly spaced or not."""

    centres: NDArray[np.float64]
    label: str

    @property
    def even(self) -> bool:
        """Whether the spacing is the same everywhere."""
        steps = np.diff(self.centres)
        return len(steps) == 0 or bool(np.ptp(steps) <= 0.02 * abs(steps.mean()))

    @property
    def step(self) -> int:
        """Every how many cells one is drawn, so that a picture stays a picture."""
        return max(1, math.ceil(len(self.centres) / _PIXELS))

    @property
    def limits(self) -> tuple[float, float]:
        """The outer edges of the first and the last cell."""
        first, last = float(self.centres[0]), float(self.centres[-1])
        half = (last - first) / (len(self.centres) - 1) / 2 if len(self.centres) > 1 else 0.5
        return first - half, last + half


def choose_planes(result: Result) -> Atlas:
    """Choose what of a cube can be drawn.

    Raises:
        NotAcceptable: nothing can.
    """
    contents = read_contents(result)
    maps = [
        f
        for f in contents.variables
        if {result.y, result.x} <= set(f.dims) and f.values.dtype.kind not in "OM"
    ]
    maps = [field for field in maps if field.values.size]
    if not maps:
        raise NotAcceptable("A map needs a variable of numbers on the grid, and there is none: use f=netcdf.")
    known_crs(result)
    if len(maps) == 1:
        count = _plane_count(result, maps[0])
        positions = np.unique(np.linspace(0, count - 1, min(_MAPS, count)).round().astype(int))
        chosen = [_plane(result, contents, maps[0], int(position)) for position in positions]
        left_out = f"{len(chosen)} of {count} maps, evenly chosen" if len(chosen) < count else ""
    else:
        chosen = [_plane(result, contents, field, 0) for field in maps[:_MAPS]]
        left_out = "the first time of each variable" if any(plane.index for plane in chosen) else ""
        left_out += f";  not drawn: {', '.join(f.name for f in maps[_MAPS:])}" if maps[_MAPS:] else ""
    return Atlas(contents, tuple(chosen), left_out)


def _plane_count(result: Result, field: Field) -> int:
    return field.values.size // (result.dataset.sizes[result.y] * result.dataset.sizes[result.x])


def _plane(result: Result, contents: Contents, field: Field, number: int) -> Plane:
    dims = [dim for dim in field.dims if dim not in (result.y, result.x)]
    index = np.unravel_index(number, [contents.sizes[dim] for dim in dims]) if dims else ()
    at = {dim: int(position) for dim, position in zip(dims, index, strict=True)}
    words = [_word(result, contents, dim, position) for dim, position in at.items()]
    return Plane(field, at, drawable(", ".join(words)))


def _word(result: Result, contents: Contents, dim: str, position: int) -> str:
    if dim == result.time and contents.time is not None and contents.time.is_time:
        return short_time(iso_times(contents.time.values[position : position + 1])[0] or "no time")
    field = contents.coordinates.get(dim)
    return f"{dim} {position if field is None else scalar_value(field, position)}"


def draw_maps(result: Result, atlas: Atlas) -> Figure:
    """Draw an atlas in a grid of maps."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and optional

    x, y = _axis(result, result.x), _axis(result, result.y)
    aspect = _aspect(result, y)
    tall = abs(y.limits[1] - y.limits[0]) * aspect / abs(x.limits[1] - x.limits[0])
    columns = min(len(atlas.planes), 3 if len(atlas.planes) != 4 else 2)
    rows = math.ceil(len(atlas.planes) / columns)
    width = {1: 7.0, 2: 4.6, 3: 3.7}[columns]
    drawn_width = width - (0.3 if atlas.shared else 1.2)
    height = min(max(drawn_width * tall, 1.6), 2.2 * drawn_width)
    figure = Figure(
        figsize=(width * columns + 1.2, (height + 0.55) * rows + 1.0), layout="compressed", facecolor="white"
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    images = [numbers(p.field, _cells(result, p)[:: y.step, :: x.step]) for p in atlas.planes]
    scale = _scale(images) if atlas.shared else None
    drawn = None
    for axes, plane, image in zip(grid.flat, atlas.planes, images, strict=False):
        mappable = _draw_map(axes, image, x, y, scale or _scale([image]))
        axes.set_aspect(aspect)
        title = plane.caption if atlas.shared else f"{drawable(plane.field.label)}\n{plane.caption}".strip()
        axes.set_title(title, fontsize=9, color=INK, wrap=True)
        drawn = mappable or drawn
        if mappable is not None and not atlas.shared:
            _colour_bar(figure, mappable, axes, plane.field)
    for axes in grid.flat[len(atlas.planes) :]:
        axes.set_visible(False)
    if atlas.shared and drawn is not None:
        _colour_bar(figure, drawn, grid.ravel().tolist(), atlas.planes[0].field)
    _label_edges(grid, len(atlas.planes), x, y)
    add_headings(figure, result, atlas.contents, atlas.note)
    return figure


def _axis(result: Result, dim: str) -> Axis:
    values = result.dataset[dim].to_numpy().astype(np.float64)
    crs = known_crs(result)
    if crs is None:
        return Axis(values, drawable(dim))
    if crs.is_geographic:
        return Axis(values, drawable(f"{dim} (°)"))
    unit = crs.axis_info[0].unit_name if crs.axis_info else ""
    if unit == "metre" and np.ptp(values) > 5000:
        return Axis(values / 1000, drawable(f"{dim} (km)"))
    return Axis(values, drawable(f"{dim} ({'m' if unit == 'metre' else unit})"))


def _aspect(result: Result, y: Axis) -> float:
    crs = known_crs(result)
    if crs is None or not crs.is_geographic:
        return 1.0
    return float(1 / max(np.cos(np.radians(np.clip(y.centres.mean(), -89, 89))), 0.1))


def _cells(result: Result, plane: Plane) -> NDArray[Any]:
    order = [plane.field.dims.index(dim) for dim in (*plane.index, result.y, result.x)]
    cells: NDArray[Any] = plane.field.values.transpose(order)[tuple(plane.index.values())]
    return cells


def _scale(images: list[NDArray[np.float64]]) -> tuple[float, float, str] | None:
    """The ends of the colour scale and its name; None where there is nothing to scale."""
    finite = np.concatenate([image[np.isfinite(image)] for image in images])
    if not finite.size:
        return None
    low, high = (float(value) for value in np.percentile(finite, [2, 98]))
    end = max(-low, high)
    if min(-low, high) > 0.1 * end:
        return -end, end, "RdBu_r"
    if low == high:
        margin = abs(low) * 0.05 or 1.0
        return low - margin, high + margin, "viridis"
    return low, high, "viridis"


def _draw_map(
    axes: Axes, image: NDArray[np.float64], x: Axis, y: Axis, scale: tuple[float, float, str] | None
) -> Any:
    axes.set_facecolor("#eceff1")
    axes.tick_params(colors=INK, labelsize=8)
    axes.ticklabel_format(useOffset=False, style="plain")
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.set_xlim(*sorted(x.limits))
    axes.set_ylim(*sorted(y.limits))
    if scale is None or not np.isfinite(image).any():
        axes.text(
            0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color=FAINT, size=12
        )
        return None
    low, high, name = scale
    small = np.ma.masked_invalid(image)
    colours: dict[str, Any] = {"vmin": low, "vmax": high, "cmap": name}
    if x.even and y.even:
        # The first row is drawn at the bottom of its extent, which for a descending y is the top.
        extent = (*_extent(x, small.shape[1]), *_extent(y, small.shape[0]))
        shown: Any = axes.imshow(small, extent=extent, origin="lower", interpolation="nearest", **colours)
    else:
        centres = x.centres[:: x.step], y.centres[:: y.step]
        shown = axes.pcolormesh(*centres, small, shading="nearest", rasterized=True, **colours)
    axes.set_xlim(*sorted(x.limits))
    axes.set_ylim(*sorted(y.limits))
    return shown


def _extent(axis: Axis, count: int) -> tuple[float, float]:
    """The outer edges of `count` drawn pixels."""
    start, end = axis.limits
    return start, start + (end - start) / len(axis.centres) * axis.step * count


def _colour_bar(figure: Figure, mappable: Any, axes: Any, field: Field) -> None:
    bar = figure.colorbar(mappable, ax=axes, shrink=0.9, aspect=28, pad=0.02, extend=_beyond(mappable))
    bar.set_label(label_of(field), fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_edgecolor(FAINT)
    bar.ax.ticklabel_format(axis="y", style="sci", scilimits=(-4, 6), useOffset=False)


def _beyond(mappable: Any) -> str:
    """Which ends of the colour scale hold values beyond them, in the words of a colour bar."""
    low, high = (
        mappable.get_array().min() < mappable.norm.vmin,
        mappable.get_array().max() > mappable.norm.vmax,
    )
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(low), bool(high)), "neither"
    )


def _label_edges(grid: Any, count: int, x: Axis, y: Axis) -> None:
    rows, columns = grid.shape
    for number in range(count):
        row, column = divmod(number, columns)
        axes = grid[row, column]
        lowest = row == rows - 1 or number + columns >= count
        if column == 0:
            axes.set_ylabel(y.label, fontsize=9, color=INK)
        if lowest:
            axes.set_xlabel(x.label, fontsize=9, color=INK)
            axes.tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=4)
        axes.locator_params(axis="y", nbins=6)
