"""What every kind of reference file shares: Zarr documents, URLs, and the building of tables."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import numpy as np

from cubegate.errors import InvalidReference
from cubegate.index.content import IndexContent, StoredArray
from cubegate.index.index import Index
from cubegate.index.inlined import lay_out_inlined
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.table import (
    GRANULE_TYPE,
    INLINED,
    LENGTH_TYPE,
    MAX_CHUNKS,
    MAX_GRANULES,
    OFFSET_TYPE,
    UNALLOCATED,
    WHOLE_OBJECT,
    ChunkTable,
    Rows,
    TextTable,
    table_in_c_order,
)

MAX_INLINE_NBYTES = 16 * 2**20
MAX_TOTAL_INLINE_NBYTES = 2**30
MAX_ADDRESS_LENGTH = 2**14

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"^[A-Za-z0-9+.-]+::|::[A-Za-z0-9+.-]+://")
# control characters, and surrogates, which JSON can write and no encoding of a URL can
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def resolve_url(written: str, base_url: str) -> str:
    """Return the absolute URL of an object as a reference file names it.

    An absolute path becomes a `file://` URL, a relative one lies beside `base_url`, the URL of
    the reference file; both are percent-encoded where the scheme is (not in object stores).

    Raises:
        InvalidReference: a template, a chained address, or one that climbs with `..`.
    """
    if "{{" in written:
        raise InvalidReference("A reference holds a template ({{...}}), which is not expanded here.")
    if not 0 < len(written) <= MAX_ADDRESS_LENGTH or _UNWRITABLE.search(written) or _CHAIN.search(written):
        raise InvalidReference(f"{_shown(written)} is not an address that can be read.")
    scheme = _SCHEME.match(written)
    if scheme is None:
        return _resolve_path(written, base_url)
    url = scheme[1].lower() + written[scheme.end(1) :]
    if ".." in unquote(url).replace("\\", "/").split("/"):
        raise InvalidReference(f"{_shown(written)} climbs out of its folder with '..'.")
    if url.startswith("file://"):
        return "file://" + quote(url.removeprefix("file://"), safe="/%")
    return url


def _resolve_path(path: str, base_url: str) -> str:
    if path.startswith("/"):
        return "file://" + quote(posixpath.normpath("/" + path.lstrip("/")))
    base = urlsplit(base_url)
    encoded = quote(path) if base.scheme in ("file", "http", "https") else path
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(base.path), encoded))
    return (
        urlunsplit((base.scheme, base.netloc, joined, "", "")) if base.netloc else f"{base.scheme}://{joined}"
    )


def _shown(written: str) -> str:
    # a signed URL carries its secret in the query
    return repr(written.partition("?")[0][:200])


class ArrayReferences:
    """Collects where the chunks of one array are, in the C order of its chunk grid."""

    def __init__(self, array: ArrayMetadata) -> None:
        self.array = array
        count = array.chunk_count
        self.granule = np.full(count, UNALLOCATED, dtype=GRANULE_TYPE)
        self.offset = np.zeros(count, dtype=OFFSET_TYPE)
        self.length = np.zeros(count, dtype=LENGTH_TYPE)

    def put(self, chunk: int, granule: int, offset: int, length: int) -> None:
        """Enter one chunk, by its number in C order."""
        self.granule[chunk], self.offset[chunk], self.length[chunk] = granule, offset, length


class ReferenceCollector:
    """Collects the references of a whole cube and makes an index of them.

    Every distinct URL is resolved against `base_url` and passed to `check_url` once.
    """

    def __init__(self, *, base_url: str, check_url: Callable[[str], None]) -> None:
        self._base_url, self._check_url = base_url, check_url
        self._numbers_as_written: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._inline: list[bytes] = []
        self._inline_nbytes = 0
        self._chunk_count = 0
        self._collected: dict[str, ArrayReferences] = {}

    def add_array(self, array: ArrayMetadata) -> ArrayReferences:
        """Begin the references of `array`: all its chunks are unallocated.

        Raises:
            InvalidReference: the cube has more chunks than an index holds.
        """
        self._chunk_count += array.chunk_count
        if self._chunk_count > MAX_CHUNKS:
            raise InvalidReference(f"The cube has more than {MAX_CHUNKS:,} chunks.")
        references = ArrayReferences(array)
        self._collected[array.path] = references
        return references

    def granule(self, written: str) -> int:
        """Return the number of the granule that a reference file names as `written`.

        Raises:
            InvalidReference: it is not an address that can be read.
            CubegateError: whatever `check_url` raises.
        """
        number = self._numbers_as_written.get(written)
        if number is None:
            url = resolve_url(written, self._base_url)
            if url not in self._numbers:
                self._check_url(url)
                if len(self._numbers) >= MAX_GRANULES:
                    raise InvalidReference(f"The cube has more than {MAX_GRANULES:,} granules.")
            number = self._numbers.setdefault(url, len(self._numbers))
            self._numbers_as_written[written] = number
        return number

    def inline(self, references: ArrayReferences, chunk: int, data: bytes) -> None:
        """Enter one chunk whose encoded bytes are `data`.

        Raises:
            InvalidReference: it, or all inlined data, is too large.
        """
        self._inline_nbytes += len(data)
        if len(data) > MAX_INLINE_NBYTES or self._inline_nbytes > MAX_TOTAL_INLINE_NBYTES:
            raise InvalidReference(
                f"Array {references.array.path!r} has more inlined data than is allowed "
                f"({MAX_INLINE_NBYTES:,} bytes a chunk, {MAX_TOTAL_INLINE_NBYTES:,} in all)."
            )
        references.put(chunk, INLINED, len(self._inline), len(data))
        self._inline.append(data)

    def index(
        self,
        *,
        groups: Mapping[str, Mapping[str, Any]],
        arrays: Mapping[str, StoredArray],
        skipped: Mapping[str, str],
    ) -> Index:
        """Return the index; equal references give an equal index, in whatever order they came."""
        return Index(self.content(groups=groups, arrays=arrays, skipped=skipped))

    def content(
        self,
        *,
        groups: Mapping[str, Mapping[str, Any]],
        arrays: Mapping[str, StoredArray],
        skipped: Mapping[str, str],
    ) -> IndexContent:
        """Return what the index holds."""
        urls = sorted(self._numbers)
        rank = np.zeros(len(urls), dtype=GRANULE_TYPE)
        for position, url in enumerate(urls):
            rank[self._numbers[url]] = position
        tables: dict[str, ChunkTable] = {}
        for path, references in self._collected.items():
            if len(urls) > 1:
                stored = references.granule < INLINED
                references.granule[stored] = rank[references.granule[stored]]
            rows = Rows(references.granule, references.offset, references.length)
            tables[path] = table_in_c_order(references.array, rows)
        items = {path: table.offset.all() for path, table in tables.items()}
        laid_out, inline = lay_out_inlined(tables, lambda path, row: self._inline[int(items[path][row])])
        return IndexContent(
            groups=groups,
            arrays=arrays,
            tables=laid_out,
            urls=TextTable.of(urls),
            inline=inline,
            skipped=skipped,
        )


def check_range(offset: Any, length: Any, key: str) -> None:
    """Raise `InvalidReference` unless `offset` and `length` are a byte range of some size."""
    if type(offset) is not int or type(length) is not int:
        raise InvalidReference(f"The reference of {key!r} is not [url, offset, length] with whole numbers.")
    if not (0 <= offset < 2**63 and 0 < length < WHOLE_OBJECT):
        raise InvalidReference(f"The reference of {key!r} names an impossible byte range.")
