"""Neighbouring ranges become one request; every asker still gets exactly its bytes, or its own error."""

import asyncio
import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cubegate.chunks.address import check_range
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.concurrency import all_of
from cubegate.chunks.source import ChunkReference
from cubegate.errors import (
    UpstreamChanged,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)

GAP, RUN = 40, 200
OBJECTS = {f"file:///{name}": random.Random(name).randbytes(1000) for name in "abc"}


class Upstream:
    """Byte-exact objects in memory; `broken` maps addresses to errors, and `order` shuffles the answers."""

    def __init__(self, order=0):
        self.requests = []
        self.broken = {}
        self.cancelled = 0
        self.gate = None
        self._random = random.Random(order)

    async def get(self, reference):
        check_range(reference)
        if reference.length == 0:
            return b""
        self.requests.append(reference)
        try:
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if reference.url in self.broken:
            raise self.broken[reference.url]
        if reference.url not in OBJECTS:
            raise UpstreamObjectMissing("no such object")
        data = OBJECTS[reference.url]
        if reference.length is None:
            return data
        if reference.offset + reference.length > len(data):
            raise UpstreamMismatch("past the end")
        return data[reference.offset : reference.offset + reference.length]


async def read(upstream, references):
    """The outcome of each reference, each of which was delivered once."""
    found = {}

    def deliver(position, outcome):
        assert position not in found
        found[position] = outcome

    await Coalesced(upstream, max_gap=GAP, max_run=RUN).read(references, deliver)
    assert set(found) == set(range(len(references)))
    return [found[position] for position in range(len(references))]


def due(reference):
    """The bytes of `reference`, or the class of its error."""
    try:
        check_range(reference)
    except UpstreamRefused:
        return UpstreamRefused
    if reference.length == 0:
        return b""
    if reference.url not in OBJECTS:
        return UpstreamObjectMissing
    data = OBJECTS[reference.url]
    if reference.length is None:
        return data
    stop = reference.offset + reference.length
    return data[reference.offset : stop] if stop <= len(data) else UpstreamMismatch


def as_due(outcomes):
    return [type(outcome) if isinstance(outcome, UpstreamError) else outcome for outcome in outcomes]


WHOLE = st.builds(ChunkReference, st.sampled_from([*OBJECTS, "file:///absent"]))
INSIDE = st.builds(ChunkReference, st.sampled_from(list(OBJECTS)), st.integers(0, 700), st.integers(1, 300))
SMALL = st.builds(ChunkReference, st.just("file:///a"), st.integers(0, 900), st.integers(1, 60))
OUTSIDE = st.builds(
    ChunkReference,
    st.sampled_from([*OBJECTS, "file:///absent"]),
    st.sampled_from([-5, -1, 0, 980, 999, 1000, 1010, 5000, 2**63 - 3]),
    st.sampled_from([-3, -1, 0, 1, 30, 100, 2**32]),
)


@given(
    references=st.lists(SMALL | INSIDE | WHOLE | OUTSIDE, max_size=40),
    repeated=st.lists(st.integers(0, 1000), max_size=10),
    order=st.integers(0, 1000),
)
@example([ChunkReference("file:///a", 10, -1), ChunkReference("file:///a", 0, 10)], [], 0)
@example([ChunkReference("file:///a", -1, 5), ChunkReference("file:///a", 0, 10)], [], 0)
@example([ChunkReference("file:///a", 2**63 - n, 5) for n in (7, 3)], [], 0)
def test_each_reference_gets_its_own_bytes_or_its_own_error_once(references, repeated, order):
    references += [references[n % len(references)] for n in repeated if references]
    outcomes = asyncio.run(read(Upstream(order), references))
    assert as_due(outcomes) == [due(reference) for reference in references]
    assert all(type(outcome) is bytes or isinstance(outcome, UpstreamError) for outcome in outcomes)


