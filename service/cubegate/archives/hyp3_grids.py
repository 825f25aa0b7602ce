"""The grids of GeoTIFFs in one CRS: how they lie to one another, and the one that all are brought to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.errors import InvalidReference
from cubegate.index.index import Index

# of a pixel: what rounding of coordinates makes, and no more
_TOLERANCE = 1e-3

Extent = Literal["overlap", "union", "usual"]


@dataclass(frozen=True)
class Grid:
    """A grid with rows from north to south: its upper left corner and the size of a pixel, in the CRS."""

    crs: str
    left: float
    top: float
    pixel_width: float
    pixel_height: float
    height: int
    width: int

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine transform, in the order of rasterio."""
        return self.pixel_width, 0.0, self.left, 0.0, -self.pixel_height, self.top

    @property
    def text(self) -> str:
        """The grid in words, for reports."""
        right = self.left + self.width * self.pixel_width
        bottom = self.top - self.height * self.pixel_height
        return (
            f"{self.crs[:40]}, {self.height:,} x {self.width:,} pixels of {self.pixel_width:g} x "
            f"{self.pixel_height:g}, x {self.left:.10g} to {right:.10g}, y {bottom:.10g} to {self.top:.10g}"
        )

    def offset(self, other: Grid) -> tuple[int, int] | None:
        """Return where the first pixel of `other` is, in rows and columns from that of this grid.

        None where the pixels of both do not coincide.
        """
        if self.crs != other.crs:
            return None
        most = max(self.height, self.width, other.height, other.width)
        for mine, its in ((self.pixel_width, other.pixel_width), (self.pixel_height, other.pixel_height)):
            if abs(its - mine) * most > _TOLERANCE * mine:
                return None
        rows = (self.top - other.top) / self.pixel_height
        columns = (other.left - self.left) / self.pixel_width
        if max(abs(rows - round(rows)), abs(columns - round(columns))) > _TOLERANCE:
            return None
        return round(rows), round(columns)


def crs_name(wkt: str) -> str:
    """Return the code of a CRS, such as EPSG:32611, or its WKT where it has none.

    Raises:
        InvalidReference: PROJ cannot read it.
    """
    try:
        crs = CRS.from_user_input(wkt)
    except ProjError:
        raise InvalidReference("PROJ cannot read its coordinate reference system.") from None
    authority = crs.to_authority()
    return crs.to_wkt() if authority is None else ":".join(authority)


def grid_of(index: Index) -> Grid:
    """Return the grid of the index of one GeoTIFF.

    Raises:
        InvalidReference: it has no CRS, or its rows do not run from north to south.
    """
    mapping = index.content.arrays.get("spatial_ref")
    if mapping is None:
        raise InvalidReference("it names no coordinate reference system.")
    left, width, _, top, _, height = map(float, str(mapping.attributes["GeoTransform"]).split())
    arrays = index.hierarchy.arrays
    return make_grid(
        crs_name(str(mapping.attributes["crs_wkt"])),
        (width, 0.0, left, 0.0, height, top),
        (arrays["y"].shape[0], arrays["x"].shape[0]),
    )


def make_grid(crs: str, transform: Sequence[float], shape: tuple[int, int]) -> Grid:
    """Return the grid of an affine transform, in the order of rasterio, and of rows and columns.

    Raises:
        InvalidReference: its rows do not run from north to south, or its columns not from west to east.
    """
    width, shear, left, other_shear, height, top = transform[:6]
    if shear or other_shear or not (width > 0 > height) or not all(map(math.isfinite, transform[:6])):
        raise InvalidReference("its rows do not run from north to south, and its columns from west to east.")
    return Grid(crs, left, top, width, -height, *shape)


def usual_grid(grids: Sequence[Grid]) -> Grid:
    """Return the first of those grids whose pixels coincide with those of the most others."""
    counts: Counter[int] = Counter()
    classes: list[Grid] = []
    for grid in grids:
        number = next((n for n, each in enumerate(classes) if each.offset(grid) is not None), len(classes))
        if number == len(classes):
            classes.append(grid)
        counts[number] += 1
    return classes[max(counts, key=lambda number: (counts[number], -number))]


def common_grid(grids: Sequence[Grid], extent: Extent) -> Grid:
    """Return the grid of what all `grids` cover, of what any covers, or the one that most of them have.

    Their pixels coincide. It is one of them where one is as large as that.

    Raises:
        InvalidReference: they cover nothing in common.
    """
    first = grids[0]
    if extent == "usual":
        return Counter(grids).most_common(1)[0][0]
    spans = []
    for grid in grids:
        found = first.offset(grid)
        assert found is not None  # noqa: S101 - the caller chose them so
        row, column = found
        spans.append((row, column, row + grid.height, column + grid.width))
    tops, lefts, bottoms, rights = zip(*spans, strict=True)
    inner, outer = (max, min) if extent == "overlap" else (min, max)
    top, left, bottom, right = inner(tops), inner(lefts), outer(bottoms), outer(rights)
    if top >= bottom or left >= right:
        raise InvalidReference(
            "The products cover no area in common. Give those that do, or use --extent union."
        )
    for grid, span in zip(grids, spans, strict=True):
        if span == (top, left, bottom, right):
            return grid
    return Grid(
        first.crs,
        first.left + left * first.pixel_width,
        first.top - top * first.pixel_height,
        first.pixel_width,
        first.pixel_height,
        bottom - top,
        right - left,
    )
