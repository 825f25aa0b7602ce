"""Stacks the layers of HyP3 products: along pairs of dates, or along time where a product is of one date."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numcodecs import VLenUTF8

from cubegate.archives.along import growing, scalar_array, time_array
from cubegate.archives.cog_list import CogFile, Moment
from cubegate.archives.cog_stack import stack_files
from cubegate.archives.hyp3_parameters import LONG_NAMES, UNITS
from cubegate.archives.hyp3_products import LAYERS, Product, in_order
from cubegate.archives.merging import merge_indexes
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.references import ReferenceCollector

PAIR = "pair"
# what is told of each pair even where all say the same
_ALWAYS = ("perpendicular_baseline", "reference_granule", "secondary_granule")
_RESERVED = frozenset({PAIR, "time", "reference_time", "secondary_time", "product"})


def stack_products(
    products: Sequence[Product],
    indexes: Mapping[tuple[str, str], Index],
    *,
    allow_gaps: Collection[str],
) -> Index:
    """Return the index of one cube of `products`, which are of one kind.

    `indexes` are those of GeoTIFFs on one grid by the name of the product and of the layer; the array is
    called `band_data`. Pairs lie along `pair`, as `in_order` has them, with the coordinates `time` (that
    of the second acquisition), `reference_time` and `secondary_time`; others lie along `time`.
    What the products say of themselves alike is an attribute of the cube, and what differs an array.

    Raises:
        InvalidReference: the layers do not fit together.
    """
    ordered = in_order(products)
    moments = _places(ordered)
    files, parts = [], []
    for product, moment in zip(ordered, moments, strict=True):
        for layer in sorted(layer for name, layer in indexes if name == product.name.name):
            files.append(CogFile(f"{product.name.name}_{layer}", layer, Moment(moment)))
            parts.append(indexes[product.name.name, layer])
    stacked = stack_files(files, parts, allow_gaps=allow_gaps)
    alike, differing = _said(ordered)
    # a parameter may be called as a layer is
    taken = {path.rpartition("/")[2] for path in stacked.content.arrays} | _RESERVED
    differing = {f"parameter_{name}" if name in taken else name: each for name, each in differing.items()}
    axis = PAIR if ordered[0].name.is_pair else "time"
    columns = _columns(ordered, differing, axis)
    stack = _renamed(stacked, axis)
    groups = {path.rpartition("/")[0] for path in stack.content.arrays}
    added = _index_of(columns, groups, axis)
    merged = merge_indexes({"the layers": stack, "the parameter files": added})
    root = {**alike, **_described(ordered), **stack.content.groups.get("", {})}
    return Index(
        replace(
            merged.content,
            groups={**stack.content.groups, "": root},
            arrays={path: _told(path, stored, columns) for path, stored in merged.content.arrays.items()},
        )
    )


def _places(products: Sequence[Product]) -> list[np.datetime64]:
    """Return the time of each product; of several of one time all but one get the next seconds.

    They only tell the layers apart, and give them their order.
    """
    places: list[np.datetime64] = []
    for product in products:
        time = product.time.astype("M8[ns]")
        if product.name.is_pair and places and time <= places[-1]:
            time = places[-1] + np.timedelta64(1, "s")
        places.append(time)
    return places


def _renamed(index: Index, axis: str) -> Index:
    """Return `index` with `axis` for the dimension `time`, which has no coordinate any more."""
    if axis == "time":
        return index
    content = index.content
    kept = [path for path in content.arrays if path.rpartition("/")[2] != "time"]
    arrays = {}
    for path in kept:
        stored = content.arrays[path]
        names = [axis if name == "time" else name for name in stored.attributes["_ARRAY_DIMENSIONS"]]
        attributes = {**stored.attributes, "_ARRAY_DIMENSIONS": names}
        arrays[path] = StoredArray(stored.document, attributes, stored.fill_declared)
    tables = {path: content.tables[path] for path in kept}
    return Index(replace(content, arrays=arrays, tables=tables))


def _said(products: Sequence[Product]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return what all products say alike, and the other values, by product."""
    every = [{**product.name.traits, **product.said} for product in products]
    names = sorted({name for said in every for name in said})
    alike: dict[str, Any] = {}
    differing: dict[str, list[Any]] = {}
    for name in names:
        values = [said.get(name) for said in every]
        if name not in _ALWAYS and all(value == values[0] for value in values):
            alike[name] = values[0]
        elif any(isinstance(value, str) for value in values):
            differing[name] = [_as_text(value) for value in values]
        else:
            differing[name] = [np.nan if value is None else value for value in values]
    return alike, differing


