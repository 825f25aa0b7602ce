"""Where numbers are kept while they are counted: the seam, and the memory of a process that is alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias

Numbers: TypeAlias = "memoryview[float]"
"""Numbers (float64) that are counted in place, as in `numbers[0] += 1.0`.

Between reading and writing such a number the interpreter runs no other thread, since nothing is called.
"""


class SeriesKey(NamedTuple):
    """A metric family by name, and one value for each of its labels."""

    family: str
    labels: tuple[str, ...]


class Reading(NamedTuple):
    """The numbers of one process, which may have ended."""

    alive: bool
    series: Mapping[SeriesKey, tuple[float, ...]]


class Slots(Protocol):
    """Keeps numbers by series, so that counting costs no more than a write to memory."""

    def allot(self, key: SeriesKey, width: int) -> Numbers:
        """Return the `width` numbers of a series, zeros at first and the same ones each time."""
        ...

    def readings(self) -> Iterator[Reading]:
        """Yield what each process has counted until now."""
        ...

    def close(self) -> None:
        """Say that this process has ended; its counts stay."""
        ...


class ProcessSlots:
    """Slots in memory, of a process that serves alone."""

    def __init__(self) -> None:
        self._series: dict[SeriesKey, Numbers] = {}
        self._lock = threading.Lock()

    def allot(self, key: SeriesKey, width: int) -> Numbers:
        """Return the numbers of a series; see `Slots`."""
        with self._lock:
            if key not in self._series:
                self._series[key] = memoryview(bytearray(8 * width)).cast("d")
            return self._series[key]

    def readings(self) -> Iterator[Reading]:
        """Yield the one reading of this process."""
        with self._lock:
            yield Reading(True, {key: tuple(numbers) for key, numbers in self._series.items()})

    def close(self) -> None:
        """There is nobody to tell."""
