"""Work in threads that a cancelled query waits for, since a thread holds its values until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], *, stop: Callable[[], None] = lambda: None) -> T:
    """Return what `work` does in a thread; when cancelled, call `stop` and wait until it has ended."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait([working])
        if not working.cancelled():
            # asked for, so that asyncio does not log it as lost
            working.exception()
        raise
