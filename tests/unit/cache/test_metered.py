"""A metered cache counts what it is asked for, and changes nothing."""

import pytest

from cubegate.cache.cache import Column
from cubegate.cache.memory import MemoryCache
from cubegate.cache.metered import MeteredCache
from cubegate.cache.tiered import TieredCache
from cubegate.metrics.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def counted(metrics):
    """The numbers of one tier and kind: hits, misses, bytes read, bytes written."""

    def counted(tier, kind):
        names = ("hits", "misses", "read_bytes", "written_bytes")
        families = {family.name: family for family in metrics.collect()}
        return tuple(
            next(
                sample.value
                for sample in families[f"cubegate_cache_{name}"].samples
                if sample.labels == {"tier": tier, "kind": kind}
            )
            for name in names
        )

    return counted


@pytest.fixture
def cache(metrics):
    return MeteredCache(MemoryCache(10**6), metrics, "memory")


async def test_values_count_as_chunks(cache, counted):
    assert counted("memory", "chunk") == (0, 0, 0, 0)
    cache.put_many({"a": bytes(100), "b": bytes(20)})
    assert counted("memory", "chunk") == (0, 0, 0, 120)
    await cache.get_many(["a", "c", "b", "d", "e"])
    assert counted("memory", "chunk") == (2, 3, 120, 120)
    await cache.get_many([])
    assert counted("memory", "chunk") == (2, 3, 120, 120)
    assert counted("memory", "column") == (0, 0, 0, 0)


async def test_a_key_asked_twice_counts_once(cache, counted):
    cache.put_many({"a": bytes(100)})
    await cache.get_many(["a", "a", "b", "b"])
    assert counted("memory", "chunk") == (1, 1, 100, 100)


async def test_a_look_into_memory_is_a_hit_or_nothing(cache, counted):
    cache.put_many({"a": bytes(100)})
    assert cache.held("a") == bytes(100)
    assert cache.held("b") is None
    assert counted("memory", "chunk") == (1, 0, 100, 100)


async def test_columns_count_apart_from_the_blocks_that_hold_them(cache, counted):
    cache.put_blocks({"block": bytes(80)}, 8)
    await cache.get_columns([Column("block", 0, 8), Column("block", 9, 8), Column("absent", 0, 8)])
    assert counted("memory", "column") == (2, 1, 16, 80)
    assert counted("memory", "chunk") == (0, 0, 0, 0)


async def test_each_tier_counts_what_it_is_asked_for(metrics, counted):
    lower = MemoryCache(10**6)
    lower.put_many({"a": bytes(100)})
    cache = TieredCache(
        MeteredCache(MemoryCache(10**6), metrics, "memory"), MeteredCache(lower, metrics, "redis")
    )
    for _ in range(3):
        await cache.get_many(["a"])
    await cache.get_many(["b"])
    assert counted("memory", "chunk") == (2, 2, 200, 100)
    assert counted("redis", "chunk") == (1, 1, 100, 0)
