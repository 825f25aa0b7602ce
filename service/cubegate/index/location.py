"""Where a chunk is: the answer of a chunk locator, and the locator seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkReference
from cubegate.index.metadata import ArrayMetadata


@dataclass(frozen=True, slots=True)
class Unallocated:
    """The chunk was never written: it holds the storage fill everywhere."""


@dataclass(frozen=True, slots=True)
class Inlined:
    """The chunk's encoded bytes are in the index itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """The chunk's encoded bytes are upstream.

    With `optional`, a definite "no such object" means unallocated (native Zarr, where absence
    is how fill is written); without it, it is an error.
    """

    reference: ChunkReference
    optional: bool = False


Location = Unallocated | Inlined | Stored
UNALLOCATED = Unallocated()


class ChunkLocator(Protocol):
    """Tells where the chunks of an array are; never does network input or output."""

    def locate(self, array: ArrayMetadata, chunks: Sequence[tuple[int, ...]]) -> list[Location]:
        """Return one location for each chunk, by its coordinates in the chunk grid.

        Raises:
            CorruptIndex: the part of the index that would tell is damaged.
        """
        ...

    def stored_nbytes(self, array: ArrayMetadata, chunks: NDArray[np.int64]) -> int | None:
        """Return the bytes that reading `chunks`, of shape (n, ndim), would fetch.

        None where only the upstream knows (native Zarr).
        """
        ...
