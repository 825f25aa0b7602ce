"""A bounded sample of a layer's values, by which its default style is chosen: the same for each version."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cubegate.query.budget import Limits
from cubegate.query.grid import Window, as_slice
from cubegate.query.in_thread import in_thread
from cubegate.tiling.layers import Layer, Part
from cubegate.tiling.picture import View
from cubegate.tiling.sampling import Sampling
from cubegate.tiling.style import AnyStyle, default_style

# values along each axis, at how many dates, of how many cubes
_SIDE = 128
_DATES = 3
_CUBES = 3
_ENOUGH = 100
# where a part of the grid is looked at that is too large to be read whole: the middle, then around it
_MIDDLES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25))
_HALVINGS = 16


async def find_style(layer: Layer, limits: Limits) -> AnyStyle:
    """Return the default style of a layer.

    Raises:
        UpstreamError: a chunk of the sample could not be read.
    """
    encoding = layer.parts[0].variable.encoding
    packed = {"scale_factor", "add_offset"} & set(encoding)
    # CF gives the valid range in packed units
    attributes = {key: each for key, each in layer.attributes.items() if not (packed and "valid" in key)}
    if "flag_meanings" in attributes:
        return default_style(layer.name, attributes, np.empty(0))
    return default_style(layer.name, attributes, await read_sample(layer, limits))


async def read_sample(layer: Layer, limits: Limits) -> NDArray[np.float64]:
    """Read some values of a layer, evenly over its grid and dates where that is within the limits."""
    times = layer.times
    last = 0 if times is None else len(times) - 1
    numbers = np.unique(np.linspace(last, 0, _DATES).round().astype(np.intp))[::-1]
    selectors = {each.name: each.values[0] for each in layer.dimensions}
    values = [np.empty(0)]
    for part in layer.parts[:_CUBES]:
        for number in numbers:
            date = None if times is None else times[number]
            if date is not None and part.times is not None and not (part.times == date).any():
                continue
            values += await _read_part(View(layer, date, selectors), part, limits)
    return np.concatenate(values)


async def _read_part(view: View, part: Part, limits: Limits) -> list[NDArray[np.float64]]:
    found: list[NDArray[np.float64]] = []
    for middle in _MIDDLES:
        plan = None
        for halving in range(_HALVINGS):
            query = view.query(_window(part, middle, 0.5**halving))
            candidate = await part.source.plan(part.group, query, limits)
            if candidate.price.within(limits):
                plan = candidate
                break
        if plan is None:
            return found
        loaded = (await plan.selection.load()).dataset.variables[view.layer.name].values
        found.append(await in_thread(partial(_finite, loaded)))
        if found[-1].size >= _ENOUGH or halving == 0:
            return found
    return found


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    floats = np.asarray(values, np.float64).reshape(-1)
    return floats[np.isfinite(floats)]


def _window(part: Part, middle: tuple[float, float], share: float) -> Sampling:
    """Return up to `_SIDE` rows and columns, evenly over a share of the grid around a place of it."""
    grid = part.footprint.grid
    chosen = []
    for size, place in ((len(grid.y.values), middle[0]), (len(grid.x.values), middle[1])):
        length = max(1, round(size * share))
        first = min(max(0, round(size * place - length / 2)), size - length)
        chosen.append(np.unique(np.linspace(first, first + length - 1, _SIDE).astype(np.intp)))
    none = np.empty(0, np.intp)
    return Sampling(Window(as_slice(chosen[1]), as_slice(chosen[0])), none, none, none)
