"""One chunk over HTTP at 16 connections: nginx, cubegate and xpublish-zarr, each with one worker."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import subprocess
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .load import requests_per_second
from .processes import Failed, free_port, get, started, wait_ready
from .queries import VARIABLE
from .servers import DATASET, Configuration, cubegate
from .stack import CHUNK, Stack

SERVERS = {
    "nginx": "nginx, the same bytes as a file",
    "cubegate": "cubegate, from its memory",
    "xpublish-zarr": "xpublish-zarr, a hit of its cache",
}

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush off;
    keepalive_requests 100000000;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass
class Rates:
    """Requests a second by server, and why a server is missing."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkRate:
    """The chunk, and the three servers that answer it; `xpublish_python` is the Python that has xpublish-zarr."""

    stack: Stack
    configuration: Configuration
    folder: Path
    xpublish_python: Path
    seconds: float

    def run(self, rounds: int, report: Callable[[str], None]) -> Rates:
        """Load each server in turn, `rounds` times."""
        rates = Rates()
        with contextlib.ExitStack() as running:
            urls = {}
            for name, serve in self._servers().items():
                try:
                    urls[name] = running.enter_context(serve())
                except Failed as error:
                    rates.missing[name] = str(error)
            for number in range(rounds):
                for name, url in urls.items():
                    report(f"one chunk, round {number + 1}/{rounds}: {name}")
                    rates.samples[name].append(requests_per_second(url, self.seconds))
        return rates

    def _servers(self) -> dict[str, Callable[[], contextlib.AbstractContextManager[str]]]:
        return {"nginx": self._nginx, "cubegate": self._cubegate, "xpublish-zarr": self._xpublish_zarr}

    @property
    def _chunk(self) -> bytes:
        return self.stack.chunk_bytes(VARIABLE, 0, 0, 0)

    @contextlib.contextmanager
    def _nginx(self) -> Iterator[str]:
        command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if command is None:
            raise Failed("nginx is not installed: apt-get install nginx-light")
        folder, port = self.folder / "nginx", free_port()
        (folder / "root").mkdir(parents=True)
        (folder / "root" / "0.0.0").write_bytes(self._chunk)
        user = "user root;" if getpass.getuser() == "root" else ""
        text = _NGINX.format(folder=folder, port=port, root=folder / "root", user=user)
        (folder / "nginx.conf").write_text(text, "utf-8")
        log = folder / "nginx.log"
        arguments = [
            "-c",
            str(folder / "nginx.conf"),
            "-p",
            str(folder),
            "-e",
            str(folder / "nginx-error.log"),
        ]
        with started([command, *arguments], log) as process:
            wait_ready(process, log, port, "/0.0.0")
            yield self._held(port, "/0.0.0", verbatim=True)

    @contextlib.contextmanager
    def _cubegate(self) -> Iterator[str]:
        with cubegate(self.configuration) as server:
            yield self._held(server.port, f"/datasets/{DATASET}/zarr/{VARIABLE}/0.0.0", verbatim=True)

    @contextlib.contextmanager
    def _xpublish_zarr(self) -> Iterator[str]:
        _check_installed(self.xpublish_python)
        file, port, log = self.folder / "array.npy", free_port(), self.folder / "xpublish-zarr.log"
        np.save(file, self.stack.read(VARIABLE, slice(0, 1), slice(None), slice(None)))
        script = Path(__file__).with_name("xpublish_zarr_server.py")
        with started([str(self.xpublish_python), str(script), str(file), str(port)], log) as process:
            wait_ready(process, log, port, "/datasets/opera/zarr/zarr.json")
            yield self._held(port, f"/datasets/opera/zarr/{VARIABLE}/c/0/0/0", verbatim=False)

    def _held(self, port: int, path: str, *, verbatim: bool) -> str:
        """The URL of the chunk, after it has been found to be the right one."""
        status, content = get(port, path)
        if status != 200:
            raise Failed(f"{path} was answered {status}")
        if (content if verbatim else _decoded(content)) != (
            self._chunk if verbatim else _decoded(self._chunk)
        ):
            raise ValueError(f"{path} is not the chunk that is stored.")
        return f"http://127.0.0.1:{port}{path}"


def _decoded(chunk: bytes) -> bytes:
    return np.frombuffer(zlib.decompress(chunk), np.uint8).reshape(4, CHUNK * CHUNK).T.tobytes()


def _check_installed(python: Path) -> None:
    """Raise `Failed`, with what pip said, unless `python` has xpublish-zarr."""
    tried = [str(python), "-c", "import dask, xpublish_zarr"]
    if python.exists() and subprocess.run(tried, capture_output=True, check=False).returncode == 0:
        return
    environment = python.parents[1]
    log = environment / "pip.log"
    errors = (
        [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        if log.exists()
        else []
    )
    reason = f": {errors[-1][:200]}" if errors else ""
    raise Failed(f"xpublish-zarr is not installed in {environment.name}{reason}")
