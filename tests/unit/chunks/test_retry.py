"""Repeats reads as the upstream asks, within the deadline."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cubegate.chunks import retry
from cubegate.chunks.retry import AskedToWait, ShortBody, parse_retry_after, read_with_retries
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamDenied, UpstreamTimeout, UpstreamUnavailable


@pytest.fixture
def slept(monkeypatch):
    """The pauses that were made, which take no time."""
    pauses, here, wait = [], threading.current_thread(), asyncio.sleep

    async def sleep(seconds):
        # servers of other tests may live in threads of their own
        if threading.current_thread() is not here:
            return await wait(seconds)
        return pauses.append(seconds)

    monkeypatch.setattr(retry.asyncio, "sleep", sleep)
    return pauses


def failing(*errors):
    """A read that raises these in turn, and then gives its number."""
    remaining = list(errors)

    async def read(left):
        if remaining:
            raise remaining.pop(0)
        return len(errors) + 1

    return read


async def test_pauses_grow_and_are_not_all_alike(slept):
    for _ in range(20):
        read = failing(UpstreamUnavailable("away"), ShortBody("cut"))
        assert await read_with_retries(read, deadline=30, what="x") == 3
    first, second = slept[::2], slept[1::2]
    assert all(0.05 <= pause <= 0.15 for pause in first)
    assert all(0.2 <= pause <= 0.6 for pause in second)
    assert len(set(slept)) == 40


async def test_waits_as_long_as_it_is_asked_to(slept):
    read = failing(AskedToWait("busy", 7.0))
    assert await read_with_retries(read, deadline=30, what="x") == 2
    assert 7.05 <= slept[0] <= 7.15


async def test_a_wait_longer_than_the_deadline_ends_the_read_at_once(slept):
    with pytest.raises(UpstreamUnavailable, match="busy"):
        await read_with_retries(failing(AskedToWait("busy", 30.0)), deadline=30, what="x")
    assert slept == []


async def test_a_deadline_that_leaves_no_time_for_a_pause_has_passed(slept):
    with pytest.raises(UpstreamTimeout, match=r"within 0\.01 s"):
        await read_with_retries(failing(UpstreamUnavailable("away")), deadline=0.01, what="x")
    assert slept == []


async def test_a_refusal_is_not_tried_again(slept):
    with pytest.raises(UpstreamDenied):
        await read_with_retries(failing(UpstreamDenied("no")), deadline=30, what="x")
    assert slept == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3), (" 12 ", 12), ("0", 0), ("999999999999", 3600), ("", 0), ("soon", 0), ("-5", 0), ("1.5", 0), ("\u0663", 0)],
)  # fmt: skip
def test_reads_seconds(text, seconds):
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(60, 60), (-60, 0), (86400, 3600)])
def test_reads_dates(ahead, seconds):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    assert parse_retry_after(date) == pytest.approx(seconds, abs=3)


@pytest.mark.parametrize("status", [429, 503])
async def test_http_reads_wait_as_the_answer_says(start_server, open_http, response, slept, status):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    answers = [
        response(status, ["Retry-After: 3"]),
        response(status, [f"Retry-After: {date}"]),
        response(200, [], b"x"),
    ]
    server = await start_server(lambda _: answers.pop(0))
    assert await open_http(server.url).get(ChunkReference(f"{server.url}/x")) == b"x"
    assert 3 <= slept[0] <= 3.2
    assert 15 <= slept[1] <= 21
