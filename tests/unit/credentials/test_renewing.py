"""Values that end are fetched once for all, in good time, and not again and again where that fails."""

import asyncio
import logging
import threading

import pytest

from cubegate.credentials.renewing import Lease, Renewing
from cubegate.errors import UpstreamDenied, UpstreamUnavailable

HOUR = 3600.0


class Upstream:
    """Counts fetches; each gives the next number, waits while it is `held`, or fails with `error`."""

    def __init__(self, clock):
        self.clock = clock
        self.fetches, self.rejected = 0, []
        self.error, self.lifetime, self.value = None, HOUR, None
        self.free = threading.Event()
        self.free.set()

    async def fetch(self, rejected):
        self.fetches += 1
        self.rejected.append(rejected)
        await asyncio.to_thread(self.free.wait, 30)
        if self.error is not None:
            raise self.error
        value = self.fetches if self.value is None else self.value
        return Lease(value, self.clock() + self.lifetime)


@pytest.fixture
def upstream(clock):
    return Upstream(clock)


@pytest.fixture
def renewing(upstream, clock):
    return Renewing("ours", upstream.fetch, refused=lambda: UpstreamDenied("Even the new ones."), clock=clock)


async def landed(renewing):
    """Wait until no fetch runs."""
    flight = renewing._flight
    if flight is not None:
        await asyncio.wrap_future(flight)


@pytest.mark.parametrize(
    ("lifetime", "left"), [(HOUR, 600.0), (1200.0, 300.0), (10 * HOUR, 600.0), (60.0, 15.0)]
)
async def test_it_is_renewed_in_the_background_well_before_its_end(renewing, upstream, clock, lifetime, left):
    upstream.lifetime = lifetime
    assert await renewing.get() == 1
    clock.advance(lifetime - left - 1)
    assert await renewing.get() == 1
    assert upstream.fetches == 1
    clock.advance(1)
    upstream.free.clear()
    assert [await renewing.get() for _ in range(5)] == [1] * 5
    upstream.free.set()
    await landed(renewing)
    assert (await renewing.get(), upstream.fetches) == (2, 2)


async def test_who_comes_after_the_end_waits(renewing, upstream, clock):
    await renewing.get()
    clock.advance(HOUR)
    upstream.free.clear()
    asking = [asyncio.ensure_future(renewing.get()) for _ in range(20)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in asking)
    upstream.free.set()
    assert await asyncio.gather(*asking) == [2] * 20
    assert upstream.fetches == 2


async def test_what_is_held_stays_in_use_while_renewing_fails(renewing, upstream, clock, caplog):
    await renewing.get()
    clock.advance(HOUR - 500)
    upstream.error = UpstreamUnavailable("The endpoint is not available.")
    for seconds in range(1, 499):
        assert await renewing.get() == 1
        await landed(renewing)
        clock.advance(1)
        assert upstream.fetches <= 2 + seconds // 5
    assert upstream.fetches > 50
    # one line for one trouble
    assert caplog.text.count("The endpoint is not available.") == 1
    upstream.error = None
    clock.advance(5)
    assert await renewing.get() == upstream.fetches
    assert logging.getLevelName(caplog.records[-1].levelno) == "WARNING"


@pytest.mark.parametrize(("kind", "pause"), [(UpstreamUnavailable, 5.0), (UpstreamDenied, 30.0)])
async def test_without_a_value_all_get_the_error_and_the_host_is_left_alone(
    renewing, upstream, clock, kind, pause
):
    upstream.error = kind("The endpoint said no.")
    for _ in range(3):
        with pytest.raises(kind, match="said no") as caught:
            await renewing.get()
        with pytest.raises(kind, match="said no") as another:
            await renewing.renew(17)
        assert caught.value is not another.value
    assert upstream.fetches == 1
    upstream.error = None
    clock.advance(pause - 0.1)
    with pytest.raises(kind):
        await renewing.get()
    clock.advance(0.1)
    assert await renewing.get() == 2


