"""Finds the inputs of derived variables in a dataset, or says which setting is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from cubegate.derived.settings import PointSettings
from cubegate.errors import ConfigurationError, InvalidParameter

_LONGEST = 200


class Axes(NamedTuple):
    """The names of a variable's x, y and time (None without one), and the unit of x and y in metres.

    `metres` is None where that is none of length, or unknown.
    """

    x: str
    y: str
    time: str | None
    metres: float | None


class Grids(Protocol):
    """Knows the grids of a dataset."""

    def axes(self, dataset: xr.Dataset, variable: str) -> Axes:
        """Return the axes of `variable`.

        Raises:
            InvalidParameter: it lies on no grid.
        """
        ...

    def pixel(self, dataset: xr.Dataset, variable: str, lon: float, lat: float) -> tuple[int, int]:
        """Return the positions along x and y of the cell that holds a point.

        Raises:
            InvalidParameter: it is outside the grid, or the CRS is unknown.
        """
        ...


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a derived variable is made from; `key` is where its settings stand."""

    dataset: xr.Dataset
    key: str
    grids: Grids

    def error(self, key: str, problem: str, mend: str) -> ConfigurationError:
        """Return the error of the setting `key` of this variable."""
        return ConfigurationError(problem, key=f"{self.key}.{key}", mend=mend)

    def variable(self, key: str, name: str) -> xr.Variable:
        """Return the variable that the setting `key` names.

        Raises:
            ConfigurationError: there is none.
        """
        variable = self.dataset.variables.get(name)
        if variable is None:
            known = ", ".join(map(str, list(self.dataset.variables)[:50]))
            raise self.error(key, f"there is no variable {name!r}", f"There are: {known}.")
        return variable

    def numbers(self, key: str, name: str) -> xr.Variable:
        """Return a variable of real numbers.

        Raises:
            ConfigurationError: there is none.
        """
        variable = self.variable(key, name)
        if variable.dtype.kind not in "iuf":
            raise self.error(key, f"{name!r} holds no real numbers", "Name another variable.")
        return variable

    def dates(self, key: str, name: str) -> NDArray[np.datetime64]:
        """Return the values of a variable of dates, of shape (n,) or ().

        Raises:
            ConfigurationError: it holds something else.
        """
        variable = self.variable(key, name)
        if variable.dtype.kind != "M":
            raise self.error(
                key, f"{name!r} holds no dates of the standard calendar", "Name another variable."
            )
        if variable.ndim > 1:
            raise self.error(key, f"{name!r} has {variable.ndim} dimensions", "Name dates along time.")
        return np.asarray(variable.values)

    def axes(self, key: str, name: str) -> Axes:
        """Return the axes of a variable.

        Raises:
            ConfigurationError: it lies on no grid.
        """
        try:
            return self.grids.axes(self.dataset, name)
        except InvalidParameter as error:
            mend = "Name a variable with x and y coordinates, or set `dimensions:`."
            raise self.error(key, error.detail.rstrip("."), mend) from None

    def pixel(self, key: str, name: str, place: PointSettings) -> tuple[int, int]:
        """Return the positions along x and y, on the grid of a variable, of the cell that holds a point.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return self.grids.pixel(self.dataset, name, place.lon, place.lat)
        except InvalidParameter as error:
            raise self.error(key, error.detail.rstrip("."), "Name a point inside the grid.") from None


def attribute(variable: xr.Variable, name: str) -> str:
    """Return one attribute as text, empty where it is not there."""
    return str(variable.attrs.get(name, "")).strip()[:_LONGEST]


def like(
    variables: Sequence[xr.Variable], data: Any, attributes: Mapping[str, str], margin: int = 0
) -> xr.Variable:
    """Return a variable of `data`, which prices itself, with the dimensions and grid mapping of the first.

    It is read in the chunks that all of `variables` are cut into, and with `margin` cells around.
    """
    first = variables[0]
    said = {key: value for key, value in attributes.items() if value}
    if "grid_mapping" in first.attrs:
        said["grid_mapping"] = first.attrs["grid_mapping"]
    found = xr.Variable(first.dims, indexing.LazilyIndexedArray(data), said)
    chunks = [each.encoding.get("preferred_chunks", {}) for each in variables]
    shared = dict(set.intersection(*(set(each.items()) for each in chunks)))
    found.encoding = {
        "encoded_array": data,
        "preferred_chunks": shared,
        "margin": margin + max(each.encoding.get("margin", 0) for each in variables),
    }
    if "grid_mapping" in first.encoding:
        found.encoding["grid_mapping"] = first.encoding["grid_mapping"]
    return found
