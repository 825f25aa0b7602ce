"""Holds the memory cache to its bounds."""

import threading

from cubegate.cache.memory import MemoryCache


async def test_never_holds_more_than_its_bytes_and_drops_the_oldest_first():
    cache = MemoryCache(10_000)
    for n in range(100):
        cache.put_many({f"{n:03}": bytes(997)})
        assert cache.nbytes <= 10_000
    assert list(await cache.get_many([f"{n:03}" for n in range(100)])) == [f"{n:03}" for n in range(90, 100)]


async def test_what_was_read_lately_stays():
    cache = MemoryCache(10_000)
    cache.put_many({f"{n}": bytes(999) for n in range(10)})
    await cache.get_many(["0"])
    cache.put_many({"a": bytes(999)})
    assert set(await cache.get_many(["0", "1"])) == {"0"}


async def test_replacing_an_entry_is_counted_once():
    cache = MemoryCache(10_000)
    for size in (1000, 500, 200):
        cache.put_many({"k": bytes(size)})
    assert cache.nbytes == 201


async def test_an_entry_of_more_than_an_eighth_is_not_held_and_replaces_the_old_one():
    cache = MemoryCache(8000)
    cache.put_many({"k": bytes(999)})
    assert len((await cache.get_many(["k"]))["k"]) == 999
    cache.put_many({"k": bytes(1000), "l": bytes(100)})
    assert set(await cache.get_many(["k", "l"])) == {"l"}


async def test_empty_values_take_room_too():
    cache = MemoryCache(1000)
    cache.put_many({f"{n:010}": b"" for n in range(1000)})
    assert len(await cache.get_many([f"{n:010}" for n in range(1000)])) == 100


async def test_no_room_holds_nothing():
    cache = MemoryCache(0)
    cache.put_many({"k": b"", "l": b"x"})
    assert await cache.get_many(["k", "l"]) == {}


async def test_closing_drops_everything():
    cache = MemoryCache(1000)
    cache.put_many({"k": b"x"})
    await cache.aclose()
    assert cache.nbytes == 0
    assert await cache.get_many(["k"]) == {}


def test_threads_do_not_spoil_the_count():
    cache = MemoryCache(50_000)

    def work(seed):
        for n in range(2000):
            cache.put_many({str((n * seed) % 97): bytes(n % 700)})
            cache.held(str(n % 97))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.nbytes == sum(len(key) + len(value) for key, value in cache._entries.items()) <= 50_000
