"""S3 keys from environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from cubegate.credentials.environment import read_variable
from cubegate.credentials.provider import S3Keys
from cubegate.settings import CredentialSettings


class StaticKeys:
    """The keys that the variables named by `settings` held when the server started.

    Raises:
        ConfigurationError: a variable is not named, not set or empty.
    """

    schemes = frozenset({"s3"})

    def __init__(self, name: str, settings: CredentialSettings, environment: Mapping[str, str]) -> None:
        key = f"credentials.{name}"
        token = settings.session_token_env
        self._name = name
        self._keys = S3Keys(
            read_variable(environment, settings.access_key_id_env, f"{key}.access_key_id_env"),
            read_variable(environment, settings.secret_access_key_env, f"{key}.secret_access_key_env"),
            read_variable(environment, token, f"{key}.session_token_env") if token else None,
        )

    def __repr__(self) -> str:
        return f"StaticKeys({self._name!r})"

    async def for_url(self, url: str) -> S3Keys:  # noqa: ARG002 - the same keys for every address
        """Return the keys."""
        return self._keys
