"""What no well-behaved server does: it costs a connection, never a wrong value nor much memory."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.chunks.address import Address, AllowList, parse_address
from cubegate.chunks.connections import ConnectionBroken, _request
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamRefused

BODY = bytes(range(10))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY
OTHER = OK.replace(BODY, b"0123456789")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(100), b"SSH-2.0-OpenSSH\r\n", b"+PONG\r\n", b"<html></html>", b"http/1.1 200 ok\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"200 OK\r\n\r\n", UPGRADE, UPGRADE + OK,
        OK.replace(b": 10", b": -10"), OK.replace(b": 10", b": ten"), OK.replace(b": 10", b": 10, 10"),
        OK.replace(b": 10", b": 0x10"), OK.replace(b": 10", b": 99999999999999999999999"),
        OK.replace(b": 10", b": 10\r\nContent-Length: 9"), OK.replace(b": 10", b" : 10"),
        OK.replace(b": 10", b": 10\r\nTransfer-Encoding: chunked"), OK.replace(b": 10", b": 1\x000"),
        CHUNKED + b"ten\r\n", CHUNKED + b"-1\r\n", CHUNKED + b"5\r\n01234567\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n", CHUNKED + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http_is_an_error_and_ends_the_connection(run, reading, garbage):
    async def talk(peer):
        await peer.request()
        await peer.send(garbage if peer.number == 1 else OK)
        await peer.gone()

    async def scenario():
        async with reading(talk) as it:
            with pytest.raises(ConnectionBroken):
                await it.get()
            assert (await it.get()).body == BODY
            assert it.server.connections == 2

    run(scenario())


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 ", b"OK" * 500),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 50),
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"value" * 200),
        (b"HTTP/1.1 200 OK\r\n", b"Location: /value\r\n" * 50),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50),
        (b"", b"\r\n" * 500),
        (CHUNKED + b"1;", b"extension" * 200),
        (CHUNKED + b"0\r\n", b"X-Trailer: value\r\n" * 50),
        (CHUNKED + b"0\r\nLocation: ", b"value" * 200),
        (CHUNKED, b"000" * 500),
    ],
)
def test_what_surrounds_a_body_is_bounded(run, reading, start, again):
    async def talk(peer):
        await peer.request()
        await peer.send(start)
        while True:
            await peer.send(again)

    async def scenario():
        async with reading(talk) as it:
            with pytest.raises(ConnectionBroken):
                await it.get()

    run(scenario())


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 206 OK\r\n\r\n", b"HTTP/1.1 206 OK\r\nContent-Length: 99999999999\r\n\r\n"]
)
def test_a_body_ends_where_its_judge_says(run, reading, start):
    sent = 0

    async def talk(peer):
        nonlocal sent
        await peer.request()
        await peer.send(start)
        while True:
            await peer.send(bytes(10_000))
            sent += 10_000

    async def scenario():
        async with reading(talk) as it:
            answer = await it.get(judge=lambda _: 100_000)
            # one byte more would do, and bytes come in packets
            assert 100_000 < len(answer.body) < 1_000_000
        assert sent < 20_000_000

    run(scenario())


def test_a_body_of_exactly_what_the_judge_allows_is_whole(run, reading, answering):
    async def scenario():
        async with reading(answering(OK)) as it:
            for _ in range(2):
                assert (await it.get(judge=lambda _: 10)).body == BODY
            assert it.server.connections == 1

    run(scenario())


EXTRA = [
    OTHER, OTHER[:20], OTHER[:-5], b"garbage", b"H", b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\nHTTP/1.1 404 Not Found\r\nContent-Range: x\r\n", UPGRADE,
]  # fmt: skip


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize(
    "answer", [OK, CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\n\r\n"], ids=["plain", "chunked"]
)
def test_bytes_behind_an_answer_are_never_taken_for_the_next(run, reading, answer, extra):
    async def talk(peer):
        await peer.request()
        await peer.send(answer + extra if peer.number == 1 else OK)
        if peer.number == 1:
            await peer.gone()

    async def scenario():
        async with reading(talk) as it:
            first = await it.get("/1")
            assert (first.head.status, first.body) == (200, BODY)
            assert "location" not in first.head.headers
            assert "content-range" not in first.head.headers
            second = await it.get("/2")
            assert (second.head.status, second.body) == (200, BODY)
            assert it.server.connections == 2

    run(scenario())


@pytest.mark.parametrize("extra", EXTRA)
def test_bytes_that_come_later_end_the_idle_connection(run, reading, extra):
    more = asyncio.Event()

    async def talk(peer):
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            await more.wait()
            await peer.send(extra)
            await peer.gone()
            more.clear()

    async def scenario():
        async with reading(talk) as it:
            assert (await it.get("/1")).body == BODY
            more.set()
            while more.is_set():  # noqa: ASYNC110 - set again by the server, when the client has gone
                await asyncio.sleep(0.001)
            answer = await it.get("/2")
            assert (answer.head.status, answer.body) == (200, BODY)
            assert it.server.connections == 2

    run(scenario())


def test_an_answer_behind_a_redirect_is_not_what_was_asked_for(run, talking):
    """The body of the redirect has the length of the range, and what follows vouches for it."""
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 10\r\n\r\n0123456789"
    vouching = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n" + BODY

    async def talk(peer):
        await peer.request()
        await peer.send(redirect + vouching)
        await peer.gone()

    async def scenario():
        async with talking(talk) as server:
            prefix = parse_address(f"{server.url}/data/")
            source = HTTPObjects(prefix, AllowList([prefix]))
            with pytest.raises(UpstreamRefused):
                await source.get(ChunkReference(f"{server.url}/data/x", 0, 10))
            await source.aclose()

    run(scenario())


@pytest.mark.parametrize("sent", [0, 10, len(OK) - 10, len(OK) - 1])
@pytest.mark.parametrize("ended_by", ["cancel", "timeout"])
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_left_in_the_middle_is_not_read_on_that_connection(run, reading, sent, ended_by, kept):
    left = asyncio.Event()

    async def talk(peer):
        if peer.number == 1:
            if kept:
                await peer.request()
                await peer.send(OK)
            await peer.request()
            await peer.send(OTHER[:sent])
            await left.wait()
            await peer.send(OTHER[sent:])
            await peer.gone()
        while await peer.request():
            await peer.send(OK)

    async def scenario():
        async with reading(talk) as it:
            if kept:
                await it.get()
            if ended_by == "timeout":
                with pytest.raises(TimeoutError):
                    await it.get(within=0.02)
            else:
                asked = asyncio.ensure_future(it.get())
                while len(it.server.requests) < 1 + kept:  # noqa: ASYNC110 - the server has nobody to tell
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.005)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            left.set()
            for _ in range(3):
                assert (await it.get()).body == BODY
            assert it.server.connections == 2

    run(scenario())


def test_a_body_that_drips_is_bounded_as_a_whole(run, reading):
    async def talk(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.001)

    async def scenario():
        async with reading(talk) as it:
            with pytest.raises(TimeoutError):
                await it.get(within=0.05)

    run(scenario())


def test_no_time_left_is_a_timeout(run, reading, answering):
    async def scenario():
        async with reading(answering(OK)) as it:
            for within in (0.0, -1.0):
                with pytest.raises(TimeoutError):
                    await it.get(within=within)
            await it.get()
            with pytest.raises(TimeoutError):
                await it.get(within=-1.0)
            assert (await it.get()).body == BODY

    run(scenario())


def test_a_cancelled_connecting_leaves_nothing(run, reading, answering):
    async def scenario():
        async with reading(answering(OK)) as it:
            for turns in range(6):
                asked = asyncio.ensure_future(it.get())
                for _ in range(turns):
                    await asyncio.sleep(0)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            assert (await it.get()).body == BODY
            await asyncio.sleep(0.01)
            gc.collect()
            assert len(it.connections._open) == 1

    run(scenario())


TEXT = st.text(st.sampled_from("ab/ \t\r\n:\x0b\x0c\x00\x85\u2028é€"), max_size=8)


@given(path=TEXT, query=TEXT, name=TEXT, value=TEXT)
def test_a_request_has_no_more_lines_than_are_meant(path, query, name, value):
    try:
        request = _request(Address("http", "host", path, query), {name: value})
    except ValueError:
        return
    assert request.endswith(b"\r\n\r\n")
    lines = request[:-4].split(b"\r\n")
    assert [line.split(b":")[0].split(b" ")[0] for line in lines[:5]] == [
        b"GET", b"Host", b"User-Agent", b"Accept", b"Accept-Encoding"
    ]  # fmt: skip
    assert len(lines) == 6
    assert not any(byte in line for line in lines for byte in b"\r\n")


def test_a_line_end_in_a_request_is_refused_before_it_is_sent(run, reading, answering):
    async def scenario():
        async with reading(answering(OK)) as it:
            with pytest.raises(ValueError, match="line end"):
                await it.get(Token="a\r\nX: b")
            assert it.server.connections == 0

    run(scenario())


@given(suffix=TEXT)
def test_an_address_asked_for_is_one_request_line(suffix):
    """Whatever a reference names: it is refused, or quoted."""
    prefix = parse_address("http://host/data/")
    try:
        _, address = AllowList([prefix]).resolve(f"http://host/data/{suffix}")
    except UpstreamRefused:
        return
    line = _request(address, {}).split(b"\r\n")[0]
    assert len(line.split(b" ")) == 3
    assert line.isascii()
    assert not any(byte < 33 for byte in line.replace(b" ", b""))
