"""Says which Zarr array one image of a TIFF is, byte for byte, or why it is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidReference, UnsupportedCodec
from cubegate.index.builders import tiff_directory as tiff
from cubegate.index.builders.tiff_directory import Directory, TiffFile
from cubegate.index.table import MAX_CHUNKS
from cubegate.index.zarr_v2 import MAX_CHUNK_NBYTES

MAX_SIDE = 2**21
MAX_BANDS = 2**12
_COMPRESSORS: Mapping[int, Mapping[str, Any] | None] = {
    1: None,
    5: {"id": "imagecodecs_lzw"},
    8: {"id": "zlib", "level": 6},
    32946: {"id": "zlib", "level": 6},
    50000: {"id": "zstd", "level": 9},
}
_REFUSED_COMPRESSIONS = {
    2: "CCITT RLE", 3: "CCITT fax", 4: "CCITT fax", 6: "old JPEG", 7: "JPEG", 32773: "PackBits",
    34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_HORIZONTAL, _FLOAT = 2, 3
_FORMATS = {1: "u", 2: "i", 3: "f", 4: "u", 5: "complex integers", 6: "c"}
_TYPES = frozenset({"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"})
# of which GDAL makes other colours as it reads
_COLOUR_SPACES = {
    6: "YCbCr",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32844: "LogL",
    32845: "LogLuv",
}
_STRIP_NBYTES = 2**20


@dataclass(frozen=True)
class Image:
    """One image as a Zarr array: `offsets` and `nbytes` are those of its chunks, in C order.

    Both are 0 for a chunk that was never written.
    """

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: Mapping[str, Any] | None
    filters: tuple[Mapping[str, Any], ...]
    offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.shape[self.dimensions.index("y")]

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.shape[self.dimensions.index("x")]

    @property
    def bands(self) -> int:
        """The number of bands."""
        return self.shape[self.dimensions.index("band")] if "band" in self.dimensions else 1

    @property
    def sparse(self) -> bool:
        """Whether there are chunks that were never written."""
        return bool((self.nbytes == 0).any())


def read_image(file: TiffFile, directory: Directory) -> Image:
    """Return the image that `directory` describes.

    Raises:
        UnsupportedCodec: its pixels are encoded in a way for which Zarr has no codec, or no chunk.
        InvalidReference: it has no form as a Zarr array, or is damaged or hostile.
    """
    width, height, bands = _read_sizes(directory)
    dtype = _read_dtype(file, directory, bands)
    compressor = _read_compressor(directory)
    separate = _is_separate(directory, bands)
    inside = 1 if separate else bands
    blocks = _read_blocks(directory, width, height, bands if separate else 1)
    blocks.check(file.nbytes)
    row_nbytes = blocks.width * inside * dtype.itemsize
    if compressor is None:
        blocks = _uncompressed(blocks, height, row_nbytes)
    if blocks.last != blocks.height:
        raise UnsupportedCodec(
            f"its last strip has {blocks.last} rows where the others have {blocks.height}, and is "
            "compressed, so it is no Zarr chunk; make it tiled: gdal_translate -of COG"
        )
    if blocks.height * row_nbytes > MAX_CHUNK_NBYTES:
        raise InvalidReference("its tiles or strips decode to over 2 GiB")
    axes = [("y", height, blocks.height), ("x", width, blocks.width)]
    if bands > 1:
        axes.insert(0 if separate else 2, ("band", bands, inside))
    names, shape, chunks = zip(*axes, strict=True)
    samples = (inside,) if inside > 1 else ()
    filters = (
        () if compressor is None else _read_filters(directory, (blocks.height, blocks.width, *samples), dtype)
    )
    return Image(names, shape, chunks, dtype, compressor, filters, blocks.offsets, blocks.nbytes)


def _read_sizes(directory: Directory) -> tuple[int, int, int]:
    width, height = directory.number(tiff.WIDTH), directory.number(tiff.HEIGHT)
    bands = directory.number(tiff.SAMPLES, 1)
    for what, size, most in (
        ("wide", width, MAX_SIDE),
        ("high", height, MAX_SIDE),
        ("deep", bands, MAX_BANDS),
    ):
        if not 0 < size <= most:
            raise InvalidReference(f"it is {size:,} pixels {what}, and at most {most:,} are taken")
    return width, height, bands


def _read_dtype(file: TiffFile, directory: Directory, bands: int) -> np.dtype[Any]:
    sizes = set(directory.numbers(tiff.BITS, (1,)))
    formats = set(directory.numbers(tiff.SAMPLE_FORMAT, (1,)))
    if len(sizes) > 1 or len(formats) > 1 or len(directory.numbers(tiff.BITS, (1,))) not in (1, bands):
        raise InvalidReference("its bands are of different types")
    (bits,), (number,) = sizes, formats
    kind = _FORMATS.get(number, f"samples of format {number}")
    name = f"{kind}{bits // 8}"
    if bits % 8 or name not in _TYPES:
        what = {"u": "integers", "i": "integers", "f": "floats", "c": "complex numbers"}.get(kind, kind)
        raise InvalidReference(f"its pixels are {what} of {bits} bits, which Zarr has no type for")
    order = "|" if bits == 8 else file.byte_order
    return np.dtype(f"{order}{name}")


def _read_compressor(directory: Directory) -> Mapping[str, Any] | None:
    compression = directory.number(tiff.COMPRESSION, 1)
    if compression not in _COMPRESSORS:
        name = _REFUSED_COMPRESSIONS.get(compression, f"scheme {compression}")
        raise UnsupportedCodec(f"it is compressed with {name}, which Zarr has no codec for; {_RECOMPRESS}")
    if directory.number(tiff.FILL_ORDER, 1) != 1:
        raise UnsupportedCodec(f"its bits are in reverse order, which Zarr has no codec for; {_RECOMPRESS}")
    colours = _COLOUR_SPACES.get(directory.number(tiff.PHOTOMETRIC, 1))
    if colours is not None:
        raise UnsupportedCodec(f"its colours are in {colours}, which has no meaning in Zarr; {_RECOMPRESS}")
    return _COMPRESSORS[compression]


def _read_filters(
    directory: Directory, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[Mapping[str, Any], ...]:
    """Return what is done to a block of `shape`: rows, columns, and samples where there are several."""
    predictor = directory.number(tiff.PREDICTOR, 1)
    if predictor == 1:
        return ()
    along_rows = {"shape": list(shape), "dtype": dtype.str, "axis": 1, "dist": 1}
    if predictor == _HORIZONTAL and dtype.itemsize <= 8:
        return ({"id": "imagecodecs_delta", **along_rows},)
    if predictor == _FLOAT and dtype.kind == "f":
        return ({"id": "imagecodecs_floatpred", **along_rows},)
    raise UnsupportedCodec(f"it uses predictor {predictor} on {dtype.name}, which is not defined")


_RECOMPRESS = "make it anew: gdal_translate -of COG -co COMPRESS=DEFLATE"


def _is_separate(directory: Directory, bands: int) -> bool:
    planar = directory.number(tiff.PLANAR, 1)
    if planar not in (1, 2):
        raise InvalidReference(f"its planar configuration is {planar}")
    return planar == 2 and bands > 1


@dataclass(frozen=True)
class _Blocks:
    """Tiles, or strips, of which the last one of each plane has `last` rows."""

    width: int
    height: int
    last: int
    tiled: bool
    offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]

    def check(self, file_nbytes: int) -> None:
        """Raise `InvalidReference` unless each lies in the file, apart from the others, or nowhere."""
        absent = self.nbytes == 0
        if ((self.offsets == 0) != absent).any():
            raise InvalidReference("it has a tile or strip without a place, or a place without bytes")
        starts, sizes = self.offsets[~absent], self.nbytes[~absent]
        if (starts < 8).any() or (sizes < 0).any() or (sizes > MAX_CHUNK_NBYTES).any():
            raise InvalidReference("it has a tile or strip at an impossible place, or of an impossible size")
        if (starts + sizes > file_nbytes).any():
            raise InvalidReference("it names tiles or strips behind its end: it is cut, or damaged")
        # equal tiles may be stored once
        places = np.unique(np.stack([starts, starts + sizes]), axis=1)
        if (places[0, 1:] < places[1, :-1]).any():
            raise InvalidReference("its tiles or strips overlap")


def _read_blocks(directory: Directory, width: int, height: int, planes: int) -> _Blocks:
    tiled = tiff.TILE_WIDTH in directory.tags
    if tiled:
        across, down = directory.number(tiff.TILE_WIDTH), directory.number(tiff.TILE_HEIGHT)
        # no more than what MAX_SIDE leaves room for
        possible, last = 0 < across <= 2 * MAX_SIDE and 0 < down <= 2 * MAX_SIDE, down
    else:
        across, down = width, min(directory.number(tiff.ROWS_PER_STRIP, height), height)
        possible, last = down > 0, height % down or down if down else 0
    if not possible:
        raise InvalidReference(f"its tiles or strips are of {across:,} x {down:,} pixels")
    count = planes * math.ceil(width / across) * math.ceil(height / down)
    if count > MAX_CHUNKS:
        raise InvalidReference(f"it has {count:,} tiles or strips, and at most {MAX_CHUNKS:,} are taken")
    named = (
        (tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS) if tiled else (tiff.STRIP_OFFSETS, tiff.STRIP_BYTE_COUNTS)
    )
    offsets, nbytes = (_read_table(directory, tag, count) for tag in named)
    return _Blocks(across, down, last, tiled, offsets, nbytes)


def _read_table(directory: Directory, tag: int, count: int) -> NDArray[np.int64]:
    values = directory.tags.get(tag)
    if values is None or values.dtype.kind not in "iu":
        raise InvalidReference(f"it does not say where its pixels are (tag {tag})")
    if len(values) != count:
        raise InvalidReference(f"its tag {tag} holds {len(values):,} numbers where {count:,} are due")
    if len(values) and (int(values.max()) >= 2**62 or int(values.min()) < 0):
        raise InvalidReference(f"its tag {tag} holds numbers that no file has")
    return values.astype(np.int64)


def _uncompressed(blocks: _Blocks, height: int, row_nbytes: int) -> _Blocks:
    """Return uncompressed blocks at their exact sizes; strips become chunks of equally many rows."""
    down = math.ceil(height / blocks.height)
    rows = np.full(len(blocks.nbytes), blocks.height, np.int64)
    if not blocks.tiled:
        rows[down - 1 :: down] = blocks.last
    absent = blocks.nbytes == 0
    if (blocks.nbytes < rows * row_nbytes)[~absent].any():
        raise InvalidReference("it has a tile or strip that is too short for its pixels")
    exact = replace(blocks, nbytes=np.where(absent, 0, rows * row_nbytes))
    if blocks.tiled:
        return exact
    step = math.gcd(blocks.height, blocks.last)
    if not absent.any() and _lie_together(exact, down):
        joined = max(n for n in _divisors(height) if n == 1 or n * row_nbytes <= _STRIP_NBYTES)
        if joined > step:
            planes = len(rows) // down
            whole = replace(exact, offsets=exact.offsets[::down], nbytes=np.ones(planes, np.int64))
            return _cut(whole, np.full(planes, height), row_nbytes, joined)
    return exact if step == blocks.height == blocks.last else _cut(exact, rows, row_nbytes, step)


def _lie_together(blocks: _Blocks, down: int) -> bool:
    """Whether all strips of each plane follow one another, from the first one on."""
    offsets, ends = (table.reshape(-1, down) for table in (blocks.offsets, blocks.offsets + blocks.nbytes))
    return bool((offsets[:, 1:] == ends[:, :-1]).all())


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return [*small, *(number // n for n in small)]


def _cut(blocks: _Blocks, rows: NDArray[np.int64], row_nbytes: int, step: int) -> _Blocks:
    """Return blocks of `rows` rows each as ones of `step` rows."""
    parts = rows // step
    if int(parts.sum()) > MAX_CHUNKS:
        raise InvalidReference(f"its strips make more than {MAX_CHUNKS:,} chunks of {step} rows")
    number = np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
    absent = np.repeat(blocks.nbytes == 0, parts)
    offsets = np.repeat(blocks.offsets, parts) + number * step * row_nbytes
    return replace(
        blocks,
        height=step,
        last=step,
        offsets=np.where(absent, 0, offsets),
        nbytes=np.where(absent, 0, step * row_nbytes),
    )
