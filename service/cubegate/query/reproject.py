"""Reprojection of a loaded box to another CRS: exact for the nearest cell, by GDAL's warper otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.axis import Axis
from cubegate.query.crs import find_places, same_crs

RESAMPLINGS = (
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "max", "min", "med",
    "q1", "q3", "rms",
)  # fmt: skip
MAPPING = "spatial_ref"
# the largest integers that float64 still tells apart
EXACT = 2**53
BLOCK_CELLS = 2**20
# source cells around a place that a resampling looks at, at most
NEIGHBOURS = 12

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Target:
    """The grid to reproject to: affine transforms in GDAL's order, and the CRS of both sides."""

    source_crs: CRS
    crs: CRS
    source_transform: Transform
    transform: Transform
    width: int
    height: int
    resampling: str

    @property
    def names(self) -> tuple[str, str]:
        """What the new x and y are called."""
        return ("lon", "lat") if self.crs.is_geographic else ("x", "y")


def check_resampling(name: str) -> None:
    """Raise `InvalidParameter` for the name of a resampling that does not exist."""
    if name not in RESAMPLINGS:
        raise InvalidParameter(
            "resampling", f"There is no resampling {name[:80]!r}.", accepted=", ".join(RESAMPLINGS)
        )


def require_cf(crs: CRS) -> None:
    """Raise `InvalidParameter` for a CRS that no CF file can name."""
    try:
        crs.to_cf()
    except KeyError as error:
        raise InvalidParameter("crs", "The asked CRS has no form as a CF grid mapping.") from error


def require_rasterio() -> None:
    """Raise `NotAcceptable` where it is not installed."""
    if find_spec("rasterio") is None:
        raise NotAcceptable("Reprojection is not installed on this server: leave out crs=.")


def no_place() -> InvalidParameter:
    """The error for a box that cannot be drawn in the asked CRS."""
    return InvalidParameter(
        "crs",
        "The box, or a part of it, has no place in the asked CRS.",
        accepted="another crs, a smaller bbox, or no crs",
    )


