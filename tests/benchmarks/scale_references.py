"""Writes a stack reference as large as ASF's own: 1.64 million references, 540 MB of JSON, gzipped.

python -m tests.benchmarks.scale_references FILE [--dates 389]
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.progress import track

DATES, HEIGHT, WIDTH = 389, 6898, 9618
BUCKET = "s3://asf-cumulus-prod-opera-products/"
FIRST = datetime(2016, 7, 16, 14, 5, 43, tzinfo=UTC)
# By variable, the rows and columns of a chunk.
VARIABLES = {
    "connected_component_labels": (256, 256),
    "displacement": (256, 256),
    "short_wavelength_displacement": (256, 256),
    "temporal_coherence": (256, 256),
    "water_mask": (1024, 640),
}


@dataclass(frozen=True)
class StackReference:
    """A written reference file; `nbytes` is the size of its JSON."""

    path: Path
    dates: int
    references: int
    nbytes: int


def grid_of(variable: str) -> tuple[int, int]:
    """The rows and columns of chunks that one date of a variable has."""
    height, width = VARIABLES[variable]
    return -(-HEIGHT // height), -(-WIDTH // width)


def granule(date: int) -> str:
    """The address of the granule of a date."""
    reference, secondary = (
        FIRST + timedelta(days=12 * (date // 15 * 15)),
        FIRST + timedelta(days=12 * date + 12),
    )
    form = "%Y%m%dT%H%M%SZ"
    name = f"OPERA_L3_DISP-S1_IW_F11116_VV_{reference:{form}}_{secondary:{form}}_v1.0_20250408T164512Z"
    return f"{BUCKET}OPERA_L3_DISP-S1_V1/frame=F11116/polarization=VV/pass=ascending/{name}/{name}.nc"


def chunk_reference(variable: str, date: int, row: int, column: int) -> tuple[str, int, int]:
    """The granule, offset and length of a chunk."""
    _, columns = grid_of(variable)
    place = row * columns + column
    first = 5_000_000 + list(VARIABLES).index(variable) * 90_000_000 + date * 977
    return granule(date), first + place * 80_000, 60_000 + (date * 7919 + place * 104_729) % 20_000


def write_stack_reference(path: Path, dates: int = DATES) -> StackReference:
    """Write the file, a date at a time."""
    count, nbytes = 0, 0
    with gzip.open(path, "wb", compresslevel=6) as file:
        begin = ",".join(_member(key, value) for key, value in _documents(dates))
        nbytes += file.write(f'{{"version":1,"refs":{{{begin}'.encode())
        work = [(variable, date) for variable in VARIABLES for date in range(dates)]
        for variable, date in track(
            work, f"Writing {path.name}", transient=True, disable=not sys.stdout.isatty()
        ):
            members = [_member(key, value) for key, value in _chunks(variable, date)]
            count += len(members)
            nbytes += file.write(("," + ",".join(members)).encode())
        nbytes += file.write(b"}}")
    return StackReference(path, dates, count, nbytes)


def _member(key: str, value: Any) -> str:
    return f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"


def _documents(dates: int) -> Iterator[tuple[str, str]]:
    yield ".zgroup", '{"zarr_format":2}'
    for variable, chunk in VARIABLES.items():
        array = {
            "zarr_format": 2, "shape": [dates, HEIGHT, WIDTH], "chunks": [1, *chunk], "dtype": "<f4", "order": "C",
            "filters": [{"id": "shuffle", "elementsize": 4}, {"id": "zlib", "level": 4}], "compressor": None,
            "fill_value": "NaN",
        }  # fmt: skip
        yield f"{variable}/.zarray", json.dumps(array)
        yield f"{variable}/.zattrs", json.dumps({"_ARRAY_DIMENSIONS": ["source_file_name", "y", "x"]})


def _chunks(variable: str, date: int) -> Iterator[tuple[str, tuple[str, int, int]]]:
    rows, columns = grid_of(variable)
    url = granule(date)
    for row in range(rows):
        for column in range(columns):
            _, offset, length = chunk_reference(variable, date, row, column)
            yield f"{variable}/{date}.{row}.{column}", (url, offset, length)


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="a .json.gz file to write")
    parser.add_argument("--dates", type=int, default=DATES, help="how many dates the stack has")
    parsed = parser.parse_args()
    print(write_stack_reference(parsed.file, parsed.dates))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
