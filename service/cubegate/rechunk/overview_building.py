"""Builds overviews: each cell of a cube is read once, and becomes part of a cell of every level."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import CubegateError, RechunkFailed
from cubegate.index.progress import Progress
from cubegate.rechunk.blocks import Writable, checksum
from cubegate.rechunk.coarsening import coarsen
from cubegate.rechunk.layout import Region
from cubegate.rechunk.overview_layout import Pyramid, coarse_size

Block = tuple[slice, ...]


class Piece(NamedTuple):
    """What is made at once: some dates, levels and bands of one variable, all of its grid."""

    pyramid: Pyramid
    block: Block


class OverviewsTarget(Writable, Protocol):
    """A store of overviews that is being written."""

    def path(self, pyramid: Pyramid, level: int) -> str:
        """Return the path of the overviews of one level."""
        ...

    def holds(self, path: str, region: Region) -> bool:
        """Tell whether a region was written whole, and can be read."""
        ...


def pieces(pyramids: Sequence[Pyramid]) -> list[Piece]:
    """List the pieces of all variables."""
    return [Piece(pyramid, block) for pyramid in pyramids for block in itertools.product(*pyramid.runs)]


def is_held(piece: Piece, target: OverviewsTarget) -> bool:
    """Tell whether the store has a piece already, from before, at all levels."""
    pyramid, block = piece
    for level in range(1, pyramid.levels + 1):
        *_, height, width = pyramid.shape(level)
        if not target.holds(target.path(pyramid, level), (*block, slice(0, height), slice(0, width))):
            return False
    return True


def build(work: Sequence[Piece], target: OverviewsTarget, threads: int, progress: Progress) -> int:
    """Make all pieces, and read back what was written; return how many values that were.

    Raises:
        RechunkFailed: something cannot be read or written, or reads back differently.
    """
    written = 0
    with ThreadPoolExecutor(threads, "cubegate-overviews") as pool:
        made = _run(pool, lambda piece: _Making(piece, target).make(), work, 2 * threads)
        for done, values in enumerate(made, start=1):
            written += values
            progress("Building overviews", done, len(work))
    return written


def _run(
    pool: ThreadPoolExecutor, make: Callable[[Piece], int], work: Sequence[Piece], ahead: int
) -> Iterator[int]:
    """Yield what came of each piece in order; the first error ends all that has not begun."""
    waiting = iter(work)
    running = [pool.submit(make, piece) for piece in itertools.islice(waiting, ahead)]
    try:
        while running:
            yield running.pop(0).result()
            running += [pool.submit(make, piece) for piece in itertools.islice(waiting, 1)]
    finally:
        for future in running:
            future.cancel()


@dataclass
class _Making:
    """Makes one piece, depth first: of each level, a block of `side` / 2 cells along y and x is in memory."""

    piece: Piece
    target: OverviewsTarget
    values: int = 0
    corners: dict[int, tuple[int, int]] = field(default_factory=dict)
    buffers: dict[int, NDArray[Any]] = field(default_factory=dict)

    def make(self) -> int:
        top = self.piece.pyramid.levels
        for row, column in itertools.product(*map(range, self._blocks(top))):
            self._fill(top, row, column)
        return self.values

    def _blocks(self, level: int) -> tuple[int, int]:
        """How many blocks of a level there are along y and x."""
        size = self.piece.pyramid.side // 2
        *_, height, width = self.piece.pyramid.shape(level)
        return -(-height // size), -(-width // size)

    def _fill(self, level: int, row: int, column: int) -> None:
        pyramid, block = self.piece
        size = pyramid.side // 2
        *_, height, width = pyramid.shape(level)
        rows = slice(row * size, min((row + 1) * size, height))
        columns = slice(column * size, min((column + 1) * size, width))
        shape = (
            *(run.stop - run.start for run in block),
            rows.stop - rows.start,
            columns.stop - columns.start,
        )
        self.corners[level] = rows.start, columns.start
        self.buffers[level] = np.empty(shape, pyramid.dtype)
        if level == 1:
            self._read(row, column)
        else:
            most = self._blocks(level - 1)
            for down, right in itertools.product((0, 1), (0, 1)):
                below = 2 * row + down, 2 * column + right
                if below[0] < most[0] and below[1] < most[1]:
                    self._fill(level - 1, *below)
        self._write(self.target.path(pyramid, level), (*block, rows, columns), self.buffers.pop(level))

    def _read(self, row: int, column: int) -> None:
        """Read what a block of the first level is made of, and put it into the blocks of all levels."""
        pyramid, block = self.piece
        side = pyramid.side
        y, x = pyramid.grid.y, pyramid.grid.x
        rows = slice(row * side, min((row + 1) * side, len(y.values)))
        columns = slice(column * side, min((column + 1) * side, len(x.values)))
        where = (
            f"{pyramid.path}[{', '.join(f'{each.start}:{each.stop}' for each in (*block, rows, columns))}]"
        )
        try:
            selected = pyramid.variable.isel(pyramid.indexers(block, rows, columns))
            cells = selected.transpose(*pyramid.dims).values
        except CubegateError as error:
            raise RechunkFailed(f"Reading {where} failed: {str(error).rstrip('.')}.") from error
        for number in np.ndindex(cells.shape[:-2]):
            made = coarsen(cells[number], pyramid.levels, pyramid.resampling, pyramid.weights[rows])
            for level, coarse in enumerate(made, start=1):
                top, left = (
                    coarse_size(start, level) - corner
                    for start, corner in zip((rows.start, columns.start), self.corners[level], strict=True)
                )
                height, width = coarse.shape
                self.buffers[level][(*number, slice(top, top + height), slice(left, left + width))] = coarse

    def _write(self, path: str, region: Region, values: NDArray[Any]) -> None:
        try:
            self.target.write(path, region, values)
            same = checksum(self.target.read(path, region)) == checksum(values)
        except (CubegateError, OSError) as error:
            raise RechunkFailed(f"Writing {path} failed: {str(error).rstrip('.')}.") from error
        if not same:
            raise RechunkFailed(f"Writing {path} failed: it reads back differently.")
        self.values += values.size
