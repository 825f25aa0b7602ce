"""GDAL's command line tools, and what they write, read by rasterio."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from tests.clients.programs import ended, needs_program

NEEDS_GDAL = [pytest.mark.gdal, needs_program("gdal_translate")]
# said of each array of texts beside the ones that are read
NO_TEXTS = "ERROR 1: Invalid or unsupported format for dtype: |O\n"


def run(*command, cwd):
    """Run a tool, which must say nothing of errors; returns what it prints."""
    result = ended(command, cwd)
    assert result.returncode == 0, result.stderr
    assert "ERROR" not in result.stderr.replace(NO_TEXTS, ""), result.stderr
    return result.stdout


def refused(*command, cwd):
    """Run a tool that must fail; returns its errors."""
    result = ended(command, cwd)
    assert result.returncode != 0, result.stdout
    return result.stderr


def describe(name, cwd):
    return json.loads(run("gdalinfo", "-json", name, cwd=cwd))


def subdatasets(name, cwd):
    """The names that a container lists, in its order."""
    listed = describe(name, cwd)["metadata"]["SUBDATASETS"]
    return [listed[key] for key in listed if key.endswith("_NAME")]


def written(path):
    """The values of a raster, (bands, rows, columns), with its CRS, transform, missing value and band descriptions."""
    with rasterio.open(path) as raster:
        return SimpleNamespace(
            values=raster.read(), crs=raster.crs, transform=raster.transform, nodata=raster.nodata,
            bands=raster.descriptions, tags=[raster.tags(1 + band) for band in range(raster.count)], bounds=tuple(raster.bounds),
        )  # fmt: skip


def translate(name, *options, cwd):
    run("gdal_translate", "-q", *options, name, "translated.tif", cwd=cwd)
    return written(cwd / "translated.tif")


def warp(name, crs, bounds, size, *options, cwd):
    """Warp to the nearest cell on a map, each pixel transformed on its own."""
    exact = ("-q", "-overwrite", "-r", "near", "-et", "0")
    where = ("-t_srs", crs, "-te", *map(str, bounds), "-ts", *map(str, size))
    run("gdalwarp", *exact, *where, *options, name, "warped.tif", cwd=cwd)
    return written(cwd / "warped.tif")


def filled(raster):
    """Floats of (bands, rows, columns), NaN where the raster says that nothing is known."""
    values = raster.values.astype(float)
    return values if raster.nodata is None else np.where(raster.values == raster.nodata, np.nan, values)
