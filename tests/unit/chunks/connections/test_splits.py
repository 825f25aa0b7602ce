"""However an answer is cut into packets, it is read the same."""

import asyncio
import itertools
from weakref import WeakSet

from hypothesis import example, given
from hypothesis import strategies as st

from cubegate.chunks.connections import ConnectionBroken, _Connection

BODY = bytes(range(50))
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLocation: /wrong\r\n\r\n"
PLAIN = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-49/50\r\nCONTENT-LENGTH: 50\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x;n=v\r\n%s\r\n" % (len(part), part) for part in (BODY[:1], BODY[1:20], BODY[20:])
)  # fmt: skip
ENDING = CHUNKED + b"0\r\nX-Trailer: 1\r\n\r\n"
OPEN_ENDED = b"HTTP/1.1 200 OK\r\nLocation: /x\r\n\r\n" + BODY
BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n" + BODY


class Transport:
    """Takes requests, and knows whether it was ended."""

    def __init__(self):
        self.ended = False

    def write(self, data):
        pass

    def abort(self):
        self.ended = True


async def _exchange(packets):
    """What comes of one exchange: head and body or the error, and whether the connection can be used again."""
    connection, transport = _Connection(WeakSet()), Transport()
    connection.connection_made(transport)
    until = asyncio.get_running_loop().time() + 60
    answer = asyncio.ensure_future(connection.exchange(b"", lambda _: 100, until))
    await asyncio.sleep(0)
    for packet in packets:
        if transport.ended:
            break
        connection.data_received(packet)
    usable = connection.usable
    # an answer that has no end of its own ends here
    connection.connection_lost(None)
    try:
        found = await answer
    except ConnectionBroken as broken:
        return broken.silent, broken.in_body, usable
    return found.head.status, found.head.headers, found.body, usable


def _split(data, places):
    places = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@given(
    answer=st.sampled_from([PLAIN, INTERIM + PLAIN, ENDING, OPEN_ENDED, INTERIM + INTERIM + OPEN_ENDED]),
    places=st.lists(st.integers(0, 1000), max_size=30),
)
@example(INTERIM + ENDING, range(1000))
def test_an_answer_is_the_same_in_any_packets(answer, places):
    status, headers, body, usable = asyncio.run(_exchange(_split(answer, places)))
    assert body == BODY
    assert (status, headers, body, usable) == asyncio.run(_exchange([answer]))
    assert usable == (b"\r\nLocation: /x\r\n" not in answer)
    assert headers.get("location") in {None, "/x"}


@given(
    answer=st.sampled_from([PLAIN, ENDING, INTERIM + PLAIN]),
    extra=st.sampled_from([PLAIN, ENDING, b"x", b"HTTP/1.1 404 No\r\nLocation: /wrong\r\n\r\n"]),
    places=st.lists(st.integers(0, 1000), max_size=30),
)
def test_what_follows_an_answer_ends_the_connection_in_any_packets(answer, extra, places):
    whole = asyncio.run(_exchange([answer]))
    assert whole[-1]
    assert asyncio.run(_exchange(_split(answer + extra, places))) == (*whole[:-1], False)


@given(
    answer=st.sampled_from([PLAIN, ENDING, BROKEN, CHUNKED]),
    cut=st.integers(1, 1000),
    places=st.lists(st.integers(0, 1000), max_size=30),
)
def test_a_cut_answer_is_an_error_in_any_packets(answer, cut, places):
    whole = answer[: max(1, len(answer) - cut)]
    found = asyncio.run(_exchange(_split(whole, places)))
    assert len(found) == 3
    assert found == asyncio.run(_exchange([whole]))


@given(
    answer=st.sampled_from([PLAIN, ENDING, INTERIM + PLAIN, OPEN_ENDED]),
    changes=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=3),
    places=st.lists(st.integers(0, 1000), max_size=10),
)
def test_a_damaged_answer_is_an_answer_or_an_error_and_nothing_else(answer, changes, places):
    damaged = bytearray(answer)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    found = asyncio.run(_exchange(_split(bytes(damaged), places)))
    assert len(found) in {3, 4}
