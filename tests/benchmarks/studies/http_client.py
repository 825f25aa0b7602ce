"""Measures HTTP clients on what a cold series is made of: the ranges of one pixel's chunks, all of them at once.

    python -m tests.benchmarks.studies.http_client

Every client reads the same ranges over fresh connections, then again over those it kept, and at last while the
chunks are decoded in threads, as the product does. The peers that cubegate does not need are optional, and a missing
one is a row that says so. They want an environment of their own:

    python -m venv .venv-studies
    .venv-studies/bin/python -m pip install -e '.[all,dev]' httpx pyreqwest
    .venv-studies/bin/python -m tests.benchmarks.studies.http_client
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import deflate
import numpy as np
import uvloop
from tests.benchmarks.queries import POINTS, VARIABLE
from tests.benchmarks.servers import RangeServer, range_server
from tests.benchmarks.stack import CHUNK, Stack, build_stack

from cubegate.chunks.address import AllowList, parse_address
from cubegate.chunks.connections import Connections
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import parse_prefix
from cubegate.store.decoding import Decoding

from .samples import Samples, in_turn, parser, print_circumstances, print_table, ratio, shown

DELAY = 30.0
ROUNDS_KEPT = 2
NBYTES = CHUNK * CHUNK * 4

Read = Callable[[ChunkReference], Awaitable[bytes]]
Client = Callable[[str], AbstractAsyncContextManager[Read]]


@asynccontextmanager
async def connections(_: str) -> AsyncIterator[Read]:
    """The connections of the product, as bare as the other clients."""
    opened = Connections()

    async def read(reference: ChunkReference) -> bytes:
        address = parse_address(reference.url)
        answer = await opened.get(address, _range(reference), lambda _: reference.length, within=30)
        return answer.body

    yield read
    await opened.aclose()


@asynccontextmanager
async def http_objects(url: str) -> AsyncIterator[Read]:
    """The source of the product, which checks each address, each answer, and tries again."""
    prefix = parse_prefix(f"{url}/")
    source = HTTPObjects(prefix, AllowList([prefix]))
    yield source.get
    await source.aclose()


@asynccontextmanager
async def aiohttp_session(_: str) -> AsyncIterator[Read]:
    """aiohttp, with as many connections as it likes."""
    aiohttp = import_module("aiohttp")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def read(reference: ChunkReference) -> bytes:
            async with session.get(reference.url, headers=_range(reference)) as answer:
                return await answer.read()

        yield read


@asynccontextmanager
async def obstore_http(url: str) -> AsyncIterator[Read]:
    """obstore's HTTP store."""
    store_module = import_module("obstore.store")
    store = store_module.HTTPStore.from_url(url, client_options={"allow_http": True})
    yield _obstore_read(store, url)


@asynccontextmanager
async def obstore_s3(url: str) -> AsyncIterator[Read]:
    """obstore's S3 store, anonymous, on the same server."""
    store_module = import_module("obstore.store")
    store = store_module.S3Store(
        "granules", endpoint=url, region="us-east-1", skip_signature=True, virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )  # fmt: skip
    yield _obstore_read(store, f"{url}/granules")


def _obstore_read(store: Any, base: str) -> Read:
    get_range = import_module("obstore").get_range_async

    async def read(reference: ChunkReference) -> bytes:
        path = reference.url.removeprefix(f"{base}/")
        return bytes(await get_range(store, path, start=reference.offset, length=reference.length))

    return read


@asynccontextmanager
async def httpx_client(_: str) -> AsyncIterator[Read]:
    """httpx, with as many connections as it likes."""
    httpx = import_module("httpx")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:

        async def read(reference: ChunkReference) -> bytes:
            return (await client.get(reference.url, headers=_range(reference))).content

        yield read


@asynccontextmanager
async def pyreqwest_client(_: str) -> AsyncIterator[Read]:
    """pyreqwest: reqwest, the HTTP client that obstore uses too, without obstore around it."""
    builder = import_module("pyreqwest.client").ClientBuilder()
    async with builder.build() as client:

        async def read(reference: ChunkReference) -> bytes:
            answer = await client.get(reference.url).headers(_range(reference)).build().send()
            return bytes(await answer.bytes())

        yield read


def _range(reference: ChunkReference) -> dict[str, str]:
    return {"Range": f"bytes={reference.offset}-{reference.offset + (reference.length or 0) - 1}"}


# What is needed, the name of the row, and the client.
CLIENTS: dict[str, tuple[str, Client]] = {
    "`chunks/connections.py`, bare": ("cubegate", connections),
    "`chunks/http.py` on top of it, in use": ("cubegate", http_objects),
    "obstore, HTTP": ("obstore", obstore_http),
    "obstore, S3 (in use for s3://)": ("obstore", obstore_s3),
    "aiohttp": ("aiohttp", aiohttp_session),
    "pyreqwest": ("pyreqwest", pyreqwest_client),
    "httpx": ("httpx", httpx_client),
}


