"""The settings of a server: cubegate.yaml, overridden by CUBEGATE_ environment variables."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from cubegate.errors import ConfigurationError

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
# as long as the C loader, which would crash on very deep nesting, may be trusted with a text
_SHORT = 2**13
_NUMBER = r"\d+(?:\.\d+)?"
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(value: Any) -> Any:
    """Read a number of bytes such as `1GiB`, `512 MB` or `1048576`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-z]*)\s*", str(value), re.ASCII)
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError("write a size such as 1GiB, 512MiB or 1048576")
    return int(float(match[1]) * _SIZES[match[2].upper()])


def parse_duration(value: Any) -> Any:
    """Read a number of seconds such as `60s`, `500ms` or `2m`."""
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([a-z]*)\s*", str(value), re.ASCII)
    if match is None or (match[2] or "s") not in _DURATIONS:
        raise ValueError("write a duration such as 60s, 500ms or 2m")
    return float(match[1]) * _DURATIONS[match[2] or "s"]


_MENDS = {
    "missing": "Add it.",
    "string_type": "Write text, in quotes where YAML would take it for a number or a date.",
    "tuple_type": "Write a list: [a, b].",
    "model_type": "Write keys and values below it.",
    "model_attributes_type": "Write keys and values below it.",
    "mapping_type": "Write keys and values below it.",
    "dict_type": "Write keys and values below it.",
    "union_tag_not_found": "Add kind.",
}

SectionType = TypeVar("SectionType", bound=BaseModel)
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, keys without a value have their default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, document: Any) -> Any:
        if document is None:
            return {}
        if isinstance(document, dict):
            return {key: value for key, value in document.items() if value is not None}
        return document


class ServerSettings(Section):
    """Where the server listens, and whether it logs every request."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    cors_origins: tuple[str, ...] = ("*",)
    access_log: bool = False


class CacheSettings(Section):
    """How much memory each process may hold of encoded chunks, and the Redis that replicas share."""

    memory: Size = 2**30
    redis: str | None = Field(None, repr=False)


class LimitSettings(Section):
    """What one query may cost, and how much a process takes on at once.

    `tile_chunks` are what a tile, or as many pixels of a map, may read. `deadline` bounds the time to
    the first byte and the longest stall after it. `queries` are worked
    at at a time, whose values take up to `memory`, and others wait; beyond `requests` in progress,
    waiting ones included, the answer is 503.
    """

    chunks: int = Field(50_000, ge=1)
    bytes: Size = 4 * 2**30
    cells: int = Field(200_000_000, ge=1)
    points: int = Field(1_000, ge=1)
    tile_chunks: int = Field(256, ge=1)
    deadline: Duration = 60.0
    queries: int = Field(64, ge=1)
    memory: Size = Field(4 * 2**30, ge=1)
    requests: int = Field(2_000, ge=1)


class CredentialSettings(Section):
    """One named set of credentials; secrets themselves stay in the environment or in files."""

    kind: Literal["s3", "aws", "earthdata", "earthdata-s3"]
    access_key_id_env: str | None = None
    access_key_id_file: Path | None = None
    secret_access_key_env: str | None = None
    secret_access_key_file: Path | None = None
    session_token_env: str | None = None
    session_token_file: Path | None = None
    profile: str | None = None
    endpoint: str | None = None
    token_env: str | None = None
    token_file: Path | None = None
    username_env: str | None = None
    password_env: str | None = None
    netrc: bool = False
    login: str = "https://urs.earthdata.nasa.gov"

    def rooted(self, directory: Path) -> CredentialSettings:
        """Return these settings with all files below `directory`, where they are not absolute."""
        files = {name: file for name, file in self if isinstance(file, Path)}
        return self.model_copy(update={name: directory / file for name, file in files.items()})


class UpstreamSettings(Section):
    """One allowed prefix of addresses, and how to read below it."""

    credentials: str | None = None
    anonymous: bool = False
    region: str | None = None
    endpoint_url: str | None = None


class ArchiveSettings(Section):
    """Where archives are searched: their own addresses, or those of mirrors."""

    cmr: str = "https://cmr.earthdata.nasa.gov"
    its_live_catalog: str = "https://its-live-data.s3.amazonaws.com/datacubes/catalog_v02.json"
    stac: str = "https://stac.itslive.cloud"
    hyp3: str = "https://hyp3-api.asf.alaska.edu"


class Settings(Section):
    """The whole of cubegate.yaml."""

    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    credentials: Mapping[str, CredentialSettings] = {}
    upstreams: Mapping[str, UpstreamSettings] = {}
    archives: ArchiveSettings = ArchiveSettings()
    collections: tuple[str, ...] = ("collections/*.yaml",)
    _directory: Path = PrivateAttr(Path())

    @property
    def directory(self) -> Path:
        """The directory that paths in the file are relative to."""
        return self._directory


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read `file`, overridden by `CUBEGATE_<SECTION>__<KEY>` of `environment`.

    Raises:
        ConfigurationError: with the file, the key and the mend.
    """
    document = read_yaml(file)
    origins: dict[tuple[str, ...], str] = {}
    for name, value in sorted(environment.items()):
        if name.startswith("CUBEGATE_") and "__" in name:
            _override(document, name, value, origins)
    settings = validate_section(Settings, document, file, origins)
    for prefix, upstream in settings.upstreams.items():
        if upstream.credentials is not None and upstream.credentials not in settings.credentials:
            raise ConfigurationError(
                f"there are no credentials called {upstream.credentials!r}",
                file=str(file),
                key=_shown_key(("upstreams", prefix, "credentials")),
                mend=f"Those in the credentials section: {', '.join(settings.credentials) or 'none'}.",
            )
    return _rooted(settings, file.resolve().parent)


