"""Opens the credentials section of the settings."""

from __future__ import annotations

from collections.abc import Mapping

from cubegate.credentials.aws import AWSCredentials
from cubegate.credentials.earthdata import EarthdataToken
from cubegate.credentials.provider import CredentialProvider
from cubegate.credentials.static import StaticKeys
from cubegate.errors import ConfigurationError
from cubegate.settings import CredentialSettings

_KEYS = {
    "s3": {"access_key_id_env", "secret_access_key_env", "session_token_env"},
    "aws": {"profile"},
    "earthdata": {"token_env", "token_file"},
}


def open_credentials(
    settings: Mapping[str, CredentialSettings], environment: Mapping[str, str]
) -> dict[str, CredentialProvider]:
    """Return a provider for each named set of credentials.

    Raises:
        ConfigurationError: a secret is not where the settings say; the message names the key and
            the variable or file, never a value.
    """
    return {name: _open(name, section, environment) for name, section in settings.items()}


def _open(name: str, settings: CredentialSettings, environment: Mapping[str, str]) -> CredentialProvider:
    for key in settings.model_fields_set - {"kind"} - _KEYS[settings.kind]:
        raise ConfigurationError(
            f"does not go with kind {settings.kind}",
            key=f"credentials.{name}.{key}",
            mend=f"Keys of this kind: {', '.join(sorted(_KEYS[settings.kind]))}.",
        )
    if settings.kind == "s3":
        return StaticKeys(name, settings, environment)
    if settings.kind == "aws":
        return AWSCredentials(name, settings)
    return EarthdataToken(name, settings, environment)
