"""Copies GeoTIFFs onto another grid by rasterio: pixel by pixel, or warped where that was asked for."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.archives.hyp3_grids import Grid, crs_name, make_grid
from cubegate.errors import ConfigurationError, InvalidReference
from cubegate.index.content import StoredArray

_TAG = "CUBEGATE_COPY"
_BLOCK = 256
_STRIP_NBYTES = 2**26
# of a pixel, where GDAL guesses a place between others
_TOLERANCE = 1e-6
# labels, and angles that begin anew at 2 pi: a mean of two of them is neither
_NEAREST = frozenset({"water_mask", "conncomp", "ls_map", "wrapped_phase", "lv_phi"})
_COMPRESSORS = {None: "NONE", "imagecodecs_lzw": "LZW", "zlib": "DEFLATE", "zstd": "ZSTD"}
_PREDICTORS = {"imagecodecs_delta": 2, "imagecodecs_floatpred": 3}


@dataclass(frozen=True)
class Layout:
    """How the pixels of a copy are stored: tiles of `block` rows and columns."""

    block: tuple[int, int] = (_BLOCK, _BLOCK)
    compress: str = "DEFLATE"
    predictor: int = 1


@dataclass(frozen=True)
class Copy:
    """One copy: of which file, known by what, as which layer, onto which grid."""

    source: Path
    validator: str
    layer: str
    grid: Grid
    layout: Layout = Layout()
    warped: bool = False

    @property
    def resampling(self) -> str:
        """How pixels of another grid are made."""
        return "nearest" if self.layer in _NEAREST else "bilinear"

    def path(self, copies: Path) -> Path:
        """Return where the copy goes; another one of the same file goes elsewhere."""
        return copies / f"{self.source.stem}.{self.recipe[:12]}.tif"

    @property
    def recipe(self) -> str:
        """What the copy is made of, as a checksum."""
        said = [
            self.source.name,
            self.validator,
            self.grid.text,
            repr(self.grid),
            repr(self.layout),
            self.warped,
        ]
        return hashlib.sha256(json.dumps([*said, self.resampling]).encode()).hexdigest()


def layout_of(stored: StoredArray) -> Layout | None:
    """Return the layout of an array of a GeoTIFF, None where a copy cannot have it."""
    document = stored.document
    filters = document["filters"] or []
    if len(document["chunks"]) != 2 or any(size % 16 for size in document["chunks"]) or len(filters) > 1:
        return None
    if np.dtype(document["dtype"]).byteorder == ">":
        return None
    compressor = None if document["compressor"] is None else document["compressor"]["id"]
    predictor = _PREDICTORS.get(filters[0]["id"]) if filters else 1
    if compressor not in _COMPRESSORS or predictor is None:
        return None
    rows, columns = document["chunks"]
    return Layout((rows, columns), _COMPRESSORS[compressor], predictor)


def read_grid(path: Path) -> Grid:
    """Return the grid of a GeoTIFF that can be copied.

    Raises:
        InvalidReference: it is none, or what it says cannot be kept in a copy.
    """
    with _opened(path) as dataset:
        return _grid(dataset)


def make_copy(copy: Copy, copies: Path) -> Path:
    """Make a copy, or return the one that is there already and whole.

    Raises:
        InvalidReference: the source cannot be read, or has no nodata value for what it does not cover.
        OSError: the copy cannot be written.
    """
    path = copy.path(copies)
    if not _is_whole(path, copy):
        copies.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".tif", f".{copy.source.stem[:60]}.", copies)
        os.close(descriptor)
        made = Path(name)
        try:
            _write(copy, made)
            made.chmod(0o644)
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
    return path


def _is_whole(path: Path, copy: Copy) -> bool:
    if not path.exists():
        return False
    try:
        with _opened(path) as dataset:
            if dataset.tags().get(_TAG) != copy.recipe:
                return False
            for window in _strips(dataset.height, dataset.width, dataset.count * 8, copy.layout.block[0]):
                dataset.read(window=window)
    except (InvalidReference, OSError):
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import rasterio  # noqa: PLC0415 - heavy, and optional
        from rasterio.errors import RasterioError  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "the package rasterio is not installed", mend="Install cubegate[formats]."
        ) from None
    try:
        # what lies beside the file is not what the index reads either
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"),
            rasterio.open(path, driver="GTiff") as dataset,
        ):
            yield dataset
    except RasterioError:
        raise InvalidReference(_UNREADABLE) from None


def _grid(dataset: Any) -> Grid:
    from rasterio.enums import MaskFlags  # noqa: PLC0415

    if any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums):
        raise InvalidReference("it has a transparency mask, and what lies under that would look valid.")
    if dataset.gcps[0] or dataset.crs is None:
        raise InvalidReference("it names no coordinate reference system, or has ground control points alone.")
    return make_grid(crs_name(dataset.crs.to_wkt()), dataset.transform, dataset.shape)


def _write(copy: Copy, path: Path) -> None:
    import rasterio  # noqa: PLC0415
    from rasterio.errors import RasterioError  # noqa: PLC0415

    with _opened(copy.source) as source:
        pixels = _warped(copy, source) if copy.warped else _shifted(copy, source)
        try:
            with rasterio.open(path, "w", **_profile(copy, source)) as target:
                target.scales, target.offsets = source.scales, source.offsets
                target.descriptions, target.units = source.descriptions, source.units
                target.update_tags(**{_TAG: copy.recipe})
                for window, values in pixels:
                    target.write(values, window=window)
        except RasterioError:
            raise InvalidReference("GDAL cannot write the copy: there may be no room for it.") from None


def _profile(copy: Copy, source: Any) -> Mapping[str, Any]:
    grid, layout = copy.grid, copy.layout
    from rasterio.transform import Affine  # noqa: PLC0415

    predictor = {} if layout.predictor == 1 else {"predictor": layout.predictor}
    return {
        "driver": "GTiff",
        "dtype": source.dtypes[0],
        "count": source.count,
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "nodata": source.nodata,
        "tiled": True,
        "blockysize": layout.block[0],
        "blockxsize": layout.block[1],
        "compress": layout.compress,
        "BIGTIFF": "IF_SAFER",
        **predictor,
    }


def _strips(height: int, width: int, itemsize: int, block: int) -> Iterator[Any]:
    """Yield windows of whole rows of blocks, of some 64 MiB each."""
    from rasterio.windows import Window  # noqa: PLC0415

    rows = max(_STRIP_NBYTES // (max(width, 1) * itemsize * block), 1) * block
    for start in range(0, height, rows):
        yield Window(0, start, width, min(rows, height - start))


def _shifted(copy: Copy, source: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Yield the pixels of the target, each of which is one of the source, or nodata."""
    from rasterio.windows import Window  # noqa: PLC0415

    found = copy.grid.offset(_grid(source))
    if found is None:
        raise InvalidReference("its pixels do not coincide with those of the cube.")
    down, across = found
    dtype, grid = np.dtype(source.dtypes[0]), copy.grid
    left, right = max(across, 0), min(across + source.width, grid.width)
    whole = left == 0 and right == grid.width and down <= 0 and down + source.height >= grid.height
    if not whole and source.nodata is None:
        raise InvalidReference(_NO_NODATA)
    for window in _strips(grid.height, grid.width, dtype.itemsize * source.count, copy.layout.block[0]):
        first, last = int(window.row_off), int(window.row_off + window.height)
        top, bottom = max(down, first), min(down + source.height, last)
        values = np.full(
            (source.count, last - first, grid.width), 0 if source.nodata is None else source.nodata, dtype
        )
        if top < bottom and left < right:
            part = Window(left - across, top - down, right - left, bottom - top)
            values[:, top - first : bottom - first, left:right] = _read(source, part)
        yield window, values


