"""Processes that share a Redis read a chunk once, and never wait long for each other."""

import asyncio
import signal
from types import SimpleNamespace

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.cache.redis import RedisCache
from cubegate.cache.tiered import TieredCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamError, UpstreamUnavailable

DATA = bytes(range(256))
# what a lock that was left behind may cost, in seconds
PATIENCE = 0.05


class Upstream:
    """Counts its reads, and holds them back where it has a gate."""

    def __init__(self):
        self.reads = []
        self.gate = None
        self.error = None

    async def get(self, reference):
        self.reads.append(reference.offset // 8)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return DATA[reference.offset : reference.offset + reference.length]


class Process:
    """What one process of several has of its own."""

    def __init__(self, url, **options):
        self.upstream = Upstream()
        self.redis = RedisCache(url, **{"timeout": 10} | options)
        self.cache = TieredCache(MemoryCache(10**6), self.redis)
        self.cached = Cached(Coalesced(self.upstream, max_gap=-1), self.cache, "v1")
        self.delivered = {}

    async def read(self, *numbers):
        def deliver(position, outcome):
            assert position not in self.delivered
            self.delivered[position] = outcome

        self.delivered = {}
        await self.cached.read(references(*numbers), deliver)
        assert set(self.delivered) == set(range(len(numbers)))
        return [self.delivered[position] for position in range(len(numbers))]


def references(*numbers):
    return [ChunkReference("file:///x", 8 * number, 8) for number in numbers]


def exact(*numbers):
    return [DATA[8 * number : 8 * number + 8] for number in numbers]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let no busy machine make Redis look late."""
    monkeypatch.setattr("cubegate.chunks.cached._LATE", 3600.0)


@pytest.fixture
async def start_process():
    processes = []

    def start(url, **options):
        processes.append(Process(url, **options))
        return processes[-1]

    yield start
    for process in processes:
        await process.cache.aclose()


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that waiting for another process makes; `during(n)` runs in the place of the nth."""
    made = SimpleNamespace(lengths=[], during=None)

    async def pause(seconds):
        made.lengths.append(seconds)
        if made.during is not None:
            await made.during(len(made.lengths))

    monkeypatch.setattr(
        "cubegate.chunks.cached.asyncio", SimpleNamespace(sleep=pause, timeout=asyncio.timeout)
    )
    # on a busy machine what happens during a pause may take longer than all of them
    monkeypatch.setattr("cubegate.chunks.cached._PATIENCE", 3600.0)
    return made


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.001)


def values(server):
    return [key for key in server.client.keys() if not key.endswith(b":claim")]  # noqa: SIM118 - a Redis command


@pytest.mark.parametrize("arrives", [1, 2, 3, 4, 5])
async def test_another_process_waits_for_what_is_being_read(start_redis, start_process, pauses, arrives):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url)
    first.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(first.read(3))
    await until(lambda: first.upstream.reads)

    async def answer(number):
        if number == arrives:
            first.upstream.gate.set()
            await until(lambda: values(server))

    pauses.during = answer
    assert await second.read(3) == exact(3)
    assert await reading == exact(3)
    assert (first.upstream.reads, second.upstream.reads) == ([3], [])
    assert len(pauses.lengths) == arrives


async def test_what_is_waited_for_stays_in_memory(start_redis, start_process, pauses):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url)
    first.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(first.read(3))
    await until(lambda: first.upstream.reads)

    async def answer(_):
        first.upstream.gate.set()
        await until(lambda: values(server))

    pauses.during = answer
    await second.read(3)
    await reading
    assert second.cached.held(*references(3)) == exact(3)[0]


async def test_only_what_is_being_read_is_waited_for(start_redis, start_process, pauses):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url)
    first.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(first.read(3, 4))
    await until(lambda: len(first.upstream.reads) == 2)

    async def look(_):
        await until(lambda: set(second.delivered) == {0, 3})
        first.upstream.gate.set()
        await until(lambda: len(values(server)) == 4)

    pauses.during = look
    assert await second.read(2, 3, 4, 5) == exact(2, 3, 4, 5)
    assert sorted(second.upstream.reads) == [2, 5]
    assert await reading == exact(3, 4)
    assert len(pauses.lengths) == 1


async def test_a_claim_that_was_left_behind_delays_by_the_patience_alone(start_redis, start_process, pauses):
    server = start_redis()
    dead, living = start_process(server.url), start_process(server.url)
    dead.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(dead.read(3))
    await until(lambda: dead.upstream.reads)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await living.read(3) == exact(3)
    assert living.upstream.reads == [3]
    assert 0 < sum(pauses.lengths) <= PATIENCE


async def test_a_claim_is_left_behind_for_no_more_than_two_seconds(start_redis, start_process):
    server = start_redis()
    await start_process(server.url).read(3)
    (claim,) = (key for key in server.client.keys() if key.endswith(b":claim"))  # noqa: SIM118 - a Redis command
    assert 0 < server.client.pttl(claim) <= 2000
    assert b"file:" not in claim


async def test_the_failure_of_another_process_is_not_this_ones(start_redis, start_process, pauses):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url)
    first.upstream.error = UpstreamUnavailable("down")
    assert await first.read(3) == [first.upstream.error]
    assert await second.read(3) == exact(3)
    assert sum(pauses.lengths) <= PATIENCE


