"""Indexes the GeoTIFFs of HyP3 products, and the copies of those that cannot be read in place."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cubegate.archives.building import Part, Plan, read_part
from cubegate.archives.hyp3_copies import Copy, make_copy, read_grid
from cubegate.archives.hyp3_gathering import fetch, local_path, refuse
from cubegate.archives.hyp3_grids import Grid, grid_of
from cubegate.archives.hyp3_products import Product
from cubegate.archives.hyp3_regridding import Placement, Source
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.upstream import Upstreams
from cubegate.errors import (
    CubegateError,
    InvalidParameter,
    InvalidReference,
    UnsupportedCodec,
    UpstreamRefused,
)
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.progress import Progress

_IN_FLIGHT = 64
_COPIES = 4
_NO_TIME = np.datetime64("NaT", "ns")


@dataclass(frozen=True)
class Copied:
    """One GeoTIFF that was copied: of which product and layer, and why."""

    product: str
    layer: str
    reason: str


def copies_of(plan: Plan) -> Path:
    """Return where a cube's copies go, which stay there as long as the cube does."""
    return plan.directory.resolve() / f"{plan.id}.copies"


async def index_layers(
    plan: Plan,
    products: Sequence[Product],
    layers: Sequence[str],
    upstreams: Upstreams,
    *,
    progress: Progress,
) -> list[Source]:
    """Return the GeoTIFFs of `layers` of `products`, each with its index or why it can have none.

    Raises:
        InvalidReference: some cannot be read at all; the message names them.
        OSError: a file cannot be written.
    """
    wanted = [(product, layer) for product in products for layer in layers if layer in product.tiffs]
    plan.parts.mkdir(parents=True, exist_ok=True)

    async def read(product: Product, layer: str) -> Source | CubegateError:
        try:
            return await _index(plan, product.name.name, layer, product.tiffs[layer], upstreams)
        except CubegateError as error:
            return error

    found = await run_all(
        (read(product, layer) for product, layer in wanted),
        in_flight=_IN_FLIGHT,
        report=lambda done, total: progress("Reading headers of GeoTIFFs", done, total),
    )
    refuse(
        "GeoTIFFs cannot be read",
        {
            f"{product.name.name}_{layer}": str(each)
            for (product, layer), each in zip(wanted, found, strict=True)
            if isinstance(each, CubegateError)
        },
    )
    return [each for each in found if isinstance(each, Source)]


async def _index(plan: Plan, product: str, layer: str, url: str, upstreams: Upstreams) -> Source:
    state = await upstreams.stat(url)
    part = Part(f"{product}_{layer}", url, _NO_TIME)
    index = await read_part(plan, part, upstreams, upstreams.check)
    validator = state.validator or ""
    if isinstance(index, Index):
        return Source(product, layer, url, validator, grid_of(index), index)
    if not isinstance(index, UnsupportedCodec):
        # of a damaged file GDAL may give more than it has
        raise index
    try:
        local = local_path(url) or await fetch(url, upstreams, copies_of(plan))
        grid = await asyncio.to_thread(read_grid, local)
    except InvalidReference as error:
        raise InvalidReference(f"{str(index).rstrip('.')}, nor can it be copied: {error}") from None
    return Source(product, layer, url, validator, grid, None, str(index).partition(": ")[2].rstrip("."))


async def place_layers(
    plan: Plan,
    placements: Sequence[Placement],
    grid: Grid,
    upstreams: Upstreams,
    *,
    progress: Progress,
) -> tuple[dict[tuple[str, str], Index], list[Copied], list[Path]]:
    """Return the index of each GeoTIFF by product and layer, what was copied, and the paths of the copies.

    Copies that are there already, and whole, are used again.

    Raises:
        InvalidParameter: no upstream covers the place of the copies.
        InvalidReference: some cannot be copied; the message names them.
        OSError: a copy cannot be written.
    """
    copies = copies_of(plan)
    moving = [each for each in placements if each.layout is not None]
    if moving:
        _require_readable(copies, upstreams)

    async def copy(placement: Placement) -> tuple[Path, Index] | CubegateError:
        try:
            return await _copy(plan, placement, grid, upstreams)
        except CubegateError as error:
            return error

    made = await run_all(
        map(copy, moving),
        in_flight=_COPIES,
        report=lambda done, total: progress("Copying onto the common grid", done, total),
    )
    names = [f"{each.source.product}_{each.source.layer}" for each in moving]
    refuse(
        "GeoTIFFs cannot be brought onto the common grid",
        {name: str(each) for name, each in zip(names, made, strict=True) if isinstance(each, CubegateError)},
    )
    indexes = {
        (each.source.product, each.source.layer): each.source.index
        for each in placements
        if each.layout is None and each.source.index is not None
    }
    paths = []
    for placement, each in zip(moving, made, strict=True):
        assert not isinstance(each, CubegateError)  # noqa: S101 - they were refused
        paths.append(each[0])
        indexes[placement.source.product, placement.source.layer] = each[1]
    copied = [Copied(each.source.product, each.source.layer, each.reason) for each in moving]
    return _of_one_mapping(indexes), copied, paths


async def _copy(plan: Plan, placement: Placement, grid: Grid, upstreams: Upstreams) -> tuple[Path, Index]:
    source, copies = placement.source, copies_of(plan)
    assert placement.layout is not None  # noqa: S101 - the caller chose them so
    local = local_path(source.url) or await fetch(source.url, upstreams, copies)
    copy = Copy(local, source.validator, source.layer, grid, placement.layout, placement.warped)
    path = await asyncio.to_thread(make_copy, copy, copies)
    part = Part(path.name, path.as_uri(), _NO_TIME)
    index = await read_part(plan, part, upstreams, upstreams.check)
    if isinstance(index, CubegateError):
        raise index
    return path, index


def _require_readable(copies: Path, upstreams: Upstreams) -> None:
    url = f"{copies.as_uri()}/copy.tif"
    try:
        upstreams.check(url)
    except UpstreamRefused:
        raise InvalidParameter(
            "output",
            f"GeoTIFFs must be copied to {copies}, where a server reads them, and no upstream covers it.",
            accepted=f'an output below an upstream; add "{copies.parent.as_uri()}/": {{}} to upstreams',
        ) from None


def _of_one_mapping(indexes: Mapping[tuple[str, str], Index]) -> dict[tuple[str, str], Index]:
    """Return `indexes` with one and the same words for their grid mappings, which mean the same."""
    said: dict[tuple[str, object], StoredArray] = {}
    found = {}
    for key, index in indexes.items():
        content, arrays = index.content, dict(index.content.arrays)
        for path, stored in content.arrays.items():
            if path.rpartition("/")[2] == "spatial_ref":
                arrays[path] = said.setdefault((path, stored.attributes["GeoTransform"]), stored)
        found[key] = Index(replace(content, arrays=arrays))
    return found


def remove_unused(plan: Plan, used: Sequence[str]) -> None:
    """Remove those copies of a finished cube that none of the addresses `used` names."""
    copies = copies_of(plan)
    if not copies.is_dir():
        return
    kept = {path for path in map(local_path, used) if path is not None}
    for path in sorted(copies.iterdir()):
        if path.is_dir() and path.name.startswith(("zip-", "fetched-")):
            if not any(path in each.parents for each in kept):
                shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".tif" and path not in kept:
            path.unlink(missing_ok=True)
    if not any(copies.iterdir()):
        copies.rmdir()
