"""Builds a hierarchy from the metadata documents of a Zarr store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cubegate.errors import InvalidMetadata, InvalidReference
from cubegate.index.metadata import ArrayMetadata, GroupMetadata, Hierarchy, with_parents
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3
from cubegate.store.sources.keyed import chunk_keys

NODE_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zarray"})
V2_DOCUMENTS = frozenset({".zgroup", ".zarray", ".zattrs"})


def parse_document(data: bytes) -> Any:
    """Parse a metadata document; None where it is not JSON, as no valid document is null."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def build_hierarchy(documents: Mapping[str, Any]) -> Hierarchy:
    """Read parsed `documents` by store key (`a/b/zarr.json`, `a/.zarray`), of either format.

    A node that cannot be served is in `skipped`, with the reason.

    Raises:
        InvalidMetadata: the root group or a path is malformed.
    """
    groups: dict[str, GroupMetadata] = {}
    arrays: dict[str, ArrayMetadata] = {}
    skipped: dict[str, str] = {}
    for key in sorted(documents):
        path, _, name = key.rpartition("/")
        if name not in NODE_DOCUMENTS:
            continue
        check_path(path)
        try:
            node = _read_v3(path, documents) if name == "zarr.json" else _read_v2(path, name, documents)
        except InvalidReference as error:
            if not path:
                raise
            skipped[path] = str(error)
            continue
        if isinstance(node, ArrayMetadata):
            arrays[path] = node
        else:
            groups[path] = node
    return Hierarchy(with_parents(groups, arrays), arrays, skipped)


def check_path(path: str) -> None:
    """Raise `InvalidMetadata` for a path that could leave the store; the empty path is the root."""
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidMetadata(f"{path!r} is not a path inside a Zarr store")


def _read_v3(path: str, documents: Mapping[str, Any]) -> ArrayMetadata | GroupMetadata:
    document = _object(documents, path, "zarr.json")
    if document.get("zarr_format") != 3 or document.get("node_type") not in ("array", "group"):
        raise InvalidMetadata(f"{path!r}: its zarr.json is neither a Zarr v3 array nor a group")
    attributes = document.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise InvalidMetadata(f"{path!r}: the attributes in its zarr.json are not a JSON object")
    if document["node_type"] == "group":
        return GroupMetadata(path, attributes)
    array = parse_array_v3(path, document)
    chunk_keys(array)
    return array


def _read_v2(path: str, name: str, documents: Mapping[str, Any]) -> ArrayMetadata | GroupMetadata:
    document = _object(documents, path, name)
    attributes = _object(documents, path, ".zattrs") if _key(path, ".zattrs") in documents else {}
    if document.get("zarr_format") != 2:
        raise InvalidMetadata(f"{path!r}: its {name} is not Zarr format 2")
    if name == ".zgroup":
        return GroupMetadata(path, attributes)
    array = parse_array_v2(path, document, attributes)
    chunk_keys(array)
    return array


def _object(documents: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
    document = documents[_key(path, name)]
    if not isinstance(document, dict):
        raise InvalidMetadata(f"{path!r}: its {name} is not a JSON object")
    return document


def _key(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
