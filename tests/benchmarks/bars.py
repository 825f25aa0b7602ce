"""The bars that cubegate is held to: ratios of medians of one run, and limits of scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Term:
    """One side of a ratio: the sum of some medians of a reader, or a server's median rate."""

    name: str
    reader: str = ""
    queries: tuple[str, ...] = ()
    rate: str = ""

    def value(self, document: Document) -> float | None:
        """The figure, or None where it was not measured."""
        if self.rate:
            return _median(document["rates"].get(self.rate))
        values = [reader_median(document, self.reader, query) for query in self.queries]
        return None if None in values else sum(values)


@dataclass(frozen=True)
class Bar:
    """`measured` is to be at most (or, of rates, at least) `limit` times `against`."""

    query: str
    measured: Term
    against: Term
    limit: float
    at_least: bool = False

    @property
    def required(self) -> str:
        """The bar in words."""
        return f"{'>=' if self.at_least else '<='} {shown_ratio(self.limit)} of {self.against.name}"

    def ratio(self, document: Document) -> float | None:
        """What was measured, over what it is held against; None where one of them is missing."""
        value, against = self.measured.value(document), self.against.value(document)
        return None if value is None or not against else value / against

    def is_met(self, document: Document) -> bool | None:
        """Whether the bar is met; None where it was not measured."""
        ratio = self.ratio(document)
        if ratio is None:
            return None
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True)
class Limit:
    """`figure`, one of those of scale, is to be below `limit` of its `unit`."""

    query: str
    figure: str
    limit: float
    unit: str

    @property
    def required(self) -> str:
        """The bar in words."""
        return f"< {self.limit:g} {self.unit}"

    def value(self, document: Document) -> float | None:
        """The median of the figure, or None where it was not measured."""
        return _median(document["scale"].get(self.figure))

    def is_met(self, document: Document) -> bool | None:
        """Whether the bar is met; None where it was not measured."""
        value = self.value(document)
        return None if value is None else value < self.limit


def reader_median(document: Document, reader: str, query: str) -> float | None:
    """The median of one query in ms, scaled to all scattered points where fewer were read."""
    value = _median(document["readers"].get(reader, {}).get("milliseconds", {}).get(query))
    if value is None or query != "scattered":
        return value
    return value * scale_of_scattered(document, reader)


def scale_of_scattered(document: Document, reader: str) -> float:
    """By how much a reader's time is multiplied, since it read only some of the scattered points."""
    return document["scattered"] / document["readers"][reader].get("scattered", document["scattered"])


def _median(samples: Sequence[float] | None) -> float | None:
    return median(samples) if samples else None


def shown_ratio(ratio: float) -> str:
    """A ratio as people say it: 1/20, 1.5 x."""
    if ratio >= 1:
        return f"{ratio:.3g} x"
    return f"1/{1 / ratio:.3g}"


def _time(name: str, reader: str, *queries: str) -> Term:
    return Term(name, reader=reader, queries=queries)


def _rate(name: str) -> Term:
    return Term(name, rate=name)


_P1 = _time("cubegate", "d", "p1")
_P2 = _time("(a)", "a", "p2")
_B2 = _time("cubegate", "d", "b2")
_CHUNK = "one cached chunk by HTTP, 16 connections"

BARS = (
    Bar("p1, cold", _P1, _time("(a)", "a", "p1"), 1 / 20),
    Bar("p1, cold", _P1, _time("(b)", "b", "p1"), 1 / 4),
    Bar("p1, cold", _P1, _time("the floor", "f", "p1"), 1.5),
    Bar("p2, from memory", _time("cubegate", "d", "p2"), _P2, 1 / 300),
    Bar("p2, from Redis", _time("cubegate", "d", "p4_redis"), _P2, 1 / 300),
    Bar("b2, cold, NetCDF", _B2, _time("(a)", "a", "b2"), 1 / 20),
    Bar("b2, cold, NetCDF", _B2, _time("(b)", "b", "b2"), 1 / 2),
    Bar("100 scattered points, cold, one POST", _time("cubegate", "d", "scattered"),
        _time("(a) looping", "a", "scattered"), 1 / 20),
    Bar("xr.open_zarr and p1, warm", _time("cubegate", "e", "open_warm", "p1_warm"),
        _time("(b)", "b", "open", "p1"), 1),
    Bar(_CHUNK, _rate("cubegate"), _rate("nginx"), 1 / 4, at_least=True),
    Bar(_CHUNK, _rate("cubegate"), _rate("xpublish-zarr"), 6, at_least=True),
)  # fmt: skip

LIMITS = (
    Limit("1,500 frames, until the server is ready", "frames_start_s", 2, "s"),
    Limit("1,500 frames, memory beyond that of none", "frames_mb", 300, "MB"),
    Limit("stack of ASF's size to index", "convert_s", 90, "s"),
    Limit("stack of ASF's size to index, peak memory", "convert_peak_gb", 2.5, "GB"),
    Limit("index of that stack, opening it again", "reopen_ms", 50, "ms"),
)
