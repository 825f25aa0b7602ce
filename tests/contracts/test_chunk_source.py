"""What every chunk source and object source must do."""

import asyncio
import random
import re

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.address import AllowList, parse_address
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.metered import MeteredObjects
from cubegate.chunks.object_store import S3Objects
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import UpstreamChanged, UpstreamError, UpstreamObjectMissing, UpstreamRefused
from cubegate.metrics.metrics import Metrics
from cubegate.settings import UpstreamSettings

SOURCES = [
    "local",
    "http",
    "s3",
    "upstreams-local",
    "upstreams-http",
    "upstreams-s3",
    "coalesced",
    "single-flight",
    "cached",
    "layered",
    "metered",
]


@pytest.fixture
def addresses(folder, web_url):
    return {"local": folder.as_uri(), "http": web_url, "s3": "s3://open-data/cubes"}


@pytest.fixture
def open_source(addresses, s3_endpoint):
    s3 = UpstreamSettings(anonymous=True, endpoint_url=s3_endpoint)
    settings = {url: s3 if kind == "s3" else UpstreamSettings() for kind, url in addresses.items()}

    def wrappers(local):
        return {
            "coalesced": lambda: Coalesced(local),
            "single-flight": lambda: SingleFlight(Coalesced(local)),
            "cached": lambda: Cached(Coalesced(local), MemoryCache(10**7), "1"),
            "layered": lambda: SingleFlight(Cached(Coalesced(local), MemoryCache(10**7), "1")),
            "metered": lambda: MeteredObjects(local, Metrics().upstream("file://")),
            "local": lambda: local,
        }

    def open_one(kind):
        wrapper, _, inner = kind.rpartition("-")
        if wrapper == "upstreams":
            return open_upstreams(settings, {}), addresses[inner]
        if kind in {"http", "s3"}:
            prefix = parse_address(addresses[kind])
            open_remote = {
                "http": lambda: HTTPObjects(prefix, AllowList([prefix])),
                "s3": lambda: S3Objects(prefix, endpoint_url=s3_endpoint),
            }
            return open_remote[kind](), addresses[kind]
        local = LocalFiles(parse_address(addresses["local"]))
        return wrappers(local)[kind](), addresses["local"]

    return open_one


@pytest.fixture(params=SOURCES)
async def upstream(request, open_source):
    source, url = open_source(request.param)
    yield source, url
    if hasattr(source, "aclose"):
        await source.aclose()


@pytest.fixture
def objects(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def test_returns_exactly_the_range(upstream, objects):
    source, url = upstream
    data = objects["granule.nc"]
    ranges = [(0, 1), (0, len(data)), (len(data) - 1, 1), (4096, 65536)]
    ranges += [(start, random.Random(start).randrange(1, 5000)) for start in range(0, 190_000, 12_345)]
    for offset, length in ranges:
        got = await source.get(ChunkReference(f"{url}/granule.nc", offset, length))
        assert type(got) is bytes
        assert got == data[offset : offset + length]


async def test_returns_the_whole_object(upstream, objects):
    source, url = upstream
    for name in ("granule.nc", "empty.bin", "store/.zgroup", "store/v/a b+c=é.bin"):
        assert await source.get(ChunkReference(f"{url}/{name}")) == objects[name]


async def test_says_definitely_that_an_object_is_missing(upstream):
    source, url = upstream
    for reference in (
        ChunkReference(f"{url}/absent.nc"),
        ChunkReference(f"{url}/absent.nc", 10, 10),
        ChunkReference(f"{url}/granule.nc/0.0"),
        ChunkReference(f"{url}/absent/0.0", 0, 1),
    ):
        with pytest.raises(UpstreamObjectMissing):
            await source.get(reference)


async def test_a_range_past_the_end_is_an_error_and_never_short_or_missing(upstream, objects):
    source, url = upstream
    size = len(objects["granule.nc"])
    for offset, length in [(size - 5, 10), (size, 1), (size + 100, 10), (0, size + 1)]:
        with pytest.raises(UpstreamError) as caught:
            await source.get(ChunkReference(f"{url}/granule.nc", offset, length))
        assert not isinstance(caught.value, UpstreamObjectMissing)


async def test_zero_bytes_are_read_without_contacting_anyone(upstream):
    source, url = upstream
    assert await source.get(ChunkReference(f"{url}/absent.nc", 7, 0)) == b""


@pytest.mark.parametrize(
    ("offset", "length"), [(-1, 10), (0, -1), (2**63, 1), (2**63 - 5, 10), (0, 2**40), (5, None)]
)
async def test_refuses_impossible_ranges(upstream, offset, length):
    source, url = upstream
    with pytest.raises(UpstreamRefused):
        await source.get(ChunkReference(f"{url}/granule.nc", offset, length))


async def test_refuses_what_lies_outside_its_prefix(upstream):
    source, url = upstream
    parent = url.rpartition("/")[0]
    for address in (
        f"{url}-of-another-name/0",
        f"{parent}/other/0",
        f"{url}/../granule.nc",
        "gopher://host/x",
    ):
        with pytest.raises(UpstreamRefused):
            await source.get(ChunkReference(address, 0, 1))


async def test_serves_many_reads_at_a_time(upstream, objects):
    source, url = upstream
    data = objects["granule.nc"]
    references = [ChunkReference(f"{url}/granule.nc", (n % 50) * 1000, 1000) for n in range(200)]
    blocks = await asyncio.gather(*map(source.get, references))
    assert blocks == [data[r.offset : r.offset + 1000] for r in references]


async def test_serves_two_event_loops_at_the_same_time(upstream, objects, loop_thread):
    source, url = upstream
    data = objects["granule.nc"]
    references = [ChunkReference(f"{url}/granule.nc", n * 100, 50) for n in range(40)]

    async def read_all():
        return await asyncio.gather(*map(source.get, references))

    elsewhere = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read_all(), loop_thread))
    for blocks in await asyncio.gather(read_all(), elsewhere):
        assert blocks == [data[r.offset : r.offset + 50] for r in references]


