"""Writes Zarr v3 documents: the `zarr.json` of arrays and groups, with consolidated metadata."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from cubegate.errors import NotRepresentable
from cubegate.index.metadata import ArrayMetadata, CodecsV3, GroupMetadata
from cubegate.store.codec_translation import codecs_to_v3
from cubegate.store.documents_v2 import fill_to_json, with_crs

Document = dict[str, Any]

_NAMED_BY_NUMPY = frozenset(
    {
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128",
    }
)  # fmt: skip


def array_document_v3(array: ArrayMetadata, crs_wkt: str | None = None) -> Document:
    """Return the `zarr.json` of one array.

    `fill_value` is the storage fill, and the declared CF missing value is the attribute
    `_FillValue` in the encoding of xarray's Zarr backend. xarray decodes that attribute for
    numbers and booleans only and refuses the dataset otherwise, so strings and times have none.

    Raises:
        NotRepresentable: the array has no v3 form; the message says why.
    """
    attributes = with_crs(array.attributes, crs_wkt)
    if array.declared_fill is not None and array.dtype.kind in "fciub":
        attributes["_FillValue"] = fill_to_attribute(array.declared_fill, array.dtype)
    if isinstance(array.codecs, CodecsV3):
        described = {key: array.document[key] for key in ("data_type", "fill_value", "codecs")}
    else:
        described = {
            "data_type": _data_type(array),
            "fill_value": fill_to_json(storage_fill(array), array.dtype),
            "codecs": codecs_to_v3(array),
        }
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        **described,
        "attributes": attributes,
    }
    if array.dimension_names is not None:
        document["dimension_names"] = list(array.dimension_names)
    return document


def group_document_v3(group: GroupMetadata, members: Mapping[str, Document] | None = None) -> Document:
    """Return the `zarr.json` of one group; `members` are all documents below it, by relative path."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(group.attributes),
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(members or {}),
        },
    }


def consolidated_v3(group: GroupMetadata, documents: Mapping[str, Document]) -> Document:
    """Return the consolidated `zarr.json` of `group` from all v3 documents of the hierarchy, by path."""
    prefix = f"{group.path}/" if group.path else ""
    inside = {
        path.removeprefix(prefix): document for path, document in documents.items() if path.startswith(prefix)
    }
    inside.pop("", None)
    # zarr-python nests the members level by level, and loses siblings that are not side by side
    ordered = sorted(inside, key=lambda path: (path.count("/"), path))
    return group_document_v3(group, {path: inside[path] for path in ordered})


def storage_fill(array: ArrayMetadata) -> Any:
    """What every unallocated chunk holds: the stored fill value, or else the zero of the data type."""
    if array.fill_value is not None:
        return array.fill_value
    return "" if array.dtype.hasobject else np.zeros((), array.dtype)[()]


def fill_to_attribute(value: Any, dtype: np.dtype[Any]) -> Any:
    """Write a `_FillValue` attribute of a numeric array as xarray's Zarr v3 backend reads it."""
    if dtype.kind == "f":
        return _float_to_base64(float(value))
    if dtype.kind == "c":
        return [_float_to_base64(float(value.real)), _float_to_base64(float(value.imag))]
    return bool(value) if dtype.kind == "b" else int(value)


def _float_to_base64(value: float) -> str:
    return base64.standard_b64encode(struct.pack("<d", value)).decode()


def _data_type(array: ArrayMetadata) -> Any:
    dtype = array.dtype
    if dtype.name in _NAMED_BY_NUMPY:
        return dtype.name
    if dtype.hasobject and not dtype.names:
        is_bytes = any(codec["name"] == "vlen-bytes" for codec in codecs_to_v3(array))
        return "bytes" if is_bytes else "string"
    if dtype.kind == "S":
        return {"name": "null_terminated_bytes", "configuration": {"length_bytes": dtype.itemsize}}
    if dtype.kind == "U":
        return {"name": "fixed_length_utf32", "configuration": {"length_bytes": dtype.itemsize}}
    if dtype.kind in "mM":
        unit, scale = np.datetime_data(dtype)
        name = "numpy.datetime64" if dtype.kind == "M" else "numpy.timedelta64"
        return {"name": name, "configuration": {"unit": unit, "scale_factor": scale}}
    if dtype.kind == "V" and not dtype.names and dtype.subdtype is None:
        return {"name": "raw_bytes", "configuration": {"length_bytes": dtype.itemsize}}
    raise NotRepresentable(f"Array {array.path!r} has no form here: Zarr v3 has no data type for {dtype}.")
