"""Builds an index from kerchunk's JSON references, versions 0 and 1, plain or compressed.

A large file is read twice, member by member: for the metadata, which may stand anywhere in it,
and then for the chunks. So neither its text nor its references are ever held as a whole.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cubegate.errors import InvalidReference
from cubegate.index.builders.json_members import Batch, Members, read_all_members, read_members
from cubegate.index.builders.reference_text import BLOCK_NBYTES, read_text
from cubegate.index.chunk_keys import ChunkKeys
from cubegate.index.documents import (
    MAX_METADATA_LENGTH,
    METADATA_NAMES,
    Documents,
    measure,
    parse_document,
    read_documents,
    split_key,
)
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.references import ArrayReferences, ReferenceCollector, check_range
from cubegate.index.table import UNALLOCATED, WHOLE_OBJECT

_REFERENCES = "refs"
CONSOLIDATED = ".zmetadata"
_FORMAT_NAMES = frozenset({"version", "templates", "gen", _REFERENCES})
_MAX_OWNERS = 2**16
# blocks of text: 8 MiB
_SMALL = 2**23 // BLOCK_NBYTES


def build_from_kerchunk_json(
    data: bytes,
    *,
    base_url: str,
    check_url: Callable[[str], None],
    group: str = "",
    progress: Progress = silent,
) -> Index:
    """Read references as kerchunk and VirtualiZarr write them.

    `base_url` is where `data` came from, for relative paths; `check_url` raises for a URL that
    is not allowed; `group` names the group to take as the root.

    Raises:
        InvalidReference: the file is malformed, names something twice, or holds templates or
            generated references.
        CubegateError: whatever `check_url` raises.
    """

    def read(what: str) -> Iterator[str]:
        return read_text(data, report=lambda done, total: progress(what, done, total))

    start = read("Reading references")
    held = list(itertools.islice(start, _SMALL))
    # a granule's own references are small, and a stack of hundreds of them should not take minutes
    small = read_all_members("".join(held), _REFERENCES) if next(start, None) is None else None
    del held, start

    def batches(what: str) -> Iterable[Batch]:
        return read_members(read(what), _REFERENCES) if small is None else small

    found = _Metadata()
    for batch in batches("Reading metadata"):
        found.read(batch)
    inside = found.where()
    documents = read_documents(_metadata_documents(found.documents[inside]), group)
    collector = ReferenceCollector(base_url=base_url, check_url=check_url)
    chunks = ChunkMembers(documents, group, collector)
    for batch in batches("Reading references"):
        if batch.inside == inside:
            chunks.read(batch.members)
    return collector.index(groups=documents.groups, arrays=documents.arrays, skipped=documents.skipped)


@dataclass
class _Metadata:
    """What a reference file holds beside chunks, before it is known of which version it is.

    `documents` are those in the outermost object, where version 0 has them, and in `refs`;
    `format` are the members that tell the version and what else it may hold.
    """

    documents: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}, _REFERENCES: {}})
    format: dict[str, Any] = field(default_factory=dict)
    length: int = 0

    def read(self, batch: Batch) -> None:
        documents = self.documents[batch.inside]
        for key, value in batch.members:
            if key.rpartition("/")[2] in METADATA_NAMES or key == CONSOLIDATED:
                self.length += len(key) + measure(value, key)
                if self.length > MAX_METADATA_LENGTH:
                    raise InvalidReference(
                        f"The reference file has more than {MAX_METADATA_LENGTH:,} characters of metadata."
                    )
                _enter_once(documents, key, value)
            elif not batch.inside and key in _FORMAT_NAMES:
                _enter_once(self.format, key, value)

    def where(self) -> str:
        """Return the name of the object in which the references are.

        Raises:
            InvalidReference: the version is unknown, or the references must be generated.
        """
        version = self.format.get("version")
        if version is None:
            return ""
        if type(version) is not int or version != 1:
            raise InvalidReference("The reference file has a version that is neither 0 nor 1.")
        for name in ("templates", "gen"):
            if self.format.get(name):
                raise InvalidReference(f"The reference file holds {name!r}, which are not expanded here.")
        if not isinstance(self.format.get(_REFERENCES), dict):
            raise InvalidReference("The reference file holds no 'refs'.")
        return _REFERENCES


def _enter_once(found: dict[str, Any], key: str, value: Any) -> None:
    if key in found:
        raise InvalidReference(f"The reference file holds {key[:200]!r} twice.")
    found[key] = value


def _metadata_documents(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in values.items() if key != CONSOLIDATED}
    if not found and CONSOLIDATED in values:
        consolidated = parse_document(values[CONSOLIDATED], CONSOLIDATED, max_length=MAX_METADATA_LENGTH)
        return parse_document(consolidated.get("metadata"), CONSOLIDATED, max_length=MAX_METADATA_LENGTH)
    return {key: metadata_value(value, key) for key, value in found.items()}


def metadata_value(value: Any, key: str) -> Any:
    """Return a metadata document as it is held: text, bytes or an object.

    Raises:
        InvalidReference: it is not in the reference file itself.
    """
    if isinstance(value, list):
        raise InvalidReference(f"The metadata document {key!r} is not in the reference file itself.")
    return _inline_bytes(value, key) if isinstance(value, str) else value


@dataclass(frozen=True)
class _Owner:
    """The array that chunk keys belong to, and how long the part of them is that names it."""

    skip: int
    keys: ChunkKeys
    collected: ArrayReferences


class ChunkMembers:
    """Enters the chunks of those arrays that can be served; `group` is the root."""

    def __init__(self, documents: Documents, group: str, collector: ReferenceCollector) -> None:
        self._documents, self._collector = documents, collector
        self._prefix = f"{group.strip('/')}/" if group.strip("/") else ""
        self._arrays = {
            path: _Owner(len(self._prefix) + len(path) + 1, ChunkKeys(array), collector.add_array(array))
            for path, array in documents.metadata.items()
        }
        self._owners: dict[str, _Owner | None] = {}

    def read(self, members: Members) -> None:
        """Enter those of `members` that are chunks.

        Raises:
            InvalidReference: one is malformed, or entered already.
        """
        for key, value in members:
            folder, _, name = key.rpartition("/")
            if name in METADATA_NAMES or key == CONSOLIDATED:
                continue
            owner = self._owners[folder] if folder in self._owners else self._find_owner(folder, key)
            if owner is not None:
                self._enter(owner, key, value)

    def place(self, key: str) -> tuple[str, int] | None:
        """Return the path of the array and the number of the chunk of a key; None where it is not served.

        Raises:
            InvalidReference: it is the key of no chunk.
        """
        folder = key.rpartition("/")[0]
        owner = self._owners[folder] if folder in self._owners else self._find_owner(folder, key)
        if owner is None:
            return None
        return owner.collected.array.path, owner.keys.number(key[owner.skip :])

    def collected(self, path: str) -> ArrayReferences:
        """Return what has been entered of the array at `path`."""
        return self._arrays[path].collected

    def _find_owner(self, folder: str, key: str) -> _Owner | None:
        if not key.startswith(self._prefix):
            return None
        path, _ = split_key(key.removeprefix(self._prefix))
        while path and path not in self._arrays and path not in self._documents.skipped:
            path = path.rpartition("/")[0]
        if not path:
            raise InvalidReference(f"The key {key[:200]!r} belongs to no array of the references.")
        if len(self._owners) >= _MAX_OWNERS:
            self._owners.clear()
        return self._owners.setdefault(folder, self._arrays.get(path))

    def _enter(self, owner: _Owner, key: str, value: Any) -> None:
        chunk = owner.keys.number(key[owner.skip :])
        collected, collector = owner.collected, self._collector
        if collected.granule[chunk] != UNALLOCATED:
            raise InvalidReference(f"The reference file holds {key[:200]!r} twice.")
        if isinstance(value, str):
            collector.inline(collected, chunk, _inline_bytes(value, key))
        elif isinstance(value, list) and len(value) in (1, 3) and isinstance(value[0], str):
            if len(value) == 1:
                collected.put(chunk, collector.granule(value[0]), 0, WHOLE_OBJECT)
                return
            check_range(value[1], value[2], key)
            collected.put(chunk, collector.granule(value[0]), value[1], value[2])
        else:
            raise InvalidReference(f"The reference of {key!r} is not text, [url] or [url, offset, length].")


def _inline_bytes(value: str, key: str) -> bytes:
    try:
        return base64.b64decode(value[7:], validate=True) if value.startswith("base64:") else value.encode()
    except (binascii.Error, ValueError):
        raise InvalidReference(f"The inlined data of {key!r} is not base64, or not text.") from None
