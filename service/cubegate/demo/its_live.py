"""Writes a Zarr v2 cube in the layout of ITS_LIVE: velocities of a glacier from many image pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from numcodecs import Blosc
from numpy.typing import NDArray

from cubegate.demo.deformation import smooth_noise

SEED = 3413
COUNT = 410
SHAPE = (180, 165)
CHUNKS = (300, 20, 20)
EPSG = 3413
PIXEL = 120.0
LEFT, TOP = -195_000.0, -2_261_000.0
FILL = -32767
BATCH = 41

_MISSIONS = {"1A": "S", "1B": "S", "2A": "S", "2B": "S", "7": "L", "8": "L", "9": "L"}
_FIRST_DAY, _LAST_DAY = 16_436.0, 19_723.0  # 2015-01-01 and 2024-01-01, in days since 1970
_VELOCITIES = {
    "v": ("land_ice_surface_velocity", "velocity magnitude"),
    "vx": ("land_ice_surface_x_velocity", "velocity component in x direction"),
    "vy": ("land_ice_surface_y_velocity", "velocity component in y direction"),
}


def write_cube(path: Path, advance: Callable[[], None]) -> None:
    """Write the cube, calling `advance` after each of `COUNT / BATCH` batches of image pairs."""
    rng = np.random.default_rng(SEED)
    pairs = _image_pairs(rng)
    fields = _Fields(pairs, advance)
    dataset = xr.Dataset(
        {
            **{
                name: (("mid_date", "y", "x"), values, _velocity_attributes(name))
                for name, values in fields.velocities.items()
            },
            "interp_mask": (
                ("mid_date", "y", "x"),
                fields.interpolated,
                {
                    "description": "where the velocity is interpolated",
                    "flag_values": [0, 1],
                    "flag_meanings": "measured interpolated",
                    "grid_mapping": "mapping",
                    "units": "binary",
                },
            ),
            **pairs.data_vars,
            "mapping": ((), np.array("", dtype="<U1"), _mapping_attributes()),
        },
        coords={"mid_date": pairs.mid_date, **_axes()},
        attrs={
            "Conventions": "CF-1.8",
            "title": "Synthetic cube in the layout of ITS_LIVE image-pair velocities",
            "institution": "none: made up to demonstrate cubegate",
            "projection": str(EPSG),
            "GDAL_AREA_OR_POINT": "Area",
        },
    )
    dataset.to_zarr(path, mode="w-", zarr_format=2, consolidated=True, encoding=_encoding())


def _image_pairs(rng: np.random.Generator) -> xr.Dataset:
    """What is known of each pair: unsorted, and with instants that several pairs share."""
    mid = rng.uniform(_FIRST_DAY, _LAST_DAY, COUNT)
    repeated = rng.choice(COUNT, 24, replace=False)
    mid[repeated[:12]] = mid[repeated[12:]]
    satellites = rng.choice(list(_MISSIONS), COUNT)
    separation = rng.choice([6, 12, 16, 24, 32, 48, 64], COUNT).astype(np.float32)
    error = np.round(20 + 900 / separation + rng.gamma(2, 6, COUNT), 1).astype(np.float32)
    return xr.Dataset(
        {
            "v_error": (
                "mid_date",
                error,
                {
                    "standard_name": "velocity_error",
                    "description": "velocity magnitude error",
                    "units": "meter/year",
                },
            ),
            "date_dt": (
                "mid_date",
                separation,
                {
                    "standard_name": "image_pair_time_separation",
                    "description": "time between the images",
                    "units": "days",
                },
            ),
            "satellite_img1": (
                "mid_date",
                satellites.astype(object),
                {"standard_name": "image1_satellite", "description": "satellite of the first image"},
            ),
            "mission_img1": (
                "mid_date",
                np.array([_MISSIONS[name] for name in satellites], dtype="<U1"),
                {"standard_name": "image1_mission", "description": "mission of the first image"},
            ),
        },
        coords={
            "mid_date": (
                "mid_date",
                mid,
                {
                    "standard_name": "image_pair_center_date_with_time_separation",
                    "description": "midpoint of the acquisition dates of the two images",
                    "units": "days since 1970-01-01",
                    "calendar": "proleptic_gregorian",
                },
            )
        },
    )


class _Fields:
    """The gridded variables: a glacier that flows west and bends, faster in summer, between clouds."""

    def __init__(self, pairs: xr.Dataset, advance: Callable[[], None]) -> None:
        self.velocities = {name: np.full((COUNT, *SHAPE), FILL, dtype=np.int16) for name in _VELOCITIES}
        self.interpolated = np.zeros((COUNT, *SHAPE), dtype=np.uint8)
        self._flow = _flow()
        for index in range(COUNT):
            self._fill(index, float(pairs.mid_date[index]), float(pairs.v_error[index]))
            if (index + 1) % BATCH == 0:
                advance()

    def _fill(self, index: int, mid_day: float, error: float) -> None:
        rng = np.random.default_rng([SEED, index])
        years = mid_day / 365.25
        pace = 1 + 0.12 * np.cos(2 * np.pi * (years - 0.6)) + 0.015 * (years - 49)
        cloud = smooth_noise(rng, SHAPE, 3.0)
        seen = cloud < rng.uniform(-0.6, 2.0)
        noise = 0.3 * error * rng.standard_normal((2, *SHAPE))
        vx, vy = (pace * component + jitter for component, jitter in zip(self._flow, noise, strict=True))
        for name, values in {"vx": vx, "vy": vy, "v": np.hypot(vx, vy)}.items():
            self.velocities[name][index][seen] = np.round(values[seen]).astype(np.int16)
        self.interpolated[index] = seen & (cloud > 0.9)


def _flow() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean velocity in x and y, metres a year."""
    height, width = SHAPE
    row, column = np.mgrid[:height, :width].astype(np.float64)
    bend = 0.16 * height * np.sin(2 * np.pi * column / (1.4 * width))
    slope = 0.16 * height * 2 * np.pi / (1.4 * width) * np.cos(2 * np.pi * column / (1.4 * width))
    across = (row - 0.5 * height - bend) / (0.1 * height * (1 + 0.9 * column / width))
    downstream = 1 - column / width
    speed = 120 + (900 + 6500 * downstream**2) * np.exp(-(across**2))
    length = np.hypot(1.0, slope)
    # rows count southwards: a path that goes west and towards smaller rows goes north
    return -speed / length, speed * slope / length


