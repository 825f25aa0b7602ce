"""Says in what the files of a pile differ, so that each that does not fit is named with its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cubegate.archives.agreement import DECODING
from cubegate.archives.piece import Piece, is_small
from cubegate.index.metadata import ArrayMetadata


def usual(pieces: Sequence[Piece], dimension: str) -> Piece:
    """Return a piece of the kind that most of `pieces` are of."""
    kinds = [_kind(piece, dimension) for piece in pieces]
    (most, _), *_ = Counter(kinds).most_common(1)
    return pieces[kinds.index(most)]


def differences(piece: Piece, other: Piece, dimension: str) -> list[str]:
    """Return in what `piece` differs from `other`, so that they cannot be joined along `dimension`."""
    found = []
    joined = other.has_dimension(dimension)
    for path, array in other.index.hierarchy.arrays.items():
        mine = piece.array(path)
        if mine is None:
            reason = piece.index.hierarchy.skipped.get(path)
            found.append(f"has no array {path!r}" if reason is None else f"cannot serve {reason}")
        elif not is_axis(array, dimension):
            copied = is_small(mine) and is_small(array) and _is_copied(array, dimension, joined=joined)
            differing = _different(mine, array, dimension, copied=copied)
            found += [f"has {what} in {path!r}" for what in differing]
            if not any(path in each for each in found) and _is_coordinate(array):
                found += _other_grid(piece, other, path)
    return found


def is_axis(array: ArrayMetadata, dimension: str) -> bool:
    """Whether `array` holds the places along `dimension` themselves."""
    return array.name == dimension and array.dimension_names in ((dimension,), ())


def _is_coordinate(array: ArrayMetadata) -> bool:
    return array.dimension_names == (array.name,)


def _other_grid(piece: Piece, other: Piece, path: str) -> list[str]:
    mine, theirs = piece.values.get(path), other.values.get(path)
    if mine is None or theirs is None or same(mine, theirs):
        return []
    return [f"has another grid: {path!r} has other values"]


def same(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same values."""
    return bool(one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))


def _is_copied(array: ArrayMetadata, dimension: str, *, joined: bool) -> bool:
    """Whether a small array's values are copied, so that it does not matter how each file encodes them."""
    return len(array.shape) < 2 or (joined and dimension not in (array.dimension_names or ()))


def _different(mine: ArrayMetadata, array: ArrayMetadata, dimension: str, *, copied: bool) -> list[str]:
    names = array.dimension_names
    if mine.dimension_names != names:
        return [f"other dimensions ({mine.dimension_names}, not {names})"]
    axis = names.index(dimension) if names is not None and dimension in names else -1
    found = []
    if _without(mine.shape, axis) != _without(array.shape, axis):
        found.append(f"another grid ({mine.shape}, not {array.shape})")
    if mine.dtype != array.dtype:
        found.append(f"another type ({mine.dtype}, not {array.dtype})")
    if not found and not copied:
        found += _encoded_otherwise(mine, array, axis)
    # NaN is like itself
    if mine.dtype == array.dtype and repr(mine.declared_fill) != repr(array.declared_fill):
        found.append(f"another missing value ({mine.declared_fill}, not {array.declared_fill})")
    for name in DECODING:
        one, other = mine.attributes.get(name), array.attributes.get(name)
        if one != other:
            found.append(f"another {name} ({str(one)[:60]}, not {str(other)[:60]})")
    return found


def _encoded_otherwise(mine: ArrayMetadata, array: ArrayMetadata, axis: int) -> list[str]:
    """Return what differs between arrays of one type and grid whose chunks are taken as they are."""
    found = []
    whole = axis >= 0 and mine.chunk_shape == mine.shape and array.chunk_shape == array.shape
    skip = axis if whole else -1
    if _without(mine.chunk_shape, skip) != _without(array.chunk_shape, skip):
        found.append(f"other chunks ({mine.chunk_shape}, not {array.chunk_shape})")
    if mine.codecs != array.codecs:
        found.append("another compression")
    if repr(mine.fill_value) != repr(array.fill_value):
        found.append(f"another fill value ({mine.fill_value}, not {array.fill_value})")
    return found


def _without(sizes: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return sizes if axis < 0 else (*sizes[:axis], *sizes[axis + 1 :])


def _kind(piece: Piece, dimension: str) -> str:
    """Return what pieces of one kind have in common."""
    told = []
    for path, array in sorted(piece.index.hierarchy.arrays.items()):
        if is_axis(array, dimension):
            continue
        names = array.dimension_names or ()
        axis = names.index(dimension) if dimension in names else -1
        values = piece.values[path].tobytes() if _is_coordinate(array) and path in piece.values else b""
        decoding = [array.attributes.get(name) for name in DECODING]
        told.append(
            (
                path,
                names,
                _without(array.shape, axis),
                array.dtype.str,
                hash(values),
                str(decoding),
                array.codecs,
            )
        )
    return repr(told)
