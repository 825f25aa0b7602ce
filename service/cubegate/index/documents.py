"""Reads the Zarr metadata documents of a reference file into groups, arrays and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from cubegate.errors import InvalidReference
from cubegate.index.content import StoredArray
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import MAX_CHUNKS
from cubegate.index.zarr_v2 import UNPRINTABLE

METADATA_NAMES = frozenset({".zgroup", ".zattrs", ".zarray", "zarr.json"})
MAX_DOCUMENT_LENGTH = 2**24
MAX_METADATA_LENGTH = 2**28
_MAX_DEPTH = 64
_MAX_PATH_LENGTH = 1024
_MAX_NAME_PARTS = 32
_BYTES_TO_BYTES = frozenset({"zlib", "zstd", "blosc", "gzip", "lz4", "bz2", "lzma"})


@dataclass
class Documents:
    """The documents below one group, by path from it.

    `arrays` can be served and are parsed in `metadata`; `skipped` says why the others cannot.
    """

    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, StoredArray] = field(default_factory=dict)
    metadata: dict[str, ArrayMetadata] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def split_key(key: str) -> tuple[str, str]:
    """Return the path of the node that a metadata or chunk key belongs to, and its last part.

    Raises:
        InvalidReference: the key is not a relative path of a few printable names, or climbs in it.
    """
    path, _, name = key.rpartition("/")
    if path and not _is_path(path):
        raise InvalidReference(f"The key {key[:200]!r} is not a Zarr key.")
    return path, name


def _is_path(path: str) -> bool:
    if len(path) > _MAX_PATH_LENGTH or UNPRINTABLE.search(path) or "\\" in path:
        return False
    parts = path.split("/")
    # what somebody else decodes must not climb either
    climbs = any(unquote(unquote(part)) in ("", ".", "..") for part in parts)
    return not climbs and len(parts) <= _MAX_NAME_PARTS and not METADATA_NAMES.intersection(parts)


def measure(document: Any, key: str) -> int:
    """Return about how many characters the JSON of `document` has.

    Raises:
        InvalidReference: it is nested more than 64 deep.
    """
    if not isinstance(document, dict | list):
        return len(document) if isinstance(document, str | bytes) else 1
    length, waiting = 0, [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise InvalidReference(f"The metadata document {key[:200]!r} is nested over {_MAX_DEPTH} deep.")
        length += sum(map(len, value)) if isinstance(value, dict) else 0
        for one in value.values() if isinstance(value, dict) else value:
            length += len(one) + 4 if isinstance(one, str) else 4
            if isinstance(one, dict | list):
                waiting.append((one, depth + 1))
    return length


def parse_document(value: Any, key: str, *, max_length: int = MAX_DOCUMENT_LENGTH) -> dict[str, Any]:
    """Return a metadata document given as JSON text or as a JSON object.

    Raises:
        InvalidReference: it is neither, larger than `max_length` characters, or nested too deep.
    """
    document = _parse(value, key) if not isinstance(value, str | bytes) or len(value) <= max_length else None
    if document is None or measure(document, key) > max_length:
        raise InvalidReference(f"The metadata document {key[:200]!r} is over {max_length:,} characters.")
    return document


def _parse(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidReference(f"The metadata document {key[:200]!r} is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidReference(f"The metadata document {key[:200]!r} is not a JSON object.")
    return value


def read_documents(values: Mapping[str, Any], group: str) -> Documents:
    """Read all metadata documents `values`, by key, of the group at the path `group`.

    Raises:
        InvalidReference: a document is not a JSON object, or there is no such group.
    """
    prefix = f"{group.strip('/')}/" if group.strip("/") else ""
    nodes: dict[str, dict[str, dict[str, Any]]] = {}
    for key, value in values.items():
        if key.startswith(prefix):
            path, name = split_key(key.removeprefix(prefix))
            nodes.setdefault(path, {})[name] = parse_document(value, key)
    if not nodes:
        raise InvalidReference(f"The references hold no Zarr metadata below the group {group!r}.")
    found = Documents()
    for path, documents in sorted(nodes.items()):
        _read_node(path, documents, found)
    return found


def _read_node(path: str, documents: dict[str, dict[str, Any]], found: Documents) -> None:
    node = documents.get("zarr.json")
    attributes = documents.get(".zattrs", {})
    if node is not None:
        attributes = parse_document(node.get("attributes") or {}, f"{path}/zarr.json")
    if node is not None and node.get("node_type") == "group":
        found.groups[path] = attributes
    elif node is not None:
        document = {key: value for key, value in node.items() if key != "attributes"}
        _read_array(path, StoredArray(document, attributes), found)
    elif ".zarray" in documents:
        _read_array(path, StoredArray(move_compressor(documents[".zarray"]), attributes), found)
    else:
        found.groups[path] = attributes


def _read_array(path: str, stored: StoredArray, found: Documents) -> None:
    if not path:
        raise InvalidReference("The references describe a single array at the root; put it into a group.")
    try:
        array = stored.parse(path)
    except InvalidReference as error:
        found.skipped[path] = str(error)
        return
    if array.chunk_count > MAX_CHUNKS:
        found.skipped[path] = f"array {path!r} has {array.chunk_count:,} chunks, more than {MAX_CHUNKS:,}"
        return
    found.arrays[path] = stored
    found.metadata[path] = array


def move_compressor(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a `.zarray` whose last filter, where it compresses, is its compressor.

    kerchunk leaves the compressor among the filters, which means the same and which clients
    such as GDAL do not read.
    """
    filters = document.get("filters")
    if document.get("compressor") is not None or not isinstance(filters, list) or not filters:
        return document
    last = filters[-1]
    if not isinstance(last, dict) or str(last.get("id")) not in _BYTES_TO_BYTES:
        return document
    return {**document, "filters": filters[:-1] or None, "compressor": last}
