"""A source around a source, which keeps byte ranges in a chunk cache."""

from __future__ import annotations

import asyncio
from hashlib import blake2b

from cubegate.cache.cache import ChunkCache
from cubegate.chunks.source import ChunkReference, ChunkSource


class Cached:
    """Answers from `cache` where it can, and fills it in the background.

    `namespace` must change whenever the bytes behind a reference may have (the version of an
    index). References to whole objects are passed on uncached, since their length is not known.
    """

    def __init__(self, source: ChunkSource, cache: ChunkCache, namespace: str) -> None:
        self._source = source
        self._cache = cache
        self._namespace = namespace
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        if not reference.length:
            return await self._source.get(reference)
        key = self._key(reference)
        held = (await self._cache.get_many([key])).get(key)
        if held is not None and len(held) == reference.length:
            return held
        data = await self._source.get(reference)
        self._write(key, data)
        return data

    def _key(self, reference: ChunkReference) -> str:
        identity = f"{self._namespace}\0{reference.url}\0{reference.offset}\0{reference.length}"
        return f"cubegate:chunk:{blake2b(identity.encode(), digest_size=20).hexdigest()}"

    def _write(self, key: str, data: bytes) -> None:
        write = asyncio.get_running_loop().create_task(self._cache.put_many({key: data}))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
