"""What answers take of the memory is given back, however they end."""

import asyncio
import threading
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request

from cubegate.api import respond
from cubegate.api.admission import Deadline
from cubegate.api.responses import LARGEST_STREAMED

NBYTES = LARGEST_STREAMED


class Format:
    """Streamed in three pieces, with an error after the first where it is to fail."""

    name, media_type, extension, shapes = "csv", "text/csv", "csv", frozenset({"cube"})

    def __init__(self):
        self.failing, self.go = False, threading.Event()
        self.go.set()

    def write(self, result):
        yield b"one"
        self.go.wait(60)
        if self.failing:
            raise RuntimeError
        yield b"two"
        yield b"three"


async def forever(*_):
    await asyncio.Event().wait()


async def produce():
    return None


@pytest.fixture
async def asked(server):
    """Ask for the answer to a path of its own; `free` is what nobody takes, `all` all that there is."""
    services, written = server.app.state.services, Format()
    cube = await services.catalog.get("stack")
    room = services.queries._rooms.get()

    async def ask(path, *, nbytes=NBYTES, headers=(), receive=forever):
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": list(headers),
            "server": ("a", 80), "scheme": "http", "app": server.app,
            "asgi": {"version": "3.0", "spec_version": asked.spec_version},
        }  # fmt: skip
        response = await respond(Request(scope, receive), cube, written, produce, filename="a", nbytes=nbytes)
        return scope, response

    limits = services.limits
    asked = SimpleNamespace(
        ask=ask,
        format=written,
        free=lambda: (room._places, room._nbytes),
        all=(limits.queries, limits.memory),
        sending=(limits.queries, limits.memory - NBYTES),
        spec_version="2.3",
    )
    yield asked
    written.go.set()


class Sent(list):
    async def send(self, message):
        self.append(message)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self)


async def test_a_streamed_answer_takes_its_memory_until_it_is_sent(asked):
    sent = Sent()
    scope, response = await asked.ask("/sent")
    assert asked.free() == asked.sending
    await response(scope, forever, sent.send)
    assert sent.body == b"onetwothree"
    assert asked.free() == asked.all


async def test_an_error_in_the_middle_gives_the_memory_back(asked):
    asked.format.failing = True
    scope, response = await asked.ask("/failing")
    with pytest.raises(RuntimeError):
        await response(scope, forever, Sent().send)
    assert asked.free() == asked.all


async def test_a_client_that_leaves_in_the_middle_gives_the_memory_back(asked):
    first = asyncio.Event()

    async def send(message):
        if message.get("body"):
            first.set()
            await forever()

    async def receive():
        await first.wait()
        return {"type": "http.disconnect"}

    scope, response = await asked.ask("/left")
    await response(scope, receive, send)
    assert asked.free() == asked.all


async def test_a_broken_connection_gives_the_memory_back(asked):
    async def send(message):
        if message.get("body"):
            raise OSError

    asked.spec_version = "2.4"
    scope, response = await asked.ask("/broken")
    with pytest.raises(ClientDisconnect):
        await response(scope, forever, send)
    assert asked.free() == asked.all


@pytest.mark.parametrize("late", ["client", "piece"])
async def test_the_deadline_gives_the_memory_back(asked, late):
    if late == "piece":
        # a thread cannot be stopped: it ends after the deadline
        asked.format.go.clear()
        asyncio.get_running_loop().call_later(0.5, asked.format.go.set)

    async def send(message):
        if message.get("body") and late == "client":
            await forever()

    async def application(scope, receive, send):
        scope, response = await asked.ask("/late")
        await response(scope, receive, send)

    with pytest.raises(TimeoutError):
        await Deadline(application, seconds=0.2)({"type": "http"}, forever, send)
    assert asked.free() == asked.all


async def test_an_answer_that_nobody_took_gives_the_memory_back(asked, monkeypatch):
    async def interrupted(receive, work):
        await work
        assert asked.free() == asked.sending
        raise asyncio.CancelledError

    monkeypatch.setattr("cubegate.api.responses.while_connected", interrupted)
    with pytest.raises(asyncio.CancelledError):
        await asked.ask("/untaken")
    assert asked.free() == asked.all


async def test_a_client_that_leaves_before_the_first_byte_gives_the_memory_back(asked):
    async def receive():
        return {"type": "http.disconnect"}

    _, response = await asked.ask("/gone", receive=receive)
    assert response.status_code == 499
    assert asked.free() == asked.all


async def test_a_large_csv_comes_from_the_spool_and_takes_no_memory_then(asked):
    sent = Sent()
    scope, response = await asked.ask("/large", nbytes=NBYTES + 1)
    assert asked.free() == asked.all
    await response(scope, forever, sent.send)
    assert sent.body == b"onetwothree"
    assert response.headers["content-length"] == "11"
    ranged = Sent()
    scope, response = await asked.ask("/large", nbytes=NBYTES + 1, headers=[(b"range", b"bytes=3-5")])
    await response(scope, forever, ranged.send)
    assert (ranged[0]["status"], ranged.body) == (206, b"two")


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_spooled_answer_takes_its_memory_until_it_is_written(asked, leaves):
    asked.format.go.clear()
    task = asyncio.ensure_future(asked.ask(f"/written-{leaves}", nbytes=NBYTES + 1))
    for _ in range(500):
        if asked.free() != asked.all:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    if leaves:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    places, nbytes = asked.all
    assert asked.free() == (places - 1, nbytes - NBYTES - 1)
    asked.format.go.set()
    for _ in range(500):
        if asked.free() == asked.all:
            break
        await asyncio.sleep(0.01)
    assert asked.free() == asked.all
    await asyncio.gather(task, return_exceptions=True)


def test_the_plugins_say_how_much_their_answers_take(serve, monkeypatch):
    taken = []
    with serve() as server:
        queries = server.app.state.services.queries
        slot = queries.slot
        monkeypatch.setattr(queries, "slot", lambda nbytes=0: taken.append(nbytes) or slot(nbytes))
        for path in ("subset?f=csv&variables=displacement", "subset?f=netcdf&variables=displacement"):
            assert server.http.get(f"/datasets/stack/{path}").status_code == 200
        cube = httpx.get(f"{server.url}/datasets/stack/zarr/displacement/.zarray").json()
    cells = cube["shape"][0] * cube["shape"][1] * cube["shape"][2]
    assert len(taken) == 2
    assert min(taken) >= 4 * cells
    assert max(taken) < 9 * cells + 2**16
