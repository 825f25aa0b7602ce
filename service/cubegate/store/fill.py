"""Encodes the chunk that stands for every unallocated chunk of an array: storage fill throughout."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray
from zarr.core.array import create_codec_pipeline
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata

from cubegate.errors import InvalidMetadata
from cubegate.index.metadata import ArrayMetadata, CodecsV2, CodecsV3
from cubegate.store.decoder import DECODING_ERRORS, decode
from cubegate.store.documents_v3 import storage_fill

# They round when writing and change nothing when reading, and fill must stay exact.
_ROUNDING = frozenset({"bitround", "quantize"})
_EMPTY_CHUNK = np.iinfo(np.uint64).max


def encode_fill(array: ArrayMetadata) -> bytes:
    """Return one encoded chunk of `array` that decodes to its storage fill everywhere.

    Always the same bytes. Call it outside a running event loop.

    Raises:
        InvalidMetadata: the array's codecs do not bring its fill value back unchanged.
    """
    try:
        if isinstance(array.codecs, CodecsV2):
            encoded = _encode_v2(array, array.codecs)
        elif [codec["name"] for codec in array.codecs.codecs] == ["sharding_indexed"]:
            encoded = _empty_shard(array, array.codecs)
        else:
            encoded = _encode_v3(array, array.codecs)
        restored = decode(array, encoded)
    except (*DECODING_ERRORS, NotImplementedError) as error:
        raise _not_exact(array) from error
    if not _is_filled(restored, _fill_of(array)):
        raise _not_exact(array)
    return encoded


def _not_exact(array: ArrayMetadata) -> InvalidMetadata:
    return InvalidMetadata(
        f"array {array.path!r}: its codecs do not bring its fill value {array.fill_value!r} back unchanged, "
        "so its unallocated chunks can only be read decoded"
    )


def _fill_of(array: ArrayMetadata) -> Any:
    fill = storage_fill(array)
    if array.dtype.hasobject and isinstance(array.codecs, CodecsV2):
        holds_bytes = any(configuration["id"] == "vlen-bytes" for configuration in array.codecs.filters)
        return base64.standard_b64decode(fill) if holds_bytes and isinstance(fill, str) else fill
    return fill


def _is_filled(values: NDArray[Any], fill: Any) -> bool:
    expected = np.full(values.shape, fill, values.dtype)
    if values.dtype.kind in "fc":
        return bool(np.array_equal(values, expected, equal_nan=True))
    if values.dtype.hasobject:
        return bool(np.all(values == expected))
    return values.tobytes() == expected.tobytes()


def _encode_v2(array: ArrayMetadata, codecs: CodecsV2) -> bytes:
    data: Any = np.full(math.prod(array.chunk_shape), _fill_of(array), array.dtype)
    for configuration in (*codecs.filters, *([codecs.compressor] if codecs.compressor else [])):
        if configuration["id"] not in _ROUNDING:
            # what a cast spoils is found when the chunk is decoded again
            with np.errstate(all="ignore"):
                data = numcodecs.get_codec(dict(configuration)).encode(data)
    return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)


def _encode_v3(array: ArrayMetadata, codecs: CodecsV3) -> bytes:
    exact = [codec for codec in codecs.codecs if codec["name"].removeprefix("numcodecs.") not in _ROUNDING]
    return _run_pipeline(
        {**array.document, "attributes": {}, "codecs": exact}, array.chunk_shape, _fill_of(array)
    )


def _empty_shard(array: ArrayMetadata, codecs: CodecsV3) -> bytes:
    """A shard that is nothing but its index, in which every inner chunk is marked as absent."""
    configuration = codecs.codecs[0]["configuration"]
    inner = configuration["chunk_shape"]
    counts = [shard // chunk for shard, chunk in zip(array.chunk_shape, inner, strict=True)]
    shape = (*counts, 2)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": configuration["index_codecs"],
    }
    return _run_pipeline(document, shape, _EMPTY_CHUNK)


def _run_pipeline(document: Mapping[str, Any], shape: tuple[int, ...], fill: Any) -> bytes:
    metadata = ArrayV3Metadata.from_dict(dict(document))
    spec = ArraySpec(
        shape=shape,
        dtype=metadata.data_type,
        fill_value=metadata.fill_value,
        config=ArrayConfig(order="C", write_empty_chunks=True),
        prototype=default_buffer_prototype(),
    )
    block = np.full(shape, fill, metadata.data_type.to_native_dtype())
    values = spec.prototype.nd_buffer.from_numpy_array(block)
    (encoded,) = asyncio.run(create_codec_pipeline(metadata).encode([(values, spec)]))
    if encoded is None:
        raise ValueError("the pipeline encodes nothing")
    return encoded.to_bytes()
