"""Chunks are decoded in threads as they come: each once, never in the loop, and no longer than wanted."""

import asyncio
import gc
import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubegate.errors import CorruptChunk
from cubegate.store.decoding import Decoding, processors

PROCESSORS = "cubegate.store.decoding.processors"
# for what would wait for ever if the threads did not do their part
PATIENCE = 30


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.setattr(PROCESSORS, lambda: 2)


@pytest.fixture
def quiet():
    """Run a coroutine in a loop that must have nothing to complain of."""
    troubles = []

    async def watched(scenario):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        await scenario
        gc.collect()
        await asyncio.sleep(0)

    yield lambda scenario: asyncio.run(watched(scenario))
    assert troubles == []


@given(count=st.integers(0, 60), threads=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_each_chunk_is_decoded_once_whenever_it_comes(count, threads, seed):
    chance = random.Random(seed)
    parts = list(range(count))
    chance.shuffle(parts)
    decoded, running, most = Counter(), Counter(), Counter()
    lock = threading.Lock()

    def work(part, data):
        with lock:
            running["now"] += 1
            most["ever"] = max(most["ever"], running["now"])
        decoded[part, data, threading.get_ident() == main] += 1
        with lock:
            running["now"] -= 1

    async def scenario():
        decoding = Decoding(count, work)
        for part in parts:
            decoding.add(part, None if part % 3 == 0 else b"%d" % part)
            if chance.random() < 0.3:
                await asyncio.sleep(0.0005 if chance.random() < 0.3 else 0)
        await decoding.finish()
        decoding.stop()

    main = threading.get_ident()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PROCESSORS, lambda: threads)
        asyncio.run(scenario())
    assert decoded == Counter((part, None if part % 3 == 0 else b"%d" % part, False) for part in parts)
    assert most["ever"] <= threads


async def test_nothing_to_decode_is_done_at_once():
    await Decoding(0, lambda *_: None).finish()


async def test_decoding_begins_before_the_last_chunk_has_come():
    begun = threading.Event()
    decoding = Decoding(2, lambda *_: begun.set())
    decoding.add(0, b"")
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    decoding.add(1, b"")
    await decoding.finish()


async def test_the_loop_goes_on_while_a_chunk_is_decoded():
    go_on = threading.Event()
    decoding = Decoding(1, lambda *_: go_on.wait(PATIENCE))
    decoding.add(0, b"")
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert not go_on.is_set()
    go_on.set()
    await decoding.finish()


@pytest.mark.parametrize("apart", [False, True])
async def test_every_processor_has_its_chunk(two_processors, apart):
    """Also where the second comes while the first is being decoded."""
    both, begun = threading.Barrier(2), threading.Event()

    def work(part, data):
        begun.set()
        both.wait(PATIENCE)

    decoding = Decoding(2, work)
    decoding.add(0, b"")
    if apart:
        await asyncio.to_thread(begun.wait, PATIENCE)
    decoding.add(1, b"")
    await decoding.finish()


def test_the_processors_are_those_of_this_process():
    assert processors() >= 1


@pytest.mark.parametrize("error", [CorruptChunk("not a chunk"), KeyError("a defect")])
def test_a_chunk_that_cannot_be_decoded_ends_it_all(quiet, two_processors, error):
    decoded = []

    def work(part, data):
        if part == 3:
            raise error
        decoded.append(part)

    async def scenario():
        decoding = Decoding(10, work)
        for part in range(4):
            decoding.add(part, b"")
        with pytest.raises(type(error)) as caught:
            await decoding.finish()
        assert caught.value is error
        if isinstance(error, CorruptChunk):
            with pytest.raises(CorruptChunk):
                decoding.add(4, b"")
        else:
            decoding.add(4, b"")
        decoding.stop()
        await asyncio.sleep(0.01)

    quiet(scenario())
    assert sorted(decoded) == [0, 1, 2]


def test_after_an_error_what_is_queued_is_not_decoded(quiet, monkeypatch):
    monkeypatch.setattr(PROCESSORS, lambda: 1)
    decoded, queued = [], threading.Event()

    def work(part, data):
        queued.wait(PATIENCE)
        decoded.append(part)
        raise CorruptChunk("not a chunk")

    async def scenario():
        decoding = Decoding(10, work)
        for part in range(10):
            decoding.add(part, b"")
        queued.set()
        with pytest.raises(CorruptChunk):
            await decoding.finish()

    quiet(scenario())
    assert decoded == [0]


def test_an_error_that_nobody_waits_for_is_quiet(quiet):
    """The read ended with another error before this one came."""
    begun, go_on = threading.Event(), threading.Event()

    def work(part, data):
        begun.set()
        go_on.wait(PATIENCE)
        raise CorruptChunk("not a chunk")

    async def leave(*, stop_first):
        begun.clear()
        go_on.clear()
        decoding = Decoding(2, work)
        decoding.add(0, b"")
        await asyncio.to_thread(begun.wait, PATIENCE)
        if stop_first:
            decoding.stop()
        go_on.set()
        while not decoding._finished.done():  # noqa: ASYNC110 - nobody waits for it, on purpose
            await asyncio.sleep(0.001)
        decoding.stop()
        await asyncio.sleep(0.01)

    async def scenario():
        await leave(stop_first=True)
        await leave(stop_first=False)

    quiet(scenario())


def test_what_is_stopped_decodes_no_more_than_it_was_at(quiet, monkeypatch):
    monkeypatch.setattr(PROCESSORS, lambda: 1)
    begun, go_on, decoded = threading.Event(), threading.Event(), []

    def work(part, data):
        begun.set()
        go_on.wait(PATIENCE)
        decoded.append(part)

    async def scenario():
        decoding = Decoding(5, work)
        for part in range(4):
            decoding.add(part, b"")
        await asyncio.to_thread(begun.wait, PATIENCE)
        decoding.stop()
        go_on.set()
        decoding.add(4, b"")
        await asyncio.to_thread(lambda: None)
        with pytest.raises(asyncio.CancelledError):
            await decoding.finish()

    quiet(scenario())
    assert decoded == [0]


def test_a_loop_that_ends_meanwhile_is_not_told(quiet):
    begun, go_on = threading.Event(), threading.Event()

    def work(part, data):
        begun.set()
        go_on.wait(PATIENCE)

    async def scenario():
        decoding = Decoding(1, work)
        decoding.add(0, b"")
        await asyncio.to_thread(begun.wait, PATIENCE)
        waiting = asyncio.ensure_future(decoding.finish())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go_on.set()

    quiet(scenario())
