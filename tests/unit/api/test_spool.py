"""The spool: bounded in bytes, oldest first, shared while building, and whole while being sent."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from cubegate.api.spool import Spool
from cubegate.api.spool_directory import LOCK
from cubegate.errors import BudgetExceeded
from cubegate.formats.spool import SpooledDocument


@pytest.fixture
def spool():
    spool = Spool(100)
    yield spool
    spool.close()


@pytest.fixture
def build(spool):
    async def build(key, *pieces, **options):
        async def give():
            return iter(pieces)

        return await spool.find_or_build(key, give, **options)

    return build


def files(spool):
    return sorted(path.read_bytes() for path in spool._directory.path.iterdir() if path.name != LOCK)


async def settled(spool, expected):
    """Wait until the thread that wrote a file last has let go of it."""
    for _ in range(500):
        if files(spool) == expected:
            return
        await asyncio.sleep(0.01)
    assert files(spool) == expected


async def test_an_answer_is_held_under_its_key(spool, build):
    file = await build("a", b"one", b"", b"two")
    assert file.path.read_bytes() == b"onetwo"
    assert file.nbytes == 6
    assert spool.find("a") is file
    assert spool.find("b") is None
    assert await build("a", b"other") is file


async def test_an_empty_answer_is_an_answer(spool, build):
    assert (await build("a")).path.read_bytes() == b""
    assert spool.find("a") is not None


async def test_the_oldest_go_first_and_use_makes_young(spool, build):
    for key in "abc":
        await build(key, key.encode() * 30)
    spool.find("a")
    await build("d", b"d" * 40)
    assert [key for key in "abcd" if spool.find(key)] == ["a", "c", "d"]
    await settled(spool, [b"a" * 30, b"c" * 30, b"d" * 40])
    await build("e", b"e" * 100)
    await settled(spool, [b"e" * 100])


async def test_a_file_that_is_in_use_outlives_its_place(spool, build):
    held = await build("a", b"a" * 80)
    await build("b", b"b" * 80)
    assert spool.find("a") is None
    assert held.path.read_bytes() == b"a" * 80
    del held
    await settled(spool, [b"b" * 80])


async def test_an_answer_over_the_limit_is_refused_and_leaves_nothing(spool, build):
    await build("a", b"a" * 10)
    with pytest.raises(BudgetExceeded, match=r"101 bytes \(limit 100\)"):
        await build("b", b"b" * 100, b"b")
    assert files(spool) == [b"a" * 10]
    assert (await build("b", b"b" * 100)).nbytes == 100


async def test_a_document_is_made_where_the_spool_is(spool):
    made = []

    def write(path):
        made.append(path)
        path.write_bytes(b"document")

    async def give():
        return SpooledDocument(write, ".nc")

    file = await spool.find_or_build("a", give)
    assert file.path.read_bytes() == b"document"
    assert spool._directory.path in made[0].parents
    assert files(spool) == [b"document"]


async def test_an_error_of_the_pieces_leaves_nothing(spool):
    def fail():
        yield b"some"
        raise ValueError("no more")

    async def give():
        return fail()

    with pytest.raises(ValueError, match="no more"):
        await spool.find_or_build("a", give)
    assert files(spool) == []
    assert spool.find("a") is None


async def test_an_old_answer_is_built_again_where_age_matters(spool, build):
    first = await build("a", b"first")
    first.written -= 10
    assert await build("a", b"second", max_age=11) is first
    assert (await build("a", b"second", max_age=9)).path.read_bytes() == b"second"
    assert (await build("a", b"third")).path.read_bytes() == b"second"


async def test_those_who_wait_share_one_building(spool):
    calls, go = 0, asyncio.Event()

    async def give():
        nonlocal calls
        calls += 1
        await go.wait()
        return iter([b"once"])

    waiting = [asyncio.ensure_future(spool.find_or_build("a", give)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    go.set()
    files = await asyncio.gather(*waiting[1:])
    assert calls == 1
    assert {file.path.read_bytes() for file in files} == {b"once"}
    assert len({id(file) for file in files}) == 1


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered(spool, build):
    async def give():
        await asyncio.sleep(0)
        raise BudgetExceeded({"bytes": 2}, {"bytes": 1}, "")

    outcomes = await asyncio.gather(
        *[spool.find_or_build("a", give) for _ in range(3)], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [BudgetExceeded] * 3
    assert (await build("a", b"now")).path.read_bytes() == b"now"


def test_closing_deletes_everything():
    spool = Spool(100)

    async def give():
        return iter([b"a"])

    asyncio.run(spool.find_or_build("a", give))
    directory = spool._directory.path
    assert list(directory.iterdir())
    spool.close()
    assert not directory.exists()


async def test_a_building_is_stopped_when_it_takes_too_long_for_all(spool, build):
    stopped = asyncio.Event()

    async def give():
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def patient():
        async with asyncio.timeout(0.05):
            await spool.find_or_build("a", give)

    outcomes = await asyncio.gather(*[patient() for _ in range(3)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 3
    assert stopped.is_set()
    assert (await build("a", b"now")).path.read_bytes() == b"now"


@pytest.mark.parametrize("outcome", ["written", "failed", "left"])
async def test_what_a_building_is_held_in_outlasts_its_thread(spool, outcome):
    held, writing, go = [], threading.Event(), threading.Event()

    @asynccontextmanager
    async def within():
        held.append(True)
        try:
            yield
        finally:
            held.clear()

    def pieces():
        writing.set()
        go.wait(60)
        if outcome == "failed":
            raise ValueError
        yield b"a"
        yield b"b"

    async def give():
        return pieces()

    asking = asyncio.ensure_future(spool.find_or_build("a", give, within=within))
    await asyncio.to_thread(writing.wait)
    if outcome == "left":
        asking.cancel()
    await asyncio.sleep(0.05)
    assert held
    go.set()
    for _ in range(500):
        if not held:
            break
        await asyncio.sleep(0.01)
    assert not held
    (ended,) = await asyncio.gather(asking, return_exceptions=True)
    assert (
        type(ended).__name__
        == {"written": "SpooledFile", "failed": "ValueError", "left": "CancelledError"}[outcome]
    )
    await settled(spool, [b"ab"] if outcome == "written" else [])
