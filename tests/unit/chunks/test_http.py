"""Holds HTTP reads to exact answers, and redirects and tokens to the allow-list."""

import asyncio
import gc
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cubegate.chunks.address import AllowList, parse_address
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import BearerToken
from cubegate.errors import (
    UpstreamDenied,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

BODY = bytes(range(100))


class Token:
    schemes = frozenset({"https"})

    async def for_url(self, url):
        return BearerToken("letmein")


@pytest.fixture
def part(response):
    """A correct answer for bytes 3 to 12, or one with other headers or body."""

    def build(content_range="bytes 3-12/100", body=BODY[3:13], *headers, **options):
        return response(206, [f"Content-Range: {content_range}", *headers], body, **options)

    return build


@pytest.fixture
async def read(start_server, open_http):
    """Reads bytes 3 to 12 (or the whole) of an object, from a server that gives these answers in turn."""

    async def run(*answers, name="x.bin", whole=False, **options):
        remaining = list(answers)
        server = await start_server(lambda _: remaining.pop(0) if len(remaining) > 1 else remaining[0])
        run.server = server
        run.source = source = open_http(server.url, **options)
        reference = (
            ChunkReference(f"{server.url}/{name}") if whole else ChunkReference(f"{server.url}/{name}", 3, 10)
        )
        return await source.get(reference)

    return run


async def test_asks_for_the_exact_range_unencoded(read, part):
    assert await read(part()) == BODY[3:13]
    (request,) = read.server.requests
    assert request.headers["range"] == "bytes=3-12"
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "content_range",
    ["bytes 4-13/100", "bytes 3-11/100", "bytes 3-13/100", "bytes 0-9/100", "bytes 3-12/12", "bytes 3-12",
     "bytes 3-12/ten", "items 3-12/100", "bytes */100", ""],
)  # fmt: skip
async def test_refuses_another_content_range(read, part, content_range):
    with pytest.raises(UpstreamMismatch):
        await read(part(content_range))
    assert len(read.server.requests) == 1


async def test_accepts_an_unknown_total_length(read, part):
    assert await read(part("bytes 3-12/*")) == BODY[3:13]


async def test_refuses_a_206_without_content_range(read, response):
    with pytest.raises(UpstreamMismatch):
        await read(response(206, [], BODY[3:13]))


@pytest.mark.parametrize("body", [BODY, BODY[3:13]])
async def test_refuses_a_200_to_a_range_request(read, response, body):
    with pytest.raises(UpstreamMismatch, match="HTTP 200"):
        await read(response(200, [], body))


async def test_refuses_a_206_to_a_whole_object_request(read, part):
    with pytest.raises(UpstreamMismatch):
        await read(part("bytes 0-99/100", BODY), whole=True)


@pytest.mark.parametrize("body", [BODY[3:12], BODY[3:14], b""])
async def test_refuses_an_announced_length_that_is_not_the_range(read, part, body):
    with pytest.raises(UpstreamMismatch):
        await read(part(body=body))


