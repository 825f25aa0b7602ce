"""The codecs that cubegate accepts, since a reference file must not choose what code runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cubegate.errors import UnsupportedCodec

V2_CODECS = frozenset(
    {
        "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
        "fill_hdf_strings", "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "json2",
        "lz4", "lzma", "packbits", "quantize", "shuffle", "vlen-bytes", "vlen-utf8", "zlib", "zstd",
    }
)  # fmt: skip

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


def check_v2_codecs(configurations: Iterable[Mapping[str, Any]]) -> None:
    """Raise `UnsupportedCodec` for a numcodecs configuration that is not on the allow-list."""
    for configuration in configurations:
        identifier = configuration.get("id") if isinstance(configuration, Mapping) else None
        if identifier not in V2_CODECS:
            raise UnsupportedCodec(f"codec {identifier!r} is not one that cubegate decodes")


def check_v3_codecs(codecs: Iterable[Mapping[str, Any]]) -> None:
    """Raise `UnsupportedCodec` for a v3 codec, nested ones included, that is not on the list."""
    for codec in codecs:
        name = codec.get("name") if isinstance(codec, Mapping) else None
        if name not in V3_CODECS:
            raise UnsupportedCodec(f"codec {name!r} is not one that cubegate decodes")
        inner = codec.get("configuration") or {}
        check_v3_codecs(inner.get("codecs") or ())
        check_v3_codecs(inner.get("index_codecs") or ())
