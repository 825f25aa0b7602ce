"""A bearer token that Earthdata Login gives for a user and a password."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cubegate.credentials.asking import Answer, ask
from cubegate.credentials.environment import is_printable
from cubegate.credentials.provider import BearerToken, S3Keys, Secretive, as_token
from cubegate.credentials.refusal import refusal
from cubegate.credentials.renewing import Lease, Renewing
from cubegate.errors import UpstreamDenied, UpstreamError

# how long a token is taken for good where its date is missing
_UNDATED = 3600.0


class Account(Protocol):
    """Who the token is for; `mend` says what the operator does where Earthdata Login refuses."""

    @property
    def mend(self) -> str:
        """What to do about a user and password that are not accepted."""
        ...

    def authorization(self) -> str:
        """The value of the Authorization header for Earthdata Login.

        Raises:
            UpstreamDenied: there is none any more.
        """
        ...


class LoginToken(Secretive):
    """The token that `account` has at the Earthdata Login at `login`, or a new one."""

    schemes = frozenset({"https"})

    def __init__(
        self, name: str, account: Account, login: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._name, self.account, self._login, self._clock = name, account, login, clock
        self._tokens = Renewing(name, self._fetch, refused=self._refused, clock=clock)
        self.mend = (
            f"Revoke the tokens at {login} (Generate Token) that do not work, so that new ones can be made."
        )

    def __repr__(self) -> str:
        return f"LoginToken({self._name!r})"

    async def for_url(self, url: str) -> BearerToken:  # noqa: ARG002 - one token for all of Earthdata
        """Return the token in use."""
        return await self._tokens.get()

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> BearerToken:  # noqa: ARG002 - the same
        """Return another token than `rejected`."""
        return await self._tokens.renew(as_token(rejected))

    async def _fetch(self, rejected: BearerToken | None) -> Lease[BearerToken]:
        answer = await self._ask("POST", "find_or_create_token")
        found = self._lease(answer.document())
        if found is None:
            raise self._refusal(answer)
        if found.value == rejected:
            # an account has up to two, and is given the one that was refused as long as it lasts
            listed = (await self._ask("GET", "tokens")).document()
            others = [self._lease(entry) for entry in listed] if isinstance(listed, list) else []
            good = [other for other in others if other is not None and other.value != rejected]
            return max(good, key=lambda other: other.expires, default=found)
        return found

    async def _ask(self, method: str, name: str) -> Answer:
        answer = await ask(
            method,
            f"{self._login}/api/users/{name}",
            authorization=self.account.authorization(),
        )
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: Answer) -> UpstreamError:
        return refusal(answer, login=self._login, mend=self.account.mend)

    def _lease(self, entry: Any) -> Lease[BearerToken] | None:
        """The token of one entry; None where there is none, or it has expired."""
        token = entry.get("access_token") if isinstance(entry, dict) else None
        if not isinstance(token, str) or not is_printable(token):
            return None
        expires = _end_of_day(entry.get("expiration_date")) or self._clock() + _UNDATED
        return Lease(BearerToken(token), expires) if expires > self._clock() else None

    def _refused(self) -> UpstreamDenied:
        return UpstreamDenied(
            f"The token of the credentials {self._name!r} is not accepted, and {self._login} gives no other.",
            state="bad-token",
            mend=self.mend,
        )


def _end_of_day(date: Any) -> float | None:
    """The last moment, in seconds since 1970, of a date such as 10/31/2025.

    A token ends at some hour of that day. Who is refused from then on has it renewed at once.
    """
    try:
        day = datetime.strptime(date, "%m/%d/%Y").replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return None
    return (day + timedelta(days=1)).timestamp()
