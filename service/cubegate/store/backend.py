"""The xarray side of a cube: lazily read, CF-decoded datasets over an encoded store."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.coders import CFTimedeltaCoder
from xarray.core import indexing

from cubegate.errors import InvalidMetadata, NotFound
from cubegate.index.metadata import ArrayMetadata
from cubegate.store.bridge import LoopThread
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray

logger = logging.getLogger(__name__)

MAX_EAGER_NBYTES = 16 * 2**20


class LazyArray(BackendArray):
    """An array that xarray indexes lazily and our reader reads."""

    def __init__(self, array: EncodedArray, bridge: LoopThread) -> None:
        self._array = array
        self._bridge = bridge
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return self._bridge.run(self.async_getitem(key))

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Read what `key` selects; called by `load_async`."""
        if isinstance(key, indexing.VectorizedIndexer):
            return await self._array.read_points(key.tuple)
        return await self._array.read(key.tuple)


def describe_dataset(store: EncodedStore, group: str) -> xr.Dataset:
    """Return the dataset of one group with dimensions and attributes as stored, and nothing read.

    Its values are stand-ins: ascending where they are coordinates, zero elsewhere.

    Raises:
        InvalidMetadata: its arrays disagree on the size of a dimension.
    """
    arrays = _arrays_with_dimensions(store, group)
    return xr.Dataset(
        {
            array.name: xr.Variable(array.dimension_names or (), _stand_in(array), dict(array.attributes))
            for array in arrays
        }
    )


def _stand_in(array: ArrayMetadata) -> NDArray[np.float64]:
    if array.dimension_names == (array.name,):
        return np.linspace(0, 1, array.shape[0])
    return np.broadcast_to(0.0, array.shape)


async def open_dataset(store: EncodedStore, bridge: LoopThread, *, group: str = "") -> xr.Dataset:
    """Open one group as a dataset: coordinates in memory, everything else lazy.

    Every variable has its `EncodedArray` as `encoding["encoded_array"]`.

    Raises:
        NotFound: there is no such group.
        InvalidMetadata: its arrays disagree on the size of a dimension.
        UpstreamError: a coordinate cannot be read.
    """
    if group not in store.hierarchy.groups:
        known = ", ".join(sorted(path or "/" for path in store.hierarchy.groups))
        raise NotFound(f"There is no group {group!r}. Groups: {known}.")
    arrays = _arrays_with_dimensions(store, group)
    loaded = dict(zip(
        [array.name for array in arrays],
        await asyncio.gather(*[_variable(store, bridge, array) for array in arrays]),
        strict=True,
    ))  # fmt: skip
    # building indexes and decoding times look at values, which may read
    return await asyncio.to_thread(_decode, loaded, dict(store.hierarchy.groups[group].attributes))


def _arrays_with_dimensions(store: EncodedStore, group: str) -> list[ArrayMetadata]:
    arrays = [array for array in store.hierarchy.arrays_in(group) if array.dimension_names is not None]
    sizes: dict[str, tuple[int, str]] = {}
    for array in arrays:
        for name, size in zip(array.dimension_names or (), array.shape, strict=True):
            known = sizes.setdefault(name, (size, array.path))
            if known[0] != size:
                raise InvalidMetadata(
                    f"Dimension {name!r} has size {known[0]} in array {known[1]!r} and {size} in "
                    f"{array.path!r}, so the group is no dataset; its arrays are served as Zarr only."
                )
    return arrays


async def _variable(store: EncodedStore, bridge: LoopThread, array: ArrayMetadata) -> xr.Variable:
    encoded = EncodedArray(store, array)
    attributes = dict(array.attributes)
    if array.declared_fill is not None:
        attributes["_FillValue"] = array.declared_fill
    dimensions = array.dimension_names or ()
    data: Any
    if _is_eager(array):
        data = await encoded.read([slice(None)] * len(array.shape))
    else:
        data = indexing.LazilyIndexedArray(LazyArray(encoded, bridge))
    variable = xr.Variable(dimensions, data, attributes)
    variable.encoding = {
        "encoded_array": encoded,
        "preferred_chunks": dict(zip(dimensions, array.chunk_shape, strict=True)),
    }
    return variable


def _is_eager(array: ArrayMetadata) -> bool:
    names = array.dimension_names or ()
    if array.chunk_count * array.chunk_nbytes > MAX_EAGER_NBYTES:
        return False
    is_time = "since" in str(array.attributes.get("units", "")) and len(names) <= 1
    return names == (array.name,) or not names or is_time


def _decode(variables: dict[str, xr.Variable], attributes: dict[str, Any]) -> xr.Dataset:
    raw = xr.Dataset(variables, attrs=attributes)
    # whole days that are missing are -2**63 to xarray, which also takes days for timedelta64 in some releases
    durations: dict[str, bool | CFTimedeltaCoder] = {
        name: CFTimedeltaCoder() if _is_timedelta(variable) else False for name, variable in variables.items()
    }
    try:
        return xr.decode_cf(raw, decode_timedelta=durations)
    except (ValueError, OverflowError) as error:
        logger.warning("times are left as numbers, since they cannot be decoded: %s", type(error).__name__)
        return xr.decode_cf(raw, decode_times=False, decode_timedelta=durations)


def _is_timedelta(variable: xr.Variable) -> bool:
    """Tell whether xarray wrote the variable, and marked its values as timedelta64."""
    return str(variable.attrs.get("dtype", "")).startswith("timedelta64")
