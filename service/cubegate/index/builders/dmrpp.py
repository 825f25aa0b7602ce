"""Builds the index of one file from the DMR++ document beside it, as Hyrax's build_dmrpp writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from cubegate.chunks.address import shown
from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import InvalidReference
from cubegate.index.builders.dmrpp_chunks import parse_size
from cubegate.index.builders.dmrpp_variables import (
    OTHER_TYPES,
    TYPES,
    attributes_in,
    read_variable,
)
from cubegate.index.builders.dmrpp_xml import HREF, MAX_NBYTES, children, dap, local_name, parse_dmrpp
from cubegate.index.builders.hdf5_datasets import ScannedArray
from cubegate.index.builders.scanned import index_of_scanned
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent

_SUFFIX = ".dmrpp"
# what Hyrax replaces when it answers
_PLACEHOLDER = "OPeNDAP_DMRpp_DATA_ACCESS_URL"


async def build_from_dmrpp(
    source: ObjectSource,
    url: str,
    *,
    check_url: Callable[[str], None],
    group: str = "",
    progress: Progress = silent,
) -> Index:
    """Read the DMR++ document at `url`; the data are where its `href` says, else beside it.

    `group` is taken as the root. What has no form as byte ranges is in `skipped`, with the reason.

    Raises:
        InvalidReference: the document is malformed or not allowed, or has no such group.
        UpstreamError: it cannot be read.
        CubegateError: whatever `check_url` raises.
    """
    progress("Fetching references", 0, 1)
    state = await source.stat(url)
    if state.nbytes is not None and state.nbytes > MAX_NBYTES:
        raise InvalidReference(f"{shown(url)} is larger than the {MAX_NBYTES:,} bytes that a DMR++ may have.")
    data = await source.get(ChunkReference(url, validator=state.validator))
    return await asyncio.to_thread(_read, data, url, group.strip("/"), check_url)


def _read(data: bytes, url: str, group: str, check_url: Callable[[str], None]) -> Index:
    root = parse_dmrpp(data, shown(url))
    written = root.get(HREF) or ""
    data_url = written if written and written != _PLACEHOLDER else url[: -len(_SUFFIX)]
    found = _Document(shown(url))
    found.read(root, "", group)
    if not found.groups:
        raise InvalidReference(f"{shown(url)} has no group {group!r}.")

    def granules(path: str) -> list[str]:
        hrefs = found.hrefs[path]
        if len(set(hrefs)) == 1:
            hrefs = hrefs[:1]
        return [href if href and href != _PLACEHOLDER else data_url for href in hrefs]

    return index_of_scanned(
        found.groups, found.arrays, found.skipped, base_url=url, check_url=check_url, granules=granules
    )


@dataclass
class _Document:
    """What a document says, by path from the group that is the root."""

    name: str
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, ScannedArray] = field(default_factory=dict)
    hrefs: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def read(self, element: Element, path: str, root: str) -> None:
        """Read the group `element` at `path`, and those below, where they are in the group `root`."""
        for dimension in children(element, dap("Dimension")):
            name = "/".join(part for part in (path, dimension.get("name", "")) if part)
            try:
                self.sizes[f"/{name}"] = parse_size(dimension.get("size"))
            except InvalidReference as error:
                raise InvalidReference(f"{self.name}: {error}.") from None
        inside = _below(path, root)
        if inside is not None:
            if inside in self.groups:
                raise InvalidReference(f"{self.name} has the group {path[:200]!r} twice.")
            self.groups[inside] = attributes_in(element)
            for kind, variable in _variables(element):
                self._enter("/".join(p for p in (inside, variable.get("name", "")) if p), kind, variable)
        for child in children(element, dap("Group")):
            self.read(child, "/".join(part for part in (path, child.get("name", "")) if part), root)

    def _enter(self, path: str, kind: str, variable: Element) -> None:
        if path in self.arrays or path in self.skipped:
            raise InvalidReference(f"{self.name} has the variable {path[:200]!r} twice.")
        try:
            self.arrays[path], self.hrefs[path] = read_variable(variable, kind, self.sizes)
        except InvalidReference as error:
            self.skipped[path] = f"array {path!r}: {error}"


def _variables(element: Element) -> Iterator[tuple[str, Element]]:
    for child in element:
        kind = local_name(child)
        if kind in TYPES or kind in OTHER_TYPES:
            yield kind, child


def _below(path: str, root: str) -> str | None:
    """Return `path` from the group `root`, None where it is not in it."""
    if not root or path == root:
        return path if not root else ""
    return path.removeprefix(f"{root}/") if path.startswith(f"{root}/") else None
