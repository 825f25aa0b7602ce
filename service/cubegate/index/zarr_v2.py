"""Reads Zarr v2 documents (`.zarray`, `.zattrs`), as stores and reference files hold them."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np

from cubegate.errors import InvalidMetadata
from cubegate.index.codecs import OBJECT_CODECS, check_v2_codecs
from cubegate.index.metadata import ArrayMetadata, CodecsV2

MAX_CHUNK_NBYTES = 2**31
MAX_SIZE = 2**53
MAX_NDIM = 32
# control characters, separators of lines and directions of text, and surrogates
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# what reading a document raises where it holds another JSON type than the specification says
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError, struct.error)
_TYPE_STRING = re.compile(r"[<>|]?([biufcSUV][0-9]{1,9}|[mM]8(\[[0-9]{0,9}[A-Za-z]{1,2}\])?|O[0-9]?)")


def parse_array_v2(
    path: str,
    document: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    fill_declared: bool = True,
) -> ArrayMetadata:
    """Read one `.zarray` and its `.zattrs`.

    `fill_declared` says whether `fill_value` is also the CF missing value, as xarray takes it,
    or merely what unallocated chunks hold, as with booleans always. A `_FillValue` attribute wins.

    Raises:
        InvalidMetadata: the document is malformed.
        UnsupportedCodec: it names a codec that is not on the allow-list.
    """
    try:
        # a fill that the type cannot hold must not become another one
        with np.errstate(over="raise", invalid="raise"):
            return _parse(path, document, dict(attributes), fill_declared)
    except MALFORMED as error:
        problem = type(error).__name__
        raise InvalidMetadata(f"array {path!r}: its .zarray cannot be read ({problem})") from error


def _parse(
    path: str, document: Mapping[str, Any], attributes: dict[str, Any], fill_declared: bool
) -> ArrayMetadata:
    if document.get("zarr_format", 2) != 2:
        raise InvalidMetadata(f"array {path!r}: its .zarray is not Zarr format 2")
    shape = parse_sizes(path, document["shape"])
    # kerchunk writes a zero-length dimension's chunk as 0
    chunks = tuple(max(size, 1) for size in parse_sizes(path, document["chunks"]))
    if len(shape) != len(chunks):
        raise InvalidMetadata(f"array {path!r}: its shape {shape} and chunks {chunks} do not match")
    dtype = parse_dtype_v2(document["dtype"])
    filters = tuple(document.get("filters") or ())
    compressor = document.get("compressor")
    check_v2_codecs((*filters, *([compressor] if compressor else [])))
    of_objects = [f["id"] in OBJECT_CODECS for f in (*filters, *([compressor] if compressor else []))]
    if dtype.hasobject and not any(of_objects[:1]):
        raise InvalidMetadata(f"array {path!r}: no filter says how its objects are stored")
    if any(of_objects[dtype.hasobject :]):
        raise InvalidMetadata(f"array {path!r}: a filter is for objects, and is given something else")
    check_chunk_size(path, chunks, dtype)
    order = document.get("order", "C")
    if order not in ("C", "F"):
        raise InvalidMetadata(f"array {path!r}: its order is {order!r}, not C or F")
    fill = parse_fill_v2(document.get("fill_value"), dtype)
    # a truth value has none to spare for "missing": false is zarr-python's default, and a value
    declared = fill if fill_declared and dtype.kind != "b" else None
    if "_FillValue" in attributes:
        declared = parse_fill_attribute(attributes.pop("_FillValue"), dtype)
    names = attributes.pop("_ARRAY_DIMENSIONS", None)
    return ArrayMetadata(
        path=path,
        shape=shape,
        chunk_shape=chunks,
        dtype=dtype,
        dimension_names=_dimension_names(path, names, len(shape)),
        attributes=attributes,
        fill_value=declared if fill is None else fill,
        declared_fill=declared,
        codecs=CodecsV2(filters, compressor, cast("Literal['C', 'F']", order)),
        document=document,
    )


def parse_sizes(path: str, sizes: Any) -> tuple[int, ...]:
    """Read a shape or chunk shape of the array at `path`.

    Raises:
        InvalidMetadata: it is not a list of at most 32 sizes that an array can have.
    """
    possible = isinstance(sizes, list | tuple) and len(sizes) <= MAX_NDIM
    if not possible or not all(type(size) is int and 0 <= size < MAX_SIZE for size in sizes):
        raise InvalidMetadata(f"array {path!r}: {str(sizes)[:200]} is not a shape that an array can have")
    return tuple(sizes)


def check_chunk_size(path: str, chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `InvalidMetadata` where a chunk of the array at `path` has no size, or an absurd one."""
    if not dtype.itemsize:
        raise InvalidMetadata(f"array {path!r}: its values have no size")
    if np.prod(chunks, dtype=np.float64) * dtype.itemsize > MAX_CHUNK_NBYTES:
        raise InvalidMetadata(f"array {path!r}: its chunks {chunks} decode to over 2 GiB")


