"""GeoTIFF: a cloud optimised one, with a named band for each variable, time and other coordinate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pyproj.exceptions
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.formats.bands import Band, BandType, common_type, list_bands
from cubegate.formats.crs import read_crs
from cubegate.formats.facts import origin, software
from cubegate.formats.output import Result, Shape
from cubegate.formats.spool import SpooledDocument

_BLOCK = 512
# A hundredth of a pixel: nobody sees it, and it is more than coordinates in float32 are off.
_IRREGULAR = 0.01


@dataclass(frozen=True)
class _Image:
    """What is written: `transform` holds the west edge, a cell's width, the north edge, its height."""

    result: Result
    bands: list[Band]
    kind: BandType
    transform: tuple[float, float, float, float]


class GeoTIFFFormat:
    """A COG (deflate, tiles of 512 px, planar), north up, all bands of one type that holds them exactly."""

    name = "geotiff"
    media_type = "image/tiff; application=geotiff; profile=cloud-optimized"
    extension = "tif"
    shapes: frozenset[Shape] = frozenset({"cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        if find_spec("rasterio") is None:
            raise NotAcceptable(
                "GeoTIFF is not installed on this server: its operator may add the extra cubegate[formats]."
            )
        transform = _north_up(result)
        bands = list_bands(result)
        image = _Image(result, bands, common_type([band.field for band in bands]), transform)
        _require_crs(image)
        return SpooledDocument(partial(_build, image), ".tif")


def _north_up(result: Result) -> tuple[float, float, float, float]:
    """The west edge, the width of a cell, the north edge and the height of a cell."""
    x, width = _regular(result, result.x)
    y, height = _regular(result, result.y)
    return float(x.min()) - width / 2, width, float(y.max()) + height / 2, height


def _regular(result: Result, dim: str) -> tuple[NDArray[np.float64], float]:
    if dim not in result.dataset.coords:
        raise NotAcceptable(
            f"A GeoTIFF needs coordinates along {dim!r}, and the grid has none: use f=netcdf."
        )
    stored = result.dataset[dim].to_numpy()
    values = stored.astype(np.float64)
    if len(values) < 2:
        raise NotAcceptable(
            f"A GeoTIFF needs at least two cells along {dim!r} to know their size: ask for a larger bbox, or "
            "use f=netcdf."
        )
    step = (values[-1] - values[0]) / (len(values) - 1)
    off = np.abs(values - (values[0] + step * np.arange(len(values)))).max()
    resolution = np.finfo(stored.dtype).eps * np.abs(values).max() if stored.dtype.kind == "f" else 0.0
    if not off <= _IRREGULAR * abs(step) + resolution or step == 0:
        raise NotAcceptable(
            f"A GeoTIFF needs a regular grid, and the spacing along {dim!r} varies: use f=netcdf."
        )
    return values, float(abs(step))


def _profile(image: _Image) -> dict[str, Any]:
    import rasterio  # noqa: PLC0415 - heavy, and optional

    west, width, north, height = image.transform
    return {
        "driver": "GTiff",
        "width": image.result.dataset.sizes[image.result.x],
        "height": image.result.dataset.sizes[image.result.y],
        "count": len(image.bands),
        "dtype": image.kind.dtype.name,
        "nodata": image.kind.nodata,
        "crs": rasterio.CRS.from_wkt(read_crs(image.result).to_wkt()),
        "transform": rasterio.Affine(width, 0, west, 0, -height, north),
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    }


def _require_crs(image: _Image) -> None:
    import rasterio  # noqa: PLC0415 - heavy, and optional

    try:
        with rasterio.MemoryFile() as memory:
            with memory.open(**_profile(image) | {"width": 1, "height": 1, "count": 1}):
                pass
            document = bytes(memory.getbuffer())
        # Reopened from its bytes alone, since GDAL puts what the format cannot hold into a sidecar.
        with rasterio.MemoryFile(document) as memory, memory.open() as written:
            kept = written.crs is not None and _same_places(image, written.crs.to_wkt())
    except (rasterio.errors.CRSError, pyproj.exceptions.CRSError):
        kept = False
    if not kept:
        raise NotAcceptable(
            "GeoTIFF cannot hold the coordinate reference system of this dataset: use f=netcdf."
        )


def _same_places(image: _Image, wkt: str) -> bool:
    wanted, written = read_crs(image.result), pyproj.CRS.from_wkt(wkt)
    if written.equals(wanted, ignore_axis_order=True):
        return True
    x, y = (
        image.result.dataset[dim].to_numpy().astype(np.float64) for dim in (image.result.x, image.result.y)
    )
    corners = np.meshgrid(x[[0, len(x) // 2, -1]], y[[0, len(y) // 2, -1]])
    moved = pyproj.Transformer.from_crs(written, wanted, always_xy=True).transform(*corners)
    cell = min(image.transform[1], image.transform[3])
    off = [np.abs(there - here)[np.isfinite(there)] for there, here in zip(moved, corners, strict=True)]
    return all(distance.size and distance.max() <= _IRREGULAR * cell for distance in off)


def _build(image: _Image, path: Path) -> None:
    import rasterio  # noqa: PLC0415 - heavy, and optional
    import rasterio.shutil  # noqa: PLC0415 - heavy, and optional

    result = image.result
    y_step = -1 if not _descends(result, result.y) else 1
    x_step = -1 if _descends(result, result.x) else 1
    plain = path.with_name("plain.tif")
    with rasterio.open(plain, "w", **_profile(image)) as file:
        file.update_tags(**origin(result), TIFFTAG_SOFTWARE=software())
        for number, band in enumerate(image.bands, start=1):
            file.write(image.kind.convert(band.field, band.values())[::y_step, ::x_step], number)
            file.set_band_description(number, band.description)
            file.set_band_unit(number, band.field.units)
            file.update_tags(number, **band.tags)
        file.build_overviews(_overviews(max(file.width, file.height)), rasterio.enums.Resampling.nearest)
    rasterio.shutil.copy(plain, path, driver="GTiff", **_creation_options(image.kind))


def _creation_options(kind: BandType) -> dict[str, Any]:
    # The COG driver interleaves by pixel, so that reading one date of 200 would inflate all of them.
    return {
        "COPY_SRC_OVERVIEWS": True,
        "TILED": True,
        "BLOCKXSIZE": _BLOCK,
        "BLOCKYSIZE": _BLOCK,
        "INTERLEAVE": "BAND",
        "COMPRESS": "DEFLATE",
        "PREDICTOR": {"f": 3, "c": 1}.get(kind.dtype.kind, 2),
        "BIGTIFF": "IF_SAFER",
    }


def _overviews(size: int) -> list[int]:
    factors = []
    factor = 2
    while size * 2 > _BLOCK * factor:
        factors.append(factor)
        factor *= 2
    return factors


def _descends(result: Result, dim: str) -> bool:
    values = result.dataset[dim].to_numpy()
    return bool(values[-1] < values[0])
