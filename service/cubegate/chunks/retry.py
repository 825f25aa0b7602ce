"""Repeats a failed read within its deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cubegate.errors import UpstreamMismatch, UpstreamTimeout, UpstreamUnavailable

T = TypeVar("T")

_PAUSES = (0.1, 0.4)


class ShortBody(UpstreamMismatch):
    """The connection ended before the body did; reading again may give all of it."""


async def read_with_retries(read: Callable[[float], Awaitable[T]], *, deadline: float, what: str) -> T:
    """Return what `read` gives at one of three attempts, all within `deadline` seconds.

    `read` is told how many seconds are left, and keeps to them. `what` names the object in
    messages. Only unavailability and short bodies are tried again.

    Raises:
        UpstreamTimeout: the deadline passed.
        UpstreamError: what the last attempt raised.
    """
    until = time.monotonic() + deadline
    try:
        for pause in _PAUSES:
            try:
                return await read(until - time.monotonic())
            except (UpstreamUnavailable, ShortBody):
                pause *= random.uniform(0.5, 1.5)  # noqa: S311, PLW2901 - jitter, not a secret
                if time.monotonic() + pause >= until:
                    raise TimeoutError from None
                await asyncio.sleep(pause)
        return await read(until - time.monotonic())
    except TimeoutError:
        raise UpstreamTimeout(f"{what} did not arrive within {deadline:g} s.") from None
