"""Builds an index from whatever describes a cube by byte ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Literal
from urllib.parse import urlsplit

from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import UpstreamError, UpstreamMismatch
from cubegate.index.builders.dmrpp import build_from_dmrpp
from cubegate.index.builders.hdf5 import build_from_hdf5
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.checksums import DecoderOf, take_checksums
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.settling import settle_references
from cubegate.index.small_arrays import inline_small_arrays
from cubegate.index.validators import record_validators

PARQUET_SUFFIXES = (".parq", ".parquet")
HDF5_SUFFIXES = (".nc", ".nc4", ".h5", ".hdf5", ".he5")
DMRPP_SUFFIX = ".dmrpp"
_HDF5 = b"\x89HDF\r\n\x1a\n"
TIFF_SUFFIXES = (".tif", ".tiff")


async def build_index(
    url: str,
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    group: str = "",
    allow_missing_partitions: Collection[str] = (),
    fill: Literal["auto", "declared", "storage"] = "auto",
    require_coordinates: bool = True,
    validators: bool = False,
    checksums: DecoderOf | None = None,
    progress: Progress = silent,
) -> Index:
    """Build the index of what is at `url`: kerchunk JSON or Parquet, DMR++, HDF5 (netCDF-4), a GeoTIFF.

    Its suffix says what it is, or its first bytes where the name has none. Small coordinates are copied
    into the index. The fill values of kerchunk's references are settled as `fill` says; with "auto"
    arrays that they lost are left out; the others say themselves what is declared. A coordinate that
    cannot be read fails the build, or stays upstream where `require_coordinates` is false. With
    `validators` each granule is asked what it is known by. With `checksums`, which gives the decoder of
    an array, every stored chunk is read and decoded. `progress` is told of each step.

    Raises:
        InvalidReference: the references are malformed or not allowed.
        UpstreamError: the references, or something that they name and that is asked for, cannot be read.
    """
    url = url.rstrip("/")
    path = urlsplit(url).path.lower()
    if path.endswith(DMRPP_SUFFIX):
        index = await build_from_dmrpp(source, url, check_url=check_url, group=group, progress=progress)
    elif path.endswith(TIFF_SUFFIXES):
        # pyproj is slow to import
        from cubegate.index.builders.geotiff import build_from_geotiff  # noqa: PLC0415 - see above

        # it says itself what its fill is, and what it was known by as it was read
        index = await build_from_geotiff(source, url, check_url=check_url)
    elif path.endswith(HDF5_SUFFIXES) or await _starts_as_hdf5(url, path, source):
        index = await build_from_hdf5(source, url, check_url=check_url, group=group, progress=progress)
    else:
        index = await _from_kerchunk(
            url,
            source,
            check_url=check_url,
            group=group,
            allow_missing_partitions=allow_missing_partitions,
            progress=progress,
        )
        index = await settle_references(index, source, policy=fill, group=group.strip("/"), progress=progress)
    if validators and index.content.validators is None:
        index = await record_validators(index, source, progress=progress)
    try:
        index = await inline_small_arrays(index, source, progress=progress)
    except UpstreamError:
        if require_coordinates:
            raise
    if checksums is not None:
        index = await take_checksums(index, source, checksums, progress=progress)
    return index


async def _from_kerchunk(
    url: str,
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    group: str,
    allow_missing_partitions: Collection[str],
    progress: Progress,
) -> Index:
    if urlsplit(url).path.endswith(PARQUET_SUFFIXES):
        # pyarrow is slow to import
        from cubegate.index.builders.kerchunk_parquet import (  # noqa: PLC0415 - see above
            build_from_kerchunk_parquet,
        )

        return await build_from_kerchunk_parquet(
            source,
            url,
            check_url=check_url,
            allow_missing_partitions=allow_missing_partitions,
            group=group,
            progress=progress,
        )
    progress("Fetching references", 0, 1)
    data = await source.get(ChunkReference(url))
    # parsing takes seconds a million references, and a server goes on meanwhile
    return await asyncio.to_thread(
        build_from_kerchunk_json, data, base_url=url, check_url=check_url, group=group, progress=progress
    )


async def _starts_as_hdf5(url: str, path: str, source: ObjectSource) -> bool:
    if "." in path.rpartition("/")[2]:
        return False
    try:
        return await source.get(ChunkReference(url, 0, len(_HDF5))) == _HDF5
    except UpstreamMismatch:
        # shorter than that
        return False
