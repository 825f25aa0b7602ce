"""Lays out the bytes of inlined chunks, so that equal content gives equal tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from cubegate.index.table import INLINED, ChunkTable, Column


def lay_out_inlined(
    tables: Mapping[str, ChunkTable], data_of: Callable[[str, int], bytes]
) -> tuple[dict[str, ChunkTable], Column]:
    """Return `tables` with new offsets and lengths for inlined chunks, and the data they point into.

    `data_of` returns the encoded bytes of the inlined chunk in a row of the table at a path.
    The data are in the order of paths and rows.
    """
    data = bytearray()
    laid_out = {}
    for path, table in sorted(tables.items()):
        inlined = table.granule.all() == INLINED
        if not inlined.any():
            laid_out[path] = table
            continue
        offset, length = table.offset.all().copy(), table.length.all().copy()
        for row in np.flatnonzero(inlined).tolist():
            chunk = data_of(path, row)
            offset[row], length[row] = len(data), len(chunk)
            data += chunk
        laid_out[path] = replace(table, offset=Column(offset), length=Column(length))
    return laid_out, Column(np.frombuffer(bytes(data), dtype=np.uint8))
