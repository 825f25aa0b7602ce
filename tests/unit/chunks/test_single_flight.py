"""Counts the upstream reads behind concurrent askers."""

import asyncio
import threading

import pytest

from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamUnavailable

REFERENCE = ChunkReference("file:///x", 0, 4)


class Gate:
    """A source that counts its reads and answers when told to."""

    def __init__(self):
        self.reads = 0
        self.open = threading.Event()
        self.error = None

    async def get(self, reference):
        self.reads += 1
        while not self.open.is_set():  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(0.001)
        if self.error:
            raise self.error
        return b"data"


@pytest.fixture
def gate():
    return Gate()


async def settle(gate, reads=1):
    while gate.reads < reads:  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
        await asyncio.sleep(0.001)


async def test_fifty_askers_make_one_read(gate):
    source = SingleFlight(Coalesced(gate))
    tasks = [asyncio.create_task(source.get(REFERENCE)) for _ in range(50)]
    await settle(gate)
    gate.open.set()
    assert await asyncio.gather(*tasks) == [b"data"] * 50
    assert gate.reads == 1


async def test_other_references_and_later_reads_are_their_own(gate):
    gate.open.set()
    source = SingleFlight(Coalesced(gate))
    await asyncio.gather(source.get(REFERENCE), source.get(ChunkReference("file:///x", 0, 5)))
    assert gate.reads == 2
    await source.get(REFERENCE)
    assert gate.reads == 3


async def test_a_cancelled_asker_does_not_stop_the_read(gate):
    source = SingleFlight(Coalesced(gate))
    first, second = (asyncio.create_task(source.get(REFERENCE)) for _ in range(2))
    await settle(gate)
    first.cancel()
    await asyncio.sleep(0.01)
    gate.open.set()
    assert await second == b"data"
    assert first.cancelled()
    assert gate.reads == 1


async def test_all_share_a_failure_and_nobody_remembers_it(gate):
    gate.error = UpstreamUnavailable("down")
    source = SingleFlight(Coalesced(gate))
    tasks = [asyncio.create_task(source.get(REFERENCE)) for _ in range(5)]
    await settle(gate)
    gate.open.set()
    assert all(
        isinstance(e, UpstreamUnavailable) for e in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert gate.reads == 1
    gate.error = None
    assert await source.get(REFERENCE) == b"data"


async def test_a_failure_that_nobody_waits_for_is_quiet(gate, caplog):
    gate.error = UpstreamUnavailable("down")
    source = SingleFlight(Coalesced(gate))
    task = asyncio.create_task(source.get(REFERENCE))
    await settle(gate)
    task.cancel()
    gate.open.set()
    await asyncio.sleep(0.05)
    assert caplog.records == []


def in_thread(loop, *coroutines):
    return [asyncio.run_coroutine_threadsafe(coroutine, loop) for coroutine in coroutines]


async def test_askers_in_two_event_loops_share_one_read(gate, other_loop):
    source = SingleFlight(Coalesced(gate))
    elsewhere = in_thread(other_loop, *(source.get(REFERENCE) for _ in range(10)))
    await settle(gate)
    here = [asyncio.create_task(source.get(REFERENCE)) for _ in range(10)]
    await asyncio.sleep(0.01)
    here[0].cancel()
    gate.open.set()
    assert await asyncio.gather(*here[1:], *map(asyncio.wrap_future, elsewhere)) == [b"data"] * 19
    assert gate.reads == 1


async def test_a_failure_reaches_askers_in_another_loop(gate, other_loop):
    gate.error = UpstreamUnavailable("down")
    source = SingleFlight(Coalesced(gate))
    in_thread(other_loop, source.get(REFERENCE))
    await settle(gate)
    here = asyncio.create_task(source.get(REFERENCE))
    await asyncio.sleep(0.01)
    gate.open.set()
    with pytest.raises(UpstreamUnavailable):
        await here
    assert gate.reads == 1


async def test_when_the_reading_loop_ends_another_reads_for_itself(gate):
    source = SingleFlight(Coalesced(gate))

    async def give_up():
        asyncio.ensure_future(source.get(REFERENCE))  # noqa: RUF006 - cancelled with its loop, on purpose
        while not waiting.is_set():  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(0.001)

    waiting = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(give_up()))
    thread.start()
    await settle(gate)
    here = asyncio.create_task(source.get(REFERENCE))
    await asyncio.sleep(0.01)
    waiting.set()
    await settle(gate, reads=2)
    thread.join()
    gate.open.set()
    assert await here == b"data"
    assert gate.reads == 2
