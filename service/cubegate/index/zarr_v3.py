"""Reads Zarr v3 documents (`zarr.json` of an array), through zarr-python's own parser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cubegate.errors import InvalidMetadata, UnsupportedCodec
from cubegate.index.codecs import check_v3_codecs
from cubegate.index.metadata import ArrayMetadata, CodecsV3
from cubegate.index.zarr_v2 import (
    MALFORMED,
    UNPRINTABLE,
    check_chunk_size,
    parse_fill_attribute,
    parse_sizes,
)


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
    # slow to import, and cubes of byte ranges have none of it
    from zarr.core.metadata.v3 import ArrayV3Metadata  # noqa: PLC0415 - see above

    parse_sizes(path, document["shape"])
    codecs = tuple(document.get("codecs") or ())
    check_v3_codecs(codecs)
    parsed = ArrayV3Metadata.from_dict(dict(document))
    if document["chunk_grid"]["name"] != "regular":
        raise InvalidMetadata(f"array {path!r}: its chunk grid is not regular")
    chunk_shape = parse_sizes(path, document["chunk_grid"]["configuration"]["chunk_shape"])
    dtype = _storage_dtype(parsed.data_type.to_native_dtype(), codecs)
    check_chunk_size(path, chunk_shape, dtype)
    _check_serializer(codecs, dtype)
    attributes = dict(parsed.attributes)
    declared = None
    if "_FillValue" in attributes:
        declared = parse_fill_attribute(attributes.pop("_FillValue"), dtype)
    names = document.get("dimension_names")
    if names is not None and any(name is None for name in names):
        names = None
    if any(UNPRINTABLE.search(name) for name in names or ()):
        raise InvalidMetadata(f"array {path!r}: dimension_names has one with control characters")
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


def _check_serializer(codecs: tuple[Mapping[str, Any], ...], dtype: np.dtype[Any]) -> None:
    names = [codec["name"] for codec in codecs]
    if dtype.hasobject and "transpose" in names and "sharding_indexed" in names:
        raise UnsupportedCodec("shards of transposed strings are not ones that cubegate decodes")


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
