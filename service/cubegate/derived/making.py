"""Makes derived variables, one function a kind, and adds those of a collection file to a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from cubegate.derived.array import DerivedArray, Input
from cubegate.derived.continuous import ContinuousArray, ReferencedArray
from cubegate.derived.epochs import LOST, Epochs, link_epochs
from cubegate.derived.inputs import Grids, Inputs, attribute, like
from cubegate.derived.settings import (
    ContinuousSettings,
    DerivedSettings,
    DirectionSettings,
    SpeedSettings,
    StrainSettings,
    VelocitySettings,
)
from cubegate.derived.strain import Cells, StrainArray
from cubegate.derived.units import parse_velocity_unit
from cubegate.derived.velocity import CellwiseArray, direction, speed
from cubegate.errors import ConfigurationError
from cubegate.store.bridge import LoopThread

_SHOWN = 5


class Derivation(NamedTuple):
    """A dataset with its derived variables, and what the operator should know of them."""

    dataset: xr.Dataset
    notes: tuple[str, ...]


class _Made(NamedTuple):
    variable: xr.Variable
    notes: tuple[str, ...] = ()


def derive(
    dataset: xr.Dataset,
    wanted: Mapping[str, DerivedSettings],
    grids: Grids,
    bridge: LoopThread,
    prefix: str = "derived.",
) -> Derivation:
    """Return `dataset` with one lazy variable more for each of `wanted`, by its name.

    `prefix` and its name are the key that its settings stand at.

    Each may be an input of those after it. Coordinates and dates are looked at, and read where they are not
    in memory: not for an event loop.

    Raises:
        ConfigurationError: a name is taken, an input does not exist, or does not fit the others.
        UpstreamError: dates cannot be read.
    """
    notes: list[str] = []
    for name, settings in wanted.items():
        key = f"{prefix}{name}"
        if name in dataset.variables or name in dataset.dims:
            raise ConfigurationError(
                f"there is a variable or dimension {name!r} already", key=key, mend="Choose another name."
            )
        made = _make(Inputs(dataset, key, grids), settings, bridge)
        dataset = dataset.assign({name: made.variable})
        notes += [f"{key}: {note}" for note in made.notes]
    return Derivation(dataset, tuple(notes))


def _make(inputs: Inputs, settings: DerivedSettings, bridge: LoopThread) -> _Made:
    if isinstance(settings, ContinuousSettings):
        return _continuous(inputs, settings, bridge)
    if isinstance(settings, StrainSettings):
        return _strain(inputs, settings, bridge)
    return _velocity(inputs, settings, bridge)


def _continuous(inputs: Inputs, settings: ContinuousSettings, bridge: LoopThread) -> _Made:
    variable = inputs.numbers("variable", settings.variable)
    axes = inputs.axes("variable", settings.variable)
    dimension, epochs = _epochs(inputs, settings, variable, settings.time or axes.time)
    source, axis = Input(variable), variable.dims.index(dimension)
    array: DerivedArray = ContinuousArray(source, axis, epochs, bridge, omit=settings.missing == "omit")
    if settings.reference is not None:
        ix, iy = inputs.pixel("reference", settings.variable, settings.reference)
        pixel = {variable.dims.index(axes.x): ix, variable.dims.index(axes.y): iy}
        array = ReferencedArray(array, source, pixel, bridge)
    notes = _notes(epochs)
    long_name = attribute(variable, "long_name") or settings.variable
    attributes = {
        "long_name": f"{long_name}, continuous along time",
        "units": attribute(variable, "units"),
        "comment": "; ".join([*_formula(settings), *notes]),
    }
    return _Made(like([variable], array, attributes), notes)


def _epochs(
    inputs: Inputs, settings: ContinuousSettings, variable: xr.Variable, time: str | None
) -> tuple[str, Epochs]:
    """Return the dimension that the epochs lie along, and how they carry each other on."""
    if time is None:
        raise inputs.error("time", f"{settings.variable!r} has no time coordinate", "Name dates along time.")
    times, references = inputs.dates("time", time), inputs.dates("reference_time", settings.reference_time)
    dims = inputs.dataset.variables[time].dims
    if len(dims) != 1 or dims[0] not in variable.dims:
        raise inputs.error(
            "time", f"{time!r} does not run along {settings.variable!r}", "Name dates along time."
        )
    if references.ndim and inputs.dataset.variables[settings.reference_time].dims != dims:
        raise inputs.error(
            "reference_time",
            f"{settings.reference_time!r} does not run along {str(dims[0])!r}, as {time!r} does",
            "Name the reference date of each time.",
        )
    return str(dims[0]), link_epochs(times, np.broadcast_to(references, times.shape), settings.tolerance)


def _formula(settings: ContinuousSettings) -> list[str]:
    said = [
        f"{settings.variable} plus the continuous value of the epoch that is of this one's reference date",
        f"reference dates: {settings.reference_time}, the first needs none, within {settings.tolerance:g} s",
        "missing: omit (a missing value counts as 0 for the epochs that follow)"
        if settings.missing == "omit"
        else "missing: propagate (where the epoch to be added is missing, so is this one)",
    ]
    place = settings.reference
    if place is not None:
        said.append(f"less the same at longitude {place.lon:g}, latitude {place.lat:g}, epoch by epoch")
    return said


def _notes(epochs: Epochs) -> tuple[str, ...]:
    notes = []
    if epochs.unmatched:
        lost = int(np.count_nonzero(epochs.parents == LOST))
        notes.append(
            f"{lost:,} epochs cannot be continued and are missing, since no epoch is of the reference date "
            f"{_some(epochs.unmatched)}"
        )
    if epochs.ambiguous:
        notes.append(
            f"several epochs are of the reference date {_some(epochs.ambiguous)}: the nearest counts"
        )
    return tuple(notes)


def _some(dates: Sequence[np.datetime64]) -> str:
    shown = ", ".join(f"{date.astype('M8[s]')}Z" for date in dates[:_SHOWN])
    return f"{shown} and {len(dates) - _SHOWN:,} more" if len(dates) > _SHOWN else shown


def _components(inputs: Inputs, settings: VelocitySettings) -> tuple[xr.Variable, xr.Variable, str]:
    """Return the components of a velocity, and their unit; empty where it is unknown."""
    x, y = inputs.numbers("x", settings.x), inputs.numbers("y", settings.y)
    if x.dims != y.dims:
        raise inputs.error(
            "y", f"{settings.y!r} lies on another grid than {settings.x!r}", "Name two of one grid."
        )
    units = attribute(x, "units"), attribute(y, "units")
    if units[0] != units[1]:
        said = f"{settings.y!r} is in {units[1] or 'no units'}, {settings.x!r} in {units[0] or 'no units'}"
        raise inputs.error("y", said, "Name two of the same units.")
    if units[0] and settings.units and settings.units != units[0]:
        raise inputs.error("units", f"{settings.x!r} is in {units[0]}", "Leave this key out.")
    return x, y, units[0] or settings.units or ""


def _velocity(inputs: Inputs, settings: SpeedSettings | DirectionSettings, bridge: LoopThread) -> _Made:
    x, y, units = _components(inputs, settings)
    both = f"{settings.x} and {settings.y}"
    if isinstance(settings, SpeedSettings):
        function = speed
        attributes = {"long_name": "speed", "units": units, "comment": f"hypot of {both}"}
    else:
        function = direction
        attributes = {
            "long_name": "direction of flow",
            "units": "degree",
            "comment": f"atan2 of {both}: clockwise from the direction in which y grows (grid north)",
        }
    array = CellwiseArray([Input(x), Input(y)], function, bridge)
    return _Made(like([x, y], array, attributes))


def _strain(inputs: Inputs, settings: StrainSettings, bridge: LoopThread) -> _Made:
    x, y, units = _components(inputs, settings)
    axes = inputs.axes("x", settings.x)
    if axes.metres is None:
        raise inputs.error(
            "x", f"the grid of {settings.x!r} is not in metres", "Strain rates need a projected grid."
        )
    unit = parse_velocity_unit(units)
    if unit is None:
        said = f"{settings.x!r} is in {units!r}" if units else f"the units of {settings.x!r} are unknown"
        raise inputs.error("units", said, "Write a unit of velocity, such as m/year.")
    centres = [inputs.dataset.variables[name].values.astype(float) * axes.metres for name in axes[:2]]
    cells = Cells(x.dims.index(axes.x), x.dims.index(axes.y), centres[0], centres[1], unit.metres)
    array = StrainArray([Input(x), Input(y)], settings.component, cells, bridge)
    attributes = {
        "long_name": f"{settings.component.replace('-', ' ')} strain rate",
        "units": f"1/{unit.time}",
        "comment": f"of the velocity {settings.x}, {settings.y}, by central differences",
    }
    return _Made(like([x, y], array, attributes, margin=1))
