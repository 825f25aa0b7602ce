"""Several chunk caches as one, the fastest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cubegate.cache.cache import ChunkCache, Column


class TieredCache:
    """Asks `tiers` in their order for what is still missing, and fills the tiers above a hit.

    Columns found below do not fill the tiers above: one does not make a block.
    """

    def __init__(self, *tiers: ChunkCache) -> None:
        self._tiers = tiers

    def held(self, key: str) -> bytes | None:
        """Return the value of `key` where a tier has it in memory; see `ChunkCache`."""
        return next((value for tier in self._tiers if (value := tier.held(key)) is not None), None)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that any tier holds; see `ChunkCache`."""
        found: dict[str, bytes] = {}
        for depth, tier in enumerate(self._tiers):
            missing = [key for key in keys if key not in found]
            if not missing:
                break
            hits = await tier.get_many(missing)
            if hits:
                for above in self._tiers[:depth]:
                    above.put_many(hits)
                found |= hits
        return found

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the values in every tier; see `ChunkCache`."""
        for tier in self._tiers:
            tier.put_many(entries)

    async def claim(self, keys: Sequence[str]) -> set[str]:
        """Claim `keys` in every tier; see `ChunkCache`."""
        claimed: set[str] = set()
        for tier in self._tiers:
            claimed |= await tier.claim(keys)
        return claimed

    async def get_columns(self, columns: Sequence[Column]) -> list[bytes | None]:
        """Return the columns that any tier holds; see `ChunkCache`."""
        found: list[bytes | None] = [None] * len(columns)
        for tier in self._tiers:
            missing = [number for number, data in enumerate(found) if data is None]
            if not missing:
                break
            hits = await tier.get_columns([columns[number] for number in missing])
            for number, data in zip(missing, hits, strict=True):
                found[number] = data
        return found

    def put_blocks(self, blocks: Mapping[str, bytes], nbytes: int) -> None:
        """Hold the blocks in every tier; see `ChunkCache`."""
        for tier in self._tiers:
            tier.put_blocks(blocks, nbytes)

    async def flush(self) -> None:
        """Wait for every tier."""
        for tier in self._tiers:
            await tier.flush()

    async def aclose(self) -> None:
        """Release every tier."""
        for tier in self._tiers:
            await tier.aclose()
