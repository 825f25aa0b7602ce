"""Stacks the indexes of granules that share a grid along a new axis, or along the one that each has once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.archives.agreement import DECODING, other_meaning, require_no_gaps, require_same_encoding, some
from cubegate.archives.along import NewArray, growing, scalar_array, time_array
from cubegate.errors import InvalidReference
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.location import Inlined
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.references import ArrayReferences, ReferenceCollector
from cubegate.index.table import INLINED, UNALLOCATED, Rows, TextTable
from cubegate.store.decoder import decode


@dataclass(frozen=True)
class Layer:
    """One granule: its name, its index, and where it lies along the new axis.

    `along` has further values of this granule by name (dates as datetime64), each to become an array of
    the new axis.
    """

    name: str
    index: Index
    time: np.datetime64
    along: Mapping[str, Any] = field(default_factory=dict)


def stack_layers(
    layers: Sequence[Layer], *, dimension: str = "time", allow_gaps: Collection[str] = ()
) -> Index:
    """Return the index of all `layers`, sorted along `dimension`.

    Arrays of two dimensions or more, and those that have `dimension` with size 1 already, are stacked
    chunk by chunk, none of which is read. Coordinates must agree, and are kept once, as is all else that is
    the same everywhere; single numbers that differ get the new axis. The rest is `skipped`, with the reason.
    Validators are kept; checksums are not, and can be taken of the whole.

    Raises:
        InvalidReference: two layers lie at one place, their grids or the encoding of an array differ, or
            a layer lacks chunks that the one before and the one after it have, and `allow_gaps` does not
            name the array.
    """
    ordered = sorted(layers, key=lambda layer: layer.time)
    for one, other in itertools.pairwise(ordered):
        if one.time == other.time:
            raise InvalidReference(f"{one.name} and {other.name} are both of {one.time}.")
    if not ordered:
        raise InvalidReference("There is nothing to stack.")
    return _Stack(ordered, dimension, frozenset(allow_gaps)).index()


class _Stack:
    """What becomes of each array of the layers."""

    def __init__(self, layers: Sequence[Layer], dimension: str, allow_gaps: frozenset[str]) -> None:
        self._layers, self._dimension, self._allow_gaps = layers, dimension, allow_gaps
        self._collector = ReferenceCollector(base_url="", check_url=lambda _: None)
        self._arrays: dict[str, StoredArray] = {}
        self._skipped: dict[str, str] = {}

    def index(self) -> Index:
        first = self._layers[0].index
        everywhere = Counter(path for layer in self._layers for path in layer.index.hierarchy.arrays)
        # another grid is best seen by its coordinates
        for path, count in sorted(everywhere.items(), key=self._coordinates_first):
            if count < len(self._layers):
                lacking = [x.name for x in self._layers if path not in x.index.hierarchy.arrays]
                self._skipped[path] = f"Array {path!r} is not in {some(lacking)}, so it is not stacked."
            else:
                self._add(path, first.hierarchy.arrays[path])
        for path, reason in first.hierarchy.skipped.items():
            self._skipped.setdefault(path, reason)
        groups = {path.rpartition("/")[0] for path, array in self._arrays.items() if self._has_axis(array)}
        for group in sorted(groups | {""}):
            self._add_axis(f"{group}/" if group else "")
        attributes = [layer.index.content.groups for layer in self._layers]
        content = self._collector.content(
            groups={
                path: _common([each.get(path, {}) for each in attributes]) for path in first.content.groups
            },
            arrays=self._arrays,
            skipped=self._skipped,
        )
        return Index(replace(content, validators=self._validators(content.urls)))

    def _validators(self, urls: Iterable[str]) -> TextTable | None:
        """Take over what the granules were known by, where every layer says it."""
        known: dict[str, str] = {}
        for layer in self._layers:
            content = layer.index.content
            if content.validators is None:
                return None
            known |= zip(content.urls, content.validators, strict=True)
        return TextTable.of(known[url] for url in urls)

    def _coordinates_first(self, item: tuple[str, int]) -> tuple[bool, str]:
        array = self._layers[0].index.hierarchy.arrays.get(item[0])
        return array is None or array.dimension_names != (array.name,), item[0]

    def _add(self, path: str, array: ArrayMetadata) -> None:
        names = array.dimension_names
        if array.name == self._dimension and len(array.shape) <= 1:
            # the axis itself is made anew
            return
        if names is not None and self._dimension in names:
            self._extend(path, array)
        elif names == (array.name,):
            self._keep_coordinate(path)
        elif len(array.shape) > 1 and names is not None:
            self._stack(path, array)
        else:
            self._keep_or_spread(path, array)

    def _extend(self, path: str, array: ArrayMetadata) -> None:
        assert array.dimension_names is not None  # noqa: S101 - the caller looked
        if array.dimension_names[0] != self._dimension or array.shape[0] != 1 or array.chunk_shape[0] != 1:
            raise InvalidReference(
                f"Array {path!r} has {self._dimension!r} with size {array.shape} in chunks of "
                f"{array.chunk_shape}; only one place a granule, along the first axis, can be stacked."
            )
        require_same_encoding(path, self._arrays_of(path))
        document = {**array.document, "shape": [len(self._layers), *array.shape[1:]]}
        self._gather(path, array, document, array.dimension_names)

    def _stack(self, path: str, array: ArrayMetadata) -> None:
        require_same_encoding(path, self._arrays_of(path))
        document = {
            **array.document,
            "shape": [len(self._layers), *array.shape],
            "chunks": [1, *array.chunk_shape],
        }
        self._gather(path, array, document, (self._dimension, *(array.dimension_names or ())))

    def _gather(
        self, path: str, array: ArrayMetadata, document: Mapping[str, Any], names: Sequence[str]
    ) -> None:
        """Lay the chunks of all layers one behind the other."""
        stored = [layer.index.content.arrays[path] for layer in self._layers]
        attributes = {**_common([each.attributes for each in stored]), "_ARRAY_DIMENSIONS": list(names)}
        stacked = StoredArray(document, attributes, stored[0].fill_declared)
        references = self._collector.add_array(stacked.parse(path))
        count = array.chunk_count
        for number, layer in enumerate(self._layers):
            self._enter(references, number * count, layer, array)
        allocated = (references.granule != UNALLOCATED).reshape(len(self._layers), count)
        if path not in self._allow_gaps:
            require_no_gaps(path, allocated, [layer.name for layer in self._layers])
        self._arrays[path] = stacked

    def _enter(self, references: ArrayReferences, start: int, layer: Layer, array: ArrayMetadata) -> None:
        rows = layer.index.content.tables[array.path].in_c_order()
        if layer.index.granules == 1 and len(rows.granule) and not rows.granule.any():
            # as most have it
            place = slice(start, start + len(rows.granule))
            references.granule[place] = self._collector.granule(layer.index.urls[0])
            references.offset[place], references.length[place] = rows.offset, rows.length
            return
        stored = rows.granule < INLINED
        numbers = np.full(layer.index.granules, UNALLOCATED, np.uint32)
        for granule in np.unique(rows.granule[stored]).tolist():
            numbers[granule] = self._collector.granule(layer.index.urls[granule])
        self._write(references, start, rows, numbers)
        for chunk in np.flatnonzero(rows.granule == INLINED).tolist():
            data = layer.index.inlined(int(rows.offset[chunk]), int(rows.length[chunk]))
            self._collector.inline(references, start + chunk, data)

    @staticmethod
    def _write(references: ArrayReferences, start: int, rows: Rows, numbers: NDArray[np.uint32]) -> None:
        stored = np.flatnonzero(rows.granule < INLINED)
        references.granule[start + stored] = numbers[rows.granule[stored]]
        references.offset[start + stored] = rows.offset[stored]
        references.length[start + stored] = rows.length[stored]

    def _keep_coordinate(self, path: str) -> None:
        values = [self._values(layer, path) for layer in self._layers]
        for layer, each in zip(self._layers, values, strict=True):
            if not _equal(values[0], each):
                raise InvalidReference(f"The grid of {layer.name} differs from that of others in {path!r}.")
        if other := other_meaning(self._arrays_of(path), DECODING):
            raise InvalidReference(f"The grid of {other} differs from that of others in {path!r}.")
        self._keep(path)

    def _keep_or_spread(self, path: str, array: ArrayMetadata) -> None:
        values = [self._values(layer, path) for layer in self._layers]
        if self._is_grid_mapping(array) and (other := other_meaning(self._arrays_of(path))):
            raise InvalidReference(f"The CRS of {other} differs from that of others in {path!r}.")
        if other_meaning(self._arrays_of(path), DECODING):
            self._skipped[path] = f"Array {path!r} has other units or another scale from granule to granule."
        elif all(_equal(values[0], each) for each in values):
            self._keep(path)
        elif array.shape == () and array.dtype.kind in "biuf":
            attributes = _common([layer.index.content.arrays[path].attributes for layer in self._layers])
            self._add_new(path, scalar_array(np.stack(values), attributes, self._dimension))
        else:
            self._skipped[path] = f"Array {path!r} differs from granule to granule, and has no grid."

    def _arrays_of(self, path: str) -> list[tuple[str, ArrayMetadata]]:
        return [(layer.name, layer.index.hierarchy.arrays[path]) for layer in self._layers]

    def _is_grid_mapping(self, array: ArrayMetadata) -> bool:
        others = self._layers[0].index.hierarchy.arrays_in(array.group)
        named = (str(other.attributes.get("grid_mapping", "")) for other in others)
        return any(array.name in text.replace(":", " ").split() for text in named)

    def _keep(self, path: str) -> None:
        """Keep the array of the first layer, whose chunks are inlined."""
        layer = self._layers[0]
        stored = layer.index.content.arrays[path]
        array = layer.index.hierarchy.arrays[path]
        self._enter(self._collector.add_array(array), 0, layer, array)
        shared = _common([each.index.content.arrays[path].attributes for each in self._layers])
        self._arrays[path] = StoredArray(stored.document, shared, stored.fill_declared)

    def _values(self, layer: Layer, path: str) -> NDArray[Any]:
        """The values of a small array, all of whose chunks are inlined."""
        array = layer.index.hierarchy.arrays[path]
        values = np.empty(array.shape, array.dtype)
        fill = 0 if array.fill_value is None else array.fill_value
        for chunk in itertools.product(*map(range, array.chunk_grid)):
            (location,) = layer.index.locate(array, [chunk])
            sizes = zip(chunk, array.chunk_shape, strict=True)
            place: tuple[Any, ...] = tuple(
                slice(number * size, (number + 1) * size) for number, size in sizes
            )
            # the ellipsis keeps an array of an array without dimensions
            part = values[(*place, ...)]
            if isinstance(location, Inlined):
                inside: tuple[Any, ...] = tuple(slice(0, size) for size in part.shape)
                part[...] = decode(array, location.data)[inside]
            elif array.dtype.kind in "OSU":
                part[...] = ""
            else:
                part[...] = fill
        return values

    def _add_axis(self, prefix: str) -> None:
        times = np.array([layer.time for layer in self._layers], "M8[ns]")
        self._add_new(f"{prefix}{self._dimension}", time_array(times, self._dimension))
        if prefix:
            return
        for name in self._layers[0].along:
            values = np.array([layer.along[name] for layer in self._layers])
            made = (
                time_array(values.astype("M8[ns]"), self._dimension)
                if values.dtype.kind == "M"
                else scalar_array(values, {}, self._dimension)
            )
            self._add_new(name, made)

    def _add_new(self, path: str, made: NewArray) -> None:
        stored, chunks = growing(made)
        references = self._collector.add_array(stored.parse(path))
        for number, chunk in enumerate(chunks):
            self._collector.inline(references, number, chunk)
        self._arrays[path] = stored

    def _has_axis(self, stored: StoredArray) -> bool:
        return self._dimension in stored.attributes.get("_ARRAY_DIMENSIONS", ())


def _common(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of `mappings` say alike."""
    return {
        key: value
        for key, value in mappings[0].items()
        if all(key in each and each[key] == value for each in mappings)
    }


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
