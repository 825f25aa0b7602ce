"""What a rechunk reads from and writes to, block by block."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cubegate.rechunk.layout import Region
from cubegate.store.bridge import LoopThread
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray


class Readable(Protocol):
    """Blocks of arrays that can be read, from any thread."""

    def read(self, path: str, region: Region) -> NDArray[Any]:
        """Return the values of one region as stored, before CF decoding."""
        ...


class Writable(Readable, Protocol):
    """Blocks of arrays that can be written, too."""

    def write(self, path: str, region: Region, values: NDArray[Any]) -> None:
        """Write one region; regions of one array share no unit of writing."""
        ...


class Target(Writable, Protocol):
    """A store that is being written."""

    def prepare(self) -> None:
        """Make room for the arrays."""
        ...

    def finish(self) -> None:
        """Complete the store, once all blocks are written."""
        ...


class CubeBlocks:
    """The arrays of a cube."""

    def __init__(self, store: EncodedStore, bridge: LoopThread) -> None:
        self._store, self._bridge = store, bridge

    def read(self, path: str, region: Region) -> NDArray[Any]:
        """Return the values of one region.

        Raises:
            UpstreamError: a chunk cannot be read.
        """
        array = EncodedArray(self._store, self._store.array(path))
        return self._bridge.run(array.read(region))


def checksum(values: NDArray[Any]) -> int:
    """Return a CRC-32 of `values`, of their bytes or of their texts."""
    if values.dtype.hasobject:
        texts = (each if isinstance(each, bytes) else str(each).encode() for each in values.ravel())
        return zlib.crc32(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return zlib.crc32(ordered.view(np.uint8).data if values.size else b"")
