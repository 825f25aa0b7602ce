"""Asks a granule what it says of its arrays, reading only the parts of it that tell."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkReference, ChunkSource

Answer = TypeVar("Answer")

_BLOCK = 2**20
_MAX_BLOCKS = 256
_MAX_BLOCKS_OF_CONTENTS = 64
_MAX_COMPARED_NBYTES = 2**20
_HEAD = 52
_MAX_LINKS = 8
_HDF5, _NETCDF3 = b"\x89HDF\r\n\x1a\n", b"CDF"
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class UnreadableGranuleError(Exception):
    """The granule does not say what its arrays are."""


@dataclass(frozen=True)
class Contents:
    """What a granule holds of the values of one array.

    Attributes:
        held: whether there is anything at all.
        chunks: the number of allocated chunks, None where the array is not chunked.
        uniform: the one value of all cells, None where they differ or are too many to look at;
            text for strings, else an array of one item.
    """

    held: bool
    chunks: int | None = None
    uniform: str | NDArray[Any] | None = None


@dataclass(frozen=True)
class GranuleArray:
    """What a granule says of one array.

    Attributes:
        declared: whether its fill value means missing.
        storage: the value of unallocated chunks as JSON, None where it is not a number.
        shape: None where it is not known.
        chunk_shape: None where the array is not chunked.
        contents: None where they were not asked for, or could not be found out.
    """

    declared: bool
    storage: Any = None
    shape: tuple[int, ...] | None = None
    chunk_shape: tuple[int, ...] | None = None
    contents: Contents | None = None


async def ask_granule(
    url: str, source: ChunkSource, paths: Collection[str], *, contents: Collection[str]
) -> dict[str, GranuleArray]:
    """Return what the granule at `url` says of the arrays at `paths`; those that it lacks are left out.

    `contents` are those of the paths of which also `GranuleArray.contents` is wanted. Of netCDF3
    only `declared` is known, of other formats than HDF5 nothing.

    Raises:
        UnreadableGranuleError: it is damaged or of an unknown kind, or h5py is not installed.
        UpstreamError: it cannot be read.
    """
    head = await source.get(ChunkReference(url, 0, _HEAD))
    if head.startswith(_NETCDF3):
        # kerchunk copies only what netCDF3 declares
        return dict.fromkeys(paths, GranuleArray(declared=True))
    if not head.startswith(_HDF5):
        return {}
    try:
        import h5py  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise UnreadableGranuleError("h5py is not installed") from None
    granule = _Granule(h5py, url, source, _size_in_superblock(head))
    found = await granule.ask(lambda file: _declarations(h5py, file, paths), _MAX_BLOCKS)
    wanted = [path for path in contents if path in found]
    try:
        held = await granule.ask(lambda file: _all_contents(h5py, file, wanted), _MAX_BLOCKS_OF_CONTENTS)
    except UnreadableGranuleError:
        return found
    return {path: replace(array, contents=held.get(path)) for path, array in found.items()}


def _size_in_superblock(head: bytes) -> int:
    version = head[8]
    width, base = (head[13], 24 + 4 * version) if version < 2 else (head[9], 12)
    end = base + 2 * width
    if version > 3 or width not in (4, 8) or int.from_bytes(head[base : base + width], "little"):
        raise UnreadableGranuleError("its superblock is of an unknown kind")
    return int.from_bytes(head[end : end + width], "little")


class _Granule:
    """An HDF5 file of which blocks are fetched as they are needed."""

    def __init__(self, h5py: ModuleType, url: str, source: ChunkSource, size: int) -> None:
        self._h5py, self._url, self._source, self._size = h5py, url, source, size
        self._blocks: dict[int, bytes] = {}

    async def ask(self, question: Callable[[Any], Answer], max_blocks: int) -> Answer:
        """Return what `question` answers about the open file; fetches up to `max_blocks` blocks."""
        for _ in range(max_blocks):
            # the file is read anew with each block that comes, so that HDF5's lock is never held over a fetch
            file = _PartialFile(self._blocks, self._size)
            try:
                answer = await asyncio.to_thread(self._answer, file, question)
            except UnreadableGranuleError:
                if file.missing is None:
                    raise
            else:
                if file.missing is None:
                    return answer
            start = file.missing * _BLOCK
            reference = ChunkReference(self._url, start, min(_BLOCK, self._size - start))
            self._blocks[file.missing] = await self._source.get(reference)
        raise UnreadableGranuleError("its metadata are spread too widely")

    def _answer(self, file: _PartialFile, question: Callable[[Any], Answer]) -> Answer:
        try:
            with self._h5py.File(file, "r") as granule:
                return question(granule)
        except _HDF5_ERRORS as error:
            raise UnreadableGranuleError(f"HDF5 cannot read it ({type(error).__name__})") from None


def _declarations(h5py: ModuleType, granule: Any, paths: Collection[str]) -> dict[str, GranuleArray]:
    found = {path: _find_dataset(h5py, granule, path) for path in paths}
    return {path: _declaration(dataset) for path, dataset in found.items() if dataset is not None}


def _find_dataset(h5py: ModuleType, granule: Any, path: str) -> Any | None:
    item = _follow(h5py, granule, path, _MAX_LINKS)
    if isinstance(item, h5py.Dataset):
        return item
    # references built from a group leave its path out
    names: list[str] = []
    granule.visit(names.append)
    found = [_follow(h5py, granule, name, _MAX_LINKS) for name in names if name.endswith(f"/{path}")]
    candidates = [item for item in found if isinstance(item, h5py.Dataset)]
    return candidates[0] if len(candidates) == 1 else None


def _follow(h5py: ModuleType, item: Any, path: str, links: int) -> Any | None:
    """Return what is at `path` from the group `item`, in this file: HDF5 would open others by their names."""
    for name in filter(None, path.split("/")):
        link = item.get(name, getlink=True) if isinstance(item, h5py.Group) else None
        if isinstance(link, h5py.HardLink):
            item = item[name]
        elif isinstance(link, h5py.SoftLink) and links:
            start = item.file if link.path.startswith("/") else item
            item = _follow(h5py, start, link.path, links - 1)
        else:
            return None
    return item


def _declaration(dataset: Any) -> GranuleArray:
    storage = dataset.fillvalue.item() if dataset.dtype.kind in "biuf" else None
    if isinstance(storage, float) and not math.isfinite(storage):
        storage = str(storage).replace("nan", "NaN").replace("inf", "Infinity")
    return GranuleArray("_FillValue" in dataset.attrs, storage, dataset.shape, dataset.chunks)


def _all_contents(h5py: ModuleType, granule: Any, paths: Collection[str]) -> dict[str, Contents]:
    return {path: _contents(h5py, _find_dataset(h5py, granule, path)) for path in paths}


def _contents(h5py: ModuleType, dataset: Any) -> Contents:
    layout = dataset.id.get_create_plist().get_layout()
    if layout == h5py.h5d.VIRTUAL or dataset.external:
        # its values are in other files
        return Contents(held=True)
    chunks = dataset.id.get_num_chunks() if dataset.chunks else None
    held = bool(chunks or dataset.id.get_storage_size())
    return Contents(held, chunks, _uniform_value(dataset) if held else None)


def _uniform_value(dataset: Any) -> str | NDArray[Any] | None:
    if not dataset.size or dataset.nbytes > _MAX_COMPARED_NBYTES:
        return None
    try:
        values = np.asarray(dataset[()]).reshape(-1)
    except _HDF5_ERRORS:
        # a filter that is not installed; where a block is not here yet, the question comes again
        return None
    first = values[:1]
    if values.dtype.hasobject:
        same = isinstance(first[0], bytes) and all(value == first[0] for value in values)
        return first[0].decode(errors="replace") if same else None
    return first if values.tobytes() == first.tobytes() * len(values) else None


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