def _axes() -> dict[str, Any]:
    height, width = SHAPE
    return {
        "y": (
            "y",
            TOP - PIXEL * (np.arange(height) + 0.5),
            {"standard_name": "projection_y_coordinate", "description": "y of pixel centres", "units": "m"},
        ),
        "x": (
            "x",
            LEFT + PIXEL * (np.arange(width) + 0.5),
            {"standard_name": "projection_x_coordinate", "description": "x of pixel centres", "units": "m"},
        ),
    }


def _velocity_attributes(name: str) -> dict[str, str]:
    standard_name, description = _VELOCITIES[name]
    return {
        "standard_name": standard_name,
        "description": description,
        "units": "meter/year",
        "grid_mapping": "mapping",
    }


def _mapping_attributes() -> dict[str, Any]:
    wkt = pyproj.CRS.from_epsg(EPSG).to_wkt("WKT1_GDAL")
    return {
        "grid_mapping_name": "polar_stereographic",
        "straight_vertical_longitude_from_pole": -45,
        "latitude_of_projection_origin": 90.0,
        "standard_parallel": 70.0,
        "false_easting": 0.0,
        "false_northing": 0.0,
        "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257223563,
        "crs_wkt": wkt,
        "spatial_ref": wkt,
        "spatial_epsg": EPSG,
        "proj4text": "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +datum=WGS84 +units=m +no_defs",
        "GeoTransform": f"{LEFT} {PIXEL} 0 {TOP} 0 {-PIXEL}",
    }


def _encoding() -> dict[str, dict[str, Any]]:
    blosc = Blosc(cname="zlib", clevel=2, shuffle=Blosc.SHUFFLE)
    gridded = {"chunks": CHUNKS, "compressors": blosc}
    return {
        **{name: {**gridded, "dtype": "int16", "_FillValue": FILL} for name in _VELOCITIES},
        "interp_mask": gridded,
        "mid_date": {"chunks": (COUNT,), "compressors": blosc, "_FillValue": None},
    }
