"""cubegate servers with other values of what is fixed in the product, and a client that times their answers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.gateway_client import Gateway, read_netcdf, read_series
from tests.benchmarks.processes import free_port, started, wait_ready
from tests.benchmarks.queries import BOXES, POINTS, VARIABLE, Box, Point, right_answers
from tests.benchmarks.servers import (
    Configuration,
    Cubegate,
    RangeServer,
    range_server,
    write_configuration,
)  # fmt: skip
from tests.benchmarks.stack import CHUNK, Stack, build_stack, write_json

from .samples import Samples
from .serve import VARIABLE as CHANGES

# Below what a round takes: each round meets fresh connections to the upstream, and a query keeps its own.
IDLE = 0.5


@dataclass(frozen=True)
class Bench:
    """One stack behind one range server, and what cubegate servers over it start from."""

    stack: Stack
    upstream: RangeServer
    configuration: Configuration
    folder: Path

    @contextlib.contextmanager
    def replica(self, *, redis: str | None = None, memory: str = "0", **changes: Any) -> Iterator[Replica]:
        """Run a server of one worker; without `memory` nothing that it reads stays in it."""
        port = free_port()
        command = [
            sys.executable, "-m", "tests.benchmarks.studies.serve",
            "--config", str(self.configuration.file), "--port", str(port),
        ]  # fmt: skip
        environment = os.environ | {
            "CUBEGATE_CACHE__MEMORY": memory,
            CHANGES: json.dumps({"idle": IDLE, **changes}),
            **({"CUBEGATE_CACHE__REDIS": redis} if redis else {}),
        }
        with started(command, self.configuration.log, env=environment) as process:
            wait_ready(process, self.configuration.log, port, "/readyz")
            replica = Replica(Cubegate(port, process.pid), self)
            # the cube is mounted, which is not what is studied here
            replica.gateway.request("GET", "/zarr/.zmetadata")
            yield replica


@dataclass(frozen=True)
class AnotherBox(Box):
    """A box that is smaller by millimetres: other bounds, and the same pixels."""

    millimetres: int = 0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The outer edges in the CRS of the stack: minx, miny, maxx, maxy."""
        minx, miny, maxx, maxy = super().bounds
        return minx + self.millimetres / 1000, miny, maxx, maxy


class Replica:
    """One running server, with a client of its own."""

    def __init__(self, server: Cubegate, bench: Bench) -> None:
        self.server, self._bench = server, bench
        self._right = np.load(right_answers(bench.stack))
        self.samples: dict[str, Samples] = {}
        self._boxes = itertools.count(1)

    @property
    def gateway(self) -> Gateway:
        """A client on a connection of its own, since servers close those that are idle."""
        return Gateway(self.server.url())

    def ask(self, query: str, name: str = "") -> None:
        """Take one sample of p1 to p4, b1, b2 or `chunk`, under `name`; raises where an answer is wrong."""
        samples = self.samples.setdefault(name or query, Samples())
        ask, read, right = self._query(query)
        with samples.timed(self.server.process):
            content = ask()
        if not np.array_equal(read(content), right):
            raise ValueError(f"{query} was answered with wrong values.")

    def _query(self, query: str) -> tuple[Callable[[], bytes], Callable[[bytes], np.ndarray], np.ndarray]:
        gateway, stack = self.gateway, self._bench.stack
        if query == "chunk":
            right = np.frombuffer(stack.chunk_bytes(VARIABLE, 7, 2, 3), np.uint8)
            path = f"/zarr/{VARIABLE}/7.2.3"
            return lambda: gateway.request("GET", path), lambda data: np.frombuffer(data, np.uint8), right
        if query in POINTS:
            return lambda: gateway.point(POINTS[query]), read_series, self._right[query]
        # an answer to the same query would come from the spool
        box = AnotherBox(**asdict(BOXES[query]), millimetres=next(self._boxes))
        return lambda: gateway.box(box), read_netcdf, self._right[query]

    def series(self, point: Point, name: str) -> np.ndarray:
        """Take one sample of the series of any pixel, under `name`; returns its values."""
        gateway = self.gateway
        with self.samples.setdefault(name, Samples()).timed(self.server.process):
            content = gateway.point(point)
        return read_series(content)

    def settled(self, name: str, seconds: float = 1.0) -> None:
        """Wait for what goes on after an answer; takes its processor time as a sample."""
        with self.samples.setdefault(name, Samples()).timed(self.server.process):
            time.sleep(seconds)

    def counts(self) -> Mapping[str, float]:
        """Its metrics, by name and labels."""
        text = self.gateway.request("GET", "/metrics", below=False).decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


def chunk_columns() -> list[Point]:
    """One pixel in each chunk column of the stack, away from its edges."""
    return [Point(CHUNK * row + 100, CHUNK * column + 100) for row in range(4) for column in range(5)]


@contextlib.contextmanager
def bench(directory: Path, delay: float) -> Iterator[Bench]:
    """Serve the stack in `directory`, each answer `delay` milliseconds late, while the context lasts."""
    stack = build_stack(directory)
    right_answers(stack)
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="cubegate-study-")))
        upstream = opened.enter_context(range_server(stack, delay, folder / "range.log"))
        references = folder / "stack.json"
        write_json(references, stack.references(f"{upstream.url}/granules"))
        configuration = write_configuration(folder / "cubegate", references, upstream)
        yield Bench(stack, upstream, configuration, folder)
