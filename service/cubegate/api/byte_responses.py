"""Plain HTTP for bytes held in memory: entity tags, conditions, ranges, HEAD, and HTML listings."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from cubegate.api.problems import problem
from cubegate.store.encoded import EncodedStore
from cubegate.store.zarr_tree import ChunkAddress, ZarrTree

__all__ = [
    "ByteResponse",
    "ChunkAddress",
    "EncodedStore",
    "ZarrTree",
    "byte_range",
    "content_etag",
    "link_to",
    "listing",
    "unsatisfiable",
]

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
# What a browser would take for more than a name; the rest stays readable, as fsspec takes links literally.
_RESERVED = re.compile(r"""[\x00-\x1f%#?:"'<>&\\]""")


@dataclass(frozen=True)
class ByteResponse:
    """What answers a GET or HEAD, apart from the bytes themselves.

    `etag` is a strong entity tag, quotes included.
    """

    etag: str
    media_type: str
    cache_control: str

    def not_modified(self, request: Request) -> Response | None:
        """Return the 304 that is due where the client already holds this entity, else None."""
        held = request.headers.get("if-none-match")
        if held is None or not _holds(held, self.etag):
            return None
        return Response(status_code=304, headers=self._headers())

    def with_body(self, request: Request, body: bytes) -> Response:
        """Return `body`, or the one byte range of it that was asked for.

        Several ranges at once get the whole body, as does a range of another entity (If-Range).
        """
        headers = self._headers()
        bounds = byte_range(request.headers, self.etag, len(body))
        status = 200
        if bounds is not None:
            start, stop = bounds
            if start >= stop:
                return unsatisfiable(len(body))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            status, body = 206, body[start:stop]
        headers["Content-Length"] = str(len(body))
        return Response(b"" if request.method == "HEAD" else body, status, headers, self.media_type)

    def _headers(self) -> dict[str, str]:
        return {"ETag": self.etag, "Cache-Control": self.cache_control, "Accept-Ranges": "bytes"}


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
