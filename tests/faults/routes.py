"""What is asked of the gateway in a run, and what is right: read back without cubegate, compared with the granules."""

from __future__ import annotations

import csv
import io
import json
import random
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import h5netcdf
import numpy as np
import pyarrow.parquet as pq
import rasterio

from .cube import (
    CALENDAR,
    CHUNK,
    COORDINATES,
    DATES,
    GRID,
    HOLE,
    SIDE,
    VARIABLES,
    Cube,
    decode_chunk,
)

Values = Mapping[str, np.ndarray]


class Wrong(Exception):
    """An answer that ended properly, and is not true; `fill` where it hides data as missing."""

    def __init__(self, what: str, *, fill: bool = False) -> None:
        super().__init__(what)
        self.fill = fill


class Unreadable(Wrong):
    """An answer of 200 that whoever reads it finds to be none."""


@dataclass(frozen=True)
class Asked:
    """A request below a dataset, and `check`, which raises `Wrong` for a body that is not right.

    `granule` is one of the files that it reads; `names` are the variables.
    """

    path: str
    check: Callable[[bytes], None]
    granule: str | None = None
    names: tuple[str, ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[Cube, random.Random], Asked]


def compare(what: str, got: np.ndarray, expected: np.ndarray, *, storage: float | None = None) -> None:
    """Hold `got` to `expected`; missing is NaN, or `storage` in what is not decoded.

    Raises:
        Wrong: they differ.
    """
    if got.shape != expected.shape:
        raise Wrong(f"{what}: shape {got.shape} instead of {expected.shape}")
    # text has the digits that tell floats of four bytes apart
    width = "f4" if _is_short(what) else "f8"
    got, expected = got.astype(width).astype("f8"), expected.astype(width).astype("f8")
    different = ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    if different.any():
        filled = np.isnan(got) | (got == (np.nan if storage is None else storage)) | (got == 0)
        place = tuple(int(axis[0]) for axis in np.nonzero(different))
        text = (
            f"{what}: {got[place]} instead of {expected[place]} at {place}, {different.sum()} of {got.size}"
        )
        raise Wrong(text, fill=bool(filled[different].all()))


def _is_short(what: str) -> bool:
    """Whether `what` names a variable of floats of four bytes."""
    variable = VARIABLES.get(what.partition("/")[0])
    return variable is not None and variable.dtype == "<f4"


def _query(**parameters: str) -> str:
    return urllib.parse.urlencode({name.replace("_", "-"): value for name, value in parameters.items()})


def _names(draw: random.Random) -> list[str]:
    return sorted(draw.sample(sorted(VARIABLES), draw.randint(1, 2)))


def _granule(date: int) -> str:
    return f"g{date}.h5"


def chunk(tree: str, zarr_format: int) -> Ask:
    """One chunk by its Zarr key."""

    def ask(cube: Cube, draw: random.Random) -> Asked:
        name = draw.choice(sorted(VARIABLES))
        date, row, column = draw.randrange(DATES), draw.randrange(GRID), draw.randrange(GRID)
        if draw.random() < 0.02:
            name, date, row, column = HOLE
        key = f"{name}/{date}.{row}.{column}" if zarr_format == 2 else f"{name}/c/{date}/{row}/{column}"

        def check(body: bytes) -> None:
            got = decode_chunk(name, body, plain=tree == "zarr-plain")
            compare(key, got, cube.chunk(name, date, row, column), storage=VARIABLES[name].storage)

        granule = None if (name, date, row, column) == HOLE else _granule(date)
        return Asked(f"{tree}/{key}", check, granule, (name,))

    return ask


def coordinate(cube: Cube, draw: random.Random) -> Asked:
    """A coordinate by its Zarr key."""
    name = draw.choice(["x", "y", "time"])
    number = draw.randrange(DATES) if name == "time" else 0

    def check(body: bytes) -> None:
        expected = COORDINATES[name][number : number + 1] if name == "time" else COORDINATES[name]
        if len(body) % 8:
            raise Wrong(f"{name}: {len(body)} bytes")
        compare(name, np.frombuffer(body, "<f8"), expected, storage=0.0)

    return Asked(f"zarr-plain/{name}/{number}", check, _granule(number))


