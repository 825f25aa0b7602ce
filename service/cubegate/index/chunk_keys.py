"""Reads the chunk keys of an array: which chunk of the grid a key names."""

from __future__ import annotations

import re

from cubegate.errors import InvalidReference
from cubegate.index.metadata import ArrayMetadata

_ORDINAL = re.compile(r"0|[1-9][0-9]{0,17}")


class ChunkKeys:
    """The chunk keys of one array, relative to its path."""

    def __init__(self, array: ArrayMetadata) -> None:
        self._path = array.path
        self._grid = array.chunk_grid
        self._prefix, self._separator = _encoding(array)

    def number(self, key: str) -> int:
        """Return the number, in C order, of the chunk that `key` names.

        Raises:
            InvalidReference: the key is malformed or outside the chunk grid.
        """
        if not self._grid:
            # VirtualiZarr writes an empty key for an array without dimensions
            if key in (self._prefix.rstrip("/."), self._prefix or "0"):
                return 0
            raise self._invalid(key)
        if not key.startswith(self._prefix):
            raise self._invalid(key)
        parts = key[len(self._prefix) :].split(self._separator)
        if len(parts) != len(self._grid):
            raise self._invalid(key)
        number = 0
        for part, size in zip(parts, self._grid, strict=True):
            if not _ORDINAL.fullmatch(part) or int(part) >= size:
                raise self._invalid(key)
            number = number * size + int(part)
        return number

    def _invalid(self, key: str) -> InvalidReference:
        return InvalidReference(
            f"{key[:200]!r} is not a chunk key of array {self._path!r}, whose chunk grid is {self._grid}."
        )


def _encoding(array: ArrayMetadata) -> tuple[str, str]:
    if array.zarr_format == 2:
        return "", str(array.document.get("dimension_separator") or ".")
    encoding = array.document["chunk_key_encoding"]
    configuration = encoding.get("configuration") or {}
    if encoding["name"] == "default":
        separator = str(configuration.get("separator", "/"))
        return f"c{separator}", separator
    return "", str(configuration.get("separator", "."))
