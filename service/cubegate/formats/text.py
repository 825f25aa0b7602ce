"""Cells as text: the shortest digits that give back the same value of the same type."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cubegate.formats.fields import Field
from cubegate.formats.times import iso_times

# A quoted empty text is not a missing one; readers that strip comments look for a bare `#`.
_NEEDS_QUOTES = r'^$|^\s|\s$|[",#\r\n]'


def csv_cells(field: Field, values: NDArray[Any]) -> pa.StringArray:
    """Write the cells of a flat array as CSV fields; null is missing."""
    texts = _texts(field, values)
    if values.dtype.kind != "O" or field.is_time:
        return texts
    return csv_quoted(texts)


def csv_quoted(texts: pa.StringArray) -> pa.StringArray:
    """Quote the texts that need it, as RFC 4180 says."""
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(texts, _NEEDS_QUOTES), quoted, texts)


def json_cells(field: Field, values: NDArray[Any]) -> pa.StringArray:
    """Write the cells of a flat array as JSON values; missing and infinite ones are `null`."""
    kind = values.dtype.kind
    if kind in "OM":
        cells = _texts(field, values).to_pylist()
        texts = pa.array([None if cell is None else json.dumps(cell) for cell in cells], pa.string())
    else:
        texts = _texts(field, values)
        if kind == "f":
            texts = pc.if_else(pa.array(np.isfinite(values)), texts, None)
    return pc.fill_null(texts, "null")


def nested_json(texts: pa.StringArray, shape: tuple[int, ...]) -> str:
    """Join the cells of an array of `shape` to nested JSON lists; a scalar stays bare."""
    cells: list[str] = texts.to_pylist()
    for axis in reversed(range(len(shape))):
        size, count = shape[axis], int(np.prod(shape[:axis]))
        cells = [f"[{','.join(cells[index * size : (index + 1) * size])}]" for index in range(count)]
    return cells[0]


def _texts(field: Field, values: NDArray[Any]) -> pa.StringArray:
    kind = values.dtype.kind
    if kind == "M" or (kind == "O" and field.is_time):
        return pa.array(iso_times(values), pa.string())
    missing = field.missing(values)
    if kind == "O":
        return pa.array(values, pa.string(), mask=missing)
    if kind == "f":
        return _float_texts(values, missing)
    return pa.array(values, mask=missing).cast(pa.string())


def _float_texts(values: NDArray[Any], missing: NDArray[np.bool_]) -> pa.StringArray:
    if values.dtype.itemsize not in (4, 8):
        return pa.array(values.astype(str).astype(object), pa.string(), mask=missing)
    texts = pa.array(values, mask=missing).cast(pa.string())
    whole = pc.match_substring_regex(texts, r"^-?\d+$")
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
