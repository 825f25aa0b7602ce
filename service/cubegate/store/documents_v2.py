"""Writes Zarr v2 documents: `.zarray`, `.zattrs`, `.zgroup` and the consolidated `.zmetadata`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from cubegate.index.metadata import ArrayMetadata, GroupMetadata
from cubegate.store.codec_translation import codecs_to_v2

Document = dict[str, Any]


def array_documents_v2(array: ArrayMetadata, crs_wkt: str | None = None) -> dict[str, Document]:
    """Return the `.zarray` and `.zattrs` of one array.

    `fill_value` is the declared CF missing value, since readers of v2 mask it; null where none
    is declared. `crs_wkt` becomes the `_CRS` attribute that GDAL reads.

    Raises:
        NotRepresentable: the array has no v2 form; the message says why.
    """
    codecs = codecs_to_v2(array)
    document = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(array.chunk_shape),
        "dtype": _dtype_v2(array.dtype),
        "order": codecs.order,
        "fill_value": fill_to_json(array.declared_fill, array.dtype),
        "filters": [dict(configuration) for configuration in codecs.filters] or None,
        "compressor": codecs.compressor and dict(codecs.compressor),
        "dimension_separator": ".",
    }
    attributes = with_crs(array.attributes, crs_wkt)
    if array.dimension_names is not None:
        attributes["_ARRAY_DIMENSIONS"] = list(array.dimension_names)
    return {".zarray": document, ".zattrs": attributes}


def group_documents_v2(group: GroupMetadata) -> dict[str, Document]:
    """Return the `.zgroup` and `.zattrs` of one group."""
    return {".zgroup": {"zarr_format": 2}, ".zattrs": dict(group.attributes)}


def consolidated_v2(group: str, documents: Mapping[str, Document]) -> Document:
    """Return the `.zmetadata` of `group` from all v2 documents of the hierarchy, by key."""
    prefix = f"{group}/" if group else ""
    inside = {key.removeprefix(prefix): value for key, value in documents.items() if key.startswith(prefix)}
    # zarr-python nests the members level by level, and loses siblings that are not side by side
    ordered = sorted(inside, key=lambda key: (key.count("/"), key))
    return {"zarr_consolidated_format": 1, "metadata": {key: inside[key] for key in ordered}}


def with_crs(attributes: Mapping[str, Any], crs_wkt: str | None) -> Document:
    """Copy `attributes`, with the `_CRS` that GDAL reads."""
    return {**attributes, "_CRS": {"wkt": crs_wkt}} if crs_wkt else dict(attributes)


def fill_to_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """Write a fill value as both formats do: NaN and infinities as text, bytes in base64."""
    if value is None:
        return None
    if dtype.kind == "f":
        return _float_to_json(float(value))
    if dtype.kind == "c":
        return [_float_to_json(float(value.real)), _float_to_json(float(value.imag))]
    if dtype.kind in "mM":
        return int(np.asarray(value, dtype).astype(dtype.newbyteorder("=")).view("i8"))
    if dtype.kind in "SV":
        value = np.asarray(value, dtype).tobytes()
    if isinstance(value, bytes):
        return base64.standard_b64encode(value).decode()
    return value.item() if isinstance(value, np.generic) else value


def _float_to_json(value: float) -> float | str:
    if np.isfinite(value):
        return value
    if np.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _dtype_v2(dtype: np.dtype[Any]) -> Any:
    if dtype.hasobject and not dtype.names:
        return "|O"
    if dtype.names:
        return [_field_v2(dtype, name) for name in dtype.names]
    return dtype.str


def _field_v2(dtype: np.dtype[Any], name: str) -> list[Any]:
    field = dtype[name]
    if field.subdtype is None:
        return [name, _dtype_v2(field)]
    base, shape = field.subdtype
    return [name, _dtype_v2(base), list(shape)]
