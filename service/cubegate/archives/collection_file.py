"""Writes the collection files that mount cubes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def write_collection(path: Path, document: Mapping[str, Any]) -> None:
    """Write `document` to `path`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_collections([(path, document)])


def write_collections(files: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Write each document to its path, in this order, each whole; none where one finds no room.

    Raises:
        OSError: they cannot be written.
    """
    made: list[tuple[Path, Path]] = []
    try:
        for path, document in files:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            made.append((_write_beside(path, document), path))
        for temporary, path in made:
            temporary.replace(path)
    finally:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)


def _write_beside(path: Path, document: Mapping[str, Any]) -> Path:
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.stem}.", delete=False
    ) as file:
        made = Path(file.name)
        try:
            file.write(text)
            file.flush()
        except OSError:
            made.unlink(missing_ok=True)
            raise
    # a temporary file is its owner's alone, and the server may be somebody else
    made.chmod(0o644)
    return made
