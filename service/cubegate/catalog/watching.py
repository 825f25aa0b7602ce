"""Notices changes of files: looks at their stamps, off the event loop and no more often than need be."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple


class Stamp(NamedTuple):
    """What changes with a file; nothing but zeros where there is none."""

    modified: int = 0
    nbytes: int = 0
    inode: int = 0


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a file or folder."""
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib takes twice as long
    except OSError:
        return Stamp()
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


class Watch:
    """Calls `look` in a thread of its own, never twice at once, whichever event loops ask for it.

    `look` is to remember what it finds. Intervals are in seconds.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._began = -float("inf")
        self._running: Future[None] | None = None
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="cubegate-watch")

    def is_fresh(self, interval: float) -> bool:
        """Whether the last look began less than `interval` ago."""
        return time.monotonic() - self._began < interval

    async def refresh(self, interval: float) -> None:
        """See to it that a look began not much longer than `interval` ago.

        Waits for one only where the last is older than two intervals: while requests keep coming,
        none of them waits for files.
        """
        if not self.is_fresh(interval):
            running = self._start(interval)
            if not self.is_fresh(2 * interval):
                # whoever stops waiting must not stop the look that others wait for
                await asyncio.shield(asyncio.wrap_future(running))

    def refresh_now(self, interval: float) -> None:
        """Do as `refresh` does; blocks."""
        if not self.is_fresh(interval):
            running = self._start(interval)
            if not self.is_fresh(2 * interval):
                running.result()

    def _start(self, interval: float) -> Future[None]:
        with self._lock:
            # one that has just ended will do
            if self._running is None or (self._running.done() and not self.is_fresh(interval)):
                self._running = self._executor.submit(self._run)
            return self._running

    def _run(self) -> None:
        began = time.monotonic()
        self._look()
        self._began = began
