"""Upstream addresses: parsed strictly, compared by whole path segments, refused when in doubt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from string import punctuation
from urllib.parse import quote, unquote

from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamRefused

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9]*)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?(#.*)?", re.DOTALL)
_LABEL = "[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LARGEST_PORT = 65535
_LARGEST_OFFSET = 2**63 - 1
_LARGEST_LENGTH = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Address:
    """One upstream address in normal form.

    `authority` is the host with its port where that is not the default one, the bucket, or
    empty for files. `path` begins with a slash: percent-encoded for http(s), the literal object
    key for s3, percent-decoded for files. `query` (http and https only) is never shown.
    """

    scheme: str
    authority: str
    path: str
    query: str = field(default="", repr=False)

    def __str__(self) -> str:
        """The address as a message may show it."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def url(self) -> str:
        """The address to send a request to, with its query."""
        return f"{self}?{self.query}" if self.query else str(self)

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine, so that nothing crosses a network."""
        host = re.sub(r":[0-9]+$", "", self.authority)
        return host in {"localhost", "127.0.0.1", "[::1]"}

    def is_below(self, prefix: Address) -> bool:
        """Whether `prefix` is this address, or one of the folders that it lies in."""
        if (self.scheme, self.authority) != (prefix.scheme, prefix.authority):
            return False
        folder = prefix.path.rstrip("/")
        return self.path == folder or self.path.startswith(f"{folder}/")


# a cube names each granule for thousands of chunks, and several allow-lists ask about it
@lru_cache(maxsize=8192)
def parse_address(url: str) -> Address:
    """Read an absolute `s3`, `http`, `https` or `file` URL.

    Raises:
        UpstreamRefused: another scheme, user information, a fragment, dot segments (encoded
            ones too), backslashes, control characters, or a query where there is none.
    """
    match = _SHAPE.fullmatch(url)
    if match is None or _UNPRINTABLE.search(url):
        raise UpstreamRefused(f"{shown(url)} is not an absolute URL.")
    scheme, authority, path = match[1].lower(), match[2], match[3] or "/"
    query = (match[4] or "")[1:]
    if match[5] is not None:
        raise UpstreamRefused(f"{shown(url)} has a fragment, which upstream addresses cannot have.")
    if query and scheme not in _DEFAULT_PORTS:
        raise UpstreamRefused(f"{shown(url)} has a query, which {scheme} addresses cannot have.")
    _refuse_dot_segments(path, url)
    if scheme in _DEFAULT_PORTS:
        return Address(scheme, _host(scheme, authority, url), _quoted(path), _quoted(query))
    if scheme == "s3":
        if not _BUCKET.fullmatch(authority) or "//" in path:
            raise UpstreamRefused(f"{shown(url)} has no valid bucket, or a key with an empty segment.")
        return Address(scheme, authority, path)
    if scheme == "file" and not authority:
        return Address(scheme, "", _decoded_path(path, url))
    raise UpstreamRefused(f"{shown(url)} is neither s3, http, https nor a local file address.")


def shown(url: str) -> str:
    """Return `url` without query, fragment and user information, for messages."""
    bare = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", bare)[:500]


def check_range(reference: ChunkReference) -> None:
    """Refuse offsets and lengths that no object can have.

    Raises:
        UpstreamRefused: nothing was read.
    """
    offset, length = reference.offset, reference.length
    if length is None:
        possible = offset == 0
    else:
        possible = 0 <= length <= _LARGEST_LENGTH and 0 <= offset <= _LARGEST_OFFSET - length
    if not possible:
        raise UpstreamRefused(f"The byte range {offset}+{length} of {shown(reference.url)} is impossible.")


class AllowList:
    """The prefixes that may be read; the longest that matches an address wins."""

    def __init__(self, prefixes: Iterable[Address]) -> None:
        self._prefixes = sorted(prefixes, key=lambda prefix: len(prefix.path.rstrip("/")), reverse=True)
        self.resolve = lru_cache(maxsize=8192)(self._resolve)

    def _resolve(self, url: str) -> tuple[Address, Address]:
        """Return the prefix that `url` is below, and `url` as an address, without any I/O.

        Raises:
            UpstreamRefused: it is malformed, or below no prefix.
        """
        address = parse_address(url)
        for prefix in self._prefixes:
            if address.is_below(prefix):
                return prefix, address
        raise UpstreamRefused(f"{address} is outside the configured upstreams; it was not contacted.")


def _refuse_dot_segments(path: str, url: str) -> None:
    decoded = path
    while (once_more := unquote(decoded)) != decoded:
        decoded = once_more
    if _UNPRINTABLE.search(decoded) or {".", ".."} & set(decoded.split("/")):
        raise UpstreamRefused(f"{shown(url)} has dot segments, backslashes or control characters.")


def _host(scheme: str, authority: str, url: str) -> str:
    match = _HOST.fullmatch(authority)
    if match is None:
        raise UpstreamRefused(f"{shown(url)} does not name a plain host and port.")
    host, port = match[1].lower(), int(match[2] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= _LARGEST_PORT:
        raise UpstreamRefused(f"{shown(url)} names an impossible port.")
    return host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _quoted(text: str) -> str:
    return quote(text, safe=punctuation)


def _decoded_path(path: str, url: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise UpstreamRefused(f"{shown(url)} does not decode to a UTF-8 path.") from None
