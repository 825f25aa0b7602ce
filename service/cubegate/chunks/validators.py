"""What an object is known by: validators as HTTP has them (RFC 9110, section 8.8)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

from cubegate.chunks.address import Address
from cubegate.errors import UpstreamChanged, UpstreamRefused

_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_DATE = re.compile(r"[A-Za-z0-9,: +-]{10,40}")


def validator_of(headers: Mapping[str, str]) -> str | None:
    """Return the strong entity tag among `headers` (in lower case), else the date of the last change."""
    tag, date = headers.get("etag", ""), headers.get("last-modified", "")
    if is_strong_tag(tag):
        return tag
    return date if date and _parsed(date) is not None else None


def is_strong_tag(validator: str) -> bool:
    """Whether `validator` is an entity tag in quotes, and not a weak one."""
    return _STRONG_TAG.fullmatch(validator) is not None


# a cube names each granule for thousands of chunks
@lru_cache(maxsize=8192)
def precondition(validator: str) -> tuple[str, str]:
    """Return name and value of the header that makes a request hold for the object of `validator` alone.

    Raises:
        UpstreamRefused: it is no validator; nothing was read.
    """
    if is_strong_tag(validator):
        return "If-Match", validator
    if _parsed(validator) is None:
        raise UpstreamRefused("What an index holds to know an object by is no entity tag and no date.")
    return "If-Unmodified-Since", validator


def check_unchanged(headers: Mapping[str, str], validator: str, address: Address) -> None:
    """Hold an answer to `validator`, since servers ignore preconditions.

    An answer without a strong tag or a date to compare with says nothing.

    Raises:
        UpstreamChanged: it is of another object.
    """
    if is_strong_tag(validator):
        found = headers.get("etag", "")
        if is_strong_tag(found) and found != validator:
            raise changed(address)
        return
    date = headers.get("last-modified", "")
    if date != validator and (found_date := _parsed(date)) is not None and found_date != _parsed(validator):
        raise changed(address)


def changed(address: Address) -> UpstreamChanged:
    """Build the error of an object that was replaced."""
    return UpstreamChanged(
        f"{address} was replaced since the index was built: what the index says of it no longer holds. "
        "Build the index again."
    )


@lru_cache(maxsize=8192)
def _parsed(date: str) -> float | None:
    if _DATE.fullmatch(date) is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
