"""Makes large cells of small ones: their mean by area, their most frequent value, or the middle one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cubegate.tiling.style import DIRECTIONS

Resampling = Literal["mean", "mode", "nearest"]

# in CF's terms; the mean is of what is not missing
CELL_METHODS: Mapping[Resampling, str] = {
    "mean": "area: mean",
    "mode": "area: mode",
    "nearest": "area: point",
}

_ANGLES = frozenset(
    {
        "degree", "degrees", "deg", "degs", "°", "arc_degree", "arc_degrees", "angular_degree",
        "angular_degrees", "radian", "radians", "rad", "rads", "mrad", "milliradian", "milliradians",
        "grad", "gon",
    }
)  # fmt: skip
_TEMPERATURES = frozenset({"c", "f", "k", "celsius", "centigrade", "fahrenheit", "kelvin"})
_TURNING = (*DIRECTIONS, "wrapped")
# of weights, whose sums are not exact
_ROUNDING = 1e-9


def choose_resampling(name: str, attributes: Mapping[str, Any], stored: np.dtype[Any]) -> Resampling:
    """Choose how a variable gets larger cells, by its CF metadata and the type that is `stored`.

    Classes have no mean: flags, and integers that are neither packed nor have a unit. Nor has what goes
    around, as directions and wrapped phases do: 359 and 1 degree do not make 180.
    """
    if "flag_values" in attributes or "flag_masks" in attributes:
        return "mode"
    units = str(attributes.get("units", "")).strip()
    words = f"{attributes.get('standard_name', '')} {attributes.get('long_name', '')} {name}".lower()
    if units in ("", "1"):
        if stored.kind in "iub":
            return "mode"
        return "nearest" if any(word in words.replace("unwrapped", "") for word in _TURNING) else "mean"
    # degrees_north, degree_E, degrees_true
    first, _, last = units.lower().partition("_")
    is_angle = first in _ANGLES and last not in _TEMPERATURES
    return "nearest" if is_angle and "unwrapped" not in words else "mean"


def coarsen(
    values: NDArray[Any], levels: int, resampling: Resampling, weights: NDArray[np.float64]
) -> list[NDArray[Any]]:
    """Return `values`, of shape (rows, columns), in cells of 2, 4, 8 ... along each side, a level each.

    What there is of a cell that reaches beyond the end counts as all of it. Where less than half of a cell's
    area is known, the cell is missing. `weights` are the areas of the cells of each row. Every level is made
    of `values` themselves, not of the level before.

    Returns:
        For a mean, floats of at least 32 bits; else the type of `values`.
    """
    if resampling == "mean":
        return _means(values, levels, weights)
    pick: Callable[[NDArray[Any], int], NDArray[Any]] = _modes if resampling == "mode" else _nearest
    return [pick(values, 2**level) for level in range(1, levels + 1)]


def coarse_type(dtype: np.dtype[Any], resampling: Resampling) -> np.dtype[Any]:
    """Return the type that `coarsen` returns."""
    return np.dtype(np.result_type(dtype, np.float32)) if resampling == "mean" else dtype


def _means(values: NDArray[Any], levels: int, weights: NDArray[np.float64]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    known = np.isfinite(values)
    area = known * weights[:, None]
    total = np.where(known, values, 0).astype(np.float64) * weights[:, None]
    rows, columns = weights, np.ones(values.shape[1])
    for _ in range(levels):
        total, area = _summed(total), _summed(area)
        rows, columns = _summed(rows[:, None])[:, 0], _summed(columns[:, None])[:, 0]
        enough = area >= rows[:, None] * columns * (0.5 - _ROUNDING)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(enough & (area > 0), total / area, np.nan)
        found.append(mean.astype(coarse_type(values.dtype, "mean")))
    return found


def _summed(values: NDArray[Any]) -> NDArray[Any]:
    """Add up two and two along both axes; what is left over stays."""
    for axis in (0, 1):
        cells = np.moveaxis(values, axis, 0)
        halved = cells[::2].copy()
        halved[: len(cells) // 2] += cells[1::2]
        values = np.moveaxis(halved, 0, axis)
    return values


def _nearest(values: NDArray[Any], side: int) -> NDArray[Any]:
    rows, columns = (np.minimum(np.arange(0, size, side) + side // 2, size - 1) for size in values.shape)
    return np.asarray(values[np.ix_(rows, columns)])


def _modes(values: NDArray[Any], side: int) -> NDArray[Any]:
    """The most frequent known value of each block; the lowest of several; missing as in `coarsen`."""
    known, codes = np.unique(values, return_inverse=True)
    missing = len(known)
    codes = codes.reshape(values.shape).astype(np.int32)
    if values.dtype.kind == "f":
        codes[~np.isfinite(values)] = missing
    height, width = (-(-size // side) for size in values.shape)
    padded = np.full((height * side, width * side), missing + 1, np.int32)
    padded[: values.shape[0], : values.shape[1]] = codes
    blocks = padded.reshape(height, side, width, side).swapaxes(1, 2).reshape(height * width, side * side)
    blocks = np.sort(blocks, axis=1)
    place = np.arange(side * side, dtype=np.int32)
    begins = np.ones(blocks.shape, bool)
    begins[:, 1:] = blocks[:, 1:] != blocks[:, :-1]
    length = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1) + 1
    length[blocks >= missing] = 0
    best = np.take_along_axis(blocks, length.argmax(axis=1)[:, None], 1)[:, 0]
    if values.dtype.kind != "f":
        return np.asarray(known[best].reshape(height, width))
    few = 2 * (blocks < missing).sum(axis=1) < (blocks <= missing).sum(axis=1)
    chosen = np.append(known, np.nan).astype(values.dtype)[np.where(few, missing, best)]
    return np.asarray(chosen.reshape(height, width))
