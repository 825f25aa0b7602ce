"""Which variables of a cube get overviews, how, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.catalog.datacube import Datacube
from cubegate.conversions.overview_store import lead_coordinate, lead_coordinates
from cubegate.errors import InvalidMetadata, InvalidParameter, NotFound
from cubegate.index.metadata import ArrayMetadata
from cubegate.query.interval import parse_interval
from cubegate.rechunk.blocks import CubeBlocks
from cubegate.rechunk.overview_building import Piece, pieces
from cubegate.rechunk.overview_layout import Pyramid, plan_pyramid
from cubegate.store.bridge import LoopThread
from cubegate.tiling.layers import Layer, find_layers
from cubegate.tiling.overviews import overview_groups

# a cube whose chunks would be read so often is to be cut for maps first, unless it is small
_MOST_AGAIN, _FEW_READS = 8, 20_000

Coordinates = dict[str, tuple[ArrayMetadata, NDArray[Any]]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for; None is all variables and dates, as many levels as need be, and the usual place."""

    config: Path
    dataset: str
    variables: tuple[str, ...] | None = None
    datetime: str | None = None
    levels: int | None = None
    output: str | None = None
    replace: bool = False


def plan_all(wanted: Wanted, cube: Datacube, bridge: LoopThread) -> tuple[list[Pyramid], dict[str, str]]:
    """Plan the overviews of all variables that are wanted and can have some; return too why others cannot."""
    found: list[Pyramid] = []
    left_out: dict[str, str] = {}
    for path, layer in _drawable(cube, bridge).items():
        if wanted.variables is not None and not {path, layer.name} & set(wanted.variables):
            continue
        if any(overview.source is cube for overview in layer.parts[0].overviews):
            left_out[path] = "the cube has overviews of it"
            continue
        try:
            pyramid = _plan_one(wanted, path, layer)
        except InvalidParameter as error:
            left_out[path] = error.detail
            continue
        parts = pieces([pyramid])
        # the first is as large as any
        reads = _cost(parts[0])["chunks"] * len(parts) if parts else 0
        if pyramid.again > _MOST_AGAIN and reads > _FEW_READS:
            left_out[path] = (
                f"each of its chunks would be read {pyramid.again:,.0f} times: cut the cube for maps first, "
                f"with cubegate rechunk {cube.id} --for maps"
            )
            continue
        found.append(pyramid)
    return found, left_out


def _drawable(cube: Datacube, bridge: LoopThread) -> dict[str, Layer]:
    """Return all that can be drawn of a cube, by path, without what is an overview of others."""
    found: dict[str, Layer] = {}
    coarser: set[str] = set()
    for group in cube.store.hierarchy.groups:
        try:
            coarser.update(overview_groups(bridge.run(cube.dataset(group)), group))
            layers = bridge.run(find_layers([cube], group))
        except (InvalidParameter, InvalidMetadata, NotFound):
            # a group of which nothing can be drawn
            continue
        found |= {f"{group}/{name}".strip("/"): layer for name, layer in layers.items()}
    return {path: layer for path, layer in found.items() if layer.group not in coarser}


def _plan_one(wanted: Wanted, path: str, layer: Layer) -> Pyramid:
    part = layer.parts[0]
    grid = part.footprint.grid
    times: NDArray[np.intp] | None = None
    if part.times is not None:
        values = part.times
        chosen = (
            np.arange(len(values))
            if wanted.datetime is None
            else parse_interval(wanted.datetime).select(values)
        )
        # what has no date is never shown
        times = chosen[~np.isnat(values[chosen])] if values.dtype.kind == "M" else chosen
    return plan_pyramid(path, part.dataset, grid, times, wanted.levels)


def require_some(wanted: Wanted, pyramids: list[Pyramid], left_out: dict[str, str]) -> None:
    """Raise `InvalidParameter` where nothing is left, or where something that was named is left out."""
    known = {
        name
        for path in [*left_out, *(each.path for each in pyramids)]
        for name in (path, path.rpartition("/")[2])
    }
    for name in wanted.variables or ():
        if name not in known:
            raise InvalidParameter("variables", f"There is no variable {name[:80]!r} to draw.")
        if name in left_out:
            raise InvalidParameter("variables", f"{name} cannot have overviews: {left_out[name]}.")
    if not pyramids:
        why = "; ".join(f"{path}: {reason}" for path, reason in left_out.items())
        raise InvalidParameter("dataset", f"Nothing of {wanted.dataset} can have overviews. {why}".strip())


def read_coordinates(
    cube: Datacube, bridge: LoopThread, pyramids: list[Pyramid]
) -> tuple[Coordinates, dict[str, str]]:
    """Read the coordinates along all dimensions but y and x, by path; return too which variables lack one."""
    blocks = CubeBlocks(cube.store, bridge)
    found: dict[str, tuple[ArrayMetadata, NDArray[Any]]] = {}
    left_out: dict[str, str] = {}
    for pyramid in pyramids:
        try:
            for name in lead_coordinates(pyramid):
                array, positions = lead_coordinate(pyramid, name, cube.store.hierarchy)
                if array.path not in found:
                    found[array.path] = array, blocks.read(array.path, (slice(0, array.shape[0]),))[positions]
        except InvalidParameter as error:
            left_out[pyramid.path] = error.detail
    return found, left_out


def _cost(piece: Piece) -> dict[str, int]:
    pyramid, block = piece
    variable = pyramid.variable
    y, x = (slice(0, len(axis.values)) for axis in (pyramid.grid.y, pyramid.grid.x))
    indexers = pyramid.indexers(block, y, x)
    array = variable.encoding.get("encoded_array")
    cost = None if array is None else array.cost(tuple(indexers[str(dim)] for dim in variable.dims))
    return {"chunks": 0, "bytes": 0} if cost is None else {"chunks": cost.chunks, "bytes": cost.nbytes}


def price_of(todo: tuple[Piece, ...]) -> dict[str, int]:
    """What is read of the cube, and the size of what is written before it is compressed."""
    costs = [_cost(piece) for piece in todo]
    written = 0
    for pyramid, block in todo:
        together = int(np.prod([each.stop - each.start for each in block], dtype=np.int64))
        planes = [pyramid.shape(level)[-2:] for level in range(1, pyramid.levels + 1)]
        written += together * sum(height * width for height, width in planes) * pyramid.dtype.itemsize
    return {
        "chunks": sum(cost["chunks"] for cost in costs),
        "bytes": sum(cost["bytes"] for cost in costs),
        "written": written,
    }
