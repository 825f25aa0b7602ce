"""What every source that reads many references together must do, beside what all sources do."""

import asyncio
import random

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.cache.redis import RedisCache
from cubegate.cache.tiered import TieredCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import UpstreamError, UpstreamObjectMissing, UpstreamRefused
from cubegate.settings import UpstreamSettings

WRAPPERS = ["coalesced", "single-flight", "cached", "cached-in-redis", "layered"]
KINDS = [(wrapper, "local") for wrapper in WRAPPERS] + [("layered", "http"), ("layered", "s3")]


@pytest.fixture
def objects(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(params=KINDS, ids="-".join)
async def bulk(request, folder, web_url, s3_endpoint, redis_url):
    """A source that reads many references together, and the address of its objects."""
    wrapper, kind = request.param
    url = {"local": folder.as_uri(), "http": web_url, "s3": "s3://open-data/cubes"}[kind]
    s3 = UpstreamSettings(anonymous=True, endpoint_url=s3_endpoint)
    upstreams = open_upstreams({url: s3 if kind == "s3" else UpstreamSettings()}, {})
    coalesced, memory = Coalesced(upstreams), MemoryCache(10**7)
    redis = RedisCache(redis_url, timeout=10)
    open_one = {
        "coalesced": lambda: coalesced,
        "single-flight": lambda: SingleFlight(coalesced),
        "cached": lambda: Cached(coalesced, memory, "1"),
        "cached-in-redis": lambda: Cached(coalesced, TieredCache(memory, redis), str(random.random())),
        "layered": lambda: SingleFlight(Cached(coalesced, memory, "1")),
    }
    yield open_one[wrapper](), url
    await redis.aclose()
    await upstreams.aclose()


async def outcomes(source, references):
    """What is delivered for each reference: once, in the loop that reads."""
    found, loop = {}, asyncio.get_running_loop()

    def deliver(position, outcome):
        assert asyncio.get_running_loop() is loop
        assert position not in found
        found[position] = outcome

    await source.read(references, deliver)
    assert set(found) == set(range(len(references)))
    return [found[position] for position in range(len(references))]


async def test_reads_many_references_together(bulk, objects):
    source, url = bulk
    chance, data = random.Random(5), objects["granule.nc"]
    ranges = [(chance.randrange(190_000), chance.randrange(9_000)) for _ in range(100)]
    references = [ChunkReference(f"{url}/granule.nc", *one) for one in [*ranges, *ranges[:10]]]
    due = [data[offset : offset + length] for offset, length in [*ranges, *ranges[:10]]]
    for name in objects:
        references.append(ChunkReference(f"{url}/{name}"))
        due.append(objects[name])
    for _ in range(2):
        order = chance.sample(range(len(references)), len(references))
        assert await outcomes(source, [references[n] for n in order]) == [due[n] for n in order]
    assert await outcomes(source, []) == []


async def test_each_reference_that_is_read_with_others_has_its_own_error(bulk, objects):
    source, url = bulk
    data = objects["granule.nc"]
    references = [
        ChunkReference(f"{url}/granule.nc", len(data) - 10, 10),
        ChunkReference(f"{url}/granule.nc", len(data) - 5, 6),
        ChunkReference(f"{url}/absent.nc", 0, 10),
        ChunkReference(f"{url}/absent.nc", 20, 10),
        ChunkReference(f"{url}/absent.nc"),
        ChunkReference(f"{url}-of-another-name/0", 0, 1),
        ChunkReference(f"{url}/granule.nc", -1, 10),
        ChunkReference(f"{url}/granule.nc", 0, -1),
        ChunkReference(f"{url}/granule.nc", 0, 10),
    ]
    for _ in range(2):
        found = await outcomes(source, references)
        assert (found[0], found[8]) == (data[-10:], data[:10])
        assert isinstance(found[1], UpstreamError)
        assert not isinstance(found[1], UpstreamObjectMissing)
        assert [type(outcome) for outcome in found[2:5]] == [UpstreamObjectMissing] * 3
        assert [type(outcome) for outcome in found[5:8]] == [UpstreamRefused] * 3


async def test_a_delivery_that_raises_ends_the_read(bulk):
    source, url = bulk
    error, calls = UpstreamError("enough"), []

    def refuse(position, outcome):
        calls.append(position)
        if len(calls) == 3:
            raise error

    references = [ChunkReference(f"{url}/granule.nc", n * 70_000, 10) for n in range(3)]
    references += [ChunkReference(f"{url}/store/v/0.0"), ChunkReference(f"{url}/store/.zgroup")]
    for _ in range(2):
        calls.clear()
        with pytest.raises(UpstreamError) as caught:
            await source.read(references, refuse)
        assert caught.value is error
        await asyncio.sleep(0.02)
        assert len(calls) == 3


async def test_a_read_that_is_left_delivers_nothing_more(bulk, objects):
    source, url = bulk
    calls = []
    references = [ChunkReference(f"{url}/granule.nc", n * 70_000, 10) for n in range(3)]
    reading = asyncio.create_task(source.read(references, lambda *call: calls.append(call)))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    found = len(calls)
    await asyncio.sleep(0.02)
    assert len(calls) == found
    data = objects["granule.nc"]
    assert await outcomes(source, references) == [data[n * 70_000 : n * 70_000 + 10] for n in range(3)]


async def test_many_reads_at_a_time_in_two_event_loops(bulk, objects, loop_thread):
    source, url = bulk
    data = objects["granule.nc"]

    async def read_some(seed):
        chance = random.Random(seed)
        offsets = [chance.randrange(40) * 4_000 for _ in range(30)]
        found = await outcomes(source, [ChunkReference(f"{url}/granule.nc", o, 500) for o in offsets])
        assert found == [data[offset : offset + 500] for offset in offsets]
        return len(found)

    async def read_all():
        return sum(await asyncio.gather(*map(read_some, range(10))))

    elsewhere = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read_all(), loop_thread))
    assert await asyncio.gather(read_all(), elsewhere) == [300, 300]


async def test_what_is_held_is_exact_and_known_without_waiting(bulk, objects):
    source, url = bulk
    data = objects["granule.nc"]
    references = [ChunkReference(f"{url}/granule.nc", n * 1000, 900) for n in range(10)]
    references += [ChunkReference(f"{url}/absent.nc", 0, 5), ChunkReference(f"{url}/granule.nc"),
                   ChunkReference(f"{url}/granule.nc", 3, 0), ChunkReference(f"{url}/granule.nc", 0, -1)]  # fmt: skip
    assert [source.held(reference) for reference in references] == [None] * len(references)
    await outcomes(source, references)
    held = [source.held(reference) for reference in references]
    assert held[10:] == [None] * 4
    assert held[:10] in ([None] * 10, [data[n * 1000 : n * 1000 + 900] for n in range(10)])
