"""A cache around a cache, which counts hits, misses and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cubegate.cache.cache import ChunkCache, Column
from cubegate.metrics.metrics import Metrics


class MeteredCache:
    """Passes everything on to `cache`, and counts it as the tier `tier`.

    Values count as chunks, columns of blocks as columns. A look into memory that finds nothing is
    no miss, since the cache is then asked again.
    """

    def __init__(self, cache: ChunkCache, metrics: Metrics, tier: str) -> None:
        self._cache = cache
        self._chunks = metrics.cache(tier, "chunk")
        self._columns = metrics.cache(tier, "column")

    def held(self, key: str) -> bytes | None:
        """Return the value of `key` where it is in memory; see `ChunkCache`."""
        value = self._cache.held(key)
        if value is not None:
            self._chunks.hit(1, len(value))
        return value

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are held; see `ChunkCache`."""
        found = await self._cache.get_many(keys)
        self._chunks.hit(len(found), sum(map(len, found.values())))
        if len(found) < len(keys):
            self._chunks.missed(len(set(keys)) - len(found))
        return found

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the values; see `ChunkCache`."""
        self._chunks.written(sum(map(len, entries.values())))
        self._cache.put_many(entries)

    async def claim(self, keys: Sequence[str]) -> set[str]:
        """Claim `keys`; see `ChunkCache`."""
        return await self._cache.claim(keys)

    async def get_columns(self, columns: Sequence[Column]) -> list[bytes | None]:
        """Return the columns that are held; see `ChunkCache`."""
        found = await self._cache.get_columns(columns)
        sizes = [len(data) for data in found if data is not None]
        self._columns.hit(len(sizes), sum(sizes))
        self._columns.missed(len(found) - len(sizes))
        return found

    def put_blocks(self, blocks: Mapping[str, bytes], nbytes: int) -> None:
        """Hold blocks of columns; see `ChunkCache`."""
        self._columns.written(sum(map(len, blocks.values())))
        self._cache.put_blocks(blocks, nbytes)

    async def flush(self) -> None:
        """Wait until what was put is held, or given up."""
        await self._cache.flush()

    async def aclose(self) -> None:
        """Release connections."""
        await self._cache.aclose()
