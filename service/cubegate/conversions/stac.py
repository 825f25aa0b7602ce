"""Composes the search of a STAC API, and the build of a cube of what it finds."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cubegate.archives.building import Part, Plan
from cubegate.archives.cog_list import CogFile, Moment
from cubegate.archives.files import Joining
from cubegate.archives.native_stores import NativeStore, mount_stores
from cubegate.archives.stac_api import Found, Search, read_items, search_items
from cubegate.archives.stac_assets import Asset, choose_assets, collection_settings
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.cog_stack import build_cog_stack
from cubegate.conversions.files import build_parts
from cubegate.conversions.upstreams import accepted_by, opened_upstreams
from cubegate.errors import InvalidReference
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_NO_NAME = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True)
class Built:
    """What a build wrote: the assets, the collection files, and the index where there is one."""

    assets: Sequence[Asset]
    files: Sequence[Path]
    index: Index | None = None


async def find_items(
    settings: Settings, api: str | None, search: Search | None, items: Path | None, progress: Progress
) -> Found:
    """Return the items in a file, or what `search` finds at `api`, by default that of the settings.

    Raises:
        ConfigurationError: the file cannot be used.
        UpstreamError: the search fails.
    """
    if items is not None:
        return await asyncio.to_thread(read_items, items)
    assert search is not None  # noqa: S101 - the command has one of both
    return await asyncio.to_thread(search_items, api or settings.archives.stac, search, progress)


async def build_items(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    found: Found,
    assets: Sequence[str],
    *,
    progress: Progress,
) -> Built:
    """Build the cube of those assets of the items that are called `assets`, or of the best kind all have.

    Raises:
        NotFound, InvalidParameter, InvalidReference: see `choose_assets`, and the builds of each kind.
        OSError: a file cannot be written.
    """
    async with opened_upstreams(settings, environment) as upstreams:
        chosen = choose_assets(found.items, assets, accepted_by(upstreams))
        kinds = {asset.kind for asset in chosen}
        if len(kinds) > 1:
            raise InvalidReference(
                f"The assets are of several kinds ({', '.join(sorted(kinds))}): ask for one."
            )
        said = collection_settings(iter([*(asset.cube for asset in chosen[:1]), found.collection]))
        if chosen[0].kind == "zarr":
            stores = _stores(plan, chosen, said)
            files = await mount_stores(stores, plan.directory, upstreams, combined=plan.id, progress=progress)
            return Built(chosen, files)
        planned = replace(plan, settings={**said, **plan.settings})
        if chosen[0].kind != "geotiff":
            return await _joined(upstreams, planned, chosen, progress)
    index = await build_cog_stack(settings, environment, planned, _tiffs(chosen), progress=progress)
    return Built(chosen, [plan.collection], index)


async def _joined(upstreams: Upstreams, plan: Plan, assets: Sequence[Asset], progress: Progress) -> Built:
    """Join files, or references over them, along the time that they have, else along that of their items."""
    by_item = dict(Counter(asset.item for asset in assets).most_common(1))
    if next(iter(by_item.values())) > 1:
        raise InvalidReference("Several files of one item are not joined: ask for one asset (--asset KEY).")
    named = plan.settings.get("dimensions", {})
    time = named.get("time", "time") if isinstance(named, Mapping) else "time"
    parts = [Part(asset.item, asset.url, np.datetime64("NaT", "ns")) for asset in assets]
    dates = {asset.item: asset.time for asset in assets if asset.time is not None}
    joining = Joining(time, allow_gaps=plan.allow_gaps, dates=dates)
    joined = await build_parts(upstreams, plan, parts, joining, leave_out=False, progress=progress)
    return Built(assets, [plan.collection], joined.index)


async def find_tiffs(
    settings: Settings, environment: Mapping[str, str], found: Found, assets: Sequence[str]
) -> list[CogFile]:
    """Return the GeoTIFFs of the items, those called `assets` or all of them.

    Raises:
        NotFound, InvalidParameter, InvalidReference: see `choose_assets`.
    """
    async with opened_upstreams(settings, environment) as upstreams:
        chosen = choose_assets(found.items, assets, accepted_by(upstreams), ("geotiff",))
    other = sorted({asset.key for asset in chosen if asset.kind != "geotiff"})
    if other:
        raise InvalidReference(f"Assets are no GeoTIFFs: {', '.join(other)}.")
    return _tiffs(chosen)


def _stores(plan: Plan, assets: Sequence[Asset], said: Mapping[str, Any]) -> list[NativeStore]:
    if len(assets) == 1:
        return [NativeStore(plan.id, plan.title, assets[0].url, settings=said)]
    several = len({asset.key for asset in assets}) > 1
    names = [f"{asset.item}-{asset.key}" if several else asset.item for asset in assets]
    return [
        NativeStore(f"{plan.id}-{_UNFIT.sub('-', name)}", name, asset.url, settings=said)
        for name, asset in zip(names, assets, strict=True)
    ]


def _tiffs(assets: Sequence[Asset]) -> list[CogFile]:
    return [
        CogFile(asset.url, _NO_NAME.sub("_", asset.key), None if asset.time is None else Moment(asset.time))
        for asset in assets
    ]
