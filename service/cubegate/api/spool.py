"""Answers built on disk before they are sent, kept for a while so that ranges of them can follow."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path

from cubegate.api.spool_directory import SpoolDirectory
from cubegate.errors import BudgetExceeded
from cubegate.formats.spool import SpooledDocument
from cubegate.query.in_thread import in_thread

Build = Callable[[], Awaitable[Iterator[bytes]]]
Within = Callable[[], AbstractAsyncContextManager[object]]


class _Stopped(Exception):
    """Nobody waits any more for what is being written."""


class SpooledFile:
    """A finished answer on disk; the file is deleted when nothing refers to this any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = path.stat().st_size
        self.written = time.monotonic()
        weakref.finalize(self, path.unlink, missing_ok=True)


class Spool:
    """Recent answers as files, bounded in bytes; the oldest go first.

    GDAL and browsers ask for an answer's size and then for ranges of it: those are served from
    the file instead of being computed again. A file that is still being sent outlives its place
    here.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._directory = SpoolDirectory()
        self._files: OrderedDict[str, SpooledFile] = OrderedDict()
        self._building: dict[str, asyncio.Task[SpooledFile]] = {}
        self._waiting: Counter[asyncio.Task[SpooledFile]] = Counter()
        self._lock = threading.Lock()
        self._count = 0

    def find(self, key: str, *, max_age: float | None = None) -> SpooledFile | None:
        """Return the file of an earlier answer, if it is still held and not over `max_age` seconds old."""
        with self._lock:
            file = self._files.get(key)
            if file is None or (max_age is not None and time.monotonic() - file.written > max_age):
                return None
            self._files.move_to_end(key)
            return file

    async def find_or_build(
        self, key: str, build: Build, *, max_age: float | None = None, within: Within = nullcontext
    ) -> SpooledFile:
        """Return the file of an earlier answer, or of the one that `build` gives in pieces.

        Those who ask for one key at the same time share one building, which ends when the last of
        them leaves; a failed one is not remembered. What `within` gives is held from its start until
        the last thread of it has ended.

        Raises:
            BudgetExceeded: the answer is larger than the whole spool.
        """
        file = self.find(key, max_age=max_age)
        if file is not None:
            return file
        task = self._building.get(key)
        if task is None:
            task = asyncio.ensure_future(self._build(key, build, within))
            self._building[key] = task
            task.add_done_callback(partial(self._end_building, key))
        self._waiting[task] += 1
        try:
            # a client that leaves must not stop the building that others wait for
            return await asyncio.shield(task)
        finally:
            self._waiting[task] -= 1
            if not self._waiting[task]:
                del self._waiting[task]
                self._end_building(key, task)
                task.cancel()

    def _end_building(self, key: str, task: asyncio.Task[SpooledFile]) -> None:
        if self._building.get(key) is task:
            del self._building[key]

    async def _build(self, key: str, build: Build, within: Within) -> SpooledFile:
        stopped = threading.Event()
        async with within():
            file = await in_thread(partial(self._write, await build(), stopped), stop=stopped.set)
        with self._lock:
            self._files[key] = file
            self._files.move_to_end(key)
            total = sum(held.nbytes for held in self._files.values())
            while total > self._max_bytes:
                _, oldest = self._files.popitem(last=False)
                total -= oldest.nbytes
        return file

    def _write(self, pieces: Iterator[bytes], stopped: threading.Event) -> SpooledFile:
        with self._lock:
            self._count += 1
            path = self._directory.path / f"{self._count}"
        try:
            if isinstance(pieces, SpooledDocument):
                # it is on disk already
                pieces.save(path)
                self._check(path.stat().st_size)
            else:
                with path.open("wb") as sink:
                    for piece in self._bounded(pieces, stopped):
                        sink.write(piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return SpooledFile(path)

    def _bounded(self, pieces: Iterator[bytes], stopped: threading.Event) -> Iterator[bytes]:
        written = 0
        for piece in pieces:
            if stopped.is_set():
                raise _Stopped
            written += len(piece)
            self._check(written)
            yield piece

    def _check(self, nbytes: int) -> None:
        if nbytes > self._max_bytes:
            raise BudgetExceeded({"bytes": nbytes}, {"bytes": self._max_bytes}, "Ask for a smaller part.")

    def close(self) -> None:
        """Delete all files."""
        self._files.clear()
        self._directory.close()
