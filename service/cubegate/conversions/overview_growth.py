"""Finds overviews of a version that had fewer dates, whose values are surely those of the first ones now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from cubegate.archives.update import why_not_appended
from cubegate.catalog.catalog import file_of_version, local_path
from cubegate.catalog.collection import Configured
from cubegate.catalog.datacube import Datacube
from cubegate.catalog.overviews_record import OverviewsRecord, read_overviews_record
from cubegate.conversions.overview_plan import Coordinates
from cubegate.conversions.overview_store import OverviewStore, lead_coordinates
from cubegate.errors import CubegateError
from cubegate.index.file import open_index
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.rechunk.overview_building import Piece
from cubegate.rechunk.overview_layout import Pyramid
from cubegate.rechunk.zarr_target import in_own_words

# of the documents of two arrays whose objects are of one form
_SAME = ("data_type", "fill_value", "codecs", "chunk_grid", "chunk_key_encoding", "dimension_names")


@dataclass(frozen=True, eq=False)
class Earlier:
    """Overviews of an earlier version; `dates` says how many of the first dates they have, by variable."""

    version: str
    store: Store
    root: str
    dates: Mapping[str, int]

    def has(self, piece: Piece) -> bool:
        """Tell whether all of a piece can be copied."""
        pyramid, block = piece
        along = list(pyramid.lead).index(pyramid.grid.time_dim or "") if pyramid.path in self.dates else None
        return along is not None and block[along].stop <= self.dates[pyramid.path]

    def copy_to(self, target: OverviewStore, progress: Progress) -> None:
        """Copy all that there is, as it is stored.

        Raises:
            RechunkFailed: something is not there, or is another one when read again.
        """
        for pyramid in target.pyramids:
            if pyramid.path in self.dates:
                for level in range(1, pyramid.levels + 1):
                    target.copy(
                        pyramid, level, self.store, _path(self.root, target, pyramid, level), progress
                    )


def find_earlier(
    place: tuple[Configured, Callable[[str], Store]],
    cube: Datacube,
    target: OverviewStore,
    record: OverviewsRecord,
    coordinates: Coordinates,
) -> Earlier | None:
    """Return the overviews of which most dates can be copied; None where there are none.

    That a version had the same values is known of an index alone, which `cubegate update` has kept: all its
    chunks are those of the same granules in the same state. What is derived is made anew, as it may depend on
    later dates.
    """
    configured, opened = place
    now = cube.store.locator
    if not isinstance(now, Index):
        return None
    found: list[Earlier] = []
    for version, index in _kept(configured, cube.version):
        store = opened(version)
        before = read_record(store)
        if before is None or before.version != version:
            continue
        dates: dict[str, int] = {}
        for pyramid in target.pyramids:
            path = pyramid.path
            if (
                path not in cube.store.hierarchy.arrays
                or before.variables.get(path) != record.variables[path]
            ):
                continue
            if why_not_appended(index, now, pyramid.grid.time_dim or "") is None:
                count = _dates_alike(store, before.root, target, pyramid, coordinates)
                if count:
                    dates[path] = count
        if dates:
            found.append(Earlier(version, store, before.root, dates))
    return max(found, key=lambda each: sum(each.dates.values()), default=None)


def read_record(store: Store) -> OverviewsRecord | None:
    """Return the record of a store of overviews; None where there is none."""
    with in_own_words():
        try:
            return read_overviews_record(zarr.open_group(store, mode="r", zarr_format=3).attrs.asdict())
        except (FileNotFoundError, ValueError):
            # nothing, or something that was cut short
            return None


def _kept(configured: Configured, version: str) -> Iterator[tuple[str, Index]]:
    """Yield the indexes of other versions that lie beside that of a cube."""
    source = configured.collection.source
    path = local_path(source.href, configured.file) if source.kind == "index" else None
    if path is None:
        return
    for file in sorted(path.parent.glob(f"{escape(path.stem)}.*{path.suffix}")):
        other = file.name[len(path.stem) + 1 : -len(path.suffix)]
        if other == version or file_of_version(configured, other) != file:
            continue
        try:
            index = open_index(file)
        except (CubegateError, OSError):
            # it may be of another program, or damaged
            continue
        if index.version == other:
            yield other, index


def _dates_alike(
    store: Store, root: str, target: OverviewStore, pyramid: Pyramid, coordinates: Coordinates
) -> int:
    """Return how many dates the overviews of another store have, if they are the first here; else 0."""
    time = pyramid.grid.time_dim
    if time is None or time not in pyramid.lead:
        return 0
    along = list(pyramid.lead).index(time)
    count = 0
    for level in range(1, pyramid.levels + 1):
        path = _path(root, target, pyramid, level)
        mine, other = target.document(target.path(pyramid, level)), _document(store, path)
        if other is None or any(mine[key] != other.get(key) for key in _SAME):
            return 0
        count = other["shape"][along]
        if mine["shape"][:along] + mine["shape"][along + 1 :] != [
            size for number, size in enumerate(other["shape"]) if number != along
        ]:
            return 0
        group = path.rpartition("/")[0]
        for name in lead_coordinates(pyramid):
            array, values = coordinates[f"{pyramid.group}/{name}".strip("/")]
            grows = array.dimension_names == (time,)
            with in_own_words():
                known = np.asarray(zarr.open_array(store, path=f"{group}/{name}", mode="r", zarr_format=3)[:])
            if not np.array_equal(known, values[:count] if grows else values):
                return 0
    return int(count)


def _path(root: str, target: OverviewStore, pyramid: Pyramid, level: int) -> str:
    return target.path(pyramid, level).replace(target.root, root, 1)


def _document(store: Store, path: str) -> dict[str, Any] | None:
    with in_own_words():
        found = sync(store.get(f"{path}/zarr.json", default_buffer_prototype()))
    try:
        document = None if found is None else json.loads(found.to_bytes())
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
