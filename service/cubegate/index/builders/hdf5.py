"""Builds the index of one HDF5 or netCDF file by reading its metadata, and none of its chunks.

Each object of the file is looked at over the blocks that are here; what was missed is fetched for all
objects together, and they are looked at again. So HDF5, which works for one at a time, is never kept
waiting for a network, and the rounds of a scan are as many as the levels of its metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from cubegate.chunks.address import shown
from cubegate.chunks.source import ObjectSource
from cubegate.errors import ConfigurationError, InvalidReference
from cubegate.index.builders.hdf5_attributes import attributes_of
from cubegate.index.builders.hdf5_datasets import (
    NOT_A_COORDINATE,
    ScannedArray,
    is_only_a_dimension,
    scan_dataset,
)
from cubegate.index.builders.netcdf3 import MAGIC, read_netcdf3
from cubegate.index.builders.scanned import index_of_scanned
from cubegate.index.index import Index
from cubegate.index.partial_file import PartialFile, RemoteBlocks
from cubegate.index.progress import Progress, silent
from cubegate.index.table import INLINED, TextTable

MAX_METADATA_NBYTES = 2**28
_MAX_OBJECTS = 2**14
_MAX_LINKS = 16
_DAMAGED = (OSError, RuntimeError, KeyError)
_UNREADABLE = (TypeError, ValueError, NotImplementedError, ArithmeticError)


async def build_from_hdf5(
    source: ObjectSource,
    url: str,
    *,
    check_url: Callable[[str], None],
    group: str = "",
    progress: Progress = silent,
) -> Index:
    """Scan the HDF5, netCDF-4 or netCDF-3 file at `url`, of which at most 256 MiB are read.

    `group` is taken as the root. Strings of variable length are copied. What has no form as byte ranges is
    in `skipped`, with the reason. Links and values that lead into other files are not followed.

    Raises:
        ConfigurationError: h5py is not installed.
        InvalidReference: the file is damaged, no HDF5, or has no such group; the message names it.
        UpstreamError: it cannot be read.
    """
    try:
        import h5py  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ConfigurationError(
            "HDF5 files cannot be scanned without h5py", mend="Install cubegate[hdf5]."
        ) from None
    check_url(url)
    state = await source.stat(url)
    if state.nbytes is None:
        raise InvalidReference(f"{shown(url)} does not tell its size, so it cannot be scanned.")
    if not state.nbytes:
        raise InvalidReference(f"{shown(url)} is empty.")
    blocks = RemoteBlocks(url, source, state.nbytes, state.validator)
    await blocks.fetch({0})
    scan = _Scan(h5py, blocks, group.strip("/"), shown(url))
    if (blocks.get(0) or b"").startswith(MAGIC):
        scan.groups[scan.root], scan.arrays = await read_netcdf3(blocks, shown(url))
    else:
        await scan.run(progress)
    if "" not in scan.groups:
        raise InvalidReference(f"{shown(url)} has no group {scan.root!r}.")
    index = index_of_scanned(
        scan.groups, scan.arrays, scan.skipped, base_url=url, check_url=check_url, granules=lambda _: [url]
    )
    _require_ends(index, state.nbytes, shown(url))
    # every read held to it, and so will those of the chunks
    validators = TextTable.of([state.validator or ""] * index.granules)
    return Index(replace(index.content, validators=validators))


@dataclass(frozen=True)
class _Found:
    """What one look at an object told: a group and the names in it, an array, or why there is none."""

    attributes: dict[str, Any] | None = None
    children: list[str] = field(default_factory=list)
    array: ScannedArray | None = None
    skipped: str = ""
    address: int = 0


@dataclass
class _Scan:
    """What has been found in a file, by path from the group that is the root."""

    h5py: ModuleType
    blocks: RemoteBlocks
    root: str
    name: str
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, ScannedArray] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    async def run(self, progress: Progress) -> None:
        """Look at all objects."""
        waiting, missing = [""], set[int]()
        while waiting:
            await self.blocks.fetch(missing)
            if self.blocks.fetched_nbytes > MAX_METADATA_NBYTES:
                raise InvalidReference(
                    f"{self.name} has its metadata spread over more than {MAX_METADATA_NBYTES:,} bytes: "
                    "describe it by references made elsewhere."
                )
            waiting, missing = await asyncio.to_thread(self._look, waiting)
            done = len(self.groups) + len(self.arrays) + len(self.skipped)
            progress("Scanning", done, done + len(waiting))

    def _look(self, waiting: list[str]) -> tuple[list[str], set[int]]:
        """Look at the objects at the paths `waiting`; return those that lack blocks, and these blocks."""
        lacking: list[str] = []
        missing: set[int] = set()
        while waiting:
            # opened anew after each miss, since a read that fails half-way may confuse HDF5
            file = PartialFile(self.blocks)
            problem = self._look_until_a_miss(file, waiting)
            if file.missing is not None:
                missing.add(file.missing)
                lacking.append(waiting.pop())
            elif problem is not None:
                raise InvalidReference(
                    f"{self.name} is damaged, or no HDF5 file: HDF5 cannot read "
                    f"{waiting[-1] or 'its root'} ({type(problem).__name__})."
                ) from None
            if len(lacking) + len(waiting) + len(self.arrays) + len(self.groups) > _MAX_OBJECTS:
                raise InvalidReference(f"{self.name} has more than {_MAX_OBJECTS:,} objects.")
        return lacking, missing

    def _look_until_a_miss(self, file: PartialFile, waiting: list[str]) -> Exception | None:
        try:
            with self.h5py.File(file, "r") as opened:
                while waiting:
                    path = waiting[-1]
                    found = self._visit(opened, path)
                    if file.missing is not None:
                        break
                    waiting.pop()
                    waiting += self._enter(path, found)
        except _DAMAGED as error:
            return error
        return None

    def _visit(self, opened: Any, path: str) -> _Found:
        where = f"{self.root}/{path}".strip("/")
        try:
            item = self._follow(opened, where, _MAX_LINKS)
            if isinstance(item, self.h5py.Group):
                return _Found() if self._is_link(opened, where) else self._group(item)
            if item is None:
                return _Found(skipped="it is a link that leads into another file, or nowhere")
            if not path or not isinstance(item, self.h5py.Dataset) or is_only_a_dimension(item):
                return _Found()
            return _Found(array=scan_dataset(item))
        except InvalidReference as error:
            reason = str(error)
        except _UNREADABLE as error:
            reason = f"its type or its storage is unknown here ({type(error).__name__})"
        return _Found(skipped=reason)

    def _group(self, group: Any) -> _Found:
        address = self.h5py.h5o.get_info(group.id).addr
        if address in self.seen:
            return _Found(skipped="it is a second name of a group")
        return _Found(attributes_of(group), list(group), address=address)

    def _enter(self, path: str, found: _Found) -> list[str]:
        """Keep what was found at `path`; return the paths below it."""
        if found.attributes is not None:
            self.seen.add(found.address)
            self.groups[path] = found.attributes
            return [f"{path}/{name}".lstrip("/") for name in found.children]
        parent, _, name = path.rpartition("/")
        path = f"{parent}/{name.removeprefix(NOT_A_COORDINATE)}".lstrip("/")
        if found.array is not None:
            self.arrays[path] = found.array
        elif found.skipped:
            self.skipped[path] = f"array {path!r}: {found.skipped}"
        return []

    def _is_link(self, opened: Any, path: str) -> bool:
        link = opened.get(path, getlink=True) if path else None
        return isinstance(link, self.h5py.SoftLink)

    def _follow(self, item: Any, path: str, links: int) -> Any | None:
        """Return what is at `path` in this file: HDF5 would open others by their names."""
        for name in filter(None, path.split("/")):
            link = item.get(name, getlink=True) if isinstance(item, self.h5py.Group) else None
            if isinstance(link, self.h5py.HardLink):
                item = item[name]
            elif isinstance(link, self.h5py.SoftLink) and links:
                start = item.file if link.path.startswith("/") else item
                item = self._follow(start, link.path, links - 1)
            else:
                return None
        return item


def _require_ends(index: Index, nbytes: int, name: str) -> None:
    for path, table in index.content.tables.items():
        rows = table.all()
        stored = rows.granule < INLINED
        if (rows.offset[stored] + rows.length[stored] > nbytes).any():
            raise InvalidReference(f"Array {path!r} has chunks beyond the end of {name}, which is cut.")
