"""Locates chunks that a store keeps as one object each, under the keys that Zarr prescribes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkReference
from cubegate.errors import InvalidMetadata
from cubegate.index.location import Location, Stored
from cubegate.index.metadata import ArrayMetadata, Hierarchy


@dataclass(frozen=True, slots=True)
class ChunkKeys:
    """How an array names its chunks: `c/0/0` (v3 default) or `0.0` (v2), with either separator."""

    prefixed: bool
    separator: str

    def key(self, chunk: tuple[int, ...]) -> str:
        """Return the key of `chunk`, relative to its array."""
        if self.prefixed:
            return self.separator.join(("c", *map(str, chunk)))
        return self.separator.join(map(str, chunk)) or "0"


def chunk_keys(array: ArrayMetadata) -> ChunkKeys:
    """Read how `array` names its chunks.

    Raises:
        InvalidMetadata: it says so in a way that no Zarr version defines.
    """
    if array.zarr_format == 2:
        name, separator = "v2", array.document.get("dimension_separator") or "."
    else:
        encoding = array.document["chunk_key_encoding"]
        name = encoding.get("name")
        default = "/" if name == "default" else "."
        separator = (encoding.get("configuration") or {}).get("separator", default)
    if name not in ("default", "v2") or separator not in (".", "/"):
        raise InvalidMetadata(f"array {array.path!r}: its chunk keys ({name!r}, {separator!r}) are unknown")
    return ChunkKeys(name == "default", separator)


class KeyedLocator:
    """Finds each chunk at the URL of its key; absence means unallocated.

    `url_of` turns a store key, of the array's path and nothing more, into its URL.
    """

    def __init__(self, hierarchy: Hierarchy, url_of: Callable[[str], str]) -> None:
        self._keys = {path: chunk_keys(array) for path, array in hierarchy.arrays.items()}
        self._urls = {path: url_of(path) for path in hierarchy.arrays}

    def locate(self, array: ArrayMetadata, chunks: Sequence[tuple[int, ...]]) -> list[Location]:
        """Return one location for each chunk, by its coordinates in the chunk grid."""
        keys, url = self._keys[array.path], self._urls[array.path]
        return [Stored(ChunkReference(f"{url}/{keys.key(chunk)}"), optional=True) for chunk in chunks]

    def stored_nbytes(self, array: ArrayMetadata, chunks: NDArray[np.int64]) -> int | None:  # noqa: ARG002 - the seam
        """Return None: only the upstream knows the sizes of its objects."""
        return None
