"""Joins the indexes of files along a dimension that they have, each with one place or more of it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.archives.along import growing, scalar_array
from cubegate.archives.file_differences import is_axis, same
from cubegate.archives.piece import Piece
from cubegate.errors import InvalidReference
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.references import ArrayReferences, ReferenceCollector
from cubegate.index.table import INLINED, UNALLOCATED, TextTable


@dataclass(frozen=True)
class Joint:
    """A piece, and its places along the dimension as numbers in the units of all."""

    piece: Piece
    places: NDArray[Any]


def join_pieces(
    joints: Sequence[Joint], dimension: str, allow_gaps: Collection[str] = (), *, model: Piece | None = None
) -> Index:
    """Return the index of all `joints`, in the order that they have, which fit together otherwise.

    The places are in the units of the piece `model`, by default the first.

    Chunks of arrays that have `dimension` are laid one behind the other, and none of them is read; where
    the boundaries of chunks do not allow it, arrays that were read are copied. What has no such dimension
    is kept once where it was read and is the same in all, and `skipped` with the reason where not.

    Raises:
        InvalidReference: chunks do not meet the boundaries of files, or a file lacks chunks that those
            before and after it have, and `allow_gaps` does not name the array.
    """
    return _Join(joints, dimension, frozenset(allow_gaps), model or joints[0].piece).index()


class _Join:
    """What becomes of each array of the pieces."""

    def __init__(
        self, joints: Sequence[Joint], dimension: str, allow_gaps: frozenset[str], model: Piece
    ) -> None:
        self._model = model
        self._pieces = [joint.piece for joint in joints]
        self._places = [joint.places for joint in joints]
        self._dimension, self._allow_gaps = dimension, allow_gaps
        self._collector = ReferenceCollector(base_url="", check_url=lambda _: None)
        self._arrays: dict[str, StoredArray] = {}
        self._skipped: dict[str, str] = {}

    def index(self) -> Index:
        first = self._pieces[0].index
        for path, array in first.hierarchy.arrays.items():
            names = array.dimension_names or ()
            if is_axis(array, self._dimension):
                self._add_axis(path)
            elif self._dimension in names:
                self._extend(path, array, names.index(self._dimension))
            else:
                self._keep(path)
        for piece in self._pieces:
            for path in piece.index.hierarchy.arrays:
                if path not in self._arrays:
                    self._skipped.setdefault(path, f"Array {path!r} is not in {self._pieces[0].name}.")
            for path, reason in piece.index.hierarchy.skipped.items():
                self._skipped.setdefault(path, reason)
        groups = {
            path: _common([each.index.content.groups.get(path, {}) for each in self._pieces])
            for path in first.content.groups
        }
        index = self._collector.index(groups=groups, arrays=self._arrays, skipped=self._skipped)
        return self._with_validators(index)

    def _with_validators(self, index: Index) -> Index:
        known: dict[str, str] = {}
        for piece in self._pieces:
            content = piece.index.content
            if content.validators is None:
                return index
            known |= zip(content.urls, content.validators, strict=True)
        return Index(replace(index.content, validators=TextTable.of(known[url] for url in index.urls)))

    def _add_axis(self, path: str) -> None:
        values = np.concatenate(self._places)
        attributes = dict(self._model.index.content.arrays[path].attributes)
        attributes.pop("_FillValue", None)
        stored, chunks = growing(scalar_array(values, attributes, self._dimension))
        references = self._collector.add_array(stored.parse(path))
        for number, chunk in enumerate(chunks):
            self._collector.inline(references, number, chunk)
        self._arrays[path] = stored

    def _extend(self, path: str, array: ArrayMetadata, axis: int) -> None:
        sizes = [_of(piece, path).shape[axis] for piece in self._pieces]
        chunk = array.chunk_shape[axis]
        alike = all(_of(piece, path).chunk_shape == array.chunk_shape for piece in self._pieces)
        if alike and not any(size % chunk for size in sizes[:-1]) and not self._is_copied(path, array):
            self._gather(path, array, axis, sizes)
        elif all(path in piece.values for piece in self._pieces):
            self._copy(path, axis)
        else:
            off = [p.name for p, size in zip(self._pieces, sizes, strict=True) if size % chunk]
            raise InvalidReference(
                f"Array {path!r} cannot be joined along {self._dimension!r}: it is stored in chunks of "
                f"{chunk:,} places, and they do not end where the files end "
                f"({', '.join(off[:3]) or 'other chunks'}). "
                "cubegate rechunk makes a copy of such files that can be."
            )

    def _is_copied(self, path: str, array: ArrayMetadata) -> bool:
        """Whether all of a small array is in the indexes already."""
        return len(array.shape) == 1 and all(path in piece.values for piece in self._pieces)

    def _gather(self, path: str, array: ArrayMetadata, axis: int, sizes: Sequence[int]) -> None:
        shape = [*array.shape]
        shape[axis] = sum(sizes)
        stored = self._documents(path, {**array.document, "shape": shape})
        joined = stored.parse(path)
        references = self._collector.add_array(joined)
        start = 0
        for piece in self._pieces:
            stop = start + _of(piece, path).chunk_grid[axis]
            part: tuple[slice, ...] = (slice(None),) * axis + (slice(start, stop),)
            self._enter(references, joined.chunk_grid, part, piece, path)
            start = stop
        if path not in self._allow_gaps:
            self._require_no_gaps(path, references, joined.chunk_grid, axis)
        self._arrays[path] = stored

    def _enter(
        self,
        references: ArrayReferences,
        grid: tuple[int, ...],
        part: tuple[slice, ...],
        piece: Piece,
        path: str,
    ) -> None:
        rows = piece.index.content.tables[path].in_c_order()
        stored = rows.granule < INLINED
        numbers = np.full(piece.index.granules, UNALLOCATED, np.uint32)
        for granule in np.unique(rows.granule[stored]).tolist():
            numbers[granule] = self._collector.granule(piece.index.urls[granule])
        granule = rows.granule.copy()
        granule[stored] = numbers[rows.granule[stored]]
        inner = _of(piece, path).chunk_grid
        places = np.arange(references.granule.size).reshape(grid)[part].reshape(-1)
        kept = granule != INLINED
        references.granule[places[kept]] = granule[kept]
        references.offset[places[kept]] = rows.offset[kept]
        references.length[places[kept]] = rows.length[kept]
        assert len(places) == np.prod(inner, dtype=int)  # noqa: S101 - the caller compared the grids
        for row in np.flatnonzero(~kept).tolist():
            data = piece.index.inlined(int(rows.offset[row]), int(rows.length[row]))
            self._collector.inline(references, int(places[row]), data)

    def _require_no_gaps(
        self, path: str, references: ArrayReferences, grid: tuple[int, ...], axis: int
    ) -> None:
        allocated = np.moveaxis((references.granule != UNALLOCATED).reshape(grid), axis, 0)
        if len(allocated) < 2:
            return
        before = np.concatenate([allocated[1:2], allocated[:-1]])
        after = np.concatenate([allocated[1:], allocated[-2:-1]])
        missing = np.flatnonzero((~allocated & before & after).reshape(len(allocated), -1).any(axis=1))
        if len(missing):
            ends = np.cumsum([_of(piece, path).chunk_grid[axis] for piece in self._pieces])
            name = self._pieces[int(np.searchsorted(ends, missing[0], side="right"))].name
            raise InvalidReference(
                f"Array {path!r} lacks chunks that the files beside have, in {name} first. Allow it by name "
                "(--allow-gaps) where they were never written."
            )

    def _copy(self, path: str, axis: int) -> None:
        values = np.concatenate([piece.values[path] for piece in self._pieces], axis=axis)
        self._inline_values(path, values)

    def _inline_values(self, path: str, values: NDArray[Any]) -> None:
        document = dict(_of(self._pieces[0], path).document)
        document |= {"shape": list(values.shape), "chunks": [max(size, 1) for size in values.shape]}
        if values.dtype.hasobject:
            from numcodecs import VLenUTF8  # noqa: PLC0415 - with the strings alone

            document |= {"filters": [{"id": "vlen-utf8"}], "compressor": None}
            data = bytes(VLenUTF8().encode(values.reshape(-1)))
        else:
            document |= {"filters": None, "compressor": None}
            data = np.ascontiguousarray(values).tobytes()
        stored = self._documents(path, {**document, "order": "C"})
        references = self._collector.add_array(stored.parse(path))
        if values.size:
            self._collector.inline(references, 0, data)
        self._arrays[path] = stored

    def _keep(self, path: str) -> None:
        values = [piece.values.get(path) for piece in self._pieces]
        if values[0] is None:
            self._skipped[path] = (
                f"Array {path!r} has no {self._dimension!r} and is too large to be compared between files."
            )
        elif all(each is not None and same(values[0], each) for each in values):
            self._inline_values(path, values[0])
        else:
            other = next(
                piece.name
                for piece, each in zip(self._pieces, values, strict=True)
                if each is None or not same(values[0], each)
            )
            self._skipped[path] = (
                f"Array {path!r} has no {self._dimension!r}, and other values in {other} than in "
                f"{self._pieces[0].name}."
            )

    def _documents(self, path: str, document: Mapping[str, Any]) -> StoredArray:
        every = [piece.index.content.arrays[path] for piece in self._pieces]
        return StoredArray(document, _common([each.attributes for each in every]), every[0].fill_declared)


def _of(piece: Piece, path: str) -> ArrayMetadata:
    return piece.index.hierarchy.arrays[path]


def _common(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = mappings
    return {
        key: value
        for key, value in first.items()
        if all(key in each and repr(each[key]) == repr(value) for each in others)
    }


def overlaps(joints: Sequence[Joint]) -> dict[str, str]:
    """Return the names of joints with a place that one before them has too, and where."""
    found: dict[str, str] = {}
    seen: dict[Any, str] = {}
    for joint in joints:
        for place in joint.places.tolist():
            if place in seen and joint.piece.name not in found:
                found[joint.piece.name] = f"has the place {place} that {seen[place]} has too"
        if joint.piece.name not in found:
            seen |= dict.fromkeys(joint.places.tolist(), joint.piece.name)
    return found


def unsorted(joints: Sequence[Joint]) -> list[str]:
    """Return a sentence for each place where the order along the dimension is broken."""
    found = [
        f"{joint.piece.name} has its places in another order than ascending"
        for joint in joints
        if (np.diff(joint.places) < 0).any()
    ]
    for one, other in itertools.pairwise(joints):
        if one.places.max() > other.places.min():
            found.append(f"{other.piece.name} begins before {one.piece.name} ends")
    return found
