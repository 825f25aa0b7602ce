"""Measures cubegate at other numbers of reads in flight, other gaps between ranges, and other batches of its reader.

    python -m tests.benchmarks.studies.concurrency

All servers run at once and are asked in turn. They keep nothing in memory, and open their connections anew each round.
"""

from __future__ import annotations

import contextlib
from statistics import median

from .replicas import Bench, Replica, bench
from .samples import in_turn, parser, print_circumstances, print_table, ratio, shown

DELAY = 30.0
KIB = 1024
QUERIES = ("p1", "b2")
CASES = {
    "as it is: 256 in flight, gaps to 64 KiB, runs to 1 MiB, batches of 512": {},
    "32 in flight": {"concurrency": 32},
    "64 in flight": {"concurrency": 64},
    "128 in flight": {"concurrency": 128},
    "512 in flight": {"concurrency": 512},
    "every chunk by itself": {"coalesced": {"max_gap": 0, "max_run": 1}},
    "no gap": {"coalesced": {"max_gap": 0}},
    "gaps to 256 KiB": {"coalesced": {"max_gap": 256 * KIB}},
    "runs to 4 MiB": {"coalesced": {"max_run": 4096 * KIB}},
    "gaps to 256 KiB, runs to 4 MiB": {"coalesced": {"max_gap": 256 * KIB, "max_run": 4096 * KIB}},
    "batches of 128": {"batch": 128},
    "batches of 2048": {"batch": 2048},
}


class Case:
    """One server, and what it asked the upstream for."""

    def __init__(self, replica: Replica, stand: Bench) -> None:
        self.replica, self._stand = replica, stand
        self.requests: dict[str, int] = {}
        self.megabytes: dict[str, float] = {}
        self.in_flight: dict[str, list[int]] = {query: [] for query in QUERIES}

    def __call__(self) -> None:
        """Take one sample of each query."""
        for query in QUERIES:
            self._stand.upstream.counts(reset=True)
            self.replica.ask(query)
            counted = self._stand.upstream.counts()
            self.requests[query], self.megabytes[query] = counted["requests"], counted["nbytes"] / 1e6
            self.in_flight[query].append(counted["most_in_flight"])

    def row(self, name: str, first: Case) -> list[str]:
        """The row of the table."""
        cells = [name]
        for query in QUERIES:
            samples, compared = self.replica.samples[query], first.replica.samples[query]
            cells += [
                samples.both, ratio(samples.clock, compared.clock), ratio(samples.fastest, compared.fastest),
                shown(samples.processor), f"{self.requests[query]}", f"{median(self.in_flight[query]):.0f}",
            ]  # fmt: skip
        return [*cells, f"{self.megabytes['b2']:.0f}"]


def main() -> None:
    """Measure, and print the table."""
    parsed = parser(__doc__, 7).parse_args()
    with bench(parsed.stack, DELAY) as stand, contextlib.ExitStack() as running:
        cases = {
            name: Case(running.enter_context(stand.replica(**changes)), stand)
            for name, changes in CASES.items()
        }
        in_turn(cases, 1)
        for case in cases.values():
            case.replica.samples.clear()
        in_turn(cases, parsed.rounds)
    header = ["changed"]
    for query in QUERIES:
        header += [
            f"{query}, ms: median / least",
            "ratio",
            "of least",
            "CPU ms",
            "requests",
            "most in flight",
        ]
    first = next(iter(cases.values()))
    rows = [case.row(name, first) for name, case in cases.items()]
    print_table(f"p1 and b2 at {DELAY:g} ms", [*header, "MB"], rows)
    print_circumstances(parsed.rounds, "uvicorn", "uvloop")


if __name__ == "__main__":
    main()
