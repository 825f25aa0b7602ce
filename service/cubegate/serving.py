"""Runs the server: one process or several, until they are told to end and have answered what they took on."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cubegate.app import CONFIG_VARIABLE, LONGEST_STALL, METRICS_VARIABLE, named_secrets
from cubegate.logs import log_to_stderr
from cubegate.settings import ServerSettings, Settings

# what writing the last answers may take beyond the deadline that they are held to
_GRACE = 5


def run_server(config: Path, settings: Settings, server: ServerSettings) -> None:
    """Serve what the file `config`, read as `settings`, mounts, as `server` says.

    On SIGTERM and SIGINT nothing more is accepted, and what has been is answered first.
    """
    log_to_stderr(named_secrets(settings, os.environ))
    os.environ[CONFIG_VARIABLE] = str(config.resolve())
    with ExitStack() as stack:
        if server.workers > 1:
            # whichever worker is asked for metrics tells those of all
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="cubegate-metrics-"))
            os.environ[METRICS_VARIABLE] = directory
        uvicorn.run(
            "cubegate.app:create_app_from_environment",
            factory=True,
            host=server.host,
            port=server.port,
            workers=server.workers,
            http=ClientConnection,
            server_header=False,
            access_log=server.access_log,
            log_config=None,
            timeout_graceful_shutdown=math.ceil(settings.limits.deadline) + _GRACE,
        )


class ClientConnection(HttpToolsProtocol):
    """A connection that the kernel ends, with all that waits to be sent, when the client takes nothing of it.

    The time is what the lifespan's state has as `LONGEST_STALL`, in seconds.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up the connection."""
        super().connection_made(transport)
        seconds = self.app_state.get(LONGEST_STALL)
        connection: Any = transport.get_extra_info("socket")
        if seconds is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(seconds * 1000))
