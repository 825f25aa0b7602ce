"""Upstreams for as long as a command reads through them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from cubegate.chunks.upstream import Upstreams, open_upstreams
from cubegate.credentials import open_credentials
from cubegate.errors import UpstreamRefused
from cubegate.settings import Settings


@asynccontextmanager
async def opened_upstreams(settings: Settings, environment: Mapping[str, str]) -> AsyncIterator[Upstreams]:
    """Yield the upstreams of `settings`, and close them.

    Raises:
        ConfigurationError: the credentials cannot be used.
    """
    upstreams = open_upstreams(settings.upstreams, open_credentials(settings.credentials, environment))
    try:
        yield upstreams
    finally:
        await upstreams.aclose()


def accepted_by(upstreams: Upstreams) -> Callable[[str], bool]:
    """Return what tells whether an address is on the allow-list."""

    def accepts(url: str) -> bool:
        try:
            upstreams.check(url)
        except UpstreamRefused:
            return False
        return True

    return accepts
