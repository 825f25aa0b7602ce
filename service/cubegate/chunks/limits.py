"""Bounds the reads in flight to one host, and the size of what is read whole."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from cubegate.cache.per_loop import PerLoop

LARGEST_OBJECT = 4 * 2**30
"""The most bytes of an object that is read whole: several times the largest references known."""


class HostLimits:
    """At most `limit` reads at a time to each host, counted in each event loop on its own."""

    def __init__(self, limit: int) -> None:
        self._semaphores = PerLoop(
            lambda: defaultdict[tuple[str, str], asyncio.Semaphore](lambda: asyncio.Semaphore(limit))
        )

    def slot(self, scheme: str, authority: str) -> asyncio.Semaphore:
        """Return what to hold (`async with`) while reading from one host or bucket."""
        return self._semaphores.get()[scheme, authority]
