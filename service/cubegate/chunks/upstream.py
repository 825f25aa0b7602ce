"""All configured upstreams as one source: what is not listed is never contacted."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from cubegate.chunks.address import Address, AllowList, check_range, parse_address, shown
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.limits import HostLimits
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.metered import MeteredObjects
from cubegate.chunks.object_store import S3Objects
from cubegate.chunks.source import ChunkReference, ObjectSource, ObjectState
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.credentials import CredentialProvider
from cubegate.errors import ConfigurationError, UpstreamDenied, UpstreamRefused
from cubegate.metrics.metrics import Metrics
from cubegate.settings import UpstreamSettings

T = TypeVar("T")


class Upstreams:
    """An object source that passes each address to the source with the longest matching prefix.

    At most `concurrency` reads at a time go to each host or bucket, from each event loop. `states`
    knows the prefixes that refuse.
    """

    def __init__(self, sources: Mapping[Address, ObjectSource], *, concurrency: int = 256) -> None:
        self._sources = dict(sources)
        self._names = {prefix: str(prefix) for prefix in sources}
        self._allowed = AllowList(self._sources)
        self._limits = HostLimits(concurrency)
        self.states = UpstreamStates()

    def check(self, url: str) -> None:
        """Accept `url` if it is below a configured prefix, without any input or output.

        Raises:
            UpstreamRefused: it is not, or is malformed.
        """
        self._allowed.resolve(url)

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        prefix, address = self._allowed.resolve(reference.url)
        if reference.length == 0:
            return b""
        async with self._limits.slot(address.scheme, address.authority):
            return await self._watched(prefix, self._sources[prefix].get(reference))

    async def stat(self, url: str) -> ObjectState:
        """Return what the object at `url` is known by now; see `ObjectSource`."""
        prefix, address = self._allowed.resolve(url)
        async with self._limits.slot(address.scheme, address.authority):
            return await self._watched(prefix, self._sources[prefix].stat(url))

    async def list(self, url: str) -> list[str]:
        """Return the URLs of all objects below `url`, sorted; see `ObjectSource`."""
        prefix, _ = self._allowed.resolve(url)
        return await self._watched(prefix, self._sources[prefix].list(url))

    async def aclose(self) -> None:
        """Release the connections of every source."""
        for source in self._sources.values():
            await source.aclose()

    async def _watched(self, prefix: Address, reading: Awaitable[T]) -> T:
        try:
            found = await reading
        except UpstreamDenied as error:
            self.states.refused(self._names[prefix], error)
            raise
        self.states.gave(self._names[prefix])
        return found


def open_upstreams(
    settings: Mapping[str, UpstreamSettings],
    credentials: Mapping[str, CredentialProvider],
    *,
    deadline: float = 30.0,
    concurrency: int = 256,
    metrics: Metrics | None = None,
) -> Upstreams:
    """Open the `upstreams` section, whose entries name `credentials`; contacts nobody.

    A read takes `deadline` seconds at most, all its attempts together. Reads are counted in
    `metrics` by scheme and host or bucket.

    Raises:
        ConfigurationError: a prefix or its options cannot be used; the message names the key.
    """
    prefixes: dict[Address, str] = {}
    for text in settings:
        prefix = parse_prefix(text)
        if prefix in prefixes:
            raise ConfigurationError(f"is the same as {shown(prefixes[prefix])}", key=_key(text))
        prefixes[prefix] = text
    allowed = AllowList(prefixes)
    metrics = metrics or Metrics()
    sources: dict[Address, ObjectSource] = {}
    for prefix, text in prefixes.items():
        provider = _provider(prefix, _key(text), settings[text], credentials)
        source = _open(prefix, settings[text], provider, allowed=allowed, key=_key(text), deadline=deadline)
        sources[prefix] = MeteredObjects(source, metrics.upstream(f"{prefix.scheme}://{prefix.authority}"))
    return Upstreams(sources, concurrency=concurrency)


def _key(prefix: str) -> str:
    return f"upstreams.{shown(prefix)}"


def parse_prefix(text: str) -> Address:
    """Read a key of the `upstreams` section.

    Raises:
        ConfigurationError: it is no address; the message names the key.
    """
    try:
        prefix = parse_address(text)
    except UpstreamRefused as error:
        raise ConfigurationError(str(error).rstrip("."), key=_key(text)) from None
    if prefix.query:
        raise ConfigurationError("has a query, which a prefix cannot have", key=_key(text))
    return Address(prefix.scheme, prefix.authority, f"{prefix.path.rstrip('/')}/")


def _open(
    prefix: Address,
    settings: UpstreamSettings,
    provider: CredentialProvider | None,
    *,
    allowed: AllowList,
    key: str,
    deadline: float,
) -> ObjectSource:
    if prefix.scheme == "s3":
        if provider is None and not settings.anonymous:
            raise ConfigurationError(
                "names no credentials", key=key, mend="Name some, or write anonymous: true."
            )
        _check_endpoint(settings.endpoint_url, key)
        return S3Objects(
            prefix,
            credentials=provider,
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            deadline=deadline,
        )
    for option in ("region", "endpoint_url"):
        if getattr(settings, option) is not None:
            raise ConfigurationError("goes with s3 addresses only", key=f"{key}.{option}", mend="Remove it.")
    if prefix.scheme == "file":
        return LocalFiles(prefix)
    return HTTPObjects(prefix, allowed, credentials=provider, deadline=deadline)


def _provider(
    prefix: Address, key: str, settings: UpstreamSettings, credentials: Mapping[str, CredentialProvider]
) -> CredentialProvider | None:
    name = settings.credentials
    if name is None:
        return None
    if settings.anonymous:
        raise ConfigurationError("is anonymous and names credentials", key=key, mend="Remove one of the two.")
    if name not in credentials:
        raise ConfigurationError(f"there are no credentials called {name!r}", key=f"{key}.credentials")
    # A token over plain http would be readable on the way, but not inside one machine.
    scheme = "https" if prefix.scheme == "http" and prefix.loopback else prefix.scheme
    if scheme not in credentials[name].schemes:
        raise ConfigurationError(
            f"the credentials {name!r} are not for {prefix.scheme} addresses",
            key=f"{key}.credentials",
            mend=f"They go with {', '.join(sorted(credentials[name].schemes))}.",
        )
    return credentials[name]


def _check_endpoint(endpoint_url: str | None, key: str) -> None:
    if endpoint_url is None:
        return
    try:
        endpoint = parse_address(endpoint_url)
    except UpstreamRefused:
        endpoint = None
    if endpoint is None or endpoint.scheme not in {"http", "https"} or endpoint.query:
        raise ConfigurationError(
            "is not an http or https URL", key=f"{key}.endpoint_url", mend="Write https://host:port."
        )
