"""Reads chunks of an Icechunk repository through Icechunk's own read-only store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import default_buffer_prototype

from cubegate.chunks.icechunk_upstreams import IcechunkUpstreams
from cubegate.chunks.source import ChunkReference
from cubegate.errors import (
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from icechunk import IcechunkStore

T = TypeVar("T")

ICECHUNK_URL = "icechunk:///"


class IcechunkSource:
    """A chunk source over one snapshot; references are `icechunk:///` and the store key.

    Only what the snapshot itself records as absent is an `UpstreamObjectMissing`: a lost chunk
    file, manifest or granule is another `UpstreamError`. `refused` names the virtual chunk
    containers without access, for the message. `upstreams` are what it reads, where not all is
    local. `deadline` is in seconds.
    """

    def __init__(
        self,
        store: IcechunkStore,
        *,
        upstreams: IcechunkUpstreams | None = None,
        refused: Sequence[str] = (),
        deadline: float = 60.0,
    ) -> None:
        from icechunk import IcechunkError  # noqa: PLC0415 - icechunk is an optional extra

        self._store = store
        self._upstreams = upstreams or IcechunkUpstreams()
        self._error = IcechunkError
        self._refused = tuple(refused)
        self._deadline = deadline
        self._prototype = default_buffer_prototype()

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`.

        Raises:
            UpstreamObjectMissing: the snapshot has no such document or chunk.
            UpstreamError: any other failure.
        """
        if not reference.url.startswith(ICECHUNK_URL):
            raise UpstreamRefused("An Icechunk repository reads only its own keys.")
        key = reference.url.removeprefix(ICECHUNK_URL)
        wanted = _byte_request(reference)
        buffer = await self._read(lambda: self._store.get(key, self._prototype, wanted))
        if buffer is None:
            raise UpstreamObjectMissing(f"The Icechunk snapshot holds no {key!r}.")
        data = buffer.to_bytes()
        if reference.length is not None and len(data) != reference.length:
            raise UpstreamMismatch(f"Icechunk gave {len(data)} bytes where {reference.length} were due.")
        return data

    async def children(self, path: str) -> list[str]:
        """Return the names directly below `path`, sorted.

        Raises:
            UpstreamError: the snapshot cannot be read.
        """

        async def names() -> list[str]:
            return [name async for name in self._store.list_dir(path)]

        return sorted(await self._read(names))

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._upstreams.read(read)
        except TimeoutError:
            raise UpstreamTimeout(f"Icechunk did not answer within {self._deadline:g} s.") from None
        except self._error as error:
            raise self._translated(str(error)) from None

    def _translated(self, text: str) -> UpstreamError:
        # Icechunk has one exception class, whose text, folded into lines, may hold addresses: never shown
        text = " ".join(text.replace("|", " ").split()).lower()
        if "virtual chunk container" in text:
            refused = ", ".join(self._refused) or "none that the repository declares"
            return UpstreamRefused(
                "A virtual chunk lies in a container that is not readable here "
                f"(refused containers: {refused}). List its address under upstreams."
            )
        if "not enough data" in text or "range was invalid" in text:
            return UpstreamMismatch("A chunk of the Icechunk repository is shorter than its manifest says.")
        if "checksum of the object owning the virtual chunk" in text:
            return UpstreamMismatch("A granule changed after the Icechunk repository referred to it.")
        return UpstreamUnavailable("Icechunk could not read a part of the repository or a granule.")


def _byte_request(reference: ChunkReference) -> ByteRequest | None:
    if reference.length is not None:
        return RangeByteRequest(reference.offset, reference.offset + reference.length)
    return OffsetByteRequest(reference.offset) if reference.offset else None
