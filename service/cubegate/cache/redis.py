"""A chunk cache in Redis, which may be slow, full, dead or wrong without an answer being so."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cubegate.cache.batching import Batching
from cubegate.cache.per_loop import PerLoop
from cubegate.errors import ConfigurationError

_MAGIC = b"cg1"
_HEADER = len(_MAGIC) + 4 + 8
_BATCH = 42
_BATCH_NBYTES = 4 * 2**20
_LARGEST_VALUE = 2**20
_MOST_WAITING = 64 * 2**20
_TIMEOUT = 0.1
_PAUSE = 5.0
_FAILURES = (RedisError, OSError, TimeoutError)


class RedisCache:
    """Holds values of up to 1 MiB in the Redis at `url`, which is neither needed nor trusted.

    Every value carries a checksum of its key and content, so that a damaged or misplaced one is
    a miss. It has `timeout` seconds for each answer, and is left alone for `pause` seconds after a
    failure.

    Raises:
        ConfigurationError: `url` is not one of a Redis.
    """

    def __init__(self, url: str, *, timeout: float = _TIMEOUT, pause: float = _PAUSE) -> None:
        try:
            parse_url(url)
        except ValueError:
            raise ConfigurationError(
                "is not a Redis URL", key="cache.redis", mend="Write redis://host:6379/0."
            ) from None
        self._connections = PerLoop(lambda: _Connection(url, timeout, pause), _close)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the entries that are held and whole; see `ChunkCache`."""
        return await (await self._connections.get()).get_many(keys)

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the entries, as far as there is room; see `ChunkCache`."""
        await (await self._connections.get()).put_many(entries)

    async def aclose(self) -> None:
        """Close the connections of all event loops."""
        await self._connections.aclose()


class _Connection:
    """The Redis as one event loop sees it: one read and one write at a time, of many keys each."""

    def __init__(self, url: str, timeout: float, pause: float) -> None:
        self._timeout = timeout
        self._pause = pause
        self._reads_resume = self._writes_resume = 0.0
        self._reading, self._writing = asyncio.Lock(), asyncio.Lock()
        self._reads = Batching(self._read)
        self._writes = Batching(self._write)
        self._waiting_nbytes = 0
        self.client = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        if not keys or time.monotonic() < self._reads_resume:
            return {}
        found = await self._reads.join(dict.fromkeys(keys))
        return {key: found[key] for key in keys if key in found}

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        fitting = {key: value for key, value in entries.items() if len(value) <= _LARGEST_VALUE}
        nbytes = sum(map(len, fitting.values()))
        if not fitting or time.monotonic() < self._writes_resume:
            return
        if self._waiting_nbytes + nbytes > _MOST_WAITING:
            return
        self._waiting_nbytes += nbytes
        try:
            await self._writes.join(fitting)
        finally:
            self._waiting_nbytes -= nbytes

    async def _read(self, wanted: Mapping[str, None]) -> dict[str, bytes]:
        keys, found = list(wanted), dict[str, bytes]()
        async with self._reading:
            for start in range(0, len(keys), _BATCH):
                if time.monotonic() < self._reads_resume:
                    break
                batch = keys[start : start + _BATCH]
                try:
                    async with asyncio.timeout(2 * self._timeout):
                        stored = await self.client.mget(batch)
                except _FAILURES:
                    self._reads_resume = self._writes_resume = time.monotonic() + self._pause
                    break
                opened = {key: _opened(key, value) for key, value in zip(batch, stored, strict=True)}
                found |= {key: value for key, value in opened.items() if value is not None}
        return found

    async def _write(self, entries: Mapping[str, bytes]) -> None:
        async with self._writing:
            for batch in _batches(entries):
                if time.monotonic() < self._writes_resume:
                    return
                try:
                    async with asyncio.timeout(2 * self._timeout):
                        await self.client.mset(batch)
                except ResponseError:
                    # A full Redis still answers reads.
                    self._writes_resume = time.monotonic() + self._pause
                except _FAILURES:
                    self._reads_resume = self._writes_resume = time.monotonic() + self._pause


async def _close(connection: _Connection) -> None:
    # The sockets of a closed loop went with it.
    with suppress(RuntimeError):
        await connection.client.aclose()


def _batches(entries: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    nbytes = 0
    for key, value in entries.items():
        if len(batch) == _BATCH or nbytes + len(value) > _BATCH_NBYTES:
            yield batch
            batch, nbytes = {}, 0
        batch[key] = _sealed(key, value)
        nbytes += len(value)
    yield batch


def _sealed(key: str, value: bytes) -> bytes:
    checksum = zlib.crc32(value, zlib.crc32(key.encode()))
    return _MAGIC + checksum.to_bytes(4, "big") + len(value).to_bytes(8, "big") + value


def _opened(key: str, stored: object) -> bytes | None:
    if not isinstance(stored, bytes) or len(stored) < _HEADER:
        return None
    value = stored[_HEADER:]
    return value if stored == _sealed(key, value) else None
