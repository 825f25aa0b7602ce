"""Several chunk caches as one, the fastest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cubegate.cache.cache import ChunkCache


class TieredCache:
    """Asks `tiers` in their order for what is still missing, and fills the tiers above a hit."""

    def __init__(self, *tiers: ChunkCache) -> None:
        self._tiers = tiers

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the entries that any tier holds; see `ChunkCache`."""
        found: dict[str, bytes] = {}
        for depth, tier in enumerate(self._tiers):
            missing = [key for key in keys if key not in found]
            if not missing:
                break
            hits = await tier.get_many(missing)
            if hits:
                for above in self._tiers[:depth]:
                    await above.put_many(hits)
                found |= hits
        return found

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the entries in every tier; see `ChunkCache`."""
        for tier in self._tiers:
            await tier.put_many(entries)

    async def aclose(self) -> None:
        """Release every tier."""
        for tier in self._tiers:
            await tier.aclose()
