"""Reads the chunk keys of an array: which chunk of the grid a key names."""

from __future__ import annotations

import math
import re
from functools import cached_property

from cubegate.errors import InvalidReference
from cubegate.index.metadata import ArrayMetadata

_ORDINAL = re.compile(r"0|[1-9][0-9]{0,17}")
_MAX_KNOWN = 2**16


class ChunkKeys:
    """The chunk keys of one array, relative to its path."""

    def __init__(self, array: ArrayMetadata) -> None:
        self._path = array.path
        self._grid = array.chunk_grid
        self._prefix, self._separator = _encoding(array)

    @cached_property
    def _axes(self) -> list[_Ordinals]:
        return [_Ordinals(size, math.prod(self._grid[axis + 1 :])) for axis, size in enumerate(self._grid)]

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
        try:
            for ordinals, part in zip(self._axes, parts, strict=True):
                number += ordinals[part]
        except KeyError:
            raise self._invalid(key) from None
        return number

    def _invalid(self, key: str) -> InvalidReference:
        return InvalidReference(
            f"{key[:200]!r} is not a chunk key of array {self._path!r}, whose chunk grid is {self._grid}."
        )


class _Ordinals(dict[str, int]):
    """By how much each ordinal along one axis moves the number of a chunk; learnt as they are asked for.

    A look-up costs a tenth of reading the ordinal, and stacks repeat the same few a million times.
    """

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self._size, self._stride = size, stride

    def __missing__(self, part: str) -> int:
        if not _ORDINAL.fullmatch(part) or int(part) >= self._size:
            raise KeyError(part)
        if len(self) < _MAX_KNOWN:
            self[part] = int(part) * self._stride
        return int(part) * self._stride


def _encoding(array: ArrayMetadata) -> tuple[str, str]:
    if array.zarr_format == 2:
        return "", str(array.document.get("dimension_separator") or ".")
    encoding = array.document["chunk_key_encoding"]
    configuration = encoding.get("configuration") or {}
    if encoding["name"] == "default":
        separator = str(configuration.get("separator", "/"))
        return f"c{separator}", separator
    return "", str(configuration.get("separator", "."))
