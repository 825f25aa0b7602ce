"""Mounts native Zarr stores, which need no index: each is opened once, and all are mounted or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubegate.archives.collection_file import write_collections
from cubegate.catalog.collection import Collection
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ObjectSource
from cubegate.errors import CubegateError, InvalidReference
from cubegate.index.progress import Progress
from cubegate.query.variables import choose_variables
from cubegate.store.bridge import LoopThread
from cubegate.store.sources.zarr import open_zarr_store

_IN_FLIGHT = 16


@dataclass(frozen=True)
class NativeStore:
    """One store to mount: its id, title and address, and further keys of its collection file."""

    id: str
    title: str
    url: str
    group: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """What its collection file says."""
        source = {"kind": "zarr", "href": self.url, **({"group": self.group} if self.group else {})}
        return {"id": self.id, "title": self.title, "source": source, **self.settings}


async def mount_stores(
    stores: Sequence[NativeStore], directory: Path, source: ObjectSource, *, combined: str, progress: Progress
) -> list[Path]:
    """Write a collection file for each of `stores`, and one called `combined` over several; returns them.

    Raises:
        InvalidReference: some cannot be mounted; the message names them, and nothing was written.
        OSError: a file cannot be written.
    """
    bridge = LoopThread()
    try:
        said = await run_all(
            (_problem(store, source, bridge) for store in stores),
            in_flight=_IN_FLIGHT,
            report=lambda done, total: progress("Opening stores", done, total),
        )
    finally:
        bridge.close()
    failed = [f"{store.id}: {each}" for store, each in zip(stores, said, strict=True) if each]
    if failed:
        listed = "\n".join(failed)
        raise InvalidReference(
            f"{len(failed):,} of {len(stores):,} stores cannot be mounted, and nothing was written.\n{listed}"
        )
    files = [(directory / f"{store.id}.yaml", store.document) for store in stores]
    if len(stores) > 1:
        members = {"kind": "combined", "members": [store.id for store in stores]}
        files.append((directory / f"{combined}.yaml", {"id": combined, "source": members}))
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(write_collections, files)
    return [path for path, _ in files]


async def _problem(store: NativeStore, source: ObjectSource, bridge: LoopThread) -> str:
    """Open a store as the server will, and say what is wrong with it."""
    try:
        collection = Collection.model_validate(store.document)
        opened = await open_zarr_store(store.url, source, group=store.group)
        cube = Datacube(collection, opened, bridge)
        dataset = await cube.dataset()
        choose_variables(dataset, None, cube.grid_settings)
    except CubegateError as error:
        return str(error)
    return ""
