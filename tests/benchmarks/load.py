"""Requests one URL over many connections at once, and counts the answers: wrk where it is, else our own.

python -m tests.benchmarks.load URL [--connections 16] [--seconds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop

from .processes import ROOT, Failed

CONNECTIONS = 16


def generator() -> str:
    """The name of the load generator that is used here."""
    return "wrk" if shutil.which("wrk") else "our own generator"


def requests_per_second(url: str, seconds: float, connections: int = CONNECTIONS) -> float:
    """How many answers of status 200 a second come from `url`.

    Raises:
        Failed: some request was not answered 200.
    """
    if shutil.which("wrk"):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", url]
    else:
        command = [sys.executable, "-m", "tests.benchmarks.load", url,
                   "--connections", str(connections), "--seconds", str(seconds)]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    said = process.stdout
    if process.returncode != 0 or "Non-2xx" in said or "Socket errors" in said:
        raise Failed(f"{' '.join(command)}: {said}{process.stderr}"[:2000])
    return float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1])


@dataclass
class Count:
    """The answers so far, and the first status that was not 200."""

    answers: int = 0
    bad: str = ""


class LoadProtocol(asyncio.Protocol):
    """One connection that always has one request in flight."""

    def __init__(self, request: bytes, count: Count) -> None:
        self._request, self._count = request, count
        self._head = b""
        self._left = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            length = re.search(rb"content-length: *(\d+)", head.lower())
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                self._count.bad = head[:200].decode("latin-1")
                self._transport.close()
                return
            self._left = int(length[1]) - len(body)
        else:
            self._left -= len(data)
        if self._left == 0:
            self._count.answers += 1
            self._transport.write(self._request)


async def load(url: str, connections: int, seconds: float) -> tuple[int, float]:
    """The answers that came, and in how many seconds.

    Raises:
        Failed: some request was not answered 200, or has no length.
    """
    split = urlsplit(url)
    request = f"GET {split.path} HTTP/1.1\r\nHost: {split.netloc}\r\n\r\n".encode()
    count = Count()
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: LoadProtocol(request, count), split.hostname, split.port)
        for _ in range(connections)
    ]
    begin, before = time.perf_counter(), count.answers
    await asyncio.sleep(seconds)
    answers, elapsed = count.answers - before, time.perf_counter() - begin
    for transport, _ in opened:
        transport.abort()
    if count.bad:
        raise Failed(f"{url} was answered {count.bad}")
    return answers, elapsed


def main() -> None:
    """Measure one URL."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--seconds", type=float, default=2)
    parsed = parser.parse_args()
    answers, elapsed = uvloop.run(load(parsed.url, parsed.connections, parsed.seconds))
    print(f"Requests/sec: {answers / elapsed:.1f}")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
