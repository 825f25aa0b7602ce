"""A redirect to a signed URL costs once an object, while the signature lasts, and leaks nowhere."""

import asyncio
import logging
import time
from datetime import UTC, datetime

import pytest
from tests.earthdata_double.double import running_double

from cubegate.chunks.address import parse_address
from cubegate.chunks.signed_urls import SignedURLs, seconds_to_keep
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import BearerToken
from cubegate.errors import UpstreamDenied, UpstreamObjectMissing

DATA = bytes(range(256)) * 4
ORIGIN = parse_address("https://archive.example/granule.nc")


def signed(query="sig=1"):
    return parse_address(f"https://store.example/granule.nc?{query}")


class Token:
    """Gives a token of the double that is good at the time."""

    schemes = frozenset({"https"})

    def __init__(self, double):
        self.double = double

    async def for_url(self, url):
        return BearerToken(next(iter(self.double.tokens)))

    async def renew(self, url, rejected):
        return BearerToken(self.double.new_token())


@pytest.fixture
def double():
    with running_double({f"{n}.nc": DATA for n in range(3)}) as double:
        yield double


@pytest.fixture
def source(double, open_http):
    return open_http(double.granules_url, double.objects_url, credentials=Token(double))


@pytest.fixture
def read(source, double):
    """Reads ten bytes of an object."""

    async def run(number=0, offset=0):
        reference = ChunkReference(f"{double.granules_url}{number}.nc", offset, 10)
        assert await source.get(reference) == DATA[offset : offset + 10]

    return run


async def test_a_burst_of_chunks_is_redirected_once_a_granule(read, double):
    await asyncio.gather(*(read(n % 3, n) for n in range(60)))
    assert (double.count("granules"), double.count("objects")) == (3, 60)
    await asyncio.gather(*(read(n % 3, n) for n in range(60)))
    assert (double.count("granules"), double.count("objects")) == (3, 120)


async def test_the_token_never_goes_to_the_second_origin(read, source, double):
    await asyncio.gather(*(read(0, n) for n in range(5)))
    await source.stat(f"{double.granules_url}1.nc")
    assert len(double.authorized("granules")) == double.count("granules") == 2
    assert double.authorized("objects") == []


async def test_a_signature_that_ended_early_is_asked_for_anew_once(read, double):
    await read()
    double.expire_signatures()
    await asyncio.gather(*(read(0, n) for n in range(20)))
    assert double.count("granules") <= 3
    assert double.statuses("objects")[206] == 21
    double.forget()
    await read()
    assert (double.count("granules"), double.count("objects")) == (0, 1)


async def test_an_expired_address_is_not_used(read, double):
    double.signed_lifetime = 1.0
    await read()
    await asyncio.sleep(1.1)
    await read()
    assert double.count("granules") == 2
    assert double.statuses("objects") == {206: 2}


async def test_a_signed_address_that_was_refused_at_once_is_not_tried_again(
    start_server, open_http, response
):
    data = await start_server(lambda _: response(403))
    first = await start_server(lambda _: response(303, [f"Location: {data.url}/x?Signature=hidden"]))
    source = open_http(first.url, data.url)
    for requests in ((1, 1), (2, 2)):
        with pytest.raises(UpstreamDenied) as caught:
            await source.get(ChunkReference(f"{first.url}/x", 0, 10))
        assert (len(first.requests), len(data.requests)) == requests
        assert "hidden" not in str(caught.value)


async def test_a_missing_object_is_missing_only_where_the_origin_still_leads_to_it(read, double, source):
    await read()
    double.objects.pop("0.nc")
    with pytest.raises(UpstreamObjectMissing):
        await read()
    assert double.count("granules") == 2


