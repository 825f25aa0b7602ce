"""Writes netCDF4 granules in the layout of OPERA DISP-S1, one a date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj

from cubegate.demo.deformation import Landscape, Layers

SEED = 11116
SHAPE = (740, 1000)
CHUNKS = (256, 256)
EPSG = 32611
PIXEL = 30.0
LEFT, TOP = 375_000.0, 3_785_010.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_REFERENCE = datetime(2023, 1, 5, 13, 59, 48, tzinfo=UTC)
PRODUCED = datetime(2025, 4, 8, 12, tzinfo=UTC)
COUNT = 24
SKIPPED_PASS = 10
MOVES_AFTER = 15
GAP_DATE, GAP_CHUNK = 6, (0, 2)
# Real granules have pages of 4 MiB, which would be mostly padding around grids this small.
_PAGE = 256 * 1024

_GRIDDED: Mapping[str, Mapping[str, Any]] = {
    "displacement": {
        "long_name": "Displacement",
        "description": "Line-of-sight displacement; positive is apparent motion towards the radar",
        "units": "m",
    },
    "short_wavelength_displacement": {
        "long_name": "Short wavelength displacement",
        "description": "Line-of-sight displacement with the long wavelengths of the air taken out",
        "units": "m",
    },
    "temporal_coherence": {"long_name": "Temporal coherence of the phase inversion", "units": "1"},
    "recommended_mask": {
        "long_name": "Pixels recommended for use",
        "flag_values": np.array([0, 1], dtype=np.uint8),
        "flag_meanings": "not_recommended recommended",
        "units": "1",
    },
    "connected_component_labels": {
        "long_name": "Connected component labels of the unwrapped phase",
        "units": "1",
    },
}
_FILLS: Mapping[str, Any] = {
    "displacement": np.float32(np.nan),
    "short_wavelength_displacement": np.float32(np.nan),
    "temporal_coherence": np.float32(np.nan),
    "recommended_mask": np.uint8(255),
    "connected_component_labels": np.uint16(65535),
}


@dataclass(frozen=True)
class Pair:
    """The two acquisitions of one granule; `index` counts the granules."""

    index: int
    reference: datetime
    secondary: datetime

    @property
    def name(self) -> str:
        """The file name, in the archive's pattern."""
        dates = [f"{date:%Y%m%dT%H%M%SZ}" for date in (self.reference, self.secondary, PRODUCED)]
        return f"OPERA_L3_DISP-S1_IW_F11116_VV_{dates[0]}_{dates[1]}_v1.0_{dates[2]}.nc"


def pairs() -> list[Pair]:
    """All pairs in the order of their secondary date: every 12 days, with one pass missing.

    The reference moves once, to the secondary date of an earlier pair, as it does along real stacks.
    """
    jitter = np.random.default_rng(SEED).integers(-2, 3, COUNT)
    passes = [number for number in range(1, COUNT + 2) if number != SKIPPED_PASS]
    dates = [
        FIRST_REFERENCE + timedelta(days=12 * number, seconds=int(seconds))
        for number, seconds in zip(passes, jitter, strict=True)
    ]
    return [
        Pair(index, FIRST_REFERENCE if index < MOVES_AFTER else dates[MOVES_AFTER - 1], date)
        for index, date in enumerate(dates)
    ]


def landscape() -> Landscape:
    """What all granules show."""
    return Landscape(SHAPE, SEED)


def write_granule(path: Path, pair: Pair, scene: Landscape) -> None:
    """Write one granule; all but a time stamp in its first bytes depends on `pair` and `scene` alone."""
    layers = scene.observe(pair.index, _years(pair.reference), _years(pair.secondary))
    with h5py.File(
        path, "w", libver=("v110", "v110"), track_order=True, fs_strategy="page", fs_page_size=_PAGE
    ) as file:
        file.attrs.update(
            Conventions="CF-1.8",
            title="Synthetic granule in the layout of OPERA_L3_DISP-S1",
            institution="none: made up to demonstrate cubegate",
            mission_name="OPERA",
        )
        _write_coordinates(file, pair)
        for name in _GRIDDED:
            _write_gridded(file, name, layers, gap=pair.index == GAP_DATE)


def _years(date: datetime) -> float:
    return (date - FIRST_REFERENCE).total_seconds() / (365.25 * 86400)


def _write_coordinates(file: h5py.File, pair: Pair) -> None:
    height, width = SHAPE
    axes = {"y": TOP - PIXEL * (np.arange(height) + 0.5), "x": LEFT + PIXEL * (np.arange(width) + 0.5)}
    for name, values in axes.items():
        axis = file.create_dataset(name, data=values, fillvalue=np.nan)
        axis.make_scale(name)
        axis.attrs.update(
            standard_name=f"projection_{name}_coordinate", long_name=f"{name} of pixel centres", units="m"
        )
    times = {"time": pair.secondary, "reference_time": pair.reference}
    for name, date in times.items():
        time = file.create_dataset(name, data=(date - EPOCH).total_seconds(), fillvalue=np.nan)
        time.attrs.update(
            long_name=f"acquisition of the {'secondary' if name == 'time' else 'reference'} image",
            units="seconds since 1970-01-01 00:00:00",
            calendar="standard",
        )
    file["time"].attrs["standard_name"] = "time"
    crs = pyproj.CRS.from_epsg(EPSG)
    grid_mapping = file.create_dataset("spatial_ref", data=np.int64(0))
    grid_mapping.attrs.update({key: value for key, value in crs.to_cf().items() if key != "crs_wkt"})
    wkt = crs.to_wkt("WKT1_GDAL")
    geotransform = f"{LEFT} {PIXEL} 0.0 {TOP} 0.0 {-PIXEL}"
    grid_mapping.attrs.update(crs_wkt=crs.to_wkt(), spatial_ref=wkt, GeoTransform=geotransform)


def _write_gridded(file: h5py.File, name: str, layers: Layers, *, gap: bool) -> None:
    values = getattr(layers, name)
    array = file.create_dataset(
        name,
        shape=SHAPE,
        dtype=values.dtype,
        chunks=CHUNKS,
        shuffle=True,
        compression="gzip",
        compression_opts=4,
        fillvalue=_FILLS[name],
    )
    for selection in array.iter_chunks():
        chunk = tuple(part.start // size for part, size in zip(selection, CHUNKS, strict=True))
        if not (gap and chunk == GAP_CHUNK):
            array[selection] = values[selection]
    array.attrs.update(_GRIDDED[name])
    array.attrs["_FillValue"] = np.array([_FILLS[name]])
    array.attrs.update(grid_mapping="spatial_ref", coordinates="time reference_time")
    for dimension, axis in enumerate(("y", "x")):
        array.dims[dimension].attach_scale(file[axis])
