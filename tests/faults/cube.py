"""The cube that is read under faults: HDF5 granules, what is true of them, and references over them."""

from __future__ import annotations

import io
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATES, SIDE, CHUNK = 8, 64, 16
GRID = SIDE // CHUNK
RECORD_SIZE = 50
CRS = "EPSG:32611"
UNITS = "days since 2020-01-01"
# never written, so that its chunk is unallocated: variable, date, row, column
HOLE = ("displacement", 5, 3, 3)
CALENDAR = np.datetime64("2020-01-01", "ns") + np.arange(DATES) * np.timedelta64(
    12 * 86_400_000_000_000, "ns"
)


@dataclass(frozen=True)
class Variable:
    """One variable as it is stored: `missing` is the declared fill, `storage` that of unwritten chunks."""

    dtype: str
    compressed: bool
    missing: float | None
    storage: float


VARIABLES = {
    "displacement": Variable("<f4", compressed=True, missing=math.nan, storage=math.nan),
    "counts": Variable("<i2", compressed=True, missing=-999, storage=-999),
    "phase": Variable("<f4", compressed=False, missing=-9999, storage=-9999),
    "quality": Variable("|u1", compressed=False, missing=None, storage=0),
}
# the first date and the left and top edges are true zeros, which a storage fill of 0 could hide
COORDINATES = {
    "time": np.arange(DATES) * 12.0,
    "y": -30.0 * np.arange(SIDE),
    "x": 30.0 * np.arange(SIDE),
}
_ATTRIBUTES = {
    "time": {"units": UNITS, "calendar": "standard"},
    "y": {"units": "m", "standard_name": "projection_y_coordinate"},
    "x": {"units": "m", "standard_name": "projection_x_coordinate"},
}


@dataclass
class Cube:
    """Granules by name, and where in them each chunk is: key -> (granule, offset, length)."""

    stored: dict[str, np.ndarray]
    granules: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def true(self, name: str) -> np.ndarray:
        """The values of a variable as float64 [time, y, x], NaN where they are missing."""
        values = self.stored[name].astype("f8")
        missing = VARIABLES[name].missing
        if missing is not None:
            values[values == missing] = np.nan
        return values

    def chunk(self, name: str, date: int, row: int, column: int) -> np.ndarray:
        """One chunk [1, y, x] as it is stored."""
        return self.stored[name][
            date : date + 1, row * CHUNK : (row + 1) * CHUNK, column * CHUNK : (column + 1) * CHUNK
        ]


def make_cube() -> Cube:
    """Write the granules, one a date; each call makes the same."""
    random = np.random.default_rng(20)
    shape = (DATES, SIDE, SIDE)
    stored = {
        "displacement": random.normal(size=shape).astype("<f4"),
        "counts": random.integers(1, 3000, shape).astype("<i2"),
        "phase": random.uniform(1, 9, shape).astype("<f4"),
        "quality": random.integers(1, 250, shape).astype("|u1"),
    }
    for number, name in enumerate(VARIABLES):
        # each chunk has true zeros and missing values beside what is neither
        stored[name][:, number::5, ::3] = 0
        if VARIABLES[name].missing is not None:
            stored[name][:, ::7, 1::4] = VARIABLES[name].missing
    name, date, row, column = HOLE
    stored[name][date, row * CHUNK : (row + 1) * CHUNK, column * CHUNK : (column + 1) * CHUNK] = VARIABLES[
        name
    ].storage
    cube = Cube(stored)
    for date in range(DATES):
        _write_granule(cube, date)
    return cube


def _write_granule(cube: Cube, date: int) -> None:
    granule, file_name = io.BytesIO(), f"g{date}.h5"
    with h5py.File(granule, "w") as file:
        for name, values in COORDINATES.items():
            here = values[date : date + 1] if name == "time" else values
            file.create_dataset(name, data=here).attrs.update(_ATTRIBUTES[name])
        for name, variable in VARIABLES.items():
            options: dict[str, Any] = {"compression": "gzip", "shuffle": True} if variable.compressed else {}
            dataset = file.create_dataset(
                name,
                (SIDE, SIDE),
                variable.dtype,
                chunks=(CHUNK, CHUNK),
                fillvalue=variable.storage,
                **options,
            )
            if variable.missing is not None:
                dataset.attrs["_FillValue"] = np.array(variable.missing, variable.dtype)
            for row, column in np.ndindex(GRID, GRID):
                if (name, date, row, column) != HOLE:
                    window = np.s_[row * CHUNK : (row + 1) * CHUNK, column * CHUNK : (column + 1) * CHUNK]
                    dataset[window] = cube.stored[name][date][window]
        _locate(cube, file, file_name, date)
    cube.granules[file_name] = granule.getvalue()


