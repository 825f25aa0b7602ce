"""Measures what a warm series is answered from, what filling it costs, and the sizes of blocks and windows.

    python -m tests.benchmarks.studies.cache_layout

Each round reads a pixel of a chunk column that nobody has read (p1), waits, and reads a neighbour (p2) three times.
"""

from __future__ import annotations

import contextlib
import time
from statistics import median

from tests.benchmarks.queries import Point

from .redis_servers import RedisServer, redis_server
from .replicas import IDLE, Replica, bench, chunk_columns
from .samples import Samples, cpu_seconds, in_turn, parser, print_circumstances, print_table, ratio, shown

DELAY = 30.0
REPEATS = 3
SETTLING = 1.5
MEMORY = "1GiB"
NOTHING = "nothing"
USED = "columns, blocks of 16 and windows of 64, in use"
ENCODED = "encoded chunks"
REDIS = f"{USED}, and Redis"
FILLING = {
    NOTHING: {"memory": "0", "without_columns": True},
    ENCODED: {"memory": MEMORY, "without_columns": True},
    "columns, blocks of 8 and windows of 32": {
        "memory": MEMORY, "block": (8, 2**16), "window": (32, 2**22),
    },
    USED: {"memory": MEMORY},
    "columns, blocks of 32 and windows of 128": {
        "memory": MEMORY, "block": (32, 2**20), "window": (128, 2**26),
    },
}  # fmt: skip


class Layouts:
    """The servers: those that fill a cache, and those that find it filled in Redis."""

    def __init__(self, filling: dict[str, Replica], finding: dict[str, Replica], redis: RedisServer) -> None:
        self.filling, self.finding, self._redis = filling, finding, redis
        self.redis_cpu = Samples()
        self._columns = iter(chunk_columns())

    def read_next_column(self) -> None:
        """Read the next chunk column: first a pixel of it, then its neighbour."""
        point = next(self._columns)
        # no connection to the upstream is kept so long
        time.sleep(2 * IDLE)
        in_turn({name: lambda replica=replica: self._fill(replica, point)
                 for name, replica in self.filling.items()}, 1)  # fmt: skip
        neighbour = Point(point.row + 3, point.column + 4)
        for _ in range(REPEATS):
            for replica in (*self.filling.values(), *self.finding.values()):
                replica.series(neighbour, "p2")

    def _fill(self, replica: Replica, point: Point) -> None:
        before = cpu_seconds(self._redis.process)
        replica.series(point, "p1")
        replica.settled("after", SETTLING)
        if replica is self.filling[REDIS]:
            self.redis_cpu.add(0, cpu_seconds(self._redis.process) - before)

    def forget(self) -> None:
        """Forget the samples so far."""
        self.redis_cpu = Samples()
        for replica in (*self.filling.values(), *self.finding.values()):
            replica.samples.clear()

    def written(self, name: str, kind: str) -> float:
        """Megabytes that a read of one chunk column left in memory."""
        counts = self.filling[name].counts()
        found = [
            value
            for key, value in counts.items()
            if "written_bytes" in key and "memory" in key and kind in key
        ]
        read = len(self.filling[name].samples["p1"].wall) + 1
        return sum(found) / read / 1e6


def main() -> None:
    """Measure, and print both tables."""
    parsed = parser(__doc__, 7).parse_args()
    with bench(parsed.stack, DELAY) as stand, contextlib.ExitStack() as running:
        redis = running.enter_context(redis_server(stand.folder))
        enter = running.enter_context
        filling = {name: enter(stand.replica(**changes)) for name, changes in FILLING.items()}
        filling[REDIS] = enter(stand.replica(memory=MEMORY, redis=redis.tcp))
        # the pauses of a Redis that was slow once are no part of this
        patient = {"patience": {"pause": 0.1}}
        finding = {
            "decoded columns in Redis, one GETRANGE": enter(stand.replica(redis=redis.tcp, **patient)),
            "encoded chunks in Redis, MGET": enter(
                stand.replica(redis=redis.tcp, without_columns=True, **patient)
            ),
        }
        layouts = Layouts(filling, finding, redis)
        layouts.read_next_column()
        layouts.forget()
        for _ in range(parsed.rounds):
            layouts.read_next_column()
        _print_warm(layouts)
        _print_filling(layouts)
    print_circumstances(parsed.rounds, "redis", "hiredis")


def _print_warm(layouts: Layouts) -> None:
    found = {
        "decoded columns in memory": layouts.filling[USED],
        **layouts.finding,
        "encoded chunks in memory": layouts.filling[ENCODED],
        NOTHING: layouts.filling[NOTHING],
    }
    first = layouts.filling[USED].samples["p2"]
    rows = [
        [name, p2.both, ratio(p2.clock, first.clock), ratio(p2.fastest, first.fastest), shown(p2.processor)]
        for name, p2 in ((name, replica.samples["p2"]) for name, replica in found.items())
    ]
    print_table(
        "p2, a neighbour of what was read before, from",
        ["held", "ms: median / least", "ratio", "of least", "CPU ms"],
        rows,
    )


def _print_filling(layouts: Layouts) -> None:
    nothing = layouts.filling[NOTHING].samples
    rows = []
    for name, replica in layouts.filling.items():
        p1, after = replica.samples["p1"], replica.samples["after"]
        rows.append([
            name, p1.both, shown(p1.processor),
            f"{p1.processor - nothing['p1'].processor:+.0f}",
            f"{after.processor - nothing['after'].processor:+.0f}",
            *("" if name == NOTHING else f"{layouts.written(name, kind):.1f}" for kind in ("chunk", "column")),
            replica.samples["p2"].both,
        ])  # fmt: skip
    header = [
        "kept", "p1, ms: median / least", "CPU ms", "CPU more than nothing", "CPU more afterwards", "MB of chunks", "MB of columns",
        "p2, ms",
    ]  # fmt: skip
    print_table("What filling costs, a cold series of 209 dates", header, rows)
    redis = median(layouts.redis_cpu.cpu)
    print(f"\nRedis itself took {redis:.0f} ms of processor for a series.")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
