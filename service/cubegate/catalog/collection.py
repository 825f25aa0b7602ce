"""A collection as configured: one YAML file that names a source and how to present it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from glob import glob
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cubegate.catalog.identifiers import ID_PATTERN
from cubegate.catalog.watching import Stamp, stamp_of
from cubegate.derived.settings import DerivedSettings
from cubegate.errors import ConfigurationError, InvalidParameter
from cubegate.query.crs import parse_crs
from cubegate.settings import Section, read_yaml, validate_section

# a name, below the path of its group
DerivedName = Annotated[str, Field(pattern=r"^([^/\s][^/]*/)*[A-Za-z_][A-Za-z0-9_.-]*$", max_length=200)]


class SourceSettings(Section):
    """Where a cube comes from.

    `missing` says what an absent chunk of a native Zarr store means: fill (as Zarr has it) or
    an error. `allow_missing_partitions` names arrays of a kerchunk Parquet store whose lost
    partitions count as unallocated. `fill` settles whether the `fill_value` of a reference file
    that no `_FillValue` attribute backs means missing (declared), is only what unallocated
    chunks hold (storage), or is what the granule itself says (auto). `members` are the ids of the
    collections that a combined one answers from, in the order of precedence.
    """

    kind: Literal["kerchunk", "zarr", "icechunk", "index", "combined"]
    href: str = ""
    members: tuple[str, ...] = ()
    group: str = ""
    missing: Literal["fill", "error"] = "fill"
    allow_missing_partitions: tuple[str, ...] = ()
    fill: Literal["auto", "declared", "storage"] = "auto"
    branch: str | None = None
    tag: str | None = None
    snapshot: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_all_that_depends_on_the_kind(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        given = {key: value for key, value in document.items() if value is not None}
        # or else what is left out would not be looked at
        return {"href": "", "members": [], **given}

    @field_validator("href")
    @classmethod
    def _check_href(cls, href: str, info: ValidationInfo) -> str:
        kind = info.data.get("kind")
        if kind == "combined" and href:
            raise ValueError("a combined collection has members, and no href of its own")
        if kind not in (None, "combined") and not href:
            raise PydanticCustomError("missing", "Field required")
        return href

    @field_validator("members")
    @classmethod
    def _check_members(cls, members: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind = info.data.get("kind")
        if kind == "combined" and not members:
            raise PydanticCustomError("missing", "Field required")
        if kind not in (None, "combined") and members:
            raise ValueError("only a collection of the kind combined has members")
        twice = sorted({member for member in members if members.count(member) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return members

    @field_validator(
        "group", "missing", "allow_missing_partitions", "fill", "branch", "tag", "snapshot", mode="before"
    )
    @classmethod
    def _leave_to_members(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("kind") == "combined":
            raise ValueError("a combined collection has this from its members")
        return value


class DimensionSettings(Section):
    """The names of the grid's dimensions, where CF metadata does not say."""

    x: str | None = None
    y: str | None = None
    time: str | None = None


class OverviewSettings(Section):
    """Where `cubegate overviews` puts the overviews of a cube: a folder with a store for each version."""

    href: str | None = Field(None, min_length=1)


class Collection(Section):
    """One collection file."""

    id: str = Field(pattern=rf"^{ID_PATTERN}$")
    title: str = ""
    description: str = ""
    source: SourceSettings
    crs: str | None = None
    dimensions: DimensionSettings = DimensionSettings()
    variables: tuple[str, ...] | None = None
    derived: Mapping[DerivedName, DerivedSettings] = {}
    overviews: OverviewSettings = OverviewSettings()

    @field_validator("crs", "dimensions", "variables", "derived", "overviews", mode="before")
    @classmethod
    def _leave_to_members(cls, value: object, info: ValidationInfo) -> object:
        source = info.data.get("source")
        if isinstance(source, SourceSettings) and source.kind == "combined":
            raise ValueError("a combined collection has this from its members")
        return value

    @field_validator("crs")
    @classmethod
    def _check_crs(cls, crs: str | None) -> str | None:
        if crs is not None:
            try:
                parse_crs(crs)
            except InvalidParameter as error:
                raise ValueError(str(error).rstrip(".")) from None
        return crs


class Configured(NamedTuple):
    """A collection, and the file that it was read from."""

    file: Path
    collection: Collection


class CollectionFiles:
    """The collection files that `patterns`, absolute or relative to `directory`, match.

    A file is parsed again only where its stamp is another one.
    """

    def __init__(self, patterns: Iterable[str], directory: Path) -> None:
        self._patterns = tuple(str(Path(pattern)) for pattern in patterns)
        self._directory = directory
        self._stamps: dict[str, Stamp] = {}
        self._parsed: dict[str, tuple[Stamp, Configured]] = {}
        self._collections: Mapping[str, Configured] = {}

    def read(self) -> Mapping[str, Configured]:
        """Return all collections by their ids; the same mapping as before, where no file has changed.

        Raises:
            ConfigurationError: a changed file is invalid, or two use the same id. It is raised once;
                until files change again, the collections are those that there were before.
        """
        stamps = {path: stamp_of(path) for pattern in self._patterns for path in self._matching(pattern)}
        if stamps != self._stamps:
            self._stamps = stamps
            parsed = {path: self._parse(path, stamp) for path, stamp in stamps.items()}
            self._collections = _by_id(configured for _, configured in parsed.values())
            self._parsed = parsed
        return self._collections

    def unmatched(self) -> list[str]:
        """Return the patterns that match no file."""
        return [pattern for pattern in self._patterns if not self._matching(pattern)]

    def _matching(self, pattern: str) -> list[str]:
        # pathlib takes three times as long for a thousand files, which are looked at every second
        root = self._directory
        found = glob(pattern, root_dir=root, recursive=True, include_hidden=True)  # noqa: PTH207
        return sorted(os.path.join(root, name) for name in found)  # noqa: PTH118

    def _parse(self, path: str, stamp: Stamp) -> tuple[Stamp, Configured]:
        known = self._parsed.get(path)
        if known is not None and known[0] == stamp:
            return known
        file = Path(path)
        return stamp, Configured(file, validate_section(Collection, read_yaml(file), file))


def _by_id(found: Iterable[Configured]) -> dict[str, Configured]:
    collections: dict[str, Configured] = {}
    for configured in found:
        name = configured.collection.id
        if name in collections:
            raise ConfigurationError(
                f"the id {name!r} is taken by {collections[name].file.name}",
                file=str(configured.file),
                key="id",
                mend="Choose another id.",
            )
        collections[name] = configured
    for configured in collections.values():
        _check_members(configured, collections)
    return collections


def _check_members(configured: Configured, collections: Mapping[str, Configured]) -> None:
    for member in configured.collection.source.members:
        if member not in collections:
            problem, mend = f"there is no collection {member!r}", "Add its file, or take it out of the list."
        elif collections[member].collection.source.members:
            problem = f"{member!r} is itself a combined collection"
            mend = "Name the members of it instead."
        else:
            continue
        raise ConfigurationError(problem, file=str(configured.file), key="source.members", mend=mend)
