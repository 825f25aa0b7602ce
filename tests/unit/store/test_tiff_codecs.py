"""Tiles of TIFFs decode to one tile, or are an error; and Zarr clients are sent where they can read them."""

import asyncio
import struct

import numpy as np
import pytest
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from cubegate.errors import CorruptChunk, NotRepresentable, UnsupportedCodec
from cubegate.index.codecs import check_v2_codecs
from cubegate.index.zarr_v2 import parse_array_v2
from cubegate.store.codec_translation import codecs_to_v2, codecs_to_v3
from cubegate.store.decoder import decode

SHAPE = (64, 48)
VALUES = np.cumsum(np.random.default_rng(3).integers(-2, 4, SHAPE), axis=1).astype("<i2")
LZW = {"id": "imagecodecs_lzw"}
DELTA = {"id": "imagecodecs_delta", "shape": [64, 48], "dtype": "<i2", "axis": 1, "dist": 1}


def array(*filters, compressor=LZW, shape=SHAPE, dtype="<i2"):
    document = {"shape": list(shape), "chunks": list(shape), "dtype": dtype, "filters": list(filters) or None,
                "compressor": compressor, "fill_value": 0, "order": "C", "zarr_format": 2}  # fmt: skip
    return parse_array_v2("v", document, {})


@pytest.fixture(scope="module")
def tile():
    """The only tile of a file that GDAL wrote, compressed by LZW; and one with a predictor too."""

    def written(predictor):
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", dtype="int16", count=1, height=64, width=48, tiled=True, blockxsize=48,
                blockysize=64, compress="lzw", predictor=predictor, crs="EPSG:3413",
                transform=from_origin(0, 0, 2, 2),
            ) as file:  # fmt: skip
                file.write(VALUES, 1)
            data = bytes(memory.getbuffer())
        (at,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, at)
        entries = [struct.unpack_from("<HHII", data, at + 2 + 12 * n) for n in range(count)]
        found = {tag: value for tag, _, _, value in entries}
        return data[found[324] : found[324] + found[325]]

    return written


def test_a_tile_decodes_to_what_was_written(tile):
    assert np.array_equal(decode(array(), tile(1)), VALUES)
    assert np.array_equal(decode(array(DELTA), tile(2)), VALUES)
    assert not np.array_equal(decode(array(), tile(2)), VALUES)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -100])
def test_a_tile_that_is_cut_is_an_error(tile, cut):
    with pytest.raises(CorruptChunk):
        decode(array(), tile(1)[:cut])


@pytest.mark.parametrize("data", [b"\0" * 500, b"\xff" * 500, b"II*\0" + bytes(500), b"\x80" + b"\xff" * 100])
def test_what_is_no_tile_is_an_error(data):
    with pytest.raises(CorruptChunk):
        decode(array(), data)


def test_a_tile_of_another_size_is_an_error(tile):
    with pytest.raises(CorruptChunk):
        decode(array(shape=(128, 48)), tile(1))
    with pytest.raises(CorruptChunk):
        decode(array({**DELTA, "shape": [32, 48]}), tile(2))


async def test_many_threads_decode_at_once(tile):
    data = tile(1)
    found = await asyncio.gather(*(asyncio.to_thread(decode, array(), data) for _ in range(64)))
    assert all(np.array_equal(each, VALUES) for each in found)


@pytest.mark.parametrize(
    "changes",
    [{"shape": None}, {"shape": [0, 4]}, {"shape": [4]}, {"shape": [1, 2, 3, 4]}, {"axis": 0}, {"dist": 2},
     {"dtype": "O"}, {"dtype": "S4"}, {"dtype": "M8[s]"}, {"dtype": "<c16"}, {"shape": "ab"}, {"shape": [4, True]}],
)  # fmt: skip
@pytest.mark.parametrize("identifier", ["imagecodecs_delta", "imagecodecs_floatpred"])
def test_parameters_that_cannot_be_used_are_refused(identifier, changes):
    with pytest.raises(UnsupportedCodec, match="parameters that cannot be used"):
        check_v2_codecs([{**DELTA, "dtype": "<f4", **changes, "id": identifier}])


def test_without_rasterio_lzw_is_refused(monkeypatch):
    monkeypatch.setattr("cubegate.index.codecs.find_spec", lambda _: None)
    with pytest.raises(UnsupportedCodec, match="LZW needs rasterio"):
        check_v2_codecs([LZW])


@pytest.mark.parametrize(
    "stored", [array(), array(DELTA), array(DELTA, compressor={"id": "zlib", "level": 6})]
)
@pytest.mark.parametrize("translate", [codecs_to_v2, codecs_to_v3])
def test_no_zarr_client_is_offered_what_it_cannot_decode(stored, translate):
    with pytest.raises(NotRepresentable, match=r"zarr-plain|no codec 'imagecodecs_"):
        translate(stored)
