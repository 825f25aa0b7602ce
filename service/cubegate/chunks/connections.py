"""HTTP/1.1 connections for reads: one GET at a time on each, kept open for the next.

A read of 75 KB costs about half of what general clients take, and a cold series is made of
hundreds (see the decision page on the HTTP client). Nothing is followed, retried, decompressed
or kept in cookies here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from weakref import WeakSet

import httptools

from cubegate.chunks.address import Address
from cubegate.chunks.resolving import Lookups, host_and_port, is_literal

CONNECT_TIMEOUT = 10.0
# servers close idle connections after a while, and a request that meets that moment is lost
_IDLE = 15.0
# What may come around a body: heads, trailers, and for each byte what its chunk of one byte takes.
_LARGEST_HEAD = 2**16
_BEGUN_AT_ONCE = 8
_CHUNK_FRAMING = 6
_STANDING = "User-Agent: cubegate\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
_LINES = 6
# what a read is judged by; nobody asks for the other headers
_KEPT_HEADERS = frozenset(
    {
        b"content-encoding", b"content-length", b"content-range", b"content-type", b"etag",
        b"last-modified", b"location", b"retry-after", b"transfer-encoding",
    }
)  # fmt: skip

Judge = Callable[["Head"], int | None]


class ConnectionBroken(Exception):
    """The connection ended, or what came over it is not HTTP; nothing of it can be used.

    `silent` says that not even the first byte of an answer had come, `in_body` that the head had.
    """

    def __init__(self, *, silent: bool = False, in_body: bool = False) -> None:
        super().__init__()
        self.silent, self.in_body = silent, in_body


@dataclass(slots=True)
class Head:
    """Status of an answer, and those of its headers that matter: in lower case, of one name joined."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """An answer with its body, as it came."""

    head: Head
    body: bytes


class Connections:
    """The connections of one event loop, to any number of hosts."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, str], list[_Connection]] = defaultdict(list)
        # uvloop tells nothing of the end of a connection whose making was cancelled
        self._open: WeakSet[_Connection] = WeakSet()
        self._tls: ssl.SSLContext | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._begin = asyncio.Semaphore(_BEGUN_AT_ONCE)
        self._lookups = Lookups()

    async def get(
        self, address: Address, headers: Mapping[str, str], judge: Judge, *, within: float
    ) -> Answer:
        """Send one GET and return the answer.

        `judge` sees the head before the body, raises to refuse it, and returns the most bytes
        that the body may have (None: any number); one byte more ends the connection.

        Raises:
            ConnectionBroken: no connection, or it ended before the answer did.
            UpstreamRefused: the host's name leads where it may not (see `resolving`).
            OSError: the host cannot be reached.
            TimeoutError: the answer was not there within `within` seconds.
        """
        request = _request(address, headers)
        until = self._loop.time() + within
        while True:
            connection = self._kept(address)
            reused = connection is not None
            if connection is None:
                connection = await self._connect(address, until)
            try:
                answer = await connection.exchange(request, judge, until)
            except ConnectionBroken as broken:
                # the server closed a kept connection while the request was on its way
                if reused and broken.silent:
                    continue
                raise
            finally:
                self._keep(address, connection)
            return answer

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        # the transports of a closed loop went with it
        if not self._loop.is_closed():
            self._lookups.cancel()
            for connection in list(self._open):
                connection.close()
        self._idle.clear()

    def _kept(self, address: Address) -> _Connection | None:
        idle = self._idle[address.scheme, address.authority]
        oldest = time.monotonic() - _IDLE
        while idle:
            connection = idle.pop()
            if connection.usable and connection.since > oldest:
                return connection
            connection.close()
        return None

    def _keep(self, address: Address, connection: _Connection) -> None:
        if connection.usable and not self._closed:
            connection.since = time.monotonic()
            self._idle[address.scheme, address.authority].append(connection)
        else:
            connection.close()

    async def _connect(self, address: Address, until: float) -> _Connection:
        host, port = host_and_port(address)
        tls = self._tls_context() if address.scheme == "https" else None
        # A few in each turn of the loop: the first requests are on their way while others still connect.
        await self._begin.acquire()
        self._loop.call_soon(self._begin.release)
        async with asyncio.timeout(min(CONNECT_TIMEOUT, until - self._loop.time())):
            # connected to is what was checked: another look-up could give another address
            *others, last = [host] if is_literal(host) else await self._lookups.addresses_of(host, port)
            for found in others:
                with contextlib.suppress(OSError):
                    return await self._connect_to(found, port, tls, host)
            return await self._connect_to(last, port, tls, host)

    async def _connect_to(self, found: str, port: int, tls: ssl.SSLContext | None, host: str) -> _Connection:
        _, protocol = await self._loop.create_connection(
            lambda: _Connection(self._open), found, port, ssl=tls, server_hostname=host if tls else None
        )
        return protocol

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _request(address: Address, headers: Mapping[str, str]) -> bytes:
    target = f"{address.path}?{address.query}" if address.query else address.path
    more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    request = f"GET {target} HTTP/1.1\r\nHost: {address.authority}\r\n{_STANDING}{more}\r\n"
    if not request.count("\r") == request.count("\n") == _LINES + len(headers):
        raise ValueError("a request line or header with a line end in it")
    return request.encode("latin-1")


