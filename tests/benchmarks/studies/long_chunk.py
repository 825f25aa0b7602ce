"""Measures chunks in the layout of ITS_LIVE, few pixels and all their times, with and without decoded columns.

    python -m tests.benchmarks.studies.long_chunk

One chunk is (40000, 20, 20) of int16 by Blosc. The reader of the product is called without its HTTP, since writing a
series of 40,000 values as CSV costs more than reading it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import uvloop
from tests.benchmarks.processes import free_port, get, started, wait_ready
from tests.benchmarks.stack import SEED

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.upstream import Upstreams, open_upstreams
from cubegate.index.build import build_index
from cubegate.index.index import Index
from cubegate.settings import UpstreamSettings
from cubegate.store.columns import ColumnCache, column_layout
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray

from .samples import Samples, in_turn, parser, print_circumstances, print_table, ratio, shown

DELAY = 30.0
TIMES, SIDE = 40_000, 20
FILL = -32767
FIRST, NEIGHBOUR, FAR = (9, 9), (10, 11), (1, 18)
SETTLING = 0.5


def write_chunk(folder: Path) -> np.ndarray:
    """Write the one chunk of a cube as `folder/chunk`; returns its values, most of them fill."""
    rng = np.random.default_rng(SEED)
    values = np.full((TIMES, SIDE, SIDE), FILL, np.int16)
    # an image pair covers all pixels or few of them
    seen = rng.random(TIMES) < 0.25
    speeds = 300 + 40 * rng.standard_normal((int(seen.sum()), SIDE, SIDE))
    values[seen] = speeds.astype(np.int16)
    encoded = numcodecs.Blosc(cname="zlib", clevel=2, shuffle=numcodecs.Blosc.SHUFFLE).encode(values)
    (folder / "chunk").write_bytes(encoded)
    return values


def references(url: str, nbytes: int) -> dict[str, Any]:
    """The cube as kerchunk references."""
    array = {
        "zarr_format": 2, "shape": [TIMES, SIDE, SIDE], "chunks": [TIMES, SIDE, SIDE], "dtype": "<i2", "order": "C",
        "fill_value": FILL, "filters": None, "dimension_separator": ".",
        "compressor": {"id": "blosc", "cname": "zlib", "clevel": 2, "shuffle": 1, "blocksize": 0},
    }  # fmt: skip
    attributes = {"_ARRAY_DIMENSIONS": ["mid_date", "y", "x"], "_FillValue": FILL}
    entries = {
        ".zgroup": json.dumps({"zarr_format": 2}),
        "v/.zarray": json.dumps(array),
        "v/.zattrs": json.dumps(attributes),
        "v/0.0.0": [f"{url}/chunk", 0, nbytes],
    }
    return {"version": 1, "refs": entries}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve `folder` by the range server while the context lasts; gives its URL."""
    script = Path(__file__).parents[1] / "range_server.py"
    port, log = free_port(), folder / "range.log"
    command = [sys.executable, str(script), str(folder), "--port", str(port), "--delay", str(DELAY)]
    with started(command, log) as process:
        wait_ready(process, log, port, "/__stats")
        get(port, "/chunk")
        yield f"http://127.0.0.1:{port}"


@dataclass
class Layout:
    """One way to keep what is read, and its samples."""

    chunks: bool
    columns: bool
    samples: dict[str, Samples] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    async def measure(self, upstreams: Upstreams, index: Index, values: np.ndarray) -> None:
        """Read a pixel, one beside it, and one at the other end of the chunk, after a start with nothing."""
        chunks, columns = MemoryCache(2**28 if self.chunks else 0), MemoryCache(2**28)
        store = EncodedStore(
            index.hierarchy, index, Cached(Coalesced(upstreams), chunks, index.version), version=index.version,
            columns=ColumnCache(columns, index.version) if self.columns else None,
        )  # fmt: skip
        array = EncodedArray(store, store.array("v"))
        for name, (y, x) in (("first", FIRST), ("neighbour", NEIGHBOUR), ("far", FAR)):
            with self.samples.setdefault(name, Samples()).timed():
                read = await array.read((slice(None), y, x))
            if not np.array_equal(read, values[:, y, x]):
                raise ValueError(f"The series of {name} is wrong.")
            with self.samples.setdefault(f"{name}, afterwards", Samples()).timed():
                await asyncio.sleep(SETTLING)
        self.held = {"chunks": chunks.nbytes, "columns": columns.nbytes}


LAYOUTS = {
    "nothing": Layout(chunks=False, columns=False),
    "encoded chunks": Layout(chunks=True, columns=False),
    "decoded columns": Layout(chunks=False, columns=True),
    "both, in use": Layout(chunks=True, columns=True),
}


async def _open(url: str, folder: Path) -> tuple[Upstreams, Index]:
    file = folder / "references.json"
    file.write_text(json.dumps(references(url, (folder / "chunk").stat().st_size)), "utf-8")
    upstreams = open_upstreams({f"{url}/": UpstreamSettings(), f"{folder.as_uri()}/": UpstreamSettings()}, {})
    index = await build_index(file.as_uri(), upstreams, check_url=upstreams.check, fill="declared")
    return upstreams, index


def main() -> None:
    """Measure, and print the table."""
    parsed = parser(__doc__, 5).parse_args()
    with tempfile.TemporaryDirectory(prefix="cubegate-study-") as name:
        folder = Path(name)
        values = write_chunk(folder)
        nbytes = (folder / "chunk").stat().st_size
        with served(folder) as url:
            layout = uvloop.run(_layout(url, folder))
            in_turn(
                {name: lambda way=way: uvloop.run(_measure(way, url, folder, values))
                 for name, way in LAYOUTS.items()}, parsed.rounds,
            )  # fmt: skip
    first = LAYOUTS["nothing"].samples["first"]
    rows = []
    for kept, way in LAYOUTS.items():
        cells = [kept]
        for pixel in ("first", "neighbour", "far"):
            cells += [way.samples[pixel].both, ratio(way.samples[pixel].clock, first.clock)]
        cells += [shown(way.samples["first"].processor), shown(way.samples["first, afterwards"].processor)]
        rows.append([*cells, f"{way.held['chunks'] / 1e6:.1f}", f"{way.held['columns'] / 1e6:.1f}"])
    header = [
        "kept", "first, ms: median / least", "ratio", "a neighbour", "ratio", "a pixel far off", "ratio",
        "first, CPU ms", "afterwards, CPU ms", "MB of chunks", "MB of columns",
    ]  # fmt: skip
    title = f"A chunk ({TIMES}, {SIDE}, {SIDE}) of int16, {nbytes / 1e6:.1f} MB stored, {values.nbytes / 1e6:.0f} MB decoded"
    print_table(f"{title}; {layout}", header, rows)
    print_circumstances(parsed.rounds, "numcodecs", "numpy")


async def _layout(url: str, folder: Path) -> str:
    upstreams, index = await _open(url, folder)
    layout = column_layout(index.hierarchy.arrays["v"])
    await upstreams.aclose()
    return "no columns" if layout is None else f"blocks of {layout.block}, windows of {layout.window}"


async def _measure(way: Layout, url: str, folder: Path, values: np.ndarray) -> None:
    upstreams, index = await _open(url, folder)
    await way.measure(upstreams, index, values)
    await upstreams.aclose()


if __name__ == "__main__":
    main()
