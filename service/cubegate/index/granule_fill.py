"""Settles, by asking a granule, what the fill value of a reference file means.

kerchunk writes HDF5's storage fill as `fill_value` where the granule declares no `_FillValue`,
and drops `_FillValue` from the attributes where it does, so that references cannot tell; for
netCDF4 variables it leaves the storage fill out.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import numpy as np

from cubegate.chunks.source import ChunkReference, ChunkSource
from cubegate.errors import UpstreamError
from cubegate.index.index import Index, StoredArray
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import INLINED, UNALLOCATED

Policy = Literal["auto", "declared", "storage"]

_BLOCK = 2**20
_MAX_BLOCKS = 256
_HEAD = 52
_HDF5, _NETCDF3 = b"\x89HDF\r\n\x1a\n", b"CDF"
_NETCDF_FILLS = {
    "i1": -127, "u1": 255, "i2": -32767, "u2": 65535, "i4": -2147483647, "u4": 4294967295,
    "i8": -9223372036854775806, "u8": 18446744073709551614,
    "f4": 9.969209968386869e36, "f8": 9.969209968386869e36,
}  # fmt: skip

_log = logging.getLogger(__name__)


class _UnreadableGranuleError(Exception):
    """The granule does not say what its arrays declare."""


@dataclass(frozen=True)
class _Declaration:
    """What a granule says of one array.

    `storage` is the value of unallocated chunks, None where it is not a number; `whole` says
    that the array in the granule is all of the array in the references.
    """

    declared: bool
    storage: Any = None
    whole: bool = False


_Answers = dict[str, _Declaration]
_Shapes = Mapping[str, tuple[int, ...]]


async def settle_fill(index: Index, source: ChunkSource, *, policy: Policy) -> Index:
    """Return `index` with the fill settled of arrays that have no `_FillValue` attribute.

    `declared` leaves `fill_value` to mean missing, as xarray reads it. `storage` says that it
    does not where it is zero, empty or netCDF's default. `auto` asks a granule: in HDF5 a
    `_FillValue` attribute declares it, and of netCDF3 kerchunk copies only what is declared.
    HDF5 also tells the storage fill, where chunks are unallocated and the references do not.
    Where no granule can be asked, a zero, empty or default fill stays declared, and the path of
    its array is in `assumed_fill`.
    """
    in_question = [
        array for path, array in index.hierarchy.arrays.items() if _in_question(index, path, array)
    ]
    if policy == "declared" or not in_question:
        return index
    if policy == "storage":
        merely_storage = _Declaration(declared=False)
        return _settled(index, {a.path: merely_storage for a in in_question if _looks_like_storage(a)})
    answers: _Answers = {}
    for url, arrays in _by_granule(index, in_question).items():
        answers.update(await _ask(url, source, {array.path: array.shape for array in arrays}))
    unanswered = [a.path for a in in_question if a.path not in answers and _looks_like_storage(a)]
    if unanswered:
        _log.warning("no granule tells what the fill value means of: %s", ", ".join(unanswered))
    return _settled(index, answers, unanswered)


def _in_question(index: Index, path: str, array: ArrayMetadata) -> bool:
    stored = index.content.arrays[path]
    if array.zarr_format != 2 or "_FillValue" in stored.attributes or not stored.fill_declared:
        return False
    if _has_unallocated(index, path):
        return True
    fill = array.fill_value
    # NaN and NaT are missing whatever is declared
    return fill is not None and not (array.dtype.kind in "fcmM" and bool(np.isnan(fill)))


def _has_unallocated(index: Index, path: str) -> bool:
    return bool((index.content.tables[path].granule.all() == UNALLOCATED).any())


def _looks_like_storage(array: ArrayMetadata) -> bool:
    fill = array.fill_value
    if fill is None or array.dtype.kind == "O":
        return not fill
    if array.dtype.kind in "SUV":
        return not np.asarray(fill).tobytes().strip(b"\0 ")
    if array.dtype.kind in "mM":
        return bool(fill.view("i8") == 0)
    default = _NETCDF_FILLS.get(array.dtype.str[1:])
    return bool(fill == 0) or (default is not None and bool(fill == array.dtype.type(default)))


def _by_granule(index: Index, arrays: Iterable[ArrayMetadata]) -> dict[str, list[ArrayMetadata]]:
    # an array that is inlined as a whole came from the granules of the others
    fallback = index.urls[0] if index.granules else ""
    found: dict[str, list[ArrayMetadata]] = {}
    for array in arrays:
        granules = index.content.tables[array.path].granule.all()
        stored = np.flatnonzero(granules < INLINED)
        url = index.urls[int(granules[stored[0]])] if len(stored) else fallback
        found.setdefault(url, []).append(array)
    return found


def _settled(index: Index, answers: _Answers, assumed: Iterable[str] = ()) -> Index:
    arrays = dict(index.content.arrays)
    for path, answer in answers.items():
        arrays[path] = _with_answer(index, path, answer)
    return Index(replace(index.content, arrays=arrays, assumed_fill=tuple(sorted(assumed))))


def _with_answer(index: Index, path: str, answer: _Declaration) -> StoredArray:
    stored = index.content.arrays[path]
    fill = stored.document.get("fill_value")
    settled = replace(stored, fill_declared=stored.fill_declared and answer.declared)
    # in a stack, an unallocated chunk may also belong to a date that has no granule: that one is missing
    told = fill is not None and not answer.whole
    if answer.storage is None or told or not _has_unallocated(index, path):
        return settled
    document = {**stored.document, "fill_value": answer.storage}
    if fill is None or not answer.declared:
        return StoredArray(document, stored.attributes, fill_declared=False)
    return StoredArray(document, {**stored.attributes, "_FillValue": fill})


async def _ask(url: str, source: ChunkSource, shapes: _Shapes) -> _Answers:
    if not url:
        return {}
    try:
        head = await source.get(ChunkReference(url, 0, _HEAD))
        if head.startswith(_NETCDF3):
            return dict.fromkeys(shapes, _Declaration(declared=True))
        if not head.startswith(_HDF5):
            return {}
        return await _ask_hdf5(url, source, shapes, _size_in_superblock(head))
    except (UpstreamError, _UnreadableGranuleError) as error:
        _log.warning(
            "the first granule of %s cannot be asked for its fill value: %s", next(iter(shapes)), error
        )
        return {}


def _size_in_superblock(head: bytes) -> int:
    version = head[8]
    width, base = (head[13], 24 + 4 * version) if version < 2 else (head[9], 12)
    end = base + 2 * width
    if version > 3 or width not in (4, 8) or int.from_bytes(head[base : base + width], "little"):
        raise _UnreadableGranuleError("its superblock is of an unknown kind")
    return int.from_bytes(head[end : end + width], "little")


async def _ask_hdf5(url: str, source: ChunkSource, shapes: _Shapes, size: int) -> _Answers:
    try:
        import h5py  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise _UnreadableGranuleError("h5py is not installed") from None
    blocks: dict[int, bytes] = {}
    while len(blocks) < _MAX_BLOCKS:
        # the file is read anew with each block that comes, so that HDF5's lock is never held over a fetch
        file = _PartialFile(blocks, size)
        answers = await asyncio.to_thread(_read_declarations, h5py, file, shapes)
        if file.missing is None:
            return answers
        start = file.missing * _BLOCK
        blocks[file.missing] = await source.get(ChunkReference(url, start, min(_BLOCK, size - start)))
    raise _UnreadableGranuleError("its metadata are spread too widely")


def _read_declarations(h5py: ModuleType, file: _PartialFile, shapes: _Shapes) -> _Answers:
    try:
        with h5py.File(file, "r") as granule:
            found = {path: _find_dataset(h5py, granule, path) for path in shapes}
            return {
                path: _declaration(dataset, shapes[path])
                for path, dataset in found.items()
                if dataset is not None
            }
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if file.missing is not None:
            return {}
        raise _UnreadableGranuleError(f"HDF5 cannot read it ({type(error).__name__})") from None


def _find_dataset(h5py: ModuleType, granule: Any, path: str) -> Any | None:
    if isinstance(granule.get(path), h5py.Dataset):
        return granule[path]
    # references built from a group leave its path out
    names: list[str] = []
    granule.visit(names.append)
    candidates = [granule[name] for name in names if name.endswith(f"/{path}")]
    return candidates[0] if len(candidates) == 1 and isinstance(candidates[0], h5py.Dataset) else None


def _declaration(dataset: Any, shape: tuple[int, ...]) -> _Declaration:
    storage = dataset.fillvalue.item() if dataset.dtype.kind in "biuf" else None
    if isinstance(storage, float) and not math.isfinite(storage):
        storage = str(storage).replace("nan", "NaN").replace("inf", "Infinity")
    return _Declaration("_FillValue" in dataset.attrs, storage, whole=dataset.shape == shape)


class _PartialFile(io.RawIOBase):
    """A file of `size` bytes of which some blocks are held; `missing` is the first one lacked."""

    def __init__(self, blocks: Mapping[int, bytes], size: int) -> None:
        super().__init__()
        self._blocks, self._size, self._position = blocks, size, 0
        self.missing: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(min(len(view), self._size - self._position), 0)
        done = 0
        while done < wanted:
            number, start = divmod(self._position, _BLOCK)
            if number not in self._blocks:
                self.missing = number
                raise OSError("this part of the granule is not here yet")
            piece = self._blocks[number][start : start + wanted - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done
