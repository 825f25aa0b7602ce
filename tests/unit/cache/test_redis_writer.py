"""The queue to Redis is bounded in bytes, written in batches, and at work for half of the time at most."""

import asyncio
import gc
from types import SimpleNamespace

import pytest

from cubegate.cache import redis_writer
from cubegate.cache.redis_connection import BATCH
from cubegate.cache.redis_writer import LARGEST_VALUE, MOST_QUEUED, RedisWriter
from cubegate.cache.sealing import seal, seal_block


class Connection:
    """Takes batches; each takes `seconds` by the clock of the test, and waits for `gate`."""

    def __init__(self, clock):
        self.batches = []
        self.writable = True
        self.seconds = 0.25
        self.gate = None
        self._clock = clock

    async def write(self, values):
        if self.gate is not None:
            await self.gate.wait()
        self.batches.append(dict(values))
        self._clock.now += self.seconds

    @property
    def stored(self):
        return {key: value for batch in self.batches for key, value in batch.items()}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(redis_writer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def connection(clock):
    return Connection(clock)


@pytest.fixture
def rests(monkeypatch, clock):
    """The rests that a writer takes, in seconds; they pass at once."""
    taken = []

    async def rest(writer, seconds):
        taken.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(RedisWriter, "_rest", rest)
    return taken


@pytest.fixture
async def writer(connection):
    writer = RedisWriter(connection)
    yield writer
    await writer.aclose()


def sealed(values):
    return {key: seal(key, value) for key, value in values.items()}


def values(count, nbytes=10):
    return {f"k{number}": bytes([number % 256]) * nbytes for number in range(count)}


async def test_what_is_queued_is_written_sealed(writer, connection):
    writer.queue(values(3))
    block = bytes(range(40))
    writer.queue({"block": block}, column_nbytes=10)
    await writer.flush()
    assert connection.stored == {**sealed(values(3)), "block": seal_block("block", block, 10)}


async def test_queueing_returns_before_anything_is_written(writer, connection):
    connection.gate = asyncio.Event()
    writer.queue(values(3))
    assert connection.batches == []
    connection.gate.set()
    await writer.flush()
    assert len(connection.batches) == 1


async def test_batches_are_bounded_in_number_and_bytes(writer, connection):
    writer.queue(values(2 * BATCH + 1))
    await writer.flush()
    assert [len(batch) for batch in connection.batches] == [BATCH, BATCH, 1]
    connection.batches.clear()
    writer.queue(values(7, 600_000))
    await writer.flush()
    assert [len(batch) for batch in connection.batches] == [3, 3, 1]


async def test_what_came_first_is_written_first(writer, connection):
    for key, value in values(3 * BATCH).items():
        writer.queue({key: value})
    await writer.flush()
    assert list(connection.stored) == list(values(3 * BATCH))


async def test_what_is_too_large_is_left_out(writer, connection):
    writer.queue({"large": bytes(LARGEST_VALUE + 1), "fits": bytes(LARGEST_VALUE), "small": b"1"})
    await writer.flush()
    assert set(connection.stored) == {"fits", "small"}


async def test_a_full_queue_takes_no_more_until_it_has_been_written(writer, connection):
    connection.gate = asyncio.Event()
    large = values(MOST_QUEUED // LARGEST_VALUE + 5, LARGEST_VALUE)
    writer.queue(large)
    writer.queue({"small": b"1"})
    assert writer._nbytes == MOST_QUEUED
    connection.gate.set()
    await writer.flush()
    assert set(connection.stored) == set(list(large)[: MOST_QUEUED // LARGEST_VALUE])
    writer.queue({"small": b"1"})
    await writer.flush()
    assert "small" in connection.stored
    assert writer._nbytes == 0


async def test_a_value_that_is_queued_again_replaces_the_first(writer, connection):
    writer.queue({"k": bytes(1000), "other": b"1"})
    writer.queue({"k": b"second"})
    assert writer._nbytes == len(b"second") + 1
    writer.queue({"k": bytes(40)}, column_nbytes=10)
    await writer.flush()
    assert connection.stored == {"k": seal_block("k", bytes(40), 10), "other": seal("other", b"1")}
    assert len(connection.batches) == 1


async def test_a_queue_full_of_one_key_is_replaced_and_not_doubled(writer, connection):
    for _ in range(2 * MOST_QUEUED // LARGEST_VALUE):
        writer.queue({"k": bytes(LARGEST_VALUE)})
    assert writer._nbytes == LARGEST_VALUE
    await writer.flush()
    assert set(connection.stored) == {"k"}


async def test_it_rests_as_long_as_it_worked(writer, connection, rests):
    writer.queue(values(3 * BATCH))
    await writer._work
    assert rests[1:] == [connection.seconds] * 3


@pytest.mark.parametrize(("count", "delayed"), [(1, False), (8, False), (9, True), (209, True)])
async def test_what_came_with_a_query_waits_for_its_answer_to_go_out(writer, rests, count, delayed):
    """A few are written at once: another process may be waiting for them."""
    writer.queue(values(count))
    await writer._work
    assert (rests[0] > 0) == delayed


async def test_flushing_takes_no_rest(writer, connection, clock):
    connection.seconds = 10**6
    writer.queue(values(3 * BATCH))
    await writer.flush()
    assert len(connection.batches) == 3


async def test_flushing_ends_a_rest_that_was_begun(writer, connection):
    connection.seconds = 10**6
    writer.queue(values(2))
    while not connection.batches:  # noqa: ASYNC110 - the writer has nobody to tell
        await asyncio.sleep(0)
    writer.queue({"more": b"1"})
    await asyncio.gather(*(writer.flush() for _ in range(3)))
    assert "more" in connection.stored


async def test_flushing_an_empty_queue_is_done_at_once(writer, connection):
    await writer.flush()
    assert connection.batches == []


async def test_after_everything_was_written_the_next_is_written_too(writer, connection):
    for number in range(5):
        writer.queue({f"k{number}": b"1"})
        await writer.flush()
    assert len(connection.batches) == 5


async def test_what_comes_while_a_batch_is_written_is_written_next(writer, connection):
    connection.gate = asyncio.Event()
    writer.queue({"first": b"1"})
    await asyncio.sleep(0.01)
    writer.queue({"second": b"2"})
    writer.queue({"first": b"1"})
    connection.gate.set()
    await writer.flush()
    assert [set(batch) for batch in connection.batches] == [{"first"}, {"first", "second"}]


async def test_nothing_is_queued_or_written_where_redis_takes_nothing(writer, connection):
    connection.writable = False
    writer.queue(values(3))
    assert writer._work is None
    connection.writable = True
    writer.queue(values(3))
    connection.writable = False
    await writer.flush()
    assert connection.batches == []
    assert writer._nbytes == 0


async def test_closing_gives_up_what_is_queued(connection):
    writer = RedisWriter(connection)
    connection.gate = asyncio.Event()
    writer.queue(values(3 * BATCH))
    while writer._nbytes == sum(map(len, values(3 * BATCH).values())):  # noqa: ASYNC110 - nobody to tell
        await asyncio.sleep(0.001)
    await writer.aclose()
    connection.gate.set()
    await asyncio.wait([writer._work])
    assert connection.batches == []
    assert writer._nbytes == 0
    writer.queue({"late": b"1"})
    await writer.flush()
    assert list(connection.stored) == ["late"]
    await writer.aclose()


async def test_those_who_wait_for_the_queue_are_let_go_when_it_is_given_up(connection):
    writer = RedisWriter(connection)
    connection.gate = asyncio.Event()
    writer.queue(values(3))
    waiting = asyncio.create_task(writer.flush())
    await asyncio.sleep(0.01)
    await writer.aclose()
    async with asyncio.timeout(60):
        await waiting


def test_a_loop_that_ends_with_a_full_queue_is_quiet(connection, caplog):
    async def leave():
        RedisWriter(connection).queue(values(3 * BATCH))

    asyncio.run(leave())
    gc.collect()
    assert caplog.records == []
    assert connection.batches == []
