"""A chunk cache in the memory of the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from cubegate.cache.cache import Column

_LARGEST_PART = 8


class MemoryCache:
    """Holds up to `max_bytes` of keys and values, dropping the least recently used first.

    An entry larger than an eighth of that is not held, so that one chunk cannot empty the cache.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The bytes that are held now."""
        return self._nbytes

    def held(self, key: str) -> bytes | None:
        """Return the value of `key`; see `ChunkCache`."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are held; see `ChunkCache`."""
        held = {key: self.held(key) for key in keys}
        return {key: value for key, value in held.items() if value is not None}

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the values, as far as there is room; see `ChunkCache`."""
        with self._lock:
            for key, value in entries.items():
                self._drop(key)
                if _nbytes(key, value) * _LARGEST_PART <= self._max_bytes:
                    self._entries[key] = value
                    self._nbytes += _nbytes(key, value)
            while self._nbytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    async def claim(self, keys: Sequence[str]) -> set[str]:  # noqa: ARG002 - the seam
        """Return nothing: no other process shares this memory."""
        return set()

    async def get_columns(self, columns: Sequence[Column]) -> list[bytes | None]:
        """Return the columns that are held; see `ChunkCache`."""
        blocks = {key: self.held(key) for key in {column.key for column in columns}}
        return [_column(blocks[column.key], column) for column in columns]

    def put_blocks(self, blocks: Mapping[str, bytes], nbytes: int) -> None:  # noqa: ARG002 - the seam
        """Hold blocks as they are; see `ChunkCache`."""
        self.put_many(blocks)

    async def flush(self) -> None:
        """There is nothing to wait for."""

    async def aclose(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def _drop(self, key: str) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._nbytes -= _nbytes(key, value)


def _nbytes(key: str, value: bytes) -> int:
    return len(key) + len(value)


def _column(block: bytes | None, column: Column) -> bytes | None:
    if block is None:
        return None
    data = block[column.number * column.nbytes : (column.number + 1) * column.nbytes]
    return data if len(data) == column.nbytes else None
