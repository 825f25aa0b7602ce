"""A TIFF that lies about itself is refused with a reason, after a few bounded reads."""

import struct

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cubegate.errors import CubegateError, InvalidReference
from cubegate.index.builders.geotiff import build_from_geotiff

SHORT, LONG, DOUBLE, ASCII, RATIONAL, LONG8 = 3, 4, 12, 2, 5, 16
SIZES = {SHORT: "H", LONG: "I", DOUBLE: "d", ASCII: "c", RATIONAL: "Q", LONG8: "Q"}
PIXELS = 4096
HONEST = {
    256: (LONG, [32]),
    257: (LONG, [32]),
    258: (SHORT, [8]),
    259: (SHORT, [1]),
    262: (SHORT, [1]),
    277: (SHORT, [1]),
    322: (LONG, [16]),
    323: (LONG, [16]),
    324: (LONG, [8, 264, 520, 776]),
    325: (LONG, [256, 256, 256, 256]),
    33550: (DOUBLE, [30.0, 30.0, 0.0]),
    33922: (DOUBLE, [0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0]),
}


def tiff(changes=(), *, following=0, directories=1):
    """Return a classic TIFF with `changes` to the tags of an honest one; None removes a tag.

    `following` is where the last directory says that the next one is; 0 is nowhere.
    """
    tags = {**HONEST, **dict(changes)}
    body = bytearray(PIXELS - 8)
    starts, out = [], bytearray()
    base = PIXELS
    for number in range(directories):
        entries, values = bytearray(), bytearray()
        kept = sorted((tag, value) for tag, value in tags.items() if value is not None)
        size = 2 + 12 * len(kept) + 4
        for tag, (kind, numbers, *lie) in kept:
            data = b"".join(struct.pack(f"<{SIZES[kind]}", each) for each in numbers)
            count = lie[0] if lie else len(numbers)
            entries += struct.pack("<HHI", tag, kind, count)
            if len(data) <= 4:
                entries += data.ljust(4, b"\0")
            else:
                entries += struct.pack("<I", base + size + len(values))
                values += data
        starts.append(base)
        end = base + size + len(values)
        last = number == directories - 1
        out += struct.pack("<H", len(kept)) + entries + struct.pack("<I", following if last else end) + values
        base = end
    return struct.pack("<2sHI", b"II", 42, starts[0]) + bytes(body) + bytes(out)


@pytest.fixture
def build(local_source, allow_all, tmp_path):
    """Build the index of a file of `data`; returns it."""

    async def build(data):
        path = tmp_path / "hostile.tif"
        path.write_bytes(data)
        return await build_from_geotiff(local_source, path.as_uri(), check_url=allow_all)

    return build


async def test_the_honest_one_is_taken(build):
    index = await build(tiff())
    assert index.hierarchy.arrays["band_data"].shape == (32, 32)
    assert index.counts("band_data").stored == 4


async def test_equal_tiles_may_be_stored_once(build):
    index = await build(tiff({324: (LONG, [8, 8, 8, 264])}))
    assert index.counts("band_data").stored == 4


