"""The user and password of Earthdata Login, from environment variables or a .netrc file."""

from __future__ import annotations

import netrc
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cubegate.credentials.environment import read_variable
from cubegate.credentials.provider import Secretive
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings


class VariableAccount(Secretive):
    """User and password as the variables held them when the server started.

    Raises:
        ConfigurationError: a variable is not named, not set or empty.
    """

    def __init__(self, key: str, settings: CredentialSettings, environment: Mapping[str, str]) -> None:
        user = read_variable(environment, settings.username_env, f"{key}.username_env")
        password = _read_password(environment, settings.password_env, f"{key}.password_env")
        self._authorization = _basic(user, password)
        self.mend = (
            f"Check the user in the variable {settings.username_env} and the password in "
            f"{settings.password_env}, and start the server again."
        )

    def authorization(self) -> str:
        """The value of the Authorization header for Earthdata Login."""
        return self._authorization


class NetrcAccount(Secretive):
    """User and password of the host of `login` in a .netrc file, which is read at each use.

    An entry `default` is for nobody in particular, and not taken.

    Raises:
        ConfigurationError: the file has no such entry, or cannot be read.
    """

    def __init__(self, key: str, login: str, environment: Mapping[str, str]) -> None:
        self._file = _netrc_file(environment, f"{key}.netrc")
        self._host = urlsplit(login).hostname or ""
        self.mend = f"Write user and password of {self._host} into {self._file}."
        if self._read() is None:
            raise ConfigurationError(
                f"{self._file} cannot be read, or has no machine {self._host} with login and password",
                key=f"{key}.netrc",
                mend="Add that line.",
            )

    def authorization(self) -> str:
        """The value of the Authorization header for Earthdata Login."""
        found = self._read()
        if found is None:
            raise UpstreamDenied(
                f"{self._file} has no user and password any more.", state="no-credentials", mend=self.mend
            )
        return _basic(*found)

    def _read(self) -> tuple[str, str] | None:
        try:
            found = netrc.netrc(self._file).hosts.get(self._host)
        except (OSError, ValueError, netrc.NetrcParseError):
            return None
        return (found[0], found[2]) if found and found[0] and found[2] else None


def _netrc_file(environment: Mapping[str, str], key: str) -> Path:
    try:
        return Path(environment.get("NETRC") or Path.home() / ".netrc")
    except RuntimeError:
        raise ConfigurationError(
            "there is no home directory to find .netrc in", key=key, mend="Name the file in NETRC."
        ) from None


def _read_password(environment: Mapping[str, str], variable: str | None, key: str) -> str:
    # unlike tokens, passwords may have spaces and letters of all kinds
    if variable and (password := environment.get(variable, "")):
        return password
    return read_variable(environment, variable, key)


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")