def _rooted(settings: Settings, directory: Path) -> Settings:
    credentials = {name: section.rooted(directory) for name, section in settings.credentials.items()}
    rooted = settings.model_copy(update={"credentials": credentials})
    rooted._directory = directory  # noqa: SLF001 - its own class, and no key of the file
    return rooted


def _override(document: dict[str, Any], name: str, value: str, origins: dict[tuple[str, ...], str]) -> None:
    """Set the key that the variable `name` stands for, and note in `origins` what came from it."""
    *sections, last = name.removeprefix("CUBEGATE_").lower().split("__")
    target = document
    path: tuple[str, ...] = ()
    for part in sections:
        key = _spelled(target, part)
        path = (*path, key)
        if target.get(key) is None:
            target[key] = {}
            origins[path] = name
        target = target[key]
        if not isinstance(target, dict):
            raise ConfigurationError(
                f"there are no keys below {_shown_key(path)}", file=name, mend="Unset this variable."
            )
    key = _spelled(target, last)
    origins[*path, key] = name
    try:
        target[key] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        target[key] = value


def _spelled(section: Mapping[str, Any], name: str) -> str:
    """Return the key of `section` that differs from `name` at most in case, which variables do not keep."""
    return next((key for key in section if str(key).lower() == name), name)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        ConfigurationError: the file is missing, not YAML, or not a mapping.
    """
    try:
        document = _parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})", file=str(file)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: not UTF-8, or a date that no calendar has
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(
            f"is not valid YAML{line}", file=str(file), mend="Check indentation and quotes."
        ) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError("is not a mapping of keys to values", file=str(file))
    return document


def _parse_yaml(text: str) -> Any:
    # libyaml, where PyYAML comes with it, reads a thousand collection files in a fifth of the time
    if yaml.__with_libyaml__ and len(text) <= _SHORT:
        with contextlib.suppress(yaml.YAMLError):
            return yaml.load(text, yaml.CSafeLoader)
    # the other one says best what is wrong and where
    return yaml.safe_load(text)


def validate_section(
    model: type[SectionType],
    document: Any,
    file: Path,
    origins: Mapping[tuple[str, ...], str] | None = None,
) -> SectionType:
    """Validate `document` as `model`, turning the first problem into a `ConfigurationError`.

    `origins` maps the keys that did not come from `file` to the environment variables that set them.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
    # raised out here, since the text of pydantic's error holds the keys as written
    # a misspelt key explains best why its right spelling is missing
    first = min(found, key=lambda problem: problem["type"] != "extra_forbidden")
    location = first["loc"]
    sources = [path for path in origins or {} if location[: len(path)] == path]
    raise ConfigurationError(
        first["msg"].removeprefix("Value error, "),
        file=origins[max(sources, key=len)] if origins and sources else str(file),
        key=_shown_key(_without_kinds(model, location)),
        mend=_mend(model, first["type"], location),
    )


def _shown_key(location: tuple[Any, ...]) -> str:
    # a key may be an address, and an address may hold a password
    return ".".join(re.sub(r"//[^/]*@", "//", re.split("[?#]", str(part))[0]) for part in location)


def _mend(model: type[BaseModel], problem: str, location: tuple[Any, ...]) -> str:
    if problem == "extra_forbidden":
        known = _section_at(model, location[:-1])
        return f"Known keys here: {', '.join(known.model_fields)}." if known else "Remove it."
    return _MENDS.get(problem, "")


def _section_at(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    *_, (_, found) = _walk(model, location)
    return found if hasattr(found, "model_fields") else None


def _without_kinds(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `location` without what pydantic adds to it where the kind of a section decides its keys."""
    return tuple(
        part for part, (is_kind, _) in zip(location, _walk(model, location)[1:], strict=True) if not is_kind
    )


def _walk(model: type[BaseModel], location: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """The types from `model` on along `location`, each with whether it was chosen by its kind."""
    steps: list[tuple[bool, Any]] = [(False, model)]
    for part in location:
        found = steps[-1][1]
        kind = next(
            (member for member in _kinds(found) if part in get_args(member.model_fields["kind"].annotation)),
            None,
        )
        if kind is not None:
            steps.append((True, kind))
        elif get_origin(found) is Mapping:
            steps.append((False, get_args(found)[1]))
        else:
            field = getattr(found, "model_fields", {}).get(part)
            steps.append((False, None if field is None else field.annotation))
    return steps


def _kinds(found: Any) -> list[type[BaseModel]]:
    """The sections among which `kind` decides."""
    members = get_args(get_args(found)[0]) if get_origin(found) is Annotated else ()
    return [member for member in members if "kind" in getattr(member, "model_fields", {})]
