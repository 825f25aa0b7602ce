"""Decodes chunks in threads while others are still on their way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from cubegate.errors import UpstreamError

Part = TypeVar("Part")


class Decoding(Generic[Part]):
    """Calls `work(part, data)` in threads for each of `count` chunks, as they come.

    As many threads take part as there are processors; each goes on until nothing is left to do,
    since handing over every chunk on its own would cost as much as decoding it. It belongs to
    one event loop.
    """

    def __init__(self, count: int, work: Callable[[Part, bytes | None], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._queue: deque[tuple[Part, bytes | None]] = deque()
        self._lock = threading.Lock()
        self._left = count
        self._threads = 0
        self._called = False
        if not count:
            self._finished.set_result(None)

    def add(self, part: Part, data: bytes | None) -> None:
        """Queue one chunk; None stands for an unallocated one.

        Raises:
            UpstreamError: an earlier chunk could not be decoded.
        """
        if self._finished.done():
            error = None if self._finished.cancelled() else self._finished.exception()
            if isinstance(error, UpstreamError):
                raise error
            return
        self._queue.append((part, data))
        if not self._called:
            # chunks that come in one turn of the loop wake the threads once
            self._called = True
            self._loop.call_soon(self._call_threads)

    async def finish(self) -> None:
        """Wait until all chunks are decoded.

        Raises:
            UpstreamError: one of them could not be.
        """
        await self._finished

    def stop(self) -> None:
        """Let the threads do no more than what they are at."""
        self._queue.clear()
        if not self._finished.cancel() and not self._finished.cancelled():
            # the read may have ended by an error of its own, and nobody asks for this one
            self._finished.exception()

    def _call_threads(self) -> None:
        self._called = False
        with self._lock:
            # those at work may be so for long
            missing = max(min(len(self._queue), processors() - self._threads), 0)
            self._threads += missing
        for _ in range(missing):
            self._loop.run_in_executor(None, self._run).add_done_callback(self._thread_ended)

    def _run(self) -> None:
        done = 0
        while (item := self._next(done)) is not None:
            try:
                self._work(*item)
            except BaseException:
                with self._lock:
                    self._threads -= 1
                raise
            done = 1

    def _next(self, done: int) -> tuple[Part, bytes | None] | None:
        """Count what is `done`; return what to do next, None where there is nothing."""
        with self._lock:
            self._left -= done
            if self._queue:
                return self._queue.popleft()
            self._threads -= 1
            last = done and not self._left
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)
        return None

    def _thread_ended(self, running: asyncio.Future[None]) -> None:
        error = None if running.cancelled() else running.exception()
        if error is None:
            return
        self._queue.clear()
        if not self._finished.done():
            self._finished.set_exception(error)

    def _end(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
