"""Shows what became of the runs: the bars, the outcomes by fault, and what nothing can notice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .bars import Row
from .canaries import Search
from .engine import (
    ABORTED,
    BAD_STATUS,
    FILL,
    LATE,
    NO_RETRY_AFTER,
    RAISED,
    REFUSED,
    RIGHT,
    UNREADABLE,
    WRONG,
    Outcome,
)
from .faults import FAULTS, GOOD

_COLUMNS = {
    "right": (RIGHT,), "refused": (REFUSED,), "raised or aborted": (RAISED, ABORTED),
    "silent fill": (FILL,), "wrong": (WRONG, UNREADABLE, BAD_STATUS), "no Retry-After or late": (NO_RETRY_AFTER, LATE),
}  # fmt: skip


def bars_of_runs(outcomes: Sequence[Outcome], search: Search, astray: Sequence[str], least: int) -> list[Row]:
    """The bars that the runs are held to."""
    detectable = [one for one in outcomes if one.run.detectable or not one.injected]
    kinds = Counter(one.kind for one in detectable)
    wrong = kinds[WRONG] + kinds[UNREADABLE]
    once = [one for one in detectable if one.run.once and one.injected]
    checked = [
        one for one in outcomes if one.run.source == "index with checksums" and one.run.read == "chunk"
    ]
    wrong_checked = sum(one.is_wrong for one in checked)
    struck = sum(one.injected > 0 for one in outcomes)
    controls = [one for one in outcomes if one.run.fault == GOOD]
    searched = sum(search.searched.values())
    strays = len(search.hits)
    rows = [
        ("seeded runs", f">= {least:,}", f"{len(outcomes):,}, the fault struck in {struck:,}", len(outcomes) >= least),
        ("silent fill", "0", str(kinds[FILL]), not kinds[FILL]),
        ("wrong values", "0", str(wrong), not wrong),
        ("wrong values with checksums in the index", "0", f"{wrong_checked} of {len(checked):,}", not wrong_checked),
        ("a status other than 200, 502, 503, 504", "0", str(kinds[BAD_STATUS]), not kinds[BAD_STATUS]),
        ("5xx without Retry-After", "0", str(kinds[NO_RETRY_AFTER]), not kinds[NO_RETRY_AFTER]),
        (
            "no answer at all", "0", str(kinds[LATE]), not kinds[LATE],
        ),
        (
            "right values where nothing was bad", "all",
            f"{sum(one.kind == RIGHT for one in controls):,} of {len(controls):,}",
            bool(controls) and all(one.kind == RIGHT for one in controls),
        ),
        (
            "faults that struck once",
            "",
            f"{sum(one.kind == RIGHT for one in once):,} of {len(once):,} answered right by another attempt",
            None,
        ),
        ("canaries found", "0", f"{strays} in {searched / 1e6:,.0f} MB", not strays),
        ("contacts outside the allow-list, HTTP", "0", str(len(astray)), not astray),
    ]  # fmt: skip
    return [Row(*row) for row in rows]


def print_report(console: Console, rows: Sequence[Row], outcomes: Sequence[Outcome], search: Search) -> None:
    """Print all tables."""
    _print_outcomes(console, outcomes)
    _print_unnoticed(console, outcomes)
    table = Table(title="Searched for canaries", title_justify="left")
    for name in ("where", "bytes"):
        table.add_column(name, justify="right" if name == "bytes" else "left")
    for where, nbytes in sorted(search.searched.items()):
        table.add_row(where, f"{nbytes:,}")
    console.print(table)
    for hit in search.hits[:20]:
        console.print(hit, style="red", markup=False, soft_wrap=True)
    for one in [one for one in outcomes if one.is_defect][:40]:
        said = f"{one.run}: {one.kind}: {one.said}"
        console.print(said, style="red", markup=False, highlight=False, soft_wrap=True)
    bars = Table(title="Bars", title_justify="left")
    for name in ("what", "bar", "measured", ""):
        bars.add_column(name)
    for row in rows:
        bars.add_row(row.what, row.bar, row.measured, {True: "met", False: "[red]missed", None: ""}[row.met])
    console.print(bars)


def _print_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        if one.run.detectable:
            counted[one.run.fault][one.kind] += 1
    table = Table(title="What became of each fault, where it can be noticed", title_justify="left")
    table.add_column("fault")
    for name in ("runs", *_COLUMNS):
        table.add_column(name, justify="right")
    for fault in FAULTS:
        counts = counted[fault]
        cells = [sum(counts[kind] for kind in kinds) for kinds in _COLUMNS.values()]
        table.add_row(fault, *(str(cell or "") for cell in (counts.total(), *cells)))
    console.print(table)


def unnoticed(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, str], Counter[str]]:
    """What became of other bytes in right form: by fault, by what was read, and by how it is stored."""
    found: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        if not one.run.detectable and one.injected:
            source = "index" if one.run.source == "index" else "kerchunk"
            stored = f"{one.stored}, " if one.run.read == "chunk" else ""
            found[one.run.fault, one.run.read, stored + source][one.kind] += 1
    return dict(sorted(found.items()))


def _print_unnoticed(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(title="Other bytes in right form, without a checksum to tell", title_justify="left")
    for name in ("fault", "read", "stored, source"):
        table.add_column(name)
    for name in ("right", "noticed here", "by the client's codec", "wrong"):
        table.add_column(name, justify="right")
    for place, counts in unnoticed(outcomes).items():
        wrong = counts[FILL] + counts[WRONG] + counts[BAD_STATUS]
        by_client = counts[UNREADABLE] + counts[RAISED]
        here = counts.total() - wrong - by_client - counts[RIGHT]
        table.add_row(*place, *(str(cell or "") for cell in (counts[RIGHT], here, by_client, wrong)))
    console.print(table)
