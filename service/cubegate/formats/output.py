"""The output format seam: what a query answered, and how a format writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

import xarray as xr

from cubegate.errors import InvalidParameter

Shape = Literal["series", "points", "cube"]


@dataclass(frozen=True)
class Result:
    """The loaded answer of a query.

    Attributes:
        shape: `series` (one point; every variable has at most the time dimension, plus any
            dimension that was not selected away), `points` (a leading `point` dimension) or
            `cube` (y and x, with time or others before them).
        dataset: loaded, CF-decoded data variables. A series and points carry the pixel centre
            as scalar or `point` coordinates under the grid's own names (say `x`, `y`), the same
            in degrees as `longitude` and `latitude`, and `distance` (metres) from the asked
            point; a cube keeps its grid mapping variable.
        x, y, time: the dimension names of the grid; time is None where the cube has none.
        crs: of x and y, as `EPSG:32611` where it has a code and as WKT otherwise; empty where the
            cube has none.
        provenance: facts for headers and attributes: dataset, version, title, source, and the
            conditions that the values meet (where, mask).
        options: what the request asked of the format (say `compress`), already parsed.
    """

    shape: Shape
    dataset: xr.Dataset
    x: str
    y: str
    time: str | None
    crs: str
    provenance: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


class OutputFormat(Protocol):
    """Writes a result; instances hold no state.

    `name` is the value of `f=`, `shapes` what it can write.
    """

    name: str
    media_type: str
    extension: str
    shapes: frozenset[Shape]

    def write(self, result: Result) -> Iterator[bytes]:
        """Yield the document in pieces.

        Raises:
            NotAcceptable: before the first piece, where the result has no form in this format.
        """
        ...


def output_formats() -> dict[str, OutputFormat]:
    """All installed output formats by name, found by the entry point group `cubegate.formats`."""
    found: dict[str, OutputFormat] = {}
    for entry in entry_points(group="cubegate.formats"):
        output_format: OutputFormat = entry.load()()
        found[output_format.name] = output_format
    return found


def choose_format(formats: Mapping[str, OutputFormat], name: str, shape: Shape) -> OutputFormat:
    """Return the format called `name`.

    Raises:
        InvalidParameter: it does not exist, or cannot write `shape`.
    """
    able = sorted(key for key, value in formats.items() if shape in value.shapes)
    if name not in able:
        raise InvalidParameter(
            "f", f"There is no output format {name!r} for this query.", accepted=", ".join(able)
        )
    return formats[name]
