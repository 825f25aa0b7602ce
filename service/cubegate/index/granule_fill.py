"""Settles, by asking a granule, whether the fill value of a reference file also means missing.

kerchunk writes HDF5's storage fill as `fill_value` where the granule declares no `_FillValue`,
and drops `_FillValue` from the attributes where it does, so that references cannot tell.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, Literal

import numpy as np

from cubegate.chunks.source import ChunkReference, ChunkSource
from cubegate.errors import UpstreamError
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import INLINED

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


async def settle_fill(index: Index, source: ChunkSource, *, policy: Policy) -> Index:
    """Return `index` with `fill_declared` settled for arrays that have no `_FillValue` attribute.

    `declared` leaves `fill_value` to mean missing, as xarray reads it. `storage` says that it
    does not where it is zero, empty or netCDF's default. `auto` asks a granule: in HDF5 a
    `_FillValue` attribute declares it, and of netCDF3 kerchunk copies only what is declared.
    Where no granule can be asked, a zero, empty or default fill stays declared, and the path of
    its array is in `assumed_fill`.
    """
    open_questions = [array for path, array in index.hierarchy.arrays.items() if _is_open(index, path, array)]
    if policy == "declared" or not open_questions:
        return index
    if policy == "storage":
        return _settled(
            index, dict.fromkeys((a.path for a in open_questions if _looks_like_storage(a)), False)
        )
    answers: dict[str, bool | None] = {}
    for url, arrays in _by_granule(index, open_questions).items():
        paths = [array.path for array in arrays]
        answers.update(await _ask(url, source, paths) if url else dict.fromkeys(paths, None))
    unanswered = [a.path for a in open_questions if answers[a.path] is None and _looks_like_storage(a)]
    if unanswered:
        _log.warning(
            "no granule tells whether the fill value means missing, taken so: %s", ", ".join(unanswered)
        )
    return _settled(
        index, {path: answer for path, answer in answers.items() if answer is not None}, unanswered
    )


def _is_open(index: Index, path: str, array: ArrayMetadata) -> bool:
    stored = index.content.arrays[path]
    if array.zarr_format != 2 or "_FillValue" in stored.attributes or not stored.fill_declared:
        return False
    fill = array.fill_value
    # NaN and NaT are missing whatever is declared
    return fill is not None and not (array.dtype.kind in "fcmM" and bool(np.isnan(fill)))


def _looks_like_storage(array: ArrayMetadata) -> bool:
    fill = array.fill_value
    if array.dtype.kind in "SUOV":
        return not np.asarray(fill).tobytes().strip(b"\0 ") if array.dtype.kind != "O" else not fill
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


def _settled(index: Index, declared: Mapping[str, bool], assumed: Iterable[str] = ()) -> Index:
    arrays = {
        path: replace(stored, fill_declared=declared.get(path, stored.fill_declared))
        for path, stored in index.content.arrays.items()
    }
    return Index(replace(index.content, arrays=arrays, assumed_fill=tuple(sorted(assumed))))


async def _ask(url: str, source: ChunkSource, paths: list[str]) -> Mapping[str, bool | None]:
    try:
        head = await source.get(ChunkReference(url, 0, _HEAD))
        if head.startswith(_NETCDF3):
            return dict.fromkeys(paths, True)
        if not head.startswith(_HDF5):
            return dict.fromkeys(paths, None)
        return await _ask_hdf5(url, source, paths, _size_in_superblock(head))
    except (UpstreamError, _UnreadableGranuleError) as error:
        _log.warning("the first granule of %s cannot be asked for its fill value: %s", paths[0], error)
        return dict.fromkeys(paths, None)


def _size_in_superblock(head: bytes) -> int:
    version = head[8]
    width, base = (head[13], 24 + 4 * version) if version < 2 else (head[9], 12)
    end = base + 2 * width
    if version > 3 or width not in (4, 8) or int.from_bytes(head[base : base + width], "little"):
        raise _UnreadableGranuleError("its superblock is of an unknown kind")
    return int.from_bytes(head[end : end + width], "little")


async def _ask_hdf5(url: str, source: ChunkSource, paths: list[str], size: int) -> Mapping[str, bool | None]:
    try:
        import h5py  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise _UnreadableGranuleError("h5py is not installed") from None
    blocks: dict[int, bytes] = {}
    while len(blocks) < _MAX_BLOCKS:
        # the file is read anew with each block that comes, so that HDF5's lock is never held over a fetch
        file = _PartialFile(blocks, size)
        answers = await asyncio.to_thread(_read_declarations, h5py, file, paths)
        if file.missing is None:
            return answers
        start = file.missing * _BLOCK
        blocks[file.missing] = await source.get(ChunkReference(url, start, min(_BLOCK, size - start)))
    raise _UnreadableGranuleError("its metadata are spread too widely")


def _read_declarations(h5py: ModuleType, file: _PartialFile, paths: list[str]) -> dict[str, bool | None]:
    try:
        with h5py.File(file, "r") as granule:
            return {path: _declares_fill(h5py, granule, path) for path in paths}
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if file.missing is not None:
            return {}
        raise _UnreadableGranuleError(f"HDF5 cannot read it ({type(error).__name__})") from None


def _declares_fill(h5py: ModuleType, granule: Any, path: str) -> bool | None:
    found = granule.get(path)
    if not isinstance(found, h5py.Dataset):
        # references built from a group leave its path out
        names: list[str] = []
        granule.visit(names.append)
        candidates = [granule[name] for name in names if name.endswith(f"/{path}")]
        if len(candidates) != 1 or not isinstance(candidates[0], h5py.Dataset):
            return None
        found = candidates[0]
    return "_FillValue" in found.attrs


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