async def test_nobody_waits_for_what_it_reads_itself(start_redis, start_process, pauses):
    process = start_process(start_redis().url)
    assert await process.read(3, 4, 3, 3) == exact(3, 4, 3, 3)
    assert pauses.lengths == []


async def test_what_is_not_kept_is_not_claimed(start_redis, start_process, pauses):
    server = start_redis()
    process = start_process(server.url)
    with pytest.raises(TypeError):
        await process.cached.get(ChunkReference("file:///x"))
    assert server.client.keys() == []


async def test_memory_alone_has_nobody_to_wait_for(pauses):
    cached = Cached(Coalesced(Upstream()), MemoryCache(10**6), "v1")
    for _ in range(2):
        assert await cached.get(*references(3)) == exact(3)[0]
    assert pauses.lengths == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("when", [1, 3, 5])
async def test_a_redis_that_ends_while_it_is_waited_on(start_redis, start_process, pauses, name, when):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url, timeout=0.5)
    first.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(first.read(3, 4))
    await until(lambda: len(first.upstream.reads) == 2)

    async def end(number):
        if number == when:
            server.send(signal.Signals[name])

    pauses.during = end
    assert await second.read(3, 4) == exact(3, 4)
    assert sorted(second.upstream.reads) == [3, 4]
    assert sum(pauses.lengths) <= PATIENCE
    first.upstream.gate.set()
    assert await reading == exact(3, 4)


async def test_a_delivery_that_is_refused_ends_waiting_and_reading(start_redis, start_process, pauses):
    server = start_redis()
    first, second = start_process(server.url), start_process(server.url)
    first.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(first.read(3))
    await until(lambda: first.upstream.reads)
    calls = []

    def refuse(position, outcome):
        calls.append(position)
        raise UpstreamError("enough")

    async def look(_):
        first.upstream.gate.set()
        await until(lambda: values(server))
        second.upstream.gate.set()

    pauses.during = look
    second.upstream.gate = asyncio.Event()
    with pytest.raises(UpstreamError, match="enough"):
        await second.cached.read(references(3, 4, 5), refuse)
    await asyncio.sleep(0.01)
    assert len(calls) == 1
    await reading


async def test_claims_come_back_when_a_full_redis_has_room_again(start_redis, start_process, pauses):
    server = start_redis("--maxmemory-policy", "noeviction")
    first, second = start_process(server.url, pause=0.0), start_process(server.url, pause=0.0)
    server.client.config_set("maxmemory", 1)
    assert await first.read(3) == exact(3)
    assert await second.read(3) == exact(3)
    await first.cache.flush()
    server.client.config_set("maxmemory", 0)
    assert await first.read(4) == exact(4)
    await first.cache.flush()
    server.client.delete(*values(server))
    await second.read(4)
    assert sum(pauses.lengths) > 0


async def _fake_redis(replies):
    """A server that answers every command by its name with the bytes of `replies`, else OK."""

    async def handle(reader, writer):
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            reply = replies.get(words[0].decode().upper(), b"+OK\r\n")
            if not reply:
                break
            writer.write(reply)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


NONSENSE = [
    b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"*1\r\n$-1\r\n", b"*1\r\n:1\r\n", b"*2\r\n:1\r\n:1\r\n",
    b"*2\r\n+a\r\n+b\r\n", b"*2\r\n*1\r\n:0\r\n*0\r\n", b"*2\r\n-ERR a\r\n-ERR b\r\n", b"$3\r\nabc\r\n", b"$2\r\nab\r\n",
    b"-ERR nonsense\r\n", b"-NOSCRIPT nonsense\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-OOM full\r\n", b"-LOADING\r\n",
    b"%1\r\n+a\r\n:1\r\n", b",1.5\r\n", b"#t\r\n", b"_\r\n", b"(123456789012345678901234567890\r\n", b">2\r\n+a\r\n+b\r\n",
    b"*2\r\n:0\r\n:0\r\n*2\r\n:0\r\n:0\r\n", b"nonsense\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$999999999999\r\nab\r\n",
    b"*-7\r\n", b"\x00\xff\r\n", b"",
]  # fmt: skip


@pytest.mark.parametrize("command", ["EVAL", "MGET", "MSET"])
@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_a_redis_that_answers_nonsense_changes_nothing(start_process, pauses, command, nonsense):
    replies = {"EVAL": b"*2\r\n:0\r\n:0\r\n", "MGET": b"*2\r\n$-1\r\n$-1\r\n"} | {command: nonsense}
    async with await _fake_redis(replies) as server:
        port = server.sockets[0].getsockname()[1]
        process = start_process(f"redis://127.0.0.1:{port}/0", timeout=0.3)
        assert await process.read(3, 4) == exact(3, 4)
        assert sorted(process.upstream.reads) == [3, 4]
        assert sum(pauses.lengths) <= PATIENCE
        await process.cache.flush()
        await process.cache.aclose()


async def test_nobody_is_waited_for_where_looking_was_late(monkeypatch):
    class Slow(MemoryCache):
        async def claim(self, keys):
            raise AssertionError("it is late enough")

    monkeypatch.setattr("cubegate.chunks.cached._LATE", 0.0)
    upstream = Upstream()
    cached = Cached(Coalesced(upstream), Slow(10**6), "v1")
    assert await cached.get(*references(3)) == exact(3)[0]
    assert upstream.reads == [3]
