"""A source around a source, which counts reads, bytes, errors and time."""

from __future__ import annotations

from cubegate.chunks.source import ChunkReference, ChunkSource, ObjectSource, ObjectState
from cubegate.errors import UpstreamError
from cubegate.metrics.metrics import UpstreamCounts


class MeteredSource:
    """Passes everything on to `source`, which reads one upstream, and counts it in `counts`.

    A read that is cancelled is neither an error nor a duration.
    """

    def __init__(self, source: ChunkSource, counts: UpstreamCounts) -> None:
        self._source = source
        self._counts = counts

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        counts = self._counts
        started = counts.begin()
        try:
            data = await self._source.get(reference)
        except UpstreamError as error:
            counts.fail(started, error)
            raise
        else:
            counts.succeed(started, len(data))
            return data
        finally:
            counts.end()


class MeteredObjects(MeteredSource):
    """The same around an object source; listings, and what objects are known by, are not counted."""

    def __init__(self, source: ObjectSource, counts: UpstreamCounts) -> None:
        super().__init__(source, counts)
        self._objects = source

    async def stat(self, url: str) -> ObjectState:
        """Return what the object at `url` is known by now; see `ObjectSource`."""
        return await self._objects.stat(url)

    async def list(self, url: str) -> list[str]:
        """Return the URLs of all objects below `url`; see `ObjectSource`."""
        return await self._objects.list(url)

    async def aclose(self) -> None:
        """Release connections."""
        await self._objects.aclose()
