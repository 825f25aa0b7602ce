"""S3 keys from environment variables or files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cubegate.credentials.environment import read_secret, read_variable
from cubegate.credentials.provider import BearerToken, S3Keys, Secretive
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings


class StaticKeys(Secretive):
    """The keys that the variables or files named by `settings` held when the server started.

    Files are read again when the keys are refused.

    Raises:
        ConfigurationError: a variable or file is not named, not there or empty.
    """

    schemes = frozenset({"s3"})

    def __init__(self, name: str, settings: CredentialSettings, environment: Mapping[str, str]) -> None:
        self._name, self._settings, self._environment = name, settings, environment
        self._keys = self._read()

    def __repr__(self) -> str:
        return f"StaticKeys({self._name!r})"

    async def for_url(self, url: str) -> S3Keys:  # noqa: ARG002 - the same keys for every address
        """Return the keys."""
        return self._keys

    async def renew(self, url: str, rejected: S3Keys | BearerToken) -> S3Keys:  # noqa: ARG002 - the same
        """Return the keys that the files hold now, where they are others."""
        try:
            found = self._read()
        except ConfigurationError as error:
            raise UpstreamDenied(
                f"The keys of the credentials {self._name!r} are gone.",
                state="no-credentials",
                mend=f"{error.key} {error.problem}.",
            ) from None
        if found == rejected:
            raise UpstreamDenied(
                f"The keys of the credentials {self._name!r} are not accepted.", mend=self._mend()
            )
        self._keys = found
        return found

    def _read(self) -> S3Keys:
        key, secret, token = (
            self._secret(part) for part in ("access_key_id", "secret_access_key", "session_token")
        )
        return S3Keys(key, secret, token or None)

    def _secret(self, part: str) -> str:
        variable: str | None = getattr(self._settings, f"{part}_env")
        file: Path | None = getattr(self._settings, f"{part}_file")
        key = f"credentials.{self._name}.{part}"
        if variable is not None and file is not None:
            raise ConfigurationError("is given twice", key=f"{key}_file", mend=f"Remove it, or {part}_env.")
        if file is None and (variable is not None or part != "session_token"):
            return read_variable(self._environment, variable, f"{key}_env")
        if file is None:
            return ""
        secret = read_secret(file)
        if not secret:
            raise ConfigurationError(
                "cannot be read, or holds nothing that could be a key",
                key=f"{key}_file",
                mend="Write it alone into this file.",
            )
        return secret

    def _mend(self) -> str:
        places = [
            str(place)
            for name, place in self._settings
            if name.endswith(("_env", "_file")) and place is not None
        ]
        return f"Check {', '.join(places)}, and that these keys may read there."