class Series:
    """The ranges of one pixel's chunks, and what each of them must hold."""

    def __init__(self, stack: Stack, upstream: RangeServer) -> None:
        point = POINTS["p1"]
        row, column = point.row // CHUNK, point.column // CHUNK
        place = 0, slice(None), row, column
        offsets, lengths = stack.locations.offsets[place], stack.locations.lengths[place]
        self.references = [
            ChunkReference(f"{upstream.url}/granules/{granule.name}", int(offset), int(length))
            for granule, offset, length in zip(stack.granules, offsets, lengths, strict=True)
        ]
        self.chunks = [stack.chunk_bytes(VARIABLE, date, row, column) for date in range(stack.size.dates)]
        pixel = (point.row % CHUNK) * CHUNK + point.column % CHUNK
        self._planes = pixel + CHUNK * CHUNK * np.arange(4)

    def decode(self, _: int, data: bytes | None) -> bytes:
        """Return the bytes of the pixel."""
        return bytes(np.frombuffer(deflate.zlib_decompress(data, NBYTES), np.uint8)[self._planes])

    async def read(self, read: Read) -> list[bytes]:
        """Read all ranges at once."""
        return await asyncio.gather(*map(read, self.references))

    async def read_and_decode(self, read: Read) -> None:
        """Read all ranges at once, and decode each in a thread as soon as it is there."""
        decoding = Decoding(len(self.references), self.decode)

        async def one(number: int, reference: ChunkReference) -> None:
            decoding.add(number, await read(reference))

        await asyncio.gather(*(one(number, reference) for number, reference in enumerate(self.references)))
        await decoding.finish()

    async def decode_all(self) -> None:
        """Decode what is there already: the floor is this, and one round trip."""
        decoding = Decoding(len(self.chunks), self.decode)
        for number, data in enumerate(self.chunks):
            decoding.add(number, data)
        await decoding.finish()


class Measured:
    """One client on one series."""

    def __init__(self, client: Client, series: Series, url: str) -> None:
        self._client, self._series, self._url = client, series, url
        self.cold, self.kept, self.decoded = Samples(), Samples(), Samples()

    def __call__(self) -> None:
        """Take one sample of each kind, in a loop of its own."""
        uvloop.run(self._measure())

    async def _measure(self) -> None:
        async with self._client(self._url) as read:
            with self.cold.timed():
                found = await self._series.read(read)
            if found != self._series.chunks:
                raise ValueError("A client returned other bytes than the stored ones.")
            for _ in range(ROUNDS_KEPT):
                with self.kept.timed():
                    await self._series.read(read)
        async with self._client(self._url) as read:
            with self.decoded.timed():
                await self._series.read_and_decode(read)


def main() -> None:
    """Measure, and print the table and its arithmetic."""
    parsed = parser(__doc__, 9).parse_args()
    stack = build_stack(parsed.stack)
    with (
        tempfile.TemporaryDirectory(prefix="cubegate-study-") as folder,
        range_server(stack, DELAY, Path(folder) / "range.log") as upstream,
    ):
        series = Series(stack, upstream)
        present = {name: client for name, (module, client) in CLIENTS.items() if find_spec(module)}
        measured = {name: Measured(client, series, upstream.url) for name, client in present.items()}
        decoding = Samples()
        in_turn({**measured, "decoding": partial(_decode, series, decoding)}, parsed.rounds)
    floor = Samples([DELAY + wall for wall in decoding.wall], decoding.cpu)
    rows = [_row(name, measured, floor) for name in CLIENTS]
    header = [
        "client", "cold, ms: median / least", "cold, CPU ms", "kept, ms", "kept, CPU µs a range",
        "cold, with decoding, ms", "CPU ms", "of the floor", "of least",
    ]  # fmt: skip
    print_table(f"{len(series.references)} ranges of 78 KB, {DELAY:g} ms injected", header, rows)
    print(  # noqa: T201 - a command
        f"\nThe floor is {floor.both} ms: {DELAY:g} ms, and {decoding.both} ms for decoding the same chunks from "
        f"memory ({decoding.processor:.0f} ms of processor on {os.cpu_count()} cores)."
    )
    print_circumstances(parsed.rounds, "aiohttp", "obstore", "httpx", "pyreqwest", "uvloop", "deflate")


def _decode(series: Series, samples: Samples) -> None:
    async def decode() -> None:
        with samples.timed():
            await series.decode_all()

    uvloop.run(decode())


def _row(name: str, measured: dict[str, Measured], floor: Samples) -> list[str]:
    found = measured.get(name)
    if found is None:
        return [name, "not installed", *[""] * 7]
    return [
        name, found.cold.both, shown(found.cold.processor), found.kept.both,
        f"{found.kept.processor * 1000 / 209:.0f}", found.decoded.both, shown(found.decoded.processor),
        ratio(found.decoded.clock, floor.clock), ratio(found.decoded.fastest, floor.fastest),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
