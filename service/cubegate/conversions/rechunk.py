"""Composes a rechunk: the cube as it is configured, its layouts, and what is written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import xarray as xr
from zarr.storage import LocalStore

from cubegate.catalog.datacube import Datacube
from cubegate.conversions.cube import opened_cube
from cubegate.conversions.outputs import open_output
from cubegate.errors import InvalidMetadata, InvalidParameter, NotFound
from cubegate.index.metadata import Hierarchy, restricted
from cubegate.rechunk.blocks import CubeBlocks, Target
from cubegate.rechunk.copying import Endpoints
from cubegate.rechunk.layout import Layout, Purpose, lay_out
from cubegate.rechunk.netcdf_target import NetCDFTarget
from cubegate.rechunk.zarr_target import ZarrTarget, cut
from cubegate.settings import Settings, load_settings

Form = Literal["zarr", "zarr2", "netcdf"]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be written: all that a worker elsewhere needs to know, and no secret.

    `output` is a path or an s3 URL, `between` where transposed arrays rest meanwhile; `variables` None
    are all.
    """

    config: Path
    dataset: str
    output: str
    form: Form
    chunks: Purpose | Mapping[str, int]
    variables: tuple[str, ...] | None
    between: str


@dataclasses.dataclass(frozen=True)
class Opened:
    """A rechunk made ready; `hierarchy` is that of the source, without what is left out."""

    hierarchy: Hierarchy
    layouts: Mapping[str, Layout]
    endpoints: Endpoints


@contextmanager
def opened_rechunk(wanted: Wanted) -> Iterator[Opened]:
    """Open the source and the target of `wanted`; nothing is written yet, but the file of a netCDF.

    Raises:
        NotFound: there is no such dataset or variable.
        NotRepresentable: an array has no form in what is to be written.
        ConfigurationError, UpstreamError: the cube cannot be opened.
    """
    settings = load_settings(wanted.config, os.environ)
    with opened_cube(settings, wanted.dataset) as opened:
        cube, bridge = opened.cube, opened.bridge
        hierarchy = _wanted_arrays(cube, wanted)
        layouts = bridge.run(_layouts(cube, hierarchy, wanted))
        target = _target(cube, hierarchy, layouts, wanted, settings)
        between = _between(hierarchy, layouts, wanted.between)
        endpoints = Endpoints(CubeBlocks(cube.store, bridge), target, between)
        yield Opened(hierarchy, layouts, endpoints)


@contextmanager
def opened_endpoints(wanted: Wanted) -> Iterator[Endpoints]:
    """Open what a worker of a cluster reads and writes; see `opened_rechunk`."""
    with opened_rechunk(wanted) as opened:
        yield opened.endpoints


def _wanted_arrays(cube: Datacube, wanted: Wanted) -> Hierarchy:
    hierarchy = cube.store.hierarchy
    if wanted.variables is not None:
        hierarchy = restricted(hierarchy, wanted.variables)
    if not hierarchy.arrays:
        raise NotFound(f"{wanted.dataset} has no array that could be written.")
    if not isinstance(wanted.chunks, str):
        known = {name for array in hierarchy.arrays.values() for name in array.dimension_names or ()}
        for name in wanted.chunks:
            if name not in known:
                raise InvalidParameter(
                    "chunks", f"There is no dimension {name!r}.", accepted=", ".join(sorted(known))
                )
    return hierarchy


async def _layouts(cube: Datacube, hierarchy: Hierarchy, wanted: Wanted) -> dict[str, Layout]:
    layouts: dict[str, Layout] = {}
    for group in hierarchy.groups:
        arrays = list(hierarchy.arrays_in(group))
        if not arrays:
            continue
        try:
            dataset = await cube.dataset(group)
        except InvalidMetadata:
            # its arrays are Zarr all the same
            dataset = xr.Dataset()
        for array in arrays:
            layouts[array.path] = lay_out(array, wanted.chunks, _time_of(cube, dataset, array.name))
    return layouts


def _time_of(cube: Datacube, dataset: xr.Dataset, name: str) -> str | None:
    if name not in dataset.variables:
        return None
    try:
        return cube.grid_settings.find(dataset, name).time_dim
    except InvalidParameter:
        return None


def _target(
    cube: Datacube, hierarchy: Hierarchy, layouts: Mapping[str, Layout], wanted: Wanted, settings: Settings
) -> Target:
    if wanted.form == "netcdf":
        return NetCDFTarget(Path(wanted.output), hierarchy, layouts)
    zarr_format: Literal[2, 3] = 2 if wanted.form == "zarr2" else 3
    arrays = {path: cut(array, layouts[path], zarr_format) for path, array in hierarchy.arrays.items()}
    store = open_output(wanted.output, settings, os.environ)
    return ZarrTarget(store, zarr_format, dataclasses.replace(hierarchy, arrays=arrays), cube.crs_of_arrays())


def _between(hierarchy: Hierarchy, layouts: Mapping[str, Layout], path: str) -> ZarrTarget | None:
    """The store in which arrays rest that are transposed, in chunks that both passes read and write whole."""
    arrays = {
        name: cut(hierarchy.arrays[name], Layout(layout.between, layout.between, layout.read), 2)
        for name, layout in layouts.items()
        if layout.between is not None
    }
    if not arrays:
        return None
    return ZarrTarget(LocalStore(Path(path)), 2, dataclasses.replace(hierarchy, arrays=arrays))
