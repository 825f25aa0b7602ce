"""A collection as configured: one YAML file that names a source and how to present it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from cubegate.errors import ConfigurationError
from cubegate.settings import Section, read_yaml, validate_section


class SourceSettings(Section):
    """Where a cube comes from.

    `missing` says what an absent chunk of a native Zarr store means: fill (as Zarr has it) or
    an error. `allow_missing_partitions` names arrays of a kerchunk Parquet store whose lost
    partitions count as unallocated. `fill` settles whether the `fill_value` of a reference file
    that no `_FillValue` attribute backs means missing (declared), is only what unallocated
    chunks hold (storage), or is what the granule itself says (auto).
    """

    kind: Literal["kerchunk", "zarr", "icechunk", "index"]
    href: str
    group: str = ""
    missing: Literal["fill", "error"] = "fill"
    allow_missing_partitions: tuple[str, ...] = ()
    fill: Literal["auto", "declared", "storage"] = "auto"
    branch: str | None = None
    tag: str | None = None
    snapshot: str | None = None


class DimensionSettings(Section):
    """The names of the grid's dimensions, where CF metadata does not say."""

    x: str | None = None
    y: str | None = None
    time: str | None = None


class Collection(Section):
    """One collection file."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    description: str = ""
    source: SourceSettings
    crs: str | None = None
    dimensions: DimensionSettings = DimensionSettings()
    variables: tuple[str, ...] | None = None


def load_collections(patterns: Iterable[str], directory: Path) -> dict[str, tuple[Path, Collection]]:
    """Read all collection files that `patterns`, relative to `directory`, match.

    Raises:
        ConfigurationError: a file is invalid, or two use the same id.
    """
    found: dict[str, tuple[Path, Collection]] = {}
    for pattern in patterns:
        for file in sorted(directory.glob(pattern) if not Path(pattern).is_absolute() else [Path(pattern)]):
            collection = validate_section(Collection, read_yaml(file), file)
            if collection.id in found and found[collection.id][0] != file:
                raise ConfigurationError(
                    f"the id {collection.id!r} is taken by {found[collection.id][0].name}",
                    file=str(file),
                    key="id",
                    mend="Choose another id.",
                )
            found[collection.id] = (file, collection)
    return found