async def test_refuses_a_longer_chunked_body(read):
    head = b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 3-12/100\r\n\r\n"
    with pytest.raises(UpstreamMismatch, match="more than"):
        await read(head + b"b\r\n" + BODY[3:14] + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("whole", [True, False])
async def test_reads_again_after_a_cut_body_and_gives_up_in_the_end(read, part, response, whole):
    good = response(200, [], BODY) if whole else part()
    cut = good.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")[:-4]
    assert await read(cut, good, whole=whole) == (BODY if whole else BODY[3:13])
    with pytest.raises(UpstreamMismatch):
        await read(cut, whole=whole)
    assert len(read.server.requests) == 3


async def test_refuses_a_cut_chunked_body(read):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with pytest.raises(UpstreamMismatch):
        await read(head + b"64\r\n" + BODY[:50], whole=True)


async def test_reads_a_whole_chunked_body(read):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert await read(head + b"64\r\n" + BODY + b"\r\n0\r\n\r\n", whole=True) == BODY


async def test_refuses_a_body_that_ends_with_the_connection_alone(read):
    with pytest.raises(UpstreamMismatch, match="how long"):
        await read(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY, whole=True)


async def test_refuses_a_whole_object_that_is_larger_than_any_is_meant_to_be(read, response, monkeypatch):
    monkeypatch.setattr("cubegate.chunks.answers.LARGEST_OBJECT", 99)
    with pytest.raises(UpstreamMismatch, match="larger than the 99 bytes"):
        await read(response(200, [], BODY), whole=True)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(UpstreamMismatch, match="more than the 99 bytes"):
        await read(head + b"32\r\n" + BODY[:50] + b"\r\n32\r\n" + BODY[50:] + b"\r\n", whole=True)
    assert len(read.server.requests) == 1
    assert await read(response(200, [], BODY[1:]), whole=True) == BODY[1:]


async def test_a_body_longer_than_announced_is_cut_where_it_should_end(read, response):
    long = response(200, [], BODY, length=60)
    assert await read(long, whole=True) == BODY[:60]
    # what came behind it is not taken for the next answer
    source, url = read.source, read.server.url
    read.server.answer = lambda _: response(200, [], b"next")
    assert await source.get(ChunkReference(f"{url}/y")) == b"next"


@pytest.mark.parametrize("media_type", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("whole", [True, False])
async def test_refuses_a_web_page_in_place_of_an_object(read, response, media_type, whole):
    page = response(200, [f"Content-Type: {media_type}"], b"<html>out for lunch</html>")
    with pytest.raises(UpstreamMismatch, match="web page"):
        await read(page, whole=whole)
    assert len(read.server.requests) == 1


async def test_reads_a_web_page_where_the_object_is_one(read, response):
    page = response(200, ["Content-Type: text/html"], b"<html>log in</html>")
    assert await read(page, name="index.html", whole=True) == b"<html>log in</html>"


async def test_refuses_an_encoding_that_was_not_asked_for(read, part, response):
    with pytest.raises(UpstreamMismatch, match="encoding"):
        await read(part("bytes 3-12/100", BODY[3:13], "Content-Encoding: gzip"))
    stored = response(200, ["Content-Encoding: x-gzip"], b"\x1f\x8bstored")
    assert await read(stored, name="references.json.gz", whole=True) == b"\x1f\x8bstored"


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [(404, UpstreamObjectMissing, 1), (410, UpstreamObjectMissing, 1), (401, UpstreamDenied, 1),
     (403, UpstreamDenied, 1), (416, UpstreamMismatch, 1), (400, UpstreamMismatch, 1), (204, UpstreamMismatch, 1),
     (304, UpstreamMismatch, 1), (429, UpstreamUnavailable, 3), (500, UpstreamUnavailable, 3),
     (503, UpstreamUnavailable, 3)],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
async def test_statuses(read, response, *, whole, status, error, requests):
    body = b"" if status in {204, 304} else b"secret of the upstream"
    with pytest.raises(error) as caught:
        await read(response(status, [], body), whole=whole, name="x.bin?signature=abc")
    assert len(read.server.requests) == requests
    assert "secret" not in str(caught.value)
    assert "signature" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_succeeds_after_the_upstream_recovers(read, part, response):
    assert await read(response(503), response(429), part()) == BODY[3:13]
    assert len(read.server.requests) == 3


async def test_a_closed_port_is_unavailable(start_server, open_http):
    server = await start_server()
    gone = f"http://127.0.0.1:{server.port}"
    server_closed = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = server_closed.sockets[0].getsockname()[1]
    server_closed.close()
    await server_closed.wait_closed()
    source = open_http(gone.replace(str(server.port), str(port)))
    with pytest.raises(UpstreamUnavailable):
        await source.get(ChunkReference(f"http://127.0.0.1:{port}/x", 0, 1))


async def test_a_hanging_upstream_times_out(read):
    with pytest.raises(UpstreamTimeout):
        await read(None, deadline=0.2)


async def test_a_body_that_stalls_times_out(start_server, open_http, part):
    good = part()

    async def stall(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(good[:-5])
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(UpstreamTimeout):
        await open_http(url, deadline=0.2).get(ChunkReference(f"{url}/x", 3, 10))
    server.close()


async def test_follows_redirects_within_the_allow_list(start_server, open_http, part, response):
    data = await start_server(lambda _: part())
    first = await start_server(
        lambda request: (
            response(302, [f"Location: {data.url}/signed/x.bin?sig=%2Fa%2b1"])
            if request.target == "/second"
            else response(307, ["Location: /second"])
        )
    )
    source = open_http(first.url, f"{data.url}/signed/")
    assert await source.get(ChunkReference(f"{first.url}/x.bin", 3, 10)) == BODY[3:13]
    assert data.requests[0].target == "/signed/x.bin?sig=%2Fa%2b1"
    assert data.requests[0].headers["range"] == "bytes=3-12"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_refuses_redirects_to_unlisted_places(start_server, open_http, part, response, status):
    other = await start_server(lambda _: part())
    first = await start_server(lambda _: response(status, [f"Location: {other.url}/x.bin?sig=abc"]))
    with pytest.raises(UpstreamRefused) as caught:
        await open_http(first.url).get(ChunkReference(f"{first.url}/x.bin", 3, 10))
    assert other.requests == []
    assert "sig" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "s3://bucket/x", "//user@127.0.0.1/x", "ftp://127.0.0.1/x", "/data/../admin",
     "/data/%2e%2e/admin", "/admin", "http:\\\\127.0.0.1\\x"],
)  # fmt: skip
async def test_refuses_redirects_that_leave_http_or_the_prefix(
    start_server, open_http, part, response, location
):
    def answer(request):
        return response(302, [f"Location: {location}"]) if request.target == "/data/x" else part()

    server = await start_server(answer)
    source = open_http(f"{server.url}/data/", "file:///etc/", "s3://bucket/")
    with pytest.raises(UpstreamRefused):
        await source.get(ChunkReference(f"{server.url}/data/x", 3, 10))
    assert len(server.requests) == 1


async def test_refuses_endless_and_empty_redirects(start_server, open_http, response):
    server = await start_server(lambda request: response(302, [f"Location: {request.target}x"]))
    with pytest.raises(UpstreamMismatch, match="more than 5"):
        await open_http(server.url).get(ChunkReference(f"{server.url}/x"))
    assert len(server.requests) == 6
    server.answer = lambda _: response(302)
    with pytest.raises(UpstreamMismatch, match="where to"):
        await open_http(server.url).get(ChunkReference(f"{server.url}/x"))


async def test_the_token_goes_to_its_own_prefix_alone(start_server, open_http, part, response):
    data = await start_server(lambda _: part())
    login = await start_server(
        lambda request: (
            response(303, [f"Location: {data.url}/x.bin"])
            if request.target == "/protected/again"
            else response(303, ["Location: /protected/again"])
        )
    )
    source = open_http(f"{login.url}/protected/", data.url, credentials=Token())
    assert await source.get(ChunkReference(f"{login.url}/protected/x", 3, 10)) == BODY[3:13]
    assert [request.headers.get("authorization") for request in login.requests] == ["Bearer letmein"] * 2
    assert "authorization" not in data.requests[0].headers


async def test_the_token_is_dropped_outside_the_prefix_on_the_same_host(
    start_server, open_http, part, response
):
    def answer(request):
        return response(302, ["Location: /open/x"]) if request.target.startswith("/protected") else part()

    server = await start_server(answer)
    source = open_http(f"{server.url}/protected", f"{server.url}/open", credentials=Token())
    assert await source.get(ChunkReference(f"{server.url}/protected/x", 3, 10)) == BODY[3:13]
    assert [request.headers.get("authorization") for request in server.requests] == ["Bearer letmein", None]


async def test_the_token_is_dropped_below_a_prefix_within_its_own(start_server, open_http, part, response):
    def answer(request):
        return part() if request.target.startswith("/a/anon/") else response(302, ["Location: /a/anon/x"])

    server = await start_server(answer)
    source = open_http(f"{server.url}/a/", f"{server.url}/a/anon/", credentials=Token())
    assert await source.get(ChunkReference(f"{server.url}/a/x", 3, 10)) == BODY[3:13]
    asked = [(request.target, request.headers.get("authorization")) for request in server.requests]
    assert asked == [("/a/x", "Bearer letmein"), ("/a/anon/x", None)]


async def test_the_token_does_not_follow_a_signed_address_below_another_prefix(
    start_server, open_http, part, response
):
    signed = "/a/anon/x?Expires=99999999999&Signature=signature-value"

    def answer(request):
        return part() if request.target == signed else response(302, [f"Location: {signed}"])

    server = await start_server(answer)
    source = open_http(f"{server.url}/a/", f"{server.url}/a/anon/", credentials=Token())
    for _ in range(2):
        assert await source.get(ChunkReference(f"{server.url}/a/x", 3, 10)) == BODY[3:13]
    asked = [(request.target, request.headers.get("authorization")) for request in server.requests]
    assert asked == [("/a/x", "Bearer letmein"), (signed, None), (signed, None)]


async def test_no_other_token_is_asked_for_where_a_prefix_within_refuses(start_server, open_http, response):
    def answer(request):
        if request.target.startswith("/a/anon/"):
            return response(401, body=b"The token has expired")
        return response(302, ["Location: /a/anon/x"])

    server = await start_server(answer)
    source = open_http(f"{server.url}/a/", f"{server.url}/a/anon/", credentials=Token())
    with pytest.raises(UpstreamDenied) as caught:
        await source.get(ChunkReference(f"{server.url}/a/x", 3, 10))
    assert caught.value.state == "denied"
    assert len(server.requests) == 2


async def test_cookies_are_not_kept(start_server, open_http, part):
    server = await start_server(lambda _: part("bytes 3-12/100", BODY[3:13], "Set-Cookie: a=b; Path=/"))
    source = open_http(server.url)
    for _ in range(2):
        await source.get(ChunkReference(f"{server.url}/x", 3, 10))
    assert "cookie" not in server.requests[1].headers


async def test_addresses_are_sent_as_written_with_the_unsafe_characters_encoded(
    start_server, open_http, part
):
    server = await start_server(lambda _: part())
    await open_http(server.url).get(ChunkReference(f"{server.url}/a b/é%20%2F+=:@x?q=1 2", 3, 10))
    assert server.requests[0].target == "/a%20b/%C3%A9%20%2F+=:@x?q=1%202"


def test_goes_on_after_an_event_loop_was_closed_behind_it(folder_server):
    url, source = folder_server

    async def read(*, close=False):
        assert await source.get(ChunkReference(f"{url}/x", 3, 10)) == BODY[3:13]
        if close:
            await source.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(read())
        asyncio.run(read())
        asyncio.run(read(close=True))
        gc.collect()


@pytest.fixture
def folder_server(response):
    """A server in a thread, and a source over it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.wfile.write(response(206, ["Content-Range: bytes 3-12/100"], BODY[3:13]))

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    prefix = parse_address(url)
    yield url, HTTPObjects(prefix, AllowList([prefix]))
    server.shutdown()
    server.server_close()
