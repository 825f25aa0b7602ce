"""The floor (f): what is left of a query when fetching costs one round trip and nothing else does.

The chunks are in memory. They are inflated by libdeflate in as many threads as there are cores, and unshuffled
as far as the query needs it. The injected round trip is added by whoever reads the report.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deflate
import numpy as np

from .queries import BOXES, POINTS, VARIABLE, Box, Point
from .stack import CHUNK, Stack, build_stack
from .subject import Measurements, run

_NBYTES = CHUNK * CHUNK * 4
_REPEATS = 2


class Decoding:
    """The decoding of a query's chunks into its result."""

    def __init__(self, stack: Stack, pool: ThreadPoolExecutor) -> None:
        self._stack, self._pool = stack, pool
        self._dates = range(stack.size.dates)

    def measure_point(self, point: Point, name: str, measured: Measurements) -> None:
        """Time the decoding of one pixel's chunks."""
        row, column = point.row // CHUNK, point.column // CHUNK
        chunks = [self._stack.chunk_bytes(VARIABLE, date, row, column) for date in self._dates]
        pixel = (point.row % CHUNK) * CHUNK + point.column % CHUNK
        planes = pixel + CHUNK * CHUNK * np.arange(4)

        def decode(part: slice) -> bytes:
            return b"".join(bytes(_inflate(data)[planes]) for data in chunks[part])

        parts = self._parts(len(chunks))
        with measured.timed(name):
            decoded = b"".join(self._pool.map(decode, parts))
        measured.values[name] = np.frombuffer(decoded, "<f4")

    def measure_box(self, box: Box, name: str, measured: Measurements) -> None:
        """Time the decoding of a box's chunks."""
        (top, bottom), (left, right) = box.rows, box.columns
        dates = self._dates if box.date is None else range(box.date, box.date + 1)
        rows = range(top // CHUNK, -(-bottom // CHUNK))
        columns = range(left // CHUNK, -(-right // CHUNK))
        places = [(date, row, column) for date in dates for row in rows for column in columns]
        chunks = [self._stack.chunk_bytes(VARIABLE, *place) for place in places]
        result = np.empty((len(dates), bottom - top, right - left), "<f4")

        def decode(part: slice) -> None:
            whole = np.empty((CHUNK * CHUNK, 4), np.uint8)
            for (date, row, column), data in zip(places[part], chunks[part], strict=True):
                whole[:] = _inflate(data).reshape(4, -1).T
                values = whole.view("<f4").reshape(CHUNK, CHUNK)
                y, x = row * CHUNK, column * CHUNK
                first_y, last_y = max(top, y), min(bottom, y + CHUNK)
                first_x, last_x = max(left, x), min(right, x + CHUNK)
                target = result[date - dates[0], first_y - top : last_y - top, first_x - left : last_x - left]
                target[:] = values[first_y - y : last_y - y, first_x - x : last_x - x]

        parts = self._parts(len(chunks))
        with measured.timed(name):
            list(self._pool.map(decode, parts))
        measured.values[name] = result

    def _parts(self, count: int) -> list[slice]:
        threads = os.cpu_count() or 1
        edges = [count * number // threads for number in range(threads + 1)]
        return [slice(*edge) for edge in itertools.pairwise(edges)]


def _inflate(data: bytes) -> np.ndarray:
    return np.frombuffer(deflate.zlib_decompress(data, _NBYTES), np.uint8)


def measure(job: dict[str, Any], measured: Measurements) -> None:
    """Time the decoding of the queries in the job, a few times each."""
    stack = build_stack(Path(job["stack"]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoding = Decoding(stack, pool)
        for name in job["queries"] * _REPEATS:
            if name in POINTS:
                decoding.measure_point(POINTS[name], name, measured)
            else:
                decoding.measure_box(BOXES[name], name, measured)


if __name__ == "__main__":
    run(measure)
