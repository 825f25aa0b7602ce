"""Waits for others, without counting the time in which this thread was busy itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Waiting:
    """How long somebody has been waited for, in seconds, since this was made.

    An event loop that has much else to do sees every answer late. That is not the other's lateness,
    and taking it for it would make a busy server ask upstream for what a cache has.
    """

    def __init__(self) -> None:
        self._clock, self._busy = time.monotonic(), time.thread_time()

    @property
    def seconds(self) -> float:
        """The time since then, less what this thread has worked."""
        return max(self.by_the_clock - (time.thread_time() - self._busy), 0.0)

    @property
    def by_the_clock(self) -> float:
        """The time since then."""
        return time.monotonic() - self._clock


async def within(seconds: float, work: Coroutine[Any, Any, T], *, longest: float = 1.0) -> T:
    """Return the result of `work`, which ends when it has been waited for `seconds`.

    By the clock that is `longest` seconds at most, however busy this thread is.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    waiting = Waiting()
    try:
        while (left := min(seconds - waiting.seconds, longest - waiting.by_the_clock)) > 0:
            done, _ = await asyncio.wait((task,), timeout=left)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
