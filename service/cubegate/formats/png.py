"""PNG: a plot of series, a map of a cube, for people to look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cubegate.errors import NotAcceptable
from cubegate.formats.facts import origin, software
from cubegate.formats.maps import choose_planes, draw_maps
from cubegate.formats.output import Result, Shape
from cubegate.formats.plots import choose_panels, draw_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 130


class PNGFormat:
    """Series and points: a panel a variable, a line a point. Cubes: a few times as maps.

    Missing cells are gaps; what was left out is said at the foot.
    """

    name = "png"
    media_type = "image/png"
    extension = "png"
    shapes: frozenset[Shape] = frozenset({"series", "points", "cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        if find_spec("matplotlib") is None:
            raise NotAcceptable(
                "PNG is not installed on this server: its operator may add the extra cubegate[formats]."
            )
        if result.shape == "cube":
            atlas = choose_planes(result)
            return _pieces(result, lambda: draw_maps(result, atlas))
        chart = choose_panels(result)
        return _pieces(result, lambda: draw_plots(result, chart))


def _pieces(result: Result, draw: Callable[[], Figure]) -> Iterator[bytes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy, and optional

    facts = origin(result)
    buffer = io.BytesIO()
    figure = draw()
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    metadata = {"Software": software(), "Title": facts.get("title", "")}
    canvas.print_png(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    yield buffer.getvalue()
