"""One cube as a tree of Zarr keys in both formats: documents from memory, chunks on demand."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Literal

import numcodecs
import numpy as np
from numpy.typing import NDArray

from cubegate.errors import CorruptChunk, NotFound, NotRepresentable
from cubegate.index.metadata import ArrayMetadata, CodecsV2
from cubegate.store.decoder import Decoder
from cubegate.store.documents import Document, ZarrDocuments
from cubegate.store.encoded import EncodedStore
from cubegate.store.fill import encode_fill

_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_CHUNK_V2 = re.compile(rf"{_NUMBER}(?:\.{_NUMBER})*")
_CHUNK_V3 = re.compile(rf"c(?:/{_NUMBER})*")


@dataclass(frozen=True, slots=True)
class ChunkAddress:
    """One chunk inside the grid of an array."""

    array: str
    chunk: tuple[int, ...]


class ZarrTree:
    """Everything below one Zarr URL of a cube.

    `documents` say how the chunks are encoded: as stored or, with `plain`, not at all.
    """

    def __init__(self, store: EncodedStore, documents: ZarrDocuments, *, plain: bool) -> None:
        self.store = store
        self.documents = documents
        self._plain = plain
        self._hierarchy = documents.hierarchy
        self._fills: dict[str, bytes] = {}
        self._decoders: dict[str, Decoder] = {}

    def document(self, key: str) -> Document | None:
        """Return the document at `key`, None where there is none."""
        return self.documents.get(key)

    def is_node(self, path: str) -> bool:
        """Whether there is a group or an array at `path`."""
        return path in self._hierarchy.groups or path in self._hierarchy.arrays

    def children_of(self, path: str) -> list[str]:
        """The names of what is directly below the group or array at `path`; nodes end in a slash."""
        nodes = [] if path in self._hierarchy.arrays else self._hierarchy.children_of(path)
        return [*self.documents.keys_in(path), *(f"{name}/" for name in nodes)]

    def notes_on(self, path: str) -> list[str]:
        """What is missing directly below the group at `path`, and why."""
        skipped = [
            reason for array, reason in self._hierarchy.skipped.items() if array.rpartition("/")[0] == path
        ]
        reasons = [
            f"Zarr v{zarr_format}: {reason}"
            for (array, zarr_format), reason in self.documents.reasons.items()
            if path in (array, array.rpartition("/")[0])
        ]
        return [*skipped, *reasons]

    def address(self, key: str) -> ChunkAddress:
        """Return the chunk that `key` names.

        Raises:
            NotFound: no array of this tree can have a chunk of that key.
            NotRepresentable: its array has no form in the key's Zarr format.
        """
        path, zarr_format, numbers = self._parse(key)
        array = self._hierarchy.arrays[path]
        if not array.shape and zarr_format == 2:
            numbers = () if numbers == (0,) else (-1,)
        grid = array.chunk_grid
        inside = len(numbers) == len(grid) and all(
            0 <= n < count for n, count in zip(numbers, grid, strict=True)
        )
        if not inside:
            raise NotFound(
                f"Array {path!r} has no chunk {key.removeprefix(path + '/')!r}; its chunk grid is {grid}."
            )
        reason = self.documents.reasons.get((path, zarr_format))
        if reason is not None:
            raise NotRepresentable(reason)
        return ChunkAddress(path, numbers)

    def _parse(self, key: str) -> tuple[str, Literal[2, 3], tuple[int, ...]]:
        path, _, last = key.rpartition("/")
        if path in self._hierarchy.arrays and _CHUNK_V2.fullmatch(last):
            return path, 2, tuple(int(number) for number in last.split("."))
        parts = key.split("/")
        for count in range(1, len(parts)):
            path, rest = "/".join(parts[:count]), "/".join(parts[count:])
            if path in self._hierarchy.arrays:
                if _CHUNK_V3.fullmatch(rest):
                    return path, 3, tuple(int(number) for number in parts[count + 1 :])
                break
        raise self._unknown(key)

    def _unknown(self, key: str) -> NotFound:
        for path, reason in self._hierarchy.skipped.items():
            if key == path or key.startswith(f"{path}/"):
                return NotFound(reason)
        path, _, name = key.rpartition("/")
        wanted: Literal[2, 3] = 3 if name == "zarr.json" else 2
        if name in (".zarray", ".zattrs", "zarr.json") and (path, wanted) in self.documents.reasons:
            return NotRepresentable(self.documents.reasons[path, wanted])
        return NotFound(f"There is no Zarr key {key!r} here.")

    def held(self, address: ChunkAddress) -> bytes | None:
        """Return one chunk as its documents say where memory has it so, without waiting; else None."""
        if self._plain:
            return None
        return self.store.held(self.store.hierarchy.arrays[address.array], address.chunk)

    def nbytes(self, address: ChunkAddress) -> int | None:
        """Return the size of one chunk as its documents say where that is known without reading it."""
        if not self._plain:
            return self.store.stored_nbytes(self.store.hierarchy.arrays[address.array], address.chunk)
        array = self._hierarchy.arrays[address.array]
        return None if array.dtype.hasobject else array.chunk_nbytes

    async def chunk(self, address: ChunkAddress) -> bytes:
        """Return one chunk as its documents say; storage fill where it is unallocated.

        Raises:
            UpstreamError: the chunk cannot be read or decoded.
            InvalidMetadata: it is unallocated, and its codecs do not bring the fill value back.
        """
        array = self.store.hierarchy.arrays[address.array]
        data = await self.store.get(array, address.chunk)
        if data is None:
            return await self._fill(address.array)
        return await asyncio.to_thread(self._decoded, array, data) if self._plain else data

    async def _fill(self, path: str) -> bytes:
        if path not in self._fills:
            self._fills[path] = await asyncio.to_thread(encode_fill, self._hierarchy.arrays[path])
        return self._fills[path]

    def _decoded(self, array: ArrayMetadata, data: bytes) -> bytes:
        decoder = self._decoders.setdefault(array.path, Decoder(array))
        return _encode_plain(self._hierarchy.arrays[array.path], decoder.decode(data))


def _encode_plain(array: ArrayMetadata, values: NDArray[Any]) -> bytes:
    if not array.dtype.hasobject:
        return np.ascontiguousarray(values, array.dtype).tobytes()
    assert isinstance(array.codecs, CodecsV2)  # noqa: S101 - what plain_array gives
    codec = numcodecs.get_codec(dict(array.codecs.filters[0]))
    try:
        return bytes(codec.encode(values.reshape(-1)))
    except TypeError:
        raise CorruptChunk(f"A chunk of array {array.path!r} holds objects that are not text.") from None
