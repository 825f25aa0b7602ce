"""Builds an index from kerchunk's JSON references, versions 0 and 1, plain or compressed."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import zstandard

from cubegate.errors import InvalidReference
from cubegate.index.chunk_keys import ChunkKeys
from cubegate.index.documents import METADATA_NAMES, Documents, parse_document, read_documents, split_key
from cubegate.index.index import Index
from cubegate.index.progress import Progress, silent
from cubegate.index.references import ArrayReferences, ReferenceCollector, check_range
from cubegate.index.table import WHOLE_OBJECT

MAX_JSON_NBYTES = 4 * 2**30
_REPORTED = 2**15
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def build_from_kerchunk_json(
    data: bytes,
    *,
    base_url: str,
    check_url: Callable[[str], None],
    group: str = "",
    progress: Progress = silent,
) -> Index:
    """Read references as kerchunk and VirtualiZarr write them.

    `base_url` is where `data` came from, for relative paths; `check_url` raises for a URL that
    is not allowed; `group` names the group to take as the root.

    Raises:
        InvalidReference: the file is malformed, or holds templates or generated references.
        CubegateError: whatever `check_url` raises.
    """
    references = _read_references(decompress(data))
    documents = read_documents(_metadata_of(references), group)
    collector = ReferenceCollector(base_url=base_url, check_url=check_url)
    _read_chunks(references, group, documents, collector, progress)
    return collector.index(groups=documents.groups, arrays=documents.arrays, skipped=documents.skipped)


def decompress(data: bytes, max_nbytes: int = MAX_JSON_NBYTES) -> bytes:
    """Return `data`, decompressed if it begins like gzip or zstd.

    Raises:
        InvalidReference: it is damaged, or larger than `max_nbytes`.
    """
    try:
        if data.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(max_nbytes + 1)
        elif data.startswith(_ZSTD):
            decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
            with decompressor.stream_reader(data, read_across_frames=True) as stream:
                data = stream.read(max_nbytes + 1)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        raise InvalidReference("The compressed reference file is damaged.") from None
    if len(data) > max_nbytes:
        raise InvalidReference(f"The reference file is larger than {max_nbytes:,} bytes.")
    return data


def _read_references(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidReference("The reference file is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidReference("The reference file is not a JSON object of references.")
    version = document.get("version")
    if version is None:
        return document
    if type(version) is not int or version != 1:
        raise InvalidReference("The reference file has a version that is neither 0 nor 1.")
    for name in ("templates", "gen"):
        if document.get(name):
            raise InvalidReference(f"The reference file holds {name!r}, which are not expanded here.")
    references = document.get("refs")
    if not isinstance(references, dict):
        raise InvalidReference("The reference file holds no 'refs'.")
    return references


def _metadata_of(references: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in references.items() if key.rpartition("/")[2] in METADATA_NAMES}
    if not found and ".zmetadata" in references:
        consolidated = parse_document(references[".zmetadata"], ".zmetadata")
        return parse_document(consolidated.get("metadata"), ".zmetadata")
    return {key: _metadata_value(value, key) for key, value in found.items()}


def _metadata_value(value: Any, key: str) -> Any:
    if isinstance(value, list):
        raise InvalidReference(f"The metadata document {key!r} is not in the reference file itself.")
    return _inline_bytes(value, key) if isinstance(value, str) else value


def _read_chunks(
    references: Mapping[str, Any],
    group: str,
    documents: Documents,
    collector: ReferenceCollector,
    progress: Progress,
) -> None:
    prefix = f"{group.strip('/')}/" if group.strip("/") else ""
    arrays = {
        path: (ChunkKeys(array), collector.add_array(array)) for path, array in documents.metadata.items()
    }
    for number, (key, value) in enumerate(references.items()):
        if number % _REPORTED == 0:
            progress("Reading references", number, len(references))
        if not key.startswith(prefix) or key.rpartition("/")[2] in METADATA_NAMES or key == ".zmetadata":
            continue
        path, chunk = _split_chunk_key(key.removeprefix(prefix), documents)
        if path in arrays:
            keys, collected = arrays[path]
            _read_chunk(value, key, keys.number(chunk), collected, collector)


def _split_chunk_key(key: str, documents: Documents) -> tuple[str, str]:
    path, _ = split_key(key)
    while path:
        if path in documents.metadata or path in documents.skipped:
            return path, key[len(path) + 1 :]
        path = path.rpartition("/")[0]
    raise InvalidReference(f"The key {key[:200]!r} belongs to no array of the references.")


def _read_chunk(
    value: Any, key: str, chunk: int, collected: ArrayReferences, collector: ReferenceCollector
) -> None:
    if isinstance(value, str):
        collector.inline(collected, chunk, _inline_bytes(value, key))
    elif isinstance(value, list) and len(value) in (1, 3) and isinstance(value[0], str):
        if len(value) == 1:
            collected.put(chunk, collector.granule(value[0]), 0, WHOLE_OBJECT)
            return
        check_range(value[1], value[2], key)
        collected.put(chunk, collector.granule(value[0]), value[1], value[2])
    else:
        raise InvalidReference(f"The reference of {key!r} is not text, [url] or [url, offset, length].")


def _inline_bytes(value: str, key: str) -> bytes:
    if not value.startswith("base64:"):
        return value.encode()
    try:
        return base64.b64decode(value[7:], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidReference(f"The inlined data of {key!r} is not base64.") from None
