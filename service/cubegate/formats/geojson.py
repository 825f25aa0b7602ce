"""GeoJSON: a feature for each point and time, with the variables as its properties."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from cubegate.errors import NotAcceptable
from cubegate.formats.covjson import describe_parameter
from cubegate.formats.facts import one_line, origin
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result, Shape
from cubegate.formats.rows import Block, Table, make_table
from cubegate.formats.text import json_cells
from cubegate.formats.times import iso_times

PLACE = ("longitude", "latitude")
# the members that OGC API - EDR gives every feature
RESERVED = ("datetime", "parameter-name", "label", "edrqueryendpoint")


class GeoJSONFormat:
    """A FeatureCollection as OGC API - EDR has it, in longitude and latitude (RFC 7946).

    A feature is one pixel at one time: its geometry is the pixel's centre, its properties are the
    values; missing and infinite ones are null.
    """

    name = "geojson"
    media_type = "application/geo+json"
    extension = "geojson"
    shapes: frozenset[Shape] = frozenset({"series", "points"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        contents = read_contents(result)
        table = make_table(result, contents)
        places = [_place(contents, name) for name in PLACE]
        taken = [column.name for column in table.columns if column.name in RESERVED]
        if taken:
            raise NotAcceptable(
                f"The name {taken[0]!r} is taken in GeoJSON: ask for other variables, or f=csv."
            )
        return _Writer(result, contents, table, places[0], places[1]).pieces()


def _place(contents: Contents, name: str) -> Field:
    field = contents.scalars.get(name) or contents.coordinates.get(name)
    if field is None or field.dims not in ((), ("point",)):
        raise NotAcceptable(
            "GeoJSON is in longitude and latitude, which are unknown here: use f=csv or f=json."
        )
    return field


class _Writer:
    def __init__(
        self, result: Result, contents: Contents, table: Table, longitude: Field, latitude: Field
    ) -> None:
        self._result, self._contents, self._table = result, contents, table
        self._place = longitude, latitude
        self._time = contents.time if contents.time is not None and contents.time.is_time else None
        self._names = [field.name for field in contents.variables]
        self._span = _span(self._time)
        endpoint = result.options.get("endpoint")
        self._same = json.dumps(
            {"parameter-name": self._names, **({"edrqueryendpoint": endpoint} if endpoint else {})}
        )[1:-1]

    def pieces(self) -> Iterator[bytes]:
        facts = {**origin(self._result), "crs": one_line(self._result.crs)}
        parameters = [{"id": field.name, **describe_parameter(field)} for field in self._contents.variables]
        head: dict[str, Any] = {"type": "FeatureCollection", "cubegate": facts, "parameters": parameters}
        head |= {"numberMatched": self._table.rows, "numberReturned": self._table.rows}
        yield (_dump(head)[:-1] + ', "features": [').encode()
        count = 0
        for block in self._table.blocks():
            features = self._features(block, count)
            yield ((", " if count else "") + ", ".join(features)).encode()
            count += block.rows
        yield b"]}\n"

    def _features(self, block: Block, first: int) -> list[str]:
        columns = [
            (json.dumps(column.name), json_cells(column, column.values.reshape(-1)[positions]).to_pylist())
            for column, positions in zip(self._table.columns, block.positions, strict=True)
            if column.name not in PLACE and (self._time is None or column.values is not self._time.values)
        ]
        points = self._points(block)
        longitudes, latitudes = (
            [float(value) for value in field.values.reshape(-1)[points]] for field in self._place
        )
        times = self._times(block)
        labels = [f"pixel at {x:.6g}, {y:.6g}" for x, y in zip(longitudes, latitudes, strict=True)]
        features = []
        for row in range(block.rows):
            cells = "".join(f", {name}: {values[row]}" for name, values in columns)
            features.append(
                f'{{"type": "Feature", "id": {first + row}, "geometry": {{"type": "Point", "coordinates": '
                f'[{longitudes[row]!r}, {latitudes[row]!r}]}}, "properties": {{"datetime": {times[row]}, '
                f'"label": {_dump(labels[row])}, {self._same}{cells}}}}}'
            )
        return features

    def _points(self, block: Block) -> Any:
        """For each row, the number of its point; 0 for a series."""
        if "point" not in self._table.sizes:
            return np.zeros(block.rows, np.intp)
        along = next(number for number, column in enumerate(self._table.columns) if column.dims == ("point",))
        return block.positions[along]

    def _times(self, block: Block) -> list[str]:
        time = self._time
        if time is None:
            return [_dump(self._span)] * block.rows
        number = next(
            (i for i, column in enumerate(self._table.columns) if column.values is time.values), None
        )
        if number is None:
            return [_dump(self._span)] * block.rows
        return [
            str(cell)
            for cell in json_cells(time, time.values.reshape(-1)[block.positions[number]]).to_pylist()
        ]


def _span(time: Field | None) -> str:
    """The one time, or from when until when; empty where there is none."""
    if time is None:
        return ""
    texts = sorted(text for text in iso_times(time.values.reshape(-1)) if text is not None)
    if not texts:
        return ""
    return texts[0] if len(texts) == 1 else f"{texts[0]}/{texts[-1]}"


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
