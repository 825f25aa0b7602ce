"""Undoes a Zarr v3 pipeline: its compressors and shards bounded, its array-to-array codecs by zarr-python."""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.core.array import create_codec_pipeline
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata

from cubegate.index.metadata import ArrayMetadata, CodecsV3
from cubegate.store.codecs import open_steps, text_size
from cubegate.store.inflating import Codec, Size

ARRAY_TO_BYTES = ("bytes", "vlen-utf8", "vlen-bytes", "sharding_indexed")
_ABSENT = 2**64 - 1
_ENTRY = 16
_SLACK = 1024
_INDEX_CODECS: tuple[Mapping[str, Any], ...] = ({"name": "bytes"}, {"name": "crc32c"})

Decode = Callable[[Any], Any]


def open_pipeline(
    array: ArrayMetadata, codecs: CodecsV3, decode_of: Callable[[ArrayMetadata], Decode]
) -> list[Codec]:
    """Return the steps that undo `codecs`; `decode_of` gives what decodes the inner chunks of shards."""
    names = [codec["name"] for codec in codecs.codecs]
    place = next(n for n, name in enumerate(names) if name in ARRAY_TO_BYTES)
    before, serializer, after = codecs.codecs[:place], codecs.codecs[place], codecs.codecs[place + 1 :]
    whole = ArrayV3Metadata.from_dict({**array.document, "attributes": {}})
    shape, itemsize = _before_serializing(array, whole, place)
    count = math.prod(shape)
    nbytes = count * itemsize
    last: list[Codec]
    if serializer["name"] == "bytes":
        size: Size | None = Size(nbytes)
        last = [_ArrayToArray(array, before, serializer)] if before else []
    elif serializer["name"] == "sharding_indexed":
        shards = _Shards(array, shape, serializer["configuration"], decode_of)
        # an inner chunk that cannot be compressed becomes a little larger
        inner = text_size(count).nbytes if array.dtype.hasobject else nbytes + nbytes // 32
        size = Size(inner + shards.index_nbytes + _SLACK * shards.count, exact=False)
        raw = {"name": "bytes", "configuration": {"endian": "little"}}
        last = [shards, *([_ArrayToArray(array, before, raw)] if before else [])]
    else:
        size = None
        last = open_steps(array, [{"id": serializer["name"]}], None)
        if before:
            last = [_Unchanged(last[0]), _ArrayToArray(array, before, serializer)]
    numcodecs_configurations = [
        {"id": codec["name"].removeprefix("numcodecs."), **_own(codec)} for codec in after
    ]
    return [*open_steps(array, numcodecs_configurations, size or text_size(count)), *last]