def document(zarr_format: int) -> Ask:
    """A metadata document."""

    def ask(cube: Cube, draw: random.Random) -> Asked:
        names = sorted([*VARIABLES, *COORDINATES])
        whole = draw.random() < 0.5
        name = draw.choice(names)
        if whole:
            path = ".zmetadata" if zarr_format == 2 else "zarr.json"
        else:
            path = f"{name}/.zarray" if zarr_format == 2 else f"{name}/zarr.json"
        check = _check_v2 if zarr_format == 2 else _check_v3

        def check_body(body: bytes) -> None:
            found = json.loads(body)
            for each in names if whole else [name]:
                check(found, each, whole=whole)

        return Asked(f"zarr/{path}", check_body)

    return ask


def _check_v2(found: dict, name: str, *, whole: bool) -> None:
    array = found["metadata"][f"{name}/.zarray"] if whole else found
    missing = VARIABLES[name].missing if name in VARIABLES else None
    said = array["fill_value"]
    if said is None or missing is None:
        agree = said is missing
    else:
        agree = bool(np.array_equal(float(said), missing, equal_nan=True))
    if not agree:
        raise Wrong(f"{name}: fill_value {said} instead of {missing}", fill=missing is None)
    _check_layout(name, array["shape"], array["chunks"])


def _check_v3(found: dict, name: str, *, whole: bool) -> None:
    array = found["consolidated_metadata"]["metadata"][name] if whole else found
    missing = VARIABLES[name].missing if name in VARIABLES else None
    declared = "_FillValue" in array["attributes"]
    # NaN is missing whether or not an attribute says so
    if declared != (missing is not None) and missing == missing:  # noqa: PLR0124 - not NaN
        raise Wrong(f"{name}: a missing value is declared: {declared}", fill=declared)
    _check_layout(name, array["shape"], array["chunk_grid"]["configuration"]["chunk_shape"])


def _check_layout(name: str, shape: list[int], chunks: list[int]) -> None:
    expected = [DATES, SIDE, SIDE] if name in VARIABLES else [len(COORDINATES[name])]
    of_chunks = [1, CHUNK, CHUNK] if name in VARIABLES else [1 if name == "time" else SIDE]
    if (shape, chunks) != (expected, of_chunks):
        raise Wrong(f"{name}: shape {shape}, chunks {chunks}")


@dataclass(frozen=True)
class _Series:
    """The pixels that are asked for, and all dates."""

    names: list[str]
    pixels: list[tuple[int, int]]

    def expected(self, cube: Cube) -> dict[str, np.ndarray]:
        rows, columns = zip(*self.pixels, strict=True)
        values = {name: cube.true(name)[:, rows, columns].T for name in self.names}
        return {**values, "x": COORDINATES["x"][list(columns)], "y": COORDINATES["y"][list(rows)]}


def series(output: str) -> Ask:
    """One pixel's series."""

    def ask(cube: Cube, draw: random.Random) -> Asked:
        asked = _Series(_names(draw), [(draw.randrange(SIDE), draw.randrange(SIDE))])
        row, column = asked.pixels[0]
        x, y = COORDINATES["x"][column], COORDINATES["y"][row]
        query = _query(x=str(x), y=str(y), variables=",".join(asked.names), f=output)
        check = _checked(asked, cube, _READ_SERIES[output])
        return Asked(f"timeseries?{query}", check, _granule(draw.randrange(DATES)), tuple(asked.names))

    return ask


def points(output: str) -> Ask:
    """Some pixels' series, by POST."""

    def ask(cube: Cube, draw: random.Random) -> Asked:
        pixels = [(draw.randrange(SIDE), draw.randrange(SIDE)) for _ in range(3)]
        asked = _Series(_names(draw), pixels)
        lines = [f"{COORDINATES['x'][column]},{COORDINATES['y'][row]}" for row, column in pixels]
        body = "\n".join(["x,y", *lines, ""]).encode()
        query = _query(variables=",".join(asked.names), f=output, crs="EPSG:32611")
        check = _checked(asked, cube, _READ_POINTS[output])
        headers = {"Content-Type": "text/csv"}
        granule = _granule(draw.randrange(DATES))
        return Asked(f"timeseries?{query}", check, granule, tuple(asked.names), body, headers)

    return ask


