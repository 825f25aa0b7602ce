"""Runs all readers in turn, round after round, each in a fresh process, and gathers what they report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .processes import Failed, run_subject
from .servers import KERCHUNK_DATASET, Configuration, Cubegate, RangeServer, cubegate, redis_server
from .stack import Stack

READERS = {
    "a": "xarray engine=kerchunk, as users write it",
    "b": "(a) with chunks=None, zarr concurrency 128",
    "c": "Icechunk virtual, zarr concurrency 128",
    "d": "cubegate over HTTP",
    "e": "xr.open_zarr on cubegate",
    "f": "floor: one round trip and the decoding",
}
QUERIES = ["p1", "p2", "p3", "b1", "b2"]


@dataclass
class Samples:
    """All samples, in ms or MB, by reader and query, and what was wrong or failed."""

    milliseconds: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    peak_mb: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    upstream: dict[str, list[dict[str, int]]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    compared: int = 0

    def add(self, reader: str, report: dict[str, Any], names: dict[str, str] | None = None) -> None:
        """Add what one process reported; `names` renames queries."""
        for query, times in report["milliseconds"].items():
            self.milliseconds[reader][(names or {}).get(query, query)] += times
        self.wrong += [f"({reader}) {query}" for query in report["wrong"]]
        self.compared += report["compared"]


@dataclass(frozen=True)
class Bench:
    """What the readers read: one stack, served and described in every way that they need.

    `repository` is None where Icechunk is missing. `scattered` says how many of the scattered points a reader that loops is to read, by reader.
    """

    stack: Stack
    answers: Path
    references: Path
    repository: Path | None
    upstream: RangeServer
    configuration: Configuration
    folder: Path
    delay: float
    scattered: dict[str, int]

    def run(self, rounds: int, report: Callable[[str], None]) -> Samples:
        """Measure every reader `rounds` times; `report` is told what comes next."""
        samples = Samples()
        steps = {
            "(a)": self._usual,
            "(b)": self._tuned,
            "(c)": self._icechunk,
            "(d) cold": self._gateway,
            "(d) first request": self._gateway_first,
            "(d) scattered": self._gateway_scattered,
            "(d) Redis": self._gateway_redis,
            "(e)": self._zarr,
            "(f)": self._floor,
        }
        names = list(steps)
        for number in range(rounds):
            # another one begins each round, so that none always follows the same one
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                report(f"round {number + 1}/{rounds}: {name}")
                try:
                    steps[name](samples)
                except Failed as error:
                    samples.failed.append(f"{name}: {error}")
        return samples

    def _job(self, **more: Any) -> dict[str, Any]:
        size = self.stack.size
        return {"answers": str(self.answers), "shape": [size.height, size.width], **more}

    def _read(self, samples: Samples, reader: str, module: str, **job: Any) -> None:
        """Run a reader that loops over everything by itself."""
        asked = self._job(queries=QUERIES, scattered=self.scattered[reader], **job)
        self.upstream.counts(reset=True)
        report = run_subject(module, asked)
        samples.add(reader, report)
        samples.peak_mb[reader].append(report["peak_mb"])
        self._count(samples, reader)

    def _count(self, samples: Samples, reader: str) -> None:
        counted = self.upstream.counts()
        samples.upstream[reader].append({name: counted[name] for name in ("requests", "nbytes")})

    def _usual(self, samples: Samples) -> None:
        self._read(samples, "a", "kerchunk_reader", references=str(self.references), tuned=False)

    def _tuned(self, samples: Samples) -> None:
        self._read(samples, "b", "kerchunk_reader", references=str(self.references), tuned=True)

    def _icechunk(self, samples: Samples) -> None:
        if self.repository is not None:
            self._read(samples, "c", "icechunk_reader", repository=str(self.repository))

    def _ask(
        self, samples: Samples, server: Cubegate, queries: list[str], names: dict[str, str], dataset: str = ""
    ) -> None:
        url = server.url(dataset) if dataset else server.url()
        report = run_subject("gateway_client", self._job(url=url, queries=queries))
        samples.add("d", report, names)

    def _gateway(self, samples: Samples) -> None:
        with cubegate(self.configuration) as server:
            self.upstream.counts(reset=True)
            self._ask(samples, server, ["open", "p1", "pause", "p2", "p3", "b1", "b2"], {})
            self._count(samples, "d")
            samples.peak_mb["d"].append(server.peak_mb)

    def _gateway_first(self, samples: Samples) -> None:
        with cubegate(self.configuration) as server:
            self._ask(samples, server, ["p1"], {"p1": "p1_first"})
            self._ask(samples, server, ["open"], {"open": "open_kerchunk"}, KERCHUNK_DATASET)

    def _gateway_scattered(self, samples: Samples) -> None:
        with cubegate(self.configuration) as server:
            self._ask(samples, server, ["scattered"], {})
            samples.peak_mb["d_scattered"].append(server.peak_mb)

    def _gateway_redis(self, samples: Samples) -> None:
        """A replica reads two points; another one, started later, reads those beside them."""
        with redis_server(self.folder) as redis:
            names = {query: f"{query}_redis" for query in ("open", "p1", "p2", "p3", "p4")}
            with cubegate(self.configuration, redis) as server:
                self._ask(samples, server, ["open", "p1", "p3", "pause"], names)
            with cubegate(self.configuration, redis) as server:
                self._ask(samples, server, ["open", "p2", "p4"], names)

    def _zarr(self, samples: Samples) -> None:
        with cubegate(self.configuration) as server:
            url = f"{server.url()}/zarr"
            self._read(samples, "e", "zarr_client", url=url)
            warm = run_subject("zarr_client", self._job(queries=["p1"], scattered=0, url=url))
            samples.add("e", warm, {"open": "open_warm", "p1": "p1_warm"})

    def _floor(self, samples: Samples) -> None:
        report = run_subject("floor", self._job(stack=str(self.stack.directory), queries=QUERIES))
        report["milliseconds"] = {
            query: [self.delay + time for time in times] for query, times in report["milliseconds"].items()
        }
        samples.add("f", report)
