"""Writes to Redis in the background, within a budget of bytes and of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from cubegate.cache.redis_connection import BATCH, RedisConnection
from cubegate.cache.sealing import seal, seal_block

LARGEST_VALUE = 2**20
MOST_QUEUED = 64 * 2**20
_BATCH_NBYTES = 2 * 2**20
# Many values came with a query, whose answer goes out first; for a few, others may be waiting.
_MANY = 8
_DELAY = 0.05


class RedisWriter:
    """The queue of one event loop; what does not fit into it is not written.

    Values are sealed in a thread, and each batch is followed by a pause as long as it took.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._queue: dict[str, tuple[bytes, int | None]] = {}
        self._nbytes = 0
        self._work: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()

    def queue(self, values: Mapping[str, bytes], *, column_nbytes: int | None = None) -> None:
        """Queue `values`, with `column_nbytes` as blocks of such columns."""
        if not self._connection.writable:
            return
        for key, value in values.items():
            if len(value) > LARGEST_VALUE or self._nbytes + len(value) > MOST_QUEUED:
                continue
            replaced = self._queue.pop(key, None)
            self._nbytes += len(value) - (len(replaced[0]) if replaced else 0)
            self._queue[key] = (value, column_nbytes)
        if self._queue and (self._work is None or self._work.done()):
            self._work = asyncio.get_running_loop().create_task(self._write_all())

    async def flush(self) -> None:
        """Write all that is queued without pauses, and wait for it."""
        self._urgent.set()
        try:
            while self._work is not None and not self._work.done():
                await asyncio.wait([self._work])
        finally:
            self._urgent.clear()

    async def aclose(self) -> None:
        """Give up what is queued."""
        self._queue.clear()
        self._nbytes = 0
        if self._work is not None:
            self._work.cancel()

    async def _write_all(self) -> None:
        await self._rest(_DELAY if len(self._queue) > _MANY else 0)
        while self._queue:
            started = time.monotonic()
            batch = self._next_batch()
            if self._connection.writable:
                await self._connection.write(await asyncio.to_thread(_sealed, batch))
            await self._rest(time.monotonic() - started)

    def _next_batch(self) -> dict[str, tuple[bytes, int | None]]:
        batch: dict[str, tuple[bytes, int | None]] = {}
        nbytes = 0
        for key, (value, column_nbytes) in self._queue.items():
            if batch and (len(batch) == BATCH or nbytes + len(value) > _BATCH_NBYTES):
                break
            batch[key] = (value, column_nbytes)
            nbytes += len(value)
        for key in batch:
            del self._queue[key]
        self._nbytes -= nbytes
        return batch

    async def _rest(self, seconds: float) -> None:
        if self._urgent.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._urgent.wait()
        except TimeoutError:
            pass


def _sealed(batch: Mapping[str, tuple[bytes, int | None]]) -> dict[str, bytes]:
    return {
        key: seal(key, value) if column_nbytes is None else seal_block(key, value, column_nbytes)
        for key, (value, column_nbytes) in batch.items()
    }
