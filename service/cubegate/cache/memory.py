"""A chunk cache in the memory of the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

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

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the entries that are held; see `ChunkCache`."""
        found = {}
        with self._lock:
            for key in keys:
                value = self._entries.get(key)
                if value is not None:
                    self._entries.move_to_end(key)
                    found[key] = value
        return found

    async def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Hold the entries, as far as there is room; see `ChunkCache`."""
        with self._lock:
            for key, value in entries.items():
                self._drop(key)
                if _nbytes(key, value) * _LARGEST_PART <= self._max_bytes:
                    self._entries[key] = value
                    self._nbytes += _nbytes(key, value)
            while self._nbytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

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
