"""Reads the references that granules of one product ship, and keeps them until the cube is complete."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import CubegateError
from cubegate.index.builders.alike_json import AlikeReader
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.settling import settle_references
from cubegate.index.small_arrays import content_with_small_arrays
from cubegate.index.table import UNALLOCATED
from cubegate.index.validators import take_validators

SUFFIXES = (".json.gz", ".json")

_IN_FLIGHT = 64
_NO_VERSION = "0" * 16


@dataclass(frozen=True)
class Sidecar:
    """The references of one granule: their address, and the file that keeps them for a build that goes on."""

    url: str
    kept: Path


class SidecarReader:
    """Reads the sidecars of granules that one program made.

    What a fill value means is asked of the first granule and of the last one, and of each that lacks
    chunks; the others take it from the first where their documents are the same.
    """

    def __init__(self, source: ObjectSource, check_url: Callable[[str], None]) -> None:
        self._source, self._check_url = source, check_url
        self._reader = AlikeReader()

    async def read(
        self, sidecars: Sequence[Sidecar], report: Callable[[int, int], None]
    ) -> list[Index | CubegateError]:
        """Return the index of each granule, or why it cannot be used.

        Raises:
            OSError: a file cannot be written.
        """
        # one thread, since each is compared with the one before
        with ThreadPoolExecutor(1, thread_name_prefix="cubegate-sidecars") as thread:
            read = await run_all(
                (self._read_one(sidecar, thread) for sidecar in sidecars), in_flight=_IN_FLIGHT, report=report
            )
        return await self._settled(read)

    async def _read_one(self, sidecar: Sidecar, thread: ThreadPoolExecutor) -> Index | CubegateError:
        loop = asyncio.get_running_loop()
        try:
            kept = await loop.run_in_executor(thread, _open_kept, sidecar.kept)
            if kept is not None:
                index = await self._index(sidecar.url, kept.data, thread)
                if _validators(index) == kept.validators:
                    return index
                # the granule was replaced since its references were fetched
            data = await self._source.get(ChunkReference(sidecar.url))
            index = await self._index(sidecar.url, data, thread)
            await loop.run_in_executor(thread, _keep, sidecar.kept, data, _validators(index))
        except CubegateError as error:
            return error
        return index

    async def _index(self, url: str, data: bytes, thread: ThreadPoolExecutor) -> Index:
        index = await asyncio.get_running_loop().run_in_executor(
            thread, lambda: self._reader.read(data, base_url=url, check_url=self._check_url)
        )
        validators, content = await asyncio.gather(
            take_validators(index, self._source), content_with_small_arrays(index, self._source)
        )
        content = replace(content, validators=validators)
        return Index(content, version=_NO_VERSION, hierarchy=index.hierarchy)

    async def _settled(self, read: Sequence[Index | CubegateError]) -> list[Index | CubegateError]:
        indexes = [number for number, each in enumerate(read) if isinstance(each, Index)]
        found = list(read)
        if not indexes:
            return found
        first, last = indexes[0], indexes[-1]
        raw = read[first]
        asked = {n for n in indexes if n in (first, last) or not _may_take(read[n], raw)}
        settled = await run_all((self._settle(read[n]) for n in sorted(asked)), in_flight=_IN_FLIGHT)
        for number, each in zip(sorted(asked), settled, strict=True):
            found[number] = each
        pattern = found[first]
        if isinstance(raw, Index) and isinstance(pattern, Index):
            for number in indexes:
                index = read[number]
                if number not in asked and isinstance(index, Index):
                    found[number] = _taking(index, raw, pattern)
        return found

    async def _settle(self, index: Index | CubegateError) -> Index | CubegateError:
        if isinstance(index, CubegateError):
            return index
        try:
            return await settle_references(index, self._source, policy="auto")
        except CubegateError as error:
            return error


def _may_take(index: Index | CubegateError, first: Index | CubegateError) -> bool:
    """Whether the arrays of two indexes have the same documents, and none lacks a chunk."""
    if not (isinstance(index, Index) and isinstance(first, Index)):
        return False
    mine, others = index.content.arrays, first.content.arrays
    return mine.keys() == others.keys() and all(
        _same(mine[path], others[path]) and not _lacks_chunks(index, path) for path in mine
    )


def _lacks_chunks(index: Index, path: str) -> bool:
    return bool((index.content.tables[path].granule.all() == UNALLOCATED).any())


def _same(one: StoredArray, other: StoredArray) -> bool:
    return one is other or (
        one.document == other.document
        and one.fill_declared == other.fill_declared
        and one.attributes.get("_FillValue") == other.attributes.get("_FillValue")
    )


def _taking(index: Index, raw: Index, settled: Index) -> Index:
    """Return `index` with what became of the documents of `raw`, which are the same."""
    arrays = {}
    metadata = dict(index.hierarchy.arrays)
    for path, stored in index.content.arrays.items():
        become = settled.content.arrays.get(path)
        if become is None:
            arrays[path] = stored
        elif stored.attributes == raw.content.arrays[path].attributes:
            arrays[path], metadata[path] = become, settled.hierarchy.arrays[path]
        else:
            fill = {key: become.attributes[key] for key in ("_FillValue",) if key in become.attributes}
            arrays[path] = replace(become, attributes={**stored.attributes, **fill})
            metadata[path] = arrays[path].parse(path)
    content = replace(index.content, arrays=arrays, assumed_fill=settled.content.assumed_fill)
    return Index(content, version=_NO_VERSION, hierarchy=replace(index.hierarchy, arrays=metadata))


@dataclass(frozen=True)
class _Kept:
    """A sidecar, and what its granules were known by when it was fetched."""

    data: bytes
    validators: Mapping[str, str]


def _validators(index: Index) -> dict[str, str]:
    known: Iterable[str] = index.content.validators or ()
    return dict(zip(index.urls, known, strict=True))


def _keep(path: Path, data: bytes, validators: Mapping[str, str]) -> None:
    head = json.dumps({"crc32": zlib.crc32(data), "validators": dict(validators)}).encode()
    # one build at a time writes it
    made = path.with_name(f".{path.name}")
    made.write_bytes(head + b"\n" + data)
    made.replace(path)


def _open_kept(path: Path) -> _Kept | None:
    try:
        head, _, data = path.read_bytes().partition(b"\n")
        said = json.loads(head)
        whole = said["crc32"] == zlib.crc32(data)
        validators = {str(url): str(known) for url, known in said["validators"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # none yet, or one that a crash left in pieces
        return None
    return _Kept(data, validators) if whole else None
