"""Opens a snapshot of an Icechunk repository as an encoded store; no chunk is copied."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from cubegate.cache.cache import ChunkCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.icechunk import ICECHUNK_URL, IcechunkSource
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream, IcechunkUpstreams
from cubegate.chunks.metered import MeteredSource
from cubegate.chunks.object_store import DEFAULT_REGION, aws_endpoint
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.errors import (
    ConfigurationError,
    InvalidReference,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)
from cubegate.metrics.metrics import Metrics
from cubegate.store.columns import ColumnCache
from cubegate.store.encoded import EncodedStore
from cubegate.store.sources.documents import build_hierarchy, check_path, parse_document
from cubegate.store.sources.keyed import KeyedLocator


@dataclass(frozen=True)
class IcechunkAccess:
    """How to read a repository or its granules below one prefix; only S3 needs any of it.

    `upstream` gives the keys; None where the configuration says nothing of any.
    """

    endpoint_url: str | None = None
    region: str | None = None
    upstream: IcechunkUpstream | None = None


@dataclass(frozen=True)
class Snapshot:
    """Which state of a repository to read: at most one of the three; none is the branch main."""

    branch: str | None = None
    tag: str | None = None
    snapshot: str | None = None


async def open_icechunk_store(
    url: str,
    *,
    check_url: Callable[[str], None],
    access_for: Callable[[str], IcechunkAccess],
    group: str = "",
    branch: str | None = None,
    tag: str | None = None,
    snapshot: str | None = None,
    cache: ChunkCache | None = None,
    metrics: Metrics | None = None,
) -> EncodedStore:
    """Open the repository at `url` (file or s3) read-only, with `group` as the root.

    The version is the snapshot id (with a group, a hash of both). Virtual chunks are read only
    below prefixes that `check_url` allows, with the access that `access_for` gives and never
    with what the repository says about endpoints, since it is data and not configuration.
    What was read is kept in `cache`, since a snapshot never changes, and counted in `metrics` by
    scheme and host or bucket of the repository.

    Raises:
        ConfigurationError: icechunk is not installed, or the configuration names no access.
        InvalidReference: there is no such repository, branch, tag or group.
        UpstreamRefused: `check_url` does not allow `url`.
        UpstreamError: the repository cannot be read.
    """
    if [branch, tag, snapshot].count(None) < 2:
        raise ConfigurationError("an Icechunk source names more than one of branch, tag and snapshot")
    check_url(url)
    check_path(group := group.strip("/"))
    wanted = Snapshot(branch, tag, snapshot)
    source, version = await _open(url, check_url, access_for, wanted)
    documents = await _read_documents(source, group)
    hierarchy = build_hierarchy(documents)
    prefix = f"{group}/" if group else ""
    if group:
        version = hashlib.sha256(f"{version}/{group}".encode()).hexdigest()[:16]
    locator = KeyedLocator(hierarchy, lambda path: f"{ICECHUNK_URL}{prefix}{path}")
    parts = urlsplit(url)
    counts = (metrics or Metrics()).upstream(f"{parts.scheme}://{parts.netloc}")
    bulk = Coalesced(MeteredSource(source, counts))
    if cache is None:
        return EncodedStore(hierarchy, locator, SingleFlight(bulk), version=version)
    # repositories with equal snapshots may lie over other granules
    namespace = hashlib.sha256(f"{url}\0{version}".encode()).hexdigest()[:32]
    cached = Cached(bulk, cache, namespace, whole_objects=True)
    columns = ColumnCache(cache, namespace)
    return EncodedStore(hierarchy, locator, SingleFlight(cached), version=version, columns=columns)


async def _open(
    url: str,
    check_url: Callable[[str], None],
    access_for: Callable[[str], IcechunkAccess],
    wanted: Snapshot,
) -> tuple[IcechunkSource, str]:
    icechunk = _import_icechunk()
    access = access_for(url) if urlsplit(url).scheme == "s3" else IcechunkAccess()
    storage = _storage(icechunk, url, access)

    def open_session() -> tuple[Any, _Granules]:
        if not icechunk.Repository.exists(storage):
            raise InvalidReference(_absent(icechunk))
        config = icechunk.Repository.fetch_config(storage) or icechunk.RepositoryConfig.default()
        granules = _authorise(icechunk, config, check_url, access_for)
        repository = icechunk.Repository.open(storage, config, granules.credentials)
        return _session(repository, wanted), granules

    try:
        session, granules = await IcechunkUpstreams(access.upstream).read(
            lambda: asyncio.to_thread(open_session)
        )
    except icechunk.IcechunkError:
        raise UpstreamUnavailable(
            "The Icechunk repository cannot be opened: check its address, its credentials and the snapshot."
        ) from None
    upstreams = IcechunkUpstreams(access.upstream, granules.upstreams)
    source = IcechunkSource(session.store, upstreams=upstreams, refused=granules.refused)
    return source, session.snapshot_id


def _absent(icechunk: ModuleType) -> str:
    # Icechunk 1 does not see what Icechunk 2 writes
    if icechunk.__version__.startswith("1."):
        return (
            "There is no Icechunk repository at this address that Icechunk 1 can read: one that Icechunk 2 "
            "made needs Icechunk 2 here too, and so Python 3.12 or later."
        )
    return "There is no Icechunk repository at this address."


def _import_icechunk() -> ModuleType:
    try:
        import icechunk  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise ConfigurationError(
            "Icechunk repositories need the package icechunk", mend='Install "cubegate[icechunk]".'
        ) from None
    # its log lines repeat what upstreams answered
    icechunk.set_logs_filter("off")
    return icechunk


def _storage(icechunk: ModuleType, url: str, access: IcechunkAccess) -> Any:
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        # opening a local repository would create the directory
        if not path.is_dir():
            raise InvalidReference("There is no Icechunk repository at this address.")
        return icechunk.local_filesystem_storage(str(path))
    if parts.scheme == "s3":
        return icechunk.s3_storage(
            bucket=parts.netloc,
            prefix=parts.path.strip("/") or None,
            **_s3_options(access),
            **_upstream(access).options(),
        )
    raise InvalidReference(
        "An Icechunk repository is read from a local directory (file://) or S3 (s3://): "
        "its library reads none over plain HTTP without following redirects to anywhere."
    )


def _s3_options(access: IcechunkAccess) -> dict[str, Any]:
    region = access.region or DEFAULT_REGION
    # what is not given, Icechunk takes from AWS_* variables and AWS's own files
    endpoint = access.endpoint_url or aws_endpoint(region)
    return {
        "region": region,
        "endpoint_url": endpoint,
        "allow_http": endpoint.startswith("http://"),
        "force_path_style": access.endpoint_url is not None,
    }


def _upstream(access: IcechunkAccess) -> IcechunkUpstream:
    if access.upstream is not None:
        return access.upstream
    raise ConfigurationError(
        "an Icechunk repository or its granules lie on S3 and nothing says how to read them",
        key="upstreams",
        mend="Give the prefix credentials, or anonymous: true.",
    )


@dataclass(frozen=True)
class _Granules:
    """The allowed virtual chunk containers: what Icechunk takes for credentials, and where they lie.

    `refused` are scheme and host of those that are not allowed.
    """

    credentials: dict[str, Any]
    upstreams: Sequence[IcechunkUpstream]
    refused: Sequence[str]


def _authorise(
    icechunk: ModuleType,
    config: Any,
    check_url: Callable[[str], None],
    access_for: Callable[[str], IcechunkAccess],
) -> _Granules:
    """Replace the virtual chunk containers of `config` with the allowed ones, set up from here."""
    declared = {each.url_prefix: each for each in (config.virtual_chunk_containers or {}).values()}
    config.clear_virtual_chunk_containers()
    credentials: dict[str, Any] = {}
    upstreams, refused = [], []
    for prefix in sorted(declared):
        try:
            _check_prefix(prefix, check_url)
        except UpstreamRefused:
            refused.append(f"{urlsplit(prefix).scheme}://{urlsplit(prefix).hostname or ''}")
            continue
        if prefix.startswith("s3:"):
            access = access_for(prefix)
            upstream = _upstream(access)
            store = icechunk.s3_store(anonymous=not upstream.signed, **_s3_options(access))
            credentials[prefix] = icechunk.s3_credentials(**upstream.options())
            upstreams.append(upstream)
        else:
            store = icechunk.local_filesystem_store(unquote(urlsplit(prefix).path))
            # since Icechunk 2; before it, None stands for that
            credentials[prefix] = getattr(icechunk.credentials, "LocalFileSystemAccess", None)
        config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer(prefix, store, **_name_of(declared[prefix]))
        )
    return _Granules(icechunk.containers_credentials(credentials), upstreams, refused)


def _name_of(container: Any) -> dict[str, str]:
    # by which the virtual chunks of Icechunk 2 may refer to it
    name = getattr(container, "name", None)
    return {} if name is None else {"name": name}


def _check_prefix(prefix: str, check_url: Callable[[str], None]) -> None:
    # Icechunk's HTTP client follows redirects to any host, which no allow-list would see
    if urlsplit(prefix).scheme not in ("file", "s3"):
        raise UpstreamRefused("Virtual chunks are read from file:// and s3:// only.")
    if not prefix.endswith("/") or ".." in unquote(prefix).split("/"):
        raise UpstreamRefused("The prefix of a virtual chunk container is not a directory.")
    check_url(prefix)


def _session(repository: Any, wanted: Snapshot) -> Any:
    if wanted.snapshot is not None:
        return repository.readonly_session(snapshot_id=wanted.snapshot)
    if wanted.tag is not None:
        kind, name, known = "tag", wanted.tag, repository.list_tags()
    else:
        kind, name, known = "branch", wanted.branch or "main", repository.list_branches()
    if name not in known:
        held = ", ".join(sorted(known)) or "none"
        raise InvalidReference(f"The Icechunk repository has no {kind} {name!r} (it has: {held}).")
    return repository.readonly_session(**{kind: name})


async def _read_documents(source: IcechunkSource, group: str) -> dict[str, Any]:
    """Return the `zarr.json` of every node below `group`, by key relative to it."""
    documents: dict[str, Any] = {}
    prefix = f"{group}/" if group else ""

    async def read(path: str) -> None:
        key = f"{path}/zarr.json" if path else "zarr.json"
        try:
            document = parse_document(await source.get(ChunkReference(f"{ICECHUNK_URL}{prefix}{key}")))
        except UpstreamObjectMissing:
            return
        documents[key] = document
        if isinstance(document, dict) and document.get("node_type") == "group":
            names = [
                name for name in await source.children(f"{prefix}{path}".rstrip("/")) if name != "zarr.json"
            ]
            await asyncio.gather(*(read(f"{path}/{name}" if path else name) for name in names))

    await read("")
    root = documents.get("zarr.json")
    if not isinstance(root, dict) or root.get("node_type") != "group":
        raise InvalidReference(f"The Icechunk repository has no group {group or '/'!r}.")
    return documents
