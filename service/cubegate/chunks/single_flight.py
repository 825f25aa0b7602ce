"""A source around a source, where concurrent reads of one reference become one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass

from cubegate.chunks.source import ChunkReference, ChunkSource


class _Abandoned(Exception):
    """The loop that was reading ended before the read did."""


@dataclass(slots=True)
class _Flight:
    """One read, by a task of `loop`; `outcome` is for askers in other loops, if there are any."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[bytes]
    outcome: Future[bytes] | None = None


class SingleFlight:
    """Shares one upstream read between all who ask for a reference while it runs.

    The askers may be in different event loops and threads. One that is cancelled does not stop
    the read for the others, and a failed read is not remembered.
    """

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._flights: dict[ChunkReference, _Flight] = {}
        self._lock = threading.Lock()

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        while True:
            read = self._join(reference)
            try:
                return await asyncio.shield(read)
            except _Abandoned:
                continue

    def _join(self, reference: ChunkReference) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        with self._lock:
            flight = self._flights.get(reference)
            if flight is None or not flight.loop.is_running():
                flight = _Flight(loop, loop.create_task(self._source.get(reference)))
                self._flights[reference] = flight
                flight.task.add_done_callback(lambda _: self._land(reference, flight))
            if flight.loop is loop:
                return flight.task
            if flight.outcome is None:
                flight.outcome = Future()
            return asyncio.wrap_future(flight.outcome)

    def _land(self, reference: ChunkReference, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(reference) is flight:
                del self._flights[reference]
        error = _Abandoned() if flight.task.cancelled() else flight.task.exception()
        if flight.outcome is None:
            return
        if error is None:
            flight.outcome.set_result(flight.task.result())
        else:
            flight.outcome.set_exception(error)