HUGE = 2**31
LIES = {
    "no TIFF": (b"\x89PNG\r\n\x1a\n" + bytes(100), "it is no TIFF"),
    "nothing": (b"", "bytes up to 8 and has 0"),
    "another version": (b"II" + struct.pack("<HI", 44, 8) + bytes(100), "neither a classic TIFF nor a BigTIFF"),
    "a BigTIFF of other offsets": (b"II" + struct.pack("<HHH", 43, 4, 0) + bytes(100), "neither a classic"),
    "no directory": (b"II" + struct.pack("<HI", 42, 0), "it holds no image"),
    "a directory behind the end": (b"II" + struct.pack("<HI", 42, HUGE), "is cut, or damaged"),
    "an empty directory": (b"II" + struct.pack("<HI", 42, 8) + bytes(100), "has 0 entries"),
    "a huge directory": (b"II" + struct.pack("<HI", 42, 8) + b"\xff" * 10**6, "has 65,535 entries"),
    "a loop": (tiff(following=PIXELS), "form a loop"),
    "too many directories": (tiff(directories=65), "more than 64 image file directories"),
    "a cut directory": (tiff()[:-120], "is cut, or damaged"),
    "a long table": (tiff({324: (LONG, [8] * 4, HUGE)}), r"its tag 324 takes 8,589,934,592 bytes"),
    "a table behind the end": (tiff({324: (LONG, [8] * 4, 2**20)}), "is cut, or damaged"),
    "long text": (tiff({42112: (ASCII, [b"x"] * 8, HUGE)}), "its tag 42112 takes"),
    "text as width": (tiff({256: (ASCII, [b"x"])}), "its tag 256 does not hold whole numbers"),
    "a fraction as width": (tiff({256: (RATIONAL, [1])}), "its tag 256 is of type 5"),
    "many widths": (tiff({256: (LONG, [1, 2, 3])}), "its tag 256 holds 3 numbers"),
    "no width": (tiff({256: None}), "its tag 256 holds 0 numbers"),
    "a width of zero": (tiff({256: (LONG, [0])}), "it is 0 pixels wide"),
    "a huge width": (tiff({256: (LONG, [HUGE])}), "it is 2,147,483,648 pixels wide"),
    "a huge height": (tiff({257: (LONG, [HUGE])}), "it is 2,147,483,648 pixels high"),
    "many bands": (tiff({277: (SHORT, [65535])}), "it is 65,535 pixels deep"),
    "tiles of nothing": (tiff({322: (LONG, [0])}), "its tiles or strips are of 0 x 16"),
    "huge tiles": (
        tiff({322: (LONG, [2**20]), 323: (LONG, [2**20]), 324: (LONG, [8]), 325: (LONG, [2**20]), 259: (SHORT, [8])}),
        "names tiles or strips behind its end",
    ),
    "tiles of 2 GiB": (
        tiff({322: (LONG, [2**20]), 323: (LONG, [2**20]), 324: (LONG, [8]), 325: (LONG, [256]), 259: (SHORT, [8])}),
        "decode to over 2 GiB",
    ),
    "tiles of one pixel": (
        tiff({256: (LONG, [2**21]), 257: (LONG, [2**21]), 322: (LONG, [1]), 323: (LONG, [1])}),
        "it has 4,398,046,511,104 tiles",
    ),
    "strips of nothing": (
        tiff({322: None, 323: None, 324: None, 325: None, 278: (LONG, [0]), 273: (LONG, [8]), 279: (LONG, [8])}),
        "its tiles or strips are of 32 x 0",
    ),
    "no place of tiles": (tiff({324: None}), r"does not say where its pixels are \(tag 324\)"),
    "too few tiles": (tiff({324: (LONG, [8] * 3)}), "its tag 324 holds 3 numbers where 4 are due"),
    "tiles behind the end": (tiff({324: (LONG, [8, 264, 520, HUGE])}), "behind its end"),
    "tiles far behind the end": (tiff({324: (LONG8, [8, 264, 520, 2**63])}), "numbers that no file has"),
    "tiles that overlap": (tiff({324: (LONG, [8, 264, 520, 700])}), "overlap"),
    "a tile in the header": (tiff({324: (LONG, [4, 264, 520, 776])}), "at an impossible place"),
    "a tile without a place": (tiff({324: (LONG, [0, 264, 520, 776])}), "a tile or strip without a place"),
    "a place without bytes": (tiff({325: (LONG, [0, 256, 256, 256])}), "a tile or strip without a place"),
    "short tiles": (tiff({325: (LONG, [255, 256, 256, 256])}), "too short for its pixels"),
    "types that differ": (tiff({277: (SHORT, [2]), 258: (SHORT, [8, 16])}), "bands are of different types"),
    "an impossible type": (tiff({258: (SHORT, [24])}), "integers of 24 bits"),
    "an impossible layout": (tiff({284: (SHORT, [3])}), "planar configuration is 3"),
    "bits in reverse": (tiff({266: (SHORT, [2])}), "its bits are in reverse order"),
    "other colours": (tiff({262: (SHORT, [6])}), "its colours are in YCbCr"),
    "nodata that is text": (tiff({42113: (ASCII, [b"n", b"o", b"\0"])}), "its nodata value 'no' is no number"),
    "a pixel of no size": (tiff({33550: (DOUBLE, [0.0, 0.0, 0.0])}), "control points|no grid|no number"),
    "a corner that is none": (
        tiff({33922: (DOUBLE, [0.0, 0.0, 0.0, float("nan"), 0.0, 0.0])}), "its grid, scale or offset is no number"
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_refused_with_the_reason(build, lie):
    data, message = LIES[lie]
    with pytest.raises(InvalidReference, match=rf"hostile\.tif cannot be a cube: .*{message}"):
        await build(data)


async def test_a_tag_twice_is_refused(build):
    data = bytearray(tiff())
    at = PIXELS + 2
    # the second entry becomes another first one
    data[at + 12 : at + 14] = data[at : at + 2]
    with pytest.raises(InvalidReference, match="holds tag 256 twice"):
        await build(bytes(data))


@pytest.mark.parametrize("keys", [[1, 1, 0, 5, 3072, 0, 1, 40_000], [9] * 8, [1, 1, 0, 60_000], []])
async def test_keys_that_make_no_sense_are_no_crs_or_refused(build, keys):
    try:
        index = await build(tiff({34735: (SHORT, keys)} if keys else {34735: (SHORT, [1, 1, 0, 0])}))
    except InvalidReference:
        return
    assert "spatial_ref" not in index.hierarchy.arrays


@pytest.mark.parametrize(
    "text", [b"<GDALMetadata><Item", b"\xff\xfe\0\0", b"<!DOCTYPE a [<!ENTITY b 'c'>]>&b;"]
)
async def test_metadata_that_make_no_sense_are_none(build, text):
    index = await build(tiff({42112: (ASCII, [bytes([each]) for each in text])}))
    assert "scale_factor" not in index.hierarchy.arrays["band_data"].attributes


class Bounded:
    """A source that counts what is read."""

    def __init__(self, source):
        self._source, self.ranges, self.nbytes = source, 0, 0

    async def stat(self, url):
        return await self._source.stat(url)

    async def get(self, reference):
        self.ranges, self.nbytes = self.ranges + 1, self.nbytes + reference.length
        return await self._source.get(reference)


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("seed", range(10))
async def test_damaged_directories_end_in_an_index_or_a_refusal(
    local_source, allow_all, tmp_path, bigtiff, seed
):
    path = tmp_path / "damaged.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="int16", count=2, height=64, width=64, crs="EPSG:32611", tiled=True,
        transform=from_origin(500_000, 4_000_000, 30, 30), blockxsize=16, blockysize=16, BIGTIFF=bigtiff, nodata=-1,
    ) as file:  # fmt: skip
        file.write(np.ones((2, 64, 64), "i2"))
    whole = path.read_bytes()
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(30):
        data = bytearray(whole)
        for place in random.integers(0, 900, 3):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        source = Bounded(local_source)
        try:
            await build_from_geotiff(source, path.as_uri(), check_url=allow_all)
        except CubegateError:
            refused += 1
        assert source.ranges <= 256
        assert source.nbytes <= 256 * 2**16
    assert refused
