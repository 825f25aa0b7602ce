"""Measures how much later an answer comes because of a Redis that is of no use: slow, stopped, full, cut off, lying.

    python -m tests.benchmarks.studies.redis_lateness

No value of any use is in Redis when something is asked for, and nothing is in memory. One chunk is asked of a server by
HTTP. Of a series only the waiting is measured: its column and its 209 chunks are asked of the cache, over an upstream that
answers at once, since decoding takes a different time whenever it is done. Redis is left alone for five seconds after a
failure. Here it is a tenth of a second, so that every sample meets the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import uvloop
from redis import Redis
from redis.exceptions import OutOfMemoryError
from tests.benchmarks.processes import free_port

from cubegate.cache.cache import Column
from cubegate.cache.memory import MemoryCache
from cubegate.cache.redis import RedisCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.source import ChunkReference, Deliver, Outcome

from .redis_servers import proxy, redis_server
from .replicas import Bench, Replica, bench
from .samples import Samples, in_turn, parser, print_circumstances, print_table, shown

DELAY = 30.0
PAUSE = 0.1
# What is written after an answer should not meet the next one.
REST = {"series": 0.3, "chunk": 0.1}
SERIES = [
    ChunkReference("https://data.example.org/granule", number * 80_000, 80_000) for number in range(209)
]
COLUMN = Column("cubegate:columns:study:v:0-0.0-0", 7, 836)
CHUNK = random.Random(3).randbytes(80_000)
BAR = 100.0
# One for each chunk of the series, and one for the chunk.
CLAIMS = 210
NONE = "no Redis at all"
PROXIES = {
    "answers 5 ms late": ("--delay", "5"),
    "answers 10 ms late": ("--delay", "10"),
    "answers 20 ms late": ("--delay", "20"),
    "answers 45 ms late": ("--delay", "45"),
    "answers 90 ms late": ("--delay", "90"),
    "sends 40 MB/s": ("--rate", "40e6"),
    "ends every connection at its first request": ("--cut",),
}


def nothing() -> None:
    """There is nothing to prepare, or to mend."""


class Instant:
    """An upstream that has every chunk at once."""

    async def get(self, _: ChunkReference) -> bytes:
        """Return a chunk."""
        return CHUNK

    def held(self, _: ChunkReference) -> None:
        """Nothing is held."""

    async def read(self, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        """Deliver all chunks."""
        for position in range(len(references)):
            deliver(position, CHUNK)


class Waiting:
    """What a series asks of the cache, and for how long it waits."""

    def __init__(self, redis: str | None) -> None:
        self._loop = uvloop.new_event_loop()
        self._cache = RedisCache(redis, pause=PAUSE) if redis else MemoryCache(0)
        self._chunks = Cached(Instant(), self._cache, "study")
        self.samples: dict[str, Samples] = {}

    def ask(self, name: str) -> None:
        """Take one sample."""
        with self.samples.setdefault(name, Samples()).timed():
            self._loop.run_until_complete(self._ask())

    async def _ask(self) -> None:
        found: list[Outcome] = []
        await self._cache.get_columns([COLUMN])
        await self._chunks.read(SERIES, lambda _, outcome: found.append(outcome))
        if found != [CHUNK] * len(SERIES):
            raise ValueError("The cache delivered other chunks than those of the upstream.")

    def put_column(self) -> None:
        """Leave a block with the column in Redis."""

        async def put() -> None:
            self._cache.put_blocks({COLUMN.key: bytes(COLUMN.nbytes * 256)}, COLUMN.nbytes)
            await self._cache.flush()

        self._loop.run_until_complete(put())

    def rest(self, seconds: float) -> None:
        """Let what goes on in the background go on."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """End the connections."""
        self._loop.run_until_complete(self._cache.aclose())
        self._loop.close()


@dataclass(frozen=True)
class Asked:
    """Who asks one Redis: a server, and a cache by itself."""

    replica: Replica
    waiting: Waiting

    @property
    def samples(self) -> dict[str, Samples]:
        """All samples."""
        return {**self.waiting.samples, **self.replica.samples}

    def ask(self, query: str, name: str = "") -> None:
        """Take one sample."""
        if query == "series":
            self.waiting.ask(name or query)
        else:
            self.replica.ask(query, name)

    def rest(self, query: str) -> None:
        """Wait until what is written after an answer is written."""
        self.waiting.rest(REST[query])


@dataclass(frozen=True)
class Fault:
    """What is done to a Redis before and after each query."""

    asked: Asked
    before: Callable[[], object] = nothing
    after: Callable[[], object] = nothing

    def __call__(self) -> None:
        """Take one sample of each query."""
        for query in REST:
            self.before()
            self.asked.ask(query)
            self.after()
            self.asked.rest(query)


class Faults:
    """Starts the replicas and the Redis servers of all faults."""

    def __init__(self, stand: Bench, running: contextlib.ExitStack) -> None:
        self._stand, self._running = stand, running
        self._databases = iter(range(1, 32))
        self._redis = running.enter_context(redis_server(stand.folder))

    def all(self) -> Iterator[tuple[str, Fault]]:
        """Every fault by its name."""
        yield NONE, Fault(self._asked(None))
        yield "sound and empty", self._emptied(self._redis.port)
        for name, options in PROXIES.items():
            port = self._running.enter_context(proxy(self._stand.folder, self._redis.port, *options))
            yield name, self._emptied(port)
        yield "is not there", Fault(self._asked(f"redis://127.0.0.1:{free_port()}/0"))
        yield "stops (SIGSTOP) as the query comes", self._stopped()
        yield "is full, and evicts nothing", self._full()
        yield "holds damaged values", self._damaged()
        claims = self._claims()
        yield "holds claims of a process that died", self._claimed(self._redis.port, claims)
        port = self._running.enter_context(proxy(self._stand.folder, self._redis.port, "--delay", "10"))
        yield "the same, and answers 10 ms late", self._claimed(port, claims)

    def _asked(self, redis: str | None) -> Asked:
        changes = {"patience": {"pause": PAUSE}} if redis else {}
        replica = self._running.enter_context(self._stand.replica(redis=redis, **changes))
        return Asked(replica, self._running.enter_context(contextlib.closing(Waiting(redis))))

    def _own(self, port: int) -> tuple[Asked, Redis]:
        """Who asks a database of its own, and a client of that."""
        number = next(self._databases)
        return self._asked(f"redis://127.0.0.1:{port}/{number}"), self._redis.database(number)

    def _emptied(self, port: int) -> Fault:
        asked, client = self._own(port)
        return Fault(asked, client.flushdb)

    def _stopped(self) -> Fault:
        redis = self._running.enter_context(redis_server(self._stand.folder))
        asked = self._asked(redis.tcp)

        def stop() -> None:
            # connections are open, as they would be
            for query in REST:
                asked.ask(query, "before")
                asked.rest(query)
            redis.client.flushall()
            os.kill(redis.process, signal.SIGSTOP)

        return Fault(asked, stop, partial(os.kill, redis.process, signal.SIGCONT))

    def _full(self) -> Fault:
        options = ("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
        redis = self._running.enter_context(redis_server(self._stand.folder, *options))
        with contextlib.suppress(OutOfMemoryError):
            for number in range(100):
                redis.client.set(f"filler-{number}", bytes(2**16))
        return Fault(self._asked(redis.tcp))

    def _damaged(self) -> Fault:
        asked, client = self._own(self._redis.port)
        for query in REST:
            asked.ask(query, "before")
            asked.waiting.rest(2)
        asked.waiting.put_column()
        asked.waiting.rest(1)
        damaged = {key: _damaged(client, key) for key in client.keys("*")}

        def damage() -> None:
            client.flushdb()
            client.mset(damaged)

        return Fault(asked, damage)

    def _claimed(self, port: int, claims: dict[bytes, bytes]) -> Fault:
        asked, client = self._own(port)

        def claim() -> None:
            client.flushdb()
            client.mset(claims)

        return Fault(asked, claim)

    def _claims(self) -> dict[bytes, bytes]:
        """The claims that the queries make."""
        asked, client = self._own(self._redis.port)
        claims: set[bytes] = set()
        while len(claims) < CLAIMS:
            client.flushdb()
            for query in REST:
                asked.ask(query, "before")
                claims |= set(client.keys("*:claim"))
                asked.rest(query)
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
            fault.asked.replica.samples.clear()
            fault.asked.waiting.samples.clear()
        in_turn(faults, parsed.rounds)
        samples = {name: fault.asked.samples for name, fault in faults.items()}
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
    title = (
        f"Milliseconds added, to waiting for a series (209 chunks), and to one Zarr chunk by HTTP, whose median without "
        f"Redis is {shown(samples[NONE]['chunk'].clock)} ms"
    )
    print_table(title, header, rows)
    print_circumstances(parsed.rounds, "redis", "hiredis", "uvicorn")


def _added(milliseconds: float) -> str:
    said = f"{milliseconds:+.0f}"
    return f"**{said}**" if milliseconds > BAR else said


if __name__ == "__main__":
    main()