def _checked(asked: _Series, cube: Cube, read: Callable[[bytes, _Series], Values]) -> Callable[[bytes], None]:
    def check(body: bytes) -> None:
        got, expected = read(body, asked), asked.expected(cube)
        times = CALENDAR
        for name, values in expected.items():
            compare(name, got[name], values)
        if not np.array_equal(got["time"].astype("M8[ns]"), times):
            raise Wrong("time differs", fill=bool(np.isnat(got["time"].astype("M8[ns]")).any()))

    return check


def _numbers(values: object) -> np.ndarray:
    return np.array(values, dtype=object).astype("f8")


def _times(texts: list[str | None]) -> np.ndarray:
    return np.array(
        [np.datetime64("NaT", "ns") if not text else np.datetime64(text.rstrip("Z")) for text in texts],
        "M8[ns]",
    )


def _json_series(body: bytes, asked: _Series) -> Values:
    found = json.loads(body)
    values = {name: _numbers(found["variables"][name]["values"])[None] for name in asked.names}
    point = found["point"]
    return {**values, "time": _times(found["time"]), "x": _numbers([point["x"]]), "y": _numbers([point["y"]])}


def _json_points(body: bytes, asked: _Series) -> Values:
    found = json.loads(body)
    values = {}
    for name in asked.names:
        variable = found["variables"][name]
        array = _numbers(variable["values"])
        values[name] = array if variable["dims"][0] == "point" else array.T
    x, y = ([point[axis] for point in found["points"]] for axis in "xy")
    return {**values, "time": _times(found["time"]), "x": _numbers(x), "y": _numbers(y)}


def _covjson(body: bytes, asked: _Series) -> Values:
    found = json.loads(body)
    coverages = found.get("coverages", [found])
    values = {
        name: np.array([_numbers(one["ranges"][name]["values"]) for one in coverages]) for name in asked.names
    }
    axes = [one["domain"]["axes"] for one in coverages]
    x, y = (_numbers([one[axis]["values"][0] for one in axes]) for axis in "xy")
    return {**values, "time": _times(axes[0]["t"]["values"]), "x": x, "y": y}


def _rows(body: bytes) -> dict[str, list[str]]:
    lines = body.decode().splitlines()
    facts = [line for line in lines if line.startswith("#")]
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return {"#": facts, **{name: [row[name] for row in table] for name in table[0]}}


def _csv_series(body: bytes, asked: _Series) -> Values:
    rows = _rows(body)
    values = {name: _numbers([cell or "nan" for cell in rows[name]])[None] for name in asked.names}
    centre = next(line for line in rows["#"] if line.startswith("# pixel centre:"))
    facts = dict(part.strip().split(" ") for part in centre.partition(":")[2].split(","))
    return {**values, "time": _times(rows["time"]), "x": _numbers([facts["x"]]), "y": _numbers([facts["y"]])}


def _csv_points(body: bytes, asked: _Series) -> Values:
    rows = _rows(body)
    return _points_of_rows({name: _cells(name, rows[name]) for name in rows if name != "#"}, asked)


def _cells(name: str, cells: list[str]) -> np.ndarray:
    return _times(list(cells)) if name == "time" else np.array([_number(cell) for cell in cells], "f8")


