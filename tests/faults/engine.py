"""Draws runs from a seed, makes them, and judges what came back."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from .canaries import Search
from .cube import VARIABLES
from .faults import FAULTS, GOOD, OF_RANGED_CONTENT, READS, Plan, is_of_content, is_possible
from .readers import READERS
from .redis_server import RedisServer
from .routes import RAW, Asked, Unreadable, Wrong
from .upstream import REPUBLISHED
from .world import ACCESSES, SOURCES, World

SLOTS, AT_ONCE, WITH_REDIS = 64, 16, 8
CLIENT_TIMEOUT = 20.0
_MIX = 2**40

RIGHT, REFUSED, ABORTED, RAISED = "right", "refused", "aborted", "raised"
FILL, WRONG, UNREADABLE = "fill", "wrong", "unreadable"
BAD_STATUS, NO_RETRY_AFTER, LATE = "status", "no Retry-After", "late"
UNTRUE = (FILL, WRONG, UNREADABLE, BAD_STATUS)
DEFECTS = (*UNTRUE, NO_RETRY_AFTER, LATE)


@dataclass(frozen=True)
class Run:
    """One fault on one way to read, all of it drawn from `seed` and `number`."""

    seed: int
    number: int
    fault: str
    once: bool
    read: str
    warm: bool
    route: str
    source: str
    access: str
    one_granule: bool
    first_hop: bool

    def __str__(self) -> str:
        times = "once" if self.once else "always"
        state = "warm" if self.warm else "cold"
        return (
            f"seed {self.seed}, run {self.number}: {self.fault} ({times}) on {self.read} reads, {state}, "
            f"{self.route} of {self.source} by {self.access}"
        )

    @property
    def detectable(self) -> bool:
        """Whether anything that the gateway holds can tell that the bytes are others."""
        # obstore does not tell of what media type a range is
        page = self.fault == "page as 206" and self.access == "s3"
        if not is_of_content(self.fault) and not page:
            return True
        indexed = self.source.startswith("index")
        if self.read != "chunk":
            # an index has checksums of its own
            return indexed
        if self.fault == REPUBLISHED and indexed:
            return True
        return self.source == "index with checksums"


def draw_run(seed: int, number: int) -> Run:
    """The run of that number; the same for ever."""
    draw = random.Random(seed * _MIX + number)
    while True:
        fault = draw.choice(FAULTS)
        read = draw.choices(READS, (2, 2, 2, 2, 8))[0]
        source = draw.choice(SOURCES)
        route = draw.choice(sorted(RAW)) if draw.random() < 0.9 else draw.choice(sorted(READERS))
        once, warm = draw.random() < 0.4, draw.random() < 0.3
        access = draw.choice(ACCESSES)
        one_granule, first_hop = draw.random() < 0.5, draw.random() < 0.4
        reads_partitions = source == "parquet"
        indexed = source.startswith("index")
        if (
            is_possible(fault, read)
            and (read != "partition" or reads_partitions)
            # an index holds coordinates and what a granule would be asked for
            and not (indexed and read in ("coordinate", "granule"))
            # what is opened is not read again
            and not (warm and read != "chunk")
            and not (first_hop and (access != "token" or is_of_content(fault) or fault in OF_RANGED_CONTENT))
        ):
            return Run(
                seed, number, fault, once, read, warm, route, source, access,
                one_granule and read == "chunk", first_hop,
            )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `kind` is one of the words above; `injected` is how often the fault struck.

    `stored` says how the variables are stored that it asked for.
    """

    run: Run
    kind: str
    said: str
    injected: int
    seconds: float
    stored: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether something untrue was served."""
        return self.kind in (FILL, WRONG, UNREADABLE)

    @property
    def is_defect(self) -> bool:
        """Whether this must not be; a wrong value that nothing can tell is counted apart."""
        if self.run.fault == GOOD and self.kind != RIGHT:
            return True
        if self.kind in UNTRUE and self.injected and not self.run.detectable:
            return False
        return self.kind in DEFECTS

    def as_json(self) -> dict[str, object]:
        return {**asdict(self.run), "outcome": self.kind, "said": self.said, "injected": self.injected,
                "stored": self.stored,
                "seconds": round(self.seconds, 3), "defect": self.is_defect}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """A gateway at `port` over `world`, and where what it says is searched."""

    world: World
    port: int
    search: Search

    def perform(self, run: Run, slot: str) -> Outcome:
        """Make one run against the dataset of `slot`."""
        plan = self.world.upstream.plans[slot]
        ask, granule, names = self._asking(run, slot)
        if run.one_granule:
            plan.granule = granule
        if run.warm:
            kind, said = _judged(ask)
            if kind != RIGHT:
                return Outcome(run, WRONG, f"before the fault: {kind}, {said}", 0, 0.0)
        plan.armed = True
        started = time.monotonic()
        kind, said = _judged(ask)
        seconds = time.monotonic() - started
        plan.armed = False
        return Outcome(run, kind, said, plan.injected, seconds, _stored(names))

    def _asking(
        self, run: Run, slot: str
    ) -> tuple[Callable[[], tuple[str, str]], str | None, tuple[str, ...]]:
        draw = random.Random(run.seed * _MIX + run.number + _MIX // 2)
        if run.route in READERS:
            box, read = READERS[run.route](self.world.cube, draw)
            url = f"http://127.0.0.1:{self.port}/datasets/{slot}"
            ask = lambda: _of_reader(lambda: read(url), self.search, run)  # noqa: E731 - as short as it can be
            return ask, f"g{box.dates.start}.h5", (box.name,)
        asked = RAW[run.route](self.world.cube, draw)
        return lambda: self._request(asked, slot, run), asked.granule, asked.names

    def _request(self, asked: Asked, slot: str, run: Run) -> tuple[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CLIENT_TIMEOUT)
        try:
            method = "GET" if asked.body is None else "POST"
            connection.request(method, f"/datasets/{slot}/{asked.path}", asked.body, dict(asked.headers))
            response = connection.getresponse()
            self.search.look("headers", str(response.msg), about=str(run))
            body = response.read()
        except TimeoutError:
            return LATE, f"no answer within {CLIENT_TIMEOUT:g} s"
        except (http.client.HTTPException, ConnectionError) as error:
            return ABORTED, type(error).__name__
        finally:
            connection.close()
        self.search.look("body", body, about=str(run))
        return judge_response(asked, response.status, response.getheader("Retry-After"), body)


def _stored(names: tuple[str, ...]) -> str:
    kinds = {VARIABLES[name].compressed for name in names}
    return " and ".join("compressed" if kind else "uncompressed" for kind in sorted(kinds))


def _of_reader(read: Callable[[], None], search: Search, run: Run) -> tuple[str, str]:
    try:
        read()
    except Wrong:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a client raises, its user sees
        search.look("exception of a client", repr(error), about=str(run))
        return RAISED, type(error).__name__
    return RIGHT, ""


def _judged(ask: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    try:
        return ask()
    except Unreadable as wrong:
        return UNREADABLE, str(wrong)
    except Wrong as wrong:
        return FILL if wrong.fill else WRONG, str(wrong)


def judge_response(asked: Asked, status: int, retry_after: str | None, body: bytes) -> tuple[str, str]:
    """Judge an answer that came whole.

    Raises:
        Wrong: it is not true.
    """
    if status == 200:
        try:
            asked.check(body)
        except Wrong:
            raise
        except Exception as error:
            # 200 means that it can be read
            raise Unreadable(f"200, {len(body)} bytes that cannot be read: {error!r}") from error
        return RIGHT, ""
    if status not in (502, 503, 504):
        return BAD_STATUS, f"{status}: {body[:200].decode('utf-8', 'replace')}"
    return (REFUSED, str(status)) if retry_after else (NO_RETRY_AFTER, str(status))


def run_batch(
    runs: Sequence[Run], world: World, search: Search, *, redis: RedisServer | None = None
) -> Iterator[Outcome]:
    """Make up to `SLOTS` runs against a gateway of their own, some at a time; maybe with a Redis.

    What that holds in the end is searched too.
    """
    upstream, datasets = world.upstream, {}
    for number, run in enumerate(runs):
        slot = f"s{number:02}"
        datasets[slot] = (run.source, world.publish(slot, run.access, run.source))
        upstream.plans[slot] = Plan(run.number, run.fault, run.read, run.once, hop=1 if run.first_hop else 0)
    settings = world.settings(datasets, redis=redis.url if redis else None)
    search.look("settings", repr(settings))
    with world.gateway(settings) as port, ThreadPoolExecutor(AT_ONCE) as pool:
        batch = Batch(world, port, search)
        if redis is not None:
            _until_redis_is_used(batch, redis)
        work = [pool.submit(batch.perform, run, slot) for slot, run in zip(datasets, runs, strict=True)]
        for each in work:
            yield each.result()
        look_at_pages(port, search)
    if redis is not None:
        redis.search(search)


def _until_redis_is_used(batch: Batch, redis: RedisServer) -> None:
    # a process that starts may take Redis for slow, and leave it alone for five seconds
    draw = random.Random(0)
    for _ in range(100):
        asked = RAW["zarr v2 chunk"](batch.world.cube, draw)
        connection = http.client.HTTPConnection("127.0.0.1", batch.port, timeout=CLIENT_TIMEOUT)
        connection.request("GET", f"/datasets/s00/{asked.path}")
        connection.getresponse().read()
        connection.close()
        time.sleep(0.1)
        if redis.client.dbsize():
            return


def look_at_pages(port: int, search: Search) -> None:
    """Search what the gateway tells of itself."""
    for path in ("/metrics", "/readyz", "/healthz", "/docs", "/openapi.json", "/datasets"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_TIMEOUT)
        connection.request("GET", path)
        response = connection.getresponse()
        search.look(path, str(response.msg).encode() + response.read())
        connection.close()


def run_all(runs: Sequence[Run], world: World, search: Search) -> Iterator[Outcome]:
    """Make all runs, batch by batch, every fourth one with a Redis, whose contents are searched too."""
    for number, start in enumerate(range(0, len(runs), SLOTS)):
        batch = runs[start : start + SLOTS]
        if number % WITH_REDIS:
            yield from run_batch(batch, world, search)
            continue
        with RedisServer(world.folder / f"redis{number}") as redis:
            yield from run_batch(batch, world, search, redis=redis)
