"""HEAD wherever there is GET: the same status and headers, and no body."""

import socket

import pytest

PATHS = [
    "/healthz",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/datasets",
    "/nowhere",
    "/datasets/none/timeseries",
    "/datasets/stack/zarr/",
    "/datasets/stack/zarr/zarr.json",
    "/datasets/stack/zarr/displacement/0.0.0",
    "/datasets/stack/zarr-plain/displacement/0.0.0",
    "/datasets/stack/timeseries?x=500090&y=3999910&f=json",
    "/datasets/stack/timeseries?x=500090&y=3999910&f=csv",
    "/datasets/stack/timeseries",
    "/datasets/stack/subset?f=netcdf",
    "/datasets/stack/subset?f=csv",
    "/datasets/stack/estimate",
    "/datasets/stack/answer?tens=50",
    "/datasets/lost/zarr/zarr.json",
]


def raw(server, request):
    """The whole of what comes back on a connection, as it is."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_as_get_does_without_the_body(server, path):
    get = server.http.get(path)
    accepted = f"Accept-Encoding: {get.request.headers['accept-encoding']}\r\nOrigin: https://a.example"
    head = raw(server, f"HEAD {path} HTTP/1.1\r\nHost: a\r\n{accepted}\r\nConnection: close\r\n\r\n")
    first, *lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert int(first.split()[1]) == get.status_code
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    skipped = {"date", "connection", "last-modified", "transfer-encoding"}
    assert {name: value for name, value in headers.items() if name not in skipped} == {
        name: value for name, value in get.headers.items() if name not in skipped
    }


def test_head_of_a_spooled_answer_computes_it_once_for_the_get_that_follows(server):
    path = "/datasets/stack/answer?tens=77"
    head = server.http.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, "770")
    assert head.headers["accept-ranges"] == "bytes"
    part = server.http.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, b"0123456789")
    assert server.control.produced == 1
