"""PNG files of palettes: one byte a pixel, the first colour for what is missing."""

from __future__ import annotations

import struct
import zlib

import deflate
import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3
_LEVEL = 3


def write_png(
    pixels: NDArray[np.uint8], colours: NDArray[np.uint8], background: tuple[int, int, int] | None = None
) -> bytes:
    """Return a PNG file.

    Args:
        pixels: of shape (height, width): 0 is missing, n the colour n-1.
        colours: up to 255 rows of red, green and blue.
        background: the colour of what is missing; None is transparent.
    """
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)
    # the first byte of a row is its filter, 0: none
    rows[:, 1:] = pixels
    palette = bytes(background or (0, 0, 0)) + colours.tobytes()
    parts = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)),
        _chunk(b"PLTE", palette),
        *([_chunk(b"tRNS", b"\x00")] if background is None else []),
        _chunk(b"IDAT", bytes(deflate.zlib_compress(rows.tobytes(), _LEVEL))),
        _chunk(b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
