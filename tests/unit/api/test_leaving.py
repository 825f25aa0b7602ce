"""What a client that left had asked for is no longer worked at."""

import asyncio
import json
import socket
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.app import create_app
from cubegate.settings import Settings

ANSWER = "/datasets/stack/answer"


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


def receiving(*messages):
    left = list(messages)

    async def receive():
        if not left:
            await asyncio.Event().wait()
        return {"type": left.pop(0)}

    return receive


async def test_work_is_done_while_the_client_waits():
    async def work():
        await asyncio.sleep(0.01)
        return 7

    assert await while_connected(receiving("http.request"), work()) == 7


async def test_an_error_of_the_work_is_raised_as_it_is():
    async def work():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await while_connected(receiving(), work())


async def test_the_work_ends_when_the_client_leaves():
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ClientLeft):
        await while_connected(receiving("http.request", "http.disconnect"), work())
    assert ended.is_set()


async def test_who_waits_for_it_may_be_cancelled():
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(while_connected(receiving(), work()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


def ask(url, target):
    parts = urllib.parse.urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port))
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client


async def test_an_answer_is_built_as_long_as_anyone_waits_for_it(server):
    server.control.delay = 3600.0
    building = server.app.state.services.spool._building
    first, second = ask(server.url, f"{ANSWER}?tens=901"), ask(server.url, f"{ANSWER}?tens=901")
    waiting = server.app.state.services.spool._waiting
    await until(lambda: list(waiting.values()) == [2])
    first.close()
    await until(lambda: list(waiting.values()) == [1])
    assert building
    second.close()
    await until(lambda: not building)
    assert not waiting
    server.control.delay = 0.0
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert len((await client.get(ANSWER, params={"tens": 901})).content) == 9010


@pytest.fixture
def held_upstream():
    """An HTTP server that takes requests and never answers; `open` counts the connections it holds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with lock:
                server.held += 1
            # ends when the other side closes
            self.connection.recv(1)
            with lock:
                server.held -= 1
            self.close_connection = True

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # all reads of a query arrive at once; of those beyond a short queue, some connect seconds later
        request_queue_size = 256

    lock = threading.Lock()
    server = Server(("127.0.0.1", 0), Handler)
    server.held = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


async def test_upstream_reads_end_when_the_client_leaves(held_upstream, tmp_path, serving):
    url = f"http://127.0.0.1:{held_upstream.server_port}"
    metadata = (
        '{"zarr_format": 2, "shape": [40, 4, 4], "chunks": [1, 4, 4], "dtype": "<f4", "compressor": null, '
        '"filters": null, "fill_value": null, "order": "C"}'
    )
    dims = '{"_ARRAY_DIMENSIONS": ["time", "y", "x"]}'
    axis = (
        '{"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4", "compressor": null, '
        '"filters": null, "fill_value": null, "order": "C"}'
    )
    references = {".zgroup": '{"zarr_format": 2}', "v/.zarray": metadata, "v/.zattrs": dims}
    for name in "xy":
        references[f"{name}/.zarray"] = axis
        references[f"{name}/.zattrs"] = f'{{"_ARRAY_DIMENSIONS": ["{name}"]}}'
        references[f"{name}/0"] = "base64:AAAAAAAAgD8AAABAAABAQA=="
    references |= {f"v/{n}.0.0": [f"{url}/{n}", 0, 64] for n in range(40)}

    (tmp_path / "cube.json").write_text(json.dumps(references), "utf-8")
    (tmp_path / "cube.yaml").write_text(
        "id: cube\nsource: {kind: kerchunk, href: cube.json, fill: declared}\n", "utf-8"
    )
    settings = Settings(
        upstreams={f"{url}/": {}, f"{tmp_path.as_uri()}/": {}}, collections=(str(tmp_path / "cube.yaml"),)
    )
    targets = (
        ("/datasets/cube/timeseries?x=1&y=1&f=json", 40),
        ("/datasets/cube/timeseries?x=1&y=1&f=csv", 40),
        ("/datasets/cube/subset?f=netcdf", 40),
        ("/datasets/cube/zarr/v/3.0.0", 1),
        ("/datasets/cube/zarr-plain/v/3.0.0", 1),
    )
    with serving(create_app(settings, {})) as base_url:
        for target, reads in targets:
            client = ask(base_url, target)
            await until(lambda reads=reads: held_upstream.held == reads)
            client.close()
            await until(lambda: held_upstream.held == 0)
