"""The request parameters of tiles and legends: what they are, and how their text is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cubegate.query.conditions import Condition
from cubegate.query.parameters import GROUP, MASK, WHERE, Parameter, read_conditions, read_once
from cubegate.tiling.colours import check_colormap
from cubegate.tiling.dates import choose_date
from cubegate.tiling.layers import Layer
from cubegate.tiling.picture import View, require_selectors
from cubegate.tiling.style import parse_rescale

VARIABLE = Parameter(
    "variables",
    "The one variable to draw; by default the first that varies in time and has a unit.",
    "displacement",
)
DATE = Parameter(
    "datetime",
    "The date to draw: a time, or an interval, date, month or year that holds one date of the cube; the "
    "latest without it.",
    "2020-01-03",
)
RESCALE = Parameter(
    "rescale", "The values at the ends of the colour map, the lower first: `lo,hi`.", "-0.1,0.1"
)
COLORMAP = Parameter("colormap", "A colour map by matplotlib's name; `_r` reverses it.", "viridis")

STYLE_PARAMETERS = (VARIABLE, RESCALE, COLORMAP, GROUP)
TILE_PARAMETERS = (VARIABLE, DATE, RESCALE, COLORMAP, WHERE, MASK, GROUP)


@dataclass(frozen=True)
class Asked:
    """What the parameters ask for; `others` are those without a meaning of their own."""

    variable: str | None = None
    date: str | None = None
    rescale: tuple[float, float] | None = None
    colormap: str | None = None
    group: str = ""
    where: tuple[Condition, ...] = ()
    mask: tuple[Condition, ...] = ()
    others: Mapping[str, str] | None = None

    def view(self, layer: Layer) -> View:
        """Return what is shown of a layer.

        Raises:
            InvalidParameter: it has no such date, or a place along another dimension is missing or unknown.
        """
        selectors = dict(self.others or {})
        require_selectors(layer, selectors)
        return View(layer, choose_date(layer, self.date), selectors, self.where, self.mask)


def read_tile(items: Iterable[tuple[str, str]]) -> Asked:
    """Read the parameters of a tile.

    Raises:
        InvalidParameter: one is malformed, or given twice.
    """
    items = list(items)
    given = read_once(items)
    known = {each.name for each in TILE_PARAMETERS}
    conditions = read_conditions(items)
    return Asked(
        variable=given.get("variables"),
        date=given.get("datetime"),
        rescale=parse_rescale(given["rescale"]) if "rescale" in given else None,
        colormap=check_colormap(given["colormap"]) if "colormap" in given else None,
        group=given.get("group", ""),
        others={name: text for name, text in given.items() if name not in known},
        **conditions,
    )
