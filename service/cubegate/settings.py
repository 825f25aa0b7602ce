"""The settings of a server: cubegate.yaml, overridden by CUBEGATE_ environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cubegate.errors import ConfigurationError

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(value: Any) -> Any:
    """Read a number of bytes such as `1GiB`, `512 MB` or `1048576`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError("write a size such as 1GiB, 512MiB or 1048576")
    return int(float(match[1]) * _SIZES[match[2].upper()])


def parse_duration(value: Any) -> Any:
    """Read a number of seconds such as `60s`, `500ms` or `2m`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", value)
    if match is None or (match[2] or "s") not in _DURATIONS:
        raise ValueError("write a duration such as 60s, 500ms or 2m")
    return float(match[1]) * _DURATIONS[match[2] or "s"]


SectionType = TypeVar("SectionType", bound=BaseModel)
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(Section):
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    cors_origins: tuple[str, ...] = ("*",)


class CacheSettings(Section):
    """How much memory each process may hold of encoded chunks, and the Redis that replicas share."""

    memory: Size = 2**30
    redis: str | None = Field(None, repr=False)


class LimitSettings(Section):
    """What one query may cost.

    `deadline` bounds the time to the first byte and the longest stall after it.
    """

    chunks: int = Field(50_000, ge=1)
    bytes: Size = 4 * 2**30
    cells: int = Field(200_000_000, ge=1)
    points: int = Field(1_000, ge=1)
    deadline: Duration = 60.0


class CredentialSettings(Section):
    """One named set of credentials; secrets themselves stay in the environment or in files."""

    kind: Literal["s3", "aws", "earthdata"]
    access_key_id_env: str | None = None
    secret_access_key_env: str | None = None
    session_token_env: str | None = None
    profile: str | None = None
    token_env: str | None = None
    token_file: Path | None = None


class UpstreamSettings(Section):
    """One allowed prefix of addresses, and how to read below it."""

    credentials: str | None = None
    anonymous: bool = False
    region: str | None = None
    endpoint_url: str | None = None


class Settings(Section):
    """The whole of cubegate.yaml."""

    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    credentials: Mapping[str, CredentialSettings] = {}
    upstreams: Mapping[str, UpstreamSettings] = {}
    collections: tuple[str, ...] = ("collections/*.yaml",)
    directory: Path = Field(Path(), exclude=True)


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read `file`, overridden by `CUBEGATE_<SECTION>__<KEY>` of `environment`.

    Raises:
        ConfigurationError: with the file, the key and the mend.
    """
    document = read_yaml(file)
    for name, value in environment.items():
        if name.startswith("CUBEGATE_") and "__" in name:
            _override(document, name, value)
    settings = validate_section(Settings, document, file)
    for prefix, upstream in settings.upstreams.items():
        if upstream.credentials is not None and upstream.credentials not in settings.credentials:
            raise ConfigurationError(
                f"there are no credentials called {upstream.credentials!r}",
                file=str(file),
                key=f"upstreams.{prefix}.credentials",
                mend=f"Name one of {sorted(settings.credentials) or 'the credentials section'}.",
            )
    return settings.model_copy(update={"directory": file.resolve().parent})


def _override(document: dict[str, Any], name: str, value: str) -> None:
    section, *keys = name.removeprefix("CUBEGATE_").lower().split("__")
    target = document.setdefault(section, {})
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    try:
        target[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        target[keys[-1]] = value


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        ConfigurationError: the file is missing, not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})", file=str(file)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"is not valid YAML{line}", file=str(file), mend="Check indentation and quotes.") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError("is not a mapping of keys to values", file=str(file))
    return document


def validate_section(model: type[SectionType], document: Any, file: Path) -> SectionType:
    """Validate `document` as `model`, turning the first problem into a `ConfigurationError`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError(
            first["msg"].removeprefix("Value error, "),
            file=str(file),
            key=".".join(str(part) for part in first["loc"]),
            mend=_mend(model, first["type"], first["loc"]),
        ) from None


def _mend(model: type[BaseModel], problem: str, location: tuple[Any, ...]) -> str:
    if problem == "extra_forbidden":
        known: Any = model
        for part in location[:-1]:
            known = known.model_fields.get(part).annotation if part in getattr(known, "model_fields", {}) else None
            if known is None:
                return "Remove it, or check its spelling."
        return f"Known keys here: {', '.join(getattr(known, 'model_fields', {}))}."
    if problem == "missing":
        return "Add it."
    return ""
