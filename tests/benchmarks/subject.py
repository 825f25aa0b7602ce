"""What every reader's process does: take a job, time its queries, hold the values to the right ones, report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Measurements:
    """Milliseconds by query, and the values that the queries gave."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what the context does as one sample of the query `name`."""
        begin = time.perf_counter()
        yield
        self.milliseconds.setdefault(name, []).append((time.perf_counter() - begin) * 1000)


def run(measure: Callable[[dict[str, Any], Measurements], None]) -> None:
    """Measure the job on the standard input, and write the report to the standard output.

    A job's `answers` names the file of right values. The peak memory is taken before they are loaded.
    """
    job = json.load(sys.stdin)
    measured = Measurements()
    measure(job, measured)
    report = {
        "milliseconds": measured.milliseconds,
        "peak_mb": peak_memory(),
        "wrong": wrong_values(measured.values, Path(job["answers"])),
        "compared": sum(values.size for values in measured.values.values()),
        **measured.notes,
    }
    print(json.dumps(report))  # noqa: T201 - the parent process reads it


def wrong_values(values: dict[str, np.ndarray], answers: Path) -> list[str]:
    """The queries whose values are not the right ones.

    Fewer scattered points than there are right answers for are compared with the first ones.
    """
    wrong = []
    with np.load(answers) as right:
        for name, got in values.items():
            expected = right[name]
            if name == "scattered":
                expected = expected[: len(got)]
            if got.shape != expected.shape or not np.array_equal(got, expected):
                wrong.append(name)
    return wrong


def peak_memory(process: int | str = "self") -> float:
    """The largest resident size that a process has had, in MB."""
    status = Path(f"/proc/{process}/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000
