"""What is delivered has the checksum of its reference; what has not is read once more, and never kept."""

import asyncio
import logging
import random
import zlib

import pytest

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.verified import Verified, checksum
from cubegate.errors import CorruptChunk, UpstreamError, UpstreamUnavailable

DATA = random.Random(1).randbytes(5000)
URL = "https://data.example/granule.nc?signature=token-value"


class Upstream:
    """Objects in memory, of which the next reads of some bytes come with one of them flipped."""

    def __init__(self):
        self.flips = {}
        self.reads = 0
        self.problem = None

    async def get(self, reference):
        self.reads += 1
        if self.problem is not None:
            raise self.problem
        data = bytearray(DATA)
        for position, times in list(self.flips.items()):
            if reference.length is None or 0 <= position - reference.offset < reference.length:
                data[position] ^= 1
                self.flips[position] = times - 1
                if times == 1:
                    del self.flips[position]
        if reference.length is None:
            return bytes(data)
        return bytes(data[reference.offset : reference.offset + reference.length])


def chunk(offset, length=100, **more):
    part = DATA if length is None else DATA[offset : offset + length]
    return ChunkReference(URL, offset, length, **({"crc32": zlib.crc32(part)} | more))


async def outcomes(source, references):
    found = {}

    def deliver(position, outcome):
        assert position not in found
        found[position] = outcome

    await source.read(references, deliver)
    return [found[position] for position in range(len(references))]


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
def verified(upstream):
    return Verified(Coalesced(upstream, max_gap=0, max_run=1000))


def test_the_checksum_is_the_crc32_of_everybody():
    for data in (b"", b"a", DATA, bytes(10**6)):
        assert checksum(data) == zlib.crc32(data)


async def test_right_bytes_pass_at_the_price_of_one_read(verified, upstream, caplog):
    references = [*(chunk(100 * n) for n in range(5)), chunk(0, None), chunk(700, crc32=None)]
    assert await outcomes(verified, references) == [
        *(DATA[100 * n : 100 * n + 100] for n in range(5)), DATA, DATA[700:800],
    ]  # fmt: skip
    assert upstream.reads == 3
    assert await verified.get(references[0]) == DATA[:100]
    assert caplog.records == []


@pytest.mark.parametrize("length", [100, None])
async def test_a_byte_that_flips_once_costs_a_second_read(verified, upstream, caplog, length):
    upstream.flips[50] = 1
    with caplog.at_level(logging.WARNING):
        assert await outcomes(verified, [chunk(0, length), chunk(1000)]) == [DATA[:length], DATA[1000:1100]]
    assert upstream.reads == 3
    (record,) = caplog.records
    assert "right when read again" in record.getMessage()
    assert "token-value" not in record.getMessage()


async def test_bytes_that_stay_wrong_are_an_error_of_that_chunk_alone(verified, upstream):
    upstream.flips[150] = 99
    outcome = await outcomes(verified, [chunk(100 * n) for n in range(5)])
    assert [type(one) for one in outcome] == [bytes, CorruptChunk, bytes, bytes, bytes]
    assert "granule.nc at 100+100" in str(outcome[1])
    assert "Build the index again" in str(outcome[1])
    assert "token-value" not in str(outcome[1])
    # all five by one request, and the wrong one once more
    assert upstream.reads == 2
    with pytest.raises(CorruptChunk):
        await verified.get(chunk(100))


async def test_without_a_checksum_nobody_can_tell(verified, upstream):
    upstream.flips[50] = 1
    assert await verified.get(chunk(0, crc32=None)) != DATA[:100]
    assert upstream.reads == 1


async def test_a_second_read_that_fails_has_its_own_error(verified, upstream):
    upstream.flips[50] = 1
    whole, wanted = upstream.get, UpstreamUnavailable("gone")

    async def once(reference):
        data = await whole(reference)
        upstream.problem = wanted
        return data

    upstream.get = once
    assert await outcomes(verified, [chunk(0)]) == [wanted]


async def test_errors_pass(verified, upstream):
    upstream.problem = UpstreamUnavailable("gone")
    assert await outcomes(verified, [chunk(0), chunk(2000)]) == [upstream.problem] * 2


async def test_nothing_is_delivered_after_a_refusal(verified, upstream):
    upstream.flips = {50: 99, 2050: 99}
    calls = []

    def refuse(position, outcome):
        calls.append(position)
        raise UpstreamError("enough")

    with pytest.raises(UpstreamError, match="enough"):
        await verified.read([chunk(0), chunk(2000)], refuse)
    assert len(calls) == 1


async def test_nothing_wrong_is_kept_and_nobody_shares_it(upstream):
    cache = MemoryCache(10**6)
    source = SingleFlight(Cached(Verified(Coalesced(upstream)), cache, "1"))
    upstream.flips[50] = 99
    results = await asyncio.gather(*(source.get(chunk(0)) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {CorruptChunk}
    assert cache.nbytes == 0
    assert source.held(chunk(0)) is None
    upstream.flips.clear()
    assert await source.get(chunk(0)) == DATA[:100]
    assert source.held(chunk(0)) == DATA[:100]


async def test_what_the_source_holds_is_held_to_the_checksum_too(upstream):
    below = Cached(Coalesced(upstream), MemoryCache(10**6), "1")
    verified = Verified(below)
    assert verified.held(chunk(0)) is None
    assert await verified.get(chunk(0)) == DATA[:100]
    assert verified.held(chunk(0)) == DATA[:100]
    assert verified.held(chunk(0, crc32=1)) is None
