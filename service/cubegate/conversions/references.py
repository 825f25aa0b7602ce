"""Composes the conversion of references into an index file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from cubegate.conversions.upstreams import opened_upstreams
from cubegate.index.build import build_index
from cubegate.index.file import write_index
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings
from cubegate.store.decoder import Decoder


async def index_source(
    settings: Settings,
    environment: Mapping[str, str],
    url: str,
    output: Path,
    *,
    group: str,
    fill: Literal["auto", "declared", "storage"],
    allow_missing_partitions: Sequence[str],
    validators: bool = True,
    checksums: bool = False,
    progress: Progress,
) -> Index:
    """Convert the references at `url` into the index file `output`; returns what was written.

    With `validators` each granule is asked what it is known by, with `checksums` every chunk is read.
    `progress` is told of each step.

    Raises:
        InvalidReference, UpstreamError: see `cubegate.index.build.build_index`.
        OSError: the output cannot be written.
    """
    async with opened_upstreams(settings, environment) as upstreams:
        index = await build_index(
            url,
            upstreams,
            check_url=upstreams.check,
            group=group,
            fill=fill,
            allow_missing_partitions=allow_missing_partitions,
            validators=validators,
            checksums=(lambda array: Decoder(array).open) if checksums else None,
            progress=progress,
        )
    progress(f"Writing {output.name}", 0, 1)
    await asyncio.to_thread(write_index, index, output)
    return index
