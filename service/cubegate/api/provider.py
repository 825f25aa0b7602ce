"""The xpublish dataset provider: lets any other xpublish plugin use the same lazily read datasets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr
from pydantic import PrivateAttr
from xpublish.plugins.hooks import Plugin, hookimpl

from cubegate.catalog.catalog import Catalog
from cubegate.errors import NotFound
from cubegate.store.bridge import LoopThread


class DatasetProvider(Plugin):
    """Provides the root dataset of every cube in the catalog."""

    name: str = "cubegate-datasets"
    _catalog: Catalog = PrivateAttr()
    _bridge: LoopThread = PrivateAttr()

    def __init__(self, catalog: Catalog, bridge: LoopThread, **data: Any) -> None:
        super().__init__(**data)
        self._catalog, self._bridge = catalog, bridge

    @hookimpl
    def get_datasets(self) -> Iterable[str]:
        """Return all dataset ids."""
        return self._catalog.ids()

    @hookimpl
    def get_dataset(self, dataset_id: str) -> xr.Dataset | None:
        """Return a copy of the dataset, since xpublish writes into its attributes.

        Raises:
            NotFound: it is combined of others, which are no one dataset.
        """
        try:
            self._bridge.run(self._catalog.get(dataset_id))
        except NotFound:
            return None
        cube = self._bridge.run(self._catalog.stored(dataset_id))
        return cube.dataset_now().copy(deep=False)
