"""Builds an index from whatever describes a cube by byte ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Literal
from urllib.parse import urlsplit

from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import UpstreamError
from cubegate.index.builders.geotiff import build_from_geotiff
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.builders.kerchunk_parquet import build_from_kerchunk_parquet
from cubegate.index.checksums import DecoderOf, take_checksums
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.settling import settle_references
from cubegate.index.small_arrays import inline_small_arrays
from cubegate.index.validators import record_validators

PARQUET_SUFFIXES = (".parq", ".parquet")
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
    """Build the index of a kerchunk JSON file, a Parquet store or a GeoTIFF at `url`.

    Small coordinates are copied into the index, and fill values are settled as `fill` says; with
    "auto" arrays that the references lost are left out. A coordinate that cannot be read fails the
    build, or stays upstream where `require_coordinates` is false. With `validators` each granule is
    asked what it is known by. With `checksums`, which gives the decoder of an array, every stored
    chunk is read and decoded. `progress` is told of each step.

    Raises:
        InvalidReference: the references are malformed or not allowed.
        UpstreamError: the references, or something that they name and that is asked for, cannot be read.
    """
    url = url.rstrip("/")
    if urlsplit(url).path.lower().endswith(TIFF_SUFFIXES):
        # a TIFF says itself what its fill is, and its builder records the validator
        index = await build_from_geotiff(source, url, check_url=check_url)
        return (
            index if checksums is None else await take_checksums(index, source, checksums, progress=progress)
        )
    if urlsplit(url).path.endswith(PARQUET_SUFFIXES):
        index = await build_from_kerchunk_parquet(
            source,
            url,
            check_url=check_url,
            allow_missing_partitions=allow_missing_partitions,
            group=group,
            progress=progress,
        )
    else:
        progress("Fetching references", 0, 1)
        data = await source.get(ChunkReference(url))
        # parsing takes seconds a million references, and a server goes on meanwhile
        index = await asyncio.to_thread(
            build_from_kerchunk_json,
            data,
            base_url=url,
            check_url=check_url,
            group=group,
            progress=progress,
        )
    index = await settle_references(index, source, policy=fill, group=group.strip("/"), progress=progress)
    if validators:
        index = await record_validators(index, source, progress=progress)
    try:
        index = await inline_small_arrays(index, source, progress=progress)
    except UpstreamError:
        if require_coordinates:
            raise
    if checksums is not None:
        index = await take_checksums(index, source, checksums, progress=progress)
    return index