def source_transform(x: NDArray[np.float64], y: NDArray[np.float64], steps: tuple[float, float]) -> Transform:
    """Return the transform of cells with the centres `x` and `y`, north up; `steps` are their sizes."""
    across, down = steps
    return (float(x.min()) - across / 2, across, 0.0, float(y.max()) + down / 2, 0.0, -down)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of PROJ and of GDAL, which its own class of errors does not all cover, into ours."""
    import rasterio._err  # noqa: PLC0415 - heavy, and optional
    import rasterio.errors  # noqa: PLC0415

    try:
        yield
    except (ProjError, rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:  # noqa: SLF001 - not exported
        raise no_place() from error


def step_of(axis: Axis) -> float:
    """Return the size of the cells of a regular axis.

    Raises:
        InvalidParameter: it is irregular, or its one cell has no known size.
    """
    if not axis.regular or (len(axis.values) == 1 and axis.cell is None):
        raise InvalidParameter(
            "crs",
            f"The coordinate {axis.name!r} is irregular, so it cannot be reprojected.",
            accepted="no crs",
        )
    # not by the extent, which ends at the poles even where cells don't
    count = len(axis.values)
    return float(np.ptp(axis.values) / (count - 1)) if count > 1 else float(axis.cell or 0.0)


def reproject(dataset: xr.Dataset, x: str, y: str, target: Target) -> xr.Dataset:
    """Reproject the data variables of a loaded dataset whose last dimensions are `y` and `x`.

    Cells outside of the source are missing: NaN, or NaT. Integers become floats where there are
    such cells, or where the resampling computes new values; no other value is made up.

    Raises:
        InvalidParameter: the type of a variable cannot be reprojected this way.
        NotAcceptable: 64-bit integers would lose digits.
    """
    dataset = _north_up(dataset, x, y)
    index = _nearest(dataset.sizes[y], dataset.sizes[x], target) if target.resampling == "nearest" else None
    variables: dict[str, xr.Variable] = {}
    new_x, new_y = target.names
    for name, array in dataset.data_vars.items():
        if not {x, y} & set(array.dims):
            variables[str(name)] = array.variable
            continue
        if array.dims[-2:] != (y, x):
            raise InvalidParameter(
                "variables", f"Variable {name!r} has no {y} and {x}, so it cannot be reprojected."
            )
        values = _warp(str(name), array.values, target, index)
        attributes = {**array.attrs, "grid_mapping": MAPPING}
        kept = {key: value for key, value in array.encoding.items() if key != "grid_mapping"}
        variables[str(name)] = xr.Variable((*array.dims[:-2], new_y, new_x), values, attributes, kept)
    others: dict[str, Any] = {
        str(name): coordinate.variable
        for name, coordinate in dataset.coords.items()
        if not {x, y} & set(coordinate.dims) and not _is_mapping(coordinate)
    }
    coordinates: dict[str, Any] = {
        **others,
        **coordinates_of(target),
        MAPPING: ((), np.int32(0), target.crs.to_cf()),
    }
    return xr.Dataset(variables, coordinates, dataset.attrs)


def _north_up(dataset: xr.Dataset, x: str, y: str) -> xr.Dataset:
    reverse = slice(None, None, -1)
    west_last = dataset[x].values[0] > dataset[x].values[-1]
    south_first = dataset[y].values[0] < dataset[y].values[-1]
    return dataset.isel(
        {x: reverse if west_last else slice(None), y: reverse if south_first else slice(None)}
    )


def _is_mapping(coordinate: xr.DataArray) -> bool:
    return bool({"grid_mapping_name", "crs_wkt", "spatial_ref"} & set(coordinate.attrs))


def coordinates_of(target: Target) -> dict[str, Any]:
    """Return the x and y of a target, with their CF attributes."""
    west, width, _, north, _, height = target.transform
    attributes = target.crs.cs_to_cf()
    by_axis = {str(each.get("axis")): each for each in attributes}
    x, y = target.names
    return {
        x: (x, west + (np.arange(target.width) + 0.5) * width, by_axis.get("X", {})),
        y: (y, north + (np.arange(target.height) + 0.5) * height, by_axis.get("Y", {})),
    }


def _warp(name: str, values: NDArray[Any], target: Target, index: NDArray[np.int64] | None) -> NDArray[Any]:
    if values.dtype.kind not in ("iuf" if index is None else "iufMm"):
        raise InvalidParameter(
            "variables",
            f"Variable {name!r} holds {values.dtype} values, which {target.resampling} cannot reproject.",
            accepted="numbers; times too with resampling=nearest",
        )
    flat = values.reshape(-1, *values.shape[-2:])
    if index is None:
        numbers = as_floats(name, flat)
        warped = np.stack([warp_band(band, np.nan, target) for band in numbers]) if len(numbers) else numbers
    else:
        outside = index < 0
        if outside.any() and flat.dtype.kind in "iu":
            flat = as_floats(name, flat)
        warped = flat.reshape(len(flat), -1)[:, np.where(outside, 0, index)]
        if outside.any():
            warped[:, outside] = np.array("NaT" if flat.dtype.kind in "Mm" else np.nan, flat.dtype)
    return warped.reshape(*values.shape[:-2], target.height, target.width)


def _nearest(rows: int, columns: int, target: Target) -> NDArray[np.int64]:
    """For each target cell the flat index of the source cell at its centre, -1 outside.

    GDAL approximates where a centre falls, and so takes a neighbour's value near the edges.
    """
    index = np.full((target.height, target.width), -1, np.int64)
    west, width, _, north, _, height = target.source_transform
    x, y = (coordinate[1] for coordinate in coordinates_of(target).values())
    block = max(1, BLOCK_CELLS // target.width)
    for start in range(0, target.height, block):
        centres = np.meshgrid(x, y[start : start + block])
        place_x, place_y, known = find_places(target.crs, target.source_crs, *centres)
        place_x, place_y = np.where(known, place_x, west), np.where(known, place_y, north)
        if target.source_crs.is_geographic:
            place_x = west + (place_x - west) % 360
        column, row = np.floor((place_x - west) / width), np.floor((place_y - north) / height)
        inside = known & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        index[start : start + block][inside] = (row * columns + column)[inside]
    return index


def warp_band(band: NDArray[Any], nodata: float, target: Target) -> NDArray[Any]:
    """Return floats, north up, on the grid of `target`, by GDAL."""
    import rasterio.crs  # noqa: PLC0415 - heavy, and optional
    import rasterio.warp  # noqa: PLC0415
    from rasterio.transform import Affine  # noqa: PLC0415

    result = np.full((target.height, target.width), nodata, band.dtype)
    source = target.source_transform
    if target.source_crs.is_geographic:
        band, source = _all_around(band, target)
    with _explained():
        rasterio.warp.reproject(
            np.ascontiguousarray(band),
            result,
            src_transform=Affine.from_gdal(*source),
            src_crs=rasterio.crs.CRS.from_wkt(target.source_crs.to_wkt()),
            src_nodata=nodata,
            dst_transform=Affine.from_gdal(*target.transform),
            dst_crs=rasterio.crs.CRS.from_wkt(target.crs.to_wkt()),
            dst_nodata=nodata,
            resampling=rasterio.warp.Resampling[target.resampling],
            # cells are of one size here and there; GDAL would guess that from boxes, and blur wide ones
            XSCALE=1,
            YSCALE=1,
        )
    return result


def _all_around(band: NDArray[Any], target: Target) -> tuple[NDArray[Any], Transform]:
    """Longitudes as PROJ or the target writes them, with neighbours where a circle closes."""
    west, step, *others = target.source_transform
    columns = band.shape[1]
    same = same_crs(target.source_crs, target.crs)
    middle = target.transform[0] + target.transform[1] * target.width / 2 if same else 0.0
    if abs(step * columns - 360) < step / 2:
        beyond = math.floor((middle - 180 - west) / step)
        more = min(NEIGHBOURS, columns)
        band = np.pad(np.roll(band, -beyond, axis=1), ((0, 0), (more, more)), mode="wrap")
        west += (beyond - more) * step
    elif same:
        west += 360 * round((middle - west - step * columns / 2) / 360)
    return band, (west, step, others[0], others[1], others[2], others[3])


def as_floats(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as floats that hold them exactly.

    Raises:
        NotAcceptable: these are integers that no float holds.
    """
    if values.dtype.kind == "f":
        return values.astype(np.promote_types(values.dtype.newbyteorder("="), np.float32))
    if values.dtype.itemsize <= 2:
        return values.astype(np.float32)
    if values.size and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
        raise NotAcceptable(
            f"Variable {name!r} has integers that lose digits in reprojection: leave out crs=."
        )
    return values.astype(np.float64)
