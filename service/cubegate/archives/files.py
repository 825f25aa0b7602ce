"""Any pile of HDF5 or netCDF files: which fit together, and where each lies along a dimension."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from cubegate.archives.file_differences import differences, is_axis, usual
from cubegate.archives.joining import Joint, join_pieces, overlaps, unsorted
from cubegate.archives.piece import Piece
from cubegate.archives.stacking import Layer, stack_layers
from cubegate.errors import InvalidParameter, InvalidReference
from cubegate.index.index import Index
from cubegate.query.nanoseconds import moment

_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T_ -]?(\d{2}):?(\d{2}):?(\d{2})?)?")
_CFTIME_ERRORS = (ValueError, TypeError, OverflowError)
_SHOWN = 20


@dataclass(frozen=True)
class Joining:
    """How files are joined: along `dimension`, which they have or which is made of one date of each.

    The date is that of the variable or global attribute `concat_by`, or what `date_from`, a regular
    expression, finds in the name of the file; or that of `dates`, by the name of the file.
    """

    dimension: str
    concat_by: str | None = None
    date_from: re.Pattern[str] | None = None
    allow_gaps: frozenset[str] = frozenset()
    dates: Mapping[str, np.datetime64] = field(default_factory=dict)


@dataclass
class Joined:
    """The index of a cube, the files that it is made of in their order, and what was found on the way."""

    index: Index
    files: list[str]
    left_out: dict[str, str]
    notes: list[str] = field(default_factory=list)


def join_files(
    pieces: Sequence[Piece], joining: Joining, broken: dict[str, str], *, leave_out: bool
) -> Joined:
    """Join the files `pieces`; `broken` says of others why they cannot be read.

    Raises:
        InvalidReference: some do not fit, and `leave_out` does not allow to go on without them, or none does;
            the message names each with all of its reasons.
        InvalidParameter: nothing says where the files lie along the dimension.
    """
    reasons = dict(broken)
    if not pieces:
        raise _refused(reasons, len(reasons))
    model = usual(pieces, joining.dimension)
    for piece in pieces:
        found = differences(piece, model, joining.dimension)
        if found:
            reasons[piece.name] = "; ".join(found)
    fitting = [piece for piece in pieces if piece.name not in reasons]
    work = _join if model.has_dimension(joining.dimension) else _stack
    count = len(pieces) + len(broken)
    index, files, notes = work(fitting, joining, reasons, leave_out=leave_out, count=count)
    return Joined(index, files, reasons, notes)


def _require(reasons: dict[str, str], count: int, fitting: Collection[Any], *, leave_out: bool) -> None:
    if reasons and (not leave_out or not fitting):
        raise _refused(reasons, count)


def _refused(reasons: dict[str, str], count: int) -> InvalidReference:
    lines = [f"{name}: {reason}" for name, reason in sorted(reasons.items())]
    more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    said = "\n  ".join([*lines[:_SHOWN], *more])
    return InvalidReference(
        f"{len(reasons):,} of {count:,} files cannot be joined:\n  {said}\n"
        "--leave-out goes on without them. What was read is kept for the next time."
    )


def _join(
    pieces: Sequence[Piece], joining: Joining, reasons: dict[str, str], *, leave_out: bool, count: int
) -> tuple[Index, list[str], list[str]]:
    dimension = joining.dimension
    joints = []
    model = usual(pieces, dimension) if pieces else None
    for piece in pieces:
        assert model is not None  # noqa: S101 - there is a piece
        try:
            joints.append(Joint(piece, _places(piece, model, dimension)))
        except InvalidReference as error:
            reasons[piece.name] = str(error)
    joints.sort(key=lambda joint: (joint.places.min(), joint.piece.name))
    again = overlaps(joints)
    reasons |= again
    joints = [joint for joint in joints if joint.piece.name not in again]
    _require(reasons, count, joints, leave_out=leave_out)
    index = join_pieces(joints, dimension, joining.allow_gaps, model=model)
    return index, [joint.piece.name for joint in joints], unsorted(joints)


def _axis(piece: Piece, dimension: str) -> str | None:
    arrays = piece.index.hierarchy.arrays
    return next((path for path, array in sorted(arrays.items()) if is_axis(array, dimension)), None)


def _units(piece: Piece, dimension: str) -> tuple[str, str]:
    path = _axis(piece, dimension)
    attributes = {} if path is None else piece.index.hierarchy.arrays[path].attributes
    return str(attributes.get("units", "")), str(attributes.get("calendar", "standard")).lower()


def _places(piece: Piece, model: Piece, dimension: str) -> NDArray[Any]:
    """Return the places of a piece along the dimension, in the units of `model`."""
    path = _axis(piece, dimension)
    if path is None or path not in piece.values:
        raise InvalidReference(f"has no values of {dimension!r}, so nothing says where it lies")
    values = piece.values[path].reshape(-1)
    if values.dtype.kind not in "iuf" or not values.size or not np.isfinite(values).all():
        raise InvalidReference(f"has values of {dimension!r} that are no numbers, or none")
    fill = piece.index.hierarchy.arrays[path].declared_fill
    if fill is not None and (values == fill).any():
        raise InvalidReference(f"lacks values of {dimension!r}")
    (units, calendar), (wanted, other) = _units(piece, dimension), _units(model, dimension)
    if units == wanted and calendar == other:
        return values
    if calendar != other or "since" not in units or "since" not in wanted:
        raise InvalidReference(f"counts {dimension!r} in {units} ({calendar}), not in {wanted} ({other})")
    if _has_bounds(piece, path):
        raise InvalidReference(f"counts {dimension!r}, which has bounds, in {units}, not in {wanted}")
    try:
        dates = cftime.num2date(values, units, calendar)
        return np.asarray(cftime.date2num(dates, wanted, other)).reshape(-1)
    except _CFTIME_ERRORS:
        raise InvalidReference(f"counts {dimension!r} in {units[:60]}, which cannot be read") from None


def _has_bounds(piece: Piece, path: str) -> bool:
    return "bounds" in piece.index.hierarchy.arrays[path].attributes


def _stack(
    pieces: Sequence[Piece], joining: Joining, reasons: dict[str, str], *, leave_out: bool, count: int
) -> tuple[Index, list[str], list[str]]:
    layers = []
    for piece in pieces:
        try:
            layers.append(Layer(piece.name, piece.index, _date(piece, joining)))
        except InvalidReference as error:
            reasons[piece.name] = str(error)
    layers.sort(key=lambda layer: (layer.time, layer.name))
    seen: dict[np.datetime64, str] = {}
    for layer in layers:
        if layer.time in seen:
            reasons[layer.name] = f"is of {layer.time}, of which {seen[layer.time]} is too"
        seen.setdefault(layer.time, layer.name)
    layers = [layer for layer in layers if layer.name not in reasons]
    _require(reasons, count, layers, leave_out=leave_out)
    index = stack_layers(layers, dimension=joining.dimension, allow_gaps=joining.allow_gaps)
    return index, [layer.name for layer in layers], []


def _date(piece: Piece, joining: Joining) -> np.datetime64:
    """Return the date of a piece, datetime64[ns]."""
    if piece.name in joining.dates:
        return joining.dates[piece.name]
    if joining.date_from is not None:
        match = joining.date_from.search(piece.name)
        if match is None:
            raise InvalidReference("has no date in its name that --date-from finds")
        return _read_date(match[1] if match.re.groups else match[0])
    name = joining.concat_by or joining.dimension
    array = piece.array(name)
    if array is not None and name in piece.values and piece.values[name].size == 1:
        return _scalar_date(piece.values[name].reshape(-1)[0], array.attributes, name)
    attribute = piece.index.hierarchy.groups[""].attributes.get(name)
    if isinstance(attribute, str):
        return _read_date(attribute)
    if joining.concat_by is None:
        raise InvalidParameter(
            "concat",
            f"The files have no dimension {joining.dimension!r}, and nothing says where each of them lies.",
            accepted="--concat-by NAME of a variable or attribute, or --date-from REGEX of the file's name",
        )
    raise InvalidReference(f"has neither a single value nor a global attribute called {name!r}")


def _scalar_date(value: Any, attributes: Any, name: str) -> np.datetime64:
    if isinstance(value, str | bytes):
        return _read_date(value.decode("ascii", "replace") if isinstance(value, bytes) else value)
    units, calendar = str(attributes.get("units", "")), str(attributes.get("calendar", "standard"))
    try:
        date = cftime.num2date(float(value), units, calendar, only_use_cftime_datetimes=True)
        return moment(date.isoformat())
    except _CFTIME_ERRORS:
        raise InvalidReference(f"has a {name!r} that is no date") from None


def _read_date(text: str) -> np.datetime64:
    match = _DATE.search(text)
    year, month, day, *clock = (part or "00" for part in (match.groups() if match else ("", "", "")))
    try:
        return moment(f"{year}-{month}-{day}T{':'.join(clock)}")
    except ValueError:
        raise InvalidReference(f"has a date that cannot be read ({text[:60]!r})") from None
