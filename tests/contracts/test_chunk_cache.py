"""What every chunk cache must do."""

import asyncio
import random

import pytest

from cubegate.cache.cache import Column
from cubegate.cache.memory import MemoryCache
from cubegate.cache.metered import MeteredCache
from cubegate.cache.redis import RedisCache
from cubegate.cache.tiered import TieredCache
from cubegate.metrics.metrics import Metrics


@pytest.fixture(params=["memory", "redis", "tiered", "metered"])
async def cache(request, redis_url):
    made = {
        "memory": lambda: MemoryCache(10**8),
        "redis": lambda: RedisCache(redis_url, timeout=10),
        "tiered": lambda: TieredCache(MemoryCache(10**8), RedisCache(redis_url, timeout=10)),
        "metered": lambda: MeteredCache(RedisCache(redis_url, timeout=10), Metrics(), "redis"),
    }[request.param]()
    yield made
    await made.aclose()


async def put(cache, entries):
    cache.put_many(entries)
    await cache.flush()


@pytest.fixture
def prefix(request):
    """Keys of each test are its own, since the Redis outlives it."""
    return f"{request.node.name}:"


async def test_returns_what_was_put_and_leaves_out_what_was_not(cache, prefix):
    entries = {f"{prefix}{n}": random.Random(n).randbytes(n * 300) for n in range(150)}
    await put(cache, entries)
    assert await cache.get_many([*entries, f"{prefix}absent"]) == entries
    assert await cache.get_many([f"{prefix}absent"]) == {}


async def test_nothing_asked_is_nothing_found(cache):
    assert await cache.get_many([]) == {}
    await put(cache, {})


async def test_the_last_value_put_wins(cache, prefix):
    await put(cache, {f"{prefix}k": b"first"})
    await put(cache, {f"{prefix}k": b"second"})
    assert await cache.get_many([f"{prefix}k"]) == {f"{prefix}k": b"second"}


async def test_a_key_asked_twice_is_found(cache, prefix):
    await put(cache, {f"{prefix}k": b"value"})
    assert await cache.get_many([f"{prefix}k", f"{prefix}k"]) == {f"{prefix}k": b"value"}


async def test_holds_any_bytes(cache, prefix):
    entries = {f"{prefix}zeros": bytes(5000), f"{prefix}all": bytes(range(256)), f"{prefix}empty": b""}
    await put(cache, entries)
    assert await cache.get_many(list(entries)) == entries


async def test_serves_concurrent_callers(cache, prefix):
    async def put_and_get(n):
        key = f"{prefix}{n}"
        await put(cache, {key: str(n).encode() * 1000})
        return await cache.get_many([key])

    for n, found in enumerate(await asyncio.gather(*map(put_and_get, range(200)))):
        assert found == {f"{prefix}{n}": str(n).encode() * 1000}


async def test_a_cancelled_caller_spoils_nothing_for_others(cache, prefix):
    entries = {f"{prefix}{n}": str(n).encode() for n in range(50)}
    await put(cache, entries)
    tasks = [asyncio.create_task(cache.get_many([key])) for key in entries]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for key, task in list(zip(entries, tasks, strict=True))[1::2]:
        assert task.result() == {key: entries[key]}
    assert await cache.get_many(list(entries)) == entries


async def test_serves_two_event_loops_at_the_same_time(cache, prefix, loop_thread):
    entries = {f"{prefix}{n}": str(n).encode() for n in range(100)}
    await put(cache, entries)

    async def get_each():
        found = await asyncio.gather(*(cache.get_many([key]) for key in entries))
        return {key: value for one in found for key, value in one.items()}

    elsewhere = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(get_each(), loop_thread))
    assert await asyncio.gather(get_each(), elsewhere) == [entries, entries]


async def test_columns_of_a_block_are_read_one_by_one(cache, prefix):
    blocks = {f"{prefix}{n}": random.Random(n).randbytes(16 * 100) for n in range(20)}
    cache.put_blocks(blocks, 100)
    await cache.flush()
    columns = [Column(key, number, 100) for key in blocks for number in (0, 7, 15)]
    expected = [blocks[c.key][c.number * 100 : (c.number + 1) * 100] for c in columns]
    assert await cache.get_columns(columns) == expected


async def test_columns_that_are_not_there_are_none(cache, prefix):
    cache.put_blocks({f"{prefix}k": bytes(range(200))}, 100)
    await cache.flush()
    wanted = [
        Column(f"{prefix}absent", 0, 100),
        Column(f"{prefix}k", 1, 100),
        Column(f"{prefix}k", 2, 100),
    ]
    assert await cache.get_columns(wanted) == [None, bytes(range(100, 200)), None]
    assert await cache.get_columns([]) == []


async def test_nobody_else_fetches_what_is_claimed_once(cache, prefix):
    assert await cache.claim([f"{prefix}a", f"{prefix}b"]) == set()
    assert await cache.claim([]) == set()
