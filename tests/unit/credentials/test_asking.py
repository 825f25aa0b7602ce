"""One request to a host that gives credentials: bounded, unfollowed, and without anything of the environment."""

import asyncio
import gzip
import subprocess
import sys

import pytest

from cubegate.credentials import asking
from cubegate.errors import UpstreamUnavailable

OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def serve():
    """Answer every connection with the same bytes, after its request; gives the address and what arrived."""
    servers, arrived = [], []

    async def serve(answer, *, stays=False):
        async def talk(reader, writer):
            arrived.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            if stays:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys", arrived

    yield serve
    for server in servers:
        server.close()
        await server.wait_closed()


def reply(body, head=OK):
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_an_answer_is_given_as_it_is(serve):
    address, arrived = await serve(reply(b'{"a": 1}'))
    answer = await asking.ask("POST", address, authorization="Bearer token-value")
    assert (answer.status, answer.media_type, answer.document()) == (200, "application/json", {"a": 1})
    assert arrived[0].startswith(b"POST /keys HTTP/1.1\r\n")
    assert b"Authorization: Bearer token-value\r\n" in arrived[0]
    assert "a" not in repr(answer).partition("media_type")[2].replace("application/json", "")


async def test_no_redirect_is_followed_and_no_proxy_netrc_or_cookie_taken(serve, monkeypatch, tmp_path):
    elsewhere, arrived = await serve(reply(b""))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.removesuffix("/keys"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    head = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nSet-Cookie: a=b\r\n"
    address, _ = await serve(reply(b"", head))
    answer = await asking.ask("GET", address, authorization="Bearer token-value")
    assert (answer.status, answer.location) == (302, elsewhere)
    await asking.ask("GET", address, authorization="Bearer token-value")
    assert len(arrived) == 2
    assert all(b"Bearer token-value" in seen and b"Cookie" not in seen for seen in arrived)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b" " * (asking._LARGEST_BODY + 1)),
        reply(gzip.compress(b" " * 10_000_000), OK + "Content-Encoding: gzip\r\n"),
        f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode() + b"8000\r\n" + b" " * 0x8000 + b"\r\n",
        f"{OK}Content-Length: 100\r\n\r\n".encode() + b"short",
        b"",
        b"upstream-text-value\r\n\r\n",
        f"{OK}Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n".encode() + b"not gzip!",
    ],
)
async def test_answers_that_cannot_be_used(serve, no_retries, answer):
    address, arrived = await serve(answer)
    with pytest.raises(UpstreamUnavailable) as caught:
        await asking.ask("GET", address, authorization="Bearer token-value")
    # the client itself asks twice where a connection just ends
    assert len(arrived) in {3, 6}
    assert address in str(caught.value)
    assert "-value" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_full_body_is_read(serve):
    body = b'"' + b"x" * (asking._LARGEST_BODY - 2) + b'"'
    address, _ = await serve(reply(body))
    assert (
        len((await asking.ask("GET", address, authorization="Bearer x")).document())
        == asking._LARGEST_BODY - 2
    )


async def test_one_that_does_not_answer_is_not_waited_for(serve, monkeypatch):
    monkeypatch.setattr(asking, "_DEADLINE", 0.2)
    address, arrived = await serve(b"HTTP/1.1 200 OK\r\n", stays=True)
    with pytest.raises(UpstreamUnavailable, match="did not answer"):
        await asyncio.wait_for(asking.ask("GET", address, authorization="Bearer x"), 30)
    assert len(arrived) == 1


async def test_one_that_is_not_there(no_retries, unused_tcp_port):
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await asking.ask("GET", f"http://127.0.0.1:{unused_tcp_port}/", authorization="Bearer x")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 60_000])
async def test_what_is_no_json_is_no_document(serve, body):
    address, _ = await serve(reply(body))
    assert (await asking.ask("GET", address, authorization="Bearer x")).document() is None


def test_the_client_is_only_imported_by_who_asks():
    program = "import sys, cubegate.credentials; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
