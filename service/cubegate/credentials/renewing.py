"""Credentials that end: fetched once for all who ask, and again well before their end."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from cubegate.credentials.provider import Secretive
from cubegate.errors import UpstreamDenied, UpstreamError, UpstreamUnavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)

# renewed when this part of the lifetime is left, and at most these seconds before the end
_PART_LEFT = 0.25
_MOST_LEFT = 600.0
_LONGEST_FETCH = 30.0
_PAUSE_UNAVAILABLE = 5.0
# refused passwords, asked again and again, lock an account
_PAUSE_DENIED = 30.0
_PAUSE_FORCED = 30.0


@dataclass(frozen=True, slots=True)
class Lease(Generic[T]):
    """A value and the moment at which it ends, in seconds since 1970; renewed from `renew_at` on."""

    value: T = field(repr=False)
    expires: float
    renew_at: float = 0.0


class Renewing(Secretive, Generic[T]):
    """Holds what `fetch` gives until shortly before its end.

    The askers may be in different event loops and threads; a fetch has a thread and a loop of its
    own, so that no asker's end breaks it off. While one runs in good time, all get the value held.
    A failed one is logged and not repeated for some seconds: a value held stays in use while it is
    valid, and without one all who ask get the error.

    `fetch` takes the value that an upstream refused, or None. `refused` makes the error for an
    upstream that refuses even what was just fetched. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[T | None], Awaitable[Lease[T]]],
        *,
        refused: Callable[[], UpstreamDenied],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name, self._fetch, self._refused, self._clock = name, fetch, refused, clock
        self._lock = threading.Lock()
        self._lease: Lease[T] | None = None
        self._flight: Future[Lease[T] | UpstreamError] | None = None
        self._failure: UpstreamError | None = None
        self._failed_at = self._forced_at = float("-inf")

    def __repr__(self) -> str:
        return f"Renewing({self._name!r})"

    async def get(self) -> T:
        """Return a value that is valid now.

        Raises:
            UpstreamDenied: there is none any more.
            UpstreamUnavailable: who gives them cannot be reached.
        """
        lease = self._lease
        if lease is not None and self._clock() < lease.renew_at:
            return lease.value
        with self._lock:
            now = self._clock()
            lease = self._valid(now)
            if lease is not None:
                if now >= lease.renew_at and self._flight is None and self._pause(now) is None:
                    self._start(None)
                return lease.value
            flight = self._flight or self._start_unless_paused(now, None)
        return await _landed(flight)

    async def renew(self, rejected: T) -> T:
        """Return another value than `rejected`; see `CredentialProvider.renew`."""
        while True:
            with self._lock:
                now = self._clock()
                lease = self._valid(now)
                if lease is not None and lease.value != rejected:
                    return lease.value
                joined = self._flight
                flight = joined or self._force(now, lease, rejected)
            value = await _landed(flight)
            if value != rejected:
                return value
            if joined is None:
                raise self._refused()

    def _force(self, now: float, lease: Lease[T] | None, rejected: T) -> Future[Lease[T] | UpstreamError]:
        if lease is not None and 0 <= now - self._forced_at < _PAUSE_FORCED:
            raise self._refused()
        flight = self._start_unless_paused(now, rejected)
        if lease is not None:
            self._forced_at = now
        return flight

    def _valid(self, now: float) -> Lease[T] | None:
        return self._lease if self._lease is not None and now < self._lease.expires else None

    def _pause(self, now: float) -> UpstreamError | None:
        """The failure after which nobody is asked for some time yet."""
        pause = _PAUSE_DENIED if isinstance(self._failure, UpstreamDenied) else _PAUSE_UNAVAILABLE
        # a clock that was set back does not prolong it
        return self._failure if 0 <= now - self._failed_at < pause else None

    def _start_unless_paused(self, now: float, rejected: T | None) -> Future[Lease[T] | UpstreamError]:
        failure = self._pause(now)
        if failure is not None:
            raise copy.copy(failure)
        return self._start(rejected)

    def _start(self, rejected: T | None) -> Future[Lease[T] | UpstreamError]:
        flight: Future[Lease[T] | UpstreamError] = Future()
        # an asker that is cancelled must not cancel it for the others
        flight.set_running_or_notify_cancel()
        threading.Thread(
            target=lambda: asyncio.run(self._fly(flight, rejected)), name="cubegate-credentials", daemon=True
        ).start()
        self._flight = flight
        return flight

    async def _fly(self, flight: Future[Lease[T] | UpstreamError], rejected: T | None) -> None:
        outcome: Lease[T] | UpstreamError = UpstreamUnavailable(
            f"The credentials {self._name!r} could not be fetched."
        )
        try:
            async with asyncio.timeout(_LONGEST_FETCH):
                outcome = self._checked(await self._fetch(rejected))
        except UpstreamError as error:
            outcome = error.with_traceback(None)
        except TimeoutError:
            outcome = UpstreamUnavailable(f"The credentials {self._name!r} did not arrive in time.")
        except Exception as error:  # noqa: BLE001 - the edge of a thread, and nobody is left waiting
            # without its text, which may quote a secret
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("A defect, %s, in fetching credentials:\n%s", type(error).__name__, where)  # noqa: TRY400
        finally:
            self._land(flight, outcome)

    def _checked(self, lease: Lease[T]) -> Lease[T]:
        if lease.expires <= self._clock():
            raise UpstreamDenied(
                f"The credentials {self._name!r} had expired when they were given.",
                state="expired",
                mend="Check the clock of this machine.",
            )
        return lease

    def _land(self, flight: Future[Lease[T] | UpstreamError], outcome: Lease[T] | UpstreamError) -> None:
        with self._lock:
            now, before = self._clock(), self._failure
            self._flight = None
            if isinstance(outcome, UpstreamError):
                self._failure, self._failed_at = outcome, now
                # nothing new came that could be refused
                self._forced_at = float("-inf")
            else:
                left = min(_MOST_LEFT, _PART_LEFT * (outcome.expires - now))
                self._failure, self._lease = None, replace(outcome, renew_at=outcome.expires - left)
        if isinstance(outcome, UpstreamError) and str(outcome) != str(before):
            state = outcome.state if isinstance(outcome, UpstreamDenied) else "unavailable"
            logger.warning("The credentials %r were not renewed (%s): %s", self._name, state, outcome)
        elif before is not None and not isinstance(outcome, UpstreamError):
            logger.info("The credentials %r are renewed again.", self._name)
        flight.set_result(outcome)


async def _landed(flight: Future[Lease[T] | UpstreamError]) -> T:
    outcome = await asyncio.wrap_future(flight)
    if isinstance(outcome, UpstreamError):
        # of its own, since each raising writes a traceback into it
        raise copy.copy(outcome)
    return outcome.value
