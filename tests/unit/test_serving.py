"""The server as its command starts it: it ends when told to, and what it took on is answered first."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

PATIENCE = 60


@pytest.fixture
def slow_upstream(tmp_path):
    """Serves the files below a folder by ranges, once its gate is open; `asked` counts the requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            server.asked += 1
            server.gate.wait(PATIENCE)
            data = (tmp_path / self.path.lstrip("/")).read_bytes()
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            self.wfile.write(data[first : last + 1])

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    server.gate, server.asked = threading.Event(), 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def configuration(slow_upstream, tmp_path):
    url = f"http://127.0.0.1:{slow_upstream.server_port}"
    values = np.arange(16, dtype="<f4")
    (tmp_path / "granule").write_bytes(values.tobytes())
    (tmp_path / "stack.json").write_text(
        '{".zgroup": "{\\"zarr_format\\": 2}", "v/.zarray": "{\\"zarr_format\\": 2, \\"shape\\": [4, 4], '
        '\\"chunks\\": [4, 4], \\"dtype\\": \\"<f4\\", \\"compressor\\": null, \\"filters\\": null, '
        '\\"fill_value\\": null, \\"order\\": \\"C\\"}", "v/.zattrs": "{\\"_ARRAY_DIMENSIONS\\": [\\"y\\", '
        f'\\"x\\"]}}", "v/0.0": ["{url}/granule", 0, 64]}}'
    )
    (tmp_path / "stack.yaml").write_text(
        "id: stack\nsource: {kind: kerchunk, href: stack.json, fill: declared}\n"
    )
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f'upstreams: {{"{url}/": {{}}, "{tmp_path.as_uri()}/": {{}}}}\ncollections: [stack.yaml]\n'
    )
    return file


@contextlib.contextmanager
def running(configuration, *options, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cubegate", "serve", "--config", configuration, "--port", str(port)]
    log = configuration.with_suffix(".log")
    with (
        log.open("wb") as said,
        subprocess.Popen([*command, *options], stderr=said, env={**os.environ, **environment}) as process,
    ):
        process.url, process.log = f"http://127.0.0.1:{port}", log
        try:
            until(lambda: process.poll() is not None or answers(process.url))
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.kill()
            process.wait()


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE) as response:  # noqa: S310 - our own
            return response.status == 200
    except OSError:
        return False


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_answers_what_was_taken_on_and_accepts_no_more(configuration, slow_upstream, workers):
    with running(configuration, "--workers", workers) as process, ThreadPoolExecutor(4) as pool:
        paths = [f"{process.url}/datasets/stack/{tree}/v/0.0" for tree in ("zarr", "zarr-plain")] * 2
        waiting = [pool.submit(httpx.get, path, timeout=PATIENCE) for path in paths]
        until(lambda: slow_upstream.asked)
        process.send_signal(signal.SIGTERM)
        until(lambda: process.log.read_text().count("Shutting down") == int(workers))
        assert process.poll() is None
        if workers == "1":
            # the process that stands over several workers keeps the socket until they have ended
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])))
        slow_upstream.gate.set()
        for answer in waiting:
            response = answer.result()
            assert response.status_code == 200
            assert np.array_equal(np.frombuffer(response.content, "<f4"), np.arange(16))
        process.wait(PATIENCE)
        # uvicorn hands the signal on to itself when it is done
        assert process.returncode in (0, -signal.SIGTERM)


def test_an_answer_that_never_comes_is_given_up_in_time(configuration, slow_upstream):
    with running(configuration, CUBEGATE_LIMITS__DEADLINE="1s") as process, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.get, f"{process.url}/datasets/stack/zarr/v/0.0", timeout=PATIENCE)
        until(lambda: slow_upstream.asked)
        process.send_signal(signal.SIGTERM)
        assert waiting.result().status_code == 504
        process.wait(PATIENCE)


def test_a_port_in_use_is_said(configuration):
    with running(configuration) as process:
        port = process.url.rpartition(":")[2]
        command = [sys.executable, "-m", "cubegate", "serve", "--config", configuration, "--port", port]
        other = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert other.returncode not in (0, None)
    assert "address already in use" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_connection_of_a_client_that_takes_nothing_is_ended_by_the_kernel(configuration):
    with running(configuration, CUBEGATE_LIMITS__DEADLINE="7s") as process:
        port = int(process.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            said = subprocess.run(
                [sys.executable, "-c", _TIMEOUTS, str(process.pid), str(port)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
    assert said.stdout.split() == ["7000"]


# Takes the server's end of the connection out of its process, to ask the kernel about it.
_TIMEOUTS = """
import ctypes, os, socket, sys
process, port = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
handle = os.pidfd_open(process)
for name in os.listdir(f"/proc/{process}/fd"):
    copy = libc.syscall(438, handle, int(name), 0)
    if copy < 0:
        continue
    try:
        found = socket.socket(fileno=copy)
        if found.getsockname()[1] == port and found.getpeername():
            print(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    except (OSError, IndexError, TypeError):
        continue
"""
