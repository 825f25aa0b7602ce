"""Translates codec pipelines between Zarr v2 and v3, only where the same bytes decode to the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np

from cubegate.errors import NotRepresentable
from cubegate.index.codecs import TIFF_CODECS
from cubegate.index.metadata import ArrayMetadata, CodecsV2, CodecsV3

Codec = dict[str, Any]

COMPRESSORS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"})
_OBJECT_CODECS = frozenset({"vlen-utf8", "vlen-bytes"})
_ARRAY_FILTERS = frozenset({"astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize"})
_CHECKSUMS = frozenset({"adler32", "crc32", "crc32c"})
_BYTES_CODECS = COMPRESSORS | _CHECKSUMS | {"fletcher32", "jenkins_lookup3", "shuffle"}
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_MAX_BLOSC_TYPESIZE = 255


def codecs_to_v3(array: ArrayMetadata) -> list[Codec]:
    """Return the v3 codec documents that decode the chunks of an array stored as v2.

    Raises:
        NotRepresentable: no v3 pipeline decodes the same bytes to the same values.
    """
    if not isinstance(array.codecs, CodecsV2):
        return [dict(codec) for codec in array.codecs.codecs]
    encoding = [_normalized(array, configuration) for configuration in array.codecs.filters]
    if array.codecs.compressor:
        encoding.append(_normalized(array, array.codecs.compressor))
    codecs: list[Codec] = []
    if array.codecs.order == "F" and len(array.shape) > 1:
        codecs.append({"name": "transpose", "configuration": {"order": [*range(len(array.shape))][::-1]}})
    if array.dtype.hasobject:
        if not encoding or encoding[0]["id"] not in _OBJECT_CODECS:
            raise NotRepresentable(_says(array, "its filters do not say first how objects are stored"))
        codecs.append({"name": encoding.pop(0)["id"]})
        itemsize = 1
    else:
        encoded_dtype = _move_array_filters(array, encoding, codecs)
        codecs.append(_bytes_codec(encoded_dtype))
        itemsize = encoded_dtype.itemsize
    for configuration in encoding:
        if configuration["id"] not in _BYTES_CODECS:
            raise NotRepresentable(
                _says(array, f"Zarr v3 has no place for its filter {configuration['id']!r}")
            )
        codecs.append(_bytes_to_v3(configuration, itemsize))
        itemsize = 1
    return codecs


def _normalized(array: ArrayMetadata, configuration: Mapping[str, Any]) -> Codec:
    """The configuration with every default spelled out, since the defaults of v3 differ."""
    if configuration["id"] not in _ARRAY_FILTERS | _BYTES_CODECS | _OBJECT_CODECS:
        raise NotRepresentable(_says(array, f"Zarr v3 has no codec {configuration['id']!r}"))
    try:
        codec = numcodecs.get_codec(dict(configuration))
    except (TypeError, ValueError):
        reason = f"the configuration of its codec {configuration['id']!r} is not valid"
        raise NotRepresentable(_says(array, reason)) from None
    normalized: Codec = codec.get_config()
    if configuration["id"] in _CHECKSUMS:
        normalized["location"] = codec.location
    return normalized


def _move_array_filters(array: ArrayMetadata, encoding: list[Codec], codecs: list[Codec]) -> np.dtype[Any]:
    """Move the leading array filters from `encoding` to `codecs`; return the dtype that they leave."""
    dtype = array.dtype
    while encoding and encoding[0]["id"] in _ARRAY_FILTERS:
        configuration = encoding.pop(0)
        identifier = configuration.pop("id")
        decoded, encoded = _filter_dtypes(identifier, configuration, dtype)
        if decoded != dtype:
            reason = f"its filter {identifier!r} gives {decoded.str} where {dtype.str} is due"
            raise NotRepresentable(_says(array, reason))
        if identifier == "quantize" and encoded != dtype:
            raise NotRepresentable(_says(array, "in Zarr v3 'quantize' cannot change the data type"))
        codecs.append({"name": f"numcodecs.{identifier}", "configuration": configuration})
        dtype = encoded
    if array.dtype.str[0] == "|" and dtype.str[0] != "|":
        # zarr-python settles the byte order by the array's own data type, which has none
        raise NotRepresentable(
            _says(array, f"in Zarr v3 the byte order of its {dtype.str} chunks cannot be told")
        )
    return dtype


def _filter_dtypes(
    identifier: str, configuration: Codec, dtype: np.dtype[Any]
) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """What an array filter decodes to, and what it stores."""
    if identifier == "packbits":
        return np.dtype(bool), np.dtype("u1")
    if identifier == "bitround":
        return dtype, dtype
    if identifier == "astype":
        return np.dtype(configuration["decode_dtype"]), np.dtype(configuration["encode_dtype"])
    decoded = np.dtype(configuration["dtype"])
    return decoded, np.dtype(configuration.get("astype") or decoded)


def _bytes_codec(dtype: np.dtype[Any]) -> Codec:
    if dtype.str[0] == "|":
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "big" if dtype.str[0] == ">" else "little"}}


def _bytes_to_v3(configuration: Codec, itemsize: int) -> Codec:
    identifier = configuration.pop("id")
    if identifier == "gzip":
        return {"name": "gzip", "configuration": {"level": min(max(configuration["level"], 0), 9)}}
    if identifier == "zstd":
        checksum = bool(configuration.get("checksum", False))
        return {"name": "zstd", "configuration": {"level": configuration["level"], "checksum": checksum}}
    if identifier == "blosc":
        return {"name": "blosc", "configuration": _blosc_to_v3(configuration, itemsize)}
    if identifier == "crc32c" and configuration["location"] == "end":
        return {"name": "crc32c"}
    return {"name": f"numcodecs.{identifier}", "configuration": configuration}


def _blosc_to_v3(configuration: Codec, itemsize: int) -> Codec:
    # a Blosc frame says itself how it was shuffled; v3 only wants it named
    shuffle = configuration["shuffle"]
    if shuffle == -1:
        shuffle = 2 if itemsize == 1 else 1
    return {
        "typesize": itemsize if itemsize <= _MAX_BLOSC_TYPESIZE else 1,
        "cname": configuration["cname"],
        "clevel": configuration["clevel"],
        "shuffle": _SHUFFLES[shuffle],
        "blocksize": configuration["blocksize"],
    }


def codecs_to_v2(array: ArrayMetadata) -> CodecsV2:
    """Return the v2 pipeline that decodes the chunks of an array, whichever format it is stored in.

    A compressor that is listed as the last filter becomes the compressor.

    Raises:
        NotRepresentable: no v2 pipeline decodes the same bytes to the same values.
    """
    if isinstance(array.codecs, CodecsV2):
        if any(configuration["id"] == "fill_hdf_strings" for configuration in array.codecs.filters):
            raise NotRepresentable(
                _says(array, "its strings need a codec of kerchunk's own; zarr-plain has them")
            )
        tiff = [
            c["id"]
            for c in (*array.codecs.filters, array.codecs.compressor or {"id": ""})
            if c["id"] in TIFF_CODECS
        ]
        if tiff:
            raise NotRepresentable(
                _says(
                    array,
                    f"no Zarr client undoes TIFF's {', '.join(tiff)} by itself; zarr-plain has its values",
                )
            )
        if array.codecs.compressor is not None:
            return array.codecs
        return _with_compressor([dict(f) for f in array.codecs.filters], array.codecs.order)
    if array.codecs.sharded:
        raise NotRepresentable(_says(array, "it is sharded, and Zarr v2 has no shards"))
    if array.dtype.names:
        raise NotRepresentable(_says(array, "it has a structured data type"))
    order, codecs = _order(array, array.codecs)
    filters: list[Codec] = []
    dtype = array.dtype
    while codecs and codecs[0]["name"].removeprefix("numcodecs.") in _ARRAY_FILTERS:
        dtype = _array_filter_to_v2(array, codecs.pop(0), dtype, filters)
    serializer = codecs.pop(0)
    if serializer["name"] in _OBJECT_CODECS:
        filters.append({"id": serializer["name"]})
    elif serializer["name"] != "bytes" or dtype.hasobject:
        raise NotRepresentable(_says(array, f"Zarr v2 has no codec {serializer['name']!r}"))
    filters.extend(_bytes_to_v2(array, codec) for codec in codecs)
    return _with_compressor(filters, order)


def _order(array: ArrayMetadata, codecs: CodecsV3) -> tuple[Any, list[Mapping[str, Any]]]:
    """The v2 order that leading transpositions amount to, and the codecs behind them."""
    remaining = list(codecs.codecs)
    axes = list(range(len(array.shape)))
    natural = list(axes)
    while remaining and remaining[0]["name"] == "transpose":
        permutation = remaining.pop(0)["configuration"]["order"]
        axes = [axes[number] for number in permutation]
    if axes == natural:
        return "C", remaining
    if axes == natural[::-1]:
        return "F", remaining
    raise NotRepresentable(_says(array, f"Zarr v2 cannot transpose to axes {axes}"))


def _array_filter_to_v2(
    array: ArrayMetadata, codec: Mapping[str, Any], dtype: np.dtype[Any], filters: list[Codec]
) -> np.dtype[Any]:
    identifier = codec["name"].removeprefix("numcodecs.")
    configuration = dict(codec.get("configuration") or {})
    if identifier in ("fixedscaleoffset", "quantize") and configuration.get("dtype") is None:
        configuration["dtype"] = dtype.str
    if identifier == "astype" and configuration.get("decode_dtype") is None:
        configuration["decode_dtype"] = dtype.str
    normalized = _normalized(array, {"id": identifier, **configuration})
    decoded, encoded = _filter_dtypes(identifier, normalized, dtype)
    # v2 takes the bytes of the last step for the array's own; v3 goes by their values
    if decoded != dtype or encoded.str[0] not in ("|", array.dtype.str[0]):
        reason = f"the data types of its codec {codec['name']!r} do not chain in Zarr v2"
        raise NotRepresentable(_says(array, reason))
    filters.append(normalized)
    return encoded


def _bytes_to_v2(array: ArrayMetadata, codec: Mapping[str, Any]) -> Codec:
    name, configuration = codec["name"], dict(codec.get("configuration") or {})
    if name == "crc32c":
        return {"id": "crc32c", "location": "end"}
    if name == "gzip":
        return {"id": "gzip", "level": configuration["level"]}
    if name == "zstd":
        # readers of v2 before numcodecs 0.13 refuse "checksum", which decoding does not need
        return {"id": "zstd", "level": configuration.get("level", 0)}
    if name == "blosc":
        shuffle = _SHUFFLES.index(configuration.get("shuffle") or "noshuffle")
        kept = {key: configuration[key] for key in ("cname", "clevel", "blocksize") if key in configuration}
        return {"id": "blosc", "shuffle": shuffle, **kept}
    identifier = name.removeprefix("numcodecs.")
    if identifier not in _BYTES_CODECS or identifier == name:
        raise NotRepresentable(_says(array, f"Zarr v2 has no codec {name!r}"))
    if identifier == "shuffle" and configuration.get("elementsize") is None:
        configuration["elementsize"] = array.dtype.itemsize
    return {"id": identifier, **configuration}


def _with_compressor(filters: list[Codec], order: Any) -> CodecsV2:
    if filters and filters[-1]["id"] in COMPRESSORS:
        return CodecsV2(tuple(filters[:-1]), filters[-1], order)
    return CodecsV2(tuple(filters), None, order)


def _says(array: ArrayMetadata, reason: str) -> str:
    return f"Array {array.path!r} has no form here: {reason}."
