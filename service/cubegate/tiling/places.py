"""Where the centres of a picture's pixels lie in a grid's CRS: by few transformed points, if these tell."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.query.crs import find_places, same_crs, the_short_way, turn_of
from cubegate.query.lattice import Lattice

Places = tuple[NDArray[np.float64], NDArray[np.float64]]

NODES = 16
CHECKS = 12
# how far, in cells, what is interpolated may be from what PROJ says
TOLERANCE = 1e-3
TURN = 360.0


def find_pixels(lattice: Lattice, crs: CRS, cell: tuple[float, float]) -> Places:
    """Return x and y in `crs` of the centres of all pixels, each of shape (height, width); NaN where none is.

    `cell` is the size of the grid's cells: positions are exact to a thousandth of it.
    """
    if same_crs(lattice.crs, crs):
        x, y = np.broadcast_arrays(lattice.x, lattice.y[:, None])
        return x, y
    found = _interpolated(lattice, crs, cell)
    return _transformed(lattice, crs) if found is None else found


def _transformed(lattice: Lattice, crs: CRS) -> Places:
    shape = lattice.height, lattice.width
    places = np.full(shape, np.nan), np.full(shape, np.nan)
    for block, x, y in lattice.blocks():
        new_x, new_y, known = _places(lattice.crs, crs, x, y)
        for whole, part in zip(places, (new_x, new_y), strict=True):
            whole.reshape(-1)[block] = np.where(known, part, np.nan)
    return places


def _places(
    source: CRS, target: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    turn = turn_of(source)
    if turn is not None and not source.is_geographic:
        # maps go on beyond the antimeridian, any number of turns
        x = np.where(np.abs(x) > turn / 2, the_short_way(x, turn), x)
    try:
        return find_places(source, target, x, y)
    except ProjError:
        return x, y, np.zeros(x.shape, bool)


def _interpolated(lattice: Lattice, crs: CRS, cell: tuple[float, float]) -> Places | None:
    """Interpolate between Chebyshev nodes; None where that is not exact enough, as around a pole."""
    nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    west, south, east, north = lattice.bounds
    at_x, at_y = west + (nodes + 1) / 2 * (east - west), north - (nodes + 1) / 2 * (north - south)
    node_x, node_y = np.meshgrid(at_x, at_y)
    x, y, known = _places(lattice.crs, crs, node_x, node_y)
    if not known.all():
        return None
    if crs.is_geographic:
        x = np.unwrap(np.unwrap(x, period=TURN, axis=0), period=TURN, axis=1)
    across, down = _weights(lattice.width), _weights(lattice.height)
    columns, rows = (_spread(size) for size in (lattice.width, lattice.height))
    true_x, true_y, known = _places(lattice.crs, crs, *np.meshgrid(lattice.x[columns], lattice.y[rows]))
    if not known.all():
        return None
    off_x = _combined(down[rows], x, across[columns]) - true_x
    off_y = _combined(down[rows], y, across[columns]) - true_y
    if crs.is_geographic:
        off_x = the_short_way(off_x, TURN)
    if max(np.abs(off_x).max() / cell[0], np.abs(off_y).max() / cell[1]) > TOLERANCE:
        return None
    return _combined(down, x, across), _combined(down, y, across)


def _combined(
    down: NDArray[np.float64], nodes: NDArray[np.float64], across: NDArray[np.float64]
) -> NDArray[np.float64]:
    # not a product of matrices, whose threads would wait for each other where all processors are busy
    half = np.einsum("pi,ij->pj", down, nodes)
    found: NDArray[np.float64] = np.einsum("pj,qj->pq", half, across)
    return found


def _spread(size: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, size - 1, CHECKS).astype(np.intp))


@functools.lru_cache(maxsize=32)
def _weights(size: int) -> NDArray[np.float64]:
    """Lagrange's weights of the nodes at the centres of `size` pixels, of shape (size, NODES)."""
    angle = np.pi * (np.arange(NODES) + 0.5) / NODES
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    # through the Chebyshev polynomials, which are orthogonal at the nodes
    degree = np.arange(NODES)
    at_nodes = np.cos(np.outer(degree, angle))
    at_centres = np.cos(np.outer(np.arccos(centres), degree))
    scale = np.where(degree == 0, 1.0, 2.0) / NODES
    weights: NDArray[np.float64] = np.einsum("pi,ij->pj", at_centres * scale, at_nodes)
    return weights
