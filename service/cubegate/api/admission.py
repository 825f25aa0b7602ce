"""Bounds what a process works at: requests in progress, queries at once, their memory, and their time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.responses import Response
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
    """Lets `limit` queries of `memory` bytes in all be worked at in each event loop.

    The others wait, and come in the order in which they asked: a large one is not passed by small
    ones for ever. One that is larger than `memory` is worked at alone.
    """

    def __init__(self, limit: int, memory: int) -> None:
        self._memory = memory
        self._rooms = PerLoop(lambda: _Room(limit, memory))

    @asynccontextmanager
    async def slot(self, nbytes: int = 0) -> AsyncIterator[QuerySlot]:
        """Hold one of the places, and `nbytes` of the memory."""
        room, share = self._rooms.get(), min(nbytes, self._memory)
        await room.take(share)
        slot = QuerySlot(room)
        try:
            yield slot
        finally:
            slot.leave_place()
            room.give(0, share)


class QuerySlot:
    """The place and the memory of one query."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._placed = True

    def leave_place(self) -> None:
        """Let another query in, and keep the memory: nothing is left to do but to send the answer."""
        if self._placed:
            self._placed = False
            self._room.give(1, 0)


class _Room:
    """The places and bytes that nobody has, and the queries that wait for them."""

    def __init__(self, places: int, nbytes: int) -> None:
        self._places, self._nbytes = places, nbytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, nbytes: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            # its turn may have come just before
            if turn.cancelled():
                self._admit()
            else:
                self.give(1, nbytes)
            raise

    def give(self, places: int, nbytes: int) -> None:
        self._places += places
        self._nbytes += nbytes
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            nbytes, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._places or nbytes > self._nbytes:
                    return
                self._places -= 1
                self._nbytes -= nbytes
                turn.set_result(None)
            self._waiting.popleft()


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
            if alarm.expired():
                # whoever could not be interrupted comes too late
                raise TimeoutError
            alarm.reschedule(loop.time() + self._seconds)
            await send(message)
            alarm.reschedule(loop.time() + self._seconds)

        try:
            async with asyncio.timeout(self._seconds) as alarm:
                await self._app(scope, receive, watched)
        except TimeoutError:
            if started or not alarm.expired():
                raise
            await late(scope, self._seconds)(scope, receive, send)


def late(scope: Scope, seconds: float) -> Response:
    """Build the response to a request whose answer was not there within `seconds`."""
    asked = f"{scope['method']} {scope['path']!r}"
    return problem_of(UpstreamTimeout(f"The answer to {asked} was not there within {seconds:g} s."))
