"""The addresses that credentials are asked of: https, or plain http inside one machine."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from cubegate.errors import ConfigurationError

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_address(text: str, key: str) -> str:
    """Return the address that the configuration has under `key`, without a slash at its end.

    Raises:
        ConfigurationError: a secret would not be safe there, or it is no plain address. The
            message does not show it, since it may hold a password.
    """
    origin = origin_of(text)
    if (
        origin is None
        or any(sign in text for sign in "?#@\\")
        or not text.isascii()
        or not text.isprintable()
    ):
        raise ConfigurationError(
            "is not a plain https address",
            key=key,
            mend="Write https://host/path, with no user and no query.",
        )
    scheme, host, _ = origin
    if scheme == "http" and host not in _LOOPBACK:
        raise ConfigurationError(
            "would send a secret in the clear", key=key, mend="Write https instead of http."
        )
    return text.rstrip("/")


def origin_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http(s) address; None where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or " " in url:
        return None
    return scheme, parts.hostname.lower(), port or _DEFAULT_PORTS[scheme]


def redirect_target(asked: str, location: str) -> str:
    """The address that an answer of `asked` redirects to; empty where it is none."""
    try:
        target = urljoin(asked, location)
    except ValueError:
        return ""
    return target if origin_of(target) is not None else ""


def is_login_page(address: str) -> bool:
    """Whether `address` is where any Earthdata Login asks for user and password."""
    return urlsplit(address).path.endswith("/oauth/authorize")
