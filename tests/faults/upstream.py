"""An HTTP server that misbehaves on the wire, as planned for each run."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

from .canaries import SECRETS, canary
from .cube import CHUNK, Cube
from .faults import REDIRECTS, STATUSES, Plan

BUCKET = "faults"
CHANGED = "Wed, 01 Jan 2020 00:00:00 GMT"
CHANGED_AGAIN = "Thu, 02 Jan 2025 00:00:00 GMT"
# the spots where references, coordinates and chunks lie, by access
ROOTS = {"http": "/plain", "token": "/token", "s3": f"/{BUCKET}"}
_REASONS = {
    200: "OK",
    206: "Partial Content",
    303: "See Other",
    304: "Not Modified",
    412: "Precondition Failed",
}
_LONGEST = 30.0


@dataclass
class Exchange:
    """One request, and what the right answer to it would be.

    `data` are the right bytes, those from `start` on of `whole`, where a range was asked for.
    """

    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    plan: Plan
    name: str
    whole: bytes
    start: int
    stop: int
    ranged: bool
    random: random.Random
    s3: bool
    etag: str
    changed: str = CHANGED
    other: bytes = b""

    @property
    def data(self) -> bytes:
        return self.whole[self.start : self.stop]

    def canary(self, kind: str) -> str:
        return canary(kind, self.plan.run)

    def page(self) -> bytes:
        return f"<html><body>Log in: {self.canary('body')} {SECRETS['FAULTS_TOKEN']}</body></html>".encode()

    def head(self, status: int, headers: dict[str, str], *, reason: str = "") -> bytes:
        marked = {
            "X-Upstream": self.canary("header"),
            "Set-Cookie": f"session={self.canary('cookie')}",
            "Server": self.canary("server"),
            **headers,
        }
        lines = [f"HTTP/1.1 {status} {reason or _REASONS.get(status, self.canary('reason'))}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in marked.items()), "", ""]).encode()

    def right_head(self, length: int | None = None, *, shift: int = 0) -> bytes:
        """The head of the right answer, or of one of another length or place."""
        headers = {
            "Content-Length": str(self.stop - self.start if length is None else length),
            "Content-Type": "application/octet-stream", "ETag": self.etag, "Last-Modified": self.changed,
            "Accept-Ranges": "bytes",
        }  # fmt: skip
        if self.ranged:
            extent = f"bytes {self.start + shift}-{self.stop - 1 + shift}/{len(self.whole)}"
            headers["Content-Range"] = extent
        return self.head(206 if self.ranged else 200, headers)

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def end(self) -> None:
        """End the connection in good order."""
        raise ConnectionError

    def reset(self) -> None:
        """End the connection rudely."""
        reset = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.writer.transport.abort()
        raise ConnectionError

    async def wait(self, seconds: float = _LONGEST) -> None:
        """Wait, at most until the client leaves."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if not await self.reader.read(1):
                    raise ConnectionError


def _status(status: int) -> Callable[[Exchange], Awaitable[None]]:
    async def answer(exchange: Exchange) -> None:
        body, kind = exchange.page(), "text/html"
        if exchange.s3:
            code = {404: "NoSuchKey", 403: "AccessDenied"}.get(status, "Error")
            body, kind = _s3_error(exchange, code), "application/xml"
        headers = {"Content-Length": str(len(body)), "Content-Type": kind, "Retry-After": "1",
                   "WWW-Authenticate": f'Bearer realm="{exchange.canary("realm")}"'}  # fmt: skip
        exchange.send(exchange.head(status, headers), body)

    return answer


def _s3_error(exchange: Exchange, code: str) -> bytes:
    secret = SECRETS["FAULTS_SECRET"]
    text = f"<Error><Code>{code}</Code><Message>{exchange.canary('message')} {secret}</Message></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


async def _expired(exchange: Exchange) -> None:
    if exchange.s3:
        body, kind = _s3_error(exchange, "ExpiredToken"), "application/xml"
    else:
        text = f'{{"error": "invalid_token", "error_description": "{exchange.canary("token")}"}}'
        body, kind = text.encode(), "application/json"
    headers = {"Content-Length": str(len(body)), "Content-Type": kind}
    exchange.send(exchange.head(400 if exchange.s3 else 401, headers), body)


def _redirect(status: int) -> Callable[[Exchange, Upstream], Awaitable[None]]:
    async def answer(exchange: Exchange, upstream: Upstream) -> None:
        by = "s3" if exchange.s3 else "http"
        location = f"{upstream.login_url}/login?by={by}&state={exchange.canary('location')}"
        exchange.send(exchange.head(status, {"Location": location, "Content-Length": "0"}))

    return answer


async def _refused(exchange: Exchange, upstream: Upstream) -> None:
    location = f"{upstream.refused_url}/{exchange.name}?signature={exchange.canary('signature')}"
    exchange.send(exchange.head(307, {"Location": location, "Content-Length": "0"}))