class _Connection(asyncio.Protocol):
    """One connection; parsed by the parser that the server itself uses."""

    def __init__(self, open_: WeakSet[_Connection]) -> None:
        self._open = open_
        self._transport: asyncio.Transport | None = None
        self._outcome: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head = Head()
        self._body: list[bytes] = []
        self._nbytes = 0
        self._received = 0
        self._most: int | None = None
        self._in_body = False
        self._judge: Judge | None = None
        self.since = 0.0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and self._outcome is None

    async def exchange(self, request: bytes, judge: Judge, until: float) -> Answer:
        """Send `request` and return its answer; see `Connections.get`. `until` is by the loop's clock."""
        if self._transport is None:
            raise ConnectionBroken(silent=True)
        self._head, self._body = Head(), []
        self._nbytes = self._received = 0
        self._in_body, self._judge = False, judge
        loop = asyncio.get_running_loop()
        self._outcome = loop.create_future()
        # asyncio.timeout would cost ten times as much
        alarm = loop.call_at(until, self._fail, TimeoutError())
        self._transport.write(request)
        try:
            return await self._outcome
        except (asyncio.CancelledError, TimeoutError):
            # the rest of the answer would be taken for the next one's
            self.close()
            raise
        finally:
            alarm.cancel()

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open.discard(self)
        silent = not self._received
        if self._ends_with_connection() and exc is None:
            self._succeed()
        else:
            self._fail(ConnectionBroken(silent=silent, in_body=self._in_body))

    def data_received(self, data: bytes) -> None:
        if self._outcome is None or self._outcome.done():
            # nobody asked for this
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # what `judge` raised is the context of the parser's own error
            self._fail(error.__context__ or ConnectionBroken())
            self.close()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(ConnectionBroken(in_body=self._in_body))
            self.close()
        if self._received > _LARGEST_HEAD + _CHUNK_FRAMING * self._nbytes:
            self._fail(ConnectionBroken(in_body=self._in_body))
            self.close()

    def on_message_begin(self) -> None:
        if self._outcome is None:
            # what follows an answer belongs to nothing that was asked for
            raise ConnectionBroken

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        # behind the body come trailers
        if name not in _KEPT_HEADERS or self._in_body:
            return
        headers, known, text = self._head.headers, name.decode(), value.decode("latin-1").strip()
        headers[known] = f"{headers[known]}, {text}" if known in headers else text

    def on_headers_complete(self) -> None:
        self._head.status = self._parser.get_status_code()
        if self._head.status >= 200 and self._judge is not None:
            self._in_body = True
            self._most = self._judge(self._head)

    def on_body(self, body: bytes) -> None:
        self._nbytes += len(body)
        self._body.append(body)
        if self._most is not None and self._nbytes > self._most:
            self._succeed()
            self.close()

    def on_message_complete(self) -> None:
        if self._head.status < 200:
            # an interim answer, such as 103 Early Hints
            self._head = Head()
            return
        kept = self._parser.should_keep_alive()
        self._succeed()
        if not kept:
            self.close()

    def _ends_with_connection(self) -> bool:
        framed = self._head.headers.keys() & {"content-length", "transfer-encoding"}
        return self._in_body and not framed

    def _succeed(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            outcome.set_result(Answer(self._head, body))

    def _fail(self, error: BaseException) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_exception(error)
