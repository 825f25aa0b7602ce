"""Stacks GeoTIFFs of one grid: a variable is an array, and files of different times are along time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cubegate.archives.along import NewArray, time_array
from cubegate.archives.cog_list import CogFile
from cubegate.archives.merging import merge_indexes, renamed, with_unwritten
from cubegate.archives.stacking import Layer, stack_layers
from cubegate.chunks.address import shown
from cubegate.errors import InvalidReference
from cubegate.index.builders.geotiff import BAND_DATA, multiscales
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.references import ReferenceCollector

_GRID = ("y", "x", "band", "spatial_ref")
_SHOWN = 3
_RESERVED = frozenset({*_GRID, "time", "time_bounds"})


def stack_files(
    files: Sequence[CogFile], indexes: Sequence[Index], *, allow_gaps: Collection[str] = ()
) -> Index:
    """Return the index of one cube of `files`, whose own `indexes` are in the same order.

    Files of one time are one step of `time`; those of none have arrays without it. Where all times are whole
    years, `time_bounds` says so. Overviews that all files have are stacked too; the others are `skipped`.
    Tiles that a file never wrote are nodata.

    Raises:
        InvalidReference: two files are of one variable and time, their grids or encodings differ, or
            a variable lacks a time that others have, and `allow_gaps` does not name it.
    """
    _check_names(files)
    _check_grids(files, indexes)
    named = [renamed(index, BAND_DATA, file.variable) for file, index in zip(files, indexes, strict=True)]
    named = _with_common_overviews(named)
    static: dict[str, Index] = {}
    times: defaultdict[np.datetime64, dict[str, Index]] = defaultdict(dict)
    for file, index in zip(files, named, strict=True):
        if file.moment is None:
            static[file.url] = index
        else:
            times[file.moment.time][file.url] = index
    parts = dict(static)
    if times:
        parts["the stack"] = _stacked(files, times, frozenset(allow_gaps))
    merged = merge_indexes(parts)
    said = {path: reason for index in named for path, reason in index.content.skipped.items()}
    lacking = {path: reason for path, reason in said.items() if path not in merged.content.arrays}
    return Index(replace(merged.content, skipped={**merged.content.skipped, **lacking}))


def _stacked(
    files: Sequence[CogFile], times: Mapping[np.datetime64, Mapping[str, Index]], allow_gaps: frozenset[str]
) -> Index:
    layers = [
        Layer(f"{np.datetime_as_string(time, 'D')}", merge_indexes(indexes), time)
        for time, indexes in sorted(times.items())
    ]
    layers = _filled(layers, allow_gaps)
    # a TIFF says itself which tiles were never written: nothing was lost
    every = {path for layer in layers for path in layer.index.content.arrays}
    stacked = stack_layers(layers, allow_gaps=every)
    moments = {file.moment.time: file.moment for file in files if file.moment is not None}
    bounds = [moments[layer.time].bounds for layer in layers]
    found = [each for each in bounds if each is not None]
    return _with_bounds(stacked, found) if len(found) == len(bounds) else stacked


def _filled(layers: Sequence[Layer], allow_gaps: frozenset[str]) -> list[Layer]:
    """Return the layers with an array of nodata for each variable that one lacks and that may be lacking."""
    known: dict[str, StoredArray] = {}
    for layer in layers:
        known = {**layer.index.content.arrays, **known}
    filled = []
    for layer in layers:
        index = layer.index
        for path in sorted(known.keys() - index.content.arrays.keys()):
            variable = path.rpartition("/")[2]
            if variable not in allow_gaps:
                raise InvalidReference(
                    f"There is no file of {variable!r} for {layer.name}, and there is for other times. Allow "
                    "gaps of it by name where there never was one."
                )
            index = with_unwritten(index, path, known[path])
        filled.append(replace(layer, index=index))
    return filled


def _check_names(files: Sequence[CogFile]) -> None:
    if not files:
        raise InvalidReference("There is nothing to stack.")
    seen: defaultdict[str, dict[Any, CogFile]] = defaultdict(dict)
    for file in files:
        if file.variable in _RESERVED:
            raise InvalidReference(f"A variable cannot be called {file.variable!r}: that describes the grid.")
        time = None if file.moment is None else file.moment.time
        others = seen[file.variable]
        # an array of no time has no place beside one of the same name that has times
        first = next(iter(others.values()), None) if time is None else None
        other = others.get(time) or others.get(None) or first
        if other is not None:
            both = f"{shown(file.url)} and {shown(other.url)}"
            raise InvalidReference(f"{both} are both of {file.variable!r}, and of one time or none.")
        others[time] = file


def _check_grids(files: Sequence[CogFile], indexes: Sequence[Index]) -> None:
    """Compare the grid of each file with that of the first."""
    first = {path: _signature(indexes[0], path) for path in ("y", "x", "spatial_ref")}
    other = [
        f"{shown(file.url)} ({', '.join(differing)})"
        for file, index in zip(files, indexes, strict=True)
        if (differing := [path for path, signature in first.items() if _signature(index, path) != signature])
    ]
    if other:
        said = ", ".join(other[:_SHOWN]) + (f" and {len(other) - _SHOWN:,} more" if other[_SHOWN:] else "")
        raise InvalidReference(
            f"Files are not on the grid of {shown(files[0].url)}: {said}. Bring them onto it (gdalwarp), or "
            "make a cube of each grid."
        )


def _signature(index: Index, path: str) -> Any:
    """Return what must be equal: the values of a coordinate, and what it says of them."""
    if path not in index.content.arrays:
        return None
    (offset,), (length,) = (
        table.all() for table in (index.content.tables[path].offset, index.content.tables[path].length)
    )
    return index.content.arrays[path], index.inlined(int(offset), int(length))


def _with_common_overviews(indexes: Sequence[Index]) -> list[Index]:
    """Return the indexes with those overviews only that all have, on one grid."""
    groups = [{path for path in index.hierarchy.groups if path} for index in indexes]
    common = {
        group
        for group in set.intersection(*groups)
        if all(
            _signature(index, f"{group}/{name}") == _signature(indexes[0], f"{group}/{name}")
            for index in indexes
            for name in ("y", "x")
        )
    }
    return [_keep_overviews(index, common) for index in indexes]


def _keep_overviews(index: Index, common: Collection[str]) -> Index:
    dropped = [path for path in index.content.arrays if _is_in_other_group(path, common)]
    content = index.without(dict.fromkeys(dropped, "not all files have this overview")).content
    # of an overview that is dropped, its data say it all
    unsaid = {path for path in dropped if path.rpartition("/")[2] in _GRID}
    skipped = {path: reason for path, reason in content.skipped.items() if path not in unsaid}
    arrays = index.hierarchy.arrays
    sizes = {
        group: (arrays[f"{prefix}y"].shape[0], arrays[f"{prefix}x"].shape[0])
        for group in ("", *sorted(common))
        for prefix in [f"{group}/" if group else ""]
    }
    groups: dict[str, Mapping[str, Any]] = {group: {} for group in ("", *sorted(common))}
    if common:
        groups[""] = multiscales(sizes)
    return Index(replace(content, groups=groups, skipped=skipped))


def _is_in_other_group(path: str, groups: Collection[str]) -> bool:
    group = path.rpartition("/")[0]
    return bool(group) and group not in groups


def _with_bounds(index: Index, bounds: Sequence[tuple[np.datetime64, np.datetime64]]) -> Index:
    """Return `index` with `time_bounds`, of shape (time, 2), as CF has them."""
    made = _bounds_array(np.array(bounds, "M8[ns]"))
    collector = ReferenceCollector(base_url="", check_url=lambda _: None)
    collector.inline(collector.add_array(made.stored.parse("time_bounds")), 0, made.data)
    added = collector.index(groups={"": {}}, arrays={"time_bounds": made.stored}, skipped={})
    content = index.content
    time = content.arrays["time"]
    said = StoredArray(time.document, {**time.attributes, "bounds": "time_bounds"}, time.fill_declared)
    told = Index(replace(content, arrays={**content.arrays, "time": said}))
    attributes = content.groups.get("", {})
    merged = merge_indexes({"the stack": told, "its bounds": added})
    return Index(replace(merged.content, groups={**merged.content.groups, "": attributes}))


def _bounds_array(bounds: np.ndarray[Any, np.dtype[np.datetime64]]) -> NewArray:
    flat = time_array(bounds.reshape(-1), "time")
    document = {**flat.stored.document, "shape": list(bounds.shape), "chunks": list(bounds.shape)}
    attributes = {**flat.stored.attributes, "_ARRAY_DIMENSIONS": ["time", "bounds"]}
    return NewArray(StoredArray(document, attributes), flat.data)