async def test_objects_that_are_not_redirected_are_read_side_by_side(open_http, response):
    running, most = 0, 0
    whole = response(200, [], b"x")
    arrived = asyncio.Event()

    async def handle(reader, writer):
        nonlocal running, most
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            running += 1
            most = max(most, running)
            if most == 10:
                arrived.set()
            if first.is_set():
                await arrived.wait()
            running -= 1
            writer.write(whole)
        writer.close()

    first = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    source = open_http(url, credentials=FixedToken())
    await source.get(ChunkReference(f"{url}/x"))
    first.set()
    await asyncio.wait_for(
        asyncio.gather(*(source.get(ChunkReference(f"{url}/x")) for _ in range(10))), timeout=20
    )
    await source.aclose()
    server.close()


class FixedToken:
    schemes = frozenset({"https"})

    async def for_url(self, url):
        return BearerToken("token-value")


async def test_a_leading_read_that_fails_or_is_cancelled_holds_nobody_up(start_server, open_http, response):
    asked = asyncio.Event()

    def answer(request):
        # the first one is never answered
        if asked.is_set():
            return response(200, [], b"x")
        asked.set()
        return None

    server = await start_server(answer)
    source = open_http(server.url, credentials=FixedToken())
    leading = asyncio.ensure_future(source.get(ChunkReference(f"{server.url}/x")))
    await asked.wait()
    others = [asyncio.ensure_future(source.get(ChunkReference(f"{server.url}/x"))) for _ in range(5)]
    await asyncio.sleep(0)
    leading.cancel()
    assert await asyncio.wait_for(asyncio.gather(*others), timeout=20) == [b"x"] * 5


async def test_no_signature_shows_anywhere(read, source, double, caplog):
    caplog.set_level(logging.DEBUG)
    await read()
    double.expire_signatures()
    await read()
    double.failing["objects"] = 403
    with pytest.raises(UpstreamDenied) as caught:
        await read()
    address = source._signed.held(parse_address(f"{double.granules_url}0.nc"))
    shown = f"{caught.value!r} {source!r} {source._signed!r} {address!r} {address} {caplog.text}"
    assert double.secrets
    assert all(secret not in shown for secret in double.secrets)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("X-Amz-Date={iso}&X-Amz-Expires=3600&X-Amz-Signature=x", 3540),
        ("x-amz-date={iso}&x-amz-expires=100", 90),
        ("X-Goog-Date={iso}&X-Goog-Expires=3600", 3540),
        ("Expires={hour}&Signature=x&Key-Pair-Id=y", 3540),
        ("Expires={past}&Signature=x", -90),
        ("Expires=99999999999", 12 * 3600 - 60),
        ("sig=x", 270),
        ("X-Amz-Expires=3600", 270),
        ("X-Amz-Date=today&X-Amz-Expires=soon", 270),
        ("Expires=never", 270),
    ],
)
def test_how_long_an_address_is_kept(query, seconds):
    now = time.time()
    query = query.format(iso=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", hour=int(now + 3600), past=int(now - 100))
    assert seconds_to_keep(query) == pytest.approx(seconds, abs=3)


async def test_only_signed_addresses_are_kept():
    kept = SignedURLs(expected=False)
    for url in ("https://store.example/x", "http://store.example/x?sig=1", "https://s.example/x?Expires=1"):
        kept.remember(ORIGIN, parse_address(url))
        assert kept.held(ORIGIN) is None
    kept.remember(ORIGIN, signed())
    assert kept.held(ORIGIN) == signed()
    # another one took its place meanwhile
    kept.forget(ORIGIN, signed("sig=2"))
    assert kept.held(ORIGIN) == signed()
    kept.forget(ORIGIN, kept.held(ORIGIN))
    assert kept.held(ORIGIN) is None


async def test_those_that_were_not_used_for_longest_are_dropped(monkeypatch):
    monkeypatch.setattr("cubegate.chunks.signed_urls._HELD", 3)
    kept = SignedURLs(expected=False)
    origins = [parse_address(f"https://archive.example/{n}") for n in range(4)]
    for origin in origins[:3]:
        kept.remember(origin, signed())
    kept.held(origins[0])
    kept.remember(origins[3], signed())
    assert [kept.held(origin) is not None for origin in origins] == [True, False, True, True]
