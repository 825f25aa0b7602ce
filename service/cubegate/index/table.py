"""The chunk table: for each chunk of an array the granule, offset and length of its bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import CorruptIndex
from cubegate.index.metadata import ArrayMetadata

UNALLOCATED = 0xFFFFFFFF
INLINED = 0xFFFFFFFE
WHOLE_OBJECT = 0xFFFFFFFF
MAX_GRANULES = INLINED
MAX_CHUNKS = 2**26
_MAX_DECODED = 2**16

GRANULE_TYPE, OFFSET_TYPE, LENGTH_TYPE = np.dtype("<u4"), np.dtype("<u8"), np.dtype("<u4")
CRC32_TYPE = np.dtype("<u4")

_TIME_NAMES = frozenset(
    {
        "time", "t", "date", "dates", "datetime", "mid_date", "valid_time", "forecast_time",
        "reference_time", "secondary_time", "secondary_datetime", "epoch", "day", "month", "year",
    }
)  # fmt: skip

Numbers = NDArray[np.int64]


class Column:
    """A flat array of numbers in memory; subclasses may check what they hand out."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def take(self, rows: Numbers) -> NDArray[Any]:
        """Return the values of `rows`, all of which exist."""
        taken: NDArray[Any] = self._values[rows]
        return taken

    def item(self, row: int) -> int:
        """Return the value of one row, which exists."""
        return int(self._values.item(row))

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        """Return the values from `start` up to `stop`; a view, to be read only."""
        return self._values[start:stop]

    def all(self) -> NDArray[Any]:
        """Return every value; a view, to be read only."""
        return self._values[:]


class Rows(NamedTuple):
    """Some chunks' entries, one array element each; `crc32` is None where no checksums were taken."""

    granule: NDArray[np.uint32]
    offset: NDArray[np.uint64]
    length: NDArray[np.uint32]
    crc32: NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class ChunkTable:
    """The entries of all chunks of one array.

    Entries follow the C order of the chunk grid with `pencil_axis` moved last, so that the
    chunks of one time pencil are adjacent. `granule` is a position in the index's URLs, or
    UNALLOCATED, or INLINED (then offset and length, in bytes, are into the inline data);
    a `length` of WHOLE_OBJECT asks for all of the granule. `crc32` holds the checksum of each
    stored chunk's bytes, where they were taken, and 0 for the others.
    """

    grid: tuple[int, ...]
    pencil_axis: int
    granule: Column
    offset: Column
    length: Column
    crc32: Column | None = None

    def __post_init__(self) -> None:
        count = math.prod(self.grid)
        if any(len(column) != count for column in self.columns):
            raise CorruptIndex(f"The index does not hold the {count} chunks of the chunk grid.")
        if not 0 <= self.pencil_axis < max(len(self.grid), 1):
            raise CorruptIndex("The index names an axis that the chunk grid does not have.")

    @property
    def columns(self) -> list[Column]:
        """Granule, offset, length, and the checksums where there are any."""
        return [self.granule, self.offset, self.length, *([] if self.crc32 is None else [self.crc32])]

    def look_up(self, chunks: Numbers) -> Rows:
        """Return the entries of `chunks`, chunk grid coordinates of shape (n, ndim).

        Raises:
            IndexError: coordinates of another dimensionality, or outside the grid.
            CorruptIndex: the part of the index that would tell is damaged.
        """
        if chunks.ndim != 2 or chunks.shape[1] != len(self.grid):
            raise IndexError(f"chunk coordinates of shape {chunks.shape} for a chunk grid {self.grid}")
        if (chunks < 0).any() or (chunks >= np.array(self.grid, dtype=np.int64)).any():
            raise IndexError(f"chunk coordinates outside the chunk grid {self.grid}")
        rows = chunks @ _strides(self.grid, self.pencil_axis)
        return Rows(*(column.take(rows) for column in self.columns))

    def look_up_one(self, chunk: Sequence[int]) -> tuple[int, int, int, int | None]:
        """Return granule, offset, length and checksum of one chunk, for a fraction of what `look_up` costs.

        Raises:
            IndexError, CorruptIndex: as `look_up` does.
        """
        if len(chunk) != len(self.grid):
            raise IndexError(f"chunk coordinates {tuple(chunk)} for a chunk grid {self.grid}")
        row = 0
        for number, size, stride in zip(chunk, self.grid, self._steps, strict=True):
            if not 0 <= number < size:
                raise IndexError(f"chunk coordinates outside the chunk grid {self.grid}")
            row += number * stride
        crc32 = None if self.crc32 is None else self.crc32.item(row)
        return self.granule.item(row), self.offset.item(row), self.length.item(row), crc32

    @cached_property
    def _steps(self) -> list[int]:
        return [int(step) for step in _strides(self.grid, self.pencil_axis)]

    def chunks_of(self, rows: Numbers) -> Numbers:
        """Return the chunk grid coordinates, of shape (n, ndim), of entries in table order."""
        strides = _strides(self.grid, self.pencil_axis)
        return rows[:, np.newaxis] // strides % np.array(self.grid, dtype=np.int64)

    def in_c_order(self) -> Rows:
        """Return all entries, in the C order of the chunk grid."""
        axes = _storage_axes(len(self.grid), self.pencil_axis)
        shape = [self.grid[axis] for axis in axes]
        back = np.argsort(axes)
        return Rows(*(column.all().reshape(shape).transpose(back).reshape(-1) for column in self.columns))

    def all(self) -> Rows:
        """Return all entries, in table order."""
        return Rows(*(column.all() for column in self.columns))


