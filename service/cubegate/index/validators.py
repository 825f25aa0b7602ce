"""Records what each granule is known by, so that one that was replaced since is never read by old offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.address import shown
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ObjectSource, ObjectState
from cubegate.errors import InvalidReference
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.table import INLINED, WHOLE_OBJECT, ChunkTable, TextTable

_IN_FLIGHT = 64


async def record_validators(index: Index, source: ObjectSource, *, progress: Progress = silent) -> Index:
    """Return `index` with the validator of each granule, as `source` tells it now.

    A granule that offers none has an empty one, which `Index.notes` says.

    Raises:
        InvalidReference: a reference goes beyond the end of its granule.
        UpstreamObjectMissing: a granule does not exist.
        UpstreamError: a granule cannot be asked.
    """
    validators = await take_validators(index, source, progress=progress)
    return Index(replace(index.content, validators=validators), hierarchy=index.hierarchy)


async def take_validators(index: Index, source: ObjectSource, *, progress: Progress = silent) -> TextTable:
    """Return the validator of each granule of `index`; see `record_validators`.

    Raises:
        InvalidReference, UpstreamError: as `record_validators` does.
    """
    urls = list(index.urls)
    states = await run_all(
        (source.stat(url) for url in urls),
        in_flight=_IN_FLIGHT,
        report=lambda done, total: progress("Asking granules for their validators", done, total),
    )
    _check_ends(index, urls, states)
    return TextTable.of(state.validator or "" for state in states)


def _check_ends(index: Index, urls: list[str], states: list[ObjectState]) -> None:
    ends = _ends_of_references(index.content.tables.values(), len(urls)).tolist()
    for url, end, state in zip(urls, ends, states, strict=True):
        if state.nbytes is not None and end > state.nbytes:
            raise InvalidReference(
                f"The references name bytes of {shown(url)} up to {end:,}, and it has {state.nbytes:,}: "
                "they were made of another object of that name. Make them again."
            )


def _ends_of_references(tables: Iterable[ChunkTable], granules: int) -> NDArray[np.uint64]:
    """Return the first byte behind all that references name, for each granule."""
    ends = np.zeros(granules, dtype=np.uint64)
    for table in tables:
        rows = table.all()
        stored = (rows.granule < INLINED) & (rows.length != WHOLE_OBJECT)
        stops = rows.offset + rows.length
        if granules == 1:
            # a tenth of the time, for each granule of a build
            ends = np.maximum(ends, stops.max(initial=0, where=stored))
        else:
            np.maximum.at(ends, rows.granule[stored], stops[stored])
    return ends
