"""How Icechunk's own client reads below a configured prefix: the upstreams section in its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cubegate.chunks.address import AllowList
from cubegate.chunks.upstream import parse_prefix
from cubegate.credentials import CredentialProvider, S3Keys
from cubegate.settings import UpstreamSettings
from cubegate.store.bridge import LoopThread
from cubegate.store.sources.icechunk import IcechunkAccess


def icechunk_access(
    settings: Mapping[str, UpstreamSettings],
    credentials: Mapping[str, CredentialProvider],
    bridge: LoopThread,
) -> Callable[[str], IcechunkAccess]:
    """Return a function from a URL to the access that the longest matching prefix configures.

    The function blocks and raises UpstreamRefused for an address outside every prefix.
    """
    sections = {parse_prefix(text): section for text, section in settings.items()}
    allowed = AllowList(sections)

    def access_for(url: str) -> IcechunkAccess:
        prefix, _ = allowed.resolve(url)
        section = sections[prefix]
        keys = None
        if section.credentials is not None:
            found = bridge.run(credentials[section.credentials].for_url(url))
            if isinstance(found, S3Keys):
                keys = (found.access_key_id, found.secret_access_key, found.session_token)
        return IcechunkAccess(section.endpoint_url, section.region, section.anonymous, keys)

    return access_for
