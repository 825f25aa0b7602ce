"""How Icechunk's own client reads below a configured prefix: the upstreams section in its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cubegate.chunks.address import Address, AllowList
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream
from cubegate.chunks.upstream import parse_prefix
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.credentials import CredentialProvider
from cubegate.settings import UpstreamSettings
from cubegate.store.sources.icechunk import IcechunkAccess


def icechunk_access(
    settings: Mapping[str, UpstreamSettings],
    credentials: Mapping[str, CredentialProvider],
    states: UpstreamStates | None = None,
) -> Callable[[str], IcechunkAccess]:
    """Return a function from a URL to the access that the longest matching prefix configures.

    `states` hears of refusals. The function contacts nobody, and raises UpstreamRefused for an
    address outside every prefix.
    """
    accesses = {}
    for text, section in settings.items():
        prefix = parse_prefix(text)
        accesses[prefix] = _access(prefix, section, credentials, states)
    allowed = AllowList(accesses)

    def access_for(url: str) -> IcechunkAccess:
        prefix, _ = allowed.resolve(url)
        return accesses[prefix]

    return access_for


def _access(
    prefix: Address,
    section: UpstreamSettings,
    credentials: Mapping[str, CredentialProvider],
    states: UpstreamStates | None,
) -> IcechunkAccess:
    if prefix.scheme != "s3":
        return IcechunkAccess()
    provider = None if section.credentials is None else credentials[section.credentials]
    upstream = None
    if provider is not None or section.anonymous:
        upstream = IcechunkUpstream(prefix, provider, states)
    return IcechunkAccess(section.endpoint_url, section.region, upstream)
