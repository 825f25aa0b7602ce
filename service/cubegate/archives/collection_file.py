"""Writes the collection file that mounts a cube."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write_collection(path: Path, document: Mapping[str, Any]) -> None:
    """Write `document` to `path`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.stem}.", delete=False
    ) as file:
        file.write(text)
    made = Path(file.name)
    # a temporary file is its owner's alone, and the server may be somebody else
    made.chmod(0o644)
    made.replace(path)
