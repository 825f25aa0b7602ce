"""Builds a stack of granules in the layout of OPERA DISP-S1, and kerchunk references over it.

    python tests/benchmarks/stack.py [--directory DIRECTORY] [--references URL]

The granules are made once; `DIRECTORY/granules` is what a range server is to serve. The references hold
the URL that the granules are served below, so they are written anew for each server.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pyproj
from fsspec.implementations.reference import LazyReferenceMapper
from numcodecs import BitRound
from rich.progress import track

# Raise it with every change to what is written, so that older stacks are made anew.
FORMAT = 1
SEED = 11116
DATES, HEIGHT, WIDTH = 209, 1024, 1280
CHUNK = 256
PAGE = 4 * 2**20
# Real products round to ten mantissa bits; of a chunk of 256 KiB, deflate then leaves 78 KB.
MANTISSA_BITS = 10
EPSG = 32611
PIXEL = 30.0
LEFT, TOP = 375_000.0, 3_785_010.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(2017, 1, 5, 13, 59, 48, tzinfo=UTC)

# By variable: its units, the size of what varies smoothly, and the size of the noise upon it.
VARIABLES = {
    "displacement": ("m", 0.05, 0.002),
    "short_wavelength_displacement": ("m", 0.02, 0.001),
    "temporal_coherence": ("1", 0.4, 0.02),
}


@dataclass(frozen=True)
class Size:
    """How large a stack is: dates, and pixels of each."""

    dates: int = DATES
    height: int = HEIGHT
    width: int = WIDTH

    @property
    def grid(self) -> tuple[int, int]:
        """The chunks of one date: rows, columns."""
        return -(-self.height // CHUNK), -(-self.width // CHUNK)


@dataclass(frozen=True)
class Locations:
    """Where things are in the granules, in bytes; chunk arrays are (variable, date, row, column)."""

    offsets: np.ndarray
    lengths: np.ndarray
    x: tuple[int, int]
    y: tuple[int, int]


def date_of(number: int) -> datetime:
    """When granule `number` was acquired: every 12 days."""
    return FIRST + timedelta(days=12 * number)


def granule_name(number: int) -> str:
    """The file name of granule `number`, in the archive's pattern."""
    dates = f"{FIRST - timedelta(days=12):%Y%m%dT%H%M%SZ}_{date_of(number):%Y%m%dT%H%M%SZ}"
    return f"OPERA_L3_DISP-S1_IW_F11116_VV_{dates}_v1.0_20250408T120000Z.nc"


def axes(size: Size) -> dict[str, np.ndarray]:
    """The pixel centres, in metres, from the upper left corner."""
    return {
        "y": TOP - PIXEL * (np.arange(size.height) + 0.5),
        "x": LEFT + PIXEL * (np.arange(size.width) + 0.5),
    }


def layer(variable: str, number: int, size: Size) -> np.ndarray:
    """The values of one date: a wave that date and place tell apart, and noise on top."""
    _, smooth, noise = VARIABLES[variable]
    rng = np.random.default_rng([SEED, list(VARIABLES).index(variable), number])
    row, column = np.ogrid[: size.height, : size.width]
    phase = 2 * np.pi * number / 30
    wave = 1.5 + np.sin(row / 173 + phase) * np.cos(column / 211) + number / size.dates
    values = smooth * wave.astype(np.float32)
    values += noise * rng.standard_normal(values.shape, dtype=np.float32)
    return BitRound(MANTISSA_BITS).encode(values).view(np.float32).reshape(values.shape)


def write_granule(path: Path, number: int, size: Size) -> None:
    """Write granule `number`, with the filters and the file space strategy of the archive."""
    with h5py.File(path, "w", libver=("v110", "v110"), fs_strategy="page", fs_page_size=PAGE) as file:
        file.attrs.update(Conventions="CF-1.8", title="Synthetic granule in the layout of OPERA_L3_DISP-S1")
        for name, values in axes(size).items():
            axis = file.create_dataset(name, data=values)
            axis.make_scale(name)
            axis.attrs.update(axis_attributes(name))
        time = file.create_dataset("time", data=(date_of(number) - EPOCH).total_seconds())
        time.attrs.update(time_attributes())
        file.create_dataset("spatial_ref", data=np.int64(0)).attrs.update(grid_mapping_attributes())
        for name in VARIABLES:
            array = file.create_dataset(
                name, data=layer(name, number, size), chunks=(CHUNK, CHUNK), shuffle=True,
                compression="gzip", compression_opts=4, fillvalue=np.float32(np.nan),
            )  # fmt: skip
            array.attrs.update(variable_attributes(name))
            array.attrs["_FillValue"] = np.array([np.nan], np.float32)
            for dimension, axis in enumerate(("y", "x")):
                array.dims[dimension].attach_scale(file[axis])


