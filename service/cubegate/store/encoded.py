"""The encoded store of a cube: metadata, and any chunk's encoded bytes, from wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from cubegate.chunks.source import BulkSource, Outcome
from cubegate.errors import NotFound, UpstreamObjectMissing
from cubegate.index.location import ChunkLocator, Inlined, Stored
from cubegate.index.metadata import ArrayMetadata, Hierarchy
from cubegate.store.columns import ColumnCache


class EncodedStore:
    """One cube in its encoded form, read by the bytes plane and the values plane alike.

    `version` is a content hash of everything that the cube is made of; `immutable` says whether
    the chunks cannot change while the version stays (an index), or might (a native Zarr store).
    `columns` holds decoded time columns of the same version.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        locator: ChunkLocator,
        source: BulkSource,
        *,
        version: str,
        immutable: bool = True,
        missing: Literal["fill", "error"] = "fill",
        columns: ColumnCache | None = None,
    ) -> None:
        self.columns = columns
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
        chunks: list[bytes | None] = []
        await self.read(array, [chunk], lambda _, data: chunks.append(data))
        return chunks[0]

    async def read(
        self,
        array: ArrayMetadata,
        chunks: Sequence[tuple[int, ...]],
        deliver: Callable[[int, bytes | None], None],
    ) -> None:
        """Pass the encoded bytes of each of `chunks` to `deliver`, with its position, in any order.

        None stands for an unallocated chunk.

        Raises:
            UpstreamError: a chunk should be there and cannot be read; nothing is delivered after that.
        """
        stored: list[tuple[int, Stored]] = []
        for position, location in enumerate(self.locator.locate(array, chunks)):
            if isinstance(location, Stored):
                stored.append((position, location))
            else:
                deliver(position, location.data if isinstance(location, Inlined) else None)

        def judge(number: int, outcome: Outcome) -> None:
            position, location = stored[number]
            if isinstance(outcome, bytes):
                deliver(position, outcome)
            elif isinstance(outcome, UpstreamObjectMissing) and location.optional and self._missing == "fill":
                deliver(position, None)
            else:
                raise outcome

        if stored:
            await self._source.read([location.reference for _, location in stored], judge)

    def held(self, array: ArrayMetadata, chunk: tuple[int, ...]) -> bytes | None:
        """Return the encoded bytes of one chunk where memory has them, without waiting; else None."""
        location = self.locator.locate(array, [chunk])[0]
        if isinstance(location, Inlined):
            return location.data
        return self._source.held(location.reference) if isinstance(location, Stored) else None

    def stored_nbytes(self, array: ArrayMetadata, chunk: tuple[int, ...]) -> int | None:
        """Return the encoded size of one chunk where it is known without reading; None elsewhere."""
        location = self.locator.locate(array, [chunk])[0]
        if isinstance(location, Inlined):
            return len(location.data)
        return location.reference.length if isinstance(location, Stored) else None
