"""AWS credentials as the AWS tools find them: a profile, or the default chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cubegate.credentials.provider import BearerToken, S3Keys, Secretive, as_keys
from cubegate.credentials.renewing import Lease, Renewing
from cubegate.errors import ConfigurationError, UpstreamDenied, UpstreamUnavailable
from cubegate.settings import CredentialSettings

# botocore renews by itself: asking it again this often is cheap and never gives dead keys.
_ASK_AGAIN = 300.0


class AWSCredentials(Secretive):
    """Keys by way of botocore: environment, shared files, single sign-on, container or instance.

    Raises:
        ConfigurationError: botocore is not installed, or finds no such profile or credentials.
    """

    schemes = frozenset({"s3"})

    def __init__(
        self, name: str, settings: CredentialSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        key = f"credentials.{name}"
        try:
            import botocore.exceptions  # type: ignore[import-untyped] # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise ConfigurationError(
                "needs botocore, which is not installed", key=f"{key}.kind", mend="Install cubegate[aws]."
            ) from None
        self._name, self._profile, self._clock = name, settings.profile, clock
        self._unreachable = botocore.exceptions.HTTPClientError
        self._failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
        self._keys = Renewing(name, self._fetch, refused=self._refused, clock=clock)
        try:
            self._found = self._find()
        except self._failures:
            raise ConfigurationError(
                f"there is no AWS profile {settings.profile!r}, or it is incomplete", key=f"{key}.profile"
            ) from None
        if self._found is None:
            raise ConfigurationError(
                "the AWS default chain finds no credentials",
                key=key,
                mend="Name a profile, or run aws configure.",
            )

    def __repr__(self) -> str:
        return f"AWSCredentials({self._name!r})"

    async def for_url(self, url: str) -> S3Keys:  # noqa: ARG002 - the same keys for every address
        """Return the keys, renewed where they are about to expire."""
        return await self._keys.get()

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> S3Keys:  # noqa: ARG002 - the same
        """Return the keys that the AWS tools would find now, where they are others."""
        return await self._keys.renew(as_keys(rejected))

    def _find(self) -> Any:
        import botocore.session  # type: ignore[import-untyped] # noqa: PLC0415 - an optional dependency

        return botocore.session.Session(profile=self._profile).get_credentials()

    async def _fetch(self, rejected: S3Keys | None) -> Lease[S3Keys]:
        try:
            if rejected is not None:
                # whatever was read or asked for before is found anew
                self._found = self._find()
            keys = None if self._found is None else self._found.get_frozen_credentials()
        except self._unreachable:
            raise UpstreamUnavailable(
                f"Who gives the credentials {self._name!r} cannot be reached."
            ) from None
        except self._failures:
            raise UpstreamDenied(
                f"The credentials {self._name!r} could not be renewed.", mend=self._mend
            ) from None
        if keys is None:
            raise UpstreamDenied(
                f"The AWS tools find no credentials {self._name!r} any more.",
                state="no-credentials",
                mend=self._mend,
            )
        expires = self._clock() + _ASK_AGAIN
        moment = datetime.fromtimestamp(expires, UTC)
        return Lease(S3Keys(keys.access_key, keys.secret_key, keys.token, moment), expires)

    def _refused(self) -> UpstreamDenied:
        return UpstreamDenied(
            f"The keys of the credentials {self._name!r} are not accepted.", mend=self._mend
        )

    @property
    def _mend(self) -> str:
        which = f"of the profile {self._profile!r}" if self._profile else "that the default chain finds"
        return f"Check the AWS credentials {which}, and that they may read there."
