"""A result as a table: one row a cell, in bounded blocks; what CSV and Parquet write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.fields import Contents, Field
from cubegate.formats.output import Result

ROWS = 65_536
_POSITION = ("longitude", "latitude", "distance")


@dataclass(frozen=True)
class Block:
    """Some rows: for each column, the flat positions of its cells in the column's own values."""

    positions: tuple[NDArray[np.intp], ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.positions[0])


@dataclass(frozen=True)
class Table:
    """Columns over the product of `sizes`; a column without one of the dimensions repeats."""

    columns: tuple[Field, ...]
    sizes: dict[str, int]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(np.prod(list(self.sizes.values()), dtype=np.int64))

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in order, `ROWS` at a time."""
        dims, shape = tuple(self.sizes), tuple(self.sizes.values())
        for start in range(0, self.rows, ROWS):
            rows = np.arange(start, min(start + ROWS, self.rows))
            index = dict(zip(dims, np.unravel_index(rows, shape) if shape else (), strict=True))
            yield Block(tuple(_positions(column, index, len(rows)) for column in self.columns))


def make_table(result: Result, contents: Contents) -> Table:
    """Lay a result out as rows: point, its position, time, other dimensions, y, x, then the variables.

    Raises:
        NotAcceptable: two columns would have one name.
    """
    columns = [column for dim in contents.dims for column in _dimension_columns(result, contents, dim)]
    columns += contents.variables
    names = [column.name for column in columns]
    if contents.time is not None and contents.time.name in names and "time" not in names:
        index = names.index(contents.time.name)
        columns[index], names[index] = replace(columns[index], name="time"), "time"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NotAcceptable(f"Two columns would be called {', '.join(twice)}: ask for fewer variables.")
    return Table(tuple(columns), {dim: contents.sizes[dim] for dim in contents.dims})


def _dimension_columns(result: Result, contents: Contents, dim: str) -> Iterator[Field]:
    if dim == result.time and contents.time is not None:
        yield contents.time
        return
    along = {name: field for name, field in contents.coordinates.items() if field.dims == (dim,)}
    yield along.pop(dim) if dim in along else Field(dim, (dim,), np.arange(contents.sizes[dim]), {})
    if dim == "point":
        last = (result.x, result.y, *_POSITION)
        yield from (field for name, field in along.items() if name not in last)
        yield from (along[name] for name in dict.fromkeys(last) if name in along)


def _positions(column: Field, index: dict[str, NDArray[Any]], rows: int) -> NDArray[np.intp]:
    if not column.dims:
        return np.zeros(rows, np.intp)
    own = tuple(index[dim] for dim in column.dims)
    return np.asarray(np.ravel_multi_index(own, column.values.shape), np.intp)
