"""Builds one cube of the references of many granules: concurrent, resumable, all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cubegate.archives.collection_file import write_collection
from cubegate.archives.sidecars import SUFFIXES, Sidecar, SidecarReader
from cubegate.archives.stacking import Layer, stack_layers
from cubegate.catalog.identifiers import ID_PATTERN
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ObjectSource
from cubegate.errors import CubegateError, InvalidParameter, InvalidReference
from cubegate.index.build import build_index
from cubegate.index.file import open_index, write_index
from cubegate.index.index import Index
from cubegate.index.progress import Progress

_IN_FLIGHT = 64
_SHOWN = 5


@dataclass(frozen=True)
class Part:
    """One granule to stack: its name, the address of its references, and its place along time.

    `along` has further values of this granule by name; see `Layer`. `group` is taken as the root.
    """

    name: str
    references: str
    time: np.datetime64
    along: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Plan:
    """What to build: the cube's id and title, and where its two files go.

    `settings` are further keys of the collection file.
    """

    id: str
    title: str
    directory: Path
    allow_gaps: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an id that no collection can have.

        Raises:
            InvalidParameter: it is none.
        """
        if not re.fullmatch(ID_PATTERN, self.id):
            accepted = "letters, digits, '.', '_' and '-', a letter or digit first"
            raise InvalidParameter("id", f"{self.id[:80]!r} is no id.", accepted=accepted)

    @property
    def index(self) -> Path:
        """The index file."""
        return self.directory / f"{self.id}.index"

    @property
    def collection(self) -> Path:
        """The collection file, which mounts the cube."""
        return self.directory / f"{self.id}.yaml"

    @property
    def document(self) -> dict[str, Any]:
        """What the collection file says."""
        source = {"kind": "index", "href": self.index.name}
        return {"id": self.id, "title": self.title, "source": source, **self.settings}

    @property
    def parts(self) -> Path:
        """Where the indexes of single granules wait for the others."""
        return self.directory / f".{self.id}.parts"


async def build_cube(
    plan: Plan,
    parts: Sequence[Part],
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    progress: Progress,
) -> Index:
    """Build the cube of `parts`, and return its index.

    What was made of a granule stays in `plan.parts` until the cube is complete, and a build that is
    started again begins there. The index is written first and the collection file last, each whole or
    not at all, so that nothing is ever mounted in part.

    Raises:
        InvalidReference: granules cannot be read or do not fit together; the message names them.
        OSError: a file cannot be written.
    """
    index = await make_index(plan, parts, source, check_url=check_url, progress=progress)
    await write_cube(plan, index)
    return index


async def make_index(
    plan: Plan,
    parts: Sequence[Part],
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    progress: Progress,
) -> Index:
    """Return the index of the cube of `parts`; see `build_cube`, which writes it too.

    Raises:
        InvalidReference: granules cannot be read or do not fit together; the message names them.
        OSError: what was read of a granule cannot be kept.
    """
    indexes = await read_parts(plan, parts, source, check_url=check_url, progress=progress)
    layers = [
        Layer(part.name, index, part.time, part.along) for part, index in zip(parts, indexes, strict=True)
    ]
    progress("Stacking", 0, 1)
    return await asyncio.to_thread(stack_layers, layers, allow_gaps=plan.allow_gaps)


async def read_parts(
    plan: Plan,
    parts: Sequence[Part],
    source: ObjectSource,
    *,
    check_url: Callable[[str], None],
    progress: Progress,
) -> list[Index]:
    """Return the index of each of `parts`; see `build_cube`.

    Raises:
        InvalidReference: granules cannot be read; the message names them.
        OSError: a file cannot be written.
    """
    plan.parts.mkdir(parents=True, exist_ok=True)
    what = "Reading references of granules"
    numbers: dict[bool, list[int]] = {True: [], False: []}
    for number, part in enumerate(parts):
        numbers[part.references.endswith(SUFFIXES)].append(number)
    shipped, others = ([parts[number] for number in numbers[which]] for which in (True, False))
    sidecars = [Sidecar(part.references, _kept(plan, part, ".references")) for part in shipped]
    read = await SidecarReader(source, check_url).read(
        sidecars, lambda done, _: progress(what, done, len(parts))
    )
    scanned = await run_all(
        (read_part(plan, part, source, check_url) for part in others),
        in_flight=_IN_FLIGHT,
        report=lambda done, _: progress(what, len(shipped) + done, len(parts)),
    )
    # two parts may have one name
    built = dict(zip([*numbers[True], *numbers[False]], [*read, *scanned], strict=True))
    found = [built[number] for number in range(len(parts))]
    failures = [
        f"{part.name}: {each}"
        for part, each in zip(parts, found, strict=True)
        if isinstance(each, CubegateError)
    ]
    if failures:
        raise InvalidReference(_failed(failures, len(parts)))
    return [each for each in found if isinstance(each, Index)]


async def write_cube(plan: Plan, index: Index) -> None:
    """Write the index and then the collection file, and remove what was kept of the granules.

    Raises:
        OSError: a file cannot be written.
    """
    await asyncio.to_thread(write_index, index, plan.index)
    await asyncio.to_thread(write_collection, plan.collection, plan.document)
    await asyncio.to_thread(shutil.rmtree, plan.parts, ignore_errors=True)


async def read_part(
    plan: Plan, part: Part, source: ObjectSource, check_url: Callable[[str], None]
) -> Index | CubegateError:
    """Return the index of one granule, which is kept below `plan.parts`, or what is wrong with it."""
    kept = _kept(plan, part, ".index")
    try:
        index = await asyncio.to_thread(_open_kept, kept)
        if index is None or await _is_replaced(index, part.references, source):
            index = await build_index(
                part.references, source, check_url=check_url, group=part.group, validators=True
            )
            await asyncio.to_thread(write_index, index, kept)
    except CubegateError as error:
        return error
    return index


async def _is_replaced(index: Index, url: str, source: ObjectSource) -> bool:
    """Whether the file at `url`, of which `index` was made, is another one now."""
    validators = index.content.validators
    if validators is None or url not in index.urls:
        return False
    return (await source.stat(url)).validator != (validators[list(index.urls).index(url)] or None)


def _kept(plan: Plan, part: Part, suffix: str) -> Path:
    identity = hashlib.sha256(f"{part.name}\n{part.references}\n{part.group}".encode()).hexdigest()[:16]
    return plan.parts / f"{identity}{suffix}"


def _failed(failures: Sequence[str], count: int) -> str:
    more = [f"and {len(failures) - _SHOWN:,} more"] if len(failures) > _SHOWN else []
    said = "; ".join([*failures[:_SHOWN], *more]).rstrip(".")
    return (
        f"{len(failures):,} of {count:,} granules cannot be used: {said}. Run the command again: what could "
        "be read is kept."
    )


def _open_kept(path: Path) -> Index | None:
    try:
        index = open_index(path)
        index.verify()
    except (OSError, CubegateError):
        # none yet, or one that a crash left in pieces
        return None
    return index
