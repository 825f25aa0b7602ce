"""A chunk cache in Redis, which may be slow, full, dead or wrong without an answer being so."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cubegate.cache.per_loop import PerLoop
from cubegate.errors import ConfigurationError

_MAGIC = b"cg1"
_HEADER = len(_MAGIC) + 4 + 8
_BATCH = 42
_LARGEST_VALUE = 2**20
_SOCKET_TIMEOUT = 0.1
_DEADLINE = 0.25
_PAUSE = 5.0
_CONNECTIONS = 8
_FAILURES = (RedisError, OSError, TimeoutError)


class RedisCache:
    """Holds values of up to 1 MiB in the Redis at `url`, which is neither needed nor trusted.

    Every value carries a checksum of its key and content, so that a damaged or misplaced one is
    a miss. After a failure Redis is left alone for `pause` seconds.

    Raises:
        ConfigurationError: `url` is not one of a Redis.
    """

    def __init__(self, url: str, *, pause: float = _PAUSE) -> None:
        try:
            parse_url(url)
        except ValueError:
            raise ConfigurationError(
                "is not a Redis URL", key="cache.redis", mend="Write redis://host:6379/0."
            ) from None
        self._url = url
        self._pause = pause
        self._reads_resume = self._writes_resume = 0.0
        self._clients = PerLoop(self._open, _close, _abandon)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the entries that are held and whole; see `ChunkCache`."""
        found: dict[str, bytes] = {}
        if not keys or time.monotonic() < self._reads_resume:
            return found
        client = self._clients.get()
        try:
            async with asyncio.timeout(_DEADLINE):
                for start in range(0, len(keys), _BATCH):
                    batch = keys[start : start + _BATCH]
                    for key, stored in zip(batch, await client.mget(batch), strict=True):
                        value = _opened(key, stored)
                        if value is not None:
                            found[key] = value
        except _FAILURES:
            self._reads_resume = self._writes_resume = time.monotonic() + self._pause
        return found

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the entries, as far as there is room; see `ChunkCache`."""
        fitting = ((key, value) for key, value in entries.items() if len(value) <= _LARGEST_VALUE)
        while batch := dict(islice(fitting, _BATCH)):
            if time.monotonic() < self._writes_resume:
                return
            try:
                async with asyncio.timeout(_DEADLINE):
                    await self._clients.get().mset({key: _sealed(key, value) for key, value in batch.items()})
            except ResponseError:
                # A full Redis still answers reads.
                self._writes_resume = time.monotonic() + self._pause
            except _FAILURES:
                self._reads_resume = self._writes_resume = time.monotonic() + self._pause

    async def aclose(self) -> None:
        """Close the connections of all event loops."""
        await self._clients.aclose()

    def _open(self) -> Redis:
        return Redis.from_url(
            self._url,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=_CONNECTIONS,
        )


async def _close(client: Redis) -> None:
    await client.aclose()


def _abandon(client: Redis) -> None:
    """The sockets went with their loop."""


def _sealed(key: str, value: bytes) -> bytes:
    return _MAGIC + _checksum(key, value) + len(value).to_bytes(8, "big") + value


def _opened(key: str, stored: object) -> bytes | None:
    if not isinstance(stored, bytes) or len(stored) < _HEADER:
        return None
    value = stored[_HEADER:]
    return value if stored == _sealed(key, value) else None


def _checksum(key: str, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key.encode())).to_bytes(4, "big")