@given(
    references=st.lists(SMALL | INSIDE, max_size=60), whole=st.lists(WHOLE, max_size=3), order=st.randoms()
)
def test_requests_are_as_few_as_gap_and_run_allow_and_hold_nothing_else(references, whole, order):
    mixed = [*references, *whole]
    order.shuffle(mixed)
    upstream = Upstream()
    asyncio.run(read(upstream, mixed))
    ranges = [request for request in upstream.requests if request.length is not None]
    assert len(upstream.requests) - len(ranges) == len(whole)
    starts = {(reference.url, reference.offset) for reference in references}
    stops = {(reference.url, reference.offset + reference.length) for reference in references}
    for request in ranges:
        assert (request.url, request.offset) in starts
        assert (request.url, request.offset + request.length) in stops
        assert request.length <= RUN or request in references
    for url in OBJECTS:
        runs = sorted((r.offset, r.offset + r.length) for r in ranges if r.url == url)
        asked = [(r.offset, r.offset + r.length) for r in references if r.url == url]
        for (start, stop), (following, _) in itertools.pairwise(runs):
            ends = [last for first, last in asked if first == following]
            assert following - stop > GAP or max(ends) - start > RUN


@pytest.mark.parametrize(("gap", "requests"), [(0, 1), (GAP, 1), (GAP + 1, 2)])
async def test_the_gap_decides(gap, requests):
    upstream = Upstream()
    await read(upstream, [ChunkReference("file:///a", 0, 10), ChunkReference("file:///a", 10 + gap, 10)])
    assert len(upstream.requests) == requests


@pytest.mark.parametrize(("length", "requests"), [(RUN - 10, 1), (RUN - 9, 2)])
async def test_the_run_decides(length, requests):
    upstream = Upstream()
    await read(upstream, [ChunkReference("file:///a", 0, 10), ChunkReference("file:///a", 10, length)])
    assert len(upstream.requests) == requests


async def test_other_objects_are_other_requests():
    upstream = Upstream()
    await read(upstream, [ChunkReference(url, 0, 10) for url in OBJECTS] * 3)
    assert len(upstream.requests) == 3


async def test_a_whole_object_beside_its_ranges_does_not_divide_them():
    upstream = Upstream()
    url = "file:///a"
    references = [ChunkReference(url, 0, 10), ChunkReference(url), ChunkReference(url, 10, 10)]
    assert await read(upstream, references) == [due(reference) for reference in references]
    assert len(upstream.requests) == 2


async def test_reading_begins_with_what_was_asked_for_first():
    upstream = Upstream()
    upstream.gate = asyncio.Event()
    upstream.gate.set()
    offsets = [900, 300, 600, 0]
    await read(upstream, [ChunkReference("file:///a", offset, 10) for offset in offsets])
    assert [request.offset for request in upstream.requests] == offsets


async def test_one_range_past_the_end_fails_alone():
    upstream = Upstream()
    references = [ChunkReference("file:///a", 900 + 20 * n, 20) for n in range(6)]
    outcomes = await read(upstream, references)
    assert outcomes[:5] == [OBJECTS["file:///a"][900 + 20 * n : 920 + 20 * n] for n in range(5)]
    assert isinstance(outcomes[5], UpstreamMismatch)
    assert upstream.requests[0].length == 120
    assert sorted(upstream.requests[1:], key=lambda r: r.offset) == references


async def test_a_missing_object_is_asked_for_once():
    upstream = Upstream()
    outcomes = await read(upstream, [ChunkReference("file:///absent", 20 * n, 10) for n in range(5)])
    assert [type(outcome) for outcome in outcomes] == [UpstreamObjectMissing] * 5
    assert len(upstream.requests) == 1


async def test_an_object_that_is_not_available_does_not_take_others_with_it():
    upstream = Upstream()
    upstream.broken["file:///b"] = UpstreamUnavailable("down")
    references = [ChunkReference(url, 20 * n, 10) for n in range(5) for url in OBJECTS]
    outcomes = await read(upstream, references)
    failed = [UpstreamUnavailable if r.url == "file:///b" else due(r) for r in references]
    assert as_due(outcomes) == failed
    assert len(upstream.requests) == 3


async def test_zero_bytes_contact_nobody_whatever_is_asked_for_beside_them():
    upstream = Upstream()
    upstream.broken["file:///b"] = UpstreamUnavailable("down")
    references = [ChunkReference("file:///b", 20, 10), ChunkReference("file:///b", 20, 0),
                  ChunkReference("file:///b", 0, 0)]  # fmt: skip
    assert as_due(await read(upstream, references)) == [UpstreamUnavailable, b"", b""]
    assert upstream.requests == references[:1]


