"""A local HTTP server that answers byte for byte what a test tells it to, its reader, and a second loop."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from cubegate.chunks.address import AllowList, parse_address
from cubegate.chunks.http import HTTPObjects


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]


@dataclass
class RawServer:
    """`answer` gives the bytes for a request, or None to say nothing and keep the connection open."""

    answer: object = None
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader, writer):
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                request = Request(method, target, headers)
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    await reader.read()
                    return
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def respond(status, headers=(), body=b"", *, length=None):
    lines = [
        f"HTTP/1.1 {status} Status",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def response():
    """Builds the bytes of an HTTP response."""
    return respond


@pytest.fixture
async def start_server():
    """Starts servers, each with its `answer` function."""
    servers = []

    async def start(answer=None):
        raw = RawServer(answer)
        server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
        raw.port = server.sockets[0].getsockname()[1]
        servers.append((raw, server))
        return raw

    yield start
    for raw, server in servers:
        server.close()
        for writer in raw.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in raw.writers), return_exceptions=True)


@pytest.fixture
async def open_http():
    """Opens the objects below the first of some URLs, while all of them are allowed."""
    sources = []

    def open_one(*urls, **options):
        addresses = [parse_address(url) for url in urls]
        sources.append(HTTPObjects(addresses[0], AllowList(addresses), **options))
        return sources[-1]

    yield open_one
    for source in sources:
        await source.aclose()


@pytest.fixture
def other_loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
