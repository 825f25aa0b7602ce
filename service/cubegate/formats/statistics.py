"""Statistics of polygons as JSON, CSV and Parquet: one record for each area, variable and time."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from cubegate.formats.facts import one_line, software
from cubegate.query.interval import iso
from cubegate.query.statistics import Row

FORMATS = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


class AreaRows(NamedTuple):
    """The rows of one area."""

    id: str
    rows: Sequence[Row]


def write_statistics(
    name: str, areas: Sequence[AreaRows], time: str | None, facts: Mapping[str, str]
) -> bytes:
    """Write the rows of all areas in one format; `time` is the dimension that becomes `time`.

    `facts` are of the origin: title, dataset, version, crs, weights, conditions.
    """
    records = [_record(area.id, row, time) for area in areas for row in area.rows]
    if name == "json":
        said = {key: one_line(text) for key, text in facts.items()}
        return (json.dumps({**said, "statistics": records}, allow_nan=False) + "\n").encode()
    rows = _flattened(records) if name == "csv" else records
    # a variable without time has none, and so not all of the columns
    names = list(dict.fromkeys(column for row in rows for column in row))
    table = pa.Table.from_pylist([{column: row.get(column) for column in names} for row in rows])
    file = io.BytesIO()
    if name == "csv":
        file.write("".join(f"# {key}: {one_line(text)}\n" for key, text in facts.items()).encode())
        pa_csv.write_csv(table, file, pa_csv.WriteOptions(quoting_style="needed"))
    else:
        said = {key: one_line(text) for key, text in {**facts, "software": software()}.items()}
        pq.write_table(table.replace_schema_metadata(said), file, compression="zstd")
    return file.getvalue()


def _record(area: str, row: Row, time: str | None) -> dict[str, Any]:
    place = {"time" if dim == time else dim: _plain(value) for dim, value in row.place.items()}
    record = {"area": area, **place, "variable": row.variable, "units": row.units}
    record |= {key: _finite(value) for key, value in row.values.items()}
    if row.edges:
        record["histogram"] = {"edges": list(row.edges), "counts": list(row.counts)}
    return record


def _plain(value: Any) -> Any:
    """A coordinate's value as JSON has it: times as in all answers."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M":
        return None if np.isnat(value) else iso(value)
    if hasattr(value, "isoformat"):
        return iso(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _finite(value)
    return value if isinstance(value, int | str) else str(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _flattened(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write histograms as columns: where the first bin starts, where the last ends, and a count a bin."""
    rows = []
    for record in records:
        row = dict(record)
        histogram = row.pop("histogram", None)
        if histogram is not None:
            edges = histogram["edges"]
            row |= {"histogram_min": edges[0], "histogram_max": edges[-1]}
            row |= {f"bin_{number}": count for number, count in enumerate(histogram["counts"], 1)}
        rows.append(row)
    return rows
