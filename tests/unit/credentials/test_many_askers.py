"""200 askers across 50 expiries: one refresh each, and nobody gets an error or anything dead."""

import asyncio
import threading

import pytest

ASKERS, EXPIRIES = 200, 50
WAYS = {
    "keys for a token": {"token_env": "TOKEN"},
    "keys for a password": {"username_env": "NAME", "password_env": "PASSWORD"},
}


@pytest.fixture(params=["one loop", "two loops"])
def run(request):
    """A function that runs the same work `ASKERS` times at once, in one event loop or half of it in another."""
    if request.param == "one loop":
        yield lambda work: asyncio.gather(*[work() for _ in range(ASKERS)])
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def run(work):
        here = [work() for _ in range(ASKERS // 2)]
        there = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop)) for _ in range(ASKERS // 2)
        ]
        return await asyncio.gather(*here, *there)

    yield run
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def asker(double, provider):
    """A read that needs keys which the store takes: one retry with others, as the chunk sources do."""

    async def ask():
        keys = await provider.for_url("s3://granules/x")
        if not double.good_key(keys.access_key_id, keys.session_token):
            keys = await provider.renew("s3://granules/x", keys)
        assert double.good_key(keys.access_key_id, keys.session_token)

    return ask


@pytest.mark.parametrize("way", WAYS)
async def test_keys_that_end_in_their_time(double, clock, open_one, run, way):
    provider = open_one(**WAYS[way])
    for expiry in range(EXPIRIES + 1):
        await run(asker(double, provider))
        assert double.count("s3credentials") == expiry + 1
        clock.advance(double.keys_lifetime)
    assert double.statuses("s3credentials") == {200: EXPIRIES + 1}


async def test_keys_that_die_early(double, clock, open_one, run):
    provider = open_one(token_env="TOKEN")
    for expiry in range(EXPIRIES + 1):
        await run(asker(double, provider))
        assert double.count("s3credentials") == expiry + 1
        clock.advance(31)
        double.expire_keys()


async def test_keys_that_are_renewed_while_all_go_on_reading(double, clock, open_one, run):
    provider = open_one(token_env="TOKEN")
    for expiry in range(EXPIRIES + 1):
        await run(asker(double, provider))
        flight = provider._keys._flight
        if flight is not None:
            await asyncio.wrap_future(flight)
        assert double.count("s3credentials") == expiry + 1
        # into the time when they are still good, and others are fetched
        clock.advance(double.keys_lifetime - 300)


async def test_tokens_that_die_early(double, clock, open_one, run):
    provider = open_one(kind="earthdata", username_env="NAME", password_env="PASSWORD")

    async def ask():
        token = await provider.for_url(double.granules_url)
        if not double.good_token(f"Bearer {token.token}"):
            token = await provider.renew(double.granules_url, token)
        assert double.good_token(f"Bearer {token.token}")

    for expiry in range(EXPIRIES + 1):
        await run(ask)
        assert double.count("login") == expiry + 1
        clock.advance(31)
        double.expire_tokens()


async def test_a_token_that_dies_takes_no_keys_with_it(double, clock, open_one, run):
    provider = open_one(username_env="NAME", password_env="PASSWORD")
    for expiry in range(EXPIRIES + 1):
        await run(asker(double, provider))
        refused = double.statuses("s3credentials")[302]
        assert (double.statuses("s3credentials")[200], refused) == (expiry + 1, expiry)
        assert double.count("login") == expiry + 1
        clock.advance(double.keys_lifetime)
        double.expire_tokens()
