"""The credential provider seam: what opens an upstream, kept out of every representation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, Protocol


class Secretive:
    """Holds secrets: neither its representation nor a pickle shows them."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled or copied.")


@dataclass(frozen=True, slots=True)
class S3Keys(Secretive):
    """Keys that sign S3 requests; `expires` is None where they do not.

    Keys that differ in nothing but `expires` are the same keys.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class BearerToken(Secretive):
    """A token for the Authorization header."""

    token: str = field(repr=False)


class CredentialProvider(Protocol):
    """Gives the credentials of an address; its representation shows no secret.

    It may be asked from any number of event loops and threads. `schemes` are those of the
    addresses that it can open: `s3`, or `https`.
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


class TokenProvider(CredentialProvider, Protocol):
    """Gives a bearer token; `mend` says what the operator does where nobody accepts it."""

    @property
    def mend(self) -> str:
        """What to do about a token that is not accepted."""
        ...

    async def for_url(self, url: str) -> BearerToken:
        """Return the token; see `CredentialProvider`."""
        ...

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> BearerToken:
        """Return another token; see `CredentialProvider`."""
        ...


def as_token(rejected: S3Keys | BearerToken) -> BearerToken:
    """Return `rejected`, which came from a provider of tokens."""
    if not isinstance(rejected, BearerToken):
        raise TypeError("S3 keys were asked to be renewed of a provider of tokens.")
    return rejected


def as_keys(rejected: S3Keys | BearerToken) -> S3Keys:
    """Return `rejected`, which came from a provider of keys."""
    if not isinstance(rejected, S3Keys):
        raise TypeError("A token was asked to be renewed of a provider of keys.")
    return rejected
