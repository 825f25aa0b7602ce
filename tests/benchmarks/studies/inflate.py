"""Measures what can inflate and unshuffle a chunk of OPERA: processor time, and whether other threads run meanwhile.

    python -m tests.benchmarks.studies.inflate

The peers are optional, and a missing one is a row that says so. They want an environment of their own:

    python -m venv .venv-studies
    .venv-studies/bin/python -m pip install -e '.[all,dev]' isal zlib-ng imagecodecs
    .venv-studies/bin/python -m tests.benchmarks.studies.inflate
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import deflate
import numcodecs
import numpy as np
from tests.benchmarks.queries import VARIABLE
from tests.benchmarks.stack import CHUNK, Stack, build_stack

from cubegate.store.decoder import Planes, copy_selected

from .samples import Samples, in_turn, parser, print_circumstances, print_table, ratio

NBYTES = CHUNK * CHUNK * 4
CHUNKS = 40
THREADS = 2

Work = Callable[[bytes], Any]


def inflaters() -> tuple[dict[str, Work], dict[str, str]]:
    """What inflates, by name, and why some are missing."""
    found: dict[str, Work] = {
        "libdeflate (`deflate`), in use": lambda data: deflate.zlib_decompress(data, NBYTES),
        "zlib, of the standard library": zlib.decompress,
        "numcodecs.Zlib": numcodecs.Zlib().decode,
    }
    missing = {}
    peers: dict[str, tuple[str, Callable[[Any], Work]]] = {
        "isal": ("isal.isal_zlib", lambda module: module.decompress),
        "zlib-ng": ("zlib_ng.zlib_ng", lambda module: module.decompress),
        "imagecodecs.deflate_decode (libdeflate)": (
            "imagecodecs", lambda module: lambda data: module.deflate_decode(data, out=NBYTES),
        ),
        "imagecodecs.zlib_decode": (
            "imagecodecs", lambda module: lambda data: module.zlib_decode(data, out=NBYTES),
        ),
    }  # fmt: skip
    for name, (module, made) in peers.items():
        try:
            found[name] = made(import_module(module))
        except ImportError:
            missing[name] = "not installed"
    return found, missing


def unshufflers() -> dict[str, Work]:
    """What takes values out of an inflated chunk, by name."""
    shuffle = numcodecs.Shuffle(4)

    def transposed(data: bytes) -> np.ndarray:
        planes = np.frombuffer(data, np.uint8).reshape(4, -1)
        return np.ascontiguousarray(planes.T).reshape(-1).view("<f4")

    def selected(rows: slice, columns: slice) -> Work:
        values = (rows.stop - rows.start, columns.stop - columns.start)

        def select(data: bytes) -> np.ndarray:
            planes = Planes(np.frombuffer(data, np.uint8).reshape(4, CHUNK, CHUNK), np.dtype("<f4"))
            taken = np.empty(values, "<f4")
            copy_selected(planes, (rows, columns), taken)
            return taken

        return select

    return {
        "whole chunk: numcodecs.Shuffle": shuffle.decode,
        "whole chunk: one transposing copy (numpy)": transposed,
        "whole chunk: plane by plane (numpy), in use": selected(slice(0, CHUNK), slice(0, CHUNK)),
        "64 x 64 pixels: plane by plane, in use": selected(slice(32, 96), slice(64, 128)),
        "one pixel: plane by plane, in use": selected(slice(32, 33), slice(90, 91)),
    }


class Measured:
    """One way to decode, by itself and in two threads at once."""

    def __init__(self, work: Work, chunks: Sequence[bytes], pool: ThreadPoolExecutor) -> None:
        self._work, self._chunks, self._pool = work, chunks, pool
        self.alone, self.together = Samples(), Samples()

    def __call__(self) -> None:
        """Take one sample of each, over all chunks."""
        with self.alone.timed():
            self._pass(self._chunks)
        with self.together.timed():
            list(self._pool.map(self._pass, [self._chunks] * THREADS))

    def _pass(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self._work(chunk)

    @property
    def microseconds(self) -> float:
        """Processor time of one chunk, of one thread."""
        return self.alone.processor * 1000 / len(self._chunks)

    @property
    def cores(self) -> float:
        """How many cores two threads kept busy at their best: 1 where one always waits for the other."""
        samples = zip(self.together.cpu, self.together.wall, strict=True)
        return max(cpu / wall for cpu, wall in samples)


def encoded_chunks(stack: Stack) -> list[bytes]:
    """Some chunks as they are stored."""
    return [stack.chunk_bytes(VARIABLE, date, date % 4, date % 5) for date in range(CHUNKS)]


def main() -> None:
    """Measure, and print both tables."""
    parsed = parser(__doc__, 15).parse_args()
    encoded = encoded_chunks(build_stack(parsed.stack))
    inflated = [zlib.decompress(data) for data in encoded]
    found, missing = inflaters()
    with ThreadPoolExecutor(THREADS) as pool:
        inflating = {name: Measured(work, encoded, pool) for name, work in found.items()}
        unshuffling = {name: Measured(work, inflated, pool) for name, work in unshufflers().items()}
        in_turn({**inflating, **unshuffling}, parsed.rounds)
    header = ["CPU µs", "ratio", "cores that two threads use"]
    first = next(iter(inflating.values()))
    rows = [_row(name, measured, first) for name, measured in inflating.items()]
    rows += [[name, why, "", ""] for name, why in missing.items()]
    size = f"{sum(map(len, encoded)) / CHUNKS / 1000:.0f} KB"
    print_table(f"Inflate one chunk of {size} to {NBYTES // 1024} KiB", ["library", *header], rows)
    rows = [_row(name, measured, first) for name, measured in unshuffling.items()]
    print_table("Unshuffle it; the ratio is to inflating by libdeflate", ["what", *header], rows)
    print_circumstances(parsed.rounds, "deflate", "numcodecs", "numpy", "isal", "zlib-ng", "imagecodecs")


def _row(name: str, measured: Measured, first: Measured) -> list[str]:
    return [
        name, f"{measured.microseconds:.3g}", ratio(measured.microseconds, first.microseconds),
        f"{measured.cores:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
