"""Masks: where a condition on gridded variables does not hold, the values of an answer are missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.conditions import Condition
from cubegate.query.grid import Grid
from cubegate.query.matching import Test, find_test

# the largest integers that float64 still tells apart
EXACT = 2**53


@dataclass(frozen=True, eq=False)
class Mask:
    """Conditions on gridded variables, and what they apply to.

    Attributes:
        tests: the name of each condition's variable, and what marks the cells that meet it.
        gridded: the variables of the answer that lie on the grid.
        dataset: the variables of the conditions that the answer itself lacks; lazy.
    """

    tests: tuple[tuple[str, Test], ...]
    gridded: tuple[str, ...]
    dataset: xr.Dataset

    def nbytes(self, answer: xr.Dataset) -> int:
        """What reading and applying takes in memory beside the variables of `answer`, at most."""
        sizes = [(answer[name].size, answer[name].dtype) for name in self.gridded]
        after = [size * _masked_type(dtype).itemsize for size, dtype in sizes]
        grown = sum(new - size * dtype.itemsize for new, (size, dtype) in zip(after, sizes, strict=True))
        cells = max(size for size, _ in sizes)
        return int(self.dataset.nbytes + grown + max(after) + 2 * cells)

    def apply(self, answer: xr.Dataset, masks: xr.Dataset) -> xr.Dataset:
        """Return `answer` with its gridded variables missing where a condition does not hold.

        Args:
            answer: loaded.
            masks: `dataset`, loaded.

        Raises:
            NotAcceptable: 64-bit integers would lose digits.
        """
        good = xr.DataArray(np.array(True))
        for name, test in self.tests:
            variable = masks.variables[name] if name in masks.variables else answer.variables[name]
            good = good & xr.DataArray(test(np.asarray(variable.values)), dims=variable.dims)
        answer = answer.copy(deep=False)
        for name in self.gridded:
            variable = answer.variables[name]
            shown = good.broadcast_like(xr.DataArray(variable)).transpose(*variable.dims)
            values = masked(name, np.asarray(variable.values), shown.values)
            answer[name] = xr.Variable(variable.dims, values, variable.attrs, variable.encoding)
        return answer


def find_tests(
    dataset: xr.Dataset, grid: Grid, conditions: Iterable[Condition]
) -> tuple[tuple[str, Test], ...]:
    """Return the tests of conditions on variables over the grid, with or without time.

    Raises:
        InvalidParameter: a variable is unknown, not on the grid, or cannot be compared so.
    """
    both = {grid.x.name, grid.y.name}
    gridded = [str(name) for name, each in dataset.data_vars.items() if both <= set(each.dims)]
    found = []
    for condition in conditions:
        variable = dataset.variables.get(condition.variable)
        if variable is None or not both <= set(variable.dims):
            raise InvalidParameter(
                condition.parameter,
                f"There is no variable {condition.variable[:80]!r} on the grid.",
                accepted=f"conditions on {', '.join(gridded[:50])}",
            )
        found.append((condition.variable, find_test(condition, variable)))
    return tuple(found)


def make_mask(
    tests: tuple[tuple[str, Test], ...], selected: xr.Dataset, gridded: tuple[str, ...], extra: list[str]
) -> Mask:
    """Return the mask of `selected`, which holds the gridded variables and `extra`, those of the mask alone.

    Raises:
        InvalidParameter: there is nothing to mask, or a variable lacks a dimension of the mask.
        NotAcceptable: a variable has no value that means missing.
    """
    if not gridded:
        raise InvalidParameter(
            "mask",
            "None of the variables lies on the grid, so nothing can be masked.",
            accepted="no mask",
        )
    dims = {dim for name, _ in tests for dim in selected[name].dims}
    lacking = [name for name in gridded if not dims <= set(selected[name].dims)]
    if lacking:
        able = [name for name in gridded if name not in lacking]
        raise InvalidParameter(
            "mask",
            f"The mask varies along {', '.join(sorted(map(str, dims)))}, and {', '.join(lacking)} does not.",
            accepted=f"this mask with variables={','.join(able)}"
            if able
            else "a mask without these dimensions",
        )
    for name in gridded:
        if selected[name].dtype.kind not in "biufcMm":
            raise NotAcceptable(
                f"The variable {name!r} holds {selected[name].dtype} values, which a mask cannot make "
                "missing: ask for other variables, or leave out mask=."
            )
    alone = selected[extra]
    return Mask(tests, gridded, alone.drop_vars(list(alone.coords)))


def _masked_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that holds the values of `dtype` and one that means missing."""
    if dtype.kind in "biu":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    return dtype.newbyteorder("=")


def masked(name: str, values: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values of a variable, missing where they are not `shown`.

    Raises:
        NotAcceptable: 64-bit integers would lose digits.
    """
    kind = values.dtype.kind
    if kind in "iu" and values.dtype.itemsize == 8:
        present = values[shown]
        if present.size and max(abs(int(present.min())), abs(int(present.max()))) > EXACT:
            raise NotAcceptable(
                f"Variable {name!r} has integers that lose digits when masked: leave out mask=."
            )
    masked = values.astype(_masked_type(values.dtype))
    masked[~shown] = np.array("NaT" if kind in "Mm" else np.nan, masked.dtype)
    return masked
