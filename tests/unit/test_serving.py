"""The server as its command starts it: it ends when told to, and what it took on is answered first."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
import uvicorn
from tests.unit.serving_process import PATIENCE, answers, running, until
from uvicorn.server import ServerState

from cubegate import serving
from cubegate.serving import ClientConnection


@pytest.fixture
def slow_upstream(tmp_path):
    """Serves the files below a folder by ranges, once its gate is open; `asked` has the ranges asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            server.asked.append(self.headers["Range"])
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
    server.gate, server.asked = threading.Event(), []
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
        '\\"chunks\\": [1, 4], \\"dtype\\": \\"<f4\\", \\"compressor\\": null, \\"filters\\": null, '
        '\\"fill_value\\": null, \\"order\\": \\"C\\"}", "v/.zattrs": "{\\"_ARRAY_DIMENSIONS\\": [\\"y\\", '
        f'\\"x\\"]}}", "v/0.0": ["{url}/granule", 0, 16], "v/1.0": ["{url}/granule", 16, 16], '
        f'"v/2.0": ["{url}/granule", 32, 16], "v/3.0": ["{url}/granule", 48, 16]}}'
    )
    (tmp_path / "stack.yaml").write_text(
        "id: stack\nsource: {kind: kerchunk, href: stack.json, fill: declared}\n"
    )
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f'upstreams: {{"{url}/": {{}}, "{tmp_path.as_uri()}/": {{}}}}\ncollections: [stack.yaml]\n'
    )
    return file


@pytest.mark.parametrize(("workers", "told"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGHUP)])
def test_a_server_told_to_end_answers_what_was_taken_on(configuration, slow_upstream, workers, told):
    if signal.getsignal(told) is signal.SIG_IGN:
        pytest.skip("whoever runs the tests has them ignore this signal, as nohup does")
    with running(configuration, workers) as process, ThreadPoolExecutor(4) as pool:
        trees = ("zarr", "zarr-plain", "zarr", "zarr-plain")
        paths = [f"{process.url}/datasets/stack/{tree}/v/{row}.0" for row, tree in enumerate(trees)]
        waiting = [pool.submit(httpx.get, path, timeout=PATIENCE) for path in paths]
        until(lambda: len(slow_upstream.asked) == 4)
        process.send_signal(told)
        until(lambda: process.log.read_text().count("Shutting down") == workers)
        assert process.poll() is None
        if workers == 1:
            # the process that stands over several workers keeps the socket until they have ended
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])))
        slow_upstream.gate.set()
        for row, answer in enumerate(waiting):
            response = answer.result()
            assert response.status_code == 200
            assert np.array_equal(np.frombuffer(response.content, "<f4"), np.arange(16).reshape(4, 4)[row])
        process.wait(PATIENCE)
        # uvicorn hands the signal on to itself when it is done
        assert process.returncode in (0, -signal.SIGTERM)


def test_an_answer_that_never_comes_is_given_up_in_time(configuration, slow_upstream):
    with running(configuration, CUBEGATE_LIMITS__DEADLINE="1s") as process, ThreadPoolExecutor(1) as pool:
        # opening the dataset may take longer
        until(lambda: httpx.get(f"{process.url}/datasets/stack/zarr/zarr.json").status_code == 200)
        waiting = pool.submit(httpx.get, f"{process.url}/datasets/stack/zarr/v/0.0", timeout=PATIENCE)
        until(lambda: slow_upstream.asked)
        process.send_signal(signal.SIGTERM)
        assert waiting.result().status_code == 504
        process.wait(PATIENCE)


@pytest.mark.skipif(sys.platform != "linux", reason="it is the kernel of Linux that tells the workers")
def test_workers_end_when_the_process_over_them_is_killed(configuration):
    with running(configuration, workers=2) as process:
        process.kill()
        process.wait()
        until(lambda: refuses(process.url))


