"""Temporary S3 keys that an archive's `/s3credentials` endpoint gives for an Earthdata token."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cubegate.credentials.address import check_address
from cubegate.credentials.asking import Answer, ask
from cubegate.credentials.earthdata import open_token
from cubegate.credentials.environment import is_printable
from cubegate.credentials.login_session import ask_in_session
from cubegate.credentials.login_token import LoginToken
from cubegate.credentials.provider import BearerToken, S3Keys, Secretive, as_keys
from cubegate.credentials.refusal import not_accepted, refusal, to_login
from cubegate.credentials.renewing import Lease, Renewing
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings


class EarthdataKeys(Secretive):
    """The keys that the endpoint of `settings` gives for the token that they describe.

    Raises:
        ConfigurationError: there is no endpoint, or no way to a token.
    """

    schemes = frozenset({"s3"})

    def __init__(
        self,
        name: str,
        settings: CredentialSettings,
        environment: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        key = f"credentials.{name}"
        if settings.endpoint is None:
            raise ConfigurationError(
                "is missing",
                key=f"{key}.endpoint",
                mend="Write the address of the /s3credentials that belongs to the bucket.",
            )
        self._name = name
        self._endpoint = check_address(settings.endpoint, f"{key}.endpoint")
        self._token = open_token(name, settings, environment, clock=clock)
        self._login = settings.login.rstrip("/")
        self._takes_tokens = True
        self._keys = Renewing(name, self._fetch, refused=self._refused, clock=clock)

    def __repr__(self) -> str:
        return f"EarthdataKeys({self._name!r})"

    async def for_url(self, url: str) -> S3Keys:  # noqa: ARG002 - the endpoint's keys are for all its buckets
        """Return the keys in use."""
        return await self._keys.get()

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> S3Keys:  # noqa: ARG002 - the same
        """Return other keys than `rejected`."""
        return await self._keys.renew(as_keys(rejected))

    async def _fetch(self, rejected: S3Keys | None) -> Lease[S3Keys]:  # noqa: ARG002 - each answer has new ones
        answer = await self._ask_by_token() if self._takes_tokens else await self._ask()
        account = self._token.account if isinstance(self._token, LoginToken) else None
        if account is None or not to_login(answer, self._login):
            return self._read(answer, self._token.mend)
        answer = await ask_in_session(answer, self._login, account.authorization())
        lease = self._read(answer, account.mend)
        self._takes_tokens = False
        return lease

    def _read(self, answer: Answer, mend: str) -> Lease[S3Keys]:
        lease = _read_keys(answer.document()) if answer.status == 200 else None
        if lease is None:
            self._takes_tokens = True
            raise refusal(answer, login=self._login, mend=mend)
        return lease

    async def _ask_by_token(self) -> Answer:
        token = await self._token.for_url(self._endpoint)
        answer = await self._ask(token)
        if not not_accepted(answer, self._login):
            return answer
        try:
            return await self._ask(await self._token.renew(self._endpoint, token))
        except UpstreamDenied:
            if isinstance(self._token, LoginToken):
                # the password may do where no token does
                return answer
            raise

    async def _ask(self, token: BearerToken | None = None) -> Answer:
        authorization = None if token is None else f"Bearer {token.token}"
        return await ask("GET", self._endpoint, authorization=authorization)

    def _refused(self) -> UpstreamDenied:
        return UpstreamDenied(
            f"The keys that {self._endpoint} just gave are not accepted.",
            mend="Check that this endpoint belongs to the bucket, and that the server runs in its region.",
        )


def _read_keys(document: Any) -> Lease[S3Keys] | None:
    """The keys of an endpoint's answer, or None where they are not all there."""
    if not isinstance(document, dict):
        return None
    found = [document.get(name) for name in ("accessKeyId", "secretAccessKey", "sessionToken")]
    secrets = [secret for secret in found if isinstance(secret, str) and is_printable(secret)]
    expires = _read_moment(document.get("expiration"))
    if len(secrets) < len(found) or expires is None:
        return None
    key, secret, token = secrets
    return Lease(S3Keys(key, secret, token, expires), expires.timestamp())


def _read_moment(text: Any) -> datetime | None:
    """A moment such as `2025-04-08 14:22:33+00:00` or `2025-04-08T14:22:33Z`; UTC where it does not say."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
