"""The credential provider seam: what opens an upstream, kept out of every representation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class S3Keys:
    """Keys that sign S3 requests; `expires` is None where they do not."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token for the Authorization header."""

    token: str = field(repr=False)


class CredentialProvider(Protocol):
    """Gives the credentials of an address; its representation shows no secret.

    `schemes` are those of the addresses that it can open: `s3`, or `https`.
    """

    @property
    def schemes(self) -> frozenset[str]:
        """The URL schemes that these credentials are for."""
        ...

    async def for_url(self, url: str) -> S3Keys | BearerToken:
        """Return credentials that are valid now.

        Raises:
            UpstreamDenied: there are none any more; the message names no secret.
            UpstreamUnavailable: who gives them cannot be reached.
        """
        ...

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> S3Keys | BearerToken:
        """Return others than `rejected`, which an upstream refused though they seemed valid.

        However many ask at once, those in use are replaced once. Asked again for others than those
        that are in use by now, it returns these.

        Raises:
            UpstreamDenied: there are no others.
            UpstreamUnavailable: who gives them cannot be reached.
        """
        ...
