"""Spool files: documents that must be finished before their first byte can be sent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

PIECE = 2**20


class SpooledDocument(Iterator[bytes]):
    """A document that `build` writes to a file: yielded in pieces of 1 MiB, or saved as it is.

    The file is made in the directory for temporary files (`TMPDIR`), at the first use, and
    deleted at the end, whatever happens.
    """

    def __init__(self, build: Callable[[Path], None], suffix: str) -> None:
        self._build, self._suffix = build, suffix
        self._pieces = self._read()

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Delete the file of a document that is not read to its end."""
        self._pieces.close()

    def save(self, path: Path) -> None:
        """Build the document and leave it at `path`; it cannot be iterated as well."""
        # next to it, so that it goes with the rest of a spool whose process was killed
        with tempfile.TemporaryDirectory(prefix="building-", dir=path.parent) as directory:
            shutil.move(self._built(directory), path)

    def _built(self, directory: str) -> Path:
        built = Path(directory) / f"result{self._suffix}"
        self._build(built)
        return built

    def _read(self) -> Generator[bytes, None, None]:
        with (
            tempfile.TemporaryDirectory(prefix="cubegate-") as directory,
            self._built(directory).open("rb") as file,
        ):
            while piece := file.read(PIECE):
                yield piece
