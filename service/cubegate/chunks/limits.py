"""Bounds the reads in flight to one host."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cubegate.cache.per_loop import PerLoop


class HostLimits:
    """At most `limit` reads at a time to each host, counted in each event loop on its own."""

    def __init__(self, limit: int) -> None:
        self._semaphores = PerLoop(
            lambda: defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(limit)), _close
        )

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Wait for a free slot of `host`, and hold it."""
        semaphores = await self._semaphores.get()
        async with semaphores[host]:
            yield


async def _close(_: object) -> None:
    """A semaphore holds nothing that needs to be released."""