def _dimension_names(path: str, names: Any, ndim: int) -> tuple[str, ...] | None:
    if names is None:
        return () if ndim == 0 else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidMetadata(f"array {path!r}: _ARRAY_DIMENSIONS is not a list of names")
    if any(UNPRINTABLE.search(name) for name in names):
        raise InvalidMetadata(f"array {path!r}: _ARRAY_DIMENSIONS names one with control characters")
    if len(names) != ndim:
        raise InvalidMetadata(f"array {path!r}: _ARRAY_DIMENSIONS names {len(names)} of {ndim} dimensions")
    # kerchunk names a dimension in an HDF5 group by the whole path of its scale
    last_parts = tuple(name.rpartition("/")[2] for name in names)
    return last_parts if len(set(last_parts)) == ndim else tuple(names)


def parse_dtype_v2(value: Any) -> np.dtype[Any]:
    """Read a v2 `dtype`: a NumPy type string, or a list of fields."""
    if isinstance(value, list):
        return np.dtype([_parse_field(entry) for entry in value])
    if not isinstance(value, str):
        raise InvalidMetadata(f"dtype {value!r} is not a type string")
    if value in ("string", "str"):
        return np.dtype(object)
    if not _TYPE_STRING.fullmatch(value):
        raise InvalidMetadata(f"dtype {value[:50]!r} is not a type string")
    return np.dtype(value)


def _parse_field(entry: list[Any]) -> tuple[Any, ...]:
    name, kind, *shape = entry
    return (str(name), parse_dtype_v2(kind), *(tuple(s) for s in shape))


def parse_fill_v2(value: Any, dtype: np.dtype[Any]) -> Any:  # noqa: PLR0911 - one return a kind of type
    """Read a v2 `fill_value` as a scalar of `dtype`; None stays None."""
    if value is None:
        return None
    if dtype.hasobject:
        return "" if value == 0 else value
    if dtype.kind == "c":
        real, imag = value if isinstance(value, list) else (value, 0.0)
        return dtype.type(complex(_float(real), _float(imag)))
    if dtype.kind == "f":
        return dtype.type(_float(value))
    if dtype.kind in "SV":
        return _parse_fixed_bytes(value, dtype)
    if dtype.kind == "U":
        return str(value) if isinstance(value, str) else ""
    if dtype.kind in "mM":
        native = dtype.newbyteorder("=")
        return np.array(value, dtype="i8" if isinstance(value, int) else native).view(native)[()]
    if dtype.kind == "b":
        return np.bool_(bool(value))
    number = _float(value)
    if not number.is_integer():
        raise InvalidMetadata(f"fill_value {value!r} is not a {dtype.name}")
    return np.array(value if isinstance(value, int) else int(number)).astype(dtype, casting="unsafe")[()]


def _parse_fixed_bytes(value: Any, dtype: np.dtype[Any]) -> Any:
    if not isinstance(value, str):
        value = ""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = value.encode("utf-8")
    return np.frombuffer(raw.ljust(dtype.itemsize, b"\0")[: dtype.itemsize], dtype=dtype)[0]


def parse_fill_attribute(value: Any, dtype: np.dtype[Any]) -> Any:
    """Read a `_FillValue` attribute, plain or in the base64 form that xarray writes for v3."""
    if isinstance(value, list) and dtype.kind != "c":
        value = value[0]
    if dtype.kind == "f" and isinstance(value, str):
        return dtype.type(_decode_float(value))
    if dtype.kind == "c" and isinstance(value, list) and isinstance(value[0], str):
        return dtype.type(complex(_decode_float(value[0]), _decode_float(value[1])))
    return parse_fill_v2(value, dtype)


def _decode_float(value: str) -> float:
    if len(value) == 12:
        return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
    return _float(value)


def _float(value: Any) -> float:
    # JSON has no NaN: Zarr writes "NaN" and "Infinity"; kerchunk also "nan" and arrays of one
    if isinstance(value, list):
        value = value[0]
    return float(value)
