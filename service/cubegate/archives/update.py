"""Brings a cube up to date: dates at the end are appended, and all else becomes another version beside it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cubegate.archives.agreement import DECODING
from cubegate.index.file import open_index, write_index
from cubegate.index.index import Index
from cubegate.index.location import Inlined
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import INLINED, UNALLOCATED
from cubegate.store.decoder import decode

Outcome = Literal["unchanged", "appended", "replaced", "new version"]

_SAME = ("dtype", "chunk_shape", "codecs", "fill_value", "declared_fill", "dimension_names")


@dataclass(frozen=True)
class Published:
    """What became of a cube: its versions before and after, and why it was no append, where it was none."""

    outcome: Outcome
    before: str
    after: str
    reason: str | None = None


def version_file(index: Path, version: str) -> Path:
    """Return where another version of the index file `index` is kept."""
    return index.with_name(f"{index.stem}.{version}{index.suffix}")


def publish(index: Index, path: Path, *, replace: bool = False, dimension: str = "time") -> Published:
    """Make `index` what is mounted by the index file `path`, where nobody who reads from that is misled.

    Whoever opened the cube before holds its chunk keys. Where these lead to the same values in `index`, which
    has more dates behind the others, it takes the place of the file. Otherwise it becomes a file of its own
    beside it, which is mounted as `id@version`; with `replace` it takes the place all the same. The file that
    was there before is always kept, as a version.

    Raises:
        CorruptIndex: the file is damaged.
        OSError: a file cannot be read or written.
    """
    before = open_index(path)
    if before.version == index.version:
        return Published("unchanged", before.version, index.version)
    reason = why_not_appended(before, index, dimension)
    if reason is not None and not replace:
        write_index(index, version_file(path, index.version))
        return Published("new version", before.version, index.version, reason)
    _keep(path, version_file(path, before.version))
    write_index(index, path)
    return Published("replaced" if reason else "appended", before.version, index.version, reason)


def _keep(path: Path, kept: Path) -> None:
    if kept.exists():
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{kept.name}.") as folder:
        copy = Path(folder) / kept.name
        try:
            os.link(path, copy)
        except OSError:
            # a file system without hard links
            shutil.copyfile(path, copy)
        copy.replace(kept)


def why_not_appended(before: Index, after: Index, dimension: str = "time") -> str | None:
    """Return why `after` is not `before` with more along `dimension`; None where it is just that.

    Every chunk that `before` has must be in `after` under the same key, of the same granule in the same
    state. What `before` holds itself may be in other bytes, of the same values.
    """
    for path, array in before.hierarchy.arrays.items():
        other = after.hierarchy.arrays.get(path)
        if other is None:
            return f"array {path!r} is gone"
        reason = _why_other_array(array, other, dimension) or _why_other_chunks(before, after, array, other)
        if reason is not None:
            return f"array {path!r} {reason}"
    return None


def _why_other_array(array: ArrayMetadata, other: ArrayMetadata, dimension: str) -> str | None:
    for what in _SAME:
        mine, theirs = getattr(array, what), getattr(other, what)
        if not (mine == theirs or (mine != mine and theirs != theirs)):  # noqa: PLR0124 - both NaN
            return f"has another {what.replace('_', ' ')}"
    for what in DECODING:
        if array.attributes.get(what) != other.attributes.get(what):
            return f"has another {what}"
    grows = (array.dimension_names or ())[:1] == (dimension,)
    if array.shape[grows:] != other.shape[grows:] or (grows and array.shape[0] > other.shape[0]):
        return "has another shape"
    return None


def _why_other_chunks(before: Index, after: Index, array: ArrayMetadata, other: ArrayMetadata) -> str | None:
    count = array.chunk_count
    mine = before.content.tables[array.path].in_c_order()
    theirs = after.content.tables[array.path].in_c_order()
    numbers = _numbers(before, after)
    stored = mine.granule < INLINED
    expected = mine.granule.copy()
    expected[stored] = numbers[mine.granule[stored]]
    same = expected == theirs.granule[:count]
    for one, another in ((mine.offset, theirs.offset), (mine.length, theirs.length)):
        same &= ~stored | (one == another[:count])
    if not same.all():
        chunk = np.unravel_index(int(np.flatnonzero(~same)[0]), array.chunk_grid)
        return f"has other chunks, {'.'.join(map(str, chunk))} is the first"
    if (mine.granule == INLINED).any() and not _same_values(before, after, array, other):
        return "has other values"
    return None


def _numbers(before: Index, after: Index) -> NDArray[np.uint32]:
    """The number in `after` of each granule of `before`; UNALLOCATED where it is not in the same state."""
    places = {url: number for number, url in enumerate(after.urls)}
    known, others = before.content.validators, after.content.validators
    numbers = np.full(before.granules, UNALLOCATED, np.uint32)
    for number, url in enumerate(before.urls):
        place = places.get(url)
        if place is not None and (None if known is None else known[number]) == (
            None if others is None else others[place]
        ):
            numbers[number] = place
    return numbers


def _same_values(before: Index, after: Index, array: ArrayMetadata, other: ArrayMetadata) -> bool:
    for chunk in itertools.product(*map(range, array.chunk_grid)):
        (mine,), (theirs,) = before.locate(array, [chunk]), after.locate(other, [chunk])
        if not isinstance(mine, Inlined):
            continue
        if not isinstance(theirs, Inlined):
            return False
        if mine.data == theirs.data:
            continue
        sizes = [
            min(size - number * step, step)
            for size, number, step in zip(array.shape, chunk, array.chunk_shape, strict=True)
        ]
        part: tuple[Any, ...] = (*(slice(0, size) for size in sizes), ...)
        one, another = decode(array, mine.data)[part], decode(other, theirs.data)[part]
        if not np.array_equal(one, another, equal_nan=array.dtype.kind in "fc"):
            return False
    return True
