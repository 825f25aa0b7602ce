"""Reads the header of a netCDF-3 file (classic, 64-bit offset, 64-bit data): its arrays and their places.

The format is specified in https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.builders.hdf5_attributes import fill_json
from cubegate.index.builders.hdf5_datasets import ScannedArray, contiguous_chunks
from cubegate.index.partial_file import BLOCK_NBYTES, RemoteBlocks
from cubegate.index.table import MAX_CHUNKS

MAGIC = b"CDF"
_MAX_HEADER_NBYTES = 2**26
_TYPES = {
    1: "i1",
    2: "S1",
    3: ">i2",
    4: ">i4",
    5: ">f4",
    6: ">f8",
    7: "u1",
    8: ">u2",
    9: ">u4",
    10: ">i8",
    11: ">u8",
}
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_MAX_NDIM = 32


class _CutError(Exception):
    """The header goes on behind what is here."""


@dataclass(frozen=True)
class _Variable:
    name: str
    dimensions: tuple[int, ...]
    attributes: dict[str, Any]
    dtype: np.dtype[Any]
    begin: int


async def read_netcdf3(blocks: RemoteBlocks, name: str) -> tuple[dict[str, Any], dict[str, ScannedArray]]:
    """Return the global attributes and the arrays of the file of which `blocks` are; `name` is for messages.

    Raises:
        InvalidReference: the header is damaged, or describes more than the file holds.
        UpstreamError: it cannot be read.
    """
    count = 1
    while True:
        last = (blocks.nbytes - 1) // BLOCK_NBYTES
        wanted = [number for number in range(min(count, last + 1)) if blocks.get(number) is None]
        await blocks.fetch(wanted)
        held = b"".join(blocks.get(number) or b"" for number in range(min(count, last + 1)))
        try:
            return _read(_Header(held), blocks.nbytes)
        except _CutError:
            if count > last or len(held) > _MAX_HEADER_NBYTES:
                raise InvalidReference(f"The header of {name} is cut, or too large.") from None
            count *= 2
        except (InvalidReference, struct.error, KeyError, ValueError, OverflowError) as error:
            said = str(error) if isinstance(error, InvalidReference) else "its header cannot be read"
            raise InvalidReference(f"{name} is a damaged netCDF-3 file: {said}.") from None


class _Header:
    """A place in the header; numbers of elements have 4 bytes, or 8 in the 64-bit data format."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 4
        version = data[3] if len(data) > 3 else 0
        if version not in (1, 2, 5):
            raise InvalidReference(f"its version {version} is unknown")
        self._count = ">q" if version == 5 else ">i"
        self._offset = ">i" if version == 1 else ">q"

    def take(self, length: int) -> bytes:
        """Take bytes, and what fills them up to a multiple of four."""
        if not 0 <= length <= _MAX_HEADER_NBYTES:
            raise InvalidReference("a part of its header has an impossible size")
        taken = self._data[self._at : self._at + length]
        self._at += length + -length % 4
        if len(taken) < length:
            raise _CutError
        return taken

    def number(self, form: str) -> int:
        """Take a number."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def count(self) -> int:
        """Take a number of elements."""
        return self.number(self._count)

    def offset(self) -> int:
        """Take a place in the file."""
        return self.number(self._offset)

    def name(self) -> str:
        """Take a name."""
        return self.take(self.count()).decode()

    def length_of(self, tag: int) -> int:
        """Take the tag and the length of a list."""
        found, length = self.number(">i"), self.count()
        if (found != tag and (found or length)) or not 0 <= length <= 2**20:
            raise InvalidReference("a list in its header is not where it should be")
        return length

    def attributes(self) -> dict[str, Any]:
        """Take attributes as JSON; text loses the zeros at its end."""
        found: dict[str, Any] = {}
        for _ in range(self.length_of(_ATTRIBUTE)):
            name, dtype, length = self.name(), np.dtype(_TYPES[self.number(">i")]), self.count()
            data = self.take(length * dtype.itemsize)
            if dtype.kind == "S":
                found[name] = data.rstrip(b"\0").decode("utf-8", "replace")
            else:
                values = np.frombuffer(data, dtype).tolist()
                found[name] = values[0] if len(values) == 1 else values
        return found


def _read(header: _Header, nbytes: int) -> tuple[dict[str, Any], dict[str, ScannedArray]]:
    records = header.count()
    dimensions = [(header.name(), header.count()) for _ in range(header.length_of(_DIMENSION))]
    attributes = header.attributes()
    variables = [_variable(header, len(dimensions)) for _ in range(header.length_of(_VARIABLE))]
    if records < 0 or any(size < 0 for _, size in dimensions):
        raise InvalidReference("it was never closed, so its number of records is unknown")
    sizes = [_record_nbytes(variable, dimensions) for variable in variables]
    of_records = [size for size in sizes if size is not None]
    # a single array of records is not filled up to multiples of four
    step = of_records[0] if len(of_records) == 1 else sum(size + -size % 4 for size in of_records)
    arrays = {}
    for variable in variables:
        array = _scanned(variable, dimensions, records, step)
        if (array.offsets + array.nbytes > nbytes).any() or (array.offsets < 0).any():
            raise InvalidReference(f"array {variable.name!r} goes beyond its end")
        arrays[variable.name] = array
    if len(arrays) < len(variables):
        raise InvalidReference("it has two arrays of one name")
    return attributes, arrays


def _variable(header: _Header, known: int) -> _Variable:
    name, ndim = header.name(), header.count()
    if not 0 <= ndim <= _MAX_NDIM:
        raise InvalidReference("an array has too many dimensions")
    dimensions = tuple(header.count() for _ in range(ndim))
    if any(not 0 <= number < known for number in dimensions):
        raise InvalidReference("an array has an unknown dimension")
    attributes = header.attributes()
    dtype = np.dtype(_TYPES[header.number(">i")])
    # its size, which follows from the rest, and which large arrays cannot say
    header.count()
    return _Variable(name, dimensions, attributes, dtype, header.offset())


def _record_nbytes(variable: _Variable, dimensions: list[tuple[str, int]]) -> int | None:
    """Return the bytes of one record of an array, None where it has none: records have size 0."""
    shape = [dimensions[number][1] for number in variable.dimensions]
    if not shape or shape[0]:
        return None
    return math.prod(shape[1:]) * variable.dtype.itemsize


def _scanned(variable: _Variable, dimensions: list[tuple[str, int]], records: int, step: int) -> ScannedArray:
    of_records = _record_nbytes(variable, dimensions) is not None
    shape = tuple(dimensions[number][1] for number in variable.dimensions)
    if of_records:
        shape = (records, *shape[1:])
        chunks, distance = (1, *shape[1:]), step
    else:
        chunks = contiguous_chunks(shape, variable.dtype.itemsize)
        distance = math.prod(chunks) * variable.dtype.itemsize
    count = math.prod(shape) // math.prod(chunks) if math.prod(shape) else 0
    if count > MAX_CHUNKS:
        raise InvalidReference(f"array {variable.name!r} has {count:,} chunks")
    numbers = np.arange(count, dtype=np.int64)
    attributes = dict(variable.attributes)
    fill = attributes.pop("_FillValue", None)
    if fill is not None and not isinstance(fill, list):
        value = fill.encode()[:1] if isinstance(fill, str) else fill
        if isinstance(value, bytes) == (variable.dtype.kind == "S"):
            attributes["_FillValue"] = fill_json(value, variable.dtype)
    document = {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": [max(size, 1) for size in chunks],
        "dtype": variable.dtype.str,
        "compressor": None,
        "filters": None,
        "fill_value": None,
        "order": "C",
    }
    named = {**attributes, "_ARRAY_DIMENSIONS": [dimensions[number][0] for number in variable.dimensions]}
    sizes = np.full(count, math.prod(chunks) * variable.dtype.itemsize, np.int64)
    return ScannedArray(document, named, numbers, variable.begin + numbers * distance, sizes)
