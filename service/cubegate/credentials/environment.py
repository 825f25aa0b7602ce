"""Secrets from environment variables and files, whose names the configuration gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cubegate.errors import ConfigurationError

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_LARGEST_FILE = 2**16
# upper case, as no token is, and no key id of AWS
_NAME = re.compile(r"(?!AKIA|ASIA)[A-Z_][A-Z0-9_]{0,63}")


def read_variable(environment: Mapping[str, str], variable: str | None, key: str) -> str:
    """Return the secret in `variable`, which the configuration names under `key`.

    Raises:
        ConfigurationError: the variable is not named, not set, or cannot be a header's value.
    """
    if not variable:
        raise ConfigurationError("is missing", key=key, mend="Name the environment variable that holds it.")
    secret = environment.get(variable, "").strip()
    # whoever wrote the secret itself in place of its name should not find it in a log
    named = f"the environment variable {variable}" if _NAME.fullmatch(variable) else "the variable it names"
    if not secret:
        raise ConfigurationError(f"{named} is not set", key=key, mend="Set it before starting the server.")
    if not is_printable(secret):
        raise ConfigurationError(f"{named} holds spaces or unprintable characters", key=key)
    return secret


def read_secret(file: Path) -> str:
    """Return the secret that is alone in `file`; empty where there is none."""
    try:
        with file.open(encoding="ascii") as opened:
            secret = opened.read(_LARGEST_FILE).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return secret if is_printable(secret) else ""


def is_printable(secret: str) -> bool:
    """Whether `secret` is visible ASCII without spaces, as keys and tokens are."""
    return _PRINTABLE.fullmatch(secret) is not None
