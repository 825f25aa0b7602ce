"""Tile matrix sets: WebMercatorQuad and WorldCRS84Quad as OGC registered them, and a grid's own cells."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from pyproj import CRS

from cubegate.errors import NotFound
from cubegate.query.crs import lonlat
from cubegate.query.footprint import Footprint
from cubegate.query.lattice import Lattice
from cubegate.tiling.sampling import cell_sizes

TILE = 256
WEB_MERCATOR, WORLD_CRS84, NATIVE = "WebMercatorQuad", "WorldCRS84Quad", "native"
NAMES = (WEB_MERCATOR, WORLD_CRS84, NATIVE)
# half the width of the world in Web Mercator, metres
_HALF = 20037508.342789244
_DEEPEST = 24
# of the grid's own cells, how often they are halved
_ENLARGED = 3
# metres, what OGC takes for a pixel
_PIXEL = 0.00028
_METRES_A_DEGREE = 6378137 * math.pi / 180


@dataclass(frozen=True)
class Matrix:
    """The tiles of one zoom: the size of a pixel in units of the CRS, and how many tiles there are."""

    cell: float
    width: int
    height: int


@dataclass(frozen=True)
class MatrixSet:
    """Square tiles from the top left, `west` and `north`, for each zoom."""

    name: str
    title: str
    crs: CRS
    crs_uri: str
    west: float
    north: float
    matrices: tuple[Matrix, ...]

    def lattice(self, z: int, x: int, y: int) -> Lattice:
        """Return the pixels of a tile.

        Raises:
            NotFound: there is no such tile.
        """
        if not 0 <= z < len(self.matrices):
            raise NotFound(f"{self.name} has the zooms 0 to {len(self.matrices) - 1}, and no {z}.")
        matrix = self.matrices[z]
        if not (0 <= x < matrix.width and 0 <= y < matrix.height):
            raise NotFound(
                f"At zoom {z} {self.name} has the columns 0 to {matrix.width - 1} and the rows 0 to "
                f"{matrix.height - 1}, and no tile {x}/{y}."
            )
        side = TILE * matrix.cell
        return Lattice(
            self.crs, self.west + x * side, self.north - y * side, matrix.cell, matrix.cell, TILE, TILE
        )

    def tile_at(self, z: int, x: float, y: float) -> tuple[int, int]:
        """Return the column and row of the tile that holds a place, or of the nearest to it."""
        matrix = self.matrices[z]
        side = TILE * matrix.cell
        column, row = math.floor((x - self.west) / side), math.floor((self.north - y) / side)
        return min(max(column, 0), matrix.width - 1), min(max(row, 0), matrix.height - 1)

    def document(self) -> dict[str, Any]:
        """Describe it as OGC's Two Dimensional Tile Matrix Set 2.0 does."""
        axes = [axis.abbrev for axis in self.crs.axis_info[:2]]
        origin = [self.north, self.west] if is_north_first(self.crs) else [self.west, self.north]
        metres = _METRES_A_DEGREE if self.crs.is_geographic else self.crs.axis_info[0].unit_conversion_factor
        matrices = [
            {
                "id": str(z),
                "scaleDenominator": matrix.cell * metres / _PIXEL,
                "cellSize": matrix.cell,
                "cornerOfOrigin": "topLeft",
                "pointOfOrigin": origin,
                "tileWidth": TILE,
                "tileHeight": TILE,
                "matrixWidth": matrix.width,
                "matrixHeight": matrix.height,
            }
            for z, matrix in enumerate(self.matrices)
        ]
        crs = self.crs_uri or {"wkt": self.crs.to_json_dict()}
        uri = {} if self.name == NATIVE else {"uri": self.uri}
        return {
            "id": self.name,
            "title": self.title,
            **uri,
            "crs": crs,
            "orderedAxes": axes,
            "tileMatrices": matrices,
        }

    @property
    def uri(self) -> str:
        """The registered address; empty for a grid's own."""
        return "" if self.name == NATIVE else f"http://www.opengis.net/def/tilematrixset/OGC/1.0/{self.name}"


def is_north_first(crs: CRS) -> bool:
    """Tell whether the first of the two coordinates of a place is its latitude or northing."""
    first = crs.axis_info[0].name.lower() if crs.axis_info else ""
    return "lat" in first or "northing" in first


def crs_uri(crs: CRS) -> str:
    """Return the address of a CRS in OGC's register; empty where it has none."""
    authority = crs.to_authority()
    if authority is None:
        return ""
    version = "1.3" if authority[0] == "OGC" else "0"
    return f"http://www.opengis.net/def/crs/{authority[0]}/{version}/{authority[1]}"


@functools.lru_cache(maxsize=1)
def web_mercator() -> CRS:
    """Return the CRS of web maps."""
    return CRS.from_epsg(3857)


@functools.lru_cache(maxsize=2)
def _registered(name: str) -> MatrixSet:
    zooms = range(_DEEPEST + 1)
    if name == WEB_MERCATOR:
        matrices = tuple(Matrix(2 * _HALF / TILE / 2**z, 2**z, 2**z) for z in zooms)
        crs = web_mercator()
        return MatrixSet(
            name, "Google Maps Compatible for the World", crs, crs_uri(crs), -_HALF, _HALF, matrices
        )
    matrices = tuple(Matrix(180 / TILE / 2**z, 2 ** (z + 1), 2**z) for z in zooms)
    return MatrixSet(name, "CRS84 for the World", lonlat(), crs_uri(lonlat()), -180.0, 90.0, matrices)


def find_matrix_set(name: str, footprint: Footprint) -> MatrixSet:
    """Return a tile matrix set by its name; `native` is that of the grid of `footprint`.

    Raises:
        NotFound: there is none of this name.
    """
    if name == NATIVE:
        return _own(footprint)
    if name not in NAMES:
        raise NotFound(f"There is no tile matrix set {name[:80]!r}. There are: {', '.join(NAMES)}.")
    return _registered(name)


def _own(footprint: Footprint) -> MatrixSet:
    west, south, east, north = footprint.grid.bounds
    cell = min(cell_sizes(footprint))
    across, down = (east - west) / cell, (north - south) / cell
    # a part of a cell less, which rounding may have made
    halved = max(0, math.ceil(math.log2(max(across, down, 1.0) / TILE) - 1e-9))
    sizes = [cell * 2.0 ** (halved - z) for z in range(halved + _ENLARGED + 1)]
    matrices = tuple(
        Matrix(
            size,
            max(1, math.ceil((east - west) / size / TILE - 1e-9)),
            max(1, math.ceil((north - south) / size / TILE - 1e-9)),
        )
        for size in sizes
    )
    crs = footprint.crs
    return MatrixSet(NATIVE, f"The cube's own grid ({crs.name})", crs, crs_uri(crs), west, north, matrices)
