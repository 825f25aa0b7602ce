"""Repeats a failed read within its deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from cubegate.errors import UpstreamMismatch, UpstreamTimeout, UpstreamUnavailable

T = TypeVar("T")

_PAUSES = (0.1, 0.4)
_LONGEST_WAIT = 3600.0


class ShortBody(UpstreamMismatch):
    """The connection ended before the body did; reading again may give all of it."""


class AskedToWait(UpstreamUnavailable):
    """The upstream says that it should not be asked again for `seconds`."""

    def __init__(self, problem: str, seconds: float) -> None:
        super().__init__(problem)
        self.seconds = seconds


def parse_retry_after(text: str) -> float:
    """Return the seconds that a Retry-After header asks to wait, 0 where it says nothing that is understood.

    It is a number of seconds or a date; an hour is the most that is believed.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    # a date of no known zone is in UTC, as all dates of HTTP are
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT)


async def read_with_retries(read: Callable[[float], Awaitable[T]], *, deadline: float, what: str) -> T:
    """Return what `read` gives at one of three attempts, all within `deadline` seconds.

    `read` is told how many seconds are left, and keeps to them. `what` names the object in
    messages. Only unavailability and short bodies are tried again, after the pause that the
    upstream asked for; a longer one than the deadline allows ends the read at once.

    Raises:
        UpstreamTimeout: the deadline passed.
        UpstreamError: what the last attempt raised.
    """
    until = time.monotonic() + deadline
    try:
        for pause in _PAUSES:
            try:
                return await read(until - time.monotonic())
            except (UpstreamUnavailable, ShortBody) as error:
                await asyncio.sleep(_pause(error, pause, until))
        return await read(until - time.monotonic())
    except TimeoutError:
        raise UpstreamTimeout(f"{what} did not arrive within {deadline:g} s.") from None


def _pause(error: UpstreamUnavailable | ShortBody, usual: float, until: float) -> float:
    asked = error.seconds if isinstance(error, AskedToWait) else 0.0
    # jitter on top, since all who were refused together were told the same
    pause = asked + usual * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret
    if time.monotonic() + pause < until:
        return pause
    if asked:
        raise error
    raise TimeoutError from None
