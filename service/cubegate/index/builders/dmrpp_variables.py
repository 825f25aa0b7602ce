"""Translates one variable of a DMR++ document into a Zarr array and the places of its chunks."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.builders.dmrpp_chunks import (
    BAD_NUMBERS,
    array_document,
    cast_number,
    parse_size,
    read_chunks,
)
from cubegate.index.builders.dmrpp_xml import children, dap, dmrpp
from cubegate.index.builders.hdf5_attributes import fill_json
from cubegate.index.builders.hdf5_datasets import ScannedArray

TYPES = {
    "Byte": "u1", "UInt8": "u1", "UByte": "u1", "Int8": "i1", "Int16": "i2", "UInt16": "u2", "Int32": "i4",
    "UInt32": "u4", "Int64": "i8", "UInt64": "u8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip
OTHER_TYPES = frozenset({"String", "URL", "Url", "Char", "Enum", "Opaque", "Structure", "Sequence"})
_MAX_COPIED_NBYTES = 2**24


def attributes_in(element: Element) -> dict[str, Any]:
    """Return the attributes of a group or variable as JSON, `_FillValue` among them.

    Containers are left out, but for the one in which older versions put those of the root.
    """
    found: dict[str, Any] = {}
    for attribute in children(element, dap("Attribute")):
        name, kind = attribute.get("name", ""), attribute.get("type", "")
        if kind == "Container":
            if name == "HDF5_GLOBAL":
                found |= attributes_in(attribute)
            continue
        texts = [value.text or value.get("value") or "" for value in children(attribute, dap("Value"))]
        values = [_value(text, kind) for text in texts]
        if name and values and not any(value is None for value in values):
            found[name] = values[0] if len(values) == 1 else values
    return found


def _value(text: str, kind: str) -> Any:
    if kind in ("String", "URL", "Url"):
        return text
    if kind not in TYPES:
        return None
    try:
        return cast_number(text, np.dtype(TYPES[kind])).item()
    except BAD_NUMBERS:
        return None


def read_variable(variable: Element, kind: str, sizes: dict[str, int]) -> tuple[ScannedArray, list[str]]:
    """Return what a variable is as a Zarr array, and the `href` of each chunk ("" is the document's).

    `kind` is its DAP type, `sizes` are those of all dimensions by their full names.

    Raises:
        InvalidReference: it has no form as byte ranges, or is malformed; the message says why.
    """
    names, shape = _dimensions(variable, sizes)
    chunks = variable.find(dmrpp("chunks"))
    dtype = _type(variable, kind, chunks)
    attributes = {**attributes_in(variable), "_ARRAY_DIMENSIONS": names}
    _settle_fill_attribute(attributes, variable, dtype)
    copied = _copied(variable, dtype, shape)
    if copied is not None:
        document = array_document(dtype, shape, shape, [], None)
        none = np.zeros(0, np.int64)
        return ScannedArray(document, attributes, none, none, none, {0: copied} if copied else {}), []
    if chunks is None:
        raise InvalidReference("its DMR++ names no bytes of it")
    return read_chunks(chunks, dtype, shape, attributes)


def _dimensions(variable: Element, sizes: dict[str, int]) -> tuple[list[str], tuple[int, ...]]:
    names: list[str] = []
    shape: list[int] = []
    for axis, dimension in enumerate(children(variable, dap("Dim"))):
        full = dimension.get("name")
        if full is None:
            size = parse_size(dimension.get("size"))
            name = f"phony_dim_{size}"
        elif full in sizes:
            size, name = sizes[full], full.rpartition("/")[2]
        else:
            raise InvalidReference(f"its dimension {full[:100]!r} is nowhere")
        names.append(name if name not in names else f"{name}_{axis}")
        shape.append(size)
    return names, tuple(shape)


def _type(variable: Element, kind: str, chunks: Element | None) -> np.dtype[Any]:
    order = "<" if chunks is None else {"LE": "<", "BE": ">"}.get(chunks.get("byteOrder", "LE"))
    if order is None:
        raise InvalidReference("its byte order is unknown")
    if kind in TYPES:
        return np.dtype(order + TYPES[kind])
    fixed = variable.find(dmrpp("FixedLengthStringArray"))
    if kind == "String" and fixed is not None:
        length = parse_size(fixed.get("string_length"))
        if 0 < length < 2**20:
            return np.dtype(f"S{length}")
    raise InvalidReference(f"it is a {kind}, of which DMR++ tells no byte ranges that Zarr could name")


def _settle_fill_attribute(attributes: dict[str, Any], variable: Element, dtype: np.dtype[Any]) -> None:
    if "_FillValue" not in attributes:
        return
    written = [a for a in children(variable, dap("Attribute")) if a.get("name") == "_FillValue"]
    value = attributes.pop("_FillValue")
    if dtype.kind not in "biuf" or isinstance(value, list) or len(written) != 1:
        return
    try:
        attributes["_FillValue"] = fill_json(cast_number(str(value), dtype), dtype)
    except BAD_NUMBERS:
        # a value that the type cannot hold is never met
        return


def _copied(variable: Element, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """Return the values of an array that the document itself holds, None where it does not."""
    compact, missing = variable.find(dmrpp("compact")), variable.find(dmrpp("missingdata"))
    holder = compact if compact is not None else missing
    if holder is None:
        return None
    expected = math.prod(shape) * dtype.itemsize
    if expected > _MAX_COPIED_NBYTES:
        raise InvalidReference("its DMR++ holds more values than may be copied")
    try:
        data = base64.b64decode((holder.text or "").strip(), validate=True)
        if missing is not None and holder is missing:
            data = zlib.decompressobj().decompress(data, expected + 1)
    except (binascii.Error, ValueError, zlib.error):
        raise InvalidReference("the values in its DMR++ cannot be read") from None
    if len(data) != expected:
        raise InvalidReference("the values in its DMR++ are not those of its type and shape")
    return data
