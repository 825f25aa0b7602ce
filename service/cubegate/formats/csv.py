"""CSV: facts in `#` lines, then one row a cell, streamed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from cubegate.formats.facts import one_line, origin, point_facts
from cubegate.formats.fields import Contents, read_contents
from cubegate.formats.output import Result, Shape
from cubegate.formats.rows import ROWS, Block, Table, make_table
from cubegate.formats.text import csv_cells, csv_quoted


class CSVFormat:
    """One `time` column and one column a variable; points and cubes have their coordinates before them.

    Missing cells are empty, floats carry the shortest digits that give the same value back, and
    a complex variable is two columns, `_real` and `_imag`.
    """

    name = "csv"
    media_type = "text/csv; charset=utf-8"
    extension = "csv"
    shapes: frozenset[Shape] = frozenset({"series", "points", "cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        contents = read_contents(result)
        return _pieces(_header(result, contents), make_table(result, contents))


def _header(result: Result, contents: Contents) -> str:
    facts = origin(result)
    facts["crs"] = one_line(result.crs)
    if result.shape == "series":
        point = {key: value for key, value in point_facts(result, contents).items() if value is not None}
        distance = point.pop("distance_m", None)
        facts["pixel centre"] = ", ".join(f"{key} {one_line(value)}" for key, value in point.items())
        if distance is not None:
            facts["distance"] = f"{distance} m"
    else:
        facts.update(
            {name: one_line(csv_cells(f, f.values.reshape(-1))[0]) for name, f in contents.scalars.items()}
        )
    facts.update(
        {f"units of {field.name}": one_line(field.units) for field in contents.variables if field.units}
    )
    return "".join(f"# {one_line(key)}: {text}\n" for key, text in facts.items())


def _pieces(header: str, table: Table) -> Iterator[bytes]:
    names = csv_quoted(pa.array([column.name for column in table.columns]))
    yield (header + ",".join(names.to_pylist()) + "\n").encode()
    # A column that repeats is written out once, and its texts are taken from there.
    repeated = {
        index: csv_cells(column, column.values.reshape(-1))
        for index, column in enumerate(table.columns)
        if column.values.size <= ROWS and column.values.size < table.rows
    }
    for block in table.blocks():
        yield _lines(table, block, repeated)


def _lines(table: Table, block: Block, repeated: dict[int, pa.StringArray]) -> bytes:
    cells = [
        repeated[index].take(pa.array(positions))
        if index in repeated
        else csv_cells(column, column.values.reshape(-1)[positions])
        for index, (column, positions) in enumerate(zip(table.columns, block.positions, strict=True))
    ]
    empty = "" if len(cells) > 1 else '""'
    lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement=empty)
    return ("\n".join(lines.to_pylist()) + "\n").encode()
