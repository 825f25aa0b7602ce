"""The metric families that a server exposes: their names, types, labels and meanings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

MetricFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of durations, in seconds; one more bucket holds what took longer."""


@dataclass(frozen=True)
class Family:
    """One metric family.

    Its numbers for one set of label values: one number, or for a histogram the counts of its buckets
    (not cumulated) and the sum of what was observed.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str

    @property
    def width(self) -> int:
        """How many numbers a set of label values has."""
        return len(BOUNDS) + 2 if self.kind == "histogram" else 1

    def empty(self) -> MetricFamily:
        """Return the family as prometheus-client writes it, without numbers."""
        kinds = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        made: MetricFamily = kinds[self.kind](self.name, self.meaning, labels=self.labels)
        return made


def add_numbers(family: MetricFamily, labels: Sequence[str], numbers: Sequence[float]) -> None:
    """Add what `numbers` (see `Family`) are for the label values `labels`."""
    if isinstance(family, HistogramMetricFamily):
        *counts, total = numbers
        bounds = [*map(str, BOUNDS), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    else:
        family.add_metric(labels, numbers[0])


_CACHE = ("tier", "kind")

CACHE_HITS = Family("cubegate_cache_hits_total", "counter", _CACHE, "Entries that were asked for and held")
CACHE_MISSES = Family(
    "cubegate_cache_misses_total", "counter", _CACHE, "Entries that were asked for and not held"
)
CACHE_READ = Family(
    "cubegate_cache_read_bytes_total", "counter", _CACHE, "Bytes of the entries that were held"
)
CACHE_WRITTEN = Family(
    "cubegate_cache_written_bytes_total", "counter", _CACHE, "Bytes of the entries that were given to hold"
)
CACHE_HELD = Family("cubegate_cache_held_bytes", "gauge", ("tier",), "Bytes held now, of all workers")
REDIS_PAUSED = Family(
    "cubegate_redis_paused",
    "gauge",
    (),
    "Workers that leave Redis alone at the moment, since it failed or was slow",
)
UPSTREAM_REQUESTS = Family(
    "cubegate_upstream_requests_total", "counter", ("upstream",), "Reads that were begun, retries not counted"
)
UPSTREAM_READ = Family("cubegate_upstream_read_bytes_total", "counter", ("upstream",), "Bytes that were read")
UPSTREAM_ERRORS = Family(
    "cubegate_upstream_errors_total",
    "counter",
    ("upstream", "error"),
    "Reads that failed, by the class of the error",
)
UPSTREAM_DURATION = Family(
    "cubegate_upstream_request_duration_seconds",
    "histogram",
    ("upstream",),
    "Time that a read took to its last byte or its error, retries included",
)
UPSTREAM_IN_FLIGHT = Family(
    "cubegate_upstream_requests_in_flight", "gauge", ("upstream",), "Reads that run now, of all workers"
)
HTTP_REQUESTS = Family(
    "cubegate_http_requests_total", "counter", ("route", "method", "status"), "Requests that were answered"
)
HTTP_DURATION = Family(
    "cubegate_http_request_duration_seconds",
    "histogram",
    ("route", "method"),
    "Time from the request to the last byte of its answer",
)
OPEN_CUBES = Family("cubegate_open_cubes", "gauge", (), "Datasets that are open, counted in each worker")
WORKERS = Family("cubegate_workers", "gauge", (), "Processes that serve")

FAMILIES = (
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_READ,
    CACHE_WRITTEN,
    CACHE_HELD,
    REDIS_PAUSED,
    UPSTREAM_REQUESTS,
    UPSTREAM_READ,
    UPSTREAM_ERRORS,
    UPSTREAM_DURATION,
    UPSTREAM_IN_FLIGHT,
    HTTP_REQUESTS,
    HTTP_DURATION,
    OPEN_CUBES,
    WORKERS,
)
