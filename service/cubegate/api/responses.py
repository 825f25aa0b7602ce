"""Answers of the values plane: budgeted, validated by ETag, streamed or sent from the spool."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import FileResponse, Response, StreamingResponse

from cubegate.api.dependencies import services
from cubegate.catalog.datacube import Datacube
from cubegate.errors import UpstreamTimeout
from cubegate.formats.output import OutputFormat, Result

STREAMED = frozenset({"csv"})
MUTABLE_MAX_AGE = 60.0


async def respond(
    request: Request,
    cube: Datacube,
    output_format: OutputFormat,
    produce: Callable[[], Awaitable[Result]],
    *,
    filename: str,
    body: bytes = b"",
) -> Response:
    """Answer `request` with what `produce` loads, written by `output_format`.

    Nothing is read upstream when the client already holds the answer (If-None-Match) or the
    spool does. `body` is the request's own, part of the answer's identity. The deadline of the
    limits bounds the time to the first byte.

    Raises:
        UpstreamTimeout: the deadline has passed.
    """
    identity = "\n".join((cube.id, cube.version, request.url.path, request.url.query, output_format.name))
    etag = f'"{hashlib.sha256(identity.encode() + body).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": "public, max-age=300" if cube.store.immutable else "no-cache",
        "Content-Disposition": f'inline; filename="{filename}.{output_format.extension}"',
    }
    if cube.store.immutable:
        # a native Zarr store may change under one version: there the file's own ETag has to do
        headers["ETag"] = etag
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
    spool = services(request).spool
    file = spool.find(etag, max_age=None if cube.store.immutable else MUTABLE_MAX_AGE)
    if file is None:
        async with _deadline(services(request).limits.deadline):
            result = await produce()
            pieces = await asyncio.to_thread(output_format.write, result)
            if output_format.name in STREAMED:
                first = await asyncio.to_thread(next, pieces, b"")
                return StreamingResponse(_stream(first, pieces), 200, headers, output_format.media_type)
            file = await spool.write(etag, pieces)
    return FileResponse(file, 200, headers, output_format.media_type)


async def _stream(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in iterate_in_threadpool(pieces):
        yield piece


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout(f"The answer was not ready within {seconds:g} s.") from None
