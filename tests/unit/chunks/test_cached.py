"""Counts what reaches the upstream behind a cache, and distrusts what the cache holds."""

import zlib

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamUnavailable

DATA = bytes(range(256))


class Counted:
    def __init__(self):
        self.references = []
        self.error = None

    async def get(self, reference):
        self.references.append(reference)
        if self.error:
            raise self.error
        return (
            DATA if reference.length is None else DATA[reference.offset : reference.offset + reference.length]
        )


@pytest.fixture
def upstream():
    return Counted()


@pytest.fixture
def cache():
    return MemoryCache(10**6)


async def test_the_second_read_is_answered_by_the_cache(upstream, cache):
    cached = Cached(Coalesced(upstream), cache, "v1")
    for _ in range(3):
        assert await cached.get(ChunkReference("file:///x", 5, 10)) == DATA[5:15]
    assert len(upstream.references) == 1


async def test_url_offset_length_and_namespace_are_all_part_of_the_key(upstream, cache):
    references = [ChunkReference("file:///x", 5, 10), ChunkReference("file:///x", 5, 11),
                  ChunkReference("file:///x", 6, 10), ChunkReference("file:///y", 5, 10)]  # fmt: skip
    for namespace in ("v1", "v2"):
        cached = Cached(Coalesced(upstream), cache, namespace)
        for reference in references:
            assert await cached.get(reference) == DATA[reference.offset : reference.offset + reference.length]
    assert len(upstream.references) == 8


async def test_whole_objects_and_failures_are_not_kept(upstream, cache):
    cached = Cached(Coalesced(upstream), cache, "v1")
    for _ in range(2):
        assert await cached.get(ChunkReference("file:///x")) == DATA
    upstream.error = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await cached.get(ChunkReference("file:///x", 0, 4))
    assert cache.nbytes == 0
    upstream.error = None
    assert await cached.get(ChunkReference("file:///x", 0, 4)) == DATA[:4]


async def test_whole_objects_are_kept_by_their_checksum(upstream, cache):
    cached = Cached(Coalesced(upstream), cache, "v1")
    reference = ChunkReference("file:///x", crc32=zlib.crc32(DATA))
    for _ in range(2):
        assert await cached.get(reference) == DATA
    assert len(upstream.references) == 1
    assert cached.held(reference) == DATA
    for key in list(cache._entries):
        cache.put_many({key: DATA[:-1]})
    assert cached.held(reference) is None
    assert await cached.get(reference) == DATA
    assert len(upstream.references) == 2


async def test_a_held_value_of_another_length_is_a_miss(upstream, cache):
    cached = Cached(Coalesced(upstream), cache, "v1")
    reference = ChunkReference("file:///x", 0, 4)
    await cached.get(reference)
    (key,) = cache._entries
    cache.put_many({key: b"123"})
    assert await cached.get(reference) == DATA[:4]
    assert await cache.get_many([key]) == {key: DATA[:4]}


async def test_keys_show_neither_the_address_nor_its_query(upstream, cache):
    cached = Cached(Coalesced(upstream), cache, "v1")
    await cached.get(ChunkReference("https://host/x?sig=hidden", 0, 4))
    (key,) = cache._entries
    assert "host" not in key
    assert "hidden" not in key
