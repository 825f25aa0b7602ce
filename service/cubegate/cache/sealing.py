"""Checksums around what is stored elsewhere: a damaged, cut or misplaced value is no value."""

from __future__ import annotations

import zlib

_MAGIC = b"cg1"
_HEADER = len(_MAGIC) + 4 + 8
CHECKSUM = 4


def seal(key: str, value: bytes) -> bytes:
    """Return `value` behind a checksum of `key` and itself."""
    checksum = zlib.crc32(value, zlib.crc32(key.encode()))
    return _MAGIC + checksum.to_bytes(4, "big") + len(value).to_bytes(8, "big") + value


def unseal(key: str, stored: object) -> bytes | None:
    """Return the value in `stored`, None where it is not what was sealed under `key`."""
    if not isinstance(stored, bytes) or len(stored) < _HEADER:
        return None
    value = stored[_HEADER:]
    return value if stored == seal(key, value) else None


def seal_block(key: str, block: bytes, nbytes: int) -> bytes:
    """Return `block` with a checksum behind each of its columns of `nbytes`."""
    start = zlib.crc32(key.encode())
    view = memoryview(block)
    sealed = bytearray()
    for number in range(len(block) // nbytes):
        column = view[number * nbytes : (number + 1) * nbytes]
        sealed += column
        sealed += _column_checksum(start, number, column)
    return bytes(sealed)


def unseal_column(key: str, number: int, nbytes: int, stored: object) -> bytes | None:
    """Return the column in `stored`, None where it is not column `number` of the block at `key`."""
    if not isinstance(stored, bytes) or len(stored) != nbytes + CHECKSUM:
        return None
    checksum = _column_checksum(zlib.crc32(key.encode()), number, memoryview(stored)[:nbytes])
    return stored[:nbytes] if stored[nbytes:] == checksum else None


def _column_checksum(start: int, number: int, column: memoryview) -> bytes:
    return zlib.crc32(column, zlib.crc32(number.to_bytes(4, "big"), start)).to_bytes(CHECKSUM, "big")
