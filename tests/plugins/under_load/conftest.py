"""A server over a stack of many small chunks, whose upstream answers when a test lets it."""

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
import zlib
from functools import partial
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from cubegate.app import create_app
from cubegate.chunks.upstream import open_upstreams
from cubegate.settings import load_settings

DATES, SIDE, CHUNK = 40, 96, 16
# farther apart than what is read by one request
STEP = 2**17
PATIENCE = 60


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(7).normal(size=(DATES, SIDE, SIDE)).astype("f4")


def _references(values, url):
    """kerchunk references to granules that hold one date each, and these granules, by their offsets."""
    references, granules = {".zgroup": json.dumps({"zarr_format": 2})}, {}

    def array(name, data, dims, chunks, *, attrs, filters=None):
        document = {
            "zarr_format": 2, "shape": data.shape, "chunks": chunks, "dtype": data.dtype.str, "order": "C",
            "fill_value": None, "compressor": {"id": "zlib", "level": 1}, "filters": filters,
        }  # fmt: skip
        references[f"{name}/.zarray"] = json.dumps(document)
        references[f"{name}/.zattrs"] = json.dumps({"_ARRAY_DIMENSIONS": dims, **attrs})

    def inline(name, data, attrs):
        array(name, data, [name], data.shape, attrs=attrs)
        references[f"{name}/0"] = "base64:" + base64.b64encode(zlib.compress(data.tobytes())).decode()

    inline("time", np.arange(DATES) * 12.0, {"units": "days since 2020-01-01", "calendar": "standard"})
    metres = {"units": "m"}
    inline("y", 3_900_000 - 30.0 * np.arange(SIDE), {"standard_name": "projection_y_coordinate", **metres})
    inline("x", 400_000 + 30.0 * np.arange(SIDE), {"standard_name": "projection_x_coordinate", **metres})
    shuffle = [{"id": "shuffle", "elementsize": 4}]
    array("v", values, ["time", "y", "x"], (1, CHUNK, CHUNK), attrs={}, filters=shuffle)
    for date, row, column in np.ndindex(DATES, SIDE // CHUNK, SIDE // CHUNK):
        part = values[date, row * CHUNK :, column * CHUNK :][:CHUNK, :CHUNK]
        shuffled = np.frombuffer(part.tobytes(), "u1").reshape(-1, 4).T.tobytes()
        data = zlib.compress(shuffled, 1)
        offset = (row * SIDE // CHUNK + column) * STEP
        granules.setdefault(f"/{date}.nc", {})[offset] = data
        references[f"v/{date}.{row}.{column}"] = [f"{url}/{date}.nc", offset, len(data)]
    return references, granules


class Upstream:
    """Granules by HTTP ranges; while its gate is shut, it answers nobody."""

    def __init__(self):
        self.granules = {}
        self.gate = asyncio.Event()
        self.asked = 0
        self.waiting = 0

    async def handle(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.asked += 1
                await self._until_open_or_left(reader)
                path, wanted = head.split(" ")[1], head.partition("Range: bytes=")[2].partition("\r\n")[0]
                start, stop = map(int, wanted.split("-"))
                data = self.granules[path][start][: stop + 1 - start]
                extent = f"bytes {start}-{stop}/{10**9}"
                writer.write(
                    f"HTTP/1.1 206 OK\r\nContent-Length: {len(data)}\r\nContent-Range: {extent}\r\n\r\n".encode()
                    + data
                )
                await writer.drain()
        writer.close()

    async def _until_open_or_left(self, reader):
        self.waiting += 1
        opened = asyncio.ensure_future(self.gate.wait())
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([opened, left], return_when=asyncio.FIRST_COMPLETED)
            if left.done() and not left.result():
                raise ConnectionError
        finally:
            self.waiting -= 1
            left.cancel()
            opened.cancel()
            await asyncio.wait([left, opened])


@pytest.fixture(scope="module")
def upstream_server():
    """The upstream in a loop of its own, and its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start():
        upstream = Upstream()
        return upstream, await asyncio.start_server(upstream.handle, "127.0.0.1", 0, backlog=1000)

    async def stop():
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    upstream, server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstream.loop = loop
    yield upstream
    asyncio.run_coroutine_threadsafe(stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def upstream(upstream_server):
    """The upstream with its gate shut, and nothing asked of it so far."""
    upstream_server.loop.call_soon_threadsafe(upstream_server.gate.clear)
    upstream_server.asked = 0
    yield upstream_server
    upstream_server.loop.call_soon_threadsafe(upstream_server.gate.set)


@pytest.fixture
def app(upstream, values, tmp_path, monkeypatch):
    # what ends must not do so because its time is over
    monkeypatch.setattr("cubegate.app.open_upstreams", partial(open_upstreams, deadline=100 * PATIENCE))
    references, upstream.granules = _references(values, upstream.url)
    (tmp_path / "stack.json").write_text(json.dumps({"version": 1, "refs": references}))
    (tmp_path / "collections").mkdir()
    (tmp_path / "collections" / "stack.yaml").write_text(
        "id: stack\ncrs: EPSG:32611\nsource: {kind: kerchunk, href: ../stack.json}\n"
    )
    (tmp_path / "cubegate.yaml").write_text(
        f'upstreams: {{"{tmp_path.as_uri()}/": {{}}, "{upstream.url}/": {{}}}}\n'
        f'limits: {{deadline: {100 * PATIENCE}s}}\ncollections: ["collections/*.yaml"]\n'
    )
    return create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})


@pytest.fixture
def server(app, serving, upstream):
    """A running server whose cube is open; its upstream answers nobody until `open` is called."""

    def ask(path, method="GET", body=b""):
        return _asking(httpx.URL(url), path, method, body)

    def open_upstream():
        upstream.loop.call_soon_threadsafe(upstream.gate.set)

    with serving(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert client.get("/datasets/stack/zarr/.zmetadata").status_code == 200
        assert upstream.asked == 0
        yield SimpleNamespace(
            url=url, http=client, app=app, upstream=upstream, asking=ask, open=open_upstream
        )
        open_upstream()


@pytest.fixture(scope="session")
def until():
    """Wait until `condition()` holds."""

    def until(condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "this would never have come"
            time.sleep(0.002)

    return until


@contextlib.contextmanager
def _asking(url, path, method, body):
    """Send a request; the client leaves at the end of the context."""
    with socket.create_connection((url.host, url.port)) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        yield


@pytest.fixture(scope="session")
def series():
    """Return the values of a series as CSV."""

    def series(response):
        lines = [line for line in response.text.splitlines() if not line.startswith("#")]
        return np.array([line.split(",")[-1] for line in lines[1:]], "f4")

    return series
