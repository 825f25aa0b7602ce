"""Reads sample chunks of a cube end to end and says what is wrong: `cubegate check`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from cubegate.catalog.catalog import Catalog
from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.combined_inspection import member_problem
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.concurrency import run_all
from cubegate.errors import CubegateError, InvalidMetadata, UpstreamDenied
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import UNALLOCATED
from cubegate.store.decoder import decode
from cubegate.store.encoded import EncodedStore

_IN_FLIGHT = 16


@dataclass
class _Findings:
    """What was read of one dataset: `fill` counts the chunks that were never written."""

    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chunks: int = 0
    fill: int = 0
    values: int = 0


async def check_cube(catalog: Catalog, name: str, samples: int, console: Console) -> int:
    """Check one dataset and print each failure with what to do about it; returns their number.

    The whole index is verified; of every array, `samples` chunks spread over its grid are read
    and decoded, of those that the index knows to be written first.
    """
    try:
        cube = await catalog.get(name)
    except CubegateError as error:
        _print(console, f"{name}: cannot be opened: {_said(error)}", "red")
        return 1
    if isinstance(cube, CombinedCube):
        return await _check_combined(cube, console)
    arrays = list(cube.store.hierarchy.arrays.values())
    found = _Findings(notes=list(cube.notes))
    found.failures += [f"not served: {path}: {why}" for path, why in cube.store.hierarchy.skipped.items()]
    await _check_metadata(cube, found)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for array in progress.track(arrays, description=name):
            await _check_array(cube.store, array, samples, found)
    await _check_overviews(cube, samples, found)
    for failure in found.failures:
        _print(console, f"{name}: {failure}", "red")
    for note in found.notes:
        _print(console, f"{name}: note: {note}", "yellow")
    state = f"{len(found.failures)} failures" if found.failures else "ok"
    fill = f" ({found.fill:,} never written: fill)" if found.fill else ""
    read = f"{found.chunks:,} chunks{fill} of {len(arrays)} arrays read, {found.values:,} values"
    _print(console, f"{name}: {read}: {state}")
    return len(found.failures)


async def _check_combined(cube: CombinedCube, console: Console) -> int:
    """Check that each member can answer; what they read is theirs to check."""
    failures = 0
    for member in cube.members:
        problem = await member_problem(cube, member)
        if problem is not None:
            failures += 1
            _print(console, f"{cube.id}: member {member.id}: {problem}", "red")
    state = f"{failures} failures" if failures else "ok"
    _print(console, f"{cube.id}: {len(cube.members)} members, whose chunks are checked as theirs: {state}")
    return failures


def _print(console: Console, line: str, style: str | None = None) -> None:
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


async def _check_metadata(cube: Datacube, found: _Findings) -> None:
    for group in cube.store.hierarchy.groups:
        where = f"group {group}: " if group else ""
        try:
            await cube.dataset(group)
        except InvalidMetadata as error:
            found.notes.append(f"{where}{error}")
        except CubegateError as error:
            found.failures.append(f"{where}its coordinates cannot be read: {_said(error)}")
    if isinstance(cube.store.locator, Index):
        try:
            await asyncio.to_thread(cube.store.locator.verify)
        except CubegateError as error:
            found.failures.append(f"{error} Build the index again.")


async def _check_overviews(cube: Datacube, samples: int, found: _Findings) -> None:
    """Read samples of the overviews in the store beside the cube, if they are used."""
    beside = await cube.sidecar("")
    if beside is not None and isinstance(beside[0], Datacube):
        for array in beside[0].store.hierarchy.arrays.values():
            await _check_array(beside[0].store, array, samples, found)


async def _check_array(store: EncodedStore, array: ArrayMetadata, samples: int, found: _Findings) -> None:
    chunks = sample_chunks(array, samples, _written(store, array))
    reads = await run_all((_read(store, array, chunk) for chunk in chunks), in_flight=_IN_FLIGHT)
    failures = [read for read in reads if isinstance(read, str)]
    values = [read for read in reads if isinstance(read, int)]
    fill = reads.count(None)
    found.failures += failures
    found.chunks += len(reads)
    found.values += sum(values)
    found.fill += fill
    if fill and fill == len(reads):
        every = "none of its chunks" if fill == array.chunk_count else f"none of {fill} sampled chunks"
        found.notes.append(f"{array.path}: {every} was ever written: all fill")


async def _read(store: EncodedStore, array: ArrayMetadata, chunk: tuple[int, ...]) -> int | str | None:
    """Return the number of values in a chunk, None where it was never written, or what is wrong."""
    try:
        data = await store.get(array, chunk)
        if data is None:
            return None
        values = await asyncio.to_thread(decode, array, data)
    except CubegateError as error:
        return f"{array.path} chunk {chunk}: {type(error).__name__}: {_said(error)}"
    inside = zip(array.shape, chunk, values.shape, strict=True)
    return int(np.prod([min(size - part * length, length) for size, part, length in inside], dtype=np.int64))


def _said(error: CubegateError) -> str:
    # an upstream's refusal goes by the name that /readyz and the log have for it
    return f"{error.state}: {error}" if isinstance(error, UpstreamDenied) else str(error)


def _written(store: EncodedStore, array: ArrayMetadata) -> NDArray[np.int64] | None:
    if not isinstance(store.locator, Index):
        return None
    table = store.locator.content.tables[array.path]
    return table.chunks_of(np.flatnonzero(table.granule.all() != UNALLOCATED))


def sample_chunks(
    array: ArrayMetadata, samples: int, written: NDArray[np.int64] | None = None
) -> list[tuple[int, ...]]:
    """Return up to `samples` chunk coordinates, spread over the grid from the first to the last.

    They are among the coordinates `written`, of shape (n, ndim); where those are fewer or not
    known, among all.
    """
    if not array.shape:
        return [()]
    if not array.chunk_count:
        return []
    picked: list[tuple[int, ...]] = []
    if written is not None:
        picked = [tuple(chunk) for chunk in written[_spread(len(written), samples)].tolist()]
    numbers = _spread(array.chunk_count, samples)
    others = np.stack(np.unravel_index(numbers, array.chunk_grid), axis=1).tolist()
    picked += [chunk for chunk in map(tuple, others) if chunk not in picked]
    return picked[:samples]


def _spread(count: int, samples: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(samples, count)).astype(np.int64))
