"""Bounds what a process works at: requests in progress, queries at once, and the time that each may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubegate.api.problems import problem_of
from cubegate.cache.per_loop import PerLoop
from cubegate.errors import Overloaded, UpstreamTimeout

# Whoever watches the server must get an answer when it is busiest.
ALWAYS_ADMITTED = frozenset({"/healthz", "/readyz", "/metrics"})


class Admission:
    """Counts the requests in progress, which `limit` bounds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_progress = 0


class RequestLimit:
    """Answers 503 while there are as many requests in progress as `admission` allows.

    Nothing is done for such a request. Several applications may share one `admission`.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in ALWAYS_ADMITTED:
            await self._app(scope, receive, send)
            return
        admission = self._admission
        if admission.in_progress >= admission.limit:
            said = f"This server is busy with {admission.limit} other requests. Try again in a few seconds."
            await problem_of(Overloaded(said))(scope, receive, send)
            return
        admission.in_progress += 1
        try:
            await self._app(scope, receive, send)
        finally:
            admission.in_progress -= 1


class QueryLimit:
    """Lets `limit` queries at a time be worked at in each event loop; the others wait in order."""

    def __init__(self, limit: int) -> None:
        self._slots = PerLoop(lambda: asyncio.Semaphore(limit), _release)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the places."""
        async with self._slots.get():
            yield


async def _release(_: asyncio.Semaphore) -> None:
    """A semaphore holds nothing that needs to be released."""


class Deadline:
    """Ends what takes longer than `seconds` to its first byte, or stalls as long after it.

    Before the first byte that is a 504. After it the connection is aborted, so that nobody takes a
    part for the whole; a client that reads nothing is a stall too.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            alarm.reschedule(loop.time() + self._seconds)
            await send(message)
            alarm.reschedule(loop.time() + self._seconds)

        try:
            async with asyncio.timeout(self._seconds) as alarm:
                await self._app(scope, receive, watched)
        except TimeoutError:
            if started or not alarm.expired():
                raise
            asked = f"{scope['method']} {scope['path']!r}"
            late = UpstreamTimeout(f"The answer to {asked} was not there within {self._seconds:g} s.")
            await problem_of(late)(scope, receive, send)