@pytest.fixture(
    params=["local", "http", "s3", "upstreams-local", "upstreams-http", "upstreams-s3", "metered"]
)
async def object_source(request, open_source):
    source, url = open_source(request.param)
    yield source, url
    await source.aclose()


async def test_tells_what_an_object_is_known_by_and_its_size(object_source, objects):
    source, url = object_source
    for name in ("granule.nc", "empty.bin", "store/v/a b+c=é.bin"):
        state = await source.stat(f"{url}/{name}")
        assert state.nbytes == len(objects[name])
        # a server that refuses the range of an empty object may not say what it is known by
        assert re.fullmatch(r'"[^"]+"', state.validator or ('"-"' if name == "empty.bin" else ""))
    assert await source.stat(f"{url}/granule.nc") == await source.stat(f"{url}/granule.nc")
    with pytest.raises(UpstreamObjectMissing):
        await source.stat(f"{url}/absent.nc")
    with pytest.raises(UpstreamRefused):
        await source.stat(f"{url}-of-another-name/0")


async def test_reads_an_object_that_is_still_the_same(object_source, objects):
    source, url = object_source
    address = f"{url}/granule.nc"
    validator = (await source.stat(address)).validator
    data = objects["granule.nc"]
    assert await source.get(ChunkReference(address, 100, 50, validator)) == data[100:150]
    assert await source.get(ChunkReference(address, validator=validator)) == data


@pytest.mark.parametrize("length", [50, None])
async def test_an_object_that_is_another_one_by_now_is_an_error_that_says_so(object_source, length):
    source, url = object_source
    reference = ChunkReference(f"{url}/granule.nc", 0, length, '"of-before"')
    with pytest.raises(UpstreamChanged, match=r"replaced since.*Build the index again"):
        await source.get(reference)


@pytest.mark.parametrize("validator", ["W/" + '"weak"', "no date", '"a"\r\nX: y', '"', ""])
async def test_refuses_what_nothing_can_be_known_by(object_source, validator):
    source, url = object_source
    with pytest.raises(UpstreamError):
        await source.get(ChunkReference(f"{url}/granule.nc", 0, 10, validator))


@pytest.fixture(params=["local", "s3", "upstreams-local", "upstreams-s3", "metered"])
async def listable(request, open_source):
    source, url = open_source(request.param)
    yield source, url
    await source.aclose()


async def test_lists_all_objects_below_an_address(listable, objects):
    source, url = listable
    assert await source.list(url) == sorted(f"{url}/{name}" for name in objects)
    below = sorted(f"{url}/{name}" for name in objects if name.startswith("store/"))
    assert await source.list(f"{url}/store") == below
    assert await source.list(f"{url}/store/") == below
    assert await source.list(f"{url}/absent") == []


async def test_what_is_listed_can_be_read(listable, objects):
    source, url = listable
    for address in await source.list(f"{url}/store"):
        assert await source.get(ChunkReference(address)) == objects[address.removeprefix(f"{url}/")]


async def test_refuses_to_list_what_lies_outside(listable):
    source, url = listable
    with pytest.raises(UpstreamRefused):
        await source.list(url.rpartition("/")[0])


@pytest.mark.parametrize("kind", ["http", "upstreams-http"])
async def test_plain_http_has_no_listing(open_source, kind):
    source, url = open_source(kind)
    with pytest.raises(UpstreamError, match="no listing"):
        await source.list(url)
    await source.aclose()
