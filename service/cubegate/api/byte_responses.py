"""Plain HTTP for bytes held in memory: entity tags, conditions, ranges, HEAD, and HTML listings."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cubegate.api.problems import problem
from cubegate.store.encoded import EncodedStore
from cubegate.store.zarr_tree import ChunkAddress, ZarrTree

__all__ = [
    "ChunkAddress",
    "EncodedStore",
    "Entity",
    "ZarrTree",
    "byte_range",
    "content_etag",
    "link_to",
    "listing",
    "unsatisfiable",
]

_CONDITIONS = frozenset((b"if-none-match", b"if-range", b"range"))
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
# What a browser would take for more than a name; the rest stays readable, as fsspec takes links literally.
_RESERVED = re.compile(r"""[\x00-\x1f%#?:"'<>&\\]""")


class Entity:
    """What identifies and describes a body, with the headers made once and sent many times.

    `etag` is a strong entity tag, quotes included.
    """

    __slots__ = ("_content_type", "_etag", "_validators")

    def __init__(self, etag: str, media_type: str, cache_control: str) -> None:
        self._etag = etag
        self._content_type = (b"content-type", media_type.encode())
        self._validators = (
            (b"etag", etag.encode()),
            (b"cache-control", cache_control.encode()),
            (b"accept-ranges", b"bytes"),
        )

    def is_held(self, scope: Scope) -> bool:
        """Whether the client already has this entity (If-None-Match), so that 304 is due."""
        held = Headers(scope=scope).get("if-none-match")
        return held is not None and _holds(held, self._etag)

    async def send(self, scope: Scope, receive: Receive, send: Send, body: bytes, length: int) -> None:
        """Answer a GET or HEAD with the body of `length` bytes, its one range that is asked for, or 304.

        Several ranges at once get the whole body, as does a range of another entity (If-Range). A
        HEAD, and what is held, needs no `body`.
        """
        status = 200
        extent: tuple[tuple[bytes, bytes], ...] = ()
        if not _CONDITIONS.isdisjoint([name for name, _ in scope["headers"]]):
            if self.is_held(scope):
                await _send(send, 304, self._validators, b"")
                return
            bounds = byte_range(Headers(scope=scope), self._etag, length)
            if bounds is not None:
                start, stop = bounds
                if start >= stop:
                    await unsatisfiable(length)(scope, receive, send)
                    return
                status, body = 206, body[start:stop]
                extent = ((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, length)),)
                length = stop - start
        described = (*self._validators, *extent, (b"content-length", b"%d" % length), self._content_type)
        await _send(send, status, described, b"" if scope["method"] == "HEAD" else body)


async def _send(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    # a list of its own, since middleware adds to it
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})


def content_etag(content: bytes) -> str:
    """Return a strong entity tag for `content`."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _holds(held: str, etag: str) -> bool:
    if held.strip() == "*":
        return True
    return etag in (tag.strip().removeprefix("W/") for tag in held.split(","))


def unsatisfiable(length: int) -> Response:
    """Return the problem of a range that is outside the `length` bytes of a resource."""
    detail = f"The range is outside the {length} bytes of this resource."
    return problem(416, "Range not satisfiable", detail, {"Content-Range": f"bytes */{length}"})


def byte_range(headers: Headers, etag: str, length: int) -> tuple[int, int] | None:
    """Return the start and stop of the asked range, empty where it is unsatisfiable; None for the whole."""
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = match[1], match[2]
    if not first:
        return (max(length - int(last), 0), length) if last else None
    start = int(first)
    if not last:
        return start, length
    if int(last) < start:
        # not a valid range at all, so it is to be ignored
        return None
    return start, min(int(last) + 1, length)


def link_to(name: str) -> str:
    """Return a relative link to `name`, whose only kept slash is a trailing one."""
    stem, slash = (name[:-1], "/") if name.endswith("/") else (name, "")
    return _RESERVED.sub(lambda found: quote(found[0], safe=""), stem) + slash


def listing(title: str, names: Sequence[str], notes: Sequence[str]) -> bytes:
    """Return an HTML page with one relative link for each of `names`, and `notes` below."""
    links = "\n".join(f'<li><a href="{link_to(name)}">{html.escape(name)}</a></li>' for name in names)
    remarks = "\n".join(f"<p>{html.escape(note)}</p>" for note in notes)
    heading = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{heading}</title></head>\n'
        f"<body>\n<h1>{heading}</h1>\n<ul>\n{links}\n</ul>\n{remarks}\n</body>\n</html>\n"
    ).encode()
