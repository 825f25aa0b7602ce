"""Reads an Intake catalog in YAML: its netCDF, Zarr and kerchunk sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from cubegate.errors import InvalidReference

Kind = Literal["netcdf", "zarr", "kerchunk"]

_DRIVERS: Mapping[str, Kind] = {
    "netcdf": "netcdf",
    "intake_xarray.netcdf.NetCDFSource": "netcdf",
    "zarr": "zarr",
    "intake_xarray.xzarr.ZarrSource": "zarr",
    "kerchunk": "kerchunk",
    "reference": "kerchunk",
}
_DIRECTORY = re.compile(r"\{\{\s*CATALOG_DIR\s*\}\}/?")
_REFERENCE = "reference://"
LARGEST = 2**24


@dataclass(frozen=True)
class Source:
    """One source of a catalog: what it is, and its addresses, relative ones as they stand."""

    name: str
    kind: Kind
    urls: tuple[str, ...]
    title: str = ""
    group: str = ""
    concat: str | None = None


def read_catalog(data: bytes, name: str) -> tuple[list[Source], dict[str, str]]:
    """Return the sources that can be mounted, and why each of the others cannot.

    Of templates only `{{ CATALOG_DIR }}` is known: nothing is evaluated.

    Raises:
        InvalidReference: `data`, which came from `name`, is no Intake catalog.
    """
    try:
        document = yaml.safe_load(data) if len(data) <= LARGEST else None
    except (yaml.YAMLError, RecursionError, ValueError):
        document = None
    entries = document.get("sources") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise InvalidReference(f"{name} is no Intake catalog of version 1: it has no `sources`.")
    found: list[Source] = []
    left_out: dict[str, str] = {}
    for key, entry in entries.items():
        source = _source(str(key), entry)
        if isinstance(source, Source):
            found.append(source)
        else:
            left_out[str(key)] = source
    return found, left_out


def _source(name: str, entry: Any) -> Source | str:
    if not isinstance(entry, dict) or not isinstance(entry.get("args"), dict):
        return "has no driver with args"
    driver, arguments = entry.get("driver"), entry["args"]
    if not isinstance(driver, str) or driver not in _DRIVERS:
        return f"has the driver {str(driver)[:60]!r}, not one of {', '.join(sorted(_DRIVERS))}"
    options = arguments.get("xarray_kwargs") if isinstance(arguments.get("xarray_kwargs"), dict) else {}
    urls = _texts(arguments.get("urlpath"))
    kind = _DRIVERS[driver]
    if urls == [_REFERENCE] or kind == "kerchunk":
        storage = arguments.get("storage_options")
        given = storage.get("fo") if isinstance(storage, dict) else None
        kind, urls = "kerchunk", _texts(given if urls in ([], [_REFERENCE]) else arguments.get("urlpath"))
    if not urls:
        return "names no address"
    urls = [_DIRECTORY.sub("", url) for url in urls]
    if any("{{" in url or "{%" in url for url in urls):
        return "has an address with a template, which is not filled in"
    if kind != "netcdf" and len(urls) != 1:
        return f"names {len(urls)} addresses, and a {kind} source has one"
    group = arguments.get("group") or options.get("group") or ""
    concat = arguments.get("concat_dim") or options.get("concat_dim")
    title = entry.get("description")
    return Source(
        name,
        kind,
        tuple(urls),
        title if isinstance(title, str) else "",
        str(group),
        None if concat is None else str(concat),
    )


def _texts(value: Any) -> list[str]:
    each: Sequence[Any] = value if isinstance(value, list) else [value]
    return [text for text in each if isinstance(text, str) and text]
