"""The lines that `cubegate demo` prints: ready to be pasted into Python or a shell."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from rich.console import Console

LON, LAT = -118.2, 34.1
BBOX = "-118.25,34.06,-118.15,34.14"
LAST_DATES = "2023-10-01/.."
ICE_X, ICE_Y = -185_000.0, -2_274_500.0

Tool = Literal["Python", "curl", "GDAL"]

_NEEDS = {
    "Python": "Python, with xarray, zarr, aiohttp and pyproj",
    "curl": "curl, in a shell",
    "GDAL": "GDAL, in a shell",
}


@dataclass(frozen=True)
class Line:
    """One thing to paste: Python statements, or shell commands that write at most the file `output`."""

    name: str
    tool: Tool
    text: str
    output: str = ""


def lines(base_url: str) -> list[Line]:
    """All lines against the server at `base_url`, grouped by tool."""
    datasets = f"{base_url.rstrip('/')}/datasets"
    return [*_python(datasets), *_curl(datasets), *_gdal(datasets)]


def _python(datasets: str) -> list[Line]:
    opera = f"""\
import xarray as xr
from pyproj import Transformer
cube = xr.open_zarr("{datasets}/opera-f11116/zarr")
x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform({LON}, {LAT})
series = cube.displacement.sel(x=x, y=y, method="nearest").load()
print(series.to_series())"""
    ice = f"""\
import xarray as xr
ice = xr.open_zarr("{datasets}/its-live/zarr")
speed = ice.v.sel(x={ICE_X}, y={ICE_Y}, method="nearest").load().sortby("mid_date")
print(speed.groupby("mid_date.year").median().to_series())"""
    return [
        Line("displacement of one pixel at all dates", "Python", opera),
        Line("median speed of a glacier, year by year", "Python", ice),
    ]


def _curl(datasets: str) -> list[Line]:
    opera = f"{datasets}/opera-f11116"
    point: dict[str, str] = {"lon": str(LON), "lat": str(LAT), "variables": "displacement"}
    area = {"bbox": BBOX, "variables": "displacement"}
    latest = {**area, "datetime": LAST_DATES}
    return [
        Line("a time series as CSV", "curl", f"curl -fsS '{_url(opera, 'timeseries', point, f='csv')}'"),
        _download("a time series as a plot", _url(opera, "timeseries", point, f="png"), "displacement.png"),
        _download(
            "an area at all dates as NetCDF", _url(opera, "subset", area, f="netcdf"), "displacement.nc"
        ),
        _download(
            "an area at the last dates as GeoTIFF",
            _url(opera, "subset", latest, f="geotiff"),
            "displacement.tif",
        ),
        Line("what that area costs to read", "curl", f"curl -fsS '{_url(opera, 'estimate', area)}'"),
    ]


def _gdal(datasets: str) -> list[Line]:
    # GDAL's raster model wants the index of one date; of what it shows, GDAL 3.6 muddles the corners'
    # longitudes and latitudes, while the GeoTIFF that it makes of the same is right.
    last = f'ZARR:"/vsicurl/{datasets}/opera-f11116/zarr-plain":/displacement:23'
    translate = f"gdal_translate -q '{last}' displacement-last.tif && gdalinfo displacement-last.tif"
    area = {"bbox": BBOX, "variables": "displacement", "datetime": LAST_DATES}
    geotiff = _url(f"{datasets}/opera-f11116", "subset", area, f="geotiff")
    return [
        Line("the last date of the cube as a GeoTIFF", "GDAL", translate, "displacement-last.tif"),
        Line("an area as GeoTIFF, read over HTTP", "GDAL", f"gdalinfo '/vsicurl/{geotiff}'"),
    ]


def _url(dataset: str, query: str, parameters: dict[str, str], **more: str) -> str:
    return f"{dataset}/{query}?{urlencode({**parameters, **more}, safe=',')}"


def _download(name: str, url: str, file: str) -> Line:
    return Line(name, "curl", f"curl -fsS -o {file} '{url}'", file)


def print_lines(console: Console, base_url: str, directory: Path) -> None:
    """Print all lines under headings, unwrapped and unstyled, so that they survive being pasted."""
    _print(console, f"\nThe demo cubes are in {directory}. Paste these:")
    for tool, group in groupby(lines(base_url), key=lambda line: line.tool):
        _print(console, f"\n== {_NEEDS[tool]} ==")
        for line in group:
            _print(console, f"\n# {line.name}\n{line.text}")
    _print(console, "")


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)
