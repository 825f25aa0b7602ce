"""JSON: one small document that explains itself, for series and points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cubegate.formats.facts import one_line, origin, point_facts, points_facts, scalar_value
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result, Shape
from cubegate.formats.text import json_cells, nested_json


class JSONFormat:
    """`point` or `points`, `time`, other `coordinates`, and `variables` with nested `values`.

    Missing and infinite cells are null; the document is strict JSON.
    """

    name = "json"
    media_type = "application/json"
    extension = "json"
    shapes: frozenset[Shape] = frozenset({"series", "points"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        return _pieces(result, read_contents(result))


def _pieces(result: Result, contents: Contents) -> Iterator[bytes]:
    head: dict[str, Any] = {**origin(result), "crs": one_line(result.crs)}
    if result.shape == "series":
        head["point"] = point_facts(result, contents)
    else:
        head["points"] = points_facts(result, contents)
        head.update({name: scalar_value(field) for name, field in contents.scalars.items()})
    yield _dump(head)[:-1].encode()
    time = contents.time
    if time is not None and time.dims:
        yield f', "time": {_values(time)}'.encode()
    others = [
        field
        for field in contents.coordinates.values()
        if field is not time and not (result.shape == "points" and field.dims == ("point",))
    ]
    if others:
        yield f', "coordinates": {{{", ".join(_member(result, field) for field in others)}}}'.encode()
    yield b', "variables": {'
    for index, field in enumerate(contents.variables):
        yield ((", " if index else "") + _member(result, field)).encode()
    yield b"}}\n"


def _member(result: Result, field: Field) -> str:
    known = {"units": field.units, "long_name": field.label, "dims": _dims(result, field)}
    about = _dump({key: value for key, value in known.items() if value or key == "dims"})
    return f'{_dump(field.name)}: {about[:-1]}, "values": {_values(field)}}}'


def _dims(result: Result, field: Field) -> list[str]:
    return ["time" if dim == result.time else dim for dim in field.dims]


def _values(field: Field) -> str:
    return nested_json(json_cells(field, field.values.reshape(-1)), field.values.shape)


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
