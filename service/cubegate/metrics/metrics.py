"""What a server counts: cheap handles for those who count, and the exposition for Prometheus."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cubegate import errors
from cubegate.metrics.families import (
    BOUNDS,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_READ,
    CACHE_WRITTEN,
    FAMILIES,
    HTTP_DURATION,
    HTTP_REQUESTS,
    UPSTREAM_DURATION,
    UPSTREAM_ERRORS,
    UPSTREAM_IN_FLIGHT,
    UPSTREAM_READ,
    UPSTREAM_REQUESTS,
    WORKERS,
    Family,
    MetricFamily,
    add_numbers,
)
from cubegate.metrics.slots import Numbers, ProcessSlots, SeriesKey, Slots

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
_OTHER_METHOD = "other"


class Metrics:
    """All numbers of one server, counted in `slots`; several workers give the sums of all of them."""

    def __init__(self, slots: Slots | None = None) -> None:
        self._slots = ProcessSlots() if slots is None else slots
        self._watched: list[tuple[Numbers, Callable[[], float]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.requests = RequestCounts(self)
        self.numbers(WORKERS)[0] = 1.0

    def numbers(self, family: Family, *labels: str) -> Numbers:
        """Return the numbers of `family` for one value of each of its labels, to be counted in place."""
        return self._slots.allot(SeriesKey(family.name, labels), family.width)

    def cache(self, tier: str, kind: str) -> CacheCounts:
        """Return what counts the entries of one kind in one tier of a cache."""
        return CacheCounts(self, tier, kind)

    def upstream(self, name: str) -> UpstreamCounts:
        """Return what counts the reads of one upstream.

        `name` becomes a label: scheme and host, or bucket, and never a path or a query.
        """
        return UpstreamCounts(self, name)

    def watch(self, family: Family, read: Callable[[], float], *labels: str) -> None:
        """Show what `read` returns; it is called from any thread and must not wait."""
        self._watched.append((self.numbers(family, *labels), read))

    def refresh(self) -> None:
        """Take the watched numbers anew."""
        for numbers, read in self._watched:
            numbers[0] = float(read())

    def collect(self) -> Iterator[MetricFamily]:
        """Yield every family with its sums over all processes, for prometheus-client."""
        sums: dict[str, dict[tuple[str, ...], list[float]]] = {family.name: {} for family in FAMILIES}
        gauges = {family.name for family in FAMILIES if family.kind == "gauge"}
        for reading in self._slots.readings():
            for (name, labels), numbers in reading.series.items():
                # what an ended process counted has happened; what it held is gone
                if reading.alive or name not in gauges:
                    before = sums[name].get(labels, [0.0] * len(numbers))
                    sums[name][labels] = [one + other for one, other in zip(before, numbers, strict=True)]
        for family in FAMILIES:
            shown = family.empty()
            for labels, total in sorted(sums[family.name].items()):
                add_numbers(shown, labels, total)
            yield shown

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its media type."""
        self.refresh()
        write, media_type = choose_encoder(accept)
        return write(self._registry), media_type

    def close(self) -> None:
        """Say that this process has ended."""
        self._slots.close()


class CacheCounts:
    """Counts what happens to the entries of one kind in one tier of a cache."""

    __slots__ = ("_hits", "_misses", "_read", "_written")

    def __init__(self, metrics: Metrics, tier: str, kind: str) -> None:
        self._hits = metrics.numbers(CACHE_HITS, tier, kind)
        self._misses = metrics.numbers(CACHE_MISSES, tier, kind)
        self._read = metrics.numbers(CACHE_READ, tier, kind)
        self._written = metrics.numbers(CACHE_WRITTEN, tier, kind)

    def hit(self, number: int, nbytes: int) -> None:
        """Count entries that were held, of `nbytes` together."""
        self._hits[0] += number
        self._read[0] += nbytes

    def missed(self, number: int) -> None:
        """Count entries that were not held."""
        self._misses[0] += number

    def written(self, nbytes: int) -> None:
        """Count the bytes of entries that were given to hold."""
        self._written[0] += nbytes


class UpstreamCounts:
    """Counts the reads of one upstream: `begin`, then `succeed` or `fail` unless abandoned, then `end`."""

    __slots__ = ("_duration", "_errors", "_in_flight", "_metrics", "_name", "_read", "_requests")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name
        self._requests = metrics.numbers(UPSTREAM_REQUESTS, name)
        self._read = metrics.numbers(UPSTREAM_READ, name)
        self._in_flight = metrics.numbers(UPSTREAM_IN_FLIGHT, name)
        self._duration = metrics.numbers(UPSTREAM_DURATION, name)
        self._errors: dict[type[errors.UpstreamError], Numbers] = {}

    def begin(self) -> float:
        """Count a read that begins; returns what `succeed` and `fail` take."""
        self._requests[0] += 1.0
        self._in_flight[0] += 1.0
        return time.perf_counter()

    def succeed(self, started: float, nbytes: int) -> None:
        """Count the `nbytes` that a read gave."""
        self._read[0] += nbytes
        _observe(self._duration, time.perf_counter() - started)

    def fail(self, started: float, error: errors.UpstreamError) -> None:
        """Count the error that ended a read."""
        kind = type(error)
        numbers = self._errors.get(kind)
        if numbers is None:
            named = next(base for base in kind.__mro__ if base.__module__ == errors.__name__)
            numbers = self._errors[kind] = self._metrics.numbers(UPSTREAM_ERRORS, self._name, named.__name__)
        numbers[0] += 1.0
        _observe(self._duration, time.perf_counter() - started)

    def end(self) -> None:
        """Count a read out, however it ended."""
        self._in_flight[0] -= 1.0


class RequestCounts:
    """Counts HTTP requests by route, method and status."""

    __slots__ = ("_metrics", "_series")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._series: dict[tuple[str, str, int | str], tuple[Numbers, Numbers]] = {}

    def answered(self, route: str, method: str, status: int | str, seconds: float) -> None:
        """Count one request; `route` is a template and never a path."""
        series = self._series.get((route, method, status)) or self._allot(route, method, status)
        series[0][0] += 1.0
        _observe(series[1], seconds)

    def _allot(self, route: str, method: str, status: int | str) -> tuple[Numbers, Numbers]:
        # the method is what the client wrote: it must not make ever more series
        known = method if method in _METHODS else _OTHER_METHOD
        series = (
            self._metrics.numbers(HTTP_REQUESTS, route, known, str(status)),
            self._metrics.numbers(HTTP_DURATION, route, known),
        )
        if known == method:
            self._series[route, method, status] = series
        return series


def _observe(duration: Numbers, seconds: float) -> None:
    duration[bisect_left(BOUNDS, seconds)] += 1.0
    duration[-1] += seconds
