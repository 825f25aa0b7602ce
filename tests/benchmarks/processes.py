"""Starts what a benchmark needs in processes of its own, and ends it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0


class Failed(Exception):
    """A process did not start, or ended with an error."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_subject(module: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one reader in a fresh process; returns its report.

    Raises:
        Failed: it did not end well; the message is the end of what it said.
    """
    process = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}"],
        input=json.dumps(job), capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if process.returncode != 0:
        raise Failed(f"{module}: {process.stderr.strip()[-2000:]}")
    report: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return report


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the context lasts; what it says goes to the file `log`."""
    with log.open("ab") as said, subprocess.Popen(command, stdout=said, stderr=said, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_ready(process: subprocess.Popen[bytes], log: Path, port: int, path: str) -> None:
    """Wait until GET `path` on `port` is answered 200.

    Raises:
        Failed: the process ended, or took too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(port, path)[0] == 200:
                return
        time.sleep(0.02)
    raise Failed(f"{process.args} did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """The status and the body of one GET on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()
