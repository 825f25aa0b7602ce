"""Reads Zarr v3 documents (`zarr.json` of an array), through zarr-python's own parser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from zarr.core.metadata.v3 import ArrayV3Metadata

from cubegate.errors import InvalidMetadata, UnsupportedCodec
from cubegate.index.codecs import check_v3_codecs
from cubegate.index.metadata import ArrayMetadata, CodecsV3
from cubegate.index.zarr_v2 import MALFORMED, MAX_CHUNK_NBYTES, parse_fill_attribute


def parse_array_v3(path: str, document: Mapping[str, Any]) -> ArrayMetadata:
    """Read one array's `zarr.json`.

    Raises:
        InvalidMetadata: the document is malformed or uses an unknown data type or chunk grid.
        UnsupportedCodec: it names a codec that is not on the allow-list.
    """
    try:
        with np.errstate(over="raise", invalid="raise"):
            return _parse(path, document)
    except MALFORMED as error:
        problem = type(error).__name__
        raise InvalidMetadata(f"array {path!r}: its zarr.json cannot be read ({problem})") from error


def _parse(path: str, document: Mapping[str, Any]) -> ArrayMetadata:
    codecs = tuple(document.get("codecs") or ())
    check_v3_codecs(codecs)
    parsed = ArrayV3Metadata.from_dict(dict(document))
    if document["chunk_grid"]["name"] != "regular":
        raise InvalidMetadata(f"array {path!r}: its chunk grid is not regular")
    chunk_shape = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    dtype = _storage_dtype(parsed.data_type.to_native_dtype(), codecs)
    if np.prod(chunk_shape, dtype=np.float64) * dtype.itemsize > MAX_CHUNK_NBYTES:
        raise InvalidMetadata(f"array {path!r}: its chunks {chunk_shape} decode to over 2 GiB")
    attributes = dict(parsed.attributes)
    declared = None
    if "_FillValue" in attributes:
        declared = parse_fill_attribute(attributes.pop("_FillValue"), dtype)
    names = document.get("dimension_names")
    if names is not None and any(name is None for name in names):
        names = None
    fill = parsed.fill_value
    return ArrayMetadata(
        path=path,
        shape=tuple(parsed.shape),
        chunk_shape=chunk_shape,
        dtype=dtype,
        dimension_names=() if not parsed.shape else (tuple(names) if names is not None else None),
        attributes=attributes,
        fill_value=fill.item() if dtype.hasobject and isinstance(fill, np.generic) else fill,
        declared_fill=declared,
        codecs=CodecsV3(codecs),
        document={key: value for key, value in document.items() if key != "attributes"},
    )


def _storage_dtype(native: np.dtype[Any], codecs: tuple[Mapping[str, Any], ...]) -> np.dtype[Any]:
    if native.kind == "T":
        return np.dtype(object)
    for codec in codecs:
        configuration = codec.get("configuration") or {}
        if codec["name"] == "bytes":
            return native.newbyteorder(">" if configuration.get("endian") == "big" else "<")
        if codec["name"] == "sharding_indexed":
            return _storage_dtype(native, tuple(configuration["codecs"]))
    if not codecs:
        raise UnsupportedCodec("an array without codecs cannot be decoded")
    return native