def _own(codec: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a decompressor has to know: v3 names the parameters of compressors otherwise than numcodecs."""
    return codec.get("configuration") or {} if codec["name"].startswith("numcodecs.") else {}


def _before_serializing(
    array: ArrayMetadata, whole: ArrayV3Metadata, place: int
) -> tuple[tuple[int, ...], int]:
    """Return the shape and item size that the array-to-array codecs make of a chunk."""
    spec = _spec(array, whole)
    for codec in whole.codecs[:place]:
        spec = codec.evolve_from_array_spec(spec).resolve_metadata(spec)
    return spec.shape, spec.dtype.to_native_dtype().itemsize


def _spec(array: ArrayMetadata, whole: ArrayV3Metadata) -> ArraySpec:
    return ArraySpec(
        shape=array.chunk_shape,
        dtype=whole.data_type,
        fill_value=whole.fill_value,
        config=ArrayConfig.from_dict({}),
        prototype=default_buffer_prototype(),
    )


class _Unchanged:
    """Looks whether a step can be undone, and leaves that to the next one."""

    def __init__(self, step: Codec) -> None:
        self._step = step

    def decode(self, data: Any) -> Any:
        self._step.decode(data)
        return data


class _ArrayToArray:
    """The array-to-array codecs `before` and `serializer`, through zarr-python's own pipeline."""

    def __init__(
        self, array: ArrayMetadata, before: tuple[Mapping[str, Any], ...], serializer: Mapping[str, Any]
    ) -> None:
        document = {**array.document, "codecs": [*before, serializer], "attributes": {}}
        metadata = ArrayV3Metadata.from_dict(document)
        self._pipeline = create_codec_pipeline(metadata)
        self._array = array
        self._spec = _spec(array, metadata)

    def decode(self, data: Any) -> NDArray[Any]:
        if isinstance(data, np.ndarray):
            data = data.astype(data.dtype.newbyteorder("<"), copy=False)
        encoded = self._spec.prototype.buffer.from_bytes(bytes(data))
        (decoded,) = asyncio.run(self._pipeline.decode([(encoded, self._spec)]))
        if decoded is None:
            raise ValueError("there is nothing to decode")
        values = decoded.as_numpy_array()
        if self._array.dtype.hasobject:
            return np.asarray(values, dtype=object)
        return np.ascontiguousarray(values).astype(self._array.dtype, copy=False)


class _Shards:
    """Puts the inner chunks of a shard together, of `shape` in all."""

    def __init__(
        self,
        array: ArrayMetadata,
        shape: tuple[int, ...],
        configuration: Mapping[str, Any],
        decode_of: Callable[[ArrayMetadata], Decode],
    ) -> None:
        inner = tuple(configuration["chunk_shape"])
        grid = {"name": "regular", "configuration": {"chunk_shape": list(inner)}}
        codecs = tuple(configuration["codecs"])
        document = {**array.document, "shape": list(shape), "chunk_grid": grid, "codecs": list(codecs)}
        # the dimensions' names are those before they were transposed
        document.pop("dimension_names", None)
        self._inner = replace(
            array, shape=shape, chunk_shape=inner, codecs=CodecsV3(codecs), document=document
        )
        self._shape, self._grid = shape, tuple(s // c for s, c in zip(shape, inner, strict=True))
        self._decode = decode_of(self._inner)
        self._dtype = array.dtype
        fill = array.fill_value
        self._fill = fill if fill is not None else "" if array.dtype.hasobject else 0
        numbers, *checksums = configuration.get("index_codecs") or _INDEX_CODECS
        endian = (numbers.get("configuration") or {}).get("endian", "little")
        self._entries = np.dtype(">u8" if endian == "big" else "<u8")
        self._checksums = open_steps(array, [{"id": codec["name"]} for codec in checksums], None)
        self._at_start = configuration.get("index_location", "end") == "start"

    @property
    def count(self) -> int:
        """The number of inner chunks."""
        return math.prod(self._grid)

    @property
    def index_nbytes(self) -> int:
        """The size of a shard's index."""
        return _ENTRY * self.count + 4 * len(self._checksums)

    def decode(self, data: Any) -> NDArray[Any]:
        shard = memoryview(data).cast("B")
        entries = self._index(shard)
        values = np.empty(self._shape, self._dtype)
        for place, (offset, nbytes) in zip(itertools.product(*map(range, self._grid)), entries, strict=True):
            inside = tuple(
                slice(n * size, (n + 1) * size)
                for n, size in zip(place, self._inner.chunk_shape, strict=True)
            )
            if offset == nbytes == _ABSENT:
                values[inside] = self._fill
            elif offset + nbytes > len(shard):
                raise ValueError("the shard names an inner chunk beyond its end")
            else:
                values[inside] = self._decode(shard[offset : offset + nbytes])
        return values

    def _index(self, shard: memoryview) -> list[list[int]]:
        nbytes = self.index_nbytes
        if len(shard) < nbytes:
            raise struct.error("the shard is shorter than its index")
        index: Any = shard[:nbytes] if self._at_start else shard[len(shard) - nbytes :]
        for step in self._checksums:
            index = step.decode(index)
        entries: list[list[int]] = np.frombuffer(index, self._entries).reshape(-1, 2).tolist()
        return entries
