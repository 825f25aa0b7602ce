"""The chunk cache seam: opaque bytes by key, where losing an entry only costs time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Column(NamedTuple):
    """One of the equal parts of a block: the bytes from `number * nbytes` to the next."""

    key: str
    number: int
    nbytes: int


class ChunkCache(Protocol):
    """Holds opaque bytes; never raises for a broken backend, which merely misses.

    An entry is a whole value, or a block of equal columns which are read one by one. Putting
    returns at once; what takes time is done in the background.
    """

    def held(self, key: str) -> bytes | None:
        """Return the value of `key` where the memory of this process has it."""
        ...

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are held and whole; missing keys are left out."""
        ...

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the values, as far as there is room."""
        ...

    async def claim(self, keys: Sequence[str]) -> set[str]:
        """Say that this process is about to fetch what belongs to `keys`.

        Returns those that another process, sharing the cache, is fetching at this moment.
        """
        ...

    async def get_columns(self, columns: Sequence[Column]) -> list[bytes | None]:
        """Return the columns, None for one that is not held or not whole."""
        ...

    def put_blocks(self, blocks: Mapping[str, bytes], nbytes: int) -> None:
        """Hold blocks, each of columns of `nbytes` one after another, as far as there is room."""
        ...

    async def flush(self) -> None:
        """Wait until what was put is held, or given up."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
