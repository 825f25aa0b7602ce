"""An Earthdata Login bearer token, from an environment variable or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cubegate.credentials.environment import is_printable, read_variable
from cubegate.credentials.provider import BearerToken
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings


class EarthdataToken:
    """The token of `settings`; a file is read again at each use, so that it can be renewed.

    Raises:
        ConfigurationError: not exactly one of token_env and token_file, or it holds no token.
    """

    schemes = frozenset({"https"})

    def __init__(self, name: str, settings: CredentialSettings, environment: Mapping[str, str]) -> None:
        self._name = name
        self._file = settings.token_file
        self._token = ""
        key = f"credentials.{name}"
        if (settings.token_env is None) == (settings.token_file is None):
            raise ConfigurationError("needs one of token_env and token_file", key=key)
        if settings.token_file is None:
            self._token = read_variable(environment, settings.token_env, f"{key}.token_env")
        elif not _read_token(settings.token_file):
            raise ConfigurationError(
                "cannot be read, or holds no token",
                key=f"{key}.token_file",
                mend="Write the token alone into it.",
            )

    def __repr__(self) -> str:
        return f"EarthdataToken({self._name!r})"

    async def for_url(self, url: str) -> BearerToken:  # noqa: ARG002 - one token for all of Earthdata
        """Return the token as it is now."""
        token = self._token if self._file is None else _read_token(self._file)
        if not token:
            raise UpstreamDenied(f"The token file of the credentials {self._name!r} holds no token.")
        return BearerToken(token)


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return token if is_printable(token) else ""
