"""All Zarr documents of a cube, in both formats, built once and ready to send."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cubegate.errors import NotRepresentable
from cubegate.index.metadata import ArrayMetadata, CodecsV2, CodecsV3, Hierarchy
from cubegate.store import documents_v2, documents_v3

_OBJECT_CODECS = frozenset({"vlen-utf8", "vlen-bytes", "json2"})


@dataclass(frozen=True, slots=True)
class Document:
    """One document as sent; `etag` is the strong entity tag, quotes included."""

    body: bytes
    etag: str


class ZarrDocuments:
    """Every document of one hierarchy by Zarr key: `.zmetadata`, `v/.zarray`, `v/zarr.json` ...

    `crs_wkt` gives the CRS of georeferenced arrays by path. `reasons` says for each
    (path, Zarr format) that has no form why not.
    """

    def __init__(self, hierarchy: Hierarchy, crs_wkt: Mapping[str, str] | None = None) -> None:
        self.hierarchy = hierarchy
        self.reasons: dict[tuple[str, Literal[2, 3]], str] = {}
        self._crs_wkt = crs_wkt or {}
        self._documents: dict[str, Document] = {}
        self._build_v2()
        self._build_v3()

    def get(self, key: str) -> Document | None:
        """Return the document at a Zarr key, None where there is none."""
        return self._documents.get(key)

    def keys_in(self, path: str) -> list[str]:
        """The names of the documents directly inside the group or array at `path`, sorted."""
        names = (".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json")
        return sorted(name for name in names if _key(path, name) in self._documents)

    def _build_v2(self) -> None:
        documents: dict[str, documents_v2.Document] = {}
        for path, group in self.hierarchy.groups.items():
            for name, document in documents_v2.group_documents_v2(group).items():
                documents[_key(path, name)] = document
        for path, array in self.hierarchy.arrays.items():
            try:
                parts = documents_v2.array_documents_v2(array, self._crs_wkt.get(path))
            except NotRepresentable as error:
                self.reasons[path, 2] = str(error)
                continue
            for name, document in parts.items():
                documents[_key(path, name)] = document
        for path in self.hierarchy.groups:
            self._add(_key(path, ".zmetadata"), documents_v2.consolidated_v2(path, documents))
        for key, document in documents.items():
            self._add(key, document)

    def _build_v3(self) -> None:
        documents: dict[str, documents_v3.Document] = {}
        for path, group in self.hierarchy.groups.items():
            documents[path] = documents_v3.group_document_v3(group)
        for path, array in self.hierarchy.arrays.items():
            try:
                documents[path] = documents_v3.array_document_v3(array, self._crs_wkt.get(path))
            except NotRepresentable as error:
                self.reasons[path, 3] = str(error)
                continue
            self._add(_key(path, "zarr.json"), documents[path])
        for path, group in self.hierarchy.groups.items():
            self._add(_key(path, "zarr.json"), documents_v3.consolidated_v3(group, documents))

    def _add(self, key: str, document: Any) -> None:
        # NaN in attributes stays bare, as zarr-python writes and reads it
        body = json.dumps(document, ensure_ascii=False).encode()
        self._documents[key] = Document(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _key(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def plain_array(array: ArrayMetadata) -> ArrayMetadata:
    """Return the metadata of `array` with its chunks decoded: no filters, no compressor, C order.

    Byte order stays as stored. Objects keep the codec that writes them out, and a shard becomes
    one chunk.
    """
    filters: tuple[dict[str, str], ...] = ()
    if array.dtype.hasobject:
        filters = ({"id": _object_codec(array)},)
    return replace(array, codecs=CodecsV2(filters), document={})


def plain_hierarchy(hierarchy: Hierarchy) -> Hierarchy:
    """Return `hierarchy` with every array as `plain_array` has it, but records that hold objects."""
    arrays, skipped = {}, dict(hierarchy.skipped)
    for path, array in hierarchy.arrays.items():
        if array.dtype.names and array.dtype.hasobject:
            skipped[path] = (
                f"Array {path!r} holds records with strings of any length, which no plain chunk can."
            )
        else:
            arrays[path] = plain_array(array)
    return replace(hierarchy, arrays=arrays, skipped=skipped)


def _object_codec(array: ArrayMetadata) -> str:
    if isinstance(array.codecs, CodecsV3):
        names = [_serializer(codec) for codec in array.codecs.codecs]
    else:
        names = [str(configuration["id"]) for configuration in array.codecs.filters]
    return next((name for name in names if name in _OBJECT_CODECS), "vlen-utf8")


def _serializer(codec: Mapping[str, Any]) -> str:
    if codec["name"] != "sharding_indexed":
        return str(codec["name"])
    inner = [_serializer(part) for part in codec["configuration"]["codecs"]]
    return next((name for name in inner if name in _OBJECT_CODECS), "")
