"""Follows values through the tiers of a cache."""

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.cache.tiered import TieredCache


class Recorded(MemoryCache):
    def __init__(self):
        super().__init__(10**6)
        self.asked = []

    async def get_many(self, keys):
        self.asked.append(list(keys))
        return await super().get_many(keys)


@pytest.fixture
def tiers():
    return Recorded(), Recorded(), Recorded()


async def test_a_hit_below_fills_the_tiers_above_alone(tiers):
    tiers[1].put_many({"k": b"v"})
    assert await TieredCache(*tiers).get_many(["k"]) == {"k": b"v"}
    assert await tiers[0].get_many(["k"]) == {"k": b"v"}
    assert await tiers[2].get_many(["k"]) == {}


async def test_the_first_hit_wins_and_only_the_rest_is_asked_below(tiers):
    tiers[0].put_many({"a": b"first"})
    tiers[1].put_many({"a": b"second", "b": b"second"})
    tiers[2].put_many({"c": b"third"})
    found = await TieredCache(*tiers).get_many(["a", "b", "c"])
    assert found == {"a": b"first", "b": b"second", "c": b"third"}
    assert [tier.asked for tier in tiers] == [[["a", "b", "c"]], [["b", "c"]], [["c"]]]


async def test_nothing_below_is_asked_when_all_is_found(tiers):
    tiers[0].put_many({"a": b"first"})
    await TieredCache(*tiers).get_many(["a", "a"])
    assert tiers[1].asked == []


async def test_everything_put_goes_to_every_tier(tiers):
    TieredCache(*tiers).put_many({"a": b"v"})
    for tier in tiers:
        assert await tier.get_many(["a"]) == {"a": b"v"}
