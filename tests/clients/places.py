"""Cubes where maps go wrong: over a pole, across the antimeridian in degrees and in metres, with GDAL's picture of their granules."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.crs
import rasterio.warp
import xarray as xr
import yaml
from pyproj import CRS
from rasterio.transform import Affine

from cubegate.cli import main

ROWS, COLUMNS = 120, 200
DATES = np.array(["2020-01-03", "2020-01-15", "2020-01-27"], "M8[ns]")
# with rescale=0,255 the cells of value n + 0.5 have the colour number n of 255, and nothing is near a border
COLOURS = 255
RESCALE = f"0,{COLOURS}"
# GDAL's nearest neighbour may lie an eighth of a cell aside: here of a part of a cell
PARTS = 16


@dataclass(frozen=True)
class Place:
    """A cube `id` of the variable `v`, (3 dates, 120 rows, 200 columns), one granule a date."""

    id: str
    crs: str
    transform: Affine
    granules: tuple[Path, ...]

    @property
    def bounds(self):
        """West, south, east, north, in the cube's CRS."""
        west, north = self.transform @ (0, 0)
        east, south = self.transform @ (COLUMNS, ROWS)
        return west, south, east, north

    def values(self, date):
        """What GDAL reads of a granule: float32 of (rows, columns), NaN where nothing is known."""
        with rasterio.open(f"netcdf:{self.granules[date]}:v") as granule:
            values = granule.read(1)
        return np.where(values == FILL, np.float32(np.nan), values)

    def warped(self, date, crs, bounds, width, height):
        """What GDAL's warp shows of a granule in the `bounds` (west, south, east, north) of a map in `crs`, nearest neighbour, NaN outside."""
        picture = np.full((height, width), np.nan, "f4")
        finer = self.values(date).repeat(PARTS, 0).repeat(PARTS, 1)
        rasterio.warp.reproject(
            finer, picture, src_transform=self.transform @ Affine.scale(1 / PARTS), src_crs=self.crs, src_nodata=np.nan,
            dst_transform=rasterio.transform.from_bounds(*bounds, width, height), dst_crs=crs, dst_nodata=np.nan,
            resampling=rasterio.warp.Resampling.nearest,
        )  # fmt: skip
        return picture


FILL = np.float32(-9999)
# id: CRS, the corner of the first cell, the steps of columns and rows
GRIDS = {
    "pole": ("EPSG:3413", Affine(25_000, 0, -2.5e6, 0, -25_000, 1.5e6)),
    "south": ("EPSG:3031", Affine(25_000, 0, -2.5e6, 0, -25_000, 1.5e6)),
    "seam": ("EPSG:4326", Affine(0.1, 0, 170, 0, -0.1, 70)),
    "aleutians": ("EPSG:32601", Affine(1_000, 0, 200_000, 0, -1_000, 5_820_000)),
}


def _granule(number, crs, transform):
    random = np.random.default_rng([number, CRS(crs).to_epsg()])
    values = (random.integers(0, COLOURS, (1, ROWS, COLUMNS)) + 0.5).astype("f4")
    values[:, 10:16, 20:32] = np.nan
    x, _ = transform @ (np.arange(COLUMNS) + 0.5, 0)
    _, y = transform @ (0, np.arange(ROWS) + 0.5)
    degrees = CRS(crs).is_geographic
    names = ("lon", "lat") if degrees else ("x", "y")
    standard = (
        ("longitude", "latitude") if degrees else ("projection_x_coordinate", "projection_y_coordinate")
    )
    units = ("degrees_east", "degrees_north") if degrees else ("m", "m")
    about = {"long_name": "made up", "units": "m", "grid_mapping": "mapping"}
    cube = xr.Dataset(
        {"v": (("time", *names[::-1]), values, about), "mapping": ((), np.int32(0), CRS(crs).to_cf())},
        {
            "time": DATES[number : number + 1],
            names[0]: (names[0], x, {"units": units[0], "standard_name": standard[0]}),
            names[1]: (names[1], y, {"units": units[1], "standard_name": standard[1]}),
        },
    )
    cube["v"].encoding = {"_FillValue": FILL, "zlib": True, "shuffle": True, "chunksizes": (1, 60, 50)}
    cube["time"].encoding = {"units": "days since 2020-01-01", "dtype": "f8"}
    return cube


def make_places(directory):
    """Write the granules and have `cubegate build files` make the cubes; returns the places by id, and the configuration."""
    configuration = directory / "cubegate.yaml"
    configuration.write_text(
        yaml.safe_dump({"upstreams": {f"{directory.as_uri()}/": {}}, "collections": ["cubes/*.yaml"]})
    )
    places = {}
    for name, (crs, transform) in GRIDS.items():
        folder = directory / name
        folder.mkdir()
        files = tuple(folder / f"{np.datetime_as_string(date, 'D')}.nc" for date in DATES)
        for number, file in enumerate(files):
            _granule(number, crs, transform).to_netcdf(file, engine="netcdf4")
        command = [
            "build",
            "files",
            f"{folder}/*.nc",
            "--concat",
            "time",
            "--id",
            name,
            "-o",
            str(directory / "cubes"),
        ]
        assert main([*command, "--config", str(configuration), "--json"]) == 0
        places[name] = Place(name, crs, transform, files)
    return places, configuration
