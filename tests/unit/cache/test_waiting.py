"""Who is waited for is not blamed for what the one who waits has to do."""

import asyncio
import time

import pytest

from cubegate.cache.waiting import Waiting, within


def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_waiting_counts_what_is_slept_and_not_what_is_worked():
    waiting = Waiting()
    work(0.2)
    assert waiting.by_the_clock >= 0.2
    assert waiting.seconds < waiting.by_the_clock - 0.19
    before = waiting.seconds
    await asyncio.sleep(0.05)
    assert waiting.seconds - before >= 0.04


async def test_a_result_is_returned_and_an_error_raised():
    async def give(outcome):
        await asyncio.sleep(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await within(60, give(7), longest=60) == 7
    with pytest.raises(KeyError):
        await within(60, give(KeyError("x")), longest=60)


async def test_what_takes_too_long_is_ended():
    ended = asyncio.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await within(0.02, hang(), longest=60)
    assert ended.is_set()


async def test_a_busy_loop_prolongs_the_patience(monkeypatch):
    # as if this thread had worked all the time
    monkeypatch.setattr("cubegate.cache.waiting.time.thread_time", time.monotonic)
    assert await within(0.05, asyncio.sleep(0.3, "in time"), longest=60) == "in time"


async def test_no_business_prolongs_it_for_ever():
    done = False

    async def be_busy():
        while not done:
            work(0.01)
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(be_busy())
    with pytest.raises(TimeoutError):
        await within(60, asyncio.sleep(3600), longest=0.2)
    done = True
    await busy


async def test_who_waits_may_be_cancelled():
    ended = asyncio.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.ensure_future(within(60, hang(), longest=60))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
