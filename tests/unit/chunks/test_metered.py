"""A metered source counts reads, bytes, errors and what is in flight, and changes nothing."""

import asyncio

import pytest

from cubegate.chunks.metered import MeteredObjects, MeteredSource
from cubegate.chunks.retry import ShortBody
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamDenied, UpstreamObjectMissing
from cubegate.metrics.metrics import Metrics

MARKER = "marker-of-a-secret"


class Source:
    """Gives `length` bytes once it may, or raises what `error` holds."""

    def __init__(self):
        self.error = None
        self.may = asyncio.Event()
        self.closed = False

    async def get(self, reference):
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return bytes(reference.length)

    async def list(self, url):
        return [f"{url}/a"]

    async def aclose(self):
        self.closed = True


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def metered(source, metrics):
    return MeteredSource(source, metrics.upstream("s3://bucket"))


def counted(metrics):
    """What was counted: requests, bytes, errors by class, durations, reads in flight."""
    found = {
        sample.name: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.labels == {"upstream": "s3://bucket"}
    }
    kinds = {
        sample.labels["error"]: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "cubegate_upstream_errors_total"
    }
    return (
        found["cubegate_upstream_requests_total"],
        found["cubegate_upstream_read_bytes_total"],
        kinds,
        found["cubegate_upstream_request_duration_seconds_count"],
        found["cubegate_upstream_requests_in_flight"],
    )


def reference(length):
    return ChunkReference(f"s3://bucket/{MARKER}", 0, length)


async def test_reads_count_when_they_begin_and_bytes_when_they_are_there(metered, source, metrics):
    reads = [asyncio.create_task(metered.get(reference(length))) for length in (10, 200, 3000)]
    await asyncio.sleep(0)
    assert counted(metrics) == (3, 0, {}, 0, 3)
    source.may.set()
    assert [len(data) for data in await asyncio.gather(*reads)] == [10, 200, 3000]
    assert counted(metrics) == (3, 3210, {}, 3, 0)


async def test_errors_count_by_the_class_that_the_docs_give(metered, source, metrics):
    source.may.set()
    for source.error in (
        UpstreamDenied(MARKER),
        UpstreamObjectMissing(MARKER),
        ShortBody(MARKER),
        ShortBody(""),
    ):
        with pytest.raises(type(source.error)):
            await metered.get(reference(10))
    kinds = {"UpstreamDenied": 1, "UpstreamObjectMissing": 1, "UpstreamMismatch": 2}
    assert counted(metrics) == (4, 0, kinds, 4, 0)


async def test_a_cancelled_read_is_no_longer_in_flight_and_no_error(metered, metrics):
    read = asyncio.create_task(metered.get(reference(10)))
    await asyncio.sleep(0)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    assert counted(metrics) == (1, 0, {}, 0, 0)


async def test_an_unforeseen_error_leaves_nothing_in_flight(metered, source, metrics):
    source.may.set()
    source.error = RuntimeError(MARKER)
    with pytest.raises(RuntimeError):
        await metered.get(reference(10))
    assert counted(metrics) == (1, 0, {}, 0, 0)


async def test_no_path_and_no_message_is_shown(metered, source, metrics):
    source.may.set()
    await metered.get(reference(10))
    source.error = UpstreamDenied(MARKER)
    with pytest.raises(UpstreamDenied):
        await metered.get(reference(10))
    body, _ = metrics.exposition("")
    assert b"UpstreamDenied" in body
    assert MARKER.encode() not in body


async def test_an_object_source_lists_and_closes_as_before(source, metrics):
    objects = MeteredObjects(source, metrics.upstream("s3://bucket"))
    assert await objects.list("s3://bucket/x") == ["s3://bucket/x/a"]
    await objects.aclose()
    assert source.closed
    assert counted(metrics) == (0, 0, {}, 0, 0)
