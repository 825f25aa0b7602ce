"""The chunk source seam: whoever can return the exact bytes that a reference names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cubegate.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class ChunkReference:
    """One upstream object, or a byte range of it.

    `url` is absolute and names a scheme; `length` is in bytes, None for the whole object.
    `validator` is what the object must still be known by: a strong entity tag in its quotes, or
    the date of its last change as HTTP writes it; None where nothing was recorded. `crc32` is
    the checksum of the bytes, None where none was taken.
    """

    url: str
    offset: int = 0
    length: int | None = None
    validator: str | None = None
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What an upstream says of an object now: its validator (see `ChunkReference`) and size in bytes."""

    validator: str | None
    nbytes: int | None


Outcome = bytes | UpstreamError

Deliver = Callable[[int, Outcome], None]
"""Takes the position of a reference, and its bytes or why they cannot be read.

It is called in the event loop that reads, and ends the whole read by raising an UpstreamError.
"""


def until_it_raises(deliver: Deliver) -> Deliver:
    """Return `deliver`, which does nothing more once it has raised, as what runs beside ends later."""
    ended = False

    def deliver_until_then(position: int, outcome: Outcome) -> None:
        nonlocal ended
        if ended:
            return
        try:
            deliver(position, outcome)
        except BaseException:
            ended = True
            raise

    return deliver_until_then


class ChunkSource(Protocol):
    """Reads references; implementations are loop-agnostic and safe to share between threads."""

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`.

        Raises:
            UpstreamObjectMissing: only where the upstream says so definitely.
            UpstreamChanged: the object is no longer the one that the reference's validator names.
            UpstreamError: any other failure; never fewer, more or other bytes.
        """
        ...


class BulkSource(ChunkSource, Protocol):
    """A chunk source that reads all chunks of a query together."""

    async def read(self, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        """Pass each of `references` to `deliver` once, as soon as it is there, in any order.

        Raises:
            UpstreamError: what `deliver` raised; nothing is delivered after that.
        """
        ...

    def held(self, reference: ChunkReference) -> bytes | None:
        """Return the bytes of `reference` where they are in memory, without waiting for anything."""
        ...


async def read_one(source: BulkSource, reference: ChunkReference) -> bytes:
    """Return exactly the bytes of `reference`, by a read of nothing else; see `ChunkSource.get`."""
    outcomes: list[Outcome] = []
    await source.read([reference], lambda _, outcome: outcomes.append(outcome))
    if isinstance(outcomes[0], UpstreamError):
        raise outcomes[0]
    return outcomes[0]


class ObjectSource(ChunkSource, Protocol):
    """A chunk source over whole stores, which can also list what lies below a prefix.

    It holds to a reference's validator. The checksum is held to by `chunks.verified`.
    """

    async def stat(self, url: str) -> ObjectState:
        """Return what the object at `url` is known by now.

        Raises:
            UpstreamObjectMissing: only where the upstream says so definitely.
            UpstreamError: any other failure.
        """
        ...

    async def list(self, url: str) -> list[str]:
        """Return the absolute URLs of all objects below the prefix `url`, sorted.

        Raises:
            UpstreamError: also where the upstream has no listing (plain HTTP).
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
