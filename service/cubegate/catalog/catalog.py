"""The catalog: from a dataset id to its opened datacube, following changes of the files behind it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cubegate.catalog.collection import Collection, CollectionFiles, Configured
from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.datacube import Datacube
from cubegate.catalog.members import Member
from cubegate.catalog.watching import Stamp, Watch, stamp_of
from cubegate.errors import ConfigurationError, NotFound

logger = logging.getLogger(__name__)

Opener = Callable[[Collection, Path], Awaitable[Datacube]]

CHECK_INTERVAL = 1.0
MAX_OPENED = 128
_MOST_NAMED = 8
_VERSION = re.compile(r"[0-9a-f]{16}")
METADATA_DOCUMENTS = (".zmetadata", "zarr.json")


@dataclass(slots=True)
class _Opened:
    """An opened cube, how the local files of its source were just before, and when it was last asked for.

    `configured` is as it stands in the collection file, whichever version was opened; the source of
    a combined cube is that of all its `members`.
    """

    configured: Configured
    cube: Datacube | CombinedCube
    source: tuple[Path, ...]
    stamps: tuple[Stamp, ...]
    used: float
    members: tuple[Configured, ...] = ()


class Catalog:
    """All collections of a server; each cube is opened at its first use.

    A changed, added or removed collection file, or index file behind one, is noticed within
    about a second. A file that became invalid keeps what was mounted before and is logged.

    Of more than `MAX_OPENED` cubes, the one that was not used for the longest time is forgotten.
    Whoever reads from it goes on; the next request opens it again.
    """

    def __init__(self, patterns: Sequence[str], directory: Path, opener: Opener) -> None:
        self._opener = opener
        self._files = CollectionFiles(patterns, directory)
        self._directory = directory
        self._collections: Mapping[str, Configured] = {}
        self._cubes: dict[str, _Opened] = {}
        self._opening: dict[tuple[int, int, str], asyncio.Task[_Opened]] = {}
        self._watch = Watch(self._look)

    def load(self) -> None:
        """Read all collection files.

        Raises:
            ConfigurationError: one of them is invalid.
        """
        self._collections = self._files.read()
        for pattern in self._files.unmatched():
            logger.warning("no collection file matches %s in %s", pattern, self._directory)

    async def refresh(self) -> None:
        """See to it that what this tells was so within about a second; waits only after a pause."""
        await self._watch.refresh(CHECK_INTERVAL)

    def ids(self) -> list[str]:
        """The ids of all collections, sorted; blocks for a look at files where `refresh` would wait."""
        self._watch.refresh_now(CHECK_INTERVAL)
        return sorted(self._collections)

    @property
    def opened(self) -> int:
        """The number of cubes that are open."""
        return len(self._cubes)

    def collection(self, dataset_id: str) -> Collection:
        """Return one collection as configured; blocks as `ids` does.

        Raises:
            NotFound: there is none of that id.
        """
        self._watch.refresh_now(CHECK_INTERVAL)
        return self._configured(dataset_id).collection

    def _configured(self, name: str) -> Configured:
        try:
            return self._collections[name]
        except KeyError:
            raise NotFound(f"There is no dataset {name!r}. GET /datasets lists those that exist.") from None

    def held(self, dataset_id: str) -> Datacube | CombinedCube | None:
        """Return what `get` would, where that needs neither a look at a file nor any waiting; else None."""
        if not self._watch.is_fresh(CHECK_INTERVAL):
            return None
        name, pinned, version = dataset_id.partition("@")
        cube = self._current(name, name)
        return (
            self._current(name, dataset_id) if pinned and (cube is None or version != cube.version) else cube
        )

    async def stored(self, dataset_id: str) -> Datacube:
        """Return what `get` does, where that has a store of its own.

        Raises:
            NotFound: it is combined of others, or as `get`.
        """
        cube = await self.get(dataset_id)
        if not isinstance(cube, Datacube):
            shown = ", ".join(f"/datasets/{name}/" for name in cube.collection.source.members[:_MOST_NAMED])
            more = len(cube.collection.source.members) - _MOST_NAMED
            raise NotFound(
                f"Dataset {cube.id!r} is combined of other datasets, and has no Zarr tree of its own: it "
                f"answers /timeseries and /subset. Open its members instead: {shown}"
                + (f" and {more} more." if more > 0 else ".")
            )
        return cube

    async def get(self, dataset_id: str) -> Datacube | CombinedCube:
        """Return the cube of `id` or `id@version`, opening it at first use.

        An earlier version is there as long as its index file is kept, see `file_of_version`.

        Raises:
            NotFound: no such dataset, or not in that version.
            UpstreamError, InvalidReference, ConfigurationError: it cannot be opened.
        """
        name, pinned, version = dataset_id.partition("@")
        await self.refresh()
        configured = self._configured(name)
        if pinned and (cube := self._current(name, dataset_id)) is not None:
            return cube
        cube = self._current(name, name) or (await self._open_once(name, configured, configured)).cube
        if not pinned or version == cube.version:
            return cube
        kept = file_of_version(configured, version)
        if kept is None or not await asyncio.to_thread(kept.is_file):
            raise NotFound(
                f"Dataset {name!r} is not mounted in version {version!r}; it is now in {cube.version!r}."
            )
        earlier = _with_source(configured, kept)
        found = (await self._open_once(dataset_id, configured, earlier)).cube
        if found.version != version:
            self._cubes.pop(dataset_id, None)
            raise NotFound(f"The file of version {version!r} of dataset {name!r} holds {found.version!r}.")
        return found

    def _current(self, name: str, key: str) -> Datacube | CombinedCube | None:
        opened = self._cubes.get(key)
        if opened is None or not self._is_as_configured(name, opened):
            return None
        opened.used = time.monotonic()
        return opened.cube

    def _is_as_configured(self, name: str, opened: _Opened) -> bool:
        return self._collections.get(name) is opened.configured and all(
            self._collections.get(member.collection.id) is member for member in opened.members
        )

    async def _open_once(self, name: str, configured: Configured, opened: Configured) -> _Opened:
        """Open `opened` as `name`, which is `configured` itself or another version of it."""
        # one opening per event loop: tasks cannot be awaited across loops
        key = (id(asyncio.get_running_loop()), id(configured), name)
        task = self._opening.get(key)
        if task is None:
            task = asyncio.ensure_future(self._open(name, configured, opened))
            self._opening[key] = task
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        # a client that leaves must not stop the opening that others wait for
        return await asyncio.shield(task)

    async def _open(self, name: str, configured: Configured, opened: Configured) -> _Opened:
        if configured.collection.source.kind == "combined":
            found = await self._combine(configured)
        else:
            source = _files_of_source(opened)
            stamps = await asyncio.to_thread(_stamps, source)
            cube = await self._opener(opened.collection, opened.file)
            found = _Opened(configured, cube, source, stamps, time.monotonic())
        self._cubes[name] = found
        self._forget_least_used()
        for note in found.cube.notes:
            logger.warning("dataset %s: %s", name, note)
        return found

    async def _combine(self, configured: Configured) -> _Opened:
        """Open a combined cube, and those of its members that can be opened."""
        members = tuple(self._configured(name) for name in configured.collection.source.members)
        known: dict[str, _Opened] = {}

        async def open_member(member: Configured) -> Datacube:
            name = member.collection.id
            opened = self._cubes.get(name)
            if opened is None or opened.configured is not member:
                opened = await self._open_once(name, member, member)
            known[name] = opened
            if not isinstance(opened.cube, Datacube):
                raise NotFound(f"Dataset {name!r} is combined of others.")
            return opened.cube

        sources = {member.collection.id: _files_of_source(member) for member in members}
        before = {name: await asyncio.to_thread(_stamps, source) for name, source in sources.items()}
        cube = CombinedCube(
            configured.collection,
            [
                Member(member.collection.id, number, partial(open_member, member))
                for number, member in enumerate(members, start=1)
            ],
        )
        await cube.open()
        # as they were before each member was opened, which may be long ago
        stamps = [known[name].stamps if name in known else before[name] for name in sources]
        paths = [known[name].source if name in known else sources[name] for name in sources]
        return _Opened(
            configured, cube, tuple(chain(*paths)), tuple(chain(*stamps)), time.monotonic(), members
        )

    def _forget_least_used(self) -> None:
        # other threads open and forget cubes meanwhile
        opened = list(self._cubes.items())
        if len(opened) > MAX_OPENED:
            self._cubes.pop(min(opened, key=lambda item: item[1].used)[0], None)

    def _look(self) -> None:
        try:
            self._collections = self._files.read()
        except ConfigurationError as error:
            logger.error("the collections stay as they were: %s", error)  # noqa: TRY400 - the text says it all
        for name, opened in list(self._cubes.items()):
            as_configured = self._is_as_configured(name.partition("@")[0], opened)
            if not as_configured or _stamps(opened.source) != opened.stamps:
                self._cubes.pop(name, None)


def _files_of_source(configured: Configured) -> tuple[Path, ...]:
    href = configured.collection.source.href
    source = local_path(href, configured.file) if href else None
    if source is None:
        return ()
    # a directory is not newer when a file in it is written over: its metadata documents are
    return (source, *(source / name for name in METADATA_DOCUMENTS))


def file_of_version(configured: Configured, version: str) -> Path | None:
    """Return where `cubegate update` keeps another version of a cube, beside its index; None where nowhere.

    The file need not exist.
    """
    source = configured.collection.source
    path = local_path(source.href, configured.file) if source.kind == "index" else None
    if path is None or not _VERSION.fullmatch(version):
        return None
    return path.with_name(f"{path.stem}.{version}{path.suffix}")


def _with_source(configured: Configured, path: Path) -> Configured:
    collection = configured.collection
    source = collection.source.model_copy(update={"href": path.as_uri()})
    return Configured(configured.file, collection.model_copy(update={"source": source}))


def _stamps(files: tuple[Path, ...]) -> tuple[Stamp, ...]:
    return tuple(map(stamp_of, files))


def local_path(href: str, file: Path) -> Path | None:
    """Return the local path that `href` in the collection file `file` names, None for a remote one.

    A path without a scheme is relative to the collection file.
    """
    parts = urlsplit(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else file.resolve().parent / href
