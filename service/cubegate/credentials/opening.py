"""Opens the credentials section of the settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cubegate.credentials.aws import AWSCredentials
from cubegate.credentials.earthdata import open_token
from cubegate.credentials.earthdata_s3 import EarthdataKeys
from cubegate.credentials.provider import CredentialProvider
from cubegate.credentials.static import StaticKeys
from cubegate.errors import ConfigurationError
from cubegate.settings import CredentialSettings

_TOKEN_KEYS = {"token_env", "token_file", "username_env", "password_env", "netrc", "login"}
_KEYS = {
    "s3": {
        f"{part}_{place}"
        for part in ("access_key_id", "secret_access_key", "session_token")
        for place in ("env", "file")
    },
    "aws": {"profile"},
    "earthdata": _TOKEN_KEYS,
    "earthdata-s3": _TOKEN_KEYS | {"endpoint"},
}


def open_credentials(
    settings: Mapping[str, CredentialSettings],
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
) -> dict[str, CredentialProvider]:
    """Return a provider for each named set of credentials; contacts nobody.

    Sets that say the same share one provider, so that their endpoint is asked once for all.
    `clock` gives seconds since 1970.

    Raises:
        ConfigurationError: a secret is not where the settings say; the message names the key and
            the variable or file, never a value.
    """
    opened: dict[str, CredentialProvider] = {}
    for name, section in settings.items():
        same = next((known for known in opened if settings[known].model_dump() == section.model_dump()), None)
        opened[name] = opened[same] if same else _open(name, section, environment, clock)
    return opened


def _open(
    name: str, settings: CredentialSettings, environment: Mapping[str, str], clock: Callable[[], float]
) -> CredentialProvider:
    for key in settings.model_fields_set - {"kind"} - _KEYS[settings.kind]:
        raise ConfigurationError(
            f"does not go with kind {settings.kind}",
            key=f"credentials.{name}.{key}",
            mend=f"Keys of this kind: {', '.join(sorted(_KEYS[settings.kind]))}.",
        )
    if settings.kind == "s3":
        return StaticKeys(name, settings, environment)
    if settings.kind == "aws":
        return AWSCredentials(name, settings, clock=clock)
    if settings.kind == "earthdata":
        return open_token(name, settings, environment, clock=clock)
    return EarthdataKeys(name, settings, environment, clock=clock)
