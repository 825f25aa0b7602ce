"""One value for each running event loop, since network clients belong to the loop that made them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_CLOSING = 1.0


class PerLoop(Generic[T]):
    """Makes a value by `make` at its first use in each event loop.

    `close` releases a value inside its own loop, `abandon` one whose loop is already closed.
    """

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]], abandon: Callable[[T], None]
    ) -> None:
        self._make, self._close, self._abandon = make, close, abandon
        self._values: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value of the running loop."""
        loop = asyncio.get_running_loop()
        value = self._values.get(loop)
        if value is None:
            with self._lock:
                for closed in [known for known in self._values if known.is_closed()]:
                    self._abandon(self._values.pop(closed))
                value = self._values[loop] = self._make()
        return value

    async def aclose(self) -> None:
        """Release the values of all loops."""
        with self._lock:
            values, self._values = self._values, {}
        for loop, value in values.items():
            if loop is asyncio.get_running_loop():
                await self._close(value)
            elif loop.is_running():
                await self._close_elsewhere(loop, value)
            else:
                self._abandon(value)

    async def _close_elsewhere(self, loop: asyncio.AbstractEventLoop, value: T) -> None:
        async def close() -> None:
            await self._close(value)

        # A loop may stop between the question and the call: it must not be waited for.
        closing = asyncio.run_coroutine_threadsafe(close(), loop)
        await asyncio.wait([asyncio.wrap_future(closing)], timeout=_CLOSING)
