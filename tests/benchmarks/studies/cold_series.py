"""Measures what a cold series costs: time, and the processor time of the event loop, the decoding and the range server.

    python -m tests.benchmarks.studies.cold_series

One server that has just become ready answers a first series, and then others whose chunks nobody has read either. The
floor is the injected delay and the decoding of the same chunks from memory. What two cores cannot do in less time is
the delay and all processor time divided by the cores.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import uvloop
from tests.benchmarks.queries import Point
from tests.benchmarks.servers import (
    DATASET,
    Configuration,
    Cubegate,
    RangeServer,
    cubegate,
    range_server,
    write_configuration,
)
from tests.benchmarks.stack import CHUNK, VARIABLES, build_stack, write_json

from .http_client import DELAY, Series
from .samples import Samples, parser, print_circumstances, print_table, ratio, shown

# the first query should not compete with what a server does in the background once it is ready
_SETTLE = 2.0
_PAUSE = 0.2


class Costs:
    """Samples of one kind of series: on the clock, and processor milliseconds by who used them."""

    def __init__(self) -> None:
        self.samples = Samples()
        self.loop, self.threads, self.upstream = Samples(), Samples(), Samples()

    def row(self, name: str, floor: Samples) -> list[str]:
        """One row of the table."""
        used = self.loop.clock + self.threads.clock + self.upstream.clock
        least = DELAY + used / (os.cpu_count() or 1)
        return [
            name, self.samples.both, *(shown(s.clock) for s in (self.loop, self.threads, self.upstream)),
            shown(least), ratio(self.samples.clock, floor.clock), ratio(self.samples.fastest, floor.fastest),
        ]  # fmt: skip


class Server:
    """A running cubegate, asked over one connection."""

    def __init__(self, running: Cubegate, upstream: RangeServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        self._process, self._upstream = running.process, upstream.process
        self._ask("/healthz")

    def series(self, variable: str, point: Point, costs: Costs) -> None:
        """Ask for the series of a point, and add what it cost."""
        x, y = point.xy
        query = urlencode({"x": x, "y": y, "variables": variable, "f": "csv"})
        before, other, began = _by_thread(self._process), _by_thread(self._upstream), time.perf_counter()
        self._ask(f"/datasets/{DATASET}/timeseries?{query}")
        costs.samples.add(time.perf_counter() - began)
        after, another = _by_thread(self._process), _by_thread(self._upstream)
        used = {thread: after[thread] - before.get(thread, 0.0) for thread in after}
        costs.loop.add(used.pop(self._process))
        costs.threads.add(sum(used.values()))
        costs.upstream.add(sum(another.values()) - sum(other.values()))

    def _ask(self, target: str) -> None:
        self._connection.request("GET", target)
        with self._connection.getresponse() as response:
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"{target} was answered {response.status}: {content[:500]!r}")


def _by_thread(process: int) -> dict[int, float]:
    """Seconds of processor that each thread of a process has used; the first one has the number of the process."""
    tasks = Path(f"/proc/{process}/task")
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks.iterdir()
    }


def main() -> None:
    """Measure, and print the table."""
    parsed = parser(__doc__, 5).parse_args()
    stack = build_stack(parsed.stack)
    first, later, floor = Costs(), Costs(), Samples()
    with tempfile.TemporaryDirectory(prefix="cubegate-study-") as name:
        folder = Path(name)
        with range_server(stack, DELAY, folder / "range.log") as upstream:
            references = folder / "stack.json"
            write_json(references, stack.references(f"{upstream.url}/granules"))
            configuration = write_configuration(folder / "cubegate", references, upstream)
            series = Series(stack, upstream)
            columns = stack.size.width // CHUNK
            rows = stack.size.height // CHUNK
            points = [(v, _point(r, c)) for v in VARIABLES for r in range(rows) for c in range(columns)]
            for _ in range(parsed.rounds):
                _one_server(configuration, points, upstream, first=first, later=later)
                uvloop.run(_decode(series, floor))
    header = [
        "series", "median / least, ms", "event loop, CPU ms", "decoding threads", "range server",
        "delay + all / cores", "of the floor", "of its least",
    ]  # fmt: skip
    table = [
        first.row("first of a server", floor),
        later.row(f"{len(later.samples.wall)} others", floor),
    ]
    print_table(f"A cold series of {stack.size.dates} chunks, {DELAY:g} ms injected", header, table)
    print(f"\nThe floor is {floor.both} ms.")  # noqa: T201 - a command
    print_circumstances(parsed.rounds, "uvloop", "httptools", "deflate")


def _point(row: int, column: int) -> Point:
    return Point(row * CHUNK + 32, column * CHUNK + 90)


def _one_server(
    configuration: Configuration,
    points: list[tuple[str, Point]],
    upstream: RangeServer,
    *,
    first: Costs,
    later: Costs,
) -> None:
    with cubegate(configuration) as running:
        time.sleep(_SETTLE)
        server = Server(running, upstream)
        for number, (variable, point) in enumerate(points):
            server.series(variable, point, later if number else first)
            time.sleep(_PAUSE)


async def _decode(series: Series, floor: Samples) -> None:
    began = time.perf_counter()
    await series.decode_all()
    floor.add(time.perf_counter() - began + DELAY / 1000)


if __name__ == "__main__":
    main()
