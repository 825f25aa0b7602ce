"""A GeoTIFF becomes a cube of the values, coordinates and CRS that GDAL reads, or is refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import InvalidReference, UnsupportedCodec, UpstreamChanged
from cubegate.index.build import build_index
from cubegate.index.file import open_index, write_index
from cubegate.settings import UpstreamSettings
from cubegate.store.backend import open_dataset
from cubegate.store.bridge import LoopThread
from cubegate.store.encoded import EncodedStore

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"
GRID = from_origin(500_000, 4_000_000, 30, 20)
HEIGHT, WIDTH = 70, 90


@pytest.fixture
async def upstreams(tmp_path):
    opened = open_upstreams(
        {f"{tmp_path.as_uri()}/": UpstreamSettings(), f"{SHARED.as_uri()}/": UpstreamSettings()}, {}
    )
    yield opened
    await opened.aclose()


@pytest.fixture
def index_of(upstreams):
    async def index_of(path):
        return await build_index(path.as_uri(), upstreams, check_url=upstreams.check, validators=True)

    return index_of


@pytest.fixture
def opened(upstreams, index_of, tmp_path):
    bridges = []

    async def opened(path, group=""):
        bridges.append(LoopThread())
        write_index(await index_of(path), tmp_path / "tiff.index")
        index = open_index(tmp_path / "tiff.index")
        store = EncodedStore(
            index.hierarchy, index, SingleFlight(Coalesced(upstreams)), version=index.version
        )
        return await open_dataset(store, bridges[-1], group=group)

    yield opened
    for bridge in bridges:
        bridge.close()


@pytest.fixture
def write(tmp_path):
    """Write a GeoTIFF of random pixels by rasterio; returns its path."""

    def write(name="made.tif", *, dtype="int16", bands=1, height=HEIGHT, width=WIDTH, pixels=None, **options):
        path = tmp_path / name
        random = np.random.default_rng(len(name))
        if pixels is None:
            pixels = random.integers(0, 200, (bands, height, width)).astype(dtype)
        options = {"crs": "EPSG:32611", "transform": GRID, **options}
        with rasterio.open(
            path, "w", driver="GTiff", dtype=dtype, count=bands, height=height, width=width, **options
        ) as file:
            file.write(pixels)
        return path

    return write


def read(path, **options):
    with rasterio.open(path, **options) as file:
        return file.read(), file.profile, file.transform


async def require_equal(opened, path, compared, group="", **options):
    """Compare values before the CF decoding, coordinates and CRS with those that rasterio reads."""
    expected, profile, transform = read(path, **options)
    dataset = await opened(path, group)
    array = dataset.band_data
    names = [name for name in ("band", "y", "x") if name in array.dims]
    found = array.transpose(*names).values.reshape(expected.shape)
    nodata = profile["nodata"]
    missing = np.isnan(expected) if nodata is None or np.isnan(nodata) else expected == nodata
    assert np.array_equal(np.isnan(found), missing)
    assert np.array_equal(found[~missing], expected[~missing])
    compared(expected)
    columns, rows = np.arange(profile["width"]) + 0.5, np.arange(profile["height"]) + 0.5
    assert np.allclose(dataset.x, transform.c + transform.a * columns, rtol=1e-13, atol=0)
    assert np.allclose(dataset.y, transform.f + transform.e * rows, rtol=1e-13, atol=0)
    if profile["crs"]:
        assert CRS.from_wkt(dataset.spatial_ref.attrs["crs_wkt"]) == profile["crs"]
        assert array.encoding.get("grid_mapping", array.attrs.get("grid_mapping")) == "spatial_ref"
    return dataset


TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


LAYOUTS = {
    (1, "pixel"): (16, 32), (1, "band"): (16, 32), (3, "pixel"): (16, 32, 3), (3, "band"): (1, 16, 32)
}  # fmt: skip


@pytest.mark.parametrize("compress", [None, "deflate", "zstd"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
async def test_tiles_of_every_kind(write, opened, index_of, compared, compress, layout, order):  # noqa: PLR0917
    bands, interleave = layout
    path = write(bands=bands, compress=compress, interleave=interleave, ENDIANNESS=order, **TILED)
    assert (await index_of(path)).hierarchy.arrays["band_data"].chunk_shape == LAYOUTS[layout]
    await require_equal(opened, path, compared)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64",
              "complex64", "complex128"]
)  # fmt: skip
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
async def test_every_type(write, opened, compared, dtype, order):
    path = write(dtype=dtype, compress="deflate", ENDIANNESS=order, **TILED)
    await require_equal(opened, path, compared)


async def test_floats_of_16_bits(write, opened, compared):
    pixels = np.random.default_rng(1).normal(size=(1, HEIGHT, WIDTH)).astype("f2").astype("f4")
    path = write(dtype="float32", pixels=pixels, NBITS=16, nodata=np.nan, compress="deflate", **TILED)
    dataset = await require_equal(opened, path, compared)
    assert dataset.band_data.encoding["dtype"] == np.float16


HORIZONTAL = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
PREDICTED = [(2, dtype) for dtype in HORIZONTAL] + [(3, "float32"), (3, "float64"), (1, "int16")]


@pytest.mark.parametrize(("order", "compress"), [("LITTLE", "lzw"), ("BIG", "deflate"), ("LITTLE", "zstd")])
@pytest.mark.parametrize("predictor", PREDICTED)
@pytest.mark.parametrize("layout", [(1, "band"), (3, "pixel")])
async def test_lzw_and_predictors(write, opened, compared, compress, predictor, layout, order):  # noqa: PLR0917
    (number, dtype), (bands, interleave) = predictor, layout
    random = np.random.default_rng(number)
    pixels = (
        random.normal(0, 50, (bands, HEIGHT, WIDTH)).astype(dtype if dtype[0] == "f" else "i1").astype(dtype)
    )
    path = write(
        dtype=dtype, bands=bands, pixels=pixels, interleave=interleave, compress=compress, predictor=number,
        ENDIANNESS=order, **TILED,
    )  # fmt: skip
    await require_equal(opened, path, compared)


async def test_a_predictor_of_bands_apart(write, opened, compared):
    path = write(bands=3, interleave="band", compress="lzw", predictor=2, ENDIANNESS="BIG", **TILED)
    await require_equal(opened, path, compared)


@pytest.mark.parametrize("predictor", [2, 3])
async def test_floats_of_16_bits_with_predictors(write, opened, compared, predictor):
    pixels = np.random.default_rng(1).normal(size=(1, HEIGHT, WIDTH)).astype("f2").astype("f4")
    path = write(dtype="float32", pixels=pixels, NBITS=16, compress="lzw", predictor=predictor, **TILED)
    await require_equal(opened, path, compared)


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
async def test_classic_and_big_tiff(write, opened, compared, bigtiff, order):
    path = write(BIGTIFF=bigtiff, ENDIANNESS=order, compress="deflate", **TILED)
    assert (path.read_bytes()[2:4].strip(b"\0") == b"+") == (bigtiff == "YES")
    await require_equal(opened, path, compared)


@pytest.mark.parametrize("rows", [1, 7, 10, 14, 33, 70, 100])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
async def test_uncompressed_strips_of_any_height(write, opened, compared, rows, interleave):
    path = write(bands=2, blockysize=rows, interleave=interleave)
    await require_equal(opened, path, compared)


async def test_uncompressed_strips_that_lie_together_are_joined(write, index_of):
    index = await index_of(write(height=1024, width=1000, blockysize=1))
    assert index.hierarchy.arrays["band_data"].chunk_shape == (512, 1000)


@pytest.mark.parametrize("rows", [1, 7, 14, 70])
async def test_compressed_strips_that_divide_the_height(write, opened, compared, rows):
    await require_equal(opened, write(blockysize=rows, compress="deflate"), compared)


async def test_a_short_compressed_strip_is_refused(write, index_of):
    with pytest.raises(InvalidReference, match="its last strip has 6 rows where the others have 16"):
        await index_of(write(blockysize=16, compress="deflate"))


@pytest.mark.parametrize("nodata", [None, -32767, 0])
@pytest.mark.parametrize("layout", [TILED, {"blockysize": 7}, {"blockysize": 16}])
async def test_what_was_never_written_is_nodata(tmp_path, index_of, opened, compared, nodata, layout):  # noqa: PLR0917
    path = tmp_path / "sparse.tif"
    options = {"driver": "GTiff", "dtype": "int16", "count": 1, "height": HEIGHT, "width": WIDTH, **layout}
    with rasterio.open(
        path, "w", crs="EPSG:32611", transform=GRID, nodata=nodata, SPARSE_OK=True, **options
    ) as file:
        file.write(np.full((1, 20, 40), 5, "i2"), window=Window(0, 32, 40, 20))
    counts = (await index_of(path)).counts("band_data")
    assert counts.unallocated
    assert counts.stored
    await require_equal(opened, path, compared)


@pytest.mark.parametrize(
    ("dtype", "nodata", "declared"),
    [
        ("uint8", 0, 0), ("int16", -32767, -32767), ("float32", np.nan, np.nan), ("float64", -9999, -9999),
        ("float32", -3.4028234663852886e38, np.float32(-3.4028234663852886e38)), ("float32", 0.1, np.float32(0.1)),
        ("float32", np.inf, np.inf), ("float64", 1e300, 1e300), ("int64", -(2**62), -(2**62)),
        ("uint8", None, None),
    ],
)  # fmt: skip
async def test_nodata_is_declared_in_the_type_of_the_pixels(write, index_of, dtype, nodata, declared):
    array = (await index_of(write(dtype=dtype, nodata=nodata, **TILED))).hierarchy.arrays["band_data"]
    if declared is None:
        assert array.declared_fill is None
    else:
        assert array.declared_fill.dtype == array.dtype
        assert np.array_equal(array.declared_fill, declared, equal_nan=True)


async def test_nodata_that_no_pixel_can_be_is_none(write, index_of, opened, compared):
    path = write(dtype="uint8", **TILED)
    path.write_bytes(add_text_tag(path.read_bytes(), 42113, "-9999"))
    assert read(path)[1]["nodata"] is None
    assert (await index_of(path)).hierarchy.arrays["band_data"].declared_fill is None
    dataset = await opened(path)
    assert np.array_equal(dataset.band_data.values, read(path)[0][0])
    compared(dataset.band_data)


def add_text_tag(data, tag, text):
    """Return a classic little-endian TIFF with one more text tag, its directory moved to the end."""
    data = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [bytes(data[at + 2 + 12 * n : at + 14 + 12 * n]) for n in range(count)]
    value = text.encode() + b"\0"
    where = len(data)
    entries.append(struct.pack("<HHII", tag, 2, len(value), where))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    data += value + b"\0" * (len(value) % 2)
    struct.pack_into("<I", data, 4, len(data))
    return data + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


async def test_scale_offset_names_and_units_are_told(write, opened, index_of, compared):
    path = write(nodata=-1, **TILED)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = (0.5,), (10.0,), ("m/year",)
        file.set_band_description(1, "speed of ice")
    dataset = await opened(path)
    assert np.array_equal(dataset.band_data.values, read(path)[0][0] * 0.5 + 10.0)
    compared(dataset.band_data)
    assert dataset.band_data.attrs["units"] == "m/year"
    assert dataset.band_data.attrs["long_name"] == "speed of ice"


async def test_bands_are_named_by_their_descriptions_or_colours(write, opened):
    path = write(dtype="uint8", bands=3, photometric="RGB", **TILED)
    with rasterio.open(path, "r+") as file:
        file.set_band_description(2, "near infrared")
    dataset = await opened(path)
    assert dataset.band_data.attrs["long_name"] == ["red", "near infrared", "blue"]
    assert list(dataset.band.values) == [1, 2, 3]


async def test_bands_of_different_scales_are_refused(write, index_of):
    path = write(bands=2, **TILED)
    with rasterio.open(path, "r+") as file:
        file.scales = (1.0, 0.5)
    with pytest.raises(InvalidReference, match="its bands have different scales"):
        await index_of(path)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", from_origin(-180, 90, 0.25, 0.25)),
        ("EPSG:3413", from_origin(-3_000_000, 1_000_000, 120, 120)),
        ("EPSG:32611", Affine(30, 0, 500_000, 0, 30, 3_000_000)),
        ("ESRI:102039", GRID),
        ("+proj=laea +lat_0=45 +lon_0=-100 +x_0=10 +y_0=20 +R=6370997 +units=m", GRID),
        (None, GRID),
    ],
)
async def test_the_grid_is_that_of_gdal(write, opened, compared, crs, transform):
    dataset = await require_equal(opened, write(crs=crs, transform=transform, **TILED), compared)
    assert ("spatial_ref" in dataset) == (crs is not None)
    if crs is not None:
        kind = ("longitude", "latitude") if crs == "EPSG:4326" else ("projection_x_coordinate",) * 2
        assert dataset.x.attrs["standard_name"] == kind[0]
        assert dataset.attrs == {}
        # CF has no name for the projection of a sphere
        assert ("grid_mapping_name" in dataset.spatial_ref.attrs) == ("+R" not in crs)


async def test_pixels_that_are_points(write, opened, compared):
    path = write(**TILED)
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    assert read(path)[2] == GRID
    await require_equal(opened, path, compared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": GRID * Affine.rotation(10)}, "rotated or sheared"),
        ({"transform": Affine(0, 30, 500_000, 30, 0, 4_000_000)}, "rotated or sheared"),
        ({"transform": None, "crs": None}, "has no grid"),
        ({"gcps": [rasterio.control.GroundControlPoint(r, c, c, r) for r, c in ((0, 0), (0, 50), (50, 0))],
          "transform": None, "crs": "EPSG:4326"}, "ground control points"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
async def test_a_grid_without_x_and_y_is_refused(write, index_of, options, message):
    with pytest.raises(InvalidReference, match=message):
        await index_of(write(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress": "packbits"}, "compressed with PackBits"),
        ({"compress": "lzma"}, "compressed with LZMA"),
        ({"compress": "lerc"}, "compressed with LERC"),
        ({"compress": "jpeg", "dtype": "uint8"}, "compressed with JPEG"),
        ({"compress": "webp", "dtype": "uint8", "bands": 3}, "compressed with WebP"),
        ({"compress": "lzw", "blockysize": 16, "tiled": False}, "its last strip has 6 rows"),
    ],
)
async def test_codecs_that_zarr_lacks_are_refused_by_name(write, index_of, options, message):
    with pytest.raises(UnsupportedCodec, match=rf"made\.tif cannot be a cube: .*{message}"):
        await index_of(write(**{**TILED, **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "uint8", "NBITS": 1}, "integers of 1 bits"),
        ({"dtype": "uint16", "NBITS": 12}, "integers of 12 bits"),
        ({"dtype": "complex_int16", "pixels": np.zeros((1, HEIGHT, WIDTH), "c8")}, "complex integers"),
    ],
)
async def test_types_that_zarr_lacks_are_refused_by_name(write, index_of, options, message):
    with pytest.raises(InvalidReference, match=message):
        await index_of(write(**options, **TILED))


async def test_a_transparency_mask_is_refused(write, index_of):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(dtype="uint8", **TILED)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.eye(HEIGHT, WIDTH, dtype=bool))
    with pytest.raises(InvalidReference, match="transparency mask"):
        await index_of(path)


@pytest.mark.parametrize("bands", [1, 2])
async def test_overviews_are_groups(write, opened, compared, bands):
    path = write(height=203, width=307, bands=bands, nodata=7, compress="deflate", **TILED)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    dataset = await require_equal(opened, path, compared)
    assert [level["asset"] for level in dataset.attrs["multiscales"]["layout"]] == [
        ".", "overview_2", "overview_4",
    ]  # fmt: skip
    for number, level in enumerate(dataset.attrs["multiscales"]["layout"][1:]):
        part = await require_equal(opened, path, compared, level["asset"], overview_level=number)
        scale = [dataset.sizes["y"] / part.sizes["y"], dataset.sizes["x"] / part.sizes["x"]]
        assert level["transform"]["scale"] == scale
        corners = [float(each) for each in part.spatial_ref.attrs["GeoTransform"].split()]
        assert np.allclose(corners, read(path, overview_level=number)[2].to_gdal())


@pytest.mark.parametrize("options", [{"BIGTIFF": "YES"}, {"COMPRESS": "DEFLATE", "PREDICTOR": "YES"}])
async def test_what_gdal_makes_of_itself(write, opened, compared, tmp_path, options):
    made = tmp_path / "cog.tif"
    rasterio.shutil.copy(write(height=1100, width=1300, nodata=7), made, driver="COG", **options)
    dataset = await require_equal(opened, made, compared)
    levels = [level["asset"] for level in dataset.attrs["multiscales"]["layout"][1:]]
    assert levels == ["overview_2", "overview_4"][: len(read_overviews(made))]
    for number, level in enumerate(levels):
        await require_equal(opened, made, compared, level, overview_level=number)


def read_overviews(path):
    with rasterio.open(path) as file:
        return file.overviews(1)


async def test_an_overview_that_cannot_be_served_is_left_out_with_the_reason(write, index_of):
    path = write(height=203, width=307, dtype="uint8", compress="deflate", **TILED)
    with (
        rasterio.Env(COMPRESS_OVERVIEW="PACKBITS", TIFF_USE_OVR=False),
        rasterio.open(path, "r+") as file,
    ):
        file.build_overviews([2], Resampling.nearest)
    index = await index_of(path)
    assert sorted(index.hierarchy.arrays) == ["band_data", "spatial_ref", "x", "y"]
    assert "compressed with PackBits" in index.hierarchy.skipped["overview_2/band_data"]
    assert index.hierarchy.groups[""].attributes == {}


async def test_a_further_page_is_named(index_of, tmp_path):
    other = tmp_path / "pages.tif"
    for number in range(2):
        with rasterio.open(
            other, "w", driver="GTiff", dtype="uint8", count=1, height=16, width=16, crs="EPSG:32611",
            transform=GRID, APPEND_SUBDATASET=bool(number),
        ) as file:  # fmt: skip
            file.write(np.full((1, 16, 16), number, "u1"))
    assert (await index_of(other)).hierarchy.skipped == {
        "page_2": "it is a further page of the file, of which the first is read"
    }


class Counted:
    """A source that counts what is read through it."""

    def __init__(self, source):
        self._source, self.read = source, []

    async def stat(self, url):
        return await self._source.stat(url)

    async def get(self, reference):
        self.read.append(reference)
        return await self._source.get(reference)


async def test_only_the_directories_are_read(write, upstreams, allow_all):
    path = write(height=2048, width=2048, dtype="float64", **TILED)
    counted = Counted(upstreams)
    index = await build_index(path.as_uri(), counted, check_url=allow_all)
    # the directory of a file that is written in one go is at its front, its tables behind its tiles
    assert len(counted.read) <= 4
    assert sum(reference.length for reference in counted.read) < 2**18
    assert path.stat().st_size > 2**25
    assert list(index.content.validators) == [(await upstreams.stat(path.as_uri())).validator]
    assert {reference.validator for reference in counted.read} == set(index.content.validators)


class Replaced(Counted):
    """A source whose file is replaced as it is first read."""

    def __init__(self, source, path):
        super().__init__(source)
        self._path = path

    async def get(self, reference):
        data = await super().get(reference)
        self._path.write_bytes(self._path.read_bytes() + b"more")
        return data


async def test_a_file_that_is_replaced_meanwhile_is_an_error(write, upstreams, allow_all):
    path = write(height=2048, width=2048, tiled=True, blockxsize=16, blockysize=16)
    with pytest.raises(UpstreamChanged):
        await build_index(path.as_uri(), Replaced(upstreams, path), check_url=allow_all)
