"""Answers built on disk before they are sent, kept for a while so that ranges of them can follow."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from cubegate.errors import BudgetExceeded


class Spool:
    """Recent answers as files, bounded in bytes; the oldest go first.

    GDAL and browsers ask for an answer's size and then for ranges of it: those are served from
    the file instead of being computed again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._directory = tempfile.TemporaryDirectory(prefix="cubegate-spool-")
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._lock = threading.Lock()
        self._count = 0

    def find(self, key: str, *, max_age: float | None = None) -> Path | None:
        """Return the file of an earlier answer, if it is still held and not over `max_age` seconds old."""
        with self._lock:
            file = self._files.get(key)
            if file is None or (max_age is not None and time.time() - file.stat().st_mtime > max_age):
                return None
            self._files.move_to_end(key)
            return file

    async def write(self, key: str, pieces: Iterator[bytes]) -> Path:
        """Write an answer to its file, in a thread.

        Raises:
            BudgetExceeded: it is larger than the whole spool.
        """
        return await asyncio.to_thread(self._write, key, pieces)

    def _write(self, key: str, pieces: Iterator[bytes]) -> Path:
        with self._lock:
            self._count += 1
            file = Path(self._directory.name) / f"{self._count}"
        written = 0
        with file.open("wb") as sink:
            for piece in pieces:
                written += len(piece)
                if written > self._max_bytes:
                    sink.close()
                    file.unlink()
                    raise BudgetExceeded({"bytes": written}, {"bytes": self._max_bytes}, "Ask for a smaller part.")
                sink.write(piece)
        with self._lock:
            replaced = self._files.pop(key, None)
            self._files[key] = file
            self._evict()
        if replaced is not None:
            replaced.unlink()
        return file

    def _evict(self) -> None:
        total = sum(file.stat().st_size for file in self._files.values())
        while total > self._max_bytes:
            _, oldest = self._files.popitem(last=False)
            total -= oldest.stat().st_size
            oldest.unlink()

    def close(self) -> None:
        """Delete all files."""
        self._directory.cleanup()
