"""Composes the build of a stack of GeoTIFFs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cubegate.archives.building import Part, Plan, read_parts, write_cube
from cubegate.archives.cog_list import CogFile
from cubegate.archives.cog_stack import stack_files
from cubegate.catalog.collection import Collection
from cubegate.conversions.upstreams import opened_upstreams
from cubegate.errors import InvalidReference
from cubegate.index.build import TIFF_SUFFIXES
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings


async def build_cog_stack(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    files: Sequence[CogFile],
    *,
    progress: Progress,
) -> Index:
    """Build the cube of `files`; see `cubegate.archives.cog_stack.stack_files`.

    Where there are arrays vx and vy, the collection file derives speed and direction of them.

    Raises:
        InvalidReference: files cannot be read, or do not fit together; the message names them.
        OSError: a file cannot be written.
    """
    for file in files:
        if not file.url.partition("?")[0].lower().endswith(TIFF_SUFFIXES):
            raise InvalidReference(f"{file.variable!r} has a file that does not end with .tif or .tiff.")
    async with opened_upstreams(settings, environment) as upstreams:
        parts = [Part(file.variable, file.url, np.datetime64("NaT", "ns")) for file in files]
        indexes = await read_parts(plan, parts, upstreams, check_url=upstreams.check, progress=progress)
    progress("Stacking", 0, 1)
    index = await asyncio.to_thread(stack_files, files, indexes, allow_gaps=plan.allow_gaps)
    await write_cube(replace(plan, settings={**plan.settings, **_derived(index)}), index)
    return index


def _derived(index: Index) -> dict[str, Any]:
    if "derived" not in Collection.model_fields or not {"vx", "vy"} <= index.content.arrays.keys():
        return {}
    components = {"x": "vx", "y": "vy"}
    kinds = [kind for kind in ("speed", "direction") if kind not in index.content.arrays]
    return {"derived": {kind: {"kind": kind, **components} for kind in kinds}}
