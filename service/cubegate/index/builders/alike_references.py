"""Makes the index of one of many reference files that have the same chunk keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.index.builders.json_members import Members
from cubegate.index.builders.kerchunk_json import CONSOLIDATED, ChunkMembers, metadata_value
from cubegate.index.documents import METADATA_NAMES, Documents, read_documents
from cubegate.index.index import Index
from cubegate.index.metadata import GroupMetadata, Hierarchy, with_parents
from cubegate.index.references import ReferenceCollector

Ranges = tuple[str, NDArray[np.int64], NDArray[np.int64]]
"""The address of an object, and the offsets and lengths of its chunks in bytes."""

_NO_VERSION = "0" * 16


@dataclass(frozen=True)
class _Place:
    """The chunks of one array: their numbers in C order, and which of the ranges they have."""

    path: str
    chunks: NDArray[np.int64]
    ranges: NDArray[np.int64]


class AlikeReferences:
    """Knows where the chunks called `keys` belong, and the documents that were read last."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._nodes: dict[str, tuple[Mapping[str, Any], Documents]] = {}
        self._placed: tuple[Mapping[str, Any], list[_Place]] = {}, []

    def index(
        self, members: Members, ranges: Ranges, *, base_url: str, check_url: Callable[[str], None]
    ) -> Index | None:
        """Return the index, without its version, of `ranges`, one for each key, and of all other `members`.

        None where they are of another kind than granules of one product have.

        Raises:
            InvalidReference: they are malformed.
            CubegateError: whatever `check_url` raises.
        """
        documents = self._documents(members)
        if documents is None:
            return None
        collector = ReferenceCollector(base_url=base_url, check_url=check_url)
        chunks = ChunkMembers(documents, "", collector)
        url, offset, length = ranges
        granule = collector.granule(url)
        for place in self._places(chunks, documents):
            collected = chunks.collected(place.path)
            collected.granule[place.chunks] = granule
            collected.offset[place.chunks] = offset[place.ranges]
            collected.length[place.chunks] = length[place.ranges]
        chunks.read(members)
        content = collector.content(
            groups=documents.groups, arrays=documents.arrays, skipped=documents.skipped
        )
        groups = {path: GroupMetadata(path, attributes) for path, attributes in documents.groups.items()}
        arrays = dict(sorted(documents.metadata.items()))
        hierarchy = Hierarchy(with_parents(groups, arrays), arrays, dict(documents.skipped))
        return Index(content, version=_NO_VERSION, hierarchy=hierarchy)

    def _documents(self, members: Members) -> Documents | None:
        nodes: dict[str, dict[str, Any]] = {}
        for key, value in members:
            path, _, name = key.rpartition("/")
            if key == CONSOLIDATED:
                return None
            if name in METADATA_NAMES:
                if name in nodes.setdefault(path, {}):
                    return None
                nodes[path][name] = value
        found = Documents()
        for path, values in nodes.items():
            known = self._nodes.get(path)
            if known is None or known[0] != values:
                prefix = f"{path}/" if path else ""
                named = {f"{prefix}{name}": value for name, value in values.items()}
                read = read_documents({key: metadata_value(value, key) for key, value in named.items()}, "")
                known = self._nodes[path] = values, read
            found.groups |= known[1].groups
            found.arrays |= known[1].arrays
            found.metadata |= known[1].metadata
            found.skipped |= known[1].skipped
        return found if nodes else None

    def _places(self, chunks: ChunkMembers, documents: Documents) -> list[_Place]:
        known, places = self._placed
        same = known.keys() == documents.metadata.keys() and all(
            known[path] is documents.metadata[path] for path in known
        )
        if not same:
            places = self._find_places(chunks)
            self._placed = dict(documents.metadata), places
        return places

    def _find_places(self, chunks: ChunkMembers) -> list[_Place]:
        found: dict[str, list[tuple[int, int]]] = {}
        for number, key in enumerate(self._keys):
            place = chunks.place(key)
            if place is not None:
                found.setdefault(place[0], []).append((place[1], number))
        return [_Place(path, *np.array(pairs, np.int64).T.copy()) for path, pairs in found.items()]
