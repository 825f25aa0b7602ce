"""The encoded store of a cube: metadata, and any chunk's encoded bytes, from wherever they are."""

from __future__ import annotations

from typing import Literal

from cubegate.chunks.source import ChunkSource
from cubegate.errors import NotFound, UpstreamObjectMissing
from cubegate.index.location import ChunkLocator, Inlined, Unallocated
from cubegate.index.metadata import ArrayMetadata, Hierarchy


class EncodedStore:
    """One cube in its encoded form, read by the bytes plane and the values plane alike.

    `version` is a content hash of everything that the cube is made of; `immutable` says whether
    the chunks cannot change while the version stays (an index), or might (a native Zarr store).
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        locator: ChunkLocator,
        source: ChunkSource,
        *,
        version: str,
        immutable: bool = True,
        missing: Literal["fill", "error"] = "fill",
    ) -> None:
        self.hierarchy = hierarchy
        self.locator = locator
        self.version = version
        self.immutable = immutable
        self._source = source
        self._missing = missing

    def array(self, path: str) -> ArrayMetadata:
        """Return the metadata of the array at `path`.

        Raises:
            NotFound: there is none; the message says why, where it was skipped.
        """
        try:
            return self.hierarchy.arrays[path]
        except KeyError:
            reason = self.hierarchy.skipped.get(path)
            raise NotFound(reason or f"There is no array {path!r}.") from None

    async def get(self, array: ArrayMetadata, chunk: tuple[int, ...]) -> bytes | None:
        """Return the encoded bytes of one chunk inside the grid, None where it is unallocated.

        Raises:
            UpstreamError: the chunk should be there and cannot be read.
        """
        location = self.locator.locate(array, [chunk])[0]
        if isinstance(location, Unallocated):
            return None
        if isinstance(location, Inlined):
            return location.data
        try:
            return await self._source.get(location.reference)
        except UpstreamObjectMissing:
            if location.optional and self._missing == "fill":
                return None
            raise
