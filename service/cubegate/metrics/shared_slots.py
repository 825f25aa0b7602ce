"""Slots in mapped files, so that any worker can tell what all of them have counted."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cubegate.metrics.slots import Numbers, Reading, SeriesKey

_NUMBER = 8
_BLOCK = mmap.ALLOCATIONGRANULARITY // _NUMBER


class SharedSlots:
    """Slots in `directory`, which the workers of one server share and nobody else.

    Each worker has two files: its numbers, and a line for each series that says where they are. It
    holds a lock on the first for as long as it lives, however it ends.

    Raises:
        OSError: the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        name = directory / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._names = os.open(
            name.with_suffix(".names"), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600
        )
        self._values = os.open(name.with_suffix(".values"), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._values, fcntl.LOCK_EX)
        self._series: dict[SeriesKey, Numbers] = {}
        self._lock = threading.Lock()
        self._block: Numbers
        self._used = self._capacity = 0
        self._closed = False

    def allot(self, key: SeriesKey, width: int) -> Numbers:
        """Return the numbers of a series; see `Slots`."""
        with self._lock:
            numbers = self._series.get(key)
            if numbers is None:
                numbers = self._series[key] = self._place(key, width)
            return numbers

    def _place(self, key: SeriesKey, width: int) -> Numbers:
        if self._closed:
            return memoryview(bytearray(_NUMBER * width)).cast("d")
        if self._used + width > self._capacity:
            start, self._capacity = self._capacity, self._capacity + _BLOCK
            os.ftruncate(self._values, self._capacity * _NUMBER)
            mapped = mmap.mmap(self._values, _BLOCK * _NUMBER, offset=start * _NUMBER)
            self._block, self._used = memoryview(mapped).cast("d"), start
        first = self._used
        self._used += width
        line = json.dumps([first, width, key.family, *key.labels])
        # a reader takes whole lines only
        os.write(self._names, f"{line}\n".encode())
        offset = first - (self._capacity - _BLOCK)
        return self._block[offset : offset + width]

    def readings(self) -> Iterator[Reading]:
        """Yield what each worker has counted, those that have ended too."""
        for names in sorted(self._directory.glob("*.names")):
            values = names.with_suffix(".values")
            # a worker that is just starting has not both files yet
            with suppress(FileNotFoundError):
                yield _read(names, values)

    def close(self) -> None:
        """Give up the lock; see `Slots`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            # the mappings hold the file open
            fcntl.flock(self._values, fcntl.LOCK_UN)
            os.close(self._values)
            os.close(self._names)


def _read(names: Path, values: Path) -> Reading:
    lines = names.read_bytes().split(b"\n")[:-1]
    alive = _locked(values)
    numbers = memoryview(values.read_bytes()).cast("d")
    series = {}
    for first, width, family, *labels in map(json.loads, lines):
        series[SeriesKey(family, tuple(labels))] = tuple(numbers[first : first + width])
    return Reading(alive, series)


def _locked(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