def _number(cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return np.nan


def _points_of_rows(rows: Values, asked: _Series) -> Values:
    count = len(asked.pixels)
    table = {name: np.asarray(column) for name, column in rows.items()}
    if len(table["time"]) != count * DATES:
        raise Wrong(f"{len(table['time'])} rows")
    shaped = {name: table[name].reshape(count, DATES) for name in [*asked.names, "x", "y", "time"]}
    if (shaped["time"] != shaped["time"][:1]).any() or (shaped["x"] != shaped["x"][:, :1]).any():
        raise Wrong("rows are mixed up")
    return {**shaped, "time": shaped["time"][0], "x": shaped["x"][:, 0], "y": shaped["y"][:, 0]}


def _parquet_series(body: bytes, asked: _Series) -> Values:
    table = pq.read_table(io.BytesIO(body)).to_pandas()
    found = {name: table[name].to_numpy("f8")[None] for name in asked.names}
    x, y = (table[axis].to_numpy("f8")[:1] if axis in table else asked_axis(asked, axis) for axis in "xy")
    return {**found, "time": _naive(table["time"].to_numpy("M8[ns]")), "x": x, "y": y}


def asked_axis(asked: _Series, axis: str) -> np.ndarray:
    """The coordinate that was asked for, where an answer does not repeat it."""
    row, column = asked.pixels[0]
    return COORDINATES[axis][[column if axis == "x" else row]]


def _naive(times: np.ndarray) -> np.ndarray:
    return times.astype("M8[ns]")


def _parquet_points(body: bytes, asked: _Series) -> Values:
    table = pq.read_table(io.BytesIO(body)).to_pandas()
    rows = {name: table[name].to_numpy("f8") for name in [*asked.names, "x", "y"]}
    return _points_of_rows({**rows, "time": table["time"].to_numpy("M8[ns]")}, asked)


def read_netcdf(body: bytes) -> dict[str, np.ndarray]:
    """The variables of a NetCDF file as float64, NaN where missing; `time` as dates."""
    found = {}
    with h5netcdf.File(io.BytesIO(body), "r") as file:
        for name, variable in file.variables.items():
            values = np.asarray(variable[...])
            if values.dtype.kind not in "iuf":
                continue
            decoded = values.astype("f8")
            if "_FillValue" in variable.attrs:
                decoded[values == variable.attrs["_FillValue"]] = np.nan
            if name == "time":
                unit, _, epoch = str(variable.attrs["units"]).partition(" since ")
                seconds = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}[unit]
                start = np.datetime64(epoch.replace(" ", "T").rstrip("Z"), "ns")
                nat = np.isnan(decoded)
                ticks = (np.where(nat, 0, decoded) * seconds * 1e9).astype("m8[ns]")
                found[name] = np.where(nat, np.datetime64("NaT", "ns"), start + ticks)
            else:
                found[name] = decoded
    return found


def _netcdf(body: bytes, asked: _Series) -> Values:
    found = read_netcdf(body)
    count = len(asked.pixels)
    shaped = {}
    for name in asked.names:
        values = found[name]
        shaped[name] = values.reshape(1, DATES) if count == 1 else values
        if count > 1 and values.shape == (DATES, count):
            shaped[name] = values.T
    return {**shaped, "time": found["time"], "x": found["x"].reshape(-1), "y": found["y"].reshape(-1)}


_READ_SERIES = {
    "json": _json_series, "csv": _csv_series, "covjson": _covjson, "netcdf": _netcdf,
    "parquet": _parquet_series,
}  # fmt: skip
_READ_POINTS = {"json": _json_points, "csv": _csv_points, "covjson": _covjson, "parquet": _parquet_points}


@dataclass(frozen=True)
class Box:
    """A window of the cube: one variable, some dates, rows and columns."""

    name: str
    dates: slice
    rows: slice
    columns: slice

    def expected(self, cube: Cube) -> dict[str, np.ndarray]:
        values = cube.true(self.name)[self.dates, self.rows, self.columns]
        x, y = COORDINATES["x"][self.columns], COORDINATES["y"][self.rows]
        return {self.name: values, "x": x, "y": y, "time": CALENDAR[self.dates]}


def draw_box(draw: random.Random) -> Box:
    """A window of up to three chunks a side and two dates."""
    first, row, column = draw.randrange(DATES - 1), draw.randrange(SIDE - 20), draw.randrange(SIDE - 20)
    dates = slice(first, first + 2)
    height, width = draw.randint(2, 20), draw.randint(2, 20)
    return Box(draw.choice(sorted(VARIABLES)), dates, slice(row, row + height), slice(column, column + width))