async def test_all_who_wait_get_an_error_of_their_own(renewing, upstream):
    upstream.error = UpstreamUnavailable("No.")
    errors = await asyncio.gather(*[renewing.get() for _ in range(20)], return_exceptions=True)
    assert [str(error) for error in errors] == ["No."] * 20
    assert len({id(error) for error in errors}) == 20


async def test_an_error_keeps_its_state_and_mend(renewing, upstream, caplog):
    upstream.error = UpstreamDenied("No.", state="eula", mend="Accept it.")
    for _ in range(2):
        with pytest.raises(UpstreamDenied, match=r"^No\. Accept it\.$") as caught:
            await renewing.get()
        assert (caught.value.state, caught.value.mend) == ("eula", "Accept it.")
    assert "The credentials 'ours' were not renewed (eula): No. Accept it." in caplog.text


async def test_a_clock_that_is_set_back_prolongs_no_pause(renewing, upstream, clock):
    upstream.error = UpstreamUnavailable("No.")
    with pytest.raises(UpstreamUnavailable):
        await renewing.get()
    upstream.error = None
    clock.advance(-HOUR)
    assert await renewing.get() == 2


async def test_a_refused_value_is_replaced_once(renewing, upstream):
    first = await renewing.get()
    assert await asyncio.gather(*[renewing.renew(first) for _ in range(50)]) == [2] * 50
    assert await renewing.renew(first) == 2
    assert upstream.rejected == [None, 1]


async def test_one_upstream_that_refuses_all_does_not_hammer(renewing, upstream, clock):
    value = await renewing.get()
    refused = 0
    for _ in range(600):
        try:
            value = await renewing.renew(value)
        except UpstreamDenied:
            refused += 1
        # the others go on meanwhile
        assert await renewing.get() == value
        clock.advance(0.1)
    assert upstream.fetches == 1 + 2
    assert refused == 600 - 2


async def test_the_same_value_again_is_a_refusal(renewing, upstream):
    upstream.value = 7
    await renewing.get()
    for _ in range(3):
        with pytest.raises(UpstreamDenied, match="Even the new ones"):
            await renewing.renew(7)
    assert upstream.fetches == 2


async def test_a_refused_value_waits_for_the_renewal_that_runs(renewing, upstream, clock):
    first = await renewing.get()
    clock.advance(HOUR - 100)
    upstream.free.clear()
    assert await renewing.get() == first
    waiting = asyncio.ensure_future(renewing.renew(first))
    await asyncio.sleep(0.01)
    upstream.free.set()
    assert await waiting == 2
    assert upstream.fetches == 2


async def test_a_forced_renewal_that_fails_is_not_repeated_for_each_asker(renewing, upstream, clock):
    first = await renewing.get()
    upstream.error = UpstreamUnavailable("The endpoint is not available.")
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await renewing.renew(first)
        assert await renewing.get() == first
    assert upstream.fetches == 2
    upstream.error = None
    clock.advance(5)
    assert await renewing.renew(first) == 3


async def test_what_has_expired_when_it_comes_is_an_error_that_blames_the_clock(renewing, upstream):
    upstream.lifetime = -1.0
    for _ in range(3):
        with pytest.raises(UpstreamDenied, match="clock of this machine") as caught:
            await renewing.get()
        assert caught.value.state == "expired"
    assert upstream.fetches == 1


async def test_a_defect_leaves_nobody_waiting_and_its_text_unsaid(renewing, upstream, caplog):
    upstream.error = ZeroDivisionError("secret-value")
    with pytest.raises(UpstreamUnavailable, match="'ours' could not be fetched"):
        await asyncio.wait_for(renewing.get(), 30)
    assert "A defect, ZeroDivisionError" in caplog.text
    assert "raise self.error" in caplog.text
    assert "-value" not in caplog.text


async def test_a_fetch_that_hangs_is_given_up(renewing, upstream, monkeypatch):
    monkeypatch.setattr("cubegate.credentials.renewing._LONGEST_FETCH", 0.05)
    upstream.free.clear()
    with pytest.raises(UpstreamUnavailable, match="did not arrive in time"):
        await asyncio.wait_for(renewing.get(), 30)
    upstream.free.set()
