"""One request, one answer: whatever its framing, connections are kept while that is safe."""

import asyncio
import threading

import pytest

from cubegate.chunks.connections import ConnectionBroken, Connections

BODY = bytes(range(100))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
OK = HEAD + BODY


def test_a_connection_is_kept_for_the_next_request(run, reading, answering):
    async def scenario():
        async with reading(answering(OK)) as it:
            for number in range(5):
                assert (await it.get(f"/{number}")).body == BODY
            assert it.server.connections == 1
            first_lines = [request.split(b"\r\n")[0] for request in it.server.requests]
            assert first_lines == [b"GET /%d HTTP/1.1" % number for number in range(5)]

    run(scenario())


def test_reads_at_a_time_have_connections_of_their_own_which_are_all_kept(run, reading):
    everyone = threading.Semaphore(0)

    async def talk(peer):
        while await peer.request():
            everyone.release()
            while everyone._value % 20:  # noqa: ASYNC110 - counts over all connections
                await asyncio.sleep(0.001)
            await peer.send(OK)

    async def scenario():
        async with reading(talk) as it:
            for _ in range(3):
                answers = await asyncio.gather(*(it.get() for _ in range(20)))
                assert [answer.body for answer in answers] == [BODY] * 20
            assert it.server.connections == 20

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),
        OK.replace(b"\r\n\r\n", b"\r\nconnection: CLOSE\r\n\r\n", 1),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_the_answer_ends_is_not_kept(run, reading, answering, answer):
    async def scenario():
        async with reading(answering(answer)) as it:
            for _ in range(3):
                assert (await it.get()).body == BODY
            assert it.server.connections == 3

    run(scenario())


def test_a_connection_that_was_idle_for_long_is_not_used(run, reading, answering, monkeypatch):
    async def scenario():
        async with reading(answering(OK)) as it:
            await it.get()
            monkeypatch.setattr("cubegate.chunks.connections._IDLE", -1.0)
            await it.get()
            assert it.server.connections == 2

    run(scenario())


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(run, reading):
    async def talk(peer):
        await peer.request()
        await peer.send(OK)

    async def scenario():
        async with reading(talk) as it:
            for _ in range(3):
                assert (await it.get()).body == BODY
            assert it.server.connections == len(it.server.requests) == 3

    run(scenario())


def test_kept_connections_that_close_when_asked_again_are_all_replaced(run, reading):
    """The server may close a connection while the next request is on its way to it."""
    together = asyncio.Barrier(5)

    async def talk(peer):
        await peer.request()
        if peer.number <= 5:
            await together.wait()
        await peer.send(OK)
        await peer.request()
        if peer.number > 5:
            await peer.send(OK)

    async def scenario():
        async with reading(talk) as it:
            await asyncio.gather(*(it.get() for _ in range(5)))
            assert (await it.get()).body == BODY
            assert it.server.connections == 6
            assert len(it.server.requests) == 11

    run(scenario())


def test_a_new_connection_that_closes_without_a_word_is_an_error(run, reading):
    async def talk(peer):
        await peer.request()

    async def scenario():
        async with reading(talk) as it:
            with pytest.raises(ConnectionBroken) as caught:
                await it.get()
            assert (caught.value.silent, caught.value.in_body) == (True, False)
            assert it.server.connections == 1

    run(scenario())


@pytest.mark.parametrize(
    ("cut", "in_body"),
    [(1, False), (20, False), (len(HEAD) - 1, False), (len(HEAD), True), (60, True), (len(OK) - 1, True)],
)
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_that_ends_early_is_an_error_and_not_asked_for_again(run, reading, cut, in_body, kept):
    async def talk(peer):
        if kept:
            await peer.request()
            await peer.send(OK)
        await peer.request()
        await peer.send(OK[:cut])

    async def scenario():
        async with reading(talk) as it:
            if kept:
                await it.get()
            with pytest.raises(ConnectionBroken) as caught:
                await it.get()
            assert (caught.value.silent, caught.value.in_body) == (False, in_body)
            assert it.server.connections == 1

    run(scenario())


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_answer_may_end_with_its_connection(run, reading, version):
    async def talk(peer):
        await peer.request()
        await peer.send(b"HTTP/%s 200 OK\r\n\r\n" % version + BODY[:30])
        await peer.send(BODY[30:])

    async def scenario():
        async with reading(talk) as it:
            for _ in range(2):
                assert (await it.get()).body == BODY
            assert it.server.connections == 2

    run(scenario())


def test_a_chunked_answer_that_ends_with_its_connection_is_cut(run, reading):
    async def talk(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + BODY + b"\r\n")

    async def scenario():
        async with reading(talk) as it:
            with pytest.raises(ConnectionBroken) as caught:
                await it.get()
            assert caught.value.in_body

    run(scenario())