def subset(output: str) -> Ask:
    """A box of two dates."""

    def ask(cube: Cube, draw: random.Random) -> Asked:
        box = draw_box(draw)
        x, y = COORDINATES["x"][box.columns], COORDINATES["y"][box.rows]
        first, last = (str(CALENDAR[date])[:10] for date in (box.dates.start, box.dates.stop - 1))
        query = _query(
            bbox=f"{x[0]},{y[-1]},{x[-1]},{y[0]}", bbox_crs="native", variables=box.name,
            datetime=f"{first}/{last}", f=output,
        )  # fmt: skip

        def check(body: bytes) -> None:
            got, expected = _READ_BOX[output](body, box), box.expected(cube)
            for name, values in expected.items():
                if name == "time":
                    if not np.array_equal(got[name], values):
                        raise Wrong("time differs", fill=bool(np.isnat(got[name]).any()))
                else:
                    compare(name, got[name], values)

        return Asked(f"subset?{query}", check, _granule(box.dates.start), (box.name,))

    return ask


def _box_netcdf(body: bytes, box: Box) -> Values:
    return read_netcdf(body)


def _box_covjson(body: bytes, box: Box) -> Values:
    found = json.loads(body)
    axes, values = found["domain"]["axes"], found["ranges"][box.name]
    shaped = _numbers(values["values"]).reshape(values["shape"])
    x, y = (_numbers(axes[axis]["values"]) for axis in "xy")
    return {box.name: shaped, "time": _times(axes["t"]["values"]), "x": x, "y": y}


def _box_csv(body: bytes, box: Box) -> Values:
    rows = _rows(body)
    return _box_of_rows({name: _cells(name, cells) for name, cells in rows.items() if name != "#"}, box)


def _box_parquet(body: bytes, box: Box) -> Values:
    table = pq.read_table(io.BytesIO(body)).to_pandas()
    rows = {name: table[name].to_numpy("f8") for name in (box.name, "x", "y")}
    return _box_of_rows({**rows, "time": table["time"].to_numpy("M8[ns]")}, box)


def _box_of_rows(rows: Values, box: Box) -> Values:
    shape = tuple(side.stop - side.start for side in (box.dates, box.rows, box.columns))
    if len(rows["time"]) != np.prod(shape):
        raise Wrong(f"{len(rows['time'])} rows")
    time, y, x = (rows[name].reshape(shape) for name in ("time", "y", "x"))
    if (time != time[:, :1, :1]).any() or (y != y[:1, :, :1]).any() or (x != x[:1, :1]).any():
        raise Wrong("rows are mixed up")
    return {box.name: rows[box.name].reshape(shape), "time": time[:, 0, 0], "y": y[0, :, 0], "x": x[0, 0]}


def _box_geotiff(body: bytes, box: Box) -> Values:
    with rasterio.MemoryFile(body) as memory, memory.open() as file:
        values = file.read().astype("f8")
        if file.nodata is not None and not np.isnan(file.nodata):
            values[values == file.nodata] = np.nan
        times = _times([file.tags(band).get("time") for band in file.indexes])
        # the transform names corners, not centres
        a, e, c, f = file.transform.a, file.transform.e, file.transform.c, file.transform.f
        x = c + a * (np.arange(file.width) + 0.5)
        y = f + e * (np.arange(file.height) + 0.5)
    return {box.name: values, "time": times, "x": np.round(x, 6), "y": np.round(y, 6)}


_READ_BOX = {
    "netcdf": _box_netcdf, "covjson": _box_covjson, "csv": _box_csv, "parquet": _box_parquet,
    "geotiff": _box_geotiff,
}  # fmt: skip

RAW: dict[str, Ask] = {
    "zarr v2 chunk": chunk("zarr", 2),
    "zarr v3 chunk": chunk("zarr", 3),
    "zarr-plain v2 chunk": chunk("zarr-plain", 2),
    "zarr-plain v3 chunk": chunk("zarr-plain", 3),
    "zarr coordinate": coordinate,
    "zarr v2 metadata": document(2),
    "zarr v3 metadata": document(3),
    **{f"timeseries {output}": series(output) for output in _READ_SERIES},
    **{f"points {output}": points(output) for output in _READ_POINTS},
    **{f"subset {output}": subset(output) for output in _READ_BOX},
}
