"""Reads where the chunks of a DMR++ variable are, and how they are encoded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.builders.dmrpp_xml import children, dmrpp
from cubegate.index.builders.hdf5_attributes import fill_json
from cubegate.index.builders.hdf5_datasets import ScannedArray, contiguous_chunks
from cubegate.index.table import MAX_CHUNKS

BAD_NUMBERS = (ValueError, OverflowError)
_MAX_SIZE = 2**53
_POSITION = re.compile(r"\[\d+(,\d+)*\]")


def read_chunks(
    chunks: Element, dtype: np.dtype[Any], shape: tuple[int, ...], attributes: dict[str, Any]
) -> tuple[ScannedArray, list[str]]:
    """Return the array of the `dmrpp:chunks` element `chunks`, and the `href` of each of its chunks.

    Raises:
        InvalidReference: it is malformed, or has no form as byte ranges of Zarr; the message says why.
    """
    entries = list(children(chunks, dmrpp("chunk")))
    written = chunks.findtext(dmrpp("chunkDimensionSizes"))
    if written is None:
        return _contiguous(chunks, dtype, shape, attributes)
    sizes = tuple(max(parse_size(part), 1) for part in written.split())
    codecs = _codecs(chunks, dtype)
    if len(sizes) != len(shape):
        raise InvalidReference("its chunks have another number of dimensions than its shape")
    grid = tuple(math.ceil(size / chunk) for size, chunk in zip(shape, sizes, strict=True))
    if math.prod(grid) > MAX_CHUNKS:
        raise InvalidReference(f"it has {math.prod(grid):,} chunks")
    fills = {chunk.get("fillValue") for chunk in entries if chunk.get("offset") is None}
    stored = [chunk for chunk in entries if chunk.get("offset") is not None]
    numbers = _numbers(stored, sizes, grid)
    offsets, nbytes = _places(stored)
    if not any(codec["id"] == "zlib" for codec in codecs):
        checksums = 4 * sum(codec["id"] == "fletcher32" for codec in codecs)
        if (nbytes != math.prod(sizes) * dtype.itemsize + checksums).any():
            raise InvalidReference("the sizes of its chunks are not those of its type and shape")
    fill = _fill(chunks, fills, dtype)
    if fill is None and len(numbers) < math.prod(grid):
        raise InvalidReference(
            "its DMR++ does not say what its unwritten chunks hold: make it again with a newer build_dmrpp, "
            "or scan the file"
        )
    document = array_document(dtype, shape, sizes, codecs, fill)
    return ScannedArray(document, attributes, numbers, offsets, nbytes), [_href(chunk) for chunk in stored]


def _contiguous(
    chunks: Element, dtype: np.dtype[Any], shape: tuple[int, ...], attributes: dict[str, Any]
) -> tuple[ScannedArray, list[str]]:
    entries, codecs = list(children(chunks, dmrpp("chunk"))), _codecs(chunks, dtype)
    stored = [chunk for chunk in entries if chunk.get("offset") is not None]
    expected = math.prod(shape) * dtype.itemsize
    fill = _fill(chunks, {c.get("fillValue") for c in entries if c.get("offset") is None}, dtype)
    if len(stored) > 1 or (not stored and fill is None and expected):
        raise InvalidReference("its DMR++ names several blocks, or none, of an array without chunks")
    none = np.zeros(0, np.int64)
    if not stored or not expected:
        return ScannedArray(array_document(dtype, shape, shape, [], fill), attributes, none, none, none), []
    offsets, nbytes = _places(stored)
    if codecs:
        numbers = np.zeros(1, np.int64)
        document = array_document(dtype, shape, shape, codecs, fill)
        return ScannedArray(document, attributes, numbers, offsets, nbytes), [_href(stored[0])]
    if int(nbytes[0]) != expected:
        raise InvalidReference("its size is not that of its type and shape")
    parts = contiguous_chunks(shape, dtype.itemsize)
    count, part = math.prod(shape) // math.prod(parts), math.prod(parts) * dtype.itemsize
    numbers = np.arange(count, dtype=np.int64)
    document = array_document(dtype, shape, parts, [], fill)
    places = int(offsets[0]) + numbers * part
    return (
        ScannedArray(document, attributes, numbers, places, np.full(count, part, np.int64)),
        [_href(stored[0])] * count,
    )


def _href(chunk: Element) -> str:
    return chunk.get("href") or chunk.get(dmrpp("href")) or ""


def _numbers(stored: Iterable[Element], sizes: tuple[int, ...], grid: tuple[int, ...]) -> Any:
    places = []
    for chunk in stored:
        text = chunk.get("chunkPositionInArray", "[" + ",".join("0" for _ in sizes) + "]").replace(" ", "")
        if not _POSITION.fullmatch(text):
            raise InvalidReference("the position of a chunk cannot be read")
        position = [int(part) for part in text[1:-1].split(",")]
        if len(position) != len(sizes) or any(at % size for at, size in zip(position, sizes, strict=True)):
            raise InvalidReference("the position of a chunk is not on its chunk grid")
        place = [at // size for at, size in zip(position, sizes, strict=True)]
        if any(number >= count for number, count in zip(place, grid, strict=True)):
            raise InvalidReference("it has chunks beyond its shape")
        places.append(place)
    if not places:
        return np.zeros(0, np.int64)
    numbers = np.ravel_multi_index(tuple(np.array(places, np.int64).T), grid)
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidReference("it has a chunk twice")
    return numbers


def _places(stored: Iterable[Element]) -> tuple[Any, Any]:
    try:
        pairs = [(int(chunk.get("offset", "")), int(chunk.get("nBytes", ""))) for chunk in stored]
        table = np.array(pairs, np.int64).reshape(len(pairs), 2)
    except BAD_NUMBERS:
        raise InvalidReference("the place of a chunk cannot be read") from None
    if any(int(chunk.get("filterMask", "0") or "0", 0) for chunk in stored):
        raise InvalidReference("some of its chunks skip filters")
    return table[:, 0], table[:, 1]


def _codecs(chunks: Element, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    names = chunks.get("compressionType", "").split()
    if set(names) - {"shuffle", "deflate", "fletcher32"} or len(set(names)) < len(names):
        raise InvalidReference(f"it is compressed as {chunks.get('compressionType', '')[:60]!r}")
    if "shuffle" in names and "deflate" in names:
        # older versions wrote them in any order, and HDF5 always shuffles first
        names.remove("shuffle")
        names.insert(names.index("deflate"), "shuffle")
    levels = (chunks.get("deflateLevel") or "").split()
    level = int(levels[0]) if levels and re.fullmatch(r"\d", levels[0]) else 4
    known: dict[str, dict[str, Any]] = {
        "shuffle": {"id": "shuffle", "elementsize": dtype.itemsize},
        "deflate": {"id": "zlib", "level": level},
        "fletcher32": {"id": "fletcher32"},
    }
    return [known[name] for name in names if name != "shuffle" or dtype.itemsize > 1]


def _fill(chunks: Element, others: set[str | None], dtype: np.dtype[Any]) -> Any:
    """Return what unwritten chunks hold as JSON, None where the document does not tell."""
    texts = {text for text in {chunks.get("fillValue"), *others} if text is not None}
    if not texts or dtype.kind not in "iuf":
        return None
    try:
        values = {str(fill_json(cast_number(text, dtype), dtype)) for text in texts}
        if len(values) > 1:
            raise InvalidReference("its unwritten chunks hold different values")
        return fill_json(cast_number(texts.pop(), dtype), dtype)
    except BAD_NUMBERS:
        raise InvalidReference("its fill value cannot be read") from None


def parse_size(text: str | None) -> int:
    """Read the size of a dimension.

    Raises:
        InvalidReference: it is none.
    """
    if text is None or not re.fullmatch(r"\d{1,16}", text) or int(text) >= _MAX_SIZE:
        raise InvalidReference("a dimension has an impossible size")
    return int(text)


def cast_number(text: str, dtype: np.dtype[Any]) -> Any:
    """Read a number of the type `dtype`.

    Raises:
        ValueError, OverflowError: it is none.
    """
    if dtype.kind == "f":
        # Hyrax writes "*" where it has no number to write
        return dtype.type(math.nan if text.strip() == "*" else float(text))
    number = int(text)
    limits = np.iinfo(dtype)
    if not limits.min <= number <= limits.max:
        raise ValueError("it does not fit")
    return dtype.type(number)


def array_document(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    codecs: list[dict[str, Any]],
    fill: Any,
) -> dict[str, Any]:
    """Return the `.zarray` of an array that is stored in C order."""
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": [max(size, 1) for size in chunks],
        "dtype": dtype.str,
        "compressor": None,
        "filters": codecs or None,
        "fill_value": fill,
        "order": "C",
    }