def axis_attributes(name: str) -> dict[str, str]:
    return {"standard_name": f"projection_{name}_coordinate", "units": "m"}


def time_attributes() -> dict[str, str]:
    return {
        "standard_name": "time",
        "units": "seconds since 1970-01-01 00:00:00",
        "calendar": "standard",
    }


def variable_attributes(name: str) -> dict[str, str]:
    return {"long_name": name.replace("_", " "), "units": VARIABLES[name][0], "grid_mapping": "spatial_ref"}


def grid_mapping_attributes() -> dict[str, object]:
    return dict(pyproj.CRS.from_epsg(EPSG).to_cf())


def scan_granule(path: Path, size: Size) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """The byte ranges of all chunks, (variable, row, column, [offset, length]), and of the axes."""
    rows, columns = size.grid
    ranges = np.zeros((len(VARIABLES), rows, columns, 2), dtype=np.int64)
    with h5py.File(path) as file:
        for number, name in enumerate(VARIABLES):
            stored = file[name].id
            for index in range(stored.get_num_chunks()):
                chunk = stored.get_chunk_info(index)
                row, column = (offset // CHUNK for offset in chunk.chunk_offset)
                ranges[number, row, column] = chunk.byte_offset, chunk.size
        coordinates = {name: (file[name].id.get_offset(), file[name].nbytes) for name in ("y", "x")}
    return ranges, coordinates


def _make(path: Path, number: int, size: Size) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    write_granule(path, number, size)
    return scan_granule(path, size)


@dataclass(frozen=True)
class Stack:
    """A stack that has been built in `directory`."""

    directory: Path
    size: Size
    locations: Locations

    @property
    def granules(self) -> list[Path]:
        """The granule files, in the order of time."""
        return [self.directory / "granules" / granule_name(number) for number in range(self.size.dates)]

    @property
    def times(self) -> np.ndarray:
        """The acquisitions, in seconds since 1970."""
        dates = (date_of(number) for number in range(self.size.dates))
        return np.array([(date - EPOCH).total_seconds() for date in dates])

    def read(self, variable: str, dates: slice, rows: slice, columns: slice) -> np.ndarray:
        """Values (date, row, column), read by h5py from the granules themselves."""
        layers = []
        for path in self.granules[dates]:
            with h5py.File(path) as file:
                layers.append(file[variable][rows, columns])
        return np.stack(layers)

    def chunk_bytes(self, variable: str, date: int, row: int, column: int) -> bytes:
        """One chunk as it is stored."""
        place = list(VARIABLES).index(variable), date, row, column
        with self.granules[date].open("rb") as file:
            file.seek(int(self.locations.offsets[place]))
            return file.read(int(self.locations.lengths[place]))

    def references(self, base_url: str) -> dict[str, object]:
        """The stack as one cube (time, y, x), as kerchunk combines it, with granules below `base_url`.

        x and y stay in the first granule and time is inlined, which is what kerchunk makes of such files.
        """
        urls = [f"{base_url.rstrip('/')}/{path.name}" for path in self.granules]
        dates, (rows, columns) = self.size.dates, self.size.grid
        entries: dict[str, object] = {".zgroup": json.dumps({"zarr_format": 2})}
        entries[".zattrs"] = json.dumps({"Conventions": "CF-1.8", "title": "OPERA-like stack"})
        coordinates = {"y": self.locations.y, "x": self.locations.x}
        for name, (offset, nbytes) in coordinates.items():
            entries |= _described(
                name, (nbytes // 8,), (nbytes // 8,), "<f8", (name,), attributes=axis_attributes(name)
            )
            entries[f"{name}/0"] = [urls[0], offset, nbytes]
        entries |= _described("time", (dates,), (dates,), "<f8", ("time",), attributes=time_attributes())
        entries["time/0"] = _inlined(self.times.astype("<f8"))
        entries |= _described("spatial_ref", (), (), "<i8", (), attributes=grid_mapping_attributes())
        entries["spatial_ref/0"] = _inlined(np.zeros(1, "<i8"))
        shape, chunks = (dates, self.size.height, self.size.width), (1, CHUNK, CHUNK)
        for number, name in enumerate(VARIABLES):
            attributes = variable_attributes(name)
            entries |= _described(
                name, shape, chunks, "<f4", ("time", "y", "x"), attributes=attributes, filtered=True
            )
            for date, row, column in np.ndindex(dates, rows, columns):
                place = number, date, row, column
                entries[f"{name}/{date}.{row}.{column}"] = [
                    urls[date], int(self.locations.offsets[place]), int(self.locations.lengths[place]),
                ]  # fmt: skip
        return {"version": 1, "refs": entries}


def _described(
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dimensions: tuple[str, ...],
    *,
    attributes: dict[str, object],
    filtered: bool = False,
) -> dict[str, str]:
    """The Zarr v2 documents of one array, written the way kerchunk does."""
    filters = [{"id": "shuffle", "elementsize": 4}, {"id": "zlib", "level": 4}] if filtered else None
    array = {
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "order": "C",
        "fill_value": "NaN" if filtered else None, "filters": filters, "compressor": None,
        "dimension_separator": ".",
    }  # fmt: skip
    return {
        f"{name}/.zarray": json.dumps(array),
        f"{name}/.zattrs": json.dumps({**attributes, "_ARRAY_DIMENSIONS": dimensions}),
    }


def _inlined(values: np.ndarray) -> str:
    return "base64:" + base64.b64encode(values.tobytes()).decode("ascii")


def write_json(path: Path, references: dict[str, object]) -> None:
    """Write the references as one JSON document."""
    path.write_text(json.dumps(references), encoding="utf-8")


def write_parquet(path: Path, references: dict[str, dict[str, object]]) -> None:
    """Write the references as a Parquet store, in partitions of kerchunk's default size."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    mapper = LazyReferenceMapper.create(str(path), record_size=100_000, engine="pyarrow")
    # the mapper numbers a chunk by its array's shape, so it must know all metadata first
    for key in sorted(references["refs"], key=lambda key: ".z" not in key):
        mapper[key] = references["refs"][key]
    mapper.flush()


def default_directory() -> Path:
    """Where the stack is kept between runs."""
    return Path(tempfile.gettempdir()) / f"cubegate-benchmarks-{getpass.getuser()}"


def build_stack(directory: Path, size: Size | None = None) -> Stack:
    """Return the stack in `directory`, making what is not there."""
    size = size or Size()
    marker, ranges = directory / "stack.json", directory / "locations.npz"
    written = {"format": FORMAT, **asdict(size)}
    if not marker.exists() or json.loads(marker.read_text("utf-8")) != written:
        marker.unlink(missing_ok=True)
        shutil.rmtree(directory / "granules", ignore_errors=True)
        (directory / "granules").mkdir(parents=True)
        _write_locations(ranges, _make_granules(directory / "granules", size))
        marker.write_text(json.dumps(written), encoding="utf-8")
    with np.load(ranges) as stored:
        axes_at = {name: (int(stored[name][0]), int(stored[name][1])) for name in ("x", "y")}
        locations = Locations(stored["offsets"], stored["lengths"], **axes_at)
    return Stack(directory, size, locations)


def _make_granules(folder: Path, size: Size) -> list[tuple[np.ndarray, dict[str, tuple[int, int]]]]:
    numbers = range(size.dates)
    paths = [folder / granule_name(number) for number in numbers]
    if size.dates < 16:  # processes would take longer to start
        return [_make(path, number, size) for path, number in zip(paths, numbers, strict=True)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(_make, paths, numbers, [size] * size.dates)
        return list(track(made, "Making granules", total=size.dates))


def _write_locations(path: Path, made: list[tuple[np.ndarray, dict[str, tuple[int, int]]]]) -> None:
    ranges = np.stack([chunks for chunks, _ in made], axis=1)
    np.savez(path, offsets=ranges[..., 0], lengths=ranges[..., 1], **made[0][1])


def main() -> None:
    """Build the stack, and the references over it where a URL is given."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--directory", type=Path, default=default_directory(), help="where the stack is kept")
    parser.add_argument("--references", metavar="URL",
                        help="write stack.refs.json and stack.refs.parq for granules below this URL")  # fmt: skip
    parsed = parser.parse_args()
    stack = build_stack(parsed.directory)
    print(f"{len(stack.granules)} granules in {stack.directory / 'granules'}")  # noqa: T201 - a command
    if parsed.references:
        references = stack.references(parsed.references)
        for write, name in ((write_json, "stack.refs.json"), (write_parquet, "stack.refs.parq")):
            write(stack.directory / name, references)
            print(f"references in {stack.directory / name}")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
