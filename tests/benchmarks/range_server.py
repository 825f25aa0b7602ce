"""Serves a folder by HTTP ranges, each answer delayed, at as little CPU a request as Python allows.

    python tests/benchmarks/range_server.py FOLDER [--port 8771] [--delay 30]

`/granules/a.nc` is the file `FOLDER/granules/a.nc`. That is the path-style address of the key `a.nc` in the
bucket `granules` too, so that the server is an `endpoint_url` for anonymous S3 clients as well.

`/__stats` counts what has been asked for since `/__reset`; `/__delay?ms=5` sets the delay. Neither is delayed.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import mmap
import resource
import signal
import socket
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

import uvloop

_END = b"\r\n\r\n"
_SEND_BUFFER = 512 * 1024


@dataclass
class Stats:
    """What the server was asked for."""

    requests: int = 0
    nbytes: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0


@dataclass(frozen=True)
class ServedFile:
    """One file, mapped, with the header fields that all answers about it share."""

    content: memoryview
    etag: bytes
    fields: bytes


class Files:
    """The files below a folder, mapped when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._opened: dict[bytes, ServedFile | None] = {}

    def get(self, target: bytes) -> ServedFile | None:
        """The file at a request target, or None."""
        if target not in self._opened:
            self._opened[target] = self._open(target)
        return self._opened[target]

    def _open(self, target: bytes) -> ServedFile | None:
        path = (self._folder / unquote(target.decode("ascii")).partition("?")[0].lstrip("/")).resolve()
        if not (path.is_relative_to(self._folder) and path.is_file() and path.stat().st_size):
            return None
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        status = path.stat()
        etag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
        fields = (
            "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
            f"ETag: {etag}\r\nLast-Modified: {formatdate(status.st_mtime, usegmt=True)}\r\n"
        )
        return ServedFile(content, etag.encode(), fields.encode())


class RangeServer:
    """What all connections share: the files, the delay in seconds and the counts."""

    def __init__(self, folder: Path, delay: float) -> None:
        self.files = Files(folder)
        self.delay = delay
        self.stats = Stats()

    def answer_control(self, target: bytes) -> bytes:
        """Answer a request for the server itself."""
        name, _, query = target.partition(b"?")
        if name == b"/__reset":
            self.stats = Stats(in_flight=self.stats.in_flight, connections=self.stats.connections)
        elif name == b"/__delay":
            self.delay = float(query.removeprefix(b"ms=")) / 1000
        elif name != b"/__stats":
            return _problem(404, b"Not Found")
        used = resource.getrusage(resource.RUSAGE_SELF)
        said = {**asdict(self.stats), "delay_ms": self.delay * 1000, "cpu_s": used.ru_utime + used.ru_stime}
        body = json.dumps(said).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % len(body) + body


class RangeProtocol(asyncio.Protocol):
    """One connection: requests are answered in their order, each `delay` after it came."""

    def __init__(self, server: RangeServer) -> None:
        self._server = server
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._server.stats.connections += 1
        # a whole chunk goes into the kernel at once, without waiting for the socket
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.stats.connections -= 1

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        while (end := data.find(_END)) >= 0:
            self._plan(data[:end])
            data = data[end + 4 :]
        self._received = data

    def _plan(self, head: bytes) -> None:
        method, _, rest = head.partition(b" ")
        target, _, _ = rest.partition(b" ")
        server = self._server
        if target.startswith(b"/__"):
            self._transport.write(server.answer_control(target))
            return
        stats = server.stats
        stats.in_flight += 1
        stats.most_in_flight = max(stats.most_in_flight, stats.in_flight)
        asyncio.get_running_loop().call_later(server.delay, self._answer, method, target, head)

    def _answer(self, method: bytes, target: bytes, head: bytes) -> None:
        stats = self._server.stats
        stats.in_flight -= 1
        if self._transport.is_closing():
            return
        stats.requests += 1
        parts = answer(self._server.files.get(target), method, head)
        if len(parts) == 2:
            stats.nbytes += len(parts[1])
        self._transport.writelines(parts)


def answer(file: ServedFile | None, method: bytes, head: bytes) -> list[bytes | memoryview]:
    """The parts of one answer: its head and, where it has one, its body."""
    if method not in (b"GET", b"HEAD"):
        return [_problem(405, b"Method Not Allowed")]
    if file is None:
        return [_problem(404, b"Not Found")]
    fields = head.lower()
    wanted = _field(fields, b"if-match")
    if wanted not in (None, b"*", file.etag):
        return [_problem(412, b"Precondition Failed")]
    size = len(file.content)
    asked = _field(fields, b"range")
    if asked is None:
        start, stop = 0, size
        status = b"HTTP/1.1 200 OK\r\n"
    else:
        bounds = parse_range(asked, size)
        if bounds is None:
            return [_problem(416, b"Range Not Satisfiable", b"Content-Range: bytes */%d\r\n" % size)]
        start, stop = bounds
        status = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n" % (
            start,
            stop - 1,
            size,
        )
    headed = b"%s%sContent-Length: %d\r\n\r\n" % (status, file.fields, stop - start)
    return [headed] if method == b"HEAD" else [headed, file.content[start:stop]]


def parse_range(asked: bytes, size: int) -> tuple[int, int] | None:
    """The first and last byte, exclusive, that a Range field names; None where there is no such byte."""
    first, separator, last = asked.removeprefix(b"bytes=").partition(b"-")
    if not separator or not (first + last).isdigit():
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None


def _field(head: bytes, name: bytes) -> bytes | None:
    """The value of a header field; `head` is in lower case."""
    begin = head.find(b"\r\n" + name + b":")
    if begin < 0:
        return None
    begin += len(name) + 3
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else None].strip()


def _problem(status: int, reason: bytes, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n" % (status, reason, fields)


async def serve(folder: Path, host: str, port: int, delay: float) -> None:
    """Serve `folder` until the process is told to end; `delay` is in seconds."""
    loop = asyncio.get_running_loop()
    shared = RangeServer(folder, delay)
    server = await loop.create_server(functools.partial(RangeProtocol, shared), host, port, backlog=1024)
    listening = server.sockets[0].getsockname()
    print(f"http://{listening[0]}:{listening[1]}", flush=True)  # noqa: T201 - whoever started it reads this
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8771, help="0: any that is free")
    parser.add_argument("--delay", type=float, default=30, help="milliseconds before each answer")
    parsed = parser.parse_args()
    uvloop.run(serve(parsed.folder, parsed.host, parsed.port, parsed.delay / 1000))


if __name__ == "__main__":
    main()
