"""One value for each running event loop, since network clients belong to the loop that made them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_CLOSING = 1.0


async def _let_go(_: object) -> None:
    """Locks and what is in memory alone need no releasing."""


class PerLoop(Generic[T]):
    """Makes a value by `make` at its first use in each event loop, and releases it by `close`.

    `close` runs in the value's own loop, or in another one where that loop is closed.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]] = _let_go) -> None:
        self._make, self._close = make, close
        self._values: dict[asyncio.AbstractEventLoop, T] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value of the running loop."""
        loop = asyncio.get_running_loop()
        value = self._values.get(loop)
        if value is None:
            value = self._make()
            with self._lock:
                self._values[loop] = value
                closed = [self._values.pop(known) for known in list(self._values) if known.is_closed()]
            for old in closed:
                closing = loop.create_task(_await(self._close(old)))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        return value

    def values(self) -> list[T]:
        """The values of all loops."""
        return list(self._values.values())

    async def aclose(self) -> None:
        """Release the values of all loops."""
        with self._lock:
            values, self._values = self._values, {}
        for loop, value in values.items():
            if loop is not asyncio.get_running_loop() and loop.is_running():
                await self._close_elsewhere(loop, value)
            else:
                await self._close(value)

    async def _close_elsewhere(self, loop: asyncio.AbstractEventLoop, value: T) -> None:
        async def close() -> None:
            await self._close(value)

        # A loop may stop between the question and the call: it must not be waited for.
        closing = asyncio.run_coroutine_threadsafe(close(), loop)
        await asyncio.wait([asyncio.wrap_future(closing)], timeout=_CLOSING)


async def _await(work: Awaitable[None]) -> None:
    await work