_LATE_WORKER = """
import multiprocessing, os, signal
from cubegate import serving

def start_late():
    multiprocessing.parent_process().join()
    serving.create_worker()
    print("served")

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=start_late).start()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is the kernel of Linux that tells the workers")
def test_a_worker_that_starts_after_the_process_over_it_was_killed_does_not_serve(configuration, tmp_path):
    script = tmp_path / "late_worker.py"
    script.write_text(_LATE_WORKER)
    environment = {"CUBEGATE_CONFIG": str(configuration), "CUBEGATE_METRICS_DIRECTORY": str(tmp_path)}
    # both pipes are open for as long as the worker runs
    done = subprocess.run(
        [sys.executable, script], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")


def refuses(url):
    try:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):
            return False
    except ConnectionRefusedError:
        return True


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


HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /datasets/stack/timeseries HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def send_until_refused(process, begin, piece, most=2**27):
    """Send `piece` again and again; gives what the server said, and how much it took before it ended that."""
    with socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), PATIENCE) as client:
        sent, said = 0, b""
        with contextlib.suppress(ConnectionError):
            client.sendall(begin)
            while sent < most:
                client.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(ConnectionError):
            said = client.recv(2**16)
    return said, sent


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (HEAD, b"X-A: " + b"a" * 1000 + b"\r\n"),
        (HEAD + b"X-A: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (POST + b"0\r\n", b"X-A: " + b"a" * 1000 + b"\r\n"),
        (POST + b"1;", b"a" * 1000),
        (b"", (HEAD + b"\r\n") * 100),
    ],
    ids=["headers", "one-header", "url", "trailers", "extension", "requests-in-advance"],
)
def test_what_never_ends_is_ended(configuration, begin, piece):
    with running(configuration) as process:
        said, sent = send_until_refused(process, begin, piece)
        assert sent < 2**27
        assert said[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400", b"HTTP/1.1 200", b"HTTP/1.1 413")
        assert answers(process.url)
        assert "Traceback" not in process.log.read_text()


def test_a_large_head_is_told_so_and_a_fair_one_is_read(configuration):
    with running(configuration) as process, contextlib.closing(httpx.Client()) as client:
        assert client.get(process.url + "/healthz", headers={"X-A": "a" * 30_000}).status_code == 200
        with socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), PATIENCE) as slow:
            slow.sendall(HEAD + b"X-A: ")
            # in parts that each come alone, so that nothing is left unread when the server ends it
            for _ in range(7):
                slow.sendall(b"a" * 10_000)
                time.sleep(0.05)
            said = slow.recv(2**16)
            assert said.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
            assert said.endswith(b"\r\n\r\nThe head of the request is too large.")
            assert slow.recv(1) == b""


def test_a_websocket_is_not_opened(configuration):
    with running(configuration) as process:
        asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        assert httpx.get(f"{process.url}/healthz", headers=asked).status_code == 200
        assert "WebSocket" not in process.log.read_text()


class Connected:
    """A transport that only remembers what was written, and that it was ended."""

    def __init__(self):
        self.ended, self.written = False, b""

    def write(self, data):
        self.written += data

    def get_extra_info(self, name):
        return None

    def is_closing(self):
        return self.ended

    def abort(self):
        self.ended = True

    def pause_reading(self):
        pass

    close = abort
    resume_reading = pause_reading


async def answer_nothing(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass


def connection(transport, state=None):
    config = uvicorn.Config(None, http=ClientConnection, interface="asgi3", lifespan="off", log_config=None)
    config.loaded, config.loaded_app, config.ws_protocol_class = True, answer_nothing, None
    made = ClientConnection(config, state or ServerState(), {}, asyncio.get_running_loop())
    made.connection_made(transport)
    return made


async def test_a_client_that_asks_nothing_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr(serving, "_LONGEST_WAIT", 0.01)
    silent, slow, posting = Connected(), Connected(), Connected()
    connection(silent)
    begun, post = connection(slow), connection(posting)
    begun.data_received(b"GET / HTTP/1.1\r\nX: ")
    post.data_received(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    while not (silent.ended and slow.ended and posting.ended):
        await asyncio.sleep(0.002)
        # a drop now and then is not enough
        begun.data_received(b"a")
        post.data_received(b"a")
    post.connection_lost(None)
    await asyncio.gather(*post.tasks)


async def test_what_is_not_http_is_no_part_of_an_answer_on_its_way():
    async def begin_to_answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"200")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await answer_nothing(scope, receive, send)

    transport = Connected()
    made = connection(transport)
    made.app = begin_to_answer
    made.data_received(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.01)
    assert transport.written.endswith(b"\r\n\r\na")
    before = transport.written
    made.data_received(b"\x00\r\n\r\n")
    assert transport.ended
    assert transport.written == before
    made.connection_lost(None)
    await asyncio.gather(*made.tasks)


async def test_a_client_that_waits_for_its_answer_is_left_alone(monkeypatch):
    monkeypatch.setattr(serving, "_LONGEST_WAIT", 0.001)
    waiting = Connected()
    made = connection(waiting)
    made.data_received(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.05)
    assert not waiting.ended
    made.connection_lost(None)
    await asyncio.gather(*made.tasks)


async def test_connections_leave_files_for_the_rest(monkeypatch):
    monkeypatch.setattr(serving, "_most_connections", lambda: 2)
    transports = [Connected() for _ in range(3)]
    state = ServerState()
    for transport in transports:
        connection(transport, state)
    assert [transport.ended for transport in transports] == [False, False, True]


def test_the_limit_of_open_files_is_raised_and_kept_clear_of():
    said = subprocess.run(
        [sys.executable, "-c", _FILES], capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip
    assert said == ["3000", "1976", "2048", "1024", "300", "150"]


_FILES = """
import resource
from cubegate.serving import _allow_more_files, _most_connections
for most in (3000, 2048, 300):
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 256), most))
    _allow_more_files()
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _most_connections())
"""
