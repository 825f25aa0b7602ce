"""Opens a native Zarr v2 or v3 store, on disk, S3 or HTTP, as an encoded store."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from cubegate.cache.cache import ChunkCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import BulkSource, ChunkReference, ObjectSource
from cubegate.errors import InvalidMetadata, InvalidReference, UpstreamObjectMissing
from cubegate.store.encoded import EncodedStore
from cubegate.store.sources.documents import V2_DOCUMENTS, build_hierarchy, check_path, parse_document
from cubegate.store.sources.keyed import KeyedLocator

_ROOT_DOCUMENTS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs")

Documents = dict[str, Any]


async def open_zarr_store(
    url: str,
    source: ObjectSource,
    *,
    group: str = "",
    missing: Literal["fill", "error"] = "fill",
    kept_in: ChunkCache | None = None,
) -> EncodedStore:
    """Open the Zarr store at `url` (file, http, https or s3), with `group` as the root.

    Metadata comes from consolidated metadata where there is any, and from a listing otherwise.
    Where documents of both formats lie at the root, v3 counts and v2 is not read. A store that
    is one array is mounted as a group that holds it, under the last part of its address.

    The version hashes the address and all metadata documents: two stores with equal metadata
    (tiles, say) must not share cached chunks. `kept_in` keeps chunks, of a store of which no object
    is ever written over.

    Raises:
        InvalidReference: there is no Zarr store, no such group, or no way to learn what is in it.
        UpstreamError: any failure but a definite "no such object" for a document.
    """
    root, group = _root(url), group.strip("/")
    check_path(group)
    base, documents = await _read_metadata(root, group, source)
    if _is_array(documents.get("zarr.json")) or ".zarray" in documents:
        if group:
            raise InvalidReference(f"{group!r} is an array, not a group.")
        base, documents = _in_parent(base, documents)
    hierarchy = build_hierarchy(documents)
    version = hashlib.sha256(json.dumps([base, documents], sort_keys=True).encode()).hexdigest()[:16]
    chunks: BulkSource = Coalesced(source)
    if kept_in is not None:
        chunks = Cached(chunks, kept_in, version, whole_objects=True)
    return EncodedStore(
        hierarchy,
        KeyedLocator(hierarchy, lambda path: _join(base, path)),
        SingleFlight(chunks),
        version=version,
        immutable=kept_in is not None,
        missing=missing,
    )


def _root(url: str) -> str:
    root = url.rstrip("/")
    parts = urlsplit(root)
    if parts.scheme not in ("file", "http", "https", "s3"):
        raise InvalidReference("A Zarr store's address starts with file://, s3://, http:// or https://.")
    if parts.query or parts.fragment or parts.username:
        raise InvalidReference("A Zarr store's address holds no user name, query or fragment.")
    if root.endswith(".zip"):
        raise InvalidReference("Zarr stores inside a ZIP file are not supported: unpack it.")
    return root


async def _read_metadata(root: str, group: str, source: ObjectSource) -> tuple[str, Documents]:
    """Return the URL of `group` and, by keys relative to it, all metadata documents below."""
    found = await _read_documents(root, _ROOT_DOCUMENTS, source)
    consolidated = _consolidated(found)
    if group and consolidated is None:
        return await _read_metadata(_join(root, group), "", source)
    if consolidated is not None:
        documents = _below(consolidated, group)
        if not documents:
            raise InvalidReference(f"The consolidated metadata of the Zarr store name no group {group!r}.")
        return _join(root, group), documents
    if "zarr.json" in found:
        is_array, names = _is_array(found["zarr.json"]), {"zarr.json"}
    else:
        is_array, names = ".zarray" in found, set(V2_DOCUMENTS)
    if not is_array and not found.keys() & {"zarr.json", ".zgroup"}:
        raise InvalidReference("There is no Zarr array or group at this address.")
    if is_array:
        return root, {key: document for key, document in found.items() if key in names}
    return root, await _read_documents(root, await _list_keys(root, names, source), source)


def _consolidated(found: Documents) -> Documents | None:
    """The documents by key, where those at the root consolidate them."""
    if "zarr.json" in found:
        root = _object(found["zarr.json"], "zarr.json")
        consolidated = root.get("consolidated_metadata")
        if consolidated is None:
            return None
        if _object(consolidated, "consolidated_metadata").get("kind", "inline") != "inline":
            raise InvalidMetadata("The consolidated metadata in zarr.json are not inline.")
        children = _object(consolidated.get("metadata"), "consolidated_metadata")
        documents = {"zarr.json": root, **{f"{path}/zarr.json": child for path, child in children.items()}}
        return {key: _alone(document) for key, document in documents.items()}
    if ".zmetadata" in found:
        return dict(_object(_object(found[".zmetadata"], ".zmetadata").get("metadata"), ".zmetadata"))
    return None


def _alone(document: Any) -> Any:
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}


def _object(document: Any, name: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidMetadata(f"The {name} of the Zarr store is not a JSON object.")
    return document


def _is_array(document: Any) -> bool:
    return isinstance(document, dict) and document.get("node_type") == "array"


def _below(documents: Documents, group: str) -> Documents:
    prefix = f"{group}/" if group else ""
    return {key.removeprefix(prefix): value for key, value in documents.items() if key.startswith(prefix)}


def _in_parent(base: str, documents: Documents) -> tuple[str, Documents]:
    parent, _, last = base.rpartition("/")
    if not urlsplit(parent).netloc and not parent.startswith("file://"):
        raise InvalidReference("A Zarr array at the root of a bucket or host has no name: put it in a group.")
    name = _unquoted(base, last)
    return parent, {f"{name}/{key}": document for key, document in documents.items()}


async def _list_keys(root: str, names: set[str], source: ObjectSource) -> list[str]:
    if root.startswith("http"):
        raise InvalidReference(
            "The Zarr store has no consolidated metadata, and plain HTTP cannot list what is in it: "
            "consolidate it with zarr.consolidate_metadata(), or give its S3 address."
        )
    prefix = _unquoted(root, root) + "/"
    keys = [_unquoted(root, listed).removeprefix(prefix) for listed in await source.list(root + "/")]
    return [key for key in keys if key.rpartition("/")[2] in names]


async def _read_documents(root: str, keys: Iterable[str], source: ObjectSource) -> Documents:
    async def read(key: str) -> bytes | None:
        try:
            return await source.get(ChunkReference(_join(root, key)))
        except UpstreamObjectMissing:
            return None

    keys = list(keys)
    read_documents = await asyncio.gather(*(read(key) for key in keys))
    pairs = zip(keys, read_documents, strict=True)
    return {key: parse_document(data) for key, data in pairs if data is not None}


def _join(root: str, key: str) -> str:
    if not key:
        return root
    # s3 addresses hold the key as it is, those of files and HTTP are percent-encoded
    return f"{root}/{key}" if root.startswith("s3:") else f"{root}/{quote(key)}"


def _unquoted(root: str, text: str) -> str:
    return text if root.startswith("s3:") else unquote(text)
