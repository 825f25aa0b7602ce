"""CoverageJSON: domains with flat axes, and ranges that are streamed variable by variable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.crs import axis_order, crs_uri, read_crs
from cubegate.formats.facts import one_line, origin
from cubegate.formats.fields import Contents, Field, read_contents
from cubegate.formats.output import Result, Shape
from cubegate.formats.rows import ROWS
from cubegate.formats.text import json_cells
from cubegate.formats.times import calendar_of, is_gregorian, sort_key

_DATA_TYPES = {"b": "integer", "i": "integer", "u": "integer", "f": "float", "O": "string", "M": "string"}
_DOMAIN_TYPES = {frozenset("xyt"): "PointSeries", frozenset("xy"): "Point"}
_CALENDARS = "http://cfconventions.org/cf-conventions/cf-conventions.html#calendar"


@dataclass(frozen=True)
class _Coverage:
    """Variables that share a domain; `selection` picks positions along dimensions of the result."""

    variables: tuple[Field, ...]
    selection: dict[str, NDArray[np.intp]]


class CoverageJSONFormat:
    """PointSeries or Point domains for points, Grid domains for cubes.

    Points along a line (the option `path`) are one domain: Trajectory where each has one time,
    MultiPointSeries where all have several, MultiPoint where they have none. Variables of different
    dimensions are coverages of one collection, and so are other points. A domain names each time once,
    in order: repeated times continue in another coverage.
    """

    name = "covjson"
    media_type = "application/prs.coverage+json"
    extension = "covjson"
    shapes: frozenset[Shape] = frozenset({"series", "points", "cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        contents = read_contents(result)
        empty = [dim for dim, size in contents.sizes.items() if not size]
        if empty:
            raise NotAcceptable(f"CoverageJSON has no empty axes, and {empty[0]!r} is: use f=json or f=csv.")
        writer = (_PathWriter if result.options.get("path") else _Writer)(result, contents)
        coverages = list(writer.coverages())
        writer.domain(coverages[0])
        return writer.pieces(coverages)


class _Writer:
    def __init__(self, result: Result, contents: Contents) -> None:
        self._result = result
        self._contents = contents
        self._axes = {result.x: "x", result.y: "y"} | ({result.time: "t"} if result.time else {})
        self._crs = read_crs(result)

    def coverages(self) -> Iterator[_Coverage]:
        groups: dict[tuple[str, ...], list[Field]] = {}
        for field in self._contents.variables:
            groups.setdefault(field.dims, []).append(field)
        runs = self._time_runs()
        for dims, fields in groups.items():
            for point in self._points(dims):
                for times in runs if self._result.time in dims else [None]:
                    chosen = {"point": None if point is None else np.array([point]), self._result.time: times}
                    yield _Coverage(tuple(fields), {str(k): v for k, v in chosen.items() if v is not None})

    def _points(self, dims: tuple[str, ...]) -> Iterable[int | None]:
        """The points that are coverages of their own; None is all of them."""
        return range(self._contents.sizes["point"]) if "point" in dims else [None]

    def _time_runs(self) -> list[NDArray[np.intp]]:
        time = self._contents.time
        if time is None or not time.is_time or not time.dims:
            return [np.arange(self._contents.sizes.get(str(self._result.time), 0))]
        if time.missing(time.values).any():
            raise NotAcceptable("CoverageJSON has no missing times, and some are: use f=csv.")
        key = sort_key(time.values)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        first = np.searchsorted(ordered, ordered, side="left")
        repeat = np.arange(len(order)) - first
        return [order[repeat == n] for n in range(int(repeat.max()) + 1)]

    def pieces(self, coverages: list[_Coverage]) -> Iterator[bytes]:
        facts = {**origin(self._result), "crs": one_line(self._result.crs)}
        if len(coverages) == 1:
            yield from self._coverage(coverages[0], facts, alone=True)
        else:
            shared = {
                "parameters": self._parameters(self._contents.variables),
                "referencing": self._referencing(),
            }
            yield (
                _dump({"type": "CoverageCollection", **shared, "cubegate": facts})[:-1] + ', "coverages": ['
            ).encode()
            for index, coverage in enumerate(coverages):
                if index:
                    yield b", "
                yield from self._coverage(coverage, {}, alone=False)
            yield b"]}"
        yield b"\n"

    def _coverage(self, coverage: _Coverage, facts: dict[str, str], *, alone: bool) -> Iterator[bytes]:
        head: dict[str, Any] = {"type": "Coverage", "domain": self.domain(coverage)}
        if alone:
            head["domain"]["referencing"] = self._referencing()
            head |= {"parameters": self._parameters(coverage.variables), "cubegate": facts}
        yield (_dump(head)[:-1] + ', "ranges": {').encode()
        for index, field in enumerate(coverage.variables):
            yield (", " if index else "").encode() + f"{_dump(field.name)}: ".encode()
            yield from self._range(coverage, field)
        yield b"}}"

    def domain(self, coverage: _Coverage) -> dict[str, Any]:
        dims = [dim for dim in coverage.variables[0].dims if dim != "point"]
        axes = {self._axes.get(dim, dim): self._axis(dim, coverage) for dim in dims}
        for dim in (self._result.x, self._result.y, self._result.time):
            single = None if dim in dims else self._single(dim, coverage)
            if dim and single is not None:
                axes[self._axes[dim]] = {"values": [single]}
        box = self._result.shape == "cube" and {"x", "y"} <= set(axes)
        kind = "Grid" if box else _DOMAIN_TYPES.get(frozenset(axes))
        time = self._contents.time
        known = set(axes) <= set("xyt") and ("t" not in axes or (time is not None and time.is_time))
        return {"type": "Domain", **({"domainType": kind} if kind and known else {}), "axes": axes}

    def _single(self, dim: str | None, coverage: _Coverage) -> Any:
        field = self._contents.scalars.get(dim or "")
        if field is not None:
            return json.loads(json_cells(field, field.values.reshape(-1))[0].as_py())
        along = self._contents.coordinates.get(dim or "")
        if along is None or along.dims != ("point",) or "point" not in coverage.selection:
            return None
        return json.loads(json_cells(along, along.values[coverage.selection["point"]])[0].as_py())

    def _axis(self, dim: str, coverage: _Coverage) -> dict[str, Any]:
        field = self._contents.coordinates.get(dim)
        if dim == self._result.time and self._contents.time is not None:
            field = self._contents.time
        if field is None and dim in (self._result.x, self._result.y):
            raise NotAcceptable(f"The grid has no coordinates along {dim!r}: use f=netcdf.")
        values = field.values if field is not None else np.arange(self._contents.sizes[dim])
        values = values[coverage.selection[dim]] if dim in coverage.selection else values
        plain = field or Field(dim, (dim,), values, {})
        cells = [json.loads(cell) for cell in json_cells(plain, values).to_pylist()]
        if None in cells:
            raise NotAcceptable(
                f"CoverageJSON has no missing coordinates, and some of {dim!r} are: use f=csv."
            )
        return {"values": cells}

    def _range(self, coverage: _Coverage, field: Field) -> Iterator[bytes]:
        values = field.values
        for dim, positions in coverage.selection.items():
            values = np.take(values, positions, axis=field.dims.index(dim))
        if "point" in field.dims:
            # each point is a coverage of its own
            values = values.squeeze(field.dims.index("point"))
        axes = [self._axes.get(dim, dim) for dim in field.dims if dim != "point"]
        return self._array(field, values, axes)

    def _array(self, field: Field, values: NDArray[Any], axes: list[str]) -> Iterator[bytes]:
        about: dict[str, Any] = {"type": "NdArray", "dataType": _DATA_TYPES[values.dtype.kind]}
        if axes:
            about |= {"axisNames": axes, "shape": list(values.shape)}
        flat = values.reshape(-1)
        if flat.dtype.kind == "b":
            flat = flat.view(np.uint8)
        yield f'{_dump(about)[:-1]}, "values": ['.encode()
        for start in range(0, len(flat), ROWS):
            cells = json_cells(field, flat[start : start + ROWS]).to_pylist()
            yield (("," if start else "") + ",".join(cells)).encode()
        yield b"]}"

    def _parameters(self, fields: Iterable[Field]) -> dict[str, Any]:
        return {field.name: describe_parameter(field) for field in fields}

    def _referencing(self) -> list[dict[str, Any]]:
        referencing = [{"coordinates": axis_order(self._crs), "system": _system(self._crs)}]
        time = self._contents.time
        if time is not None and time.is_time:
            gregorian = is_gregorian(time.values)
            calendar = "Gregorian" if gregorian else f"{_CALENDARS}/{calendar_of(time.values)}"
            referencing.append({"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": calendar}})
        return referencing


class _PathWriter(_Writer):
    """Writes points along a line as one composite axis."""

    def _points(self, dims: tuple[str, ...]) -> Iterable[int | None]:  # noqa: ARG002 - as the base
        return [None]

    def domain(self, coverage: _Coverage) -> dict[str, Any]:
        dims = coverage.variables[0].dims
        single = self._times(coverage)
        names = ["x", "y"] if single is None else ["t", "x", "y"]
        columns = [self._cells(self._result.x), self._cells(self._result.y)]
        tuples = list(zip(*([single] if single is not None else []), *columns, strict=True))
        axes: dict[str, Any] = {
            "composite": {
                "dataType": "tuple",
                "coordinates": names,
                "values": [list(each) for each in tuples],
            }
        }
        for dim in dims:
            if dim != "point" and not (dim == self._result.time and single is not None):
                axes[self._axes.get(dim, dim)] = self._axis(dim, coverage)
        kinds = {("composite",): "MultiPoint", ("composite", "t"): "MultiPointSeries"}
        kind = kinds.get(tuple(axes)) if single is None else "Trajectory" if len(axes) == 1 else None
        return {"type": "Domain", **({"domainType": kind} if kind else {}), "axes": axes}

    def _cells(self, name: str) -> list[Any]:
        field = self._contents.coordinates.get(name)
        if field is None or field.dims != ("point",):
            raise NotAcceptable(f"The points have no coordinate {name!r}: use f=csv.")
        return [json.loads(cell) for cell in json_cells(field, field.values).to_pylist()]

    def _times(self, coverage: _Coverage) -> list[str] | None:
        """The one time of each point; None where there are several, or none."""
        time = self._contents.time
        if time is None or not time.is_time:
            return None
        if time.dims == ("point",):
            return self._cells(time.name)
        chosen = coverage.selection.get(str(self._result.time))
        if chosen is None or len(chosen) != 1:
            return None
        text: str = json.loads(json_cells(time, time.values[chosen])[0].as_py())
        return [text] * self._contents.sizes["point"]

    def _range(self, coverage: _Coverage, field: Field) -> Iterator[bytes]:
        axes = ["composite" if dim == "point" else self._axes.get(dim, dim) for dim in field.dims]
        values = field.values
        for dim, positions in coverage.selection.items():
            values = np.take(values, positions, axis=field.dims.index(dim))
        if "t" in axes and self._times(coverage) is not None:
            values = values.squeeze(axes.index("t"))
            axes.remove("t")
        return self._array(field, values, axes)


def describe_parameter(field: Field) -> dict[str, Any]:
    """Describe a variable as a CoverageJSON parameter."""
    observed: dict[str, Any] = {"label": {"en": one_line(field.label)}}
    if "standard_name" in field.attributes:
        observed["id"] = (
            f"http://vocab.nerc.ac.uk/standard_name/{one_line(field.attributes['standard_name'])}/"
        )
    parameter = {
        "type": "Parameter",
        "description": {"en": one_line(field.label)},
        "observedProperty": observed,
    }
    return parameter | ({"unit": {"symbol": one_line(field.units)}} if field.units else {})


def _system(crs: pyproj.CRS) -> dict[str, Any]:
    kind = "GeographicCRS" if crs.is_geographic else "ProjectedCRS"
    uri = crs_uri(crs)
    return {"type": kind, "id": uri} if uri else {"type": kind, "description": {"en": crs.to_wkt()}}


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
