"""Builds the demo directory step by step, each step atomic and none done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cubegate.demo import granules, its_live, references
from cubegate.demo.configuration import write_configuration
from cubegate.errors import ConfigurationError

# Raise it with every change to what is written, so that older directories are made anew.
FORMAT = 1
MARKER = "demo.json"
GRANULES = "granules"
JSON_REFERENCES = "opera-f11116.json"
PARQUET_REFERENCES = "opera-f11116.parq"
ICE = "its-live.zarr"
_REFERENCES = (JSON_REFERENCES, PARQUET_REFERENCES)

Advance = Callable[[], None]


@dataclass
class _Marker:
    """What is complete: sizes in bytes by relative path, written after each step."""

    directory: Path
    complete: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> _Marker:
        """Read the marker; of one in another format nothing counts as complete."""
        marker = cls(directory)
        path = directory / MARKER
        if not path.exists():
            if any(file != _partial(path) for file in directory.iterdir()):
                raise ConfigurationError(
                    f"{directory} is not empty, and was not made by this command",
                    mend="Name a new directory with --directory.",
                )
            return marker
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] == FORMAT:
            marker.complete = document["complete"]
            if document["directory"] != str(directory):
                marker.forget(_REFERENCES)
        return marker

    def forget(self, names: Iterable[str]) -> None:
        """Count the artefacts called `names` as not complete."""
        for name in names:
            self.complete.pop(name, None)

    def holds(self, path: Path) -> bool:
        """Whether `path` is as it was when it was finished."""
        return path.exists() and self.complete.get(self._key(path)) == _nbytes(path)

    def add(self, path: Path) -> None:
        self.complete[self._key(path)] = _nbytes(path)
        self.write()

    def write(self) -> None:
        document = {"format": FORMAT, "directory": str(self.directory), "complete": self.complete}
        with _replacing(self.directory / MARKER) as partial:
            partial.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self.directory))


@dataclass(frozen=True)
class _Step:
    """One artefact: how to write it, and in how many advances of the progress bar."""

    path: Path
    label: str
    write: Callable[[Path, Advance], None]
    advances: int = 1


def build_demo(directory: Path, console: Console) -> Path:
    """See `cubegate.demo.make_demo`."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    marker = _Marker.read(directory)
    steps = _outdated(_steps(directory), marker)
    marker.write()
    (directory / GRANULES).mkdir(exist_ok=True)
    _run(steps, marker, console)
    return write_configuration(directory)


def _steps(directory: Path) -> list[_Step]:
    scene = granules.landscape()
    paths = {directory / GRANULES / pair.name: pair for pair in granules.pairs()}
    scanned: dict[str, Any] = {}

    def scan() -> dict[str, Any]:
        if not scanned:
            scanned.update(references.combine_granules(list(paths)))
        return scanned

    def granule(path: Path, pair: granules.Pair) -> _Step:
        def write(partial: Path, advance: Advance) -> None:
            granules.write_granule(partial, pair, scene)
            advance()

        return _Step(path, "OPERA-like granules", write)

    def write_json(partial: Path, advance: Advance) -> None:
        references.write_json(partial, scan())
        advance()

    def write_parquet(partial: Path, advance: Advance) -> None:
        references.write_parquet(partial, scan())
        advance()

    return [
        *(granule(path, pair) for path, pair in paths.items()),
        _Step(directory / JSON_REFERENCES, "references", write_json),
        _Step(directory / PARQUET_REFERENCES, "references", write_parquet),
        _Step(directory / ICE, "ITS_LIVE-like cube", its_live.write_cube, its_live.COUNT // its_live.BATCH),
    ]


def _outdated(steps: list[_Step], marker: _Marker) -> list[_Step]:
    """The steps to take: what is not complete, and the references wherever a granule is not."""
    if any(step.path.parent.name == GRANULES and not marker.holds(step.path) for step in steps):
        marker.forget(_REFERENCES)
    return [step for step in steps if not marker.holds(step.path)]


def _run(steps: list[_Step], marker: _Marker, console: Console) -> None:
    if not steps:
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("demo cubes", total=sum(step.advances for step in steps))
        for step in steps:
            progress.update(task, description=step.label)
            with _replacing(step.path) as partial:
                step.write(partial, lambda: progress.advance(task))
            marker.add(step.path)
        progress.update(task, description="demo cubes")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, a file or a directory, that takes the place of `path` at the end."""
    partial = _partial(path)
    _remove(partial)
    yield partial
    if path.is_dir():
        _remove(path)
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _nbytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
