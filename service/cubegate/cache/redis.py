"""A chunk cache in Redis, which may be slow, full, dead or wrong without an answer being so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio.connection import parse_url

from cubegate.cache.cache import Column
from cubegate.cache.per_loop import PerLoop
from cubegate.cache.redis_connection import RedisConnection, close_connection
from cubegate.cache.redis_writer import RedisWriter
from cubegate.cache.sealing import CHECKSUM, unseal, unseal_column
from cubegate.errors import ConfigurationError

_TIMEOUT = 0.05
_PAUSE = 5.0
_CLAIM_MILLISECONDS = 2000


class RedisCache:
    """Holds values of up to 1 MiB in the Redis at `url`, which is neither needed nor trusted.

    Every value and every column carries a checksum of its key and content, so that a damaged or
    misplaced one is a miss. Reads get `timeout` seconds; after a failure, or an answer that took
    long for its size, Redis is left alone for `pause` seconds. Writes are queued, and done in the
    background for at most half of the time.

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
        self._connections = PerLoop(lambda: RedisConnection(url, timeout, pause), close_connection)
        self._writers = PerLoop(lambda: RedisWriter(self._connections.get()), RedisWriter.aclose)

    @property
    def paused(self) -> bool:
        """Whether Redis is left alone at the moment, in any event loop."""
        return any(connection.paused for connection in self._connections.values())

    def held(self, key: str) -> bytes | None:  # noqa: ARG002 - the seam
        """Return None: nothing is in the memory of this process."""
        return None

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are held and whole; see `ChunkCache`."""
        stored = await self._connections.get().read_values(keys)
        values = {key: unseal(key, value) for key, value in stored.items()}
        return {key: value for key, value in values.items() if value is not None}

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Queue the values; see `ChunkCache`."""
        self._writers.get().queue(entries)

    async def claim(self, keys: Sequence[str]) -> set[str]:
        """Take a lock on each of `keys` for two seconds; see `ChunkCache`."""
        names = [f"{key}:claim" for key in keys]
        taken = await self._connections.get().claim(names, _CLAIM_MILLISECONDS)
        return {key for key, held in zip(keys, taken, strict=True) if held}

    async def get_columns(self, columns: Sequence[Column]) -> list[bytes | None]:
        """Return the columns that are held and whole; see `ChunkCache`."""
        ranges = [(c.key, c.number * (c.nbytes + CHECKSUM), c.nbytes + CHECKSUM) for c in columns]
        stored = await self._connections.get().read_ranges(ranges)
        return [unseal_column(*column, part) for column, part in zip(columns, stored, strict=True)]

    def put_blocks(self, blocks: Mapping[str, bytes], nbytes: int) -> None:
        """Queue the blocks; see `ChunkCache`."""
        self._writers.get().queue(blocks, column_nbytes=nbytes)

    async def flush(self) -> None:
        """Wait until the queue of this event loop is empty."""
        await self._writers.get().flush()

    async def aclose(self) -> None:
        """Close the connections of all event loops; what is still queued is given up."""
        await self._writers.aclose()
        await self._connections.aclose()
