"""Translates the filters of an HDF5 dataset into codecs of Zarr v2."""

from __future__ import annotations

from typing import Any, NamedTuple

from cubegate.errors import UnsupportedCodec

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_BZIP2, _BLOSC, _ZSTD = 307, 32001, 32015
_REFUSED = {
    4: "szip",
    5: "n-bit",
    6: "scale-offset",
    32000: "LZF",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32026: "Blosc2",
}
_BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")


class Filter(NamedTuple):
    """One filter of a pipeline: its registered number, and its parameters."""

    code: int
    values: tuple[int, ...]


def filters_of(dataset: Any) -> list[Filter]:
    """Return the filters of an h5py dataset in the order in which they encode."""
    properties = dataset.id.get_create_plist()
    found = (properties.get_filter(number) for number in range(properties.get_nfilters()))
    return [Filter(code, values) for code, _, values, _ in found]


def codecs_of(filters: list[Filter], skipped: int, itemsize: int) -> list[dict[str, Any]]:
    """Return the codecs, in encoding order, of chunks that skip the filters with a bit in `skipped`.

    Raises:
        UnsupportedCodec: one of them has no codec here.
    """
    used = [one for number, one in enumerate(filters) if not skipped >> number & 1]
    return [codec for one in used if (codec := _codec(one, itemsize)) is not None]


def _codec(one: Filter, itemsize: int) -> dict[str, Any] | None:
    code, values = one
    if code == _SHUFFLE:
        size = values[0] if values else itemsize
        return {"id": "shuffle", "elementsize": size} if size > 1 else None
    if code == _DEFLATE:
        return {"id": "zlib", "level": values[0] if values else 1}
    if code == _FLETCHER32:
        return {"id": "fletcher32"}
    if code == _ZSTD:
        return {"id": "zstd", "level": values[0] if values else 3}
    if code == _BZIP2:
        return {"id": "bz2", "level": values[0] if values else 9}
    if code == _BLOSC:
        return _blosc(values)
    name = _REFUSED.get(code)
    raise UnsupportedCodec(
        f"it is stored with the HDF5 filter {code}{f' ({name})' if name else ''}, which is not decoded here"
    )


def _blosc(values: tuple[int, ...]) -> dict[str, Any]:
    # each block says itself how it was made; these are for whoever reads the metadata
    level, shuffle, compressor = (*values, 5, 1, 0)[4:7] if len(values) > 6 else (5, 1, 0)
    name = _BLOSC_COMPRESSORS[compressor] if compressor < len(_BLOSC_COMPRESSORS) else "blosclz"
    return {"id": "blosc", "cname": name, "clevel": level, "shuffle": shuffle, "blocksize": 0}
