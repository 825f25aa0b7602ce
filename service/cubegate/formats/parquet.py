"""Parquet: the rows of the CSV with their types, units in the schema's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cubegate.formats.facts import one_line, origin, point_facts, software
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result, Shape
from cubegate.formats.rows import Table, make_table
from cubegate.formats.spool import SpooledDocument
from cubegate.formats.times import iso_times

_LIMITS = np.iinfo(np.int64)
# The units of time that Parquet has.
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


class ParquetFormat:
    """One row a cell, one column a coordinate or variable, of its own type; missing cells are null.

    Times are UTC in nanoseconds (or in their own unit, where nanoseconds do not reach), those of
    other calendars are ISO 8601 text.
    """

    name = "parquet"
    media_type = "application/vnd.apache.parquet"
    extension = "parquet"
    shapes: frozenset[Shape] = frozenset({"series", "points", "cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        contents = read_contents(result)
        table = make_table(result, contents)
        types = [_arrow_type(column) for column in table.columns]
        schema = _schema(result, contents, table, types)

        def build(path: Path) -> None:
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for block in table.blocks():
                    cells = zip(table.columns, block.positions, types, strict=True)
                    arrays = [
                        _array(c, c.values.reshape(-1)[positions], kind) for c, positions, kind in cells
                    ]
                    writer.write_batch(pa.record_batch(arrays, schema=schema))

        return SpooledDocument(build, ".parquet")


def _schema(result: Result, contents: Contents, table: Table, types: list[pa.DataType]) -> pa.Schema:
    facts = {**origin(result), "crs": one_line(result.crs), "software": software()}
    if result.shape == "series":
        facts.update({f"point_{key}": str(value) for key, value in point_facts(result, contents).items()})
    fields = [
        pa.field(column.name, kind, metadata={"units": column.units, "long_name": one_line(column.label)})
        for column, kind in zip(table.columns, types, strict=True)
    ]
    return pa.schema(fields, metadata=facts)


def _arrow_type(field: Field) -> pa.DataType:
    if field.values.dtype.kind == "O":
        return pa.string()
    if field.values.dtype.kind == "M":
        return pa.timestamp(_unit(field.values), tz="UTC")
    if field.values.dtype.itemsize > 8:
        return pa.string()
    return pa.from_numpy_dtype(field.values.dtype)


def _unit(times: NDArray[Any]) -> str:
    unit = np.datetime_data(times.dtype)[0]
    own = unit if unit in _PER_SECOND else "ms"
    numbers = times.astype(f"M8[{own}]").astype(np.int64)
    numbers = numbers[numbers != _LIMITS.min]
    reach = _LIMITS.max // (_PER_SECOND["ns"] // _PER_SECOND[own])
    return "ns" if not numbers.size or max(abs(int(numbers.min())), abs(int(numbers.max()))) <= reach else own


def _array(field: Field, values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    missing = field.missing(values)
    if field.is_time and values.dtype.kind == "O":
        return pa.array(iso_times(values), kind)
    if values.dtype.kind == "M":
        return pa.array(values.astype(f"M8[{kind.unit}]").astype(np.int64), mask=missing).cast(kind)
    if values.dtype.itemsize > 8:
        return pa.array(values.astype(str).astype(object), kind, mask=missing)
    return pa.array(values, kind, mask=missing)