async def _reset_before(exchange: Exchange) -> None:
    exchange.reset()


async def _reset_in_body(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(), exchange.data[: len(exchange.data) // 2])
    await exchange.writer.drain()
    # the kernel forgets on a reset what was not read yet
    await asyncio.sleep(0.01)
    exchange.reset()


async def _hang(exchange: Exchange) -> None:
    await exchange.wait()
    exchange.end()


async def _hang_in_body(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(), exchange.data[: len(exchange.data) // 2])
    await exchange.wait()
    exchange.end()


async def _drip(exchange: Exchange) -> None:
    exchange.send(exchange.right_head())
    for position in range(len(exchange.data)):
        exchange.send(exchange.data[position : position + 1])
        await exchange.wait(0.05)


async def _short(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(), exchange.data[: -1 - len(exchange.data) // 3])
    exchange.end()


async def _cut(exchange: Exchange) -> None:
    length = len(exchange.data) * 2 // 3
    exchange.send(exchange.right_head(length), exchange.data[:length])


async def _long(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(len(exchange.data) + 24), exchange.data, exchange.page()[:24])


async def _trailing(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(), exchange.data, exchange.page())


async def _empty(exchange: Exchange) -> None:
    exchange.send(exchange.right_head(0))


async def _page(exchange: Exchange) -> None:
    body = exchange.page()
    exchange.send(exchange.head(200, {"Content-Length": str(len(body)), "Content-Type": "text/html"}), body)


async def _page_in_range(exchange: Exchange) -> None:
    head = exchange.right_head().replace(b"application/octet-stream", b"text/html")
    # through S3 it passes for data, which no word in it makes a leak
    page = b"<html><body>Log in</body></html>" if exchange.s3 else exchange.page()
    exchange.send(head, (page * (len(exchange.data) // len(page) + 1))[: len(exchange.data)])


async def _wrong_offset(exchange: Exchange) -> None:
    shift = CHUNK if exchange.stop + CHUNK <= len(exchange.whole) else -CHUNK
    exchange.send(
        exchange.right_head(shift=shift), exchange.whole[exchange.start + shift : exchange.stop + shift]
    )


async def _lying(exchange: Exchange) -> None:
    # a place further on where values are, so that what comes are real values of elsewhere
    other = (exchange.whole[exchange.start + 64 :] + exchange.whole)[: len(exchange.data)]
    exchange.send(exchange.right_head(), other)


async def _ignored(exchange: Exchange) -> None:
    exchange.ranged = False
    exchange.send(exchange.right_head(len(exchange.whole)), exchange.whole)


async def _flipped(exchange: Exchange) -> None:
    data = bytearray(exchange.data)
    data[exchange.random.randrange(len(data))] ^= 1 << exchange.random.randrange(8)
    exchange.send(exchange.right_head(), bytes(data))


async def _swapped(exchange: Exchange) -> None:
    data = (exchange.other + exchange.whole)[exchange.start : exchange.stop]
    exchange.send(exchange.right_head(), data)


_FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    **{f"status {status}": _status(status) for status in STATUSES},
    "reset before the head": _reset_before,
    "reset in the body": _reset_in_body,
    "hang before the head": _hang,
    "hang in the body": _hang_in_body,
    "slow drip": _drip,
    "short body": _short,
    "cut object": _cut,
    "long body": _long,
    "trailing bytes": _trailing,
    "empty body": _empty,
    "page as 200": _page,
    "page as 206": _page_in_range,
    "expired token": _expired,
    "wrong offset": _wrong_offset,
    "range ignored": _ignored,
    "flipped byte": _flipped,
    "lying range": _lying,
    "swapped granule": _swapped,
}
_REDIRECTING: dict[str, Callable[[Exchange, Upstream], Awaitable[None]]] = {
    **{f"redirect {status} to a login page": _redirect(status) for status in REDIRECTS},
    "refused": _refused,
}
REPUBLISHED = "republished granule"


@dataclass
class Request:
    """The head of a request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


class Upstream:
    """The server, in a thread of its own: `plans` by slot, `objects` by path.

    A path is `<root>/<slot>/<file>`. What lies below `/token` needs the token, and is redirected
    to a signed address on the second origin. `astray` is what should never have come, and
    whether by way of S3: requests to the login page, and tokens where they do not belong.
    """

    def __init__(self, cube: Cube) -> None:
        self.plans: dict[str, Plan] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: dict[str, int] = {}
        self.astray: list[tuple[str, bool]] = []
        self.delay = 0.0
        self.url = self.second_url = self.login_url = self.refused_url = ""
        self._granules = {f"granules/{name}": data for name, data in cube.granules.items()}
        self._coordinates = {
            (f"granules/{granule}", offset)
            for key, (granule, offset, _) in cube.places.items()
            if key.count(".") == 0
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []
        self._closed_port = socket.socket()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self._closed_port.bind(("127.0.0.1", 0))
        self.refused_url = f"http://127.0.0.1:{self._closed_port.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._closed_port.close()

    def url_of(self, access: str, slot: str) -> str:
        """The address of what a slot holds."""
        return f"s3://{BUCKET}/{slot}" if access == "s3" else f"{self.url}{ROOTS[access]}/{slot}"

    async def _start(self) -> None:
        for handle in (self._serve, self._serve_second, self._log_in):
            self._servers.append(await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1000))
        self.url, self.second_url, self.login_url = (
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self._servers
        )

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._converse(reader, writer, 0)

    async def _serve_second(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._converse(reader, writer, 1)

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            first = head.splitlines()[0].decode("latin-1")
            self.astray.append((f"asked the login page: {first}", "by=s3" in first))
            page = f"<html>{canary('login', 0)}</html>".encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page
            )
        writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, origin: int
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = _parse(await reader.readuntil(b"\r\n\r\n"))
                await self._answer(request, reader, writer, origin)
                await writer.drain()
        writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, origin: int
    ) -> None:
        path = request.path.partition("?")[0]
        _, root, slot, name = path.split("/", 3)
        self.requests[f"{slot}/{name}"] = self.requests.get(f"{slot}/{name}", 0) + 1
        exchange = self._exchange(request, reader, writer, path=path, slot=slot, name=name)
        if exchange is None:
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        if origin and "authorization" in request.headers:
            self.astray.append((f"sent credentials to the second origin: {path}", False))
        hop = 1 if root == "token" and not origin else 0
        plan = exchange.plan
        # what is redirected has two answers: the first is hop 1, the one with the data hop 0
        strikes = plan.strikes(self._kind(name, exchange), name.rpartition("/")[2], hop)
        if strikes and await self._misbehave(exchange):
            return
        if hop:
            self._send_on(request, exchange, writer)
            return
        if self.delay:
            await asyncio.sleep(self.delay)
        await _behave(request, exchange)

    def _exchange(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        path: str,
        slot: str,
        name: str,
    ) -> Exchange | None:
        whole = self._granules.get(name) or self.objects.get(path)
        plan = self.plans.get(slot)
        if whole is None or plan is None:
            return None
        wanted = request.headers.get("range", "").removeprefix("bytes=")
        start, stop = 0, len(whole)
        if wanted:
            first, _, last = wanted.partition("-")
            start, stop = int(first), min(int(last or len(whole)) + 1, len(whole))
        etag = f'"{hashlib.md5(whole).hexdigest()}"'  # noqa: S324 - as S3 does
        rest = [data for granule, data in self._granules.items() if granule != name]
        draw = random.Random(f"{plan.run}/{name}/{start}")
        return Exchange(
            writer, reader, plan, name, whole, start, stop, bool(wanted), draw,
            s3=path.startswith(f"/{BUCKET}/"), etag=etag, other=draw.choice(rest),
        )  # fmt: skip

    def _kind(self, name: str, exchange: Exchange) -> str:
        if name.startswith("references/"):
            return "partition" if name.endswith(".parq") else "reference"
        if not exchange.ranged or exchange.start == 0:
            return "granule"
        return "coordinate" if (name, exchange.start) in self._coordinates else "chunk"

    async def _misbehave(self, exchange: Exchange) -> bool:
        """Give the bad answer; whether all was said."""
        fault = exchange.plan.fault
        if fault == REPUBLISHED:
            # other content by the same name, which knows that it is another
            exchange.whole = (exchange.other + exchange.whole)[: len(exchange.whole)]
            exchange.etag = f'"{exchange.canary("etag")}"'
            exchange.changed = CHANGED_AGAIN
            return False
        if fault in _REDIRECTING:
            await _REDIRECTING[fault](exchange, self)
        else:
            await _FAULTS[fault](exchange)
        return True

    def _send_on(self, request: Request, exchange: Exchange, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("authorization") != f"Bearer {SECRETS['FAULTS_TOKEN']}":
            self.astray.append((f"asked without the token: {request.path}", False))
            location = f"{self.login_url}/oauth"
        else:
            location = f"{self.second_url}{request.path}?X-Amz-Signature={exchange.canary('signature')}"
        writer.write(exchange.head(303, {"Location": location, "Content-Length": "0"}))


async def _behave(request: Request, exchange: Exchange) -> None:
    expected = request.headers.get("if-match") or request.headers.get("if-range")
    since = request.headers.get("if-unmodified-since")
    if (expected and expected not in (exchange.etag, exchange.changed)) or (
        since and since != exchange.changed
    ):
        if "if-range" in request.headers:
            await _ignored(exchange)
        else:
            body = exchange.page()
            exchange.send(exchange.head(412, {"Content-Length": str(len(body))}), body)
        return
    exchange.send(exchange.right_head(), b"" if request.method == "HEAD" else exchange.data)


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    named = (line.partition(":") for line in lines if line)
    return Request(method, path, {name.strip().lower(): value.strip() for name, _, value in named})
