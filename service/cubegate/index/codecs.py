"""The codecs that cubegate accepts, since a reference file must not choose what code runs."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numcodecs
import numpy as np

from cubegate.errors import UnsupportedCodec

V2_CODECS = frozenset(
    {
        "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
        "fill_hdf_strings", "fixedscaleoffset", "fletcher32", "gzip", "imagecodecs_delta",
        "imagecodecs_floatpred", "imagecodecs_lzw", "jenkins_lookup3", "json2", "lz4", "lzma",
        "packbits", "quantize", "shuffle", "vlen-bytes", "vlen-utf8", "zlib", "zstd",
    }
)  # fmt: skip
# what TIFF does to its tiles, by the names that its kerchunk references have for it
TIFF_CODECS = frozenset({"imagecodecs_delta", "imagecodecs_floatpred", "imagecodecs_lzw"})
OBJECT_CODECS = frozenset({"fill_hdf_strings", "json2", "vlen-bytes", "vlen-utf8"})

V3_CODECS = frozenset(
    {
        "blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "vlen-bytes",
        "vlen-utf8", "zstd",
    }
    | {
        f"numcodecs.{name}"
        for name in (
            "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
            "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma",
            "packbits", "quantize", "shuffle", "zlib", "zstd",
        )
    }
)  # fmt: skip

MAX_CODECS = 16
_RETYPING = ("astype", "delta", "fixedscaleoffset", "quantize")
# they decode alike, whatever they were told to encode
_WITHOUT_PARAMETERS = ("blosc", "bz2", "gzip", "lz4", "zlib", "zstd")
_ARRAY_TO_BYTES = ("bytes", "sharding_indexed", "vlen-bytes", "vlen-utf8")
_MAX_DTYPE_LENGTH = 2**16
_MAX_ELEMENT_NBYTES = 2**16
_MAX_LZMA_DICTIONARY = 2**27
_LZMA_FORMATS = (None, lzma.FORMAT_XZ, lzma.FORMAT_ALONE, lzma.FORMAT_RAW)
# what numcodecs raises for parameters that it cannot use
_UNUSABLE = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, SyntaxError, RecursionError,
    MemoryError, lzma.LZMAError,
)  # fmt: skip


def check_v2_codecs(configurations: Iterable[Mapping[str, Any]]) -> None:
    """Raise `UnsupportedCodec` unless each is a numcodecs configuration on the list that can be used."""
    for number, configuration in enumerate(configurations):
        identifier = configuration.get("id") if isinstance(configuration, Mapping) else None
        if not isinstance(identifier, str) or identifier not in V2_CODECS:
            raise _unknown(identifier)
        if number >= MAX_CODECS:
            raise UnsupportedCodec(f"there are more than {MAX_CODECS} codecs")
        _check_parameters(identifier, configuration)


def check_v3_codecs(codecs: Iterable[Mapping[str, Any]]) -> None:
    """Raise `UnsupportedCodec` unless each v3 codec, nested ones included, is on the list and can be used."""
    names = []
    for number, codec in enumerate(codecs):
        name = codec.get("name") if isinstance(codec, Mapping) else None
        if not isinstance(name, str) or name not in V3_CODECS:
            raise _unknown(name)
        if number >= MAX_CODECS:
            raise UnsupportedCodec(f"there are more than {MAX_CODECS} codecs")
        names.append(name)
        configuration = codec.get("configuration") or {}
        if name.startswith("numcodecs."):
            identifier = name.removeprefix("numcodecs.")
            # what is left out is as the array has it
            left_out = "decode_dtype" if identifier == "astype" else "dtype"
            default = {left_out: "<f8"} if identifier in _RETYPING else {}
            _check_parameters(identifier, {**default, **configuration, "id": identifier})
        if name == "sharding_indexed":
            _check_sharding(configuration)
    place = next((n for n, name in enumerate(names) if name in _ARRAY_TO_BYTES), None)
    if place is None:
        raise UnsupportedCodec("no codec says how values become bytes")
    if names[place] == "sharding_indexed" and set(names[:place]) - {"transpose"}:
        raise UnsupportedCodec(f"codec {names[0]!r} before sharding is not one that cubegate decodes")


def _check_sharding(configuration: Mapping[str, Any]) -> None:
    check_v3_codecs(configuration.get("codecs") or ())
    index_codecs = configuration.get("index_codecs")
    if index_codecs is None:
        return
    check_v3_codecs(index_codecs)
    names = [codec["name"] for codec in index_codecs]
    if names[0] != "bytes" or set(names[1:]) - {"crc32c"}:
        raise UnsupportedCodec(f"codecs {names} of a shard's index are not ones that cubegate decodes")


def _unknown(identifier: Any) -> UnsupportedCodec:
    return UnsupportedCodec(f"codec {str(identifier)[:100]!r} is not one that cubegate decodes")


def _check_parameters(identifier: str, configuration: Mapping[str, Any]) -> None:
    check = _check_tiff_codec if identifier in TIFF_CODECS else _open
    try:
        check(identifier, configuration)
    except _UNUSABLE as error:
        problem = type(error).__name__
        raise UnsupportedCodec(
            f"codec {identifier!r} has parameters that cannot be used ({problem})"
        ) from None


def _open(identifier: str, configuration: Mapping[str, Any]) -> None:
    """Make the codec as it would be made to decode; raises one of `_UNUSABLE`."""
    if len(str(configuration.get("dtype", ""))) > _MAX_DTYPE_LENGTH:
        raise ValueError("the type is too long")
    if identifier in _WITHOUT_PARAMETERS:
        return
    codec = _make(identifier, configuration)
    if identifier in _RETYPING:
        for name in ("dtype", "astype", "encode_dtype", "decode_dtype"):
            dtype = np.dtype(getattr(codec, name, np.float64))
            if dtype.kind not in "biufc":
                raise ValueError("it is not of numbers")
    elif identifier == "shuffle":
        size = configuration.get("elementsize", 4)
        if type(size) is not int or not 0 < size <= _MAX_ELEMENT_NBYTES:
            raise ValueError("the element size is impossible")
    elif identifier == "json2" and configuration.get("encoding", "utf-8") != "utf-8":
        raise ValueError("it is not in UTF-8")
    elif identifier == "lzma":
        _open_lzma(configuration)


def _make(identifier: str, configuration: Mapping[str, Any]) -> Any:
    if identifier == "fill_hdf_strings":
        # makes it known to numcodecs
        import kerchunk.codecs  # noqa: PLC0415, F401 - few arrays need it, and it is slow to import
    return numcodecs.get_codec(dict(configuration))


def _check_tiff_codec(identifier: str, configuration: Mapping[str, Any]) -> None:
    if identifier == "imagecodecs_lzw":
        if find_spec("rasterio") is None:
            raise UnsupportedCodec(
                "LZW needs rasterio, which is not installed: pip install 'cubegate[formats]'"
            )
        return
    shape, dtype = configuration["shape"], np.dtype(configuration["dtype"])
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError("its shape is none")
    # rows, columns, and samples; differences are along a row
    axis = configuration.get("axis", -1)
    along_rows = axis == 1 if len(shape) == 3 else len(shape) == 2 and axis in (1, -1)
    if not along_rows or configuration.get("dist", 1) != 1:
        raise ValueError("it is not along rows")
    kinds = "f" if identifier == "imagecodecs_floatpred" else "iufc"
    if dtype.kind not in kinds or dtype.itemsize not in (1, 2, 4, 8):
        raise ValueError("it is of another type")


def _open_lzma(configuration: Mapping[str, Any]) -> None:
    if configuration.get("format") not in _LZMA_FORMATS:
        raise ValueError("there is no such format")
    if configuration.get("format") == lzma.FORMAT_RAW:
        filters = configuration["filters"]
        if any(one.get("dict_size", 0) > _MAX_LZMA_DICTIONARY for one in filters):
            raise ValueError("its dictionary is too large")
        lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
