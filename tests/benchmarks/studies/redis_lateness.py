"""Measures how much later an answer comes because of a Redis that is of no use: slow, stopped, full, cut off, lying.

    python -m tests.benchmarks.studies.redis_lateness

No value of any use is in Redis when a query is asked, and nothing is in memory. A replica leaves Redis alone for five
seconds after a failure. Here it is a tenth of a second, so that every sample meets the fault.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from redis import Redis
from tests.benchmarks.processes import free_port

from .redis_servers import proxy, redis_server
from .replicas import Bench, Replica, bench
from .samples import in_turn, parser, print_circumstances, print_table, shown

DELAY = 30.0
PAUSE = 0.1
# What is written after an answer should not meet the next one.
REST = {"p1": 0.3, "chunk": 0.1}
BAR = 100.0
# One for each chunk of the series, and one for the chunk.
CLAIMS = 210
NONE = "no Redis at all"
PROXIES = {
    "answers 5 ms late": ("--delay", "5"),
    "answers 14 ms late": ("--delay", "14"),
    "answers 20 ms late": ("--delay", "20"),
    "answers 45 ms late": ("--delay", "45"),
    "answers 90 ms late": ("--delay", "90"),
    "sends 40 MB/s": ("--rate", "40e6"),
    "ends every connection at its first request": ("--cut",),
}


def nothing() -> None:
    """There is nothing to prepare, or to mend."""


@dataclass(frozen=True)
class Fault:
    """A replica, and what is done to its Redis before and after each query."""

    replica: Replica
    before: Callable[[], object] = nothing
    after: Callable[[], object] = nothing

    def __call__(self) -> None:
        """Take one sample of each query."""
        for query, rest in REST.items():
            self.before()
            self.replica.ask(query)
            self.after()
            time.sleep(rest)


class Faults:
    """Starts the replicas and the Redis servers of all faults."""

    def __init__(self, stand: Bench, running: contextlib.ExitStack) -> None:
        self._stand, self._running = stand, running
        self._databases = iter(range(1, 32))
        self._redis = running.enter_context(redis_server(stand.folder))

    def all(self) -> Iterator[tuple[str, Fault]]:
        """Every fault by its name."""
        yield NONE, Fault(self._replica(None))
        yield "sound and empty", self._emptied(self._redis.port)
        for name, options in PROXIES.items():
            port = self._running.enter_context(proxy(self._stand.folder, self._redis.port, *options))
            yield name, self._emptied(port)
        yield "is not there", Fault(self._replica(f"redis://127.0.0.1:{free_port()}/0"))
        yield "stops (SIGSTOP) as the query comes", self._stopped()
        yield "is full, and evicts nothing", self._full()
        yield "holds damaged values", self._damaged()
        claims = self._claims()
        yield "holds claims of a process that died", self._claimed(self._redis.port, claims)
        port = self._running.enter_context(proxy(self._stand.folder, self._redis.port, "--delay", "14"))
        yield "the same, and answers 14 ms late", self._claimed(port, claims)

    def _replica(self, redis: str | None) -> Replica:
        changes = {"patience": {"pause": PAUSE}} if redis else {}
        return self._running.enter_context(self._stand.replica(redis=redis, **changes))

    def _own(self, port: int) -> tuple[Replica, Redis]:
        """A replica with a database of its own, and a client of that."""
        number = next(self._databases)
        return self._replica(f"redis://127.0.0.1:{port}/{number}"), self._redis.database(number)

    def _emptied(self, port: int) -> Fault:
        replica, client = self._own(port)
        return Fault(replica, client.flushdb)

    def _stopped(self) -> Fault:
        redis = self._running.enter_context(redis_server(self._stand.folder))
        replica = self._replica(redis.tcp)

        def stop() -> None:
            redis.client.flushall()
            # an open connection, as it would be
            replica.ask("p4", "before")
            time.sleep(0.3)
            redis.client.flushall()
            os.kill(redis.process, signal.SIGSTOP)

        return Fault(replica, stop, partial(os.kill, redis.process, signal.SIGCONT))

    def _full(self) -> Fault:
        options = ("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
        redis = self._running.enter_context(redis_server(self._stand.folder, *options))
        with contextlib.suppress(Exception):
            for number in range(100):
                redis.client.set(f"filler-{number}", bytes(2**16))
        return Fault(self._replica(redis.tcp))

    def _damaged(self) -> Fault:
        replica, client = self._own(self._redis.port)
        for query in REST:
            replica.ask(query, "before")
            time.sleep(2)
        damaged = {key: _damaged(client, key) for key in client.keys("*") if client.type(key) == b"string"}

        def damage() -> None:
            client.flushdb()
            for key, value in damaged.items():
                client.set(key, value)

        return Fault(replica, damage)

    def _claimed(self, port: int, claims: dict[bytes, bytes]) -> Fault:
        replica, client = self._own(port)

        def claim() -> None:
            client.flushdb()
            client.mset(claims)

        return Fault(replica, claim)

    def _claims(self) -> dict[bytes, bytes]:
        """The claims that the queries make."""
        replica, client = self._own(self._redis.port)
        claims: set[bytes] = set()
        while len(claims) < CLAIMS:
            client.flushdb()
            for query in REST:
                replica.ask(query, "before")
                claims |= set(client.keys("*:claim"))
        return dict.fromkeys(claims, b"1")


def _damaged(client: Redis, key: bytes) -> bytes:
    value = bytearray(client.get(key) or b"")
    # a bit of every column, and one of a chunk's
    for position in range(len(value) // 2 % 840, len(value), 840):
        value[position] ^= 1
    return bytes(value)


def main() -> None:
    """Measure, and print the table."""
    parsed = parser(__doc__, 20).parse_args()
    with bench(parsed.stack, DELAY) as stand, contextlib.ExitStack() as running:
        faults = dict(Faults(stand, running).all())
        in_turn(faults, 1)
        for fault in faults.values():
            fault.replica.samples.clear()
        in_turn(faults, parsed.rounds)
        samples = {name: fault.replica.samples for name, fault in faults.items()}
    header = ["Redis"]
    for query in REST:
        header += [f"{query}: median", f"{query}: max of {parsed.rounds}"]
    rows = []
    for name, measured in samples.items():
        cells = [name]
        for query in REST:
            usual = samples[NONE][query].clock
            cells += [_added(measured[query].clock - usual), _added(max(measured[query].wall) - usual)]
        rows.append(cells)
    print_table(
        f"Milliseconds added to a cold query, whose median without Redis is {shown(samples[NONE]['p1'].clock)} ms (p1: "
        f"a series, 209 chunks) and {shown(samples[NONE]['chunk'].clock)} ms (one Zarr chunk)", header, rows,
    )  # fmt: skip
    print_circumstances(parsed.rounds, "redis", "hiredis", "uvicorn")


def _added(milliseconds: float) -> str:
    said = f"{milliseconds:+.0f}"
    return f"**{said}**" if milliseconds > BAR else said


if __name__ == "__main__":
    main()
