"""Spool files: documents that must be finished before their first byte can be sent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PIECE = 2**20


def spooled(build: Callable[[Path], None], suffix: str) -> Iterator[bytes]:
    """Let `build` write a file, yield it in pieces of 1 MiB and delete it, whatever happens.

    The file is made in the directory for temporary files (`TMPDIR`).
    """
    with tempfile.TemporaryDirectory(prefix="cubegate-") as directory:
        path = Path(directory) / f"result{suffix}"
        build(path)
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
