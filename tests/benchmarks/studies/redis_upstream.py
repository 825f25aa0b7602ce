"""Measures a second replica, whose Redis a first one has filled, against one that asks the upstream.

    python -m tests.benchmarks.studies.redis_upstream

Nothing is in the memory of the replicas. The upstream answers at once, after 5 ms, and after 30 ms. A replica leaves
Redis alone for five seconds where it was slow once. Here it is a tenth of a second, so that every sample asks Redis.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from statistics import median

from redis import Redis

from .redis_servers import RedisServer, redis_server
from .replicas import Bench, Replica, bench
from .samples import cpu_seconds, in_turn, parser, print_circumstances, print_table, ratio, shown

DELAYS = (0.0, 5.0, 30.0)
PATIENT = {"patience": {"pause": 0.1}}
FILLING_SECONDS = 60.0
OFF = "no Redis"
# The query, by what is said of it, and whether it reads columns.
QUERIES = {
    "one Zarr chunk": ("chunk", True),
    "p1, columns held": ("p1", True),
    "p3, only chunks held": ("p3", False),
    "b2, 836 chunks": ("b2", True),
}


@dataclass
class Replicas:
    """A server that reads columns and one that does not, over the same Redis."""

    reading: Replica
    without_columns: Replica
    empties: Redis | None = None
    hits: dict[str, list[float]] = field(default_factory=dict)

    def ask(self, label: str, delay: float) -> None:
        """Take one sample of a query."""
        query, columns = QUERIES[label]
        replica = self.reading if columns else self.without_columns
        quiet(replica)
        if self.empties is not None:
            self.empties.flushdb()
        before = _hits(replica)
        name = f"{label} {delay:g}"
        replica.ask(query, name)
        hits, misses = (after - earlier for after, earlier in zip(_hits(replica), before, strict=True))
        if hits + misses:
            self.hits.setdefault(name, []).append(hits / (hits + misses))

    def clock(self, label: str, delay: float) -> float:
        """The median of a query."""
        replica = self.reading if QUERIES[label][1] else self.without_columns
        return replica.samples[f"{label} {delay:g}"].clock


def _hits(replica: Replica) -> tuple[float, float]:
    counts = replica.counts()
    found = (name for name in counts if 'tier="redis"' in name)
    by_kind = list(found)
    return (
        sum(counts[name] for name in by_kind if "_hits_" in name),
        sum(counts[name] for name in by_kind if "_misses_" in name),
    )


def quiet(replica: Replica) -> None:
    """Wait until a server does nothing any more."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        before = cpu_seconds(replica.server.process)
        time.sleep(0.15)
        if cpu_seconds(replica.server.process) - before < 0.01:
            return


def fill(stand: Bench, redis: RedisServer) -> None:
    """Let a first replica leave everything in Redis that the others are asked for."""
    with (
        stand.replica(redis=redis.tcp, memory="1GiB", **PATIENT) as first,
        stand.replica(redis=redis.tcp, **PATIENT, without_columns=True) as plain,
    ):
        expected = 1 + 209 + 209 + 836
        deadline = time.monotonic() + FILLING_SECONDS
        while _chunks(redis) < expected:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Redis holds {_chunks(redis)} chunks of {expected}.")
            for replica, query in ((first, "chunk"), (first, "p1"), (plain, "p3"), (plain, "b2")):
                replica.ask(query)
                quiet(replica)


def _chunks(redis: RedisServer) -> int:
    return sum(not key.endswith(b":claim") for key in redis.client.keys("cubegate:chunk:*"))


def main() -> None:
    """Measure, and print the table."""
    parsed = parser(__doc__, 5).parse_args()
    with bench(parsed.stack, 0) as stand, contextlib.ExitStack() as running:
        filled = running.enter_context(redis_server(stand.folder))
        empty = running.enter_context(redis_server(stand.folder))
        fill(stand, filled)

        def replicas(redis: str | None, empties: Redis | None = None) -> Replicas:
            both = [running.enter_context(stand.replica(redis=redis, without_columns=without, **PATIENT))
                    for without in (False, True)]  # fmt: skip
            return Replicas(*both, empties)

        cases = {
            OFF: replicas(None),
            "filled Redis, Unix socket": replicas(filled.unix),
            "filled Redis, TCP": replicas(filled.tcp),
            "empty Redis, TCP": replicas(empty.tcp, empty.client),
        }
        _measure(cases, stand, parsed.rounds)
        rows = [_row(label, name, cases) for label in QUERIES for name in cases]
        size = filled.client.info("memory")["used_memory"] / 1e6
    header = ["query", "with", *(f"upstream {delay:g} ms" for delay in DELAYS), "from Redis"]
    print_table("Milliseconds of a second replica, and their ratio to no Redis", header, rows)
    print(f"\nThe filled Redis used {size:.0f} MB.")  # noqa: T201 - a command
    print_circumstances(parsed.rounds, "redis", "hiredis")


def _measure(cases: dict[str, Replicas], stand: Bench, rounds: int) -> None:
    for number in range(rounds + 1):
        for label in QUERIES:
            for delay in DELAYS if number else DELAYS[:1]:
                stand.upstream.set_delay(delay)
                in_turn({name: lambda case=case, label=label, delay=delay: case.ask(label, delay)
                         for name, case in cases.items()}, 1)  # fmt: skip
        if not number:
            for case in cases.values():
                case.hits.clear()
                case.reading.samples.clear()
                case.without_columns.samples.clear()


def _row(label: str, name: str, cases: dict[str, Replicas]) -> list[str]:
    cells = [label, name]
    for delay in DELAYS:
        off, value = cases[OFF].clock(label, delay), cases[name].clock(label, delay)
        cells.append(f"{shown(value)} ({ratio(value, off)})")
    shares = [share for key, found in cases[name].hits.items() if key.startswith(label) for share in found]
    return [*cells, f"{median(shares):.0%}" if shares else ""]


if __name__ == "__main__":
    main()
