"""A slow, dead, full or lying Redis is a miss: never an error, never a wrong value."""

import asyncio
import gc
import random
import signal
import warnings

import pytest

from cubegate.cache.cache import Column
from cubegate.cache.redis import RedisCache
from cubegate.errors import ConfigurationError

ENTRIES = {f"k{n}": random.Random(n).randbytes(2000) for n in range(100)}


async def put(cache, entries):
    cache.put_many(entries)
    await cache.flush()


@pytest.fixture
async def open_cache():
    caches = []

    def open_one(url, **options):
        caches.append(RedisCache(url, **{"timeout": 10} | options))
        return caches[-1]

    yield open_one
    for cache in caches:
        await cache.aclose()


async def test_a_damaged_value_is_a_miss(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    await put(cache, ENTRIES)
    stored = server.client.get("k0")
    damaged = [stored[:-1], stored + b"x", stored[:20], b"", b"plain", stored[1:], bytes(len(stored))]
    damaged += [stored[:n] + bytes([stored[n] ^ 1]) + stored[n + 1 :] for n in range(0, len(stored), 13)]
    for value in damaged:
        server.client.set("k0", value)
        assert set(await cache.get_many(["k0", "k1"])) == {"k1"}
    server.client.set("k0", stored)
    assert (await cache.get_many(["k0"]))["k0"] == ENTRIES["k0"]


async def test_a_value_under_the_key_of_another_is_a_miss(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    await put(cache, ENTRIES)
    server.client.set("k0", server.client.get("k1"))
    assert await cache.get_many(["k0"]) == {}


async def test_a_key_of_another_type_is_a_miss_and_can_be_replaced(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    server.client.rpush("k0", "a", "list")
    assert await cache.get_many(["k0"]) == {}
    await put(cache, {"k0": b"value"})
    assert await cache.get_many(["k0"]) == {"k0": b"value"}


async def test_nothing_is_pickled(start_redis, open_cache):
    server = start_redis()
    await put(open_cache(server.url), {"k": b"value"})
    assert server.client.get("k").endswith(b"value")
    assert len(server.client.get("k")) == len(b"value") + 15


async def test_many_concurrent_reads_are_few_round_trips(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    for key, value in ENTRIES.items():
        cache.put_many({key: value})
    await cache.flush()
    found = await asyncio.gather(*(cache.get_many([key]) for key in ENTRIES))
    assert found == [{key: value} for key, value in ENTRIES.items()]
    commands = server.client.info("commandstats")
    assert commands["cmdstat_mget"]["calls"] == 3
    assert commands["cmdstat_mset"]["calls"] == 3


async def test_a_large_value_is_not_held(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    await put(cache, {"large": bytes(2**20 + 1), "fits": bytes(2**20)})
    assert set(await cache.get_many(["large", "fits"])) == {"fits"}
    assert server.client.keys() == [b"fits"]


async def test_a_killed_redis_is_a_miss_and_comes_back(start_redis, open_cache, tmp_path):
    server = start_redis()
    cache = open_cache(server.url, pause=0.05)
    await put(cache, ENTRIES)
    server.kill()
    assert await cache.get_many(list(ENTRIES)) == {}
    await put(cache, ENTRIES)
    server.path.unlink(missing_ok=True)
    server.process = type(server)(server.path.parent).process
    await asyncio.sleep(0.06)
    await put(cache, ENTRIES)
    assert await cache.get_many(list(ENTRIES)) == ENTRIES


async def test_a_stopped_redis_is_a_miss_and_then_left_alone(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url, timeout=0.2, pause=2)
    await put(cache, ENTRIES)
    server.send(signal.SIGSTOP)
    assert await asyncio.gather(*(cache.get_many([key]) for key in ENTRIES)) == [{}] * len(ENTRIES)
    server.send(signal.SIGCONT)
    assert await cache.get_many(["k0"]) == {}
    await asyncio.sleep(2.1)
    assert await cache.get_many(list(ENTRIES)) == ENTRIES


async def test_late_answers_are_never_taken_for_others(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url, timeout=0.2, pause=0.0)
    await put(cache, ENTRIES)
    for n in range(5):
        server.send(signal.SIGSTOP)
        assert await cache.get_many([f"k{n}"]) == {}
        server.send(signal.SIGCONT)
        assert await cache.get_many([f"k{n + 50}"]) == {f"k{n + 50}": ENTRIES[f"k{n + 50}"]}


async def test_a_full_redis_still_answers_reads(start_redis, open_cache):
    server = start_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    cache = open_cache(server.url)
    await put(cache, {"first": b"value"})
    for n in range(300):
        await put(cache, {f"fill{n}": bytes(50_000)})
    assert server.client.exists("fill299") == 0
    assert await cache.get_many(["first"]) == {"first": b"value"}


async def test_no_redis_at_all_is_a_miss(open_cache, tmp_path):
    for url in (f"unix://{tmp_path}/nobody", "redis://127.0.0.1:1/0"):
        cache = open_cache(url)
        assert await cache.get_many(["k"]) == {}
        await put(cache, {"k": b"v"})


async def test_a_server_that_is_no_redis_is_a_miss(open_cache):
    async def answer(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    cache = open_cache(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    assert await cache.get_many(["k"]) == {}
    await put(cache, {"k": b"v"})
    server.close()


async def test_a_wrong_password_is_a_miss(start_redis, open_cache):
    server = start_redis("--requirepass", "right")
    cache = open_cache(server.url)
    assert await cache.get_many(["k"]) == {}
    await put(cache, {"k": b"v"})


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", ""])
def test_what_is_no_redis_url_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError) as caught:
        RedisCache(url)
    assert caught.value.key == "cache.redis"


def test_the_representation_shows_no_password():
    assert "hidden" not in repr(RedisCache("redis://:hidden@localhost/0"))


def test_goes_on_after_an_event_loop_was_closed_behind_it(start_redis):
    server = start_redis()
    cache = RedisCache(server.url, timeout=10)

    async def put_and_get(*, close=False):
        await put(cache, {"k": b"v"})
        assert await cache.get_many(["k"]) == {"k": b"v"}
        if close:
            await cache.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(put_and_get())
        asyncio.run(put_and_get())
        asyncio.run(put_and_get(close=True))
        gc.collect()


async def test_writes_that_pile_up_are_dropped(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    for n in range(100):
        cache.put_many({f"big{n}": bytes(2**20)})
    await cache.flush()
    assert 0 < server.client.dbsize() <= 64


async def test_a_damaged_column_is_a_miss_and_its_neighbours_are_not(start_redis, open_cache):
    server = start_redis()
    cache = open_cache(server.url)
    block = random.Random(1).randbytes(400)
    cache.put_blocks({"b": block, "c": block}, 100)
    await cache.flush()
    columns = [Column("b", number, 100) for number in range(4)]
    stored = server.client.get("b")
    for position in range(104, 208, 7):
        damaged = bytes([*stored[:position], stored[position] ^ 4, *stored[position + 1 :]])
        server.client.set("b", damaged)
        assert await cache.get_columns(columns) == [block[:100], None, block[200:300], block[300:]]
    server.client.set("b", server.client.get("c"))
    assert await cache.get_columns(columns) == [None] * 4
    server.client.set("b", stored[104:] + stored[:104])
    assert await cache.get_columns(columns) == [None] * 4
    server.client.delete("b")
    server.client.rpush("b", "a", "list")
    assert await cache.get_columns([*columns, Column("c", 0, 100)]) == [None] * 4 + [block[:100]]


async def test_a_claim_keeps_another_process_from_fetching_for_a_while(start_redis, open_cache):
    server = start_redis()
    one, another = open_cache(server.url), open_cache(server.url)
    assert await one.claim(["a", "b"]) == set()
    assert await another.claim(["b", "c"]) == {"b"}
    assert 0 < server.client.pttl("a:claim") <= 2000


async def test_a_redis_that_runs_no_scripts_still_holds_values(start_redis, open_cache):
    server = start_redis("--rename-command", "EVAL", "")
    cache = open_cache(server.url)
    assert await cache.claim(["a"]) == set()
    await put(cache, ENTRIES)
    assert await cache.get_many(list(ENTRIES)) == ENTRIES


async def test_a_slow_redis_is_asked_once_and_then_left_alone(start_redis, open_cache):
    server = start_redis()
    asked = []

    async def delay(reader, writer):
        from_redis, to_redis = await asyncio.open_unix_connection(server.path)
        while data := await reader.read(65536):
            to_redis.write(data)
            if b"MGET" in data:
                asked.append(data)
                await asyncio.sleep(0.3)
            writer.write(await from_redis.read(65536))
        to_redis.close()
        writer.close()

    async with await asyncio.start_server(delay, "127.0.0.1", 0) as proxy:
        cache = open_cache(f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0", timeout=0.9)
        for _ in range(3):
            assert await cache.get_many(["k"]) == {}
        assert cache.paused
        assert len(asked) == 1
        await cache.aclose()
        await asyncio.sleep(0.05)
