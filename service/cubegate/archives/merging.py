"""Merges the indexes of files on one grid, each with arrays of its own, into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.references import ArrayReferences, ReferenceCollector
from cubegate.index.table import INLINED, UNALLOCATED, TextTable


def renamed(index: Index, old: str, new: str) -> Index:
    """Return `index` with the arrays called `old`, in whatever group, called `new`; a name that is free."""
    content = index.content

    def path_of(path: str) -> str:
        group, slash, name = path.rpartition("/")
        return f"{group}{slash}{new}" if name == old else path

    return Index(
        replace(
            content,
            arrays={path_of(path): stored for path, stored in content.arrays.items()},
            tables={path_of(path): table for path, table in content.tables.items()},
            skipped={path_of(path): reason for path, reason in content.skipped.items()},
        )
    )


def merge_indexes(named: Mapping[str, Index]) -> Index:
    """Return one index of all arrays of indexes, which are `named` for messages.

    Arrays that several have are kept once, and must be equal there: coordinates and grid mappings that are
    inlined. Of attributes of groups, those that all say alike are kept. Validators are kept where all have
    them; checksums are not.

    Raises:
        InvalidReference: an array differs from one of the same name; the message names both.
    """
    indexes = list(named.values())
    collector = ReferenceCollector(base_url="", check_url=lambda _: None)
    arrays: dict[str, StoredArray] = {}
    owners: dict[str, tuple[str, Index]] = {}
    for name, index in named.items():
        for path, stored in index.content.arrays.items():
            if path in owners:
                _require_equal(path, (name, index), owners[path])
                continue
            owners[path] = name, index
            _copy(collector, index, index.hierarchy.arrays[path])
            arrays[path] = stored
    skipped = {path: reason for index in indexes for path, reason in index.content.skipped.items()}
    merged = collector.index(
        groups=_common_groups(indexes),
        arrays=arrays,
        skipped={path: reason for path, reason in skipped.items() if path not in arrays},
    )
    return _with_validators(merged, indexes)


def with_unwritten(index: Index, path: str, like: StoredArray) -> Index:
    """Return `index` with an array at `path` that is described as `like` and has no chunk.

    Raises:
        InvalidReference: no value of it means missing, so that it would look as if it held one.
    """
    array = like.parse(path)
    if array.declared_fill is None:
        raise InvalidReference(f"Array {path!r} has no nodata value, so none can stand for what is missing.")
    references = ReferenceCollector(base_url="", check_url=lambda _: None)
    references.add_array(array)
    made = references.index(groups={}, arrays={path: like}, skipped={}).content
    content = index.content
    return Index(
        replace(
            content,
            arrays={**content.arrays, path: like},
            tables={**content.tables, path: made.tables[path]},
        )
    )


def _copy(collector: ReferenceCollector, index: Index, array: ArrayMetadata) -> None:
    references: ArrayReferences = collector.add_array(array)
    chunks = np.indices(array.chunk_grid).reshape(len(array.chunk_grid), array.chunk_count).T
    rows = index.content.tables[array.path].look_up(chunks.astype(np.int64))
    stored = rows.granule < INLINED
    numbers = np.full(index.granules + 1, UNALLOCATED, np.uint32)
    for granule in np.unique(rows.granule[stored]).tolist():
        numbers[granule] = collector.granule(index.urls[granule])
    references.granule[stored] = numbers[rows.granule[stored]]
    references.offset[stored], references.length[stored] = rows.offset[stored], rows.length[stored]
    for chunk in np.flatnonzero(rows.granule == INLINED).tolist():
        data = index.inlined(int(rows.offset[chunk]), int(rows.length[chunk]))
        collector.inline(references, chunk, data)


def _require_equal(path: str, one: tuple[str, Index], other: tuple[str, Index]) -> None:
    (name, index), (other_name, other_index) = one, other
    if index.content.arrays[path] != other_index.content.arrays[path] or _inlined(index, path) != _inlined(
        other_index, path
    ):
        raise InvalidReference(
            f"{name} and {other_name} differ in array {path!r}: they are not on one grid, or of one name."
        )


def _inlined(index: Index, path: str) -> Any:
    """Return the bytes of an array that is inlined as a whole, else something that equals nothing."""
    rows = index.content.tables[path].all()
    if (rows.granule != INLINED).any():
        return object()
    return [
        index.inlined(offset, length)
        for offset, length in zip(rows.offset.tolist(), rows.length.tolist(), strict=True)
    ]


def _common_groups(indexes: Sequence[Index]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for path in sorted({path for index in indexes for path in index.content.groups}):
        every = [index.content.groups[path] for index in indexes if path in index.content.groups]
        groups[path] = {
            key: value
            for key, value in every[0].items()
            if all(key in each and each[key] == value for each in every)
        }
    return groups


def _with_validators(merged: Index, indexes: Sequence[Index]) -> Index:
    known: dict[str, str] = {}
    for index in indexes:
        validators = index.content.validators
        if validators is None:
            # without a granule there is nothing to know it by
            if index.granules:
                return merged
            continue
        known |= zip(index.content.urls, validators, strict=True)
    return Index(replace(merged.content, validators=TextTable.of(known[url] for url in merged.urls)))
