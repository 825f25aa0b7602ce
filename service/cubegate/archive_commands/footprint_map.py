"""A map of footprints as one web page that needs nothing else: no script of others, no tiles, no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH = 900.0
_LEAST_HEIGHT, _MOST_HEIGHT = 320.0, 1100.0
# what is left around footprints, in parts of their extent, and at least in degrees
_MARGIN, _LEAST_MARGIN = 0.06, 0.2
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45)
_LINES = 7
_LABELLED = 60
_NOTHING = '<p class="nothing">Nothing was found that has an outline.</p>'

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Footprint:
    """One area on a map: its name, its rings (longitude and latitude in degrees), and what is said of it."""

    name: str
    rings: Sequence[Ring]
    summary: str
    lines: Sequence[str]


@dataclass(frozen=True)
class _Projection:
    """Degrees to pixels, equally spaced; those of longitude are as short as at the middle latitude."""

    west: float
    south: float
    east: float
    north: float

    @property
    def shrink(self) -> float:
        return max(math.cos(math.radians((self.south + self.north) / 2)), 0.1)

    @property
    def scale(self) -> float:
        wide = _WIDTH / ((self.east - self.west) * self.shrink)
        return min(wide, _MOST_HEIGHT / (self.north - self.south))

    @property
    def width(self) -> float:
        return (self.east - self.west) * self.shrink * self.scale

    @property
    def height(self) -> float:
        return (self.north - self.south) * self.scale

    def point(self, lon: float, lat: float) -> tuple[float, float]:
        return (lon - self.west) * self.shrink * self.scale, (self.north - lat) * self.scale


def footprint_map(title: str, footprints: Sequence[Footprint]) -> str:
    """Return the page. Footprints are links to what is said of them, which Tab and Enter reach too.

    A footprint without rings is in the list alone. Across the antimeridian longitudes go on beyond 180.
    """
    placed = _unwrapped(footprints)
    shown = "".join(_map(placed)) if any(rings for _, rings in placed.values()) else _NOTHING
    listed = "".join(_details(number, each) for number, each in enumerate(footprints))
    count = f"{len(footprints):,} {'footprint' if len(footprints) == 1 else 'footprints'}"
    page = Path(__file__).with_suffix(".html").read_text("utf-8")
    # nothing that is escaped holds such a comment
    for place, text in {"title": escape(title), "count": count, "map": shown, "list": listed}.items():
        page = page.replace(f"<!--{place}-->", text)
    return page


def _unwrapped(
    footprints: Sequence[Footprint],
) -> dict[int, tuple[Footprint, list[list[tuple[float, float]]]]]:
    """Lay rings so that none runs around the earth, and all lie on the side where most of the others are."""
    longitudes = [lon for each in footprints for ring in each.rings for lon, _ in ring]
    crosses = bool(longitudes) and max(longitudes) - min(longitudes) > 180
    # the emptiest place to cut the earth open is the widest gap between longitudes
    cut = _widest_gap(longitudes) if crosses else -180.0
    return {
        number: (each, [[((lon - cut) % 360 + cut, lat) for lon, lat in ring] for ring in each.rings if ring])
        if crosses
        else (each, [list(ring) for ring in each.rings if ring])
        for number, each in enumerate(footprints)
    }


def _widest_gap(longitudes: Sequence[float]) -> float:
    ordered = sorted({lon % 360 for lon in longitudes})
    gaps = [
        (after - before, before)
        for before, after in zip(ordered, [*ordered[1:], ordered[0] + 360], strict=True)
    ]
    width, begin = max(gaps)
    middle = begin + width / 2
    return middle - 360 if middle > 180 else middle


def _map(placed: dict[int, tuple[Footprint, list[list[tuple[float, float]]]]]) -> Iterator[str]:
    points = [point for _, rings in placed.values() for ring in rings for point in ring]
    view = _view(points)
    yield (
        f'<svg viewBox="-44 -8 {view.width + 56:.0f} {view.height + 32:.0f}" role="group" '
        f'style="max-width: {view.width + 56:.0f}px" aria-label="Map of the footprints">'
    )
    yield f'<rect class="sea" width="{view.width:.1f}" height="{view.height:.1f}"/>'
    yield from _graticule(view)
    labelled = len(placed) <= _LABELLED
    for number, (footprint, rings) in placed.items():
        if not rings:
            continue
        path = " ".join(_path(view, ring) for ring in rings)
        said = escape(f"{footprint.name}: {footprint.summary}")
        yield f'<a href="#f{number}" data-n="{number}" aria-label="{said}"><title>{said}</title>'
        yield f'<path d="{path}"/>'
        if labelled:
            x, y = _middle(view, rings[0])
            yield f'<text x="{x:.1f}" y="{y:.1f}">{escape(footprint.name.rpartition(" ")[2])}</text>'
        yield "</a>"
    yield "</svg>"


def _view(points: Sequence[tuple[float, float]]) -> _Projection:
    lons, lats = [lon for lon, _ in points], [lat for _, lat in points]
    across = max((max(lons) - min(lons)) * _MARGIN, _LEAST_MARGIN)
    along = max((max(lats) - min(lats)) * _MARGIN, _LEAST_MARGIN)
    west, east = min(lons) - across, max(lons) + across
    south, north = max(min(lats) - along, -90.0), min(max(lats) + along, 90.0)
    view = _Projection(west, south, east, north)
    lacking = (_LEAST_HEIGHT - view.height) / view.scale / 2
    if lacking > 0:
        view = _Projection(west, max(south - lacking, -90.0), east, min(north + lacking, 90.0))
    return view


def _graticule(view: _Projection) -> Iterator[str]:
    for lon in _marks(view.west, view.east):
        x, _ = view.point(lon, view.south)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{view.height:.1f}"/>'
        label = _label((lon + 180) % 360 - 180, "E", "W")
        yield f'<text class="lon" x="{x:.1f}" y="{view.height + 16:.1f}">{label}</text>'
    for lat in _marks(view.south, view.north):
        _, y = view.point(view.west, lat)
        yield f'<line x1="0" x2="{view.width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="lat" x="-6" y="{y + 4:.1f}">{_label(lat, "N", "S")}</text>'


def _marks(start: float, stop: float) -> list[float]:
    step = next((step for step in _STEPS if (stop - start) / step <= _LINES), 90)
    first = math.ceil(start / step)
    return [round(number * step, 6) for number in range(first, math.floor(stop / step) + 1)]


def _label(degrees: float, positive: str, negative: str) -> str:
    side = "" if degrees in {0, -180, 180} else positive if degrees > 0 else negative
    return f"{abs(degrees):g}°{side}"


def _path(view: _Projection, ring: Ring) -> str:
    points = (view.point(*point) for point in ring)
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points) + " Z"


def _middle(view: _Projection, ring: Ring) -> tuple[float, float]:
    points = [view.point(*point) for point in ring]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2 + 4


def _details(number: int, footprint: Footprint) -> str:
    lines = escape("\n".join(footprint.lines))
    return (
        f'<details id="f{number}"><summary><b>{escape(footprint.name)}</b> {escape(footprint.summary)}'
        f"</summary><pre>{lines}</pre></details>"
    )
