"""A collection as configured: one YAML file that names a source and how to present it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from cubegate.errors import ConfigurationError, InvalidParameter
from cubegate.query.crs import parse_crs
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

    @field_validator("crs")
    @classmethod
    def _check_crs(cls, crs: str | None) -> str | None:
        if crs is not None:
            try:
                parse_crs(crs)
            except InvalidParameter as error:
                raise ValueError(str(error).rstrip(".")) from None
        return crs


def matching_files(patterns: Iterable[str], directory: Path) -> list[Path]:
    """Return the files that `patterns` match, which are absolute or relative to `directory`."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        root, rest = (
            (Path(path.anchor), path.relative_to(path.anchor)) if path.is_absolute() else (directory, path)
        )
        found.update(dict.fromkeys(sorted(root.glob(str(rest)))))
    return list(found)


def load_collections(patterns: Iterable[str], directory: Path) -> dict[str, tuple[Path, Collection]]:
    """Read all collection files that `patterns`, relative to `directory`, match.

    Raises:
        ConfigurationError: a file is invalid, or two use the same id.
    """
    found: dict[str, tuple[Path, Collection]] = {}
    for file in matching_files(patterns, directory):
        collection = validate_section(Collection, read_yaml(file), file)
        if collection.id in found:
            raise ConfigurationError(
                f"the id {collection.id!r} is taken by {found[collection.id][0].name}",
                file=str(file),
                key="id",
                mend="Choose another id.",
            )
        found[collection.id] = (file, collection)
    return found
