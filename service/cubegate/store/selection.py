"""Plans which chunks a selection touches, and what goes where."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indexer = int | slice | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ChunkPart:
    """The part of one chunk that a selection wants.

    `inside` selects from the chunk's values and `outside` places them in the result; each is
    one index for every dimension, as `numpy.ix_` makes them.
    """

    chunk: tuple[int, ...]
    inside: tuple[Any, ...]
    outside: tuple[Any, ...]


class OuterSelection:
    """A selection of one indexer a dimension, each independent of the others.

    Integers keep their dimension, with length 1, until `squeeze` is applied to the result.
    """

    def __init__(self, shape: Sequence[int], chunk_shape: Sequence[int], indexers: Sequence[Indexer]) -> None:
        self.shape = tuple(_length(size, indexer) for size, indexer in zip(shape, indexers, strict=True))
        self._axis_sizes, self._indexers = tuple(shape), tuple(indexers)
        self._chunk_shape = tuple(chunk_shape)
        self.squeeze = tuple(
            0 if isinstance(indexer, int | np.integer) else slice(None) for indexer in indexers
        )

    @cached_property
    def _numbers(self) -> list[NDArray[np.int64]]:
        """The chunk numbers touched along each axis, ascending."""
        return [
            np.unique(self.positions_along(axis) // chunk) for axis, chunk in enumerate(self._chunk_shape)
        ]

    @property
    def chunk_count(self) -> int:
        """How many chunks the selection touches."""
        return math.prod(len(numbers) for numbers in self._numbers)

    def chunks(self) -> NDArray[np.int64]:
        """The coordinates of the chunks touched, of shape (n, ndim)."""
        if not self._numbers:
            return np.zeros((1, 0), np.int64)
        grid = np.meshgrid(*self._numbers, indexing="ij")
        return np.stack([part.reshape(-1) for part in grid], axis=-1).astype(np.int64)

    def positions_along(self, axis: int) -> NDArray[np.intp]:
        """The positions selected along `axis`, in order."""
        return _selected(self._axis_sizes[axis], self._indexers[axis])

    def count_across(self, axis: int) -> int | None:
        """How many columns along `axis` the selection touches."""
        return math.prod(length for number, length in enumerate(self.shape) if number != axis)

    def pixels_across(self, axis: int) -> NDArray[np.intp]:
        """The positions of these columns along the other axes, of shape (n, ndim - 1)."""
        others = [self.positions_along(number) for number in range(len(self.shape)) if number != axis]
        grid = np.meshgrid(*others, indexing="ij")
        return np.stack([part.reshape(-1) for part in grid], axis=-1)

    def from_columns(self, columns: NDArray[Any], axis: int) -> NDArray[Any]:
        """Return a result of `shape` from `columns`, one a pixel, already selected along `axis`."""
        others = [length for number, length in enumerate(self.shape) if number != axis]
        return np.moveaxis(columns.reshape(*others, -1), -1, axis)

    def parts(self) -> Iterator[ChunkPart]:
        """Yield one part for each chunk touched."""
        axes = [
            _split_axis(size, chunk, indexer)
            for size, chunk, indexer in zip(self._axis_sizes, self._chunk_shape, self._indexers, strict=True)
        ]
        for combination in itertools.product(*axes):
            numbers = tuple(number for number, _, _ in combination)
            inside = _open_mesh([part for _, part, _ in combination])
            outside = _open_mesh([part for _, _, part in combination])
            yield ChunkPart(numbers, inside, outside)


class PointSelection:
    """A selection of points: integer arrays of one shape for some dimensions, slices for the others.

    The result has the dimensions of the points first, then one for each slice.
    """

    def __init__(self, shape: Sequence[int], chunk_shape: Sequence[int], indexers: Sequence[Any]) -> None:
        axes = list(zip(shape, chunk_shape, indexers, strict=True))
        self._is_slice = [isinstance(indexer, slice) for indexer in indexers]
        self._slices = [_split_axis(*axis) for axis in axes if isinstance(axis[2], slice)]
        points = [(size, chunk, indexer) for size, chunk, indexer in axes if not isinstance(indexer, slice)]
        arrays = np.broadcast_arrays(*(np.asarray(indexer) for _, _, indexer in points))
        lengths = tuple(_length(size, indexer) for size, _, indexer in axes if isinstance(indexer, slice))
        self.shape = (*arrays[0].shape, *lengths)
        self.flat_shape = (arrays[0].size, *lengths)
        flat = [
            np.where(array < 0, array + size, array).reshape(-1)
            for array, (size, _, _) in zip(arrays, points, strict=True)
        ]
        self._flat = flat
        self._slice_axes = {
            n: range(*i.indices(size)) for n, (size, _, i) in enumerate(axes) if self._is_slice[n]
        }
        self._inside = [array % chunk for array, (_, chunk, _) in zip(flat, points, strict=True)]
        numbers = [array // chunk for array, (_, chunk, _) in zip(flat, points, strict=True)]
        self._columns, member = np.unique(np.stack(numbers, axis=-1), axis=0, return_inverse=True)
        self._member = member.reshape(-1)

    @property
    def chunk_count(self) -> int:
        """How many chunks the selection touches."""
        return len(self._columns) * math.prod(len(axis) for axis in self._slices)

    def chunks(self) -> NDArray[np.int64]:
        """The coordinates of the chunks touched, of shape (n, ndim)."""
        found = [
            self._ordered(column, [number for number, _, _ in combination])
            for column in self._columns.tolist()
            for combination in itertools.product(*self._slices)
        ]
        return np.array(found, np.int64).reshape(len(found), len(self._is_slice))

    def positions_along(self, axis: int) -> NDArray[np.intp]:
        """The positions selected along `axis`, in order; none where the points lie along it."""
        return np.array(self._slice_axes.get(axis, ()), np.intp)

    def count_across(self, axis: int) -> int | None:
        """How many columns along `axis` the selection touches; None where the points lie along it."""
        if axis not in self._slice_axes:
            return None
        others = [len(positions) for number, positions in self._slice_axes.items() if number != axis]
        return self.flat_shape[0] * math.prod(others)

    def pixels_across(self, axis: int) -> NDArray[np.intp]:
        """The positions of these columns along the other axes, of shape (n, ndim - 1)."""
        others = [np.array(positions) for number, positions in self._slice_axes.items() if number != axis]
        grid = np.meshgrid(np.arange(self.flat_shape[0]), *others, indexing="ij")
        points, *slices = (part.reshape(-1) for part in grid)
        ordered = self._ordered([flat[points] for flat in self._flat], self._with(axis, slices))
        return np.stack([part for number, part in enumerate(ordered) if number != axis], axis=-1)

    def _with(self, axis: int, slices: list[Any]) -> list[Any]:
        """`slices` with a place for the one along `axis`."""
        place = list(self._slice_axes).index(axis)
        return [*slices[:place], None, *slices[place:]]

    def from_columns(self, columns: NDArray[Any], axis: int) -> NDArray[Any]:
        """Return a result of `flat_shape` from `columns`, one a pixel, already selected along `axis`."""
        others = [len(positions) for number, positions in self._slice_axes.items() if number != axis]
        place = list(self._slice_axes).index(axis)
        return np.moveaxis(columns.reshape(self.flat_shape[0], *others, -1), -1, place + 1)

    def parts(self) -> Iterator[ChunkPart]:
        """Yield one part for each chunk touched; `outside` indexes a result of `flat_shape`."""
        order = np.argsort(self._member, kind="stable")
        starts = np.searchsorted(self._member[order], np.arange(len(self._columns) + 1))
        for number, column in enumerate(self._columns.tolist()):
            points = order[starts[number] : starts[number + 1]]
            columns = [_along(axis[points], 0, len(self._slices) + 1) for axis in self._inside]
            for combination in itertools.product(*self._slices):
                ranges = [
                    (_along(_positions(inside), axis, len(self._slices) + 1), outside)
                    for axis, (_, inside, outside) in enumerate(combination, start=1)
                ]
                yield ChunkPart(
                    self._ordered(column, [chunk for chunk, _, _ in combination]),
                    self._ordered(columns, [inside for inside, _ in ranges]),
                    np.ix_(points, *[_positions(outside) for _, outside in ranges]),
                )

    def _ordered(self, points: Sequence[Any], slices: Sequence[Any]) -> tuple[Any, ...]:
        """Put what belongs to points and to slices back into the order of the dimensions."""
        of_points, of_slices = iter(points), iter(slices)
        return tuple(next(of_slices) if is_slice else next(of_points) for is_slice in self._is_slice)


def _along(positions: NDArray[Any], axis: int, ndim: int) -> NDArray[Any]:
    return positions.reshape([-1 if number == axis else 1 for number in range(ndim)])


def _selected(size: int, indexer: Indexer) -> NDArray[np.intp]:
    if isinstance(indexer, slice):
        return np.arange(*indexer.indices(size))
    positions = np.atleast_1d(np.asarray(indexer, np.intp))
    return np.where(positions < 0, positions + size, positions)


def _length(size: int, indexer: Indexer) -> int:
    if isinstance(indexer, slice):
        return len(range(*indexer.indices(size)))
    return 1 if isinstance(indexer, int | np.integer) else len(indexer)


def _split_axis(size: int, chunk: int, indexer: Indexer) -> list[tuple[int, Any, Any]]:
    """Split one indexer by chunk: (chunk number, index inside the chunk, index in the result)."""
    if isinstance(indexer, int | np.integer):
        position = int(indexer) + (size if indexer < 0 else 0)
        return [(position // chunk, slice(position % chunk, position % chunk + 1), slice(0, 1))]
    if isinstance(indexer, slice):
        return _split_slice(indexer.indices(size), chunk)
    positions = np.where(indexer < 0, indexer + size, indexer)
    numbers = positions // chunk
    return [
        (int(number), positions[where] % chunk, where)
        for number in np.unique(numbers)
        for where in [np.flatnonzero(numbers == number)]
    ]


def _split_slice(bounds: tuple[int, int, int], chunk: int) -> list[tuple[int, Any, Any]]:
    positions = range(*bounds)
    if not positions:
        return []
    if positions.step < 0:
        reverse = _split_slice((positions[-1], positions[0] + 1, -positions.step), chunk)
        last = len(positions) - 1
        return [
            (
                number,
                inside,
                slice(last - outside.start, last - outside.stop if last >= outside.stop else None, -1),
            )
            for number, inside, outside in reverse
        ]
    split = []
    done = 0
    while done < len(positions):
        first = positions[done]
        number = first // chunk
        stop = (number + 1) * chunk
        count = len(range(first, min(stop, positions.stop), positions.step))
        start = first - number * chunk
        inside = slice(start, start + (count - 1) * positions.step + 1, positions.step)
        split.append((number, inside, slice(done, done + count)))
        done += count
    return split


def _open_mesh(parts: list[Any]) -> tuple[Any, ...]:
    """Slices stay slices; once arrays take part, everything becomes arrays for `numpy.ix_`."""
    if all(isinstance(part, slice) for part in parts):
        return tuple(parts)
    return np.ix_(*[_positions(part) for part in parts])


def _positions(part: Any) -> NDArray[np.integer[Any]]:
    if not isinstance(part, slice):
        return np.asarray(part)
    step = part.step or 1
    if step < 0:
        return np.arange(part.start, -1 if part.stop is None else part.stop, step)
    return np.arange(part.start, part.stop, step)
