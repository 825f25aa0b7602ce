"""A source around a source, which reads neighbouring byte ranges of an object by one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cubegate.chunks.concurrency import all_of
from cubegate.chunks.source import ChunkReference, ChunkSource, Deliver, Outcome, until_it_raises
from cubegate.errors import UpstreamChanged, UpstreamError, UpstreamMismatch, UpstreamRefused

# What takes about as long to transfer as a request takes to make.
MAX_GAP = 2**16
MAX_RUN = 2**20


@dataclass(slots=True)
class _Run:
    """References that one request answers: those at `positions`, between `start` and `stop`."""

    url: str
    validator: str | None
    start: int
    stop: int | None
    positions: list[int] = field(default_factory=list)


class Coalesced:
    """Reads what is asked for together, all of it at once.

    Ranges of one object, known by one validator, that are at most `max_gap` bytes apart become one
    request, which stays below `max_run` bytes (a single longer chunk is one request too).
    """

    def __init__(self, source: ChunkSource, *, max_gap: int = MAX_GAP, max_run: int = MAX_RUN) -> None:
        self._source = source
        self._max_gap, self._max_run = max_gap, max_run

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        return await self._source.get(reference)

    def held(self, reference: ChunkReference) -> bytes | None:  # noqa: ARG002 - the seam
        """Return None: nothing is kept here."""
        return None

    async def read(self, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        """Pass each of `references` to `deliver`; see `BulkSource`."""
        deliver = until_it_raises(deliver)
        await all_of(self._read_run(run, references, deliver) for run in self._runs(references))

    def _runs(self, references: Sequence[ChunkReference]) -> list[_Run]:
        """Divide `references` into runs, in the order in which their first chunks were asked for."""
        order = sorted(range(len(references)), key=lambda n: _place(references[n]))
        runs: list[_Run] = []
        for position in order:
            reference = references[position]
            run = runs[-1] if runs else None
            if run is None or not self._extends(run, reference):
                stop = None if reference.length is None else reference.offset + reference.length
                runs.append(_Run(reference.url, reference.validator, reference.offset, stop, [position]))
            else:
                assert run.stop is not None  # noqa: S101 - `_extends` says so
                assert reference.length is not None  # noqa: S101 - the same
                run.stop = max(run.stop, reference.offset + reference.length)
                run.positions.append(position)
        return sorted(runs, key=lambda run: min(run.positions))

    def _extends(self, run: _Run, reference: ChunkReference) -> bool:
        if (run.url, run.validator) != (reference.url, reference.validator):
            return False
        if run.stop is None or reference.length is None:
            return False
        # the source judges what is empty or impossible, on its own
        if reference.length <= 0 or run.stop <= run.start or run.start < 0:
            return False
        return (
            reference.offset - run.stop <= self._max_gap
            and reference.offset + reference.length - run.start <= self._max_run
        )

    async def _read_run(self, run: _Run, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        if len(run.positions) == 1:
            deliver(run.positions[0], await self._outcome(references[run.positions[0]]))
            return
        assert run.stop is not None  # noqa: S101 - a run of several is never of whole objects
        together = ChunkReference(run.url, run.start, run.stop - run.start, run.validator)
        outcome = await self._outcome(together)
        replaced = isinstance(outcome, UpstreamChanged)
        if isinstance(outcome, UpstreamMismatch | UpstreamRefused) and not replaced:
            # one reference past the end, or beyond any object, should not take the others with it
            await all_of(self._read_run(_alone(n, references), references, deliver) for n in run.positions)
            return
        for position in run.positions:
            reference = references[position]
            start = reference.offset - run.start
            stop = start + (reference.length or 0)
            deliver(position, outcome[start:stop] if isinstance(outcome, bytes) else outcome)

    async def _outcome(self, reference: ChunkReference) -> Outcome:
        try:
            return await self._source.get(reference)
        except UpstreamError as error:
            return error


def _place(reference: ChunkReference) -> tuple[str, str, bool, int]:
    """Sorts ranges that can be read together next to each other, and whole objects behind them."""
    return reference.url, reference.validator or "", reference.length is None, reference.offset


def _alone(position: int, references: Sequence[ChunkReference]) -> _Run:
    reference = references[position]
    return _Run(reference.url, reference.validator, reference.offset, None, [position])