def _strides(grid: tuple[int, ...], pencil_axis: int) -> Numbers:
    strides = np.ones(len(grid), dtype=np.int64)
    step = 1
    for axis in reversed(_storage_axes(len(grid), pencil_axis)):
        strides[axis] = step
        step *= grid[axis]
    return strides


def _storage_axes(ndim: int, pencil_axis: int) -> list[int]:
    return [axis for axis in range(ndim) if axis != pencil_axis] + [pencil_axis] * (ndim > 0)


def find_pencil_axis(array: ArrayMetadata) -> int:
    """Return the axis of the first dimension that is named like time, else 0."""
    for axis, name in enumerate(array.dimension_names or ()):
        if name.lower() in _TIME_NAMES:
            return axis
    return 0


def table_in_c_order(array: ArrayMetadata, rows: Rows) -> ChunkTable:
    """Build the table of `array` from entries in the C order of its chunk grid."""
    grid, pencil_axis = array.chunk_grid, find_pencil_axis(array)
    axes = _storage_axes(len(grid), pencil_axis)

    def reorder(values: NDArray[Any], dtype: np.dtype[Any]) -> Column:
        return Column(np.ascontiguousarray(values.reshape(grid).transpose(axes), dtype=dtype).reshape(-1))

    return ChunkTable(
        grid,
        pencil_axis,
        reorder(rows.granule, GRANULE_TYPE),
        reorder(rows.offset, OFFSET_TYPE),
        reorder(rows.length, LENGTH_TYPE),
    )


class TextTable(Sequence[str]):
    """One text for each granule, decoded when asked for.

    `ends` holds where each one ends in `text`, which is all of them in UTF-8.
    """

    def __init__(self, ends: Column, text: Column) -> None:
        self.ends, self.text = ends, text
        self._decoded: dict[int, str] = {}

    @classmethod
    def of(cls, texts: Iterable[str]) -> TextTable:
        """Hold `texts` in memory."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=OFFSET_TYPE)
        return cls(Column(ends), Column(np.frombuffer(b"".join(encoded), dtype=np.uint8)))

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        text = self.text.all().tobytes()
        start = 0
        for end in self.ends.all().tolist():
            yield _decoded(text[start:end])
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        known = self._decoded.get(index) if isinstance(index, int) else None
        if known is not None:
            return known
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return self.take(np.array(numbers, dtype=np.int64))
        return self.take(np.array([numbers]))[0]

    def empty(self) -> Numbers:
        """Return the numbers of the granules whose text is empty."""
        ends = self.ends.all()
        return np.flatnonzero(ends == np.insert(ends, 0, 0)[:-1])

    def take(self, numbers: Numbers) -> list[str]:
        """Return the texts of the granules `numbers`, all of which exist."""
        wanted = numbers.tolist()
        decoded = self._decoded
        unknown = [number for number in wanted if number not in decoded]
        if len(decoded) + len(unknown) > _MAX_DECODED:
            # other threads go on with the one that they hold
            decoded, unknown = {}, wanted
            self._decoded = decoded
        if unknown:
            decoded.update(self._decode(np.array(unknown, dtype=np.int64)))
        return [decoded[number] for number in wanted]

    def _decode(self, numbers: Numbers) -> dict[int, str]:
        starts = np.where(numbers > 0, self.ends.take(np.maximum(numbers - 1, 0)), 0).tolist()
        ends = self.ends.take(numbers).tolist()
        return {
            number: _decoded(self.text.slice(start, end).tobytes())
            for number, start, end in zip(numbers.tolist(), starts, ends, strict=True)
        }


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise CorruptIndex("The index holds a name that is not UTF-8.") from None
