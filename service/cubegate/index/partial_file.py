"""Reads a file of which only some parts are here, and fetches those that were missed."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ChunkReference, ChunkSource

BLOCK_NBYTES = 2**18
_IN_FLIGHT = 8
_MAX_AHEAD = 16


class RemoteBlocks:
    """The blocks of one upstream object of `nbytes` bytes that have been fetched, by their number.

    Every read holds to `validator`, so that all blocks are of one object.
    """

    def __init__(self, url: str, source: ChunkSource, nbytes: int, validator: str | None) -> None:
        self.nbytes, self.fetched_nbytes = nbytes, 0
        self._url, self._source, self._validator = url, source, validator
        self._blocks: dict[int, bytes] = {}
        self._ahead = 4

    def get(self, number: int) -> bytes | None:
        """Return a block where it is here."""
        return self._blocks.get(number)

    async def fetch(self, numbers: Iterable[int]) -> None:
        """Fetch the blocks `numbers` and, where one follows others, some behind it.

        Raises:
            UpstreamError: they cannot be read.
        """
        last = (self.nbytes - 1) // BLOCK_NBYTES
        runs: list[range] = []
        for number in sorted(set(numbers)):
            if runs and number in runs[-1]:
                continue
            # metadata that follow what was read go on like that, others are scattered
            follows = number == 0 or number - 1 in self._blocks
            self._ahead = min(2 * self._ahead, _MAX_AHEAD) if follows else 1
            run = range(number, min(number + self._ahead, last + 1))
            held = next((n for n in run if n in self._blocks), run.stop)
            runs.append(range(number, held))
        for run, data in zip(runs, await run_all(map(self._read, runs), in_flight=_IN_FLIGHT), strict=True):
            self.fetched_nbytes += len(data)
            for position, number in enumerate(run):
                self._blocks[number] = data[position * BLOCK_NBYTES : (position + 1) * BLOCK_NBYTES]

    async def _read(self, run: range) -> bytes:
        start = run.start * BLOCK_NBYTES
        length = min(run.stop * BLOCK_NBYTES, self.nbytes) - start
        return await self._source.get(ChunkReference(self._url, start, length, self._validator))


class PartialFile(io.RawIOBase):
    """A read-only file over blocks; `missing` is the first one that was wanted and is not here.

    A read beyond what is here is an OSError, so that nobody who reads waits for a fetch: HDF5 holds
    one lock for the whole process meanwhile.
    """

    def __init__(self, blocks: RemoteBlocks) -> None:
        super().__init__()
        self._blocks, self._position = blocks, 0
        self.missing: int | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; see `io.IOBase`."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._blocks.nbytes}
        self._position = offset + starts[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; see `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")
        wanted = max(min(len(view), self._blocks.nbytes - self._position), 0)
        done = 0
        while done < wanted:
            number, start = divmod(self._position, BLOCK_NBYTES)
            block = self._blocks.get(number)
            if block is None:
                if self.missing is None:
                    self.missing = number
                raise OSError("this part of the file is not here yet")
            piece = block[start : start + wanted - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done
