"""Runs the server: one process or several, until they are told to end and have answered what they took on."""

from __future__ import annotations

import asyncio
import ctypes
import math
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cubegate.api.gateway import Gateway
from cubegate.app import (
    CONFIG_VARIABLE,
    LONGEST_STALL,
    METRICS_VARIABLE,
    create_app_from_environment,
    named_secrets,
)
from cubegate.logs import log_to_stderr
from cubegate.settings import ServerSettings, Settings

try:
    import resource
except ImportError:  # no system but Unix has it
    resource = None  # type: ignore[assignment]

# what writing the last answers may take beyond the deadline that they are held to
_GRACE = 5
# seconds for the head of the first request; the next one, and the body of each, may take up to twice that
_LONGEST_WAIT = 20.0
_LARGEST_HEAD = 2**16
# requests that wait on one connection for the answer to the one before
_MOST_PIPELINED = 32
# open files for upstreams, Redis, the spool and indexes
_OTHER_FILES = 1024
_PR_SET_PDEATHSIG = 1


def run_server(config: Path, settings: Settings, server: ServerSettings) -> None:
    """Serve what the file `config`, read as `settings`, mounts, as `server` says.

    On SIGTERM, SIGINT and SIGHUP nothing more is accepted, and what has been is answered first.
    """
    log_to_stderr(named_secrets(settings, os.environ))
    _allow_more_files()
    _end_as_told_when_the_terminal_goes()
    os.environ[CONFIG_VARIABLE] = str(config.resolve())
    with ExitStack() as stack:
        if server.workers > 1:
            # whichever worker is asked for metrics tells those of all
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="cubegate-metrics-"))
            os.environ[METRICS_VARIABLE] = directory
        uvicorn.run(
            "cubegate.serving:create_worker",
            factory=True,
            host=server.host,
            port=server.port,
            workers=server.workers,
            http=ClientConnection,
            ws="none",
            server_header=False,
            access_log=server.access_log,
            log_config=None,
            timeout_graceful_shutdown=math.ceil(settings.limits.deadline) + _GRACE,
        )


def create_worker() -> Gateway:
    """Compose the server of one process, which ends when the process that stands over several does."""
    if METRICS_VARIABLE in os.environ and sys.platform == "linux":
        # or else it would go on at the port after the other was killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        over = multiprocessing.parent_process()
        if over is not None and not over.is_alive():
            # it was killed before the kernel was asked
            sys.exit()
    return create_app_from_environment()


class ClientConnection(HttpToolsProtocol):
    """A connection that waits for its client only so long, and keeps only so much of what comes.

    The kernel ends it, with all that waits to be sent, when the client takes nothing of that for as
    many seconds as the lifespan's state has as `LONGEST_STALL`.
    """

    _bare = 0
    _waited_after: object = None
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up the connection, unless there are so many that files could not be opened any more."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
            return
        self._watch = self.loop.call_later(_LONGEST_WAIT, self._look)
        seconds = self.app_state.get(LONGEST_STALL)
        connection: Any = transport.get_extra_info("socket")
        if seconds is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(seconds * 1000))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection holds."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        # one timer a connection: to set one for each request would cost every request
        cycle = self.cycle
        waits = cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)
        if waits and cycle is self._waited_after:
            self.transport.abort()
            return
        self._waited_after = cycle if waits else None
        self._watch = self.loop.call_later(_LONGEST_WAIT, self._look)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.transport.is_closing():
            return
        # the parser keeps all that is neither a finished head nor body: headers, their parts, trailers
        self._bare += len(data)
        super().data_received(data)
        if self._bare > _LARGEST_HEAD:
            self._refuse(431, "The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """Begin to answer, or remember what is to be answered next."""
        self._bare = 0
        super().on_headers_complete()
        if len(self.pipeline) > _MOST_PIPELINED:
            # each costs many times what its client sent, and the parser would go on
            raise ValueError("requests in advance")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bare = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    def _refuse(self, status: int, said: str) -> None:
        if self.transport.is_closing():
            return
        if self.pipeline or (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            # a word more would be taken for a part of the answer that is on its way
            self.transport.close()
            return
        if self.cycle:
            # what works at an answer to this request ends
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(said)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(f"{head}{said}".encode("ascii"))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: who asks for another protocol is answered in this one."""


def _most_connections() -> int:
    """Return how many connections leave enough open files for upstreams and answers."""
    if resource is None:
        return sys.maxsize
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files // 2, files - _OTHER_FILES)


def _end_as_told_when_the_terminal_goes() -> None:
    """Take SIGHUP for SIGTERM; nohup has it ignored, and several workers are begun anew at it."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _allow_more_files() -> None:
    """Raise the number of files that this process and its workers may open, as far as they may themselves."""
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
