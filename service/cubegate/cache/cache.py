"""The chunk cache seam: opaque bytes by key, where losing an entry only costs time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class ChunkCache(Protocol):
    """Holds opaque bytes; never raises for a broken backend, which merely misses."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the entries that are held and whole; missing keys are left out."""
        ...

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the entries, as far as there is room."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
