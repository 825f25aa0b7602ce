"""What an index holds, and the hash of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import ChunkTable, Column, TextTable
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.index.zarr_v3 import parse_array_v3


@dataclass(frozen=True)
class StoredArray:
    """The documents of one array as they are kept.

    `document` is its `.zarray`, or its `zarr.json` without attributes; `attributes` are all of
    them; `fill_declared` says whether a v2 `fill_value` also means missing.
    """

    document: Mapping[str, Any]
    attributes: Mapping[str, Any]
    fill_declared: bool = True

    def parse(self, path: str) -> ArrayMetadata:
        """Return the metadata of the array at `path`.

        Raises:
            InvalidMetadata: the documents are malformed.
            UnsupportedCodec: they name a codec that is not on the allow-list.
        """
        if self.document.get("zarr_format") == 3:
            return parse_array_v3(path, {**self.document, "attributes": dict(self.attributes)})
        return parse_array_v2(path, self.document, self.attributes, fill_declared=self.fill_declared)


@dataclass(frozen=True)
class IndexContent:
    """Everything that an index holds.

    Attributes:
        groups: attributes of each group, by path.
        arrays: documents of each array that can be served, by path.
        tables: where the chunks of each of these arrays are, by path.
        urls: of the granules.
        validators: what each granule was known by when the index was built (see `ChunkReference`),
            empty where it offers none; None where they were not asked for.
        inline: the bytes of all inlined chunks.
        skipped: why an array cannot be served, by path.
        assumed_fill: paths of arrays of which no granule told what fill and absent chunks mean.
    """

    groups: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, StoredArray]
    tables: Mapping[str, ChunkTable]
    urls: TextTable
    inline: Column
    validators: TextTable | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    assumed_fill: tuple[str, ...] = ()


def content_hash(content: IndexContent) -> str:
    """Return the version of `content`: 16 hexadecimal digits; reads all of it."""
    documents: dict[str, Any] = {
        "groups": {path: dict(attributes) for path, attributes in content.groups.items()},
        "arrays": {
            path: [dict(stored.document), dict(stored.attributes), stored.fill_declared]
            for path, stored in content.arrays.items()
        },
    }
    if content.validators is not None:
        documents["validators"] = True
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode())
    columns = [content.urls.ends, content.urls.text, content.inline]
    if content.validators is not None:
        columns += [content.validators.ends, content.validators.text]
    for path in sorted(content.tables):
        table = content.tables[path]
        checksums = "" if table.crc32 is None else ":crc32"
        digest.update(f"{path}:{table.pencil_axis}:{len(table.granule)}{checksums};".encode())
        columns += table.columns
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(column.all()).data)
    return digest.hexdigest()[:16]