def _warped(copy: Copy, source: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Yield the pixels of the target as GDAL makes them of those of another grid."""
    from rasterio.enums import Resampling  # noqa: PLC0415
    from rasterio.transform import Affine  # noqa: PLC0415
    from rasterio.vrt import WarpedVRT  # noqa: PLC0415

    if source.nodata is None:
        raise InvalidReference(_NO_NODATA)
    grid, dtype = copy.grid, np.dtype(source.dtypes[0])
    _require_meeting(grid, source)
    nearest = dtype.kind not in "fc" or copy.resampling == "nearest"
    with WarpedVRT(
        source,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        height=grid.height,
        width=grid.width,
        resampling=Resampling.nearest if nearest else Resampling.bilinear,
        nodata=source.nodata,
        tolerance=_TOLERANCE,
        # the four pixels around, whatever window is read: GDAL would take a turn of the grid for a scale
        XSCALE=1,
        YSCALE=1,
    ) as warped:
        for window in _strips(grid.height, grid.width, dtype.itemsize * source.count, copy.layout.block[0]):
            yield window, _read(warped, window)


def _read(dataset: Any, window: Any) -> NDArray[Any]:
    from rasterio.errors import RasterioError  # noqa: PLC0415

    try:
        values: NDArray[Any] = dataset.read(window=window)
    except RasterioError:
        raise InvalidReference(_UNREADABLE) from None
    return values


def _require_meeting(grid: Grid, source: Any) -> None:
    from rasterio.warp import transform_bounds  # noqa: PLC0415

    west, south, east, north = transform_bounds(source.crs, grid.crs, *source.bounds)
    right = grid.left + grid.width * grid.pixel_width
    bottom = grid.top - grid.height * grid.pixel_height
    if not (west < right and east > grid.left and south < grid.top and north > bottom):
        raise InvalidReference("it lies outside the grid of the cube.")


_UNREADABLE = "GDAL cannot read it: it is cut, or damaged."
_NO_NODATA = (
    "it does not cover the grid of the cube, and has no nodata value that could stand for the rest. Use "
    "--extent overlap, or leave the layer out by naming the others (--variables)."
)