def _as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def _columns(
    products: Sequence[Product], differing: Mapping[str, Sequence[Any]], axis: str
) -> dict[str, tuple[StoredArray, list[bytes]]]:
    columns = {}
    for name, each in differing.items():
        said = {"long_name": LONG_NAMES.get(name, name.replace("_", " "))}
        columns[name] = _column(each, said, axis, UNITS.get(name))
    columns["product"] = _column([each.name.name for each in products], {"long_name": "HyP3 product"}, axis)
    if axis == "time":
        return columns
    second = np.array([each.time for each in products], "M8[ns]")
    first = np.array([each.reference for each in products], "M8[ns]")
    latter = "second acquisition of the pair"
    times = {
        "time": (second, {"standard_name": "time", "axis": "T", "long_name": latter}),
        "secondary_time": (second, {"long_name": latter}),
        "reference_time": (first, {"long_name": "first acquisition of the pair"}),
    }
    for name, (values, attributes) in times.items():
        stored, chunks = growing(time_array(values, axis))
        columns[name] = StoredArray(stored.document, {**attributes, **stored.attributes}), chunks
    # of dates, as baselines are counted: the hours of a pair differ by seconds
    days = (second.astype("M8[D]") - first.astype("M8[D]")).astype("i4").tolist()
    said = {"long_name": LONG_NAMES["temporal_baseline"]}
    columns["temporal_baseline"] = _column(days, said, axis, UNITS["temporal_baseline"])
    columns[axis] = _column(list(range(len(products))), {"long_name": "number of the pair, by time"}, axis)
    return columns


def _column(
    values: Sequence[Any], attributes: Mapping[str, Any], axis: str, units: str | None = None
) -> tuple[StoredArray, list[bytes]]:
    said = dict(attributes) if units is None else {**attributes, "units": units}
    if isinstance(values[0], str):
        # texts along the axis are one chunk
        texts = np.array(values, object)
        document = {
            "zarr_format": 2,
            "shape": [len(values)],
            "chunks": [len(values)],
            "dtype": "|O",
            "compressor": None,
            "filters": [{"id": "vlen-utf8"}],
            "fill_value": "",
            "order": "C",
        }
        stored = StoredArray(document, {**said, "_ARRAY_DIMENSIONS": [axis]})
        return stored, [bytes(VLenUTF8().encode(texts))]
    kind = "<i4" if isinstance(values[0], int) else "<f8"
    return growing(scalar_array(np.array(values, kind), said, axis))


def _index_of(
    columns: Mapping[str, tuple[StoredArray, list[bytes]]], groups: Collection[str], axis: str
) -> Index:
    """Return the index of `columns` in the root, and in other groups of those that place a layer in time."""
    collector = ReferenceCollector(base_url="", check_url=lambda _: None)
    arrays = {}
    for group in sorted(groups):
        for name, (stored, chunks) in columns.items():
            if group and (axis == "time" or name not in {PAIR, "time", "reference_time", "secondary_time"}):
                continue
            path = f"{group}/{name}" if group else name
            references = collector.add_array(stored.parse(path))
            for number, chunk in enumerate(chunks):
                collector.inline(references, number, chunk)
            arrays[path] = stored
    return collector.index(groups={"": {}}, arrays=arrays, skipped={})


def _told(path: str, stored: StoredArray, columns: Collection[str]) -> StoredArray:
    """Return a layer with its name, its units, and the coordinates of its axis."""
    layer = path.rpartition("/")[2]
    names = stored.attributes.get("_ARRAY_DIMENSIONS", [])
    if layer in columns or "y" not in names or "x" not in names:
        return stored
    attributes = dict(stored.attributes)
    if layer in LAYERS:
        long_name, units = LAYERS[layer]
        attributes = {"long_name": long_name, "units": units, **attributes}
    if PAIR in names:
        attributes["coordinates"] = "time reference_time secondary_time"
    return StoredArray(stored.document, attributes, stored.fill_declared)


def _described(products: Sequence[Product]) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.8",
        "institution": "Alaska Satellite Facility",
        "source": f"HyP3, {products[0].name.alike}",
    }
