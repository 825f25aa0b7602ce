"""What the tags of a GeoTIFF say of its grid and values, as GDAL reads them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.builders import tiff_directory as tiff
from cubegate.index.builders.tiff_directory import Directory

_GEO_TAGS = (tiff.PIXEL_SCALE, tiff.TIE_POINT, tiff.TRANSFORMATION, tiff.GEO_KEYS, tiff.GEO_DOUBLES)
_TEXT_TAGS = (tiff.GEO_TEXT, tiff.GDAL_METADATA)
_TYPE_CODES = {"u1": 1, "S1": 2, "u2": 3, "u4": 4, "f8": 12}


@dataclass(frozen=True)
class GeoTags:
    """The grid: the upper left corner and the size of a pixel, in the CRS; and what the bands say.

    `crs_wkt` is None where no CRS is named. `names`, `units` and `colours` are those of the bands.
    """

    left: float
    top: float
    pixel_width: float
    pixel_height: float
    crs_wkt: str | None
    scale: float
    offset: float
    names: tuple[str | None, ...]
    units: tuple[str | None, ...]
    colours: tuple[str, ...]
    tags: dict[str, str]


def read_geo_tags(directory: Directory, bands: int) -> GeoTags:
    """Read the tags of the first image, by GDAL, from a file in memory that has them and one pixel.

    Raises:
        InvalidReference: there is no grid, it is rotated, or it cannot be read; or rasterio is not installed.
    """
    if not {tiff.TIE_POINT, tiff.TRANSFORMATION} & directory.tags.keys():
        raise InvalidReference("it has no grid, so its pixels are at no x and y; warp it first (gdalwarp)")
    try:
        from rasterio.errors import RasterioError  # noqa: PLC0415 - heavy, and optional
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError:
        raise InvalidReference(
            "rasterio is not installed, which reads its grid: pip install 'cubegate[formats]'"
        ) from None
    try:
        with MemoryFile(_one_pixel(directory, bands), ext=".tif") as memory, memory.open() as dataset:
            return _read(dataset)
    except (RasterioError, ValueError, OSError):
        raise InvalidReference("GDAL cannot read its GeoTIFF tags") from None


def _read(dataset: Any) -> GeoTags:
    grid = dataset.transform
    if dataset.gcps[0] or grid == grid.identity():
        what = "ground control points" if dataset.gcps[0] else "no grid"
        raise InvalidReference(f"it has {what}, so its pixels are at no x and y; warp it first (gdalwarp)")
    numbers = (*grid[:6], *dataset.scales, *dataset.offsets)
    if not all(math.isfinite(number) for number in numbers) or not (grid.a and grid.e):
        if not (grid.a or grid.e) and grid.b and grid.d:
            raise InvalidReference(_ROTATED)
        raise InvalidReference("its grid, scale or offset is no number")
    if grid.b or grid.d:
        raise InvalidReference(_ROTATED)
    if len(set(dataset.scales)) > 1 or len(set(dataset.offsets)) > 1:
        raise InvalidReference("its bands have different scales or offsets, which one array cannot have")
    return GeoTags(
        left=grid.c,
        top=grid.f,
        pixel_width=grid.a,
        pixel_height=grid.e,
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else None,
        scale=dataset.scales[0],
        offset=dataset.offsets[0],
        names=dataset.descriptions,
        units=dataset.units,
        colours=tuple(each.name for each in dataset.colorinterp),
        tags=dataset.tags(),
    )


_ROTATED = (
    "its grid is rotated or sheared, so its pixels are at no x and y of their own; warp it first (gdalwarp)"
)


def _one_pixel(directory: Directory, bands: int) -> bytes:
    """Return a little-endian TIFF of one pixel of bytes with the tags of `directory` that GDAL reads."""
    values: dict[int, np.ndarray[Any, Any]] = {
        tiff.WIDTH: np.array([1], "<u4"),
        tiff.HEIGHT: np.array([1], "<u4"),
        tiff.BITS: np.full(bands, 8, "<u2"),
        tiff.COMPRESSION: np.array([1], "<u2"),
        tiff.PHOTOMETRIC: np.array([directory.number(tiff.PHOTOMETRIC, 1)], "<u2"),
        tiff.STRIP_OFFSETS: np.array([8], "<u4"),
        tiff.SAMPLES: np.array([bands], "<u2"),
        tiff.ROWS_PER_STRIP: np.array([1], "<u4"),
        tiff.STRIP_BYTE_COUNTS: np.array([bands], "<u4"),
        tiff.PLANAR: np.array([1], "<u2"),
    }
    if tiff.EXTRA_SAMPLES in directory.tags:
        values[tiff.EXTRA_SAMPLES] = np.array(directory.numbers(tiff.EXTRA_SAMPLES), "<u2")
    if values[tiff.PHOTOMETRIC][0] == 3:
        # a palette, of which the values are still numbers
        values[tiff.PHOTOMETRIC][0] = 1
    for tag in _GEO_TAGS:
        if tag in directory.tags:
            values[tag] = directory.tags[tag].astype("<u2" if tag == tiff.GEO_KEYS else "<f8")
    for tag in _TEXT_TAGS:
        if tag in directory.tags:
            values[tag] = np.frombuffer(directory.tags[tag].tobytes(), "S1")
    body = bytearray(bands + bands % 2)
    entries = bytearray()
    for tag, each in sorted(values.items()):
        data = each.tobytes()
        entries += struct.pack("<HHI", tag, _TYPE_CODES[each.dtype.str[1:]], len(each))
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", 8 + len(body))
            body += data + b"\0" * (len(data) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(body))
    return bytes(head + body + struct.pack("<H", len(values)) + entries + bytes(4))
