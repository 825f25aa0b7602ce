"""Answers of the values plane: budgeted, validated by ETag, streamed or sent from the spool."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial

from fastapi import Request
from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cubegate import __version__
from cubegate.api.byte_responses import byte_range, unsatisfiable
from cubegate.api.dependencies import services
from cubegate.api.head import HEADERS_ONLY
from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.api.spool import SpooledFile
from cubegate.catalog.cube import Cube
from cubegate.formats.output import OutputFormat, Result
from cubegate.query.in_thread import in_thread

STREAMED = frozenset({"csv"})
# decoded; what is larger would be in memory for as long as its client takes to read it
LARGEST_STREAMED = 64 * 2**20
MUTABLE_MAX_AGE = 60.0


async def respond(
    request: Request,
    cube: Cube,
    output_format: OutputFormat,
    produce: Callable[[], Awaitable[Result]],
    *,
    filename: str,
    body: bytes = b"",
    nbytes: int = 0,
) -> Response:
    """Answer `request` with what `produce` loads, written by `output_format`.

    Nothing is read upstream when the client already holds the answer (If-None-Match) or the
    spool does. `body` is the request's own, part of the answer's identity. Where the client leaves
    before the first byte, the work ends. `nbytes` is what the loaded answer takes of `limits.memory`,
    until it is written or its client has gone.
    """
    etag = _etag(request, cube, output_format, body)
    headers = {
        "Cache-Control": "public, max-age=300" if cube.immutable else "no-cache",
        "Content-Disposition": f'inline; filename="{filename}.{output_format.extension}"',
    }
    if cube.immutable:
        # a native Zarr store may change under one version: there the file's own ETag has to do
        headers["ETag"] = etag
        if request.method != "POST" and etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
    found = services(request)

    async def write() -> Iterator[bytes]:
        result = await produce()
        return await in_thread(lambda: output_format.write(result))

    async def spooled() -> Response:
        max_age = None if cube.immutable else MUTABLE_MAX_AGE
        within = partial(found.queries.slot, nbytes)
        file = await found.spool.find_or_build(etag, write, max_age=max_age, within=within)
        return _SpooledResponse(file, headers, output_format.media_type)

    async def streamed(held: AsyncExitStack) -> Response:
        slot = await held.enter_async_context(found.queries.slot(nbytes))
        pieces = await write()
        first = await in_thread(lambda: next(pieces, b""))
        slot.leave_place()
        return _StreamedResponse(_stream(first, pieces), headers, output_format.media_type)

    async with AsyncExitStack() as held:
        small = output_format.name in STREAMED and nbytes <= LARGEST_STREAMED
        try:
            response = await while_connected(request.receive, streamed(held) if small else spooled())
        except ClientLeft as left:
            return left.answer()
        if isinstance(response, _StreamedResponse):
            response.held = held.pop_all()
        return response


def _etag(request: Request, cube: Cube, output_format: OutputFormat, body: bytes) -> str:
    """Name the answer by all that it is made of: data, configuration, query, and the code that writes it."""
    parts = (__version__, cube.identity, request.url.path, request.url.query, output_format.name)
    identity = "\n".join(parts).encode() + b"\n" + body
    return f'"{hashlib.sha256(identity).hexdigest()[:32]}"'


class _StreamedResponse(StreamingResponse):
    """Sends an answer while it is written, and lets go of what is `held` when that ends, however it does."""

    def __init__(self, pieces: AsyncIterator[bytes], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pieces, 200, headers, media_type)
        self.held = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole."""
        async with self.held:
            await super().__call__(scope, receive, send)


class _SpooledResponse(FileResponse):
    """Sends a spooled file, and keeps it from being deleted meanwhile."""

    # each piece is read by a thread, whose calling costs as much as reading 64 KiB
    chunk_size = 2**20

    def __init__(self, file: SpooledFile, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(file.path, 200, headers, media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole, the one range that was asked for, or the headers alone."""
        bounds = byte_range(Headers(scope=scope), self.headers.get("etag", ""), self._file.nbytes)
        if bounds is None or scope["method"] == "POST":
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}
        elif bounds[0] >= bounds[1]:
            await unsatisfiable(self._file.nbytes)(scope, receive, send)
            return
        if scope.get(HEADERS_ONLY):
            scope = {**scope, "method": "HEAD"}
        await super().__call__(scope, receive, send)


async def _stream(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in iterate_in_threadpool(pieces):
        yield piece
