"""Translates one dataset of an HDF5 file into the documents of a Zarr array and the places of its chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidReference
from cubegate.index.builders.hdf5_attributes import attributes_of, declared_fill, fill_json
from cubegate.index.builders.hdf5_filters import codecs_of, filters_of

NOT_A_COORDINATE = "_nc4_non_coord_"
_ONLY_A_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"
_CONTIGUOUS_NBYTES = 2**20
_MAX_INLINED_STRINGS = 2**16
_MAX_CHUNKS = 2**26

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ScannedArray:
    """One dataset: its `.zarray` and `.zattrs`, and where its chunks are.

    `numbers` are positions in the C order of the chunk grid; `offsets` and `nbytes` are of the chunks of
    these numbers, in the file. `inlined` are bytes of whole chunks by their number.
    """

    document: dict[str, Any]
    attributes: dict[str, Any]
    numbers: Numbers
    offsets: Numbers
    nbytes: Numbers
    inlined: dict[int, bytes] = field(default_factory=dict)


def is_only_a_dimension(dataset: Any) -> bool:
    """Whether an h5py dataset is there for its size alone, as netCDF4 writes a dimension without values."""
    name = dataset.attrs.get("NAME", b"")
    text = name.encode() if isinstance(name, str) else name
    return isinstance(text, bytes) and text.startswith(_ONLY_A_DIMENSION)


def scan_dataset(dataset: Any) -> ScannedArray:
    """Return what an h5py dataset is as a Zarr array; no chunk of it is read, but strings are.

    Raises:
        InvalidReference: it has no form as a Zarr array of byte ranges; the message says why.
    """
    import h5py  # noqa: PLC0415 - an optional dependency

    properties = dataset.id.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise InvalidReference("its values are in other files")
    if dataset.shape is None:
        raise InvalidReference("it has no values")
    if dataset.dtype.kind == "O":
        return _strings(h5py, dataset)
    dtype = _plain_type(h5py, dataset)
    if layout == h5py.h5d.CHUNKED:
        return _chunked(dataset, dtype)
    shape = dataset.shape
    if layout == h5py.h5d.COMPACT:
        none = np.zeros(0, np.int64)
        data = np.ascontiguousarray(dataset[()], dtype).tobytes()
        inlined = {0: data} if data else {}
        return ScannedArray(
            _document(dataset, dtype, shape, []), _attributes(dataset), none, none, none, inlined
        )
    return _contiguous(dataset, dtype)


def _plain_type(h5py: Any, dataset: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = dataset.dtype
    plain = np.dtype(dtype.str) if dtype.names is None and dtype.subdtype is None else dtype
    sizes = {"i": 8, "u": 8, "f": 8, "c": 16, "b": 1, "S": 2**31}
    if plain.itemsize > sizes.get(plain.kind, 0):
        raise InvalidReference(f"its type ({dtype}) has no form in Zarr")
    if plain.kind != "S" and not dataset.id.get_type().equal(h5py.h5t.py_create(dtype, logical=True)):
        raise InvalidReference(f"its type is no plain {plain.name}: bits of it are left out or moved")
    return plain


def _chunked(dataset: Any, dtype: np.dtype[Any]) -> ScannedArray:
    chunks, filters = dataset.chunks, filters_of(dataset)
    grid = tuple(math.ceil(size / chunk) for size, chunk in zip(dataset.shape, chunks, strict=True))
    if math.prod(grid) > _MAX_CHUNKS:
        raise InvalidReference(f"it has {math.prod(grid):,} chunks")
    rows: list[tuple[Any, ...]] = []
    dataset.id.chunk_iter(
        lambda chunk: rows.append((*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask))
    )
    table = np.array(rows, np.int64).reshape(len(rows), len(chunks) + 3)
    masks = np.unique(table[:, -1])
    if len(masks) > 1:
        raise InvalidReference("some of its chunks skip filters that others have")
    codecs = codecs_of(filters, int(masks[0]) if len(masks) else 0, dtype.itemsize)
    document = _document(dataset, dtype, chunks, codecs)
    places = table[:, : len(chunks)] // np.array(chunks, np.int64)
    if rows and (places >= np.array(grid)).any():
        raise InvalidReference("it has chunks beyond its shape")
    numbers = np.ravel_multi_index(tuple(places.T), grid) if rows else np.zeros(0, np.int64)
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidReference("it has a chunk twice")
    if not codecs or not _compresses(codecs):
        _require_size(table[:, -2], math.prod(chunks) * dtype.itemsize + 4 * _checksums(codecs))
        _require_filtered_edges(dataset, codecs)
    return ScannedArray(document, _attributes(dataset), numbers, table[:, -3], table[:, -2])


def _compresses(codecs: list[dict[str, Any]]) -> bool:
    return any(codec["id"] not in ("shuffle", "fletcher32") for codec in codecs)


def _checksums(codecs: list[dict[str, Any]]) -> int:
    return sum(codec["id"] == "fletcher32" for codec in codecs)


def _require_size(nbytes: Numbers, expected: int) -> None:
    if (nbytes != expected).any():
        raise InvalidReference("the sizes of its chunks are not those of its type and shape")


def _require_filtered_edges(dataset: Any, codecs: list[dict[str, Any]]) -> None:
    """Refuse what HDF5 may have left unfiltered without saying so, and what nothing would tell on reading."""
    partial = any(size % chunk for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if partial and [codec["id"] for codec in codecs] == ["shuffle"]:
        raise InvalidReference("it is shuffled and not compressed, and chunks at its edges may not be")


def _contiguous(dataset: Any, dtype: np.dtype[Any]) -> ScannedArray:
    shape: tuple[int, ...] = dataset.shape
    offset = dataset.id.get_offset()
    # with a user block, what was never written has an impossible offset instead of none
    if offset is None or not dataset.id.get_storage_size() or not math.prod(shape):
        none = np.zeros(0, np.int64)
        return ScannedArray(_document(dataset, dtype, shape, []), _attributes(dataset), none, none, none)
    chunks = contiguous_chunks(shape, dtype.itemsize)
    count, nbytes = math.prod(shape) // math.prod(chunks), math.prod(chunks) * dtype.itemsize
    if dataset.id.get_storage_size() != count * nbytes:
        raise InvalidReference("its size in the file is not that of its type and shape")
    numbers = np.arange(count, dtype=np.int64)
    document = _document(dataset, dtype, chunks, [])
    sizes = np.full(count, nbytes, np.int64)
    return ScannedArray(document, _attributes(dataset), numbers, offset + numbers * nbytes, sizes)


def contiguous_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of up to 1 MiB, or one line of the last axis, that cut an array without rest."""
    chunks = list(shape)
    for axis, size in enumerate(shape[:-1] if len(shape) > 1 else shape):
        inner = math.prod(shape[axis + 1 :]) * itemsize
        if size * inner <= _CONTIGUOUS_NBYTES:
            break
        fitting = max(_CONTIGUOUS_NBYTES // inner, 1)
        chunks[axis] = next(part for part in range(min(fitting, size), 0, -1) if size % part == 0)
        if chunks[axis] > 1:
            break
    return tuple(chunks)


def _strings(h5py: Any, dataset: Any) -> ScannedArray:
    """Copy strings of variable length, which lie elsewhere in the file, in one chunk."""
    if h5py.check_string_dtype(dataset.dtype) is None:
        kind = "references" if h5py.check_ref_dtype(dataset.dtype) else "lists of variable length"
        raise InvalidReference(f"it holds {kind}, which have no form in Zarr")
    if dataset.size > _MAX_INLINED_STRINGS:
        raise InvalidReference(f"it has over {_MAX_INLINED_STRINGS:,} strings, which would have to be copied")
    from numcodecs import VLenUTF8  # noqa: PLC0415 - with the strings alone

    values = np.array(dataset.asstr(errors="replace")[()], object).reshape(-1)
    data = bytes(VLenUTF8().encode(values))
    document = {
        **_document(dataset, dataset.dtype, dataset.shape, []),
        "dtype": "|O",
        "filters": [{"id": "vlen-utf8"}],
        "fill_value": "",
    }
    none = np.zeros(0, np.int64)
    inlined = {0: data} if dataset.size else {}
    return ScannedArray(document, _attributes(dataset, of_text=True), none, none, none, inlined)


def _document(
    dataset: Any, dtype: np.dtype[Any], chunks: tuple[int, ...], codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": list(map(int, dataset.shape)),
        "chunks": [max(int(size), 1) for size in chunks],
        "dtype": dtype.str,
        "compressor": None,
        "filters": codecs or None,
        "fill_value": None if dtype.kind == "O" else fill_json(dataset.fillvalue, dtype),
        "order": "C",
    }


def _attributes(dataset: Any, *, of_text: bool = False) -> dict[str, Any]:
    fill = None if of_text else declared_fill(dataset)
    declared = {} if fill is None else {"_FillValue": fill}
    return {**attributes_of(dataset), **declared, "_ARRAY_DIMENSIONS": _dimensions(dataset)}


def _dimensions(dataset: Any) -> list[str]:
    import h5py  # noqa: PLC0415 - an optional dependency

    names: list[str] = []
    own = h5py.h5ds.is_scale(dataset.id)
    if own and "_Netcdf4Coordinates" in dataset.attrs:
        return _numbered_dimensions(h5py, dataset)
    for axis, size in enumerate(dataset.shape):
        scales = [] if own else list(dataset.dims[axis].values())
        label = dataset.dims[axis].label
        if own and len(dataset.shape) == 1:
            name = dataset.name.rpartition("/")[2].removeprefix(NOT_A_COORDINATE)
        elif scales:
            if scales[0].name is None:
                raise InvalidReference("the scale of a dimension is not in its file")
            name = scales[0].name.rpartition("/")[2].removeprefix(NOT_A_COORDINATE)
        else:
            # two arrays of one size share it, as far as anybody can tell
            name = label or f"phony_dim_{size}"
        names.append(name if name not in names else f"{name}_{axis}")
    return names


def _numbered_dimensions(h5py: Any, dataset: Any) -> list[str]:
    """Return the dimensions of a coordinate of several dimensions, which netCDF4 numbers."""
    wanted = np.asarray(dataset.attrs["_Netcdf4Coordinates"]).reshape(-1).tolist()
    names: dict[int, str] = {}
    group = dataset.parent
    while True:
        for name in group:
            # a link may lead into another file
            scale = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(scale, h5py.Dataset) and h5py.h5ds.is_scale(scale.id):
                number = scale.attrs.get("_Netcdf4Dimid", -1)
                names.setdefault(int(np.asarray(number).reshape(-1)[0]), name)
        if group.name == "/":
            break
        group = group.parent
    if len(wanted) != len(dataset.shape) or any(number not in names for number in wanted):
        raise InvalidReference("its dimensions are not those of its file")
    return [names[number] for number in wanted]
