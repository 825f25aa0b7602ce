"""Builds an index from whatever describes a cube by byte ranges."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal
from urllib.parse import urlsplit

from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.builders.kerchunk_parquet import build_from_kerchunk_parquet
from cubegate.index.granule_fill import settle_fill
from cubegate.index.index import Index
from cubegate.index.small_arrays import inline_small_arrays

PARQUET_SUFFIXES = (".parq", ".parquet")


async def build_index(
    url: str,
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    group: str = "",
    allow_missing_partitions: Collection[str] = (),
    fill: Literal["auto", "declared", "storage"] = "auto",
) -> Index:
    """Build the index of a kerchunk JSON file or Parquet store at `url`.

    Small coordinates are copied into the index, and fill values are settled as `fill` says.

    Raises:
        InvalidReference: the references are malformed or not allowed.
        UpstreamError: the references, or a coordinate that they name, cannot be read.
    """
    url = url.rstrip("/")
    if urlsplit(url).path.endswith(PARQUET_SUFFIXES):
        index = await build_from_kerchunk_parquet(
            source, url, check_url=check_url, allow_missing_partitions=allow_missing_partitions, group=group
        )
    else:
        data = await source.get(ChunkReference(url))
        index = build_from_kerchunk_json(data, base_url=url, check_url=check_url, group=group)
    settled = await settle_fill(index, source, policy=fill)
    return await inline_small_arrays(settled, source)