async def test_nothing_is_delivered_of_nothing():
    assert await read(Upstream(), []) == []


@pytest.mark.parametrize("error", [UpstreamError("enough"), KeyError("a defect")])
async def test_a_delivery_that_is_refused_ends_the_read_and_the_others(error):
    upstream, calls = Upstream(), []
    slow = Upstream()
    slow.gate = asyncio.Event()

    class Mixed:
        async def get(self, reference):
            return await (upstream if reference.url == "file:///a" else slow).get(reference)

    def refuse(position, outcome):
        calls.append(position)
        raise error

    references = [ChunkReference(url, 0, 10) for url in ("file:///b", "file:///a", "file:///c")]
    with pytest.raises(type(error)) as caught:
        await Coalesced(Mixed()).read(references, refuse)
    assert caught.value is error
    assert calls == [1]
    assert slow.cancelled == 2


@given(count=st.integers(2, 30), refused=st.integers(0, 29))
def test_nothing_is_delivered_after_a_refusal_not_even_what_came_at_the_same_time(count, refused):
    upstream, calls = Upstream(), []
    refused %= count

    def refuse(position, outcome):
        calls.append(position)
        if len(calls) > refused:
            raise UpstreamError("enough")

    async def scenario():
        upstream.gate = asyncio.Event()
        references = [ChunkReference("file:///a", n, 1) for n in range(count)]
        reading = asyncio.ensure_future(Coalesced(upstream, max_gap=-1).read(references, refuse))
        while len(upstream.requests) < count:  # noqa: ASYNC110 - the source has nobody to tell
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        upstream.gate.set()
        with pytest.raises(UpstreamError, match="enough"):
            await reading

    asyncio.run(scenario())
    assert len(calls) == refused + 1


async def test_a_defect_of_the_source_ends_the_read_and_the_others():
    upstream = Upstream()
    upstream.broken["file:///b"] = KeyError("a defect")
    slow = Upstream()
    slow.gate = asyncio.Event()

    class Mixed:
        async def get(self, reference):
            return await (slow if reference.url == "file:///a" else upstream).get(reference)

    with pytest.raises(KeyError):
        await read(Mixed(), [ChunkReference(url, 0, 10) for url in ("file:///a", "file:///b")])
    assert slow.cancelled == 1


@pytest.mark.parametrize("urls", [["file:///a"], list(OBJECTS)])
async def test_cancelling_the_read_cancels_all_requests(urls):
    upstream = Upstream()
    upstream.gate = asyncio.Event()
    reading = asyncio.ensure_future(read(upstream, [ChunkReference(url, 0, 10) for url in urls]))
    while len(upstream.requests) < len(urls):  # noqa: ASYNC110 - the source has nobody to tell
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert upstream.cancelled == len(urls)


async def test_the_first_error_of_several_is_raised_and_the_others_are_quiet(caplog):
    async def fail(error):
        raise error

    first, second = KeyError("first"), KeyError("second")
    with pytest.raises(KeyError) as caught:
        await all_of([fail(first), fail(second)])
    assert caught.value is first
    assert caplog.records == []


async def test_ranges_of_what_is_known_by_another_validator_are_not_joined():
    upstream = Upstream()
    references = [
        ChunkReference("file:///a", 10 * n, 10, validator=validator)
        for n, validator in enumerate(['"one"', '"two"', '"one"', None, '"two"', None])
    ]
    assert await read(upstream, references) == [due(reference) for reference in references]
    asked = {(request.offset, request.length, request.validator) for request in upstream.requests}
    assert asked == {(0, 30, '"one"'), (10, 40, '"two"'), (30, 30, None)}


async def test_of_a_replaced_object_all_ranges_have_the_error_and_none_is_asked_for_again():
    upstream = Upstream()
    error = upstream.broken["file:///a"] = UpstreamChanged("replaced")
    references = [ChunkReference("file:///a", 10 * n, 10, validator='"old"') for n in range(5)]
    assert await read(upstream, references) == [error] * 5
    assert len(upstream.requests) == 1


async def test_one_range_alone_is_asked_for_as_it_is():
    upstream = Upstream()
    reference = ChunkReference("file:///a", 10, 10, validator='"one"', crc32=7)
    await read(upstream, [reference])
    assert upstream.requests == [reference]
