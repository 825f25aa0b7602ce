"""Opens a configured collection: one function a kind of source."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cubegate.cache.cache import ChunkCache
from cubegate.catalog.catalog import local_path
from cubegate.catalog.collection import Collection
from cubegate.catalog.datacube import Datacube
from cubegate.catalog.overviews import Overviews, Sidecar
from cubegate.catalog.overviews_record import read_overviews_record, settings_digest
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import Upstreams
from cubegate.chunks.verified import Verified
from cubegate.errors import ConfigurationError, InvalidReference, NotFound, UpstreamRefused
from cubegate.index.build import build_index
from cubegate.index.file import open_index
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata, restricted
from cubegate.metrics.metrics import Metrics
from cubegate.store.bridge import LoopThread
from cubegate.store.columns import ColumnCache
from cubegate.store.encoded import EncodedStore
from cubegate.store.sources.icechunk import IcechunkAccess, open_icechunk_store
from cubegate.store.sources.zarr import open_zarr_store


class CubeOpener:
    """Opens collections over shared upstreams and a shared cache."""

    def __init__(
        self,
        upstreams: Upstreams,
        cache: ChunkCache,
        bridge: LoopThread,
        access_for: Callable[[str], IcechunkAccess],
        metrics: Metrics,
    ) -> None:
        self._upstreams, self._cache, self._bridge, self._metrics = upstreams, cache, bridge, metrics
        self._access_for = access_for

    async def __call__(self, collection: Collection, file: Path) -> Datacube:
        """Open `collection`, which was read from `file`.

        Raises:
            ConfigurationError: its source cannot be used as configured.
            InvalidReference: its references or metadata are malformed or not allowed.
            UpstreamError: they cannot be read.
        """
        cube = await self._open(collection, file)
        try:
            await cube.open_derived()
        except ConfigurationError as error:
            raise ConfigurationError(error.problem, file=str(file), key=error.key, mend=error.mend) from None
        try:
            await cube.find_overviews()
        except UpstreamRefused as error:
            raise ConfigurationError(
                str(error).rstrip("."), file=str(file), key="overviews.href", mend="List it in upstreams."
            ) from None
        return cube

    async def _open(self, collection: Collection, file: Path) -> Datacube:
        kind = collection.source.kind
        if kind == "zarr":
            return self._cube(collection, file, await self._open_zarr(collection, file))
        if kind == "icechunk":
            return self._cube(collection, file, await self._open_icechunk(collection, file))
        if kind == "index":
            return self._indexed(collection, file, await self._open_index(collection, file))
        return self._indexed(collection, file, await self._build(collection, file))

    async def _build(self, collection: Collection, file: Path) -> Index:
        source = collection.source
        return await build_index(
            url_of(source.href, file),
            self._upstreams,
            check_url=self._upstreams.check,
            group=source.group,
            allow_missing_partitions=source.allow_missing_partitions,
            fill=source.fill,
            require_coordinates=False,
        )

    def _cube(
        self, collection: Collection, file: Path, store: EncodedStore, notes: tuple[str, ...] = ()
    ) -> Datacube:
        if collection.variables is not None:
            try:
                store.hierarchy = restricted(store.hierarchy, collection.variables)
            except NotFound as error:
                known = ", ".join(sorted({array.name for array in store.hierarchy.arrays.values()}))
                raise ConfigurationError(
                    str(error).rstrip("."), file=str(file), key="variables", mend=f"There are: {known}."
                ) from None
        overviews = None
        if collection.overviews.href is not None:
            find = partial(self._open_overviews, collection, collection.overviews.href, file, store.version)
            overviews = Overviews(collection.id, find)
        return Datacube(collection, store, self._bridge, notes, overviews)

    async def _open_overviews(self, collection: Collection, href: str, file: Path, version: str) -> Sidecar:
        """Open the overviews of one version of a cube.

        Raises:
            InvalidReference: there are none.
            UpstreamError: they cannot be read.
        """
        url = overviews_url(href, file, version)
        self._upstreams.check(url)
        try:
            store = await open_zarr_store(url, self._upstreams, missing="error", kept_in=self._cache)
        except InvalidReference:
            raise InvalidReference(f"there are none of version {version}") from None
        record = read_overviews_record(store.hierarchy.groups[""].attributes)
        if record is None or record.version != version:
            raise InvalidReference(f"what is there is none of version {version}")
        unused = tuple(
            path
            for path, (_, settings) in record.variables.items()
            if settings != settings_digest(collection, path)
        )
        arrays = {
            path: array
            for path, array in store.hierarchy.arrays.items()
            if _shown_of(record.root, array) not in unused
        }
        store.hierarchy = dataclasses.replace(store.hierarchy, arrays=arrays)
        plain = collection.model_copy(update={"derived": {}, "variables": None})
        return Sidecar(Datacube(plain, store, self._bridge), store.version, record.root, unused)

    def _indexed(self, collection: Collection, file: Path, index: Index) -> Datacube:
        for url in index.urls:
            self._upstreams.check(url)
        # nothing wrong may get into the cache
        verified = Verified(Coalesced(self._upstreams))
        source = SingleFlight(Cached(verified, self._cache, index.version))
        columns = ColumnCache(self._cache, index.version)
        store = EncodedStore(index.hierarchy, index, source, version=index.version, columns=columns)
        return self._cube(collection, file, store, index.notes)

    async def _open_zarr(self, collection: Collection, file: Path) -> EncodedStore:
        source = collection.source
        return await open_zarr_store(
            url_of(source.href, file), self._upstreams, group=source.group, missing=source.missing
        )

    async def _open_index(self, collection: Collection, file: Path) -> Index:
        path = local_path(collection.source.href, file)
        if path is not None:
            try:
                return await asyncio.to_thread(open_index, path)
            except OSError as error:
                raise ConfigurationError(
                    f"cannot be read ({error.strerror})",
                    file=str(file),
                    key="source.href",
                    mend=f"Make {path} with cubegate index.",
                ) from error
        data = await self._upstreams.get(ChunkReference(collection.source.href))
        return await asyncio.to_thread(_open_copy, data)

    async def _open_icechunk(self, collection: Collection, file: Path) -> EncodedStore:
        source = collection.source
        return await open_icechunk_store(
            url_of(source.href, file),
            check_url=self._upstreams.check,
            access_for=self._access_for,
            group=source.group,
            branch=source.branch,
            tag=source.tag,
            snapshot=source.snapshot,
            cache=self._cache,
            metrics=self._metrics,
        )


def _open_copy(data: bytes) -> Index:
    with tempfile.NamedTemporaryFile(suffix=".index") as copy:
        copy.write(data)
        copy.flush()
        # the mapping keeps the file's contents after its name is gone
        return open_index(Path(copy.name))


def _shown_of(root: str, array: ArrayMetadata) -> str:
    """Return the path in the cube of what an array of its overviews shows."""
    group = array.group.removeprefix(root).strip("/").rpartition("/")[0]
    return f"{group}/{array.name}".strip("/")


def overviews_url(href: str, file: Path, version: str) -> str:
    """Return where the overviews of one version are, of those that `href` in a collection file names."""
    return f"{url_of(href, file).rstrip('/')}/{version}.zarr"


def url_of(href: str, file: Path) -> str:
    """Return `href` of the collection file `file` as an absolute URL."""
    if urlsplit(href).scheme:
        return href
    return (file.resolve().parent / href).resolve().as_uri()
