"""Copies a cube block by block into another store, and compares what it finds there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cubegate.errors import CubegateError, RechunkFailed
from cubegate.index.progress import Progress
from cubegate.rechunk.blocks import Readable, Target, Writable, checksum
from cubegate.rechunk.layout import Layout, Region, Sizes, regions

_SHOWN = 3


class Step(NamedTuple):
    """One region of one array."""

    path: str
    region: Region


class Done(NamedTuple):
    """What came of a step: the checksum of its values, or what went wrong."""

    step: Step
    checksum: int
    problem: str = ""


@dataclass(frozen=True)
class Endpoints:
    """What a rechunk reads and writes; `between` is where transposed arrays rest, if there are any."""

    source: Readable
    target: Target
    between: Target | None = None


class Runner(Protocol):
    """Does one piece of work for each of many items, on threads or on a cluster."""

    def __call__(self, work: Callable[[Endpoints, Any], Done], items: Sequence[Any]) -> Iterator[Done]:
        """Yield what came of each item, as it is done."""
        ...


def from_source(endpoints: Endpoints, step: Step) -> Done:
    """Copy one region from the source to the target."""
    return _copy(endpoints.source, endpoints.target, step)


def to_between(endpoints: Endpoints, step: Step) -> Done:
    """Copy one region from the source to the store in between."""
    assert endpoints.between is not None  # noqa: S101 - there is one where there are such steps
    return _copy(endpoints.source, endpoints.between, step)


def from_between(endpoints: Endpoints, step: Step) -> Done:
    """Copy one region from the store in between to the target."""
    assert endpoints.between is not None  # noqa: S101 - there is one where there are such steps
    return _copy(endpoints.between, endpoints.target, step)


def compare(endpoints: Endpoints, copied: Done) -> Done:
    """Read one region of the target, and compare it with what the source gave."""
    try:
        found = checksum(endpoints.target.read(*copied.step))
    except (CubegateError, OSError) as error:
        return copied._replace(problem=_told(error))
    return copied if found == copied.checksum else copied._replace(problem="it reads back differently")


def _copy(source: Readable, target: Writable, step: Step) -> Done:
    # what is raised on a cluster may not survive the way back
    try:
        values = source.read(*step)
        target.write(*step, values)
    except (CubegateError, OSError) as error:
        return Done(step, 0, _told(error))
    return Done(step, checksum(values))


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def copy_cube(
    layouts: Mapping[str, Layout], shapes: Mapping[str, Sizes], run: Runner, progress: Progress
) -> int:
    """Copy all arrays, read the whole target back, and return how many values were compared.

    Raises:
        RechunkFailed: a region cannot be read or written, or reads back differently.
    """
    direct = {path: layout.write for path, layout in layouts.items() if layout.between is None}
    read = {path: layout.read for path, layout in layouts.items() if layout.between is not None}
    write = {path: layouts[path].write for path in read}
    copied = _run(run, from_source, _steps(shapes, direct), ("Copying", progress))
    copied += _run(run, to_between, _steps(shapes, read), ("Copying, first pass", progress))
    _run(run, from_between, _steps(shapes, write), ("Copying, second pass", progress))
    _run(run, compare, copied, ("Comparing", progress))
    return sum(math.prod(part.stop - part.start for part in done.step.region) for done in copied)


def _steps(shapes: Mapping[str, Sizes], blocks: Mapping[str, Sizes]) -> list[Step]:
    return [Step(path, region) for path, block in blocks.items() for region in regions(shapes[path], block)]


def _run(
    run: Runner, work: Callable[[Endpoints, Any], Done], items: Sequence[Any], told: tuple[str, Progress]
) -> list[Done]:
    what, progress = told
    done: list[Done] = []
    for each in run(work, items):
        if each.problem:
            bounds = ", ".join(f"{part.start}:{part.stop}" for part in each.step.region)
            raise RechunkFailed(f"{what} of {each.step.path}[{bounds}] failed: {each.problem.rstrip('.')}.")
        done.append(each)
        progress(what, len(done), len(items))
    return done
