"""The server as users start it, in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

PATIENCE = 60


@contextlib.contextmanager
def running(configuration, workers=1, **environment):
    """Run `cubegate serve`, once all workers are ready; gives the process over them, its `url` and its `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cubegate", "serve", "--config", configuration, "--port", str(port)]
    command += ["--workers", str(workers)]
    log = configuration.with_suffix(".log")
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stderr=said, env={**os.environ, **environment}) as process,
    ):
        process.url, process.log = f"http://127.0.0.1:{port}", log
        try:
            until(lambda: process.poll() is not None or (_started(log) == workers and answers(process.url)))
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.kill()
            process.wait()


def _started(log):
    return log.read_text().count("Application startup complete")


def answers(url):
    """Whether the server at `url` is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE) as response:  # noqa: S310 - our own
            return response.status == 200
    except OSError:
        return False


def until(holds):
    """Wait until `holds()` is true."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
