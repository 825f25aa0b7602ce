"""Colour maps by their matplotlib names, as tables, and categories of their own colours."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter, NotAcceptable

# of a palette of 256, what is missing takes the first
COLOURS = 255
SOME = ("viridis", "cividis", "plasma", "RdBu_r", "coolwarm", "twilight", "terrain", "Greys")
_LONGEST_NAME = 64


def require_matplotlib() -> None:
    """Raise `NotAcceptable` where it is not installed."""
    if find_spec("matplotlib") is None:
        raise NotAcceptable(
            "Pictures are not installed on this server: its operator may add the extra cubegate[formats]."
        )


@functools.lru_cache(maxsize=1)
def colour_names() -> frozenset[str]:
    """Return the names of all colour maps."""
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and optional

    return frozenset(mpl.colormaps)


def check_colormap(name: str) -> str:
    """Return the name of a colour map.

    Raises:
        InvalidParameter: there is none of this name.
        NotAcceptable: matplotlib is not installed.
    """
    if len(name) > _LONGEST_NAME or name not in colour_names():
        raise InvalidParameter(
            "colormap",
            f"There is no colour map {name[:80]!r}.",
            accepted=f"a name of matplotlib's, such as {', '.join(SOME)}",
        )
    return name


@functools.lru_cache(maxsize=256)
def colour_table(name: str) -> NDArray[np.uint8]:
    """Return a colour map as `COLOURS` rows of red, green and blue, the colours of equal parts of a scale."""
    check_colormap(name)
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and optional

    places = (np.arange(COLOURS) + 0.5) / COLOURS
    table: NDArray[np.uint8] = mpl.colormaps[name](places, bytes=True)[:, :3]
    return np.ascontiguousarray(table)


def distinct_colours(count: int) -> NDArray[np.uint8]:
    """Return colours for `count` categories, of shape (count, 3), as different as so many can be."""
    named = "tab10" if count <= 10 else "tab20" if count <= 20 else "turbo"
    check_colormap(named)
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and optional

    places: Iterable[float] | NDArray[np.intp]
    places = np.arange(count) if count <= 20 else (np.arange(count) + 0.5) / count
    colours: NDArray[np.uint8] = mpl.colormaps[named](places, bytes=True)[:, :3]
    return colours
