"""A source around a source, where concurrent reads of one reference become one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from cubegate.chunks.source import BulkSource, ChunkReference, Deliver, Outcome, read_one
from cubegate.errors import UpstreamError


@dataclass(eq=False, slots=True)
class _Asker:
    """One call of `read`, in its own loop; `due` counts what was not delivered to it yet."""

    loop: asyncio.AbstractEventLoop
    deliver: Deliver
    due: int
    done: asyncio.Future[None]
    lost: list[int] = field(default_factory=list)

    def take(self, position: int, outcome: Outcome | BaseException | None) -> None:
        """Deliver one outcome; None where the read that was to bring it was cancelled."""
        if self.done.done():
            return
        self.due -= 1
        if outcome is None:
            self.lost.append(position)
        elif isinstance(outcome, bytes | UpstreamError):
            try:
                self.deliver(position, outcome)
            except UpstreamError as error:
                self.done.set_exception(error)
                return
            except BaseException as error:
                # a defect must be seen, and leave nobody waiting
                self.done.set_exception(error)
                raise
        else:
            self.done.set_exception(outcome)
            return
        if not self.due:
            self.done.set_result(None)


@dataclass(eq=False, slots=True)
class _Batch:
    """References that one task reads, with who waits for each; it ends when nobody waits any more."""

    loop: asyncio.AbstractEventLoop
    waiting: dict[ChunkReference, list[tuple[_Asker, int]]]
    askers: set[_Asker]
    task: asyncio.Task[None] | None = None


class SingleFlight:
    """Shares one upstream read between all who ask for a reference while it runs.

    The askers may be in different event loops and threads. What one call asked for is read as
    long as anyone waits for any part of it. All who wait for a reference get its error, which is
    not remembered; where the reading loop ended, they read anew.
    """

    def __init__(self, source: BulkSource) -> None:
        self._source = source
        self._flights: dict[ChunkReference, _Batch] = {}
        self._lock = threading.Lock()

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        return await read_one(self, reference)

    def held(self, reference: ChunkReference) -> bytes | None:
        """Return what the source holds."""
        return self._source.held(reference)

    async def read(self, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        """Pass each of `references` to `deliver`; see `BulkSource`."""
        wanted = list(enumerate(references))
        while wanted:
            lost = await self._read_once(wanted, deliver)
            wanted = [(position, references[position]) for position in lost]

    async def _read_once(self, wanted: Sequence[tuple[int, ChunkReference]], deliver: Deliver) -> list[int]:
        loop = asyncio.get_running_loop()
        asker = _Asker(loop, deliver, len(wanted), loop.create_future())
        with self._lock:
            batches = self._join(wanted, asker)
        try:
            await asker.done
        finally:
            if not asker.done.done():
                asker.done.cancel()
            self._leave(batches, asker)
        return asker.lost

    def _join(self, wanted: Sequence[tuple[int, ChunkReference]], asker: _Asker) -> set[_Batch]:
        """Make `asker` wait for `wanted`: in batches that fly already, and in one of its own."""
        joined: set[_Batch] = set()
        own = _Batch(asker.loop, {}, {asker})
        for position, reference in wanted:
            batch = self._flights.get(reference)
            if batch is None or not batch.loop.is_running():
                batch = self._flights[reference] = own
            batch.waiting.setdefault(reference, []).append((asker, position))
            batch.askers.add(asker)
            joined.add(batch)
        if own.waiting:
            own.task = asker.loop.create_task(self._fly(own, list(own.waiting)))
            own.task.add_done_callback(lambda task: self._end(own, task))
        return joined

    async def _fly(self, batch: _Batch, references: Sequence[ChunkReference]) -> None:
        await self._source.read(references, lambda n, outcome: self._land(batch, references[n], outcome))

    def _end(self, batch: _Batch, task: asyncio.Task[None]) -> None:
        """Tell those who still wait that nothing more comes of `batch`."""
        error = None if task.cancelled() else task.exception()
        with self._lock:
            left = list(batch.waiting)
        for reference in left:
            self._land(batch, reference, error)

    def _land(
        self, batch: _Batch, reference: ChunkReference, outcome: Outcome | BaseException | None
    ) -> None:
        with self._lock:
            waiting = batch.waiting.pop(reference, [])
            if self._flights.get(reference) is batch:
                del self._flights[reference]
        for asker, position in waiting:
            if asker.loop is batch.loop:
                asker.take(position, outcome)
            elif asker.loop.is_running():
                asker.loop.call_soon_threadsafe(asker.take, position, outcome)

    def _leave(self, batches: set[_Batch], asker: _Asker) -> None:
        for batch in batches:
            with self._lock:
                batch.askers.discard(asker)
                forsaken = not batch.askers and bool(batch.waiting)
                task = batch.task
            if forsaken and task is not None and batch.loop.is_running():
                batch.loop.call_soon_threadsafe(task.cancel)
