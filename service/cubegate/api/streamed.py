"""Answers that are read while they are sent: the first piece before the status, the others after it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cubegate import __version__
from cubegate.api.head import HEADERS_ONLY
from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.catalog.cube import Cube


async def respond_streamed(
    request: Request,
    cube: Cube,
    pieces: AsyncGenerator[bytes],
    *,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
) -> Response:
    """Answer with `pieces`, of `length` bytes in all where that is known.

    What goes wrong before there is a first piece that is not empty has a status of its own; after it the
    connection is aborted. Nothing is read when the client holds the answer (If-None-Match).
    """
    named = {**(headers or {}), **_validators(request, cube)}
    if length is not None:
        named["Content-Length"] = str(length)
    if named.get("ETag", "-") in request.headers.get("if-none-match", ""):
        named.pop("Content-Length", None)
        await pieces.aclose()
        return Response(status_code=304, headers=named)
    if request.scope.get(HEADERS_ONLY):
        await pieces.aclose()
        return _Headers(None, 200, named, media_type)
    try:
        first = await while_connected(request.receive, _first(pieces))
    except ClientLeft as left:
        await pieces.aclose()
        return left.answer()
    return _Streamed(first, pieces, named, media_type)


def _validators(request: Request, cube: Cube) -> dict[str, str]:
    if not cube.immutable:
        return {"Cache-Control": "no-cache"}
    parts = (__version__, cube.identity, request.url.path, request.url.query)
    etag = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return {"Cache-Control": "public, max-age=300", "ETag": f'"{etag}"'}


async def _first(pieces: AsyncGenerator[bytes]) -> bytes:
    async for piece in pieces:
        if piece:
            return piece
    return b""


class _Headers(Response):
    """The headers of an answer whose body nobody will read."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Take the headers as they are, and no length where they give none."""
        super().init_headers(headers)
        if "Content-Length" not in (headers or {}):
            del self.headers["content-length"]


class _Streamed(StreamingResponse):
    """Sends what is read meanwhile, and ends the reading when it ends, however it does."""

    def __init__(
        self, first: bytes, pieces: AsyncGenerator[bytes], headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(_after(first, pieces), 200, headers, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()


async def _after(first: bytes, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