@pytest.mark.parametrize(
    "chunks",
    [
        b"64\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
        b'0064;name="value"\r\n' + BODY + b"\r\n00\r\nX-Checksum: 1\r\n\r\n",
    ],
)
def test_chunked_bodies(run, reading, answering, chunks):
    async def scenario():
        async with reading(
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        ) as it:
            for _ in range(3):
                assert (await it.get()).body == BODY
            assert it.server.connections == 1

    run(scenario())


def test_trailers_do_not_change_the_head(run, reading, answering):
    answer = (
        b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\nLocation: /right\r\n\r\n"
        b"0\r\nLocation: /wrong\r\nContent-Range: bytes 0-9/10\r\n\r\n"
    )

    async def scenario():
        async with reading(answering(answer)) as it:
            head = (await it.get()).head
            assert head.headers == {"transfer-encoding": "chunked", "location": "/right"}

    run(scenario())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 X"])
def test_interim_answers_are_not_the_answer(run, reading, answering, count, status):
    interim = b"HTTP/1.1 %s\r\nContent-Range: bytes 0-9/10\r\nLocation: /wrong\r\n\r\n" % status

    async def scenario():
        async with reading(answering(interim * count + OK)) as it:
            for _ in range(2):
                answer = await it.get()
                assert (answer.head.status, answer.body) == (200, BODY)
                assert answer.head.headers == {"content-length": "100"}
            assert it.server.connections == 1

    run(scenario())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body(run, reading, answering, status):
    async def scenario():
        async with reading(answering(b"HTTP/1.1 %s\r\n\r\n" % status)) as it:
            for _ in range(2):
                assert (await it.get()).body == b""
            assert it.server.connections == 1

    run(scenario())


def test_headers_are_kept_in_lower_case_and_repeated_ones_joined(run, reading, answering):
    answer = (
        b"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:3\r\nCONTENT-RANGE:  bytes 0-2/3 \r\n"
        b"Content-Range: bytes 5-7/9\r\nContent-Type:\r\nLocation: /caf\xe9\r\nX-Other: 1\r\n\r\nabc"
    )

    async def scenario():
        async with reading(answering(answer)) as it:
            assert (await it.get()).head.headers == {
                "content-length": "3",
                "content-range": "bytes 0-2/3, bytes 5-7/9",
                "content-type": "",
                "location": "/caf\xe9",
            }

    run(scenario())


def test_the_judge_sees_the_head_before_the_body_and_refuses_it(run, reading):
    class Refused(Exception):
        pass

    def refuse(head):
        raise Refused(head.status)

    async def talk(peer):
        await peer.request()
        await peer.send(HEAD)
        await peer.gone()

    async def scenario():
        async with reading(talk) as it:
            for _ in range(2):
                with pytest.raises(Refused, match="200"):
                    await it.get(judge=refuse)
            assert it.server.connections == 2

    run(scenario())


def test_closing_ends_what_is_kept_and_what_is_under_way(run, reading):
    ended = []

    async def talk(peer):
        await peer.request()
        if peer.number == 1:
            await peer.send(OK)
        await peer.gone()
        ended.append(peer.number)

    async def scenario():
        async with reading(talk) as it:
            await it.get()
            it.connections._idle.clear()
            waiting = asyncio.ensure_future(it.get())
            while len(it.server.requests) < 2:  # noqa: ASYNC110 - the server has nobody to tell
                await asyncio.sleep(0.001)
            await it.connections.aclose()
            with pytest.raises(ConnectionBroken):
                await waiting
            while len(ended) < 2:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)

    run(scenario())


def test_a_host_without_a_server_is_an_os_error(run, talking, answering):
    async def scenario():
        async with talking(answering(OK)) as server:
            address = server.address()
        with pytest.raises(OSError, match=r".") as caught:
            await Connections().get(address, {}, lambda _: None, within=30)
        assert not isinstance(caught.value, TimeoutError)

    run(scenario())


def test_two_event_loops_read_at_a_time(run, talking, answering):
    async def read_all(server):
        connections = Connections()
        answers = await asyncio.gather(
            *(connections.get(server.address(), {}, lambda _: None, within=30) for _ in range(20))
        )
        await connections.aclose()
        return [answer.body for answer in answers]

    async def scenario():
        async with talking(answering(OK)) as server:
            elsewhere = asyncio.to_thread(asyncio.run, read_all(server))
            assert await asyncio.gather(read_all(server), elsewhere) == [[BODY] * 20] * 2

    run(scenario())


def test_reads_over_ipv6(run, reading, answering):
    async def scenario():
        try:
            async with reading(answering(OK), host="::1") as it:
                assert (await it.get()).body == BODY
                assert b"\r\nHost: " + it.server.address().authority.encode() in it.server.requests[0]
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    run(scenario())
