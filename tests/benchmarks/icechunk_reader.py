"""Reader (c): an Icechunk repository of virtual chunks, at a concurrency of 128.

Its granules are objects of S3, since Icechunk 1.1 forgets the port of an HTTP server. Each chunk is one request:
by default Icechunk divides it into five.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr
import zarr
from zarr.codecs.numcodecs import Shuffle, Zlib

from .stack import CHUNK, VARIABLES, Stack, axes, axis_attributes, time_attributes, variable_attributes
from .subject import Measurements, run
from .xarray_queries import measure_queries

BRANCH = "main"
BUCKET = "granules"
PREFIX = f"s3://{BUCKET}/"


def write_repository(path: Path, stack: Stack, endpoint_url: str) -> None:
    """Write a repository whose chunks are ranges of the granules in a bucket at `endpoint_url`."""
    # it warns of concurrent commits, of which there are none
    icechunk.set_logs_filter("error")
    config = icechunk.RepositoryConfig.default()
    store = icechunk.s3_store(
        region="us-east-1", endpoint_url=endpoint_url, anonymous=True, allow_http=True, force_path_style=True
    )
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(PREFIX, store))
    config.storage = icechunk.StorageSettings(
        concurrency=icechunk.StorageConcurrencySettings(
            max_concurrent_requests_for_object=1, ideal_concurrent_request_size=16 * 2**20
        )
    )
    storage = icechunk.local_filesystem_storage(str(path))
    repository = icechunk.Repository.create(storage, config, authorize_virtual_chunk_access=_access())
    session = repository.writable_session(BRANCH)
    with warnings.catch_warnings():
        # numcodecs' codecs are not in the Zarr v3 specification, as zarr reminds at each use
        warnings.simplefilter("ignore")
        _write_arrays(session.store, stack)
    for number, name in enumerate(VARIABLES):
        refused = session.store.set_virtual_refs(f"/{name}", _chunks(stack, number))
        if refused:
            raise RuntimeError(f"Icechunk refused {len(refused)} references of {name}.")
    session.commit("OPERA-like stack")


def _access() -> dict[str, object]:
    return icechunk.containers_credentials({PREFIX: icechunk.s3_anonymous_credentials()})


def _write_arrays(store: icechunk.IcechunkStore, stack: Stack) -> None:
    root = zarr.open_group(store, mode="w", zarr_format=3)
    coordinates = {**axes(stack.size), "time": stack.times}
    for name, values in coordinates.items():
        array = root.create_array(name, data=values, dimension_names=(name,))
        array.attrs.update(time_attributes() if name == "time" else axis_attributes(name))
    for name in VARIABLES:
        array = root.create_array(
            name,
            shape=(stack.size.dates, stack.size.height, stack.size.width),
            chunks=(1, CHUNK, CHUNK),
            dtype="<f4",
            fill_value=np.nan,
            compressors=(Shuffle(elementsize=4), Zlib(level=4)),
            dimension_names=("time", "y", "x"),
        )
        array.attrs.update({**variable_attributes(name), "coordinates": "time"})


def _chunks(stack: Stack, variable: int) -> list[icechunk.VirtualChunkSpec]:
    offsets, lengths = stack.locations.offsets[variable], stack.locations.lengths[variable]
    urls = [PREFIX + granule.name for granule in stack.granules]
    return [
        icechunk.VirtualChunkSpec(
            list(place), urls[place[0]], offset=int(offsets[place]), length=int(lengths[place])
        )
        for place in np.ndindex(offsets.shape)
    ]


def measure(job: dict[str, Any], measured: Measurements) -> None:
    """Open the repository that the job names, and read."""
    zarr.config.set({"async.concurrency": 128})
    icechunk.set_logs_filter("error")
    warnings.simplefilter("ignore")
    with measured.timed("open"):
        storage = icechunk.local_filesystem_storage(job["repository"])
        repository = icechunk.Repository.open(storage, authorize_virtual_chunk_access=_access())
        session = repository.readonly_session(BRANCH)
        dataset = xr.open_zarr(session.store, consolidated=False, chunks=None)
    measure_queries(dataset, job, measured)


if __name__ == "__main__":
    run(measure)
