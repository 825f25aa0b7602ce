"""Makes an archive of OPERA-like granules in a folder: sidecars of full size, granules without their chunks, and a search."""

from __future__ import annotations

import base64
import gzip
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FRAME = 11116
FIRST = datetime(2016, 7, 16, 14, 5, 43, tzinfo=UTC)
CHUNK = 256
SIDECAR = ".zarr.json.gz"
# by path, the type and what chunks that were never written hold
VARIABLES = {
    "displacement": ("<f4", "NaN"),
    "short_wavelength_displacement": ("<f4", "NaN"),
    "recommended_mask": ("|u1", 255),
    "connected_component_labels": ("<u2", 65535),
    "temporal_coherence": ("<f4", "NaN"),
    "estimated_phase_quality": ("<f4", "NaN"),
    "persistent_scatterer_mask": ("|u1", 255),
    "shp_counts": ("<i2", 0),
    "water_mask": ("|u1", 255),
    "phase_similarity": ("<f4", "NaN"),
    "timeseries_inversion_residuals": ("<f4", "NaN"),
    "corrections/ionospheric_delay": ("<f4", "NaN"),
}
TEXTS = ("identification/product_version", "identification/acquisition_mode", "metadata/pge_runconfig")


@dataclass(frozen=True)
class Shape:
    """How many granules there are, and the pixels of each."""

    granules: int
    height: int
    width: int

    @property
    def grid(self) -> tuple[int, int]:
        """The chunks of one variable: rows, columns."""
        return -(-self.height // CHUNK), -(-self.width // CHUNK)


def granule_name(number: int) -> str:
    """The name of granule `number`, every 12 days, in the archive's pattern."""
    reference, secondary = (
        FIRST + timedelta(days=12 * (number // 15 * 15)),
        FIRST + timedelta(days=12 * (number + 1)),
    )
    form = "%Y%m%dT%H%M%SZ"
    return f"OPERA_L3_DISP-S1_IW_F{FRAME}_VV_{reference:{form}}_{secondary:{form}}_v1.0_20250408T164512Z"


def chunk_range(variable: int, date: int, place: int, places: int) -> tuple[int, int]:
    """The offset and length of a chunk; no two overlap."""
    first = 2_000_000 + (variable * places + place) * 80_000
    return first + date * 7 % 1000, 60_000 + (date * 7919 + place * 104_729 + variable) % 15_000


def make_archive(folder: Path, shape: Shape, base_url: str) -> list[str]:
    """Make the archive that a server of `folder` has at `base_url`; returns the names of the granules."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "search").mkdir(exist_ok=True)
    pattern = folder / "pattern.nc"
    axes = _write_pattern(pattern, shape)
    make = partial(_make, folder / "data", shape, base_url, (pattern, axes))
    if shape.granules < 16:  # processes would take longer to start
        names = [make(number) for number in range(shape.granules)]
    else:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            names = list(pool.map(make, range(shape.granules)))
    items = [_item(name, base_url) for name in names]
    listed = json.dumps({"hits": len(items), "took": 5, "items": items})
    (folder / "search" / "granules.umm_json").write_text(listed, "utf-8")
    return names


def _item(name: str, base_url: str) -> dict[str, Any]:
    related = [{"URL": f"{base_url}/data/{name}{suffix}", "Type": "GET DATA"} for suffix in (".nc", SIDECAR)]
    return {"meta": {}, "umm": {"GranuleUR": name, "RelatedUrls": related}}


def _write_pattern(path: Path, shape: Shape) -> dict[str, tuple[int, int]]:
    """Write a granule in which no chunk is; returns where its axes are, in bytes."""
    axes = {"y": 3_785_010.0 - 30.0 * np.arange(shape.height), "x": 375_000.0 + 30.0 * np.arange(shape.width)}
    with h5py.File(path, "w") as file:
        for name, values in axes.items():
            file[name] = values
        for name, (dtype, fill) in VARIABLES.items():
            value = np.array(float("nan") if fill == "NaN" else fill, dtype)
            options = {"chunks": (CHUNK, CHUNK), "shuffle": True, "compression": "gzip", "fillvalue": value}
            array = file.create_dataset(name, (shape.height, shape.width), dtype, **options)
            array.attrs["_FillValue"] = value
        return {name: (file[name].id.get_offset(), file[name].nbytes) for name in axes}


def _make(
    folder: Path, shape: Shape, base_url: str, pattern: tuple[Path, dict[str, tuple[int, int]]], number: int
) -> str:
    name, (path, axes) = granule_name(number), pattern
    references = json.dumps(
        {"version": 1, "refs": _references(f"{base_url}/data/{name}.nc", shape, axes, number)}
    )
    (folder / f"{name}{SIDECAR}").write_bytes(gzip.compress(references.encode(), 6))
    granule = folder / f"{name}.nc"
    granule.write_bytes(path.read_bytes())
    rows, columns = shape.grid
    # a hole of the size that the chunks would take
    os.truncate(granule, 2_100_000 + len(VARIABLES) * rows * columns * 80_000)
    return name


def _references(url: str, shape: Shape, axes: dict[str, tuple[int, int]], number: int) -> dict[str, object]:
    entries: dict[str, object] = {".zgroup": json.dumps({"zarr_format": 2})}
    entries[".zattrs"] = json.dumps({"Conventions": "CF-1.8", "title": "OPERA-like", "number": number})
    for group in ("corrections", "identification", "metadata"):
        entries[f"{group}/.zgroup"] = json.dumps({"zarr_format": 2})
    for name, (offset, nbytes) in axes.items():
        entries |= _described(name, [nbytes // 8], [nbytes // 8], dtype="<f8", fill=None, dimensions=[name])
        entries[f"{name}/0"] = [url, offset, nbytes]
    entries |= _described("time", [], [], dtype="<f8", fill=None, dimensions=[])
    entries["time/0"] = "base64:" + base64.b64encode(np.float64(number).tobytes()).decode()
    entries |= _described("spatial_ref", [], [], dtype="<i8", fill=None, dimensions=[])
    entries["spatial_ref/0"] = "base64:" + base64.b64encode(np.int64(0).tobytes()).decode()
    for name in TEXTS:
        entries |= _described(name, [], [], dtype="|S20", fill=None, dimensions=[])
        entries[f"{name}/0"] = f"text of granule {number:04}"
    rows, columns = shape.grid
    for variable, (name, (dtype, fill)) in enumerate(VARIABLES.items()):
        names = ["y", "x"]
        entries |= _described(
            name, [shape.height, shape.width], [CHUNK, CHUNK], dtype=dtype, fill=fill, dimensions=names
        )
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            start, length = chunk_range(variable, number, place, rows * columns)
            entries[f"{name}/{row}.{column}"] = [url, start, length]
    return entries


def _described(
    name: str, shape: list[int], chunks: list[int], *, dtype: str, fill: object, dimensions: list[str]
) -> dict[str, str]:
    size = np.dtype(dtype).itemsize
    filters = [{"elementsize": size, "id": "shuffle"}, {"id": "zlib", "level": 4}] if len(shape) > 1 else None
    array = {
        "chunks": chunks, "compressor": None, "dtype": dtype, "fill_value": fill, "filters": filters,
        "order": "C", "shape": shape, "zarr_format": 2,
    }  # fmt: skip
    attributes = {"_ARRAY_DIMENSIONS": dimensions, "long_name": name.replace("_", " ")}
    return {f"{name}/.zarray": json.dumps(array), f"{name}/.zattrs": json.dumps(attributes)}