def _locate(cube: Cube, file: h5py.File, granule: str, date: int) -> None:
    for name in COORDINATES:
        if name == "time" or not date:
            contiguous = file[name].id
            place = (granule, contiguous.get_offset(), contiguous.get_storage_size())
            cube.places[f"{name}/{date if name == 'time' else 0}"] = place
    for name in VARIABLES:
        stored = file[name].id
        for number in range(stored.get_num_chunks()):
            found = stored.get_chunk_info(number)
            row, column = (start // CHUNK for start in found.chunk_offset)
            cube.places[f"{name}/{date}.{row}.{column}"] = (granule, found.byte_offset, found.size)


def documents() -> dict[str, dict[str, Any]]:
    """The Zarr documents, as kerchunk writes them: storage fill as `fill_value`, no `_FillValue`."""
    found: dict[str, dict[str, Any]] = {".zgroup": {"zarr_format": 2}, ".zattrs": {"title": "faults"}}

    def add(name: str, shape: list[int], chunks: list[int], dtype: str, **more: Any) -> None:
        found[f"{name}/.zarray"] = {
            "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "order": "C",
            "fill_value": 0.0, "compressor": None, "filters": None, **more,
        }  # fmt: skip

    for name, values in COORDINATES.items():
        add(name, [len(values)], [1 if name == "time" else len(values)], "<f8")
        found[f"{name}/.zattrs"] = {"_ARRAY_DIMENSIONS": [name], **_ATTRIBUTES[name]}
    for name, variable in VARIABLES.items():
        size = np.dtype(variable.dtype).itemsize
        filters = [{"id": "shuffle", "elementsize": size}, {"id": "zlib", "level": 4}]
        fill = "NaN" if math.isnan(variable.storage) else variable.storage
        more = {"fill_value": fill, "filters": filters if variable.compressed else None}
        add(name, [DATES, SIDE, SIDE], [1, CHUNK, CHUNK], variable.dtype, **more)
        found[f"{name}/.zattrs"] = {"_ARRAY_DIMENSIONS": ["time", "y", "x"]}
    return found


def json_references(cube: Cube, base: str) -> bytes:
    """kerchunk's JSON over the granules below the URL `base`."""
    references: dict[str, Any] = {key: json.dumps(document) for key, document in documents().items()}
    for key, (granule, offset, length) in cube.places.items():
        references[key] = [f"{base}/{granule}", offset, length]
    return json.dumps({"version": 1, "refs": references}).encode()


def parquet_references(cube: Cube, base: str) -> dict[str, bytes]:
    """kerchunk's Parquet store over the granules below the URL `base`: its files by name."""
    consolidated = {"metadata": documents(), "record_size": RECORD_SIZE}
    files = {".zmetadata": json.dumps(consolidated).encode()}
    for name in [*COORDINATES, *VARIABLES]:
        if name in VARIABLES:
            keys = [f"{name}/{t}.{row}.{column}" for t, row, column in np.ndindex(DATES, GRID, GRID)]
        else:
            keys = [f"{name}/{number}" for number in range(DATES if name == "time" else 1)]
        for start in range(0, len(keys), RECORD_SIZE):
            part = [cube.places.get(key) for key in keys[start : start + RECORD_SIZE]]
            part += [None] * (RECORD_SIZE - len(part))
            files[f"{name}/refs.{start // RECORD_SIZE}.parq"] = _partition(part, base)
    return files


def _partition(places: list[tuple[str, int, int] | None], base: str) -> bytes:
    table = pa.table(
        {
            "path": pa.array(
                [None if place is None else f"{base}/{place[0]}" for place in places], pa.string()
            ),
            "offset": pa.array([0 if place is None else place[1] for place in places], pa.int64()),
            "size": pa.array([0 if place is None else place[2] for place in places], pa.int64()),
            "raw": pa.array([None] * len(places), pa.binary()),
        }
    )
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


def decode_chunk(name: str, data: bytes, *, plain: bool) -> np.ndarray:
    """Decode a chunk of a variable by zlib and NumPy alone.

    Raises:
        ValueError, zlib.error: it is no chunk.
    """
    variable = VARIABLES[name]
    if variable.compressed and not plain:
        data = zlib.decompress(data)
        size = np.dtype(variable.dtype).itemsize
        if len(data) == size * CHUNK * CHUNK:
            data = np.frombuffer(data, "u1").reshape(size, -1).T.tobytes()
    return np.frombuffer(data, variable.dtype).reshape(1, CHUNK, CHUNK)
