"""What a build keeps beside its cube, so that it can be brought up to date: what was asked for, and found."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubegate.errors import ConfigurationError

FORMAT = 1


@dataclass(frozen=True)
class BuildRecord:
    """One build: of which archive, by which parameters, and from what it was made.

    `granules` are the names of the granules, by time; `allow_gaps` the arrays that may lack chunks.
    `version` is that of the index that was written.
    """

    kind: str
    wanted: Mapping[str, Any]
    granules: tuple[str, ...]
    version: str
    allow_gaps: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)


def record_file(directory: Path, dataset_id: str) -> Path:
    """Return where the record of a cube is; no pattern for collection files should match it."""
    return directory / f"{dataset_id}.build.json"


def write_record(path: Path, record: BuildRecord) -> None:
    """Write `record` to `path`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    document = {
        "format": FORMAT,
        "kind": record.kind,
        "version": record.version,
        "wanted": dict(record.wanted),
        "allow_gaps": list(record.allow_gaps),
        "others": dict(record.others),
        "granules": list(record.granules),
    }
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        json.dump(document, file, indent=1)
    made = Path(file.name)
    made.chmod(0o644)
    made.replace(path)


def read_record(path: Path) -> BuildRecord:
    """Read the record at `path`.

    Raises:
        ConfigurationError: there is none, or it is damaged.
    """
    mend = "Build the cube again with cubegate build."
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        raise ConfigurationError(said, file=str(path), mend=mend) from None
    except ValueError:
        raise ConfigurationError("is not JSON", file=str(path), mend=mend) from None
    try:
        record = BuildRecord(
            str(document["kind"]),
            dict(document["wanted"]),
            tuple(map(str, document["granules"])),
            str(document["version"]),
            tuple(map(str, document["allow_gaps"])),
            dict(document["others"]),
        )
        known = document["format"] == FORMAT
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("is no record of a build", file=str(path), mend=mend) from None
    if not known:
        raise ConfigurationError("was written by another version of cubegate", file=str(path), mend=mend)
    return record
