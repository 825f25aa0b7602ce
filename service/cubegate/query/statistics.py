"""Statistics of the cells inside polygons: one set for each time, and each place along other dimensions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.area import Area, cells_inside
from cubegate.query.crs import parse_crs
from cubegate.query.masking import EXACT
from cubegate.query.selection import Selection

# weights that differ by less than this share of all are the same
_TIE = 1e-12


@dataclass(frozen=True)
class Histogram:
    """How values are counted: in `bins` of one width, from `low` to `high`; None is their own range."""

    bins: int
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """The statistics of one variable at one place along all dimensions but x and y.

    Attributes:
        place: the value of each of these dimensions, its index where it has no coordinate.
        values: by name, None where there is no cell with a value.
        edges, counts: of the bins of the histogram, if there is one.
    """

    variable: str
    units: str
    place: Mapping[str, Any]
    values: Mapping[str, float | int | None]
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def weights_of(selection: Selection) -> str:
    """How cells are weighted: by the cosine of their latitude on a geographic grid, else alike."""
    is_geographic = bool(selection.crs) and parse_crs(selection.crs).is_geographic
    return "cos(latitude)" if is_geographic else "none"


def statistics_of(
    selection: Selection, area: Area, histogram: Histogram | None, *, named: bool
) -> Iterator[Row]:
    """Yield the rows of a loaded box that holds `area`: variables in their order, then places in theirs.

    `named` says whether the variables were asked for by name, so that none may be left out.

    Raises:
        InvalidParameter: no cell has its centre inside, or a variable is no number on the grid.
        NotAcceptable: 64-bit integers would lose digits.
    """
    dataset = selection.dataset
    names = _numeric(selection, named=named)
    x, y = (dataset[name].values.astype(np.float64) for name in (selection.x, selection.y))
    inside = cells_inside(area, parse_crs(selection.crs) if selection.crs else None, x, y)
    if not inside.any():
        raise InvalidParameter(
            area.parameter,
            "No cell has its centre inside the polygon.",
            accepted="a polygon as large as a cell at least, or /timeseries",
        )
    latitudes = np.broadcast_to(y[:, None], inside.shape)[inside]
    weights = np.cos(np.radians(latitudes)) if weights_of(selection) != "none" else None
    for name in names:
        variable = dataset[name].transpose(..., selection.y, selection.x)
        yield from _rows(dataset, variable, inside, weights, histogram)


def _numeric(selection: Selection, *, named: bool) -> list[str]:
    both = {selection.x, selection.y}
    kinds = {str(name): each for name, each in selection.dataset.data_vars.items()}
    able = [name for name, each in kinds.items() if both <= set(each.dims) and each.dtype.kind in "biuf"]
    if able and (not named or len(able) == len(kinds)):
        return able
    lacking = [name for name in kinds if name not in able]
    raise InvalidParameter(
        "variables",
        f"There are no statistics of {', '.join(lacking)[:200] or 'nothing'}: only of numbers on the grid.",
        accepted=", ".join(able) or "numeric variables on the grid",
    )


def _rows(
    dataset: xr.Dataset,
    variable: xr.DataArray,
    inside: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    histogram: Histogram | None,
) -> Iterator[Row]:
    name = str(variable.name)
    values = _as_doubles(name, np.asarray(variable.values)[..., inside])
    edges = None if histogram is None else _edges(name, values, histogram)
    units = str(variable.attrs.get("units", ""))
    for place in np.ndindex(*values.shape[:-1]):
        at = values[place]
        present = ~np.isnan(at)
        with np.errstate(over="ignore", invalid="ignore"):
            found = _statistics(at, present, weights)
        counts: tuple[int, ...] = ()
        if edges is not None:
            counts = tuple(np.histogram(at[present], edges)[0].tolist())
        where = {
            str(dim): _value(dataset, dim, index)
            for dim, index in zip(variable.dims[:-2], place, strict=True)
        }
        yield Row(name, units, where, found, () if edges is None else tuple(edges.tolist()), counts)


def _as_doubles(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    is_wide = values.dtype.kind in "iu" and values.dtype.itemsize == 8
    if is_wide and values.size and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
        raise NotAcceptable(f"Variable {name!r} has integers that lose digits in statistics.")
    return values.astype(np.float64)


def _edges(name: str, values: NDArray[np.float64], histogram: Histogram) -> NDArray[np.float64] | None:
    """The edges of all histograms of a variable; None where it has no value at all."""
    finite = values[np.isfinite(values)]
    if not finite.size and histogram.limits is None:
        return None
    try:
        with np.errstate(over="raise", invalid="raise"):
            edges = np.histogram_bin_edges(finite, histogram.bins, histogram.limits)
    except (ValueError, FloatingPointError):
        edges = np.zeros(2)
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise InvalidParameter(
            "bins",
            f"The values of {name!r} cannot be told apart by so many bins.",
            accepted="fewer, or a range",
        )
    return np.asarray(edges, float)


def _value(dataset: xr.Dataset, dim: Hashable, index: int) -> Any:
    return dataset[dim].values[index] if dim in dataset.coords else index


def _statistics(
    values: NDArray[np.float64], present: NDArray[np.bool_], weights: NDArray[np.float64] | None
) -> dict[str, float | int | None]:
    """The statistics of one plane; `values` and `weights` are those of all cells inside, in one order."""
    known = values[present]
    count = {"count": int(known.size), "cells": int(values.size)}
    if not known.size:
        missing = dict.fromkeys(("mean", "median", "std", "min", "max"))
        return {**missing, **count, "valid_fraction": 0.0}
    if weights is None:
        mean, median, deviation = float(known.mean()), float(np.median(known)), float(known.std())
        share = known.size / values.size
    else:
        shares = weights[present]
        mean = float(np.average(known, weights=shares))
        deviation = float(np.sqrt(np.average((known - mean) ** 2, weights=shares)))
        median = _weighted_median(known, shares)
        share = float(shares.sum() / weights.sum())
    found = {"mean": mean, "median": median, "std": deviation}
    return {**found, "min": float(known.min()), "max": float(known.max()), **count, "valid_fraction": share}


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The value with half of the weight at most below and above it; the mean of two, where both have that."""
    order = np.argsort(values, kind="stable")
    summed = np.cumsum(weights[order])
    half = summed[-1] / 2
    first = int(np.searchsorted(summed, half - _TIE * summed[-1]))
    lower = values[order[first]]
    if abs(summed[first] - half) <= _TIE * summed[-1] and first + 1 < len(order):
        return float((lower + values[order[first + 1]]) / 2)
    return float(lower)
