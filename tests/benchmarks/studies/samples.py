"""Samples of things that are measured in turn, and the one table that a study prints of them."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.stack import default_directory


@dataclass
class Samples:
    """Milliseconds of one row of a table: on the clock, and of processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @contextmanager
    def timed(self, *processes: int) -> Iterator[None]:
        """Take one sample; the processor time is that of this process, or that of `processes` together."""
        cpu, wall = _cpu(processes), time.perf_counter()
        yield
        self.add(time.perf_counter() - wall, _cpu(processes) - cpu)

    def add(self, wall: float, cpu: float = 0.0) -> None:
        """Add one sample, in seconds."""
        self.wall.append(wall * 1000)
        self.cpu.append(cpu * 1000)

    @property
    def clock(self) -> float:
        """The median on the clock."""
        return median(self.wall)

    @property
    def fastest(self) -> float:
        """The least on the clock: what others on the machine disturb least."""
        return min(self.wall)

    @property
    def both(self) -> str:
        """Median and least on the clock, as tables show them."""
        return f"{shown(self.clock)} / {shown(self.fastest)}"

    @property
    def processor(self) -> float:
        """The median of processor time."""
        return median(self.cpu)


def _cpu(processes: Sequence[int]) -> float:
    return sum(map(cpu_seconds, processes)) if processes else time.process_time()


def cpu_seconds(process: int) -> float:
    """The processor time that a process has used so far."""
    # how Linux numbers the clock of a process
    return time.clock_gettime((~process << 3) | 2)


def in_turn(cases: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """Call every case once a round; another one begins each round, so that none always follows the same one."""
    names = list(cases)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            cases[name]()


def parser(documentation: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all studies have."""
    made = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    made.add_argument("--rounds", type=int, default=rounds, help=f"how often each is measured ({rounds})")
    made.add_argument("--stack", type=Path, default=default_directory(), help="where the granules are kept")
    return made


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, as the pages of decisions quote it."""
    print(f"\n**{title}**\n")  # noqa: T201 - a command
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, cells))} |")  # noqa: T201 - a command


def print_circumstances(rounds: int, *distributions: str) -> None:
    """Print when and where a table was measured, and with which versions."""
    processor = Path("/proc/cpuinfo").read_text("utf-8").partition("model name")[2].partition("\n")[0]
    versions = ", ".join(f"{name} {version(name)}" for name in distributions if _is_installed(name))
    print(  # noqa: T201 - a command
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, medians of {rounds} interleaved rounds, "
        f"{processor.strip(chr(9) + ' :') or platform.processor()} ({os.cpu_count()} cores), Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}{f'; {versions}' if versions else ''}."
    )


def _is_installed(distribution: str) -> bool:
    return bool(find_spec(distribution.replace("-", "_")))


def ratio(value: float, against: float) -> str:
    """`value` as a multiple of `against`."""
    multiple = value / against
    return f"{multiple:.2f}" if multiple < 10 else f"{multiple:.0f}"


def shown(milliseconds: float) -> str:
    """Milliseconds, with as many digits as mean something."""
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
