"""The text of a JSON reference file, decompressed and decoded block by block."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard

from cubegate.errors import InvalidReference

MAX_NBYTES = 4 * 2**30
BLOCK_NBYTES = 2**18

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def read_text(
    data: bytes, *, report: Callable[[int, int], None], max_nbytes: int = MAX_NBYTES
) -> Iterator[str]:
    """Yield the text of `data`, a JSON document that may be compressed by gzip or zstd.

    `report` is told after each block how many bytes of `data` are read, of how many.

    Raises:
        InvalidReference: it is damaged, larger than `max_nbytes`, or not text.
    """
    decode: codecs.IncrementalDecoder | None = None
    try:
        for block in _read_blocks(data, max_nbytes, report):
            # as json.loads does, let a surrogate without its other half through to who uses the text
            decode = decode or codecs.getincrementaldecoder(json.detect_encoding(block))("surrogatepass")
            yield decode.decode(block)
        if decode is not None:
            yield decode.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidReference("The reference file is not JSON.") from None


def _read_blocks(data: bytes, max_nbytes: int, report: Callable[[int, int], None]) -> Iterator[bytes]:
    stored, nbytes = io.BytesIO(data), 0
    try:
        with _decompressed(data, stored) as stream:
            while block := stream.read(BLOCK_NBYTES):
                nbytes += len(block)
                if nbytes > max_nbytes:
                    raise InvalidReference(f"The reference file is larger than {max_nbytes:,} bytes.")
                yield block
                report(stored.tell(), len(data))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        raise InvalidReference("The compressed reference file is damaged.") from None


def _decompressed(data: bytes, stored: io.BytesIO) -> IO[bytes]:
    if data.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stored))
    if data.startswith(_ZSTD):
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        return decompressor.stream_reader(stored, read_across_frames=True)
    return stored
