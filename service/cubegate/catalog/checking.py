"""Reads sample chunks of a cube end to end and says what is wrong: `cubegate check`."""

from __future__ import annotations

import asyncio

import numpy as np
from rich.console import Console
from rich.progress import Progress

from cubegate.catalog.catalog import Catalog
from cubegate.errors import CubegateError
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.store.decoder import decode
from cubegate.store.encoded import EncodedStore


async def check_cube(catalog: Catalog, name: str, samples: int, console: Console) -> int:
    """Check one dataset and print each failure with what to do about it; returns their number.

    The whole index is verified; of every array, `samples` chunks spread over its grid are read
    and decoded.
    """
    try:
        cube = await catalog.get(name)
        await cube.dataset()
    except CubegateError as error:
        console.print(f"{name}: cannot be opened: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    failures = [f"not served: {path}: {reason}" for path, reason in cube.store.hierarchy.skipped.items()]
    if isinstance(cube.store.locator, Index):
        try:
            await asyncio.to_thread(cube.store.locator.verify)
        except CubegateError as error:
            failures.append(f"{error} Build the index again.")
    checked = 0
    arrays = list(cube.store.hierarchy.arrays.values())
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for array in progress.track(arrays, description=name):
            for chunk in sample_chunks(array, samples):
                checked += 1
                try:
                    await _check_chunk(cube.store, array, chunk)
                except CubegateError as error:
                    failures.append(f"{array.path} chunk {chunk}: {type(error).__name__}: {error}")
    for failure in failures:
        console.print(f"{name}: {failure}", style="red", markup=False, soft_wrap=True)
    state = f"{len(failures)} failures" if failures else "ok"
    console.print(
        f"{name}: {checked} chunks of {len(arrays)} arrays read: {state}", markup=False, highlight=False
    )
    return len(failures)


def sample_chunks(array: ArrayMetadata, samples: int) -> list[tuple[int, ...]]:
    """Return up to `samples` chunk coordinates, the first and the last among them."""
    if not array.shape:
        return [()]
    if not array.chunk_count:
        return []
    picks = np.linspace(0, array.chunk_count - 1, min(samples, array.chunk_count)).astype(np.int64)
    return [
        tuple(int(part) for part in np.unravel_index(pick, array.chunk_grid)) for pick in np.unique(picks)
    ]


async def _check_chunk(store: EncodedStore, array: ArrayMetadata, chunk: tuple[int, ...]) -> None:
    data = await store.get(array, chunk)
    if data is not None:
        await asyncio.to_thread(decode, array, data)
