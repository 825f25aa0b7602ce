"""A server that a test drives byte by byte, and an event loop of each kind to read from it in."""

import asyncio
import contextlib

import pytest
import uvloop

from cubegate.chunks.address import parse_address
from cubegate.chunks.connections import Connections


class Peer:
    """One connection as the server sees it; `number` counts them from 1."""

    def __init__(self, server, reader, writer, number):
        self._server, self._reader, self._writer = server, reader, writer
        self.number = number

    async def request(self):
        """Wait for the head of a request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._server.requests.append(head)
        return head

    async def send(self, data):
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self):
        """Wait until the client has ended the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass


class Server:
    """Runs `talk(peer)` for every connection; what it does not end itself ends with it."""

    def __init__(self, talk):
        self._talk = talk
        self._talks, self._handlers = set(), set()
        self.requests = []
        self.connections = 0
        self.url = ""

    def address(self, path="/x"):
        return parse_address(f"{self.url}{path}")

    async def handle(self, reader, writer):
        self.connections += 1
        talking = asyncio.ensure_future(self._talk(Peer(self, reader, writer, self.connections)))
        self._talks.add(talking)
        self._handlers.add(asyncio.current_task())
        await asyncio.wait([talking])
        writer.close()
        if not talking.cancelled():
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                talking.result()

    async def close(self):
        for talking in self._talks:
            talking.cancel()
        # what a talk found wrong fails the test
        await asyncio.gather(*self._handlers)


@contextlib.asynccontextmanager
async def _serving(talk, *, host="127.0.0.1", tls=None):
    server = Server(talk)
    async with await asyncio.start_server(server.handle, host, 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        server.url = f"{'https' if tls else 'http'}://{shown}:{port}"
        try:
            yield server
        finally:
            await server.close()


@pytest.fixture(scope="session")
def talking():
    """Serve `talk(peer)` on a free port while the context lasts."""
    return _serving


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine in a loop of each kind, which must have nothing to complain of."""
    troubles = []
    with asyncio.Runner(loop_factory=request.param) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: troubles.append(context))
        yield runner.run
    assert troubles == []


def _anything(head):
    return None


class Reading:
    """Reads from one server over connections of its own, closed at the end."""

    def __init__(self, server):
        self.server = server
        self.connections = Connections()

    async def get(self, path="/x", judge=_anything, *, within=30.0, **headers):
        return await self.connections.get(self.server.address(path), headers, judge, within=within)


@contextlib.asynccontextmanager
async def _reading(talk, **options):
    async with _serving(talk, **options) as server:
        reading = Reading(server)
        try:
            yield reading
        finally:
            await reading.connections.aclose()


@pytest.fixture(scope="session")
def reading():
    """Serve `talk(peer)`, and give what reads from it."""
    return _reading


def _answering(*answers):
    """Give the answers in turn on every connection, the last one again and again."""

    async def talk(peer):
        remaining = list(answers)
        while await peer.request():
            await peer.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return talk


@pytest.fixture(scope="session")
def answering():
    return _answering
