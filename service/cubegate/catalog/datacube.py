"""A datacube as opened: one collection's store, its datasets and its Zarr documents."""

from __future__ import annotations

import asyncio
from functools import partial

import xarray as xr

from cubegate.catalog.collection import Collection
from cubegate.catalog.deriving import CubeGrids, by_group
from cubegate.catalog.overviews import Overviews
from cubegate.derived.making import derive
from cubegate.errors import ConfigurationError, InvalidMetadata, NotFound
from cubegate.query.budget import Limits, Plan, plan_query
from cubegate.query.filtering import AnyQuery
from cubegate.query.grid import find_crs_of
from cubegate.query.in_thread import in_thread
from cubegate.query.position import PositionQuery
from cubegate.query.variables import GridSettings
from cubegate.store.backend import describe_dataset, open_dataset
from cubegate.store.bridge import LoopThread
from cubegate.store.documents import ZarrDocuments, plain_hierarchy
from cubegate.store.encoded import EncodedStore
from cubegate.tiling.layers import Source


class Datacube:
    """One mounted cube."""

    def __init__(
        self,
        collection: Collection,
        store: EncodedStore,
        bridge: LoopThread,
        notes: tuple[str, ...] = (),
        overviews: Overviews | None = None,
    ) -> None:
        self.collection = collection
        self._overviews = overviews
        self.store = store
        self._notes = notes
        self._bridge = bridge
        self._derived = by_group(collection.derived)
        self._derived_notes: dict[str, tuple[str, ...]] = {}
        self._datasets: dict[str, xr.Dataset] = {}
        self._documents: dict[bool, ZarrDocuments] = {}

    @property
    def id(self) -> str:
        """The collection's id, without a version."""
        return self.collection.id

    @property
    def title(self) -> str:
        """The collection's title, or its id."""
        return self.collection.title or self.collection.id

    @property
    def version(self) -> str:
        """The content hash of the store."""
        return self.store.version

    @property
    def notes(self) -> tuple[str, ...]:
        """What the operator should know: what was assumed when the cube was opened."""
        beside = None if self._overviews is None else self._overviews.note
        derived = (note for notes in self._derived_notes.values() for note in notes)
        return (*self._notes, *derived, *([] if beside is None else [beside]))

    @property
    def immutable(self) -> bool:
        """Whether nothing that is read can change while the version stays."""
        return self.store.immutable

    @property
    def identity(self) -> str:
        """All that answers are made of, beside the query: the configuration and the version."""
        return f"{self.collection.model_dump_json(exclude={'overviews'})}\n{self.version}"

    @property
    def picture_identity(self) -> str:
        """All that pictures are made of, beside the query: their overviews too."""
        return f"{self.identity}\n{'' if self._overviews is None else self._overviews.version}"

    def refresh_overviews(self) -> None:
        """See to it that overviews which were built, replaced or removed are noticed; waits for nothing."""
        if self._overviews is not None:
            self._overviews.refresh()

    async def find_overviews(self) -> None:
        """Open the overviews that the collection file names, if there are any.

        Raises:
            UpstreamRefused: no upstream covers their address.
        """
        if self._overviews is not None:
            await self._overviews.look()

    async def sidecar(self, group: str) -> tuple[Source, str] | None:
        """Return the cube of the overviews of a group, and the group there that tells them; None without."""
        found = None if self._overviews is None else self._overviews.found
        return None if found is None else (found.cube, f"{found.root}/{group.strip('/')}".strip("/"))

    @property
    def grid_settings(self) -> GridSettings:
        """The CRS, and the names of the x, y and time dimensions, where the configuration gives them."""
        names = self.collection.dimensions
        return GridSettings(self.collection.crs, names.x, names.y, names.time)

    async def dataset(self, group: str = "") -> xr.Dataset:
        """Return the lazily read, CF-decoded dataset of one group, with its derived variables.

        Raises:
            NotFound: there is no such group.
            ConfigurationError: a derived variable does not fit the dataset.
            InvalidMetadata: the group's arrays do not form a dataset.
            UpstreamError: a coordinate cannot be read.
        """
        group = group.strip("/")
        if group not in self._datasets:
            stored = await open_dataset(self.store, self._bridge, group=group)
            self._datasets[group] = await self._with_derived(group, stored)
        return self._datasets[group]

    async def _with_derived(self, group: str, stored: xr.Dataset) -> xr.Dataset:
        wanted = self._derived.get(group)
        if not wanted:
            return stored
        prefix = f"derived.{group}/" if group else "derived."
        work = partial(derive, stored, wanted, CubeGrids(self.grid_settings), self._bridge, prefix)
        dataset, self._derived_notes[group] = await in_thread(work)
        return dataset

    async def open_derived(self) -> None:
        """Open the groups that have derived variables, so that nothing is wrong with these at a query.

        Raises:
            ConfigurationError: one does not fit its dataset, or has none.
            UpstreamError: a coordinate cannot be read.
        """
        for group, wanted in self._derived.items():
            try:
                await self.dataset(group)
            except (NotFound, InvalidMetadata) as error:
                first = "/".join(part for part in (group, next(iter(wanted))) if part)
                raise ConfigurationError(
                    str(error).rstrip("."), key=f"derived.{first}", mend="Name it after a group: group/name."
                ) from None

    async def plan(self, group: str, query: AnyQuery, limits: Limits) -> Plan:
        """Make a query of one group ready and price it; see `plan_query`.

        Raises:
            NotFound, InvalidMetadata, UpstreamError: as `dataset`.
            InvalidParameter: a part of the query does not fit the dataset.
            CorruptIndex: the part of the index that would tell the price is damaged.
        """
        dataset = await self.dataset(group)
        if isinstance(query, PositionQuery) and not query.points.many:
            # one point is found sooner than a thread
            return plan_query(dataset, self.grid_settings, query, limits)
        return await in_thread(partial(plan_query, dataset, self.grid_settings, query, limits))

    def dataset_now(self, group: str = "") -> xr.Dataset:
        """Return the dataset of one group to a caller outside the event loop; blocks."""
        return self._bridge.run(self.dataset(group))

    async def documents(self, *, plain: bool = False) -> ZarrDocuments:
        """Return the Zarr documents of the cube; with `plain`, of its form without codecs."""
        if plain not in self._documents:
            hierarchy = plain_hierarchy(self.store.hierarchy) if plain else self.store.hierarchy
            self._documents[plain] = await asyncio.to_thread(ZarrDocuments, hierarchy, self.crs_of_arrays())
        return self._documents[plain]

    def crs_of_arrays(self) -> dict[str, str]:
        """Return the CRS of each georeferenced array, as WKT, by path."""
        found: dict[str, str] = {}
        settings = self.grid_settings
        for group in self.store.hierarchy.groups:
            try:
                dataset = describe_dataset(self.store, group)
            except InvalidMetadata:
                # its arrays are served as Zarr all the same, only without _CRS
                continue
            for name in map(str, dataset.data_vars):
                crs = find_crs_of(dataset, name, crs=settings.crs, x=settings.x, y=settings.y)
                if crs is not None:
                    found[f"{group}/{name}".strip("/")] = crs.to_wkt()
        return found
