from __future__ import annotations

import asyncio
import functools
import http.server
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import UpstreamUnavailable
from cubegate.settings import UpstreamSettings
from cubegate.store.decoder import decode

SHARED_DATA = Path(__file__).resolve().parents[5] / "shared" / "data" / "grids"


class ObservedSource:
    """The configured upstreams; records what is read, and fails for the URLs in `broken`."""

    def __init__(self, upstreams):
        self._upstreams = upstreams
        self.broken: set[str] = set()
        self.read: list[str] = []
        self.list, self.check, self.aclose = upstreams.list, upstreams.check, upstreams.aclose

    async def get(self, reference):
        self.read.append(reference.url)
        if reference.url in self.broken:
            raise UpstreamUnavailable("The upstream fails.")
        return await self._upstreams.get(reference)


@pytest.fixture
async def source(tmp_path, http_url):
    """Reads below `tmp_path`, from its HTTP server, and the real stores."""
    prefixes = [tmp_path.as_uri(), http_url, SHARED_DATA.as_uri()]
    upstreams = open_upstreams({f"{prefix}/": UpstreamSettings() for prefix in prefixes}, {})
    yield ObservedSource(upstreams)
    await upstreams.aclose()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def http_url(tmp_path):
    """The address of an HTTP server over `tmp_path`, which lists nothing."""
    handler = functools.partial(_Handler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shared_data():
    """The folder of real grids beside the project, where it is checked out."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real stores are not here")
    return SHARED_DATA


@pytest.fixture
def read_array():
    """Read a whole array chunk by chunk through the encoded store and the decoder."""

    async def read(store, path):
        array = store.array(path)
        values = np.empty(
            [n * c for n, c in zip(array.chunk_grid, array.chunk_shape, strict=True)], array.dtype
        )
        for chunk in itertools.product(*map(range, array.chunk_grid)):
            data = await store.get(array, chunk)
            block = array.fill_value if data is None else await asyncio.to_thread(decode, array, data)
            where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, array.chunk_shape, strict=True))
            values[where] = block
        return values[tuple(map(slice, array.shape))]

    return read
