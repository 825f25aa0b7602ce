"""The catalog: from a dataset id to its opened datacube, following changes of the files behind it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cubegate.catalog.collection import Collection, load_collections, matching_files
from cubegate.catalog.datacube import Datacube
from cubegate.errors import ConfigurationError, NotFound

logger = logging.getLogger(__name__)

Opener = Callable[[Collection, Path], Awaitable[Datacube]]
Stamp = tuple[tuple[str, int, int], ...]

CHECK_INTERVAL = 1.0
METADATA_DOCUMENTS = (".zmetadata", "zarr.json")


@dataclass(slots=True)
class _Held:
    """An opened cube, and how its files were when it was last looked at."""

    collection: Collection
    stamp: Stamp
    cube: Datacube
    checked: float


class Catalog:
    """All collections of a server; each cube is opened at its first use.

    A changed, added or removed collection file, or index file behind one, is noticed within
    about a second. A file that became invalid keeps what was mounted before and is logged.
    """

    def __init__(self, patterns: Sequence[str], directory: Path, opener: Opener) -> None:
        self._patterns, self._directory, self._opener = patterns, directory, opener
        self._collections: dict[str, tuple[Path, Collection]] = {}
        self._cubes: dict[str, _Held] = {}
        self._opening: dict[tuple[int, str, Stamp], asyncio.Task[Datacube]] = {}
        self._checked = 0.0
        self._files: Stamp = ()

    def load(self) -> None:
        """Read all collection files.

        Raises:
            ConfigurationError: one of them is invalid.
        """
        self._files = self._stamp_files()
        self._collections = load_collections(self._patterns, self._directory)
        for pattern in self._patterns:
            if not matching_files([pattern], self._directory):
                logger.warning("no collection file matches %s in %s", pattern, self._directory)

    def ids(self) -> list[str]:
        """The ids of all collections, sorted."""
        self._refresh()
        return sorted(self._collections)

    @property
    def opened(self) -> int:
        """The number of cubes that are open."""
        return len(self._cubes)

    def collection(self, dataset_id: str) -> Collection:
        """Return one collection as configured.

        Raises:
            NotFound: there is none of that id.
        """
        return self._configured(dataset_id)[1]

    def _configured(self, dataset_id: str) -> tuple[Path, Collection]:
        self._refresh()
        try:
            return self._collections[dataset_id]
        except KeyError:
            raise NotFound(
                f"There is no dataset {dataset_id!r}. GET /datasets lists those that exist."
            ) from None

    def held(self, dataset_id: str) -> Datacube | None:
        """Return what `get` would, where that needs neither a look at a file nor any waiting; else None."""
        name, _, version = dataset_id.partition("@")
        held = self._cubes.get(name)
        if held is None or (version and version != held.cube.version):
            return None
        expired = time.monotonic() - CHECK_INTERVAL
        if held.checked <= expired or self._checked <= expired:
            return None
        file_and_collection = self._collections.get(name)
        current = file_and_collection is not None and file_and_collection[1] is held.collection
        return held.cube if current else None

    async def get(self, dataset_id: str) -> Datacube:
        """Return the datacube of `id` or `id@version`, opening it at first use.

        Raises:
            NotFound: no such dataset, or not in that version.
            UpstreamError, InvalidReference, ConfigurationError: it cannot be opened.
        """
        name, _, version = dataset_id.partition("@")
        file, collection = self._configured(name)
        cube = await self._current(collection, file)
        if version and version != cube.version:
            raise NotFound(
                f"Dataset {name!r} is not mounted in version {version!r}; it is now in {cube.version!r}."
            )
        return cube

    async def _current(self, collection: Collection, file: Path) -> Datacube:
        held, now = self._cubes.get(collection.id), time.monotonic()
        if held is not None and held.collection is collection and now - held.checked < CHECK_INTERVAL:
            return held.cube
        stamp = _stamp_source(file, collection)
        if held is not None and held.stamp == stamp:
            held.collection, held.checked = collection, now
            return held.cube
        # one opening per event loop: tasks cannot be awaited across loops
        key = (id(asyncio.get_running_loop()), collection.id, stamp)
        task = self._opening.get(key)
        if task is None:
            task = asyncio.ensure_future(self._open(collection, file, stamp))
            self._opening[key] = task
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        # a client that leaves must not stop the opening that others wait for
        return await asyncio.shield(task)

    async def _open(self, collection: Collection, file: Path, stamp: Stamp) -> Datacube:
        started = time.monotonic()
        cube = await self._opener(collection, file)
        self._cubes[collection.id] = _Held(collection, stamp, cube, started)
        for note in cube.notes:
            logger.warning("dataset %s: %s", collection.id, note)
        return cube

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked < CHECK_INTERVAL:
            return
        self._checked = now
        files = self._stamp_files()
        if files == self._files:
            return
        self._files = files
        try:
            self._collections = load_collections(self._patterns, self._directory)
        except ConfigurationError as error:
            logger.error("the collections stay as they were: %s", error)  # noqa: TRY400 - the text says it all
            return
        self._cubes = {name: held for name, held in self._cubes.items() if name in self._collections}

    def _stamp_files(self) -> Stamp:
        return tuple(_stamp(file) for file in matching_files(self._patterns, self._directory))


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError:
        return (str(file), 0, 0)
    return (str(file), status.st_mtime_ns, status.st_size)


def _stamp_source(file: Path, collection: Collection) -> Stamp:
    source = local_path(collection.source.href, file)
    if source is None:
        return (_stamp(file),)
    # a directory is not newer when a file in it is written over: its metadata documents are
    return tuple(_stamp(part) for part in (file, source, *(source / name for name in METADATA_DOCUMENTS)))


def local_path(href: str, file: Path) -> Path | None:
    """Return the local path that `href` in the collection file `file` names, None for a remote one.

    A path without a scheme is relative to the collection file.
    """
    parts = urlsplit(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else file.resolve().parent / href
