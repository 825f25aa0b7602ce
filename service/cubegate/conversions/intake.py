"""Composes the build of what the sources of an Intake catalog name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from cubegate.archives.building import Part, Plan
from cubegate.archives.download import read_document
from cubegate.archives.files import Joining
from cubegate.archives.intake_catalog import LARGEST, Source, read_catalog
from cubegate.archives.native_stores import NativeStore, mount_stores
from cubegate.chunks.address import shown
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.files import build_parts, list_files
from cubegate.conversions.upstreams import opened_upstreams
from cubegate.errors import CubegateError, InvalidParameter
from cubegate.index.progress import Progress
from cubegate.index.references import resolve_url
from cubegate.settings import Settings

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


async def build_sources(
    settings: Settings,
    environment: Mapping[str, str],
    catalog: str,
    names: Sequence[str],
    directory: Path,
    *,
    progress: Progress,
) -> dict[str, Any]:
    """Build a cube of each source of `catalog` (of those in `names`, if there are any); returns the report.

    Each cube is mounted by itself, whole or not at all.

    Raises:
        InvalidReference: the catalog is none.
        InvalidParameter: it has no source of one of `names`.
        UpstreamError, ConfigurationError: it cannot be read.
        OSError: a file cannot be written.
    """
    data = await read_document(catalog, parameter="catalog", most=LARGEST)
    sources, left_out = read_catalog(data, shown(catalog))
    known = {source.name for source in sources} | left_out.keys()
    for name in names:
        if name not in known:
            accepted = ", ".join(sorted(known))
            raise InvalidParameter("source", f"The catalog has no source {name!r}.", accepted=accepted)
    wanted = [source for source in sources if not names or source.name in names]
    failed = {name: reason for name, reason in left_out.items() if name in names}
    built: dict[str, list[str]] = {}
    async with opened_upstreams(settings, environment) as upstreams:
        for source in wanted:
            try:
                files = await _build(source, _base(catalog), directory, upstreams, progress)
            except CubegateError as error:
                failed[source.name] = str(error)
            else:
                built[source.name] = [str(file) for file in files]
    left = {name: reason for name, reason in left_out.items() if not names}
    return {"built": built, "failed": failed, "left_out": left}


def _base(catalog: str) -> str:
    return catalog if "://" in catalog else Path(catalog).resolve().as_uri()


async def _build(
    source: Source, base: str, directory: Path, upstreams: Upstreams, progress: Progress
) -> list[Path]:
    name = _UNFIT.sub("-", source.name).strip("-.") or "cube"
    urls = [resolve_url(url, base) for url in source.urls]
    if source.kind == "zarr":
        store = NativeStore(name, source.title or name, urls[0], source.group)
        return await mount_stores([store], directory, upstreams, combined=name, progress=progress)
    plan = Plan(name, source.title or name, directory)
    found = [url for pattern in urls for url in await _files(pattern, upstreams)]
    parts = [Part(url, url, np.datetime64("NaT", "ns"), group=source.group) for url in found]
    joining = Joining(source.concat or "time")
    await build_parts(upstreams, plan, parts, joining, leave_out=False, progress=progress)
    return [plan.collection]


async def _files(pattern: str, upstreams: Upstreams) -> list[str]:
    """Return the addresses that a pattern names; a local one is one of paths."""
    if not pattern.startswith("file://"):
        return await list_files(pattern, upstreams)
    # before anything is looked for
    upstreams.check(pattern)
    found = await list_files(unquote(urlsplit(pattern).path), upstreams)
    for url in found:
        upstreams.check(url)
    return sorted(found)
