"""AWS credentials as the AWS tools find them: a profile, or the default chain."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from cubegate.credentials.provider import S3Keys
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings

# botocore renews by itself: asking it again this often is cheap and never gives dead keys.
_ASK_AGAIN = timedelta(minutes=5)


class AWSCredentials:
    """Keys by way of botocore: environment, shared files, single sign-on, container or instance.

    Raises:
        ConfigurationError: botocore is not installed, or finds no such profile or credentials.
    """

    schemes = frozenset({"s3"})

    def __init__(self, name: str, settings: CredentialSettings) -> None:
        key = f"credentials.{name}"
        try:
            import botocore.exceptions  # type: ignore[import-untyped] # noqa: PLC0415 - an optional dependency
            import botocore.session  # type: ignore[import-untyped] # noqa: PLC0415 - the same
        except ImportError:
            raise ConfigurationError(
                "needs botocore, which is not installed", key=f"{key}.kind", mend="Install cubegate[aws]."
            ) from None
        self._name = name
        self._failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
        try:
            found = botocore.session.Session(profile=settings.profile).get_credentials()
        except self._failures:
            raise ConfigurationError(
                f"there is no AWS profile {settings.profile!r}, or it is incomplete", key=f"{key}.profile"
            ) from None
        if found is None:
            raise ConfigurationError(
                "the AWS default chain finds no credentials",
                key=key,
                mend="Name a profile, or run aws configure.",
            )
        self._found = found

    def __repr__(self) -> str:
        return f"AWSCredentials({self._name!r})"

    async def for_url(self, url: str) -> S3Keys:  # noqa: ARG002 - the same keys for every address
        """Return the keys, renewed where they are about to expire."""
        try:
            keys = await asyncio.to_thread(self._found.get_frozen_credentials)
        except self._failures:
            raise UpstreamDenied(f"The credentials {self._name!r} could not be renewed.") from None
        return S3Keys(keys.access_key, keys.secret_key, keys.token, datetime.now(UTC) + _ASK_AGAIN)
