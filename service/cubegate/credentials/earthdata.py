"""An Earthdata Login bearer token: from a variable, from a file, or for a user and a password."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cubegate.credentials.account import NetrcAccount, VariableAccount
from cubegate.credentials.address import check_address
from cubegate.credentials.environment import read_secret, read_variable
from cubegate.credentials.login_token import LoginToken
from cubegate.credentials.provider import BearerToken, S3Keys, Secretive, TokenProvider
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings

_WAYS = "one of token_env, token_file, netrc, or username_env with password_env"


def open_token(
    name: str,
    settings: CredentialSettings,
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
) -> TokenProvider:
    """Return the provider of the token that `settings` describe.

    Raises:
        ConfigurationError: they give not exactly one way to a token, or it leads to none.
    """
    key = f"credentials.{name}"
    with_password = settings.username_env is not None or settings.password_env is not None
    ways = (settings.token_env is not None, settings.token_file is not None, settings.netrc, with_password)
    if sum(ways) != 1:
        raise ConfigurationError(f"needs {_WAYS}", key=key, mend="Write exactly one of them.")
    login = check_address(settings.login, f"{key}.login")
    if settings.token_env is not None:
        return VariableToken(name, settings.token_env, login, environment)
    if settings.token_file is not None:
        return FileToken(name, settings.token_file, login)
    if settings.netrc:
        return LoginToken(name, NetrcAccount(key, login, environment), login, clock=clock)
    return LoginToken(name, VariableAccount(key, settings, environment), login, clock=clock)


class VariableToken(Secretive):
    """The token that the variable held when the server started.

    Raises:
        ConfigurationError: it is not set, or holds no token.
    """

    schemes = frozenset({"https"})

    def __init__(self, name: str, variable: str, login: str, environment: Mapping[str, str]) -> None:
        self._name = name
        self._token = BearerToken(read_variable(environment, variable, f"credentials.{name}.token_env"))
        self.mend = (
            f"Make a new token at {login} (Generate Token), put it into the variable {variable}, "
            "and start the server again."
        )

    def __repr__(self) -> str:
        return f"VariableToken({self._name!r})"

    async def for_url(self, url: str) -> BearerToken:  # noqa: ARG002 - one token for all of Earthdata
        """Return the token."""
        return self._token

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> BearerToken:  # noqa: ARG002 - there is one
        """Refuse: there is no other token."""
        raise _not_accepted(self._name, self.mend)


class FileToken(Secretive):
    """The token that `file` holds, which is read again at each use.

    Raises:
        ConfigurationError: the file cannot be read, or holds no token.
    """

    schemes = frozenset({"https"})

    def __init__(self, name: str, file: Path, login: str) -> None:
        self._name, self._file = name, file
        self.mend = f"Make a new token at {login} (Generate Token) and write it into {file}."
        if not read_secret(file):
            raise ConfigurationError(
                "cannot be read, or holds no token",
                key=f"credentials.{name}.token_file",
                mend="Write the token alone into it.",
            )

    def __repr__(self) -> str:
        return f"FileToken({self._name!r})"

    async def for_url(self, url: str) -> BearerToken:  # noqa: ARG002 - one token for all of Earthdata
        """Return the token as it is now."""
        token = read_secret(self._file)
        if not token:
            raise UpstreamDenied(
                f"The token file of the credentials {self._name!r} holds no token.",
                state="no-credentials",
                mend=self.mend,
            )
        return BearerToken(token)

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> BearerToken:
        """Return the token as it is now, where it is another one."""
        token = await self.for_url(url)
        if token == rejected:
            raise _not_accepted(self._name, self.mend)
        return token


def _not_accepted(name: str, mend: str) -> UpstreamDenied:
    return UpstreamDenied(
        f"The token of the credentials {name!r} is not accepted.", state="bad-token", mend=mend
    )
