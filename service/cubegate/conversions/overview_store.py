"""The store that overviews are written to: its arrays and groups, and what it holds from before."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from cubegate.catalog.overviews_record import OverviewsRecord
from cubegate.errors import InvalidParameter, RechunkFailed, UpstreamError
from cubegate.index.builders.geotiff import MULTISCALES
from cubegate.index.metadata import ArrayMetadata, CodecsV2, GroupMetadata, Hierarchy, with_parents
from cubegate.index.progress import Progress
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.query.cube import REFERRING
from cubegate.rechunk.coarsening import CELL_METHODS
from cubegate.rechunk.layout import Layout, Region, Sizes
from cubegate.rechunk.overview_layout import Pyramid, coarse_centres
from cubegate.rechunk.zarr_target import ZarrTarget, cut, in_own_words
from cubegate.store.decoder import decode

# what is not true of larger cells, or is said anew
_LEFT_OUT = frozenset({*REFERRING, "coordinates", "grid_mapping", "actual_range", "_CRS", "GeoTransform"})
_PACKED = frozenset({"valid_min", "valid_max", "valid_range"})

Values = Mapping[str, NDArray[Any]]


class OverviewStore(ZarrTarget):
    """The overviews of `pyramids` in a store; `record` names the group that holds them.

    `coordinates` are the stored arrays along dimensions other than y and x, by path in the cube, with the
    values that are kept of them.
    """

    def __init__(
        self,
        store: Store,
        record: OverviewsRecord,
        pyramids: Sequence[Pyramid],
        coordinates: Mapping[str, tuple[ArrayMetadata, NDArray[Any]]],
    ) -> None:
        self.root, self.pyramids = record.root, tuple(pyramids)
        arrays: dict[str, ArrayMetadata] = {}
        self._small: dict[str, NDArray[Any]] = {}
        for pyramid in pyramids:
            for level in range(1, pyramid.levels + 1):
                path = self.path(pyramid, level)
                arrays[path] = cut(_overview(pyramid, path, level), pyramid.layout(level), 3)
                group = path.rpartition("/")[0]
                for made, values in _described(pyramid, group, level, coordinates):
                    arrays[made.path] = cut(made, Layout(made.shape, made.shape, made.shape), 3)
                    self._small[made.path] = values
        groups = {"": GroupMetadata("", record.attributes())} | _multiscales(self.root, pyramids)
        super().__init__(store, 3, Hierarchy(with_parents(groups, arrays), arrays), _crs_of(self, pyramids))
        self._arrays, self._objects = arrays, store

    def path(self, pyramid: Pyramid, level: int) -> str:
        """Return the path of the overviews of one level."""
        return f"{_group(self.root, pyramid, level)}/{pyramid.name}"

    def document(self, path: str) -> dict[str, Any]:
        """Return the document of one array."""
        document = self._documents.get(f"{path}/zarr.json")
        found: dict[str, Any] = {} if document is None else json.loads(document.body)
        return found

    def write_small(self) -> None:
        """Write the coordinates."""
        for path, values in self._small.items():
            self.write(path, tuple(slice(0, size) for size in values.shape), values)

    @property
    def is_begun(self) -> bool:
        """Whether some of it may be there already, from a build that was interrupted."""
        with in_own_words():
            return any(sync(self._objects.exists(f"{path}/zarr.json")) for path in list(self._arrays)[:1])

    def holds(self, path: str, region: Region) -> bool:
        """Tell whether a region was written whole, and can be read."""
        array = parse_array_v3(path, self.document(path))
        keys = list(_keys(array, region))
        prototype = default_buffer_prototype()
        with in_own_words():
            if not all(sync(self._objects.exists(f"{path}/{key}")) for key in keys):
                return False
            for key in keys:
                found = sync(self._objects.get(f"{path}/{key}", prototype))
                try:
                    # zarr's own codecs do not notice all that is cut short
                    decode(array, b"" if found is None else found.to_bytes())
                except UpstreamError:
                    return False
        return True

    def copy(self, pyramid: Pyramid, level: int, store: Store, source: str, progress: Progress) -> None:
        """Copy all objects of an array of another store, of the same shards, whose dates are the first here.

        Raises:
            RechunkFailed: one is not there, or is another one when read again.
        """
        path = self.path(pyramid, level)
        earlier = zarr.open_array(store, path=source, mode="r", zarr_format=3)
        whole = tuple(slice(0, size) for size in earlier.shape)
        keys = list(_keys(self._arrays[path], whole))
        prototype = default_buffer_prototype()
        for done, key in enumerate(keys, start=1):
            with in_own_words():
                found = sync(store.get(f"{source}/{key}", prototype))
                if found is None:
                    raise RechunkFailed(
                        f"Copying {source}/{key} of the overviews before failed: it is not there."
                    )
                sync(self._objects.set(f"{path}/{key}", found))
                again = sync(self._objects.get(f"{path}/{key}", prototype))
            if again is None or again.to_bytes() != found.to_bytes():
                raise RechunkFailed(f"Copying {source}/{key} failed: it reads back differently.")
            progress(f"Copying {path.rpartition('/')[0].rpartition('/')[2]}", done, len(keys))


def _group(root: str, pyramid: Pyramid, level: int) -> str:
    return "/".join(part for part in (root, pyramid.group, f"overview_{2**level}") if part)


def _keys(array: ArrayMetadata, region: Region) -> Iterator[str]:
    ranges = [
        range(each.start // size, -(-each.stop // size))
        for each, size in zip(region, array.chunk_shape, strict=True)
    ]
    return ("/".join(("c", *map(str, chunk))) for chunk in itertools.product(*ranges))


def _array(
    path: str, dtype: np.dtype[Any], dims: Sequence[str], shape: Sizes, attributes: Mapping[str, Any]
) -> ArrayMetadata:
    fill = dtype.type("nan") if dtype.kind == "f" else None
    return ArrayMetadata(path, shape, shape, dtype, tuple(dims), dict(attributes), fill, None, CodecsV2(), {})


def _overview(pyramid: Pyramid, path: str, level: int) -> ArrayMetadata:
    variable = pyramid.variable
    packed = {"scale_factor", "add_offset"} & variable.encoding.keys()
    attributes = {
        key: _plain(value)
        for key, value in variable.attrs.items()
        if key not in _LEFT_OUT and not (packed and key in _PACKED)
    }
    methods = [attributes.get("cell_methods"), CELL_METHODS[pyramid.resampling]]
    attributes["cell_methods"] = " ".join(str(each) for each in methods if each)
    attributes["overview_resampling"] = pyramid.resampling
    if pyramid.grid.mapping is not None:
        attributes["grid_mapping"] = pyramid.grid.mapping
    return _array(path, pyramid.dtype, pyramid.dims, pyramid.shape(level), attributes)


def _described(
    pyramid: Pyramid,
    group: str,
    level: int,
    coordinates: Mapping[str, tuple[ArrayMetadata, NDArray[Any]]],
) -> Iterator[tuple[ArrayMetadata, NDArray[Any]]]:
    """Yield the coordinates and the grid mapping of one level, with their values."""
    grid = pyramid.grid
    for axis in (grid.y, grid.x):
        centres = coarse_centres(axis, level)
        yield _array(f"{group}/{axis.name}", centres.dtype, (axis.name,), centres.shape,
                     _kept(pyramid, axis.name)), centres  # fmt: skip
    if grid.mapping is not None:
        nothing = np.zeros((), np.int32)
        yield _array(f"{group}/{grid.mapping}", nothing.dtype, (), (), _kept(pyramid, grid.mapping)), nothing
    for name in lead_coordinates(pyramid):
        array, values = coordinates[f"{pyramid.group}/{name}".strip("/")]
        yield dataclasses.replace(array, path=f"{group}/{name}", shape=values.shape), values


def _kept(pyramid: Pyramid, name: str) -> dict[str, Any]:
    attributes = pyramid.dataset.variables[name].attrs
    return {key: _plain(value) for key, value in attributes.items() if key not in _LEFT_OUT}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def lead_coordinates(pyramid: Pyramid) -> list[str]:
    """Return the names of the coordinates along the dimensions of a variable but y and x."""
    grid, known = pyramid.grid, pyramid.dataset.variables
    names = [name for name in pyramid.lead if name in known]
    if grid.time is not None and grid.time_dim in pyramid.lead and grid.time not in names:
        names.append(grid.time)
    return names


def lead_coordinate(
    pyramid: Pyramid, name: str, hierarchy: Hierarchy
) -> tuple[ArrayMetadata, NDArray[np.intp]]:
    """Return a coordinate as it is stored in the cube, and the positions that are kept of it.

    Raises:
        InvalidParameter: it is not stored as one value for each position.
    """
    array = hierarchy.arrays.get(f"{pyramid.group}/{name}".strip("/"))
    dims = () if array is None else array.dimension_names or ()
    if array is None or len(dims) != 1 or dims[0] not in pyramid.lead:
        raise InvalidParameter(
            "variables",
            f"The coordinate {name!r} is not stored along one dimension.",
            accepted="other variables",
        )
    return array, pyramid.lead[dims[0]]


def _multiscales(root: str, pyramids: Sequence[Pyramid]) -> dict[str, GroupMetadata]:
    """Tell the levels of each group as the Zarr convention of that name does; the first one is the finest."""
    most: dict[str, int] = {}
    for pyramid in pyramids:
        most[pyramid.group] = max(pyramid.levels, most.get(pyramid.group, 0))
    groups = {}
    for group, levels in most.items():
        layout: list[dict[str, Any]] = [{"asset": "overview_2", "transform": {"scale": [1.0, 1.0]}}]
        layout += [
            {"asset": f"overview_{2**level}", "derived_from": "overview_2",
             "transform": {"scale": [2.0 ** (level - 1)] * 2}}
            for level in range(2, levels + 1)
        ]  # fmt: skip
        path = f"{root}/{group}".strip("/")
        attributes = {"zarr_conventions": [MULTISCALES], "multiscales": {"layout": layout}}
        groups[path] = GroupMetadata(path, attributes)
    return groups


def _crs_of(store: OverviewStore, pyramids: Sequence[Pyramid]) -> dict[str, str]:
    return {
        store.path(pyramid, level): pyramid.grid.crs.to_wkt()
        for pyramid in pyramids
        for level in range(1, pyramid.levels + 1)
        if pyramid.grid.crs is not None
    }
