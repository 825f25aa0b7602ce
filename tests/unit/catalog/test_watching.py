"""Looks at files happen in a thread, one at a time, and keep nobody waiting while requests keep coming."""

import asyncio
import os
import threading
from types import SimpleNamespace

import pytest

from cubegate.catalog import watching
from cubegate.catalog.watching import Stamp, Watch, stamp_of


class Looks:
    """A look that waits to be let through, and fails as often as it is told to."""

    def __init__(self):
        self.threads, self.under_way, self.failures = [], 0, 0
        self.begun, self.open = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self):
        self.under_way += 1
        assert self.under_way == 1
        self.threads.append(threading.current_thread())
        self.begun.set()
        assert self.open.wait(30)
        self.under_way -= 1
        if self.failures:
            self.failures -= 1
            raise OSError("Not now.")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def looks():
    return Looks()


@pytest.fixture
def watch(looks, clock):
    return Watch(looks)


async def test_the_first_request_waits_for_a_look_in_another_thread(watch, looks):
    assert not watch.is_fresh(1)
    await watch.refresh(1)
    assert watch.is_fresh(1)
    (thread,) = looks.threads
    assert thread is not threading.current_thread()


async def test_within_the_interval_nothing_is_looked_at(watch, looks, clock):
    await watch.refresh(1)
    clock.now += 0.99
    await watch.refresh(1)
    watch.refresh_now(1)
    assert len(looks.threads) == 1


async def test_after_the_interval_one_look_begins_and_nobody_waits_for_it(watch, looks, clock):
    await watch.refresh(1)
    looks.open.clear()
    looks.begun.clear()
    clock.now += 1.5
    for _ in range(10):
        await watch.refresh(1)
        watch.refresh_now(1)
    assert looks.begun.wait(30)
    assert not watch.is_fresh(1)
    looks.open.set()
    await asyncio.wrap_future(watch._running)
    assert watch.is_fresh(1)
    assert len(looks.threads) == 2


async def test_after_a_pause_everyone_waits_for_the_same_look(watch, looks, clock):
    await watch.refresh(1)
    looks.open.clear()
    looks.begun.clear()
    clock.now += 2
    waiting = [asyncio.ensure_future(watch.refresh(1)) for _ in range(5)]
    await asyncio.to_thread(looks.begun.wait, 30)
    done, pending = await asyncio.wait(waiting, timeout=0.05)
    assert (len(done), len(pending)) == (0, 5)
    waiting.pop().cancel()
    looks.open.set()
    await asyncio.gather(*waiting)
    assert len(looks.threads) == 2
    assert watch.is_fresh(1)


def test_other_event_loops_and_threads_wait_for_the_same_look(watch, looks):
    looks.open.clear()
    asked = [lambda: asyncio.run(watch.refresh(1)), lambda: watch.refresh_now(1)] * 3
    threads = [threading.Thread(target=ask) for ask in asked]
    for thread in threads:
        thread.start()
    assert looks.begun.wait(30)
    looks.open.set()
    for thread in threads:
        thread.join()
    assert len(looks.threads) == 1


async def test_a_look_that_fails_is_told_and_tried_again(watch, looks):
    looks.failures = 2
    with pytest.raises(OSError, match="Not now"):
        await watch.refresh(1)
    with pytest.raises(OSError, match="Not now"):
        watch.refresh_now(1)
    assert not watch.is_fresh(1)
    await watch.refresh(1)
    assert watch.is_fresh(1)


def test_a_stamp_changes_with_the_file(tmp_path):
    file = tmp_path / "a"
    assert stamp_of(file) == Stamp()
    assert stamp_of(str(file) + "\N{SNOWMAN}") == Stamp()
    file.write_text("1")
    first = stamp_of(file)
    os.utime(file, ns=(1, first.modified + 1))
    touched = stamp_of(file)
    file.write_text("12")
    os.utime(file, ns=(1, touched.modified))
    longer = stamp_of(file)
    other = tmp_path / "b"
    other.write_text("34")
    os.utime(other, ns=(1, touched.modified))
    other.replace(file)
    assert len({first, touched, longer, stamp_of(file), Stamp()}) == 5
