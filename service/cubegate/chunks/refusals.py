"""Tells why an upstream refuses, by what it answers, of which nothing is passed on."""

from __future__ import annotations

import re

from cubegate.chunks.address import Address
from cubegate.errors import UpstreamDenied

LARGEST_REFUSAL = 2**16
RENEWABLE = frozenset({"expired", "bad-token"})
"""The states that other credentials may end."""

_S3_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_S3_STATES = {
    "ExpiredToken": "expired",
    "ExpiredTokenException": "expired",
    "TokenRefreshRequired": "expired",
    "InvalidAccessKeyId": "bad-token",
    "InvalidToken": "bad-token",
    "SignatureDoesNotMatch": "bad-token",
    "AuthorizationHeaderMalformed": "out-of-region",
    "IllegalLocationConstraintException": "out-of-region",
    "PermanentRedirect": "out-of-region",
}
_EULA = re.compile(r"\bEULAs?\b|end.user licen[cs]e|resolution_url", re.IGNORECASE)
_EXPIRED = re.compile(r"\bexpired\b", re.IGNORECASE)
_LOGIN_PAGE = re.compile(
    r"""type=["']?password|oauth/authorize|urs\.earthdata|\blog ?in\b|\bsign ?in\b""", re.IGNORECASE
)
_LOGIN_ADDRESS = re.compile(r"(?:https?:)?//[^/?#]*/oauth/authorize(?:[/?#]|$)", re.IGNORECASE)

_IN_REGION = "The temporary keys of Earthdata work inside us-west-2 only."
_NAME_CREDENTIALS = "Name credentials for it under upstreams."
_MENDS = {
    "denied": "Check that the credentials of this upstream may read it.",
    "login-page": "Check that the credentials of this upstream are valid there, and make a new token.",
    "eula": "Log in to Earthdata (https://urs.earthdata.nasa.gov) as the user of these credentials, and "
    "accept the licence agreement (EULA) of this collection.",
    "bad-token": "The token or keys are not valid there. Put others where the credentials of this upstream "
    "are read from.",
    "expired": "The token or keys have expired. Put others where the credentials of this upstream are "
    "read from.",
    "out-of-region": f"Set region for it under upstreams to the region of the bucket. {_IN_REGION}",
    "no-credentials": _NAME_CREDENTIALS,
}  # fmt: skip


def state_of(status: int, text: str) -> str | None:
    """Return the state that an answer of 3xx or 4xx with the body `text` tells of, None for none."""
    code = _S3_CODE.search(text)
    if code is not None and code[1] in _S3_STATES:
        return _S3_STATES[code[1]]
    if status not in {401, 403}:
        return None
    if _EULA.search(text):
        return "eula"
    if status == 403:
        return "denied"
    return "expired" if _EXPIRED.search(text) else "bad-token"


def denied(
    address: Address, state: str, *, known: bool, status: int | None = None, temporary: bool = False
) -> UpstreamDenied:
    """Build the error of a refusal.

    `known` says whether credentials were sent at all, `temporary` whether they were temporary keys.
    """
    said = f" (HTTP {status})" if status is not None else ""
    problem = f"{address} refuses access{said}."
    if state == "login-page":
        problem = f"{address} answered with a web page to log in, or led to one."
    if not known and state in {"denied", "login-page", "bad-token", "expired"}:
        state = "no-credentials" if state in RENEWABLE else state
        return UpstreamDenied(problem, state=state, mend=_NAME_CREDENTIALS)
    also = f" {_IN_REGION}" if temporary and state == "denied" else ""
    return UpstreamDenied(problem, state=state, mend=f"{_MENDS[state]}{also}")


def what_to_do(state: str) -> str:
    """Return what an operator does about `state`, in words that anybody may see."""
    return _MENDS.get(state, _MENDS["denied"])


def leads_to_login(location: str) -> bool:
    """Whether a redirect to `location` is one to a login."""
    return _LOGIN_ADDRESS.match(location) is not None


def is_login_page(text: str) -> bool:
    """Whether the web page `text` asks to log in."""
    return _LOGIN_PAGE.search(text) is not None
