"""Zarr metadata in one neutral model, whichever format or reference file it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cubegate.errors import NotFound

JSON = Any

# halves of characters, which JSON and h5py can hold (a text that is not UTF-8), and no text that is sent
_SURROGATES = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class CodecsV2:
    """A Zarr v2 pipeline: numcodecs configurations, filters in encoding order."""

    filters: tuple[Mapping[str, JSON], ...] = ()
    compressor: Mapping[str, JSON] | None = None
    order: Literal["C", "F"] = "C"


@dataclass(frozen=True)
class CodecsV3:
    """A Zarr v3 pipeline: codec documents in encoding order."""

    codecs: tuple[Mapping[str, JSON], ...] = ()

    @property
    def sharded(self) -> bool:
        """Whether a stored chunk is a shard of smaller inner chunks."""
        return any(codec["name"] == "sharding_indexed" for codec in self.codecs)


@dataclass(frozen=True)
class ArrayMetadata:
    """One array as stored.

    Attributes:
        path: from the root of the hierarchy, without slashes at either end.
        chunk_shape: the unit that is stored and fetched (a shard, where the array is sharded).
        dtype: of the decoded values, byte order as stored; object for variable-length strings.
        dimension_names: None where the source names no dimensions.
        attributes: without `_ARRAY_DIMENSIONS` and without `_FillValue`.
        fill_value: the storage fill, the value of every unallocated chunk; None if not given.
        declared_fill: the value that means "missing" to CF readers; None where none is declared.
        codecs: how a chunk is encoded.
        document: the metadata document as stored, `.zarray` or `zarr.json`.

    What is no Unicode in `attributes` becomes U+FFFD, in those of groups too.
    """

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dimension_names: tuple[str, ...] | None
    attributes: Mapping[str, JSON]
    fill_value: Any
    declared_fill: Any
    codecs: CodecsV2 | CodecsV3
    document: Mapping[str, JSON]

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", _as_unicode(self.attributes))

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """The Zarr format that the array is stored in."""
        return 2 if isinstance(self.codecs, CodecsV2) else 3

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def group(self) -> str:
        """The path of the group that holds the array; empty for the root."""
        return self.path.rpartition("/")[0]

    @cached_property
    def chunk_grid(self) -> tuple[int, ...]:
        """The number of chunks along each dimension."""
        return tuple(
            math.ceil(size / chunk) if chunk else 0
            for size, chunk in zip(self.shape, self.chunk_shape, strict=True)
        )

    @property
    def chunk_count(self) -> int:
        """The number of chunks of the whole array."""
        return math.prod(self.chunk_grid)

    @property
    def chunk_nbytes(self) -> int:
        """The decoded size of one chunk in bytes (pointers, for object arrays)."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize


@dataclass(frozen=True)
class GroupMetadata:
    """One group: its path and attributes."""

    path: str
    attributes: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", _as_unicode(self.attributes))


def _as_unicode(value: JSON) -> JSON:
    if isinstance(value, str):
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {_as_unicode(name): _as_unicode(each) for name, each in value.items()}
    return [_as_unicode(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Hierarchy:
    """All groups and arrays of a cube, by path; the root group is always there.

    `skipped` maps the path of each array that cannot be served to the reason.
    """

    groups: Mapping[str, GroupMetadata]
    arrays: Mapping[str, ArrayMetadata]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def arrays_in(self, group: str) -> Iterator[ArrayMetadata]:
        """The arrays directly inside `group`."""
        return (array for array in self.arrays.values() if array.group == group)

    def children_of(self, group: str) -> list[str]:
        """The names of the groups and arrays directly inside `group`, sorted."""
        paths = [path for path in (*self.groups, *self.arrays) if path]
        return sorted(p.rpartition("/")[2] for p in paths if p.rpartition("/")[0] == group)


def with_parents(
    groups: Mapping[str, GroupMetadata], arrays: Mapping[str, ArrayMetadata]
) -> dict[str, GroupMetadata]:
    """Return `groups` with the root and every implied parent group added."""
    found = dict(groups)
    found.setdefault("", GroupMetadata(""))
    for path in (*arrays, *groups):
        while path := path.rpartition("/")[0]:
            found.setdefault(path, GroupMetadata(path))
    return dict(sorted(found.items()))


def restricted(hierarchy: Hierarchy, names: Collection[str]) -> Hierarchy:
    """Return `hierarchy` with only the arrays called `names` and what describes them.

    That is their dimension coordinates, and what their `coordinates`, `grid_mapping`, `bounds`
    and `ancillary_variables` attributes name, in the same group.

    Raises:
        NotFound: one of `names` is nowhere.
    """
    missing = sorted(set(names) - {array.name for array in hierarchy.arrays.values()})
    if missing:
        raise NotFound(f"There is no array called {missing[0]!r}.")
    kept: set[str] = set()
    wanted = [path for path, array in hierarchy.arrays.items() if array.name in names]
    while wanted:
        path = wanted.pop()
        if path in kept or path not in hierarchy.arrays:
            continue
        kept.add(path)
        array = hierarchy.arrays[path]
        prefix = f"{array.group}/" if array.group else ""
        wanted += [prefix + name for name in (*(array.dimension_names or ()), *_described_by(array))]
    arrays = {path: array for path, array in hierarchy.arrays.items() if path in kept}
    return Hierarchy(hierarchy.groups, arrays, hierarchy.skipped)


def _described_by(array: ArrayMetadata) -> list[str]:
    keys = ("coordinates", "grid_mapping", "bounds", "ancillary_variables")
    return " ".join(str(array.attributes.get(key, "")) for key in keys).replace(":", " ").split()
