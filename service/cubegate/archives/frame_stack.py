"""Gives ASF's stack of a frame's references the time axis that it lacks.

It concatenates granules on `source_file_name`, a text for each; `secondary_datetime` has their dates, and the
names of the granules that the chunks are in have them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.archives.along import growing, scalar_array, time_array
from cubegate.archives.merging import merge_indexes
from cubegate.archives.opera import product_named_in
from cubegate.errors import InvalidReference
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.location import Inlined
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.references import ReferenceCollector
from cubegate.index.table import INLINED, Rows, TextTable, table_in_c_order
from cubegate.query.nanoseconds import in_unit, moments
from cubegate.store.decoder import decode

STACKED = "source_file_name"
TIME = "time"
_DATES = {TIME: "secondary_datetime", "reference_time": "reference_datetime"}


def with_time_axis(index: Index) -> Index:
    """Return `index` with `time` in place of `source_file_name`, in the order of the dates.

    `time` is `secondary_datetime` and `reference_time` is `reference_datetime`; where the stack has them not,
    the names of the granules tell. What has one text or number a granule is put into the same order; text
    of changing length is kept where the order is right already, and left out with the reason elsewhere.

    Raises:
        InvalidReference: nothing is stacked on `source_file_name`, the dates are unknown or not different
            from each other, or a chunk holds several dates that are not in order.
    """
    arrays = index.hierarchy.arrays
    stacked = [array for array in arrays.values() if STACKED in (array.dimension_names or ())]
    sizes = {array.shape[array.dimension_names.index(STACKED)] for array in stacked if array.dimension_names}
    if len(sizes) != 1:
        raise InvalidReference(f"The references are no stack of granules along {STACKED!r}.")
    dates = {name: _dates(index, stacked, name, *sizes) for name in _DATES}
    order = np.argsort(dates[TIME], kind="stable")
    ordered = dates[TIME][order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise InvalidReference(f"Two granules of the stack are both of {ordered[int(twice[0])]}.")
    moved = _Moved(index, order)
    for array in arrays.values():
        moved.take(array)
    return moved.index({name: values[order] for name, values in dates.items()})


class _Moved:
    """The arrays of a stack in the order of time; what is small is held anew."""

    def __init__(self, index: Index, order: NDArray[np.intp]) -> None:
        self._index, self._order = index, order
        self._sorted = bool((np.diff(order) > 0).all())
        self._content = index.content
        self._arrays: dict[str, StoredArray] = {}
        self._tables: dict[str, Any] = {}
        self._skipped = dict(index.content.skipped)
        self._small = ReferenceCollector(base_url="", check_url=lambda _: None)
        self._new: dict[str, StoredArray] = {}

    def take(self, array: ArrayMetadata) -> None:
        """Take over one array, renamed and in order."""
        path, names = array.path, array.dimension_names or ()
        stored = self._content.arrays[path]
        if path in _DATES:
            # they are made anew
            return
        if STACKED not in names:
            self._arrays[path], self._tables[path] = stored, self._content.tables[path]
        elif names[0] != STACKED:
            raise InvalidReference(f"Array {path!r} has {STACKED!r} in another place than the first.")
        elif len(names) == 1 and array.dtype.kind != "O" and self._is_held(path):
            self._hold(array, stored)
        else:
            self._rearrange(array, stored)

    def index(self, dates: Mapping[str, NDArray[np.datetime64]]) -> Index:
        """Return the whole, with `dates` as arrays of the axis."""
        for name, values in dates.items():
            self._add(name, *growing(time_array(values, TIME)))
        kept = replace(self._content, arrays=self._arrays, tables=self._tables, skipped=self._skipped)
        groups = {path: dict(attributes) for path, attributes in self._content.groups.items()}
        dated = self._small.content(groups={"": {}}, arrays=self._new, skipped={})
        if kept.validators is not None:
            dated = replace(dated, validators=TextTable.of([]))
        merged = merge_indexes({"the stack": Index(kept), "its dates": Index(dated)}).content
        assumed = self._content.assumed_fill
        return Index(replace(merged, groups={**merged.groups, **groups}, assumed_fill=assumed))

    def _is_held(self, path: str) -> bool:
        return bool((self._content.tables[path].granule.all() == INLINED).all())

    def _hold(self, array: ArrayMetadata, stored: StoredArray) -> None:
        values = _values(self._index, array)[self._order]
        attributes = {key: value for key, value in stored.attributes.items() if key != "_ARRAY_DIMENSIONS"}
        new, chunks = growing(scalar_array(values, attributes, TIME))
        fill = stored.document.get("fill_value")
        if new.document.get("fill_value") is None and fill is not None:
            new = StoredArray({**new.document, "fill_value": fill}, new.attributes, stored.fill_declared)
        self._add(array.path, new, chunks)

    def _add(self, path: str, stored: StoredArray, chunks: list[bytes]) -> None:
        references = self._small.add_array(stored.parse(path))
        for number, chunk in enumerate(chunks):
            self._small.inline(references, number, chunk)
        self._new[path] = stored

    def _rearrange(self, array: ArrayMetadata, stored: StoredArray) -> None:
        """Put the chunks into order, one or more of which make a date."""
        if not self._sorted and array.chunk_shape[0] != 1:
            if len(array.shape) > 1:
                raise InvalidReference(
                    f"Array {array.path!r} has several dates in a chunk, and they are not in order."
                )
            self._skipped[array.path] = f"Array {array.path!r} cannot be put into the order of time."
            return
        names = [TIME, *(array.dimension_names or ())[1:]]
        moved = StoredArray(
            stored.document, {**stored.attributes, "_ARRAY_DIMENSIONS": names}, stored.fill_declared
        )
        rows = self._content.tables[array.path].in_c_order()
        if not self._sorted:
            rows = Rows(
                *(self._in_order(column, array) for column in (rows.granule, rows.offset, rows.length))
            )
        self._arrays[array.path] = moved
        self._tables[array.path] = table_in_c_order(moved.parse(array.path), rows)

    def _in_order(self, column: NDArray[Any], array: ArrayMetadata) -> NDArray[Any]:
        return column.reshape(array.chunk_grid)[self._order].reshape(-1)


def _dates(index: Index, stacked: list[ArrayMetadata], name: str, count: int) -> NDArray[np.datetime64]:
    """Return the dates, datetime64[ns] of shape (count,), that become the array `name`."""
    array = index.hierarchy.arrays.get(_DATES[name])
    if array is not None and array.dimension_names == (STACKED,):
        dates = _decoded(_values(index, array), index.content.arrays[array.path].attributes)
        if dates is not None and not np.isnat(dates).any():
            return dates
    return _dates_in_names(index, stacked, name, count)


def _decoded(values: NDArray[Any], attributes: Mapping[str, Any]) -> NDArray[np.datetime64] | None:
    """Read dates as CF encodes them, or as text; None where they are neither."""
    # 0.3 s of import, for those alone who build
    from xarray.coding.times import decode_cf_datetime  # noqa: PLC0415

    try:
        if values.dtype.kind in "SUO":
            texts = [text.decode() if isinstance(text, bytes) else str(text) for text in values.tolist()]
            return moments([text.rstrip("Z\0 ") for text in texts])
        if values.dtype.kind == "M":
            return in_unit(values, "M8[ns]")
        if "units" not in attributes:
            return None
        found = decode_cf_datetime(
            values, str(attributes["units"]), str(attributes.get("calendar", "standard"))
        )
        found = np.asarray(found)
        return in_unit(found, "M8[ns]") if found.dtype.kind == "M" else found.astype("M8[ns]")
    except (ValueError, TypeError, OverflowError, UnicodeDecodeError):
        return None


def _dates_in_names(
    index: Index, stacked: list[ArrayMetadata], name: str, count: int
) -> NDArray[np.datetime64]:
    array = max(stacked, key=lambda each: (len(each.shape), each.chunk_count))
    rows = index.content.tables[array.path].in_c_order()
    if array.chunk_grid[0] != count:
        raise InvalidReference(f"The stack has no {_DATES[name]!r}, and chunks of several granules.")
    dates = np.full(count, "NaT", "M8[ns]")
    for number, granules in enumerate(rows.granule.reshape(count, -1)):
        urls = [index.urls[granule] for granule in np.unique(granules[granules < INLINED])]
        product = product_named_in(urls[0]) if len(urls) == 1 else None
        if product is None:
            raise InvalidReference(
                f"The stack has no {_DATES[name]!r}, and granule {number} of it is not named by its dates."
            )
        dates[number] = product.secondary if name == TIME else product.reference
    return dates


def _values(index: Index, array: ArrayMetadata) -> NDArray[Any]:
    """The values of an array of one dimension whose chunks the index holds."""
    values = np.empty(array.shape, array.dtype)
    (step,) = array.chunk_shape
    for number, location in enumerate(index.locate(array, [(n,) for n in range(array.chunk_count)])):
        part = values[number * step : (number + 1) * step]
        if isinstance(location, Inlined):
            part[...] = decode(array, location.data)[(slice(0, len(part)),)]
        else:
            raise InvalidReference(f"Array {array.path!r} of the stack is too large, or lacks values.")
    return values
