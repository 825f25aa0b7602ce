"""Judges what obstore raises, whose text quotes the upstream and is never passed on."""

from __future__ import annotations

import re

from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from cubegate.chunks.address import Address
from cubegate.chunks.refusals import denied, state_of
from cubegate.chunks.validators import changed
from cubegate.credentials import S3Keys
from cubegate.errors import UpstreamError, UpstreamMismatch, UpstreamObjectMissing, UpstreamUnavailable

_STATUS = re.compile(r"Server returned non-2xx status code: ([0-9]{3})")
_MISMATCHES = {
    "source: NotPartial": "answered the whole object to a range read",
    "source: UnexpectedRange": "answered another byte range than the one asked for",
}
_ELSEWHERE = "redirect without LOCATION"


def status_of(error: BaseError | FileNotFoundError) -> int | None:
    """Return the HTTP status that `error` tells of, None for none."""
    status = _STATUS.search(str(error))
    return int(status[1]) if status is not None else None


def translated(error: BaseError | FileNotFoundError, address: Address, keys: S3Keys | None) -> UpstreamError:
    """Return what `error` means as an answer to a request signed with `keys`."""
    if isinstance(error, PreconditionError):
        return changed(address)
    if isinstance(error, FileNotFoundError):
        # A lost bucket, or a proxy's 404, does not mean that a chunk was never written.
        if "<Code>NoSuchKey</Code>" in str(error):
            return UpstreamObjectMissing(f"{address} does not exist.")
        return UpstreamMismatch(
            f"{address} is not found, yet the store does not say that the object is missing."
        )
    state = _state(error)
    if state is not None:
        temporary = keys is not None and keys.session_token is not None
        return denied(address, state, known=keys is not None, status=status_of(error), temporary=temporary)
    return _other(error, address)


def _state(error: BaseError) -> str | None:
    text = str(error)
    if _ELSEWHERE in text:
        return "out-of-region"
    state = state_of(status_of(error) or 400, text)
    if state is None and isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "denied"
    return state


def _other(error: BaseError, address: Address) -> UpstreamError:
    status, text = status_of(error), str(error)
    for sign, meaning in _MISMATCHES.items():
        if sign in text:
            return UpstreamMismatch(f"{address} {meaning}.")
    if status is not None and status < 500 and status not in {408, 429}:
        return UpstreamMismatch(f"{address} answered HTTP {status}.")
    return UpstreamUnavailable(f"{address} cannot be reached, or is not available.")
