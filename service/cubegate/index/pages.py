"""The mapped body of an index file, checked page by page."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import CorruptIndex
from cubegate.index.table import Column, Numbers

PAGE = 2**16
ALIGNMENT = 64


def corrupt(path: Path, problem: str) -> CorruptIndex:
    """Return the error that says what is wrong with the index file at `path`."""
    return CorruptIndex(f"The index file {path.name} {problem}; build it again.")


class Pages:
    """The mapped body of an index file; checks each page when it is first touched."""

    def __init__(
        self, data: mmap.mmap, path: Path, *, body: int, nbytes: int, checksums: NDArray[np.uint32]
    ) -> None:
        self._data, self._path = data, path
        self._body, self._nbytes, self._checksums = body, nbytes, checksums
        self._checked = np.zeros(len(checksums), dtype=bool)

    def column(self, part: Any, dtype: np.dtype[Any]) -> Column:
        """Return the part of the body at `part`, an offset in bytes and a number of items."""
        offset, count = (int(number) for number in part)
        if (
            offset < 0
            or count < 0
            or offset % ALIGNMENT
            or self._body + offset + count * dtype.itemsize > self._nbytes
        ):
            raise corrupt(self._path, "names a part outside of itself")
        if not count:
            return Column(np.empty(0, dtype=dtype))
        values = np.frombuffer(self._data, dtype=dtype, count=count, offset=self._body + offset)
        return _MappedColumn(values, self, offset)

    def check(self, pages: Numbers) -> None:
        """Check those of `pages` that were not checked before.

        Raises:
            CorruptIndex: a page does not match its checksum, or the file has been cut.
        """
        # reading a mapping beyond the end of its file would end the process
        if self._data.size() < self._nbytes:
            raise corrupt(self._path, "has been cut since it was opened")
        if self._checked[pages].all():
            return
        for page in np.unique(pages[~self._checked[pages]]).tolist():
            start = self._body + page * PAGE
            with memoryview(self._data) as view:
                matches = zlib.crc32(view[start : min(start + PAGE, self._nbytes)]) == self._checksums[page]
            if not matches:
                raise corrupt(self._path, f"is damaged at byte {start:,}")
            self._checked[page] = True

    def check_one(self, page: int) -> None:
        """Check one page; see `check`."""
        if not self._checked[page] or self._data.size() < self._nbytes:
            self.check(np.array([page]))


class _MappedColumn(Column):
    """A column in the mapped body of an index file; every access is checked."""

    def __init__(self, values: NDArray[Any], pages: Pages, offset: int) -> None:
        super().__init__(values)
        self._pages, self._offset, self._itemsize = pages, offset, values.itemsize

    def take(self, rows: Numbers) -> NDArray[Any]:
        self._pages.check((self._offset + rows * self._itemsize) // PAGE)
        return super().take(rows)

    def item(self, row: int) -> int:
        self._pages.check_one((self._offset + row * self._itemsize) // PAGE)
        return super().item(row)

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        first = (self._offset + start * self._itemsize) // PAGE
        last = (self._offset + min(stop, len(self)) * self._itemsize - 1) // PAGE
        self._pages.check(np.arange(first, last + 1))
        return super().slice(start, stop)

    def all(self) -> NDArray[Any]:
        return self.slice(0, len(self))
