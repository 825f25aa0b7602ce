"""Shows the document of a run: as tables on a terminal, and as Markdown between the marks of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from .bars import BARS, LIMITS, Document, reader_median, scale_of_scattered, shown_ratio
from .chunk_rate import SERVERS
from .queries import LABELS
from .rounds import READERS

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_MORE = {
    "p1_first": "p1 as the first request of a server, which mounts the cube",
    "open_kerchunk": "first open of the same cube as `kind: kerchunk`",
    "p1_redis": "p1, cold, with an empty Redis",
    "p2_redis": "p2 on another replica, from Redis, as the first request after its start",
    "p4_redis": "a point beside p3 on that replica, from Redis",
}

Rows = tuple[list[str], list[list[str]]]


def tables(document: Document) -> Iterator[tuple[str, Rows]]:
    """The tables of a run: title, header and rows."""
    yield "Medians in milliseconds", _times(document)
    yield "More of cubegate, in milliseconds", _more(document)
    yield f"One chunk by HTTP at 16 connections ({document['generator']})", _rates(document)
    yield "Bars", _bars(document)


def _times(document: Document) -> Rows:
    header = ["reader", *LABELS, "peak MB"]
    rows = []
    for reader, label in READERS.items():
        cells = [_milliseconds(document, reader, query) for query in LABELS]
        peak = document["readers"].get(reader, {}).get("peak_mb")
        named = f"({reader}) {label}"
        if reader in document["missing"]:
            named += f": {document['missing'][reader]}"
        rows.append([named, *cells, f"{median(peak):.0f}" if peak else ""])
    return header, rows


def _milliseconds(document: Document, reader: str, query: str) -> str:
    value = reader_median(document, reader, query)
    if value is None:
        return ""
    extrapolated = query == "scattered" and scale_of_scattered(document, reader) != 1
    return ("~" if extrapolated else "") + (f"{value:.1f}" if value < 100 else f"{value:,.0f}")


def _more(document: Document) -> Rows:
    rows = [[label, _milliseconds(document, "d", query)] for query, label in _MORE.items()]
    rows.append(
        ["`xr.open_zarr` on a warm server, then p1",
         f"{_milliseconds(document, 'e', 'open_warm')} + {_milliseconds(document, 'e', 'p1_warm')}"]
    )  # fmt: skip
    peak = document["readers"].get("d_scattered", {}).get("peak_mb")
    if peak:
        rows.append(["peak MB of the server that read the scattered points", f"{median(peak):.0f}"])
    return ["query", "median"], rows


def _rates(document: Document) -> Rows:
    rows = []
    for name, label in SERVERS.items():
        samples = document["rates"].get(name)
        said = f"{median(samples):,.0f}" if samples else document["missing"].get(name, "not measured")
        rows.append([label, said])
    return ["server, one worker", "requests/s"], rows


def _bars(document: Document) -> Rows:
    met = {True: "yes", False: "no", None: "not measured"}
    rows = []
    for bar in BARS:
        ratio = bar.ratio(document)
        shown = "" if ratio is None else shown_ratio(ratio)
        rows.append([bar.query, bar.required, shown, met[bar.is_met(document)]])
    for limit in LIMITS:
        value = limit.value(document)
        shown = "" if value is None else f"{value:.3g} {limit.unit}"
        rows.append([limit.query, limit.required, shown, met[limit.is_met(document)]])
    return ["query", "bar", "measured", "met"], rows


def notes(document: Document) -> list[str]:
    """What a reader of the tables must know about this run."""
    machine, stack = document["machine"], document["stack"]
    rounds = f"{document['rounds']} round{'s' if document['rounds'] > 1 else ''}"
    where = f"{machine['cpu']} ({machine['cores']} cores, {machine['memory_gb']} GB)"
    pixels = f"{stack['dates']} dates of {stack['height']} x {stack['width']} pixels"
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    said = [
        f"{document['date']}, {document['mode']} run of {rounds}, on {where}, Python {machine['python']}.",
        f"{pixels}; every upstream request takes {document['delay_ms']:g} ms more.",
        f"{document['compared']:,} values were compared with those that h5py reads from the granules.",
        f"{versions}.",
    ]
    some = {
        reader: measured["scattered"]
        for reader, measured in document["readers"].items()
        if measured.get("scattered", document["scattered"]) < document["scattered"]
    }
    if some:
        read = ", ".join(f"({reader}) {count}" for reader, count in some.items())
        said.append(f"~: extrapolated from fewer scattered points: {read}.")
    wrong = [f"Wrong values: {query}" for query in document["wrong"]]
    return [*said, *wrong, *(f"Failed: {failure.splitlines()[-1]}" for failure in document["failed"])]


def print_report(console: Console, document: Document) -> None:
    """Print all tables."""
    for title, (header, rows) in tables(document):
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for note in notes(document):
        console.print(note, markup=False, highlight=False)


def as_markdown(document: Document) -> str:
    """All tables in Markdown."""
    parts = ["\n\n".join(notes(document))]
    for title, (header, rows) in tables(document):
        lines = [_row(header), _row(["---"] * len(header)), *map(_row, rows)]
        parts.append(f"### {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def write_markdown(page: Path, document: Document) -> None:
    """Put the tables between the marks of `page`."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END}.")
    page.write_text(f"{before}{begin}\n\n{as_markdown(document)}\n\n{end}{after}", "utf-8")
