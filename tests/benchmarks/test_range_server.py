"""The range server gives exactly the asked bytes, all requests at once, and counts them right."""

import contextlib
import http.client
import json
import re
import socket
import time

import pytest
import uvloop

from .load import load, requests_per_second
from .processes import Failed
from .range_server import parse_range
from .servers import range_server


@pytest.mark.parametrize(
    ("asked", "bounds"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=10-19", (10, 20)),
        (b"bytes=10-", (10, 100)),
        (b"bytes=-7", (93, 100)),
        (b"bytes=-700", (0, 100)),
        (b"bytes=90-700", (90, 100)),
        (b"bytes=100-", None),
        (b"bytes=100-110", None),
        (b"bytes=9-8", None),
        (b"bytes=-0", None),
        (b"bytes=-", None),
        (b"bytes=1-2,4-5", None),
        (b"bytes=a-b", None),
        (b"bytes", None),
    ],
)
def test_a_range_means_what_http_says(asked, bounds):
    assert parse_range(asked, 100) == bounds


@pytest.fixture
def ask(upstream):
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port)

    def ask(path, method="GET", **fields):
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in fields.items()}
        )
        response = connection.getresponse()
        return response, response.read()

    yield ask
    connection.close()


@pytest.fixture
def granule(stack):
    path = stack.granules[1]
    return f"/granules/{path.name}", path.read_bytes()


@pytest.mark.parametrize("asked", ["0-0", "0-99", "70000-199999", "12345-12345"])
def test_ranges_are_exact(ask, granule, asked):
    path, content = granule
    first, last = map(int, asked.split("-"))
    response, body = ask(path, Range=f"bytes={asked}")
    assert response.status == 206
    assert body == content[first : last + 1]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"


def test_ranges_from_the_end_are_exact(ask, granule):
    path, content = granule
    assert ask(path, Range="bytes=-1000")[1] == content[-1000:]
    assert ask(path, Range=f"bytes={len(content) - 10}-")[1] == content[-10:]


def test_a_file_is_sent_whole_without_a_range(ask, granule):
    path, content = granule
    response, body = ask(path)
    assert (response.status, body) == (200, content)
    head, nothing = ask(path, "HEAD")
    assert (head.status, head.headers["Content-Length"], nothing) == (200, str(len(content)), b"")
    for name in ("ETag", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == response.headers[name]


def test_what_cannot_be_answered_has_its_status(ask, granule):
    path, content = granule
    response, body = ask(path, Range=f"bytes={len(content)}-")
    assert (response.status, response.headers["Content-Range"], body) == (416, f"bytes */{len(content)}", b"")
    assert ask("/granules/absent.nc")[0].status == 404
    assert ask("/../../../../../../etc/passwd")[0].status == 404
    assert ask("/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd")[0].status == 404
    assert ask(path, "DELETE")[0].status == 405
    assert ask(path, If_Match='"another"', Range="bytes=0-1")[0].status == 412
    etag = ask(path, "HEAD")[0].headers["ETag"]
    assert ask(path, If_Match=etag, Range="bytes=0-1")[0].status == 206


def test_pipelined_requests_are_answered_in_their_order(upstream, granule):
    path, content = granule
    requests = b"".join(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes={start}-{start + 9}\r\n\r\n".encode()
        for start in range(0, 500, 10)
    )
    with socket.create_connection(("127.0.0.1", upstream.port)) as connection:
        # in two pieces, so that one request comes in two
        connection.sendall(requests[:1234])
        time.sleep(0.05)
        connection.sendall(requests[1234:])
        received = b""
        while received.count(b"\r\n\r\n") < 50 or not received.endswith(content[490:500]):
            received += connection.recv(65536)
    heads = re.findall(rb"Content-Range: bytes (\d+)-", received)
    assert [int(start) for start in heads] == list(range(0, 500, 10))


def test_requests_and_bytes_are_counted(upstream, ask, granule):
    upstream.counts(reset=True)
    ask(granule[0], Range="bytes=5-104")
    ask(granule[0], Range="bytes=0-9")
    ask(granule[0], "HEAD")
    counted = upstream.counts(reset=True)
    assert (counted["requests"], counted["nbytes"]) == (3, 110)
    assert upstream.counts()["requests"] == 0


def test_all_requests_wait_at_once(stack, granule, tmp_path):
    hours = 3_600_000
    with range_server(stack, 2 * hours, tmp_path / "range.log") as server, contextlib.ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(f"GET {granule[0]} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n".encode())
        while server.counts()["in_flight"] < 20:
            time.sleep(0.01)
        assert server.counts()["requests"] == 0
        assert server.counts()["delay_ms"] == 2 * hours


def test_the_load_generator_counts_what_the_server_counts(upstream):
    upstream.counts(reset=True)
    answers, _ = uvloop.run(load(f"{upstream.url}/stack.json", 4, 0.3))
    # those before the count began, and under way when it ended, are in the server's count alone
    assert 0 < answers <= upstream.counts()["requests"]
    with pytest.raises(Failed, match="404"):
        uvloop.run(load(f"{upstream.url}/absent", 2, 0.1))


def test_the_load_generator_that_is_installed_refuses_errors(upstream):
    assert requests_per_second(f"{upstream.url}/stack.json", 1) > 0
    with pytest.raises(Failed):
        requests_per_second(f"{upstream.url}/absent", 1)


def test_the_counts_are_json(ask):
    assert set(json.loads(ask("/__stats")[1])) >= {
        "requests",
        "nbytes",
        "in_flight",
        "most_in_flight",
        "cpu_s",
    }
    assert ask("/__other")[0].status == 404
