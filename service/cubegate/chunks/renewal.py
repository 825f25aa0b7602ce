"""Renews credentials in time or once refused, and leaves off for a while where that does not help."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from cubegate.chunks.address import Address
from cubegate.credentials import BearerToken, CredentialProvider, S3Keys
from cubegate.errors import UpstreamDenied

_ASK_AGAIN = 10.0
# or else every read of a service that takes no credentials at all would ask for new ones
_NOT_AGAIN = 10.0


class Renewal:
    """Asks `credentials` for others, for the reads below one prefix."""

    def __init__(self, credentials: CredentialProvider) -> None:
        self._credentials = credentials
        self._in_vain = float("-inf")

    async def instead_of(
        self, rejected: BearerToken | S3Keys, url: str, refused: UpstreamDenied
    ) -> BearerToken | S3Keys:
        """Return others than `rejected`, for which the upstream answered `refused`.

        Raises:
            UpstreamDenied: there are none, or the last ones were refused as well.
            UpstreamUnavailable: who gives them cannot be reached.
        """
        if time.monotonic() - self._in_vain < _NOT_AGAIN:
            raise refused
        try:
            renewed = await self._credentials.renew(url, rejected)
        except UpstreamDenied as error:
            # what says no more than this would hide why the upstream refused
            raise refused if error.state == "denied" else error from None
        if renewed == rejected:
            raise refused
        return renewed

    def was_in_vain(self) -> None:
        """Say that the renewed ones were refused as well."""
        self._in_vain = time.monotonic()


def held_keys(given: BearerToken | S3Keys, prefix: Address) -> tuple[S3Keys, float]:
    """Return the keys `given` for `prefix`, and until when of the monotonic clock to hold them.

    Raises:
        UpstreamDenied: they are not S3 keys.
    """
    if not isinstance(given, S3Keys):
        raise UpstreamDenied(f"The credentials of {prefix} are not S3 keys.")
    left = _ASK_AGAIN
    if given.expires is not None:
        left = min(left, (given.expires - datetime.now(UTC)).total_seconds())
    return given, time.monotonic() + left
