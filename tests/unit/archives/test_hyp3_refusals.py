"""What cannot be a cube of HyP3 products is refused by name, and nothing is mounted of it."""

import stat
import struct
import zipfile

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.enums import Resampling
from tests.unit.archives.hyp3_products import (
    HEIGHT,
    NORTH,
    WIDTH,
    gamma_name,
    layer_values,
    shifted,
    write_product,
    write_tiff,
    zipped,
)

from cubegate.app import create_app
from cubegate.archives import hyp3_copies, hyp3_zips
from cubegate.archives.hyp3_grids import Grid, common_grid, usual_grid
from cubegate.archives.hyp3_names import (
    direction_of_granule,
    path_of_granule,
    split_file_name,
    time_of_granule,
)
from cubegate.archives.hyp3_parameters import read_card4l, read_parameters
from cubegate.archives.hyp3_products import Product, group_files
from cubegate.archives.hyp3_zips import unpack, unpacked
from cubegate.cli import main
from cubegate.errors import InvalidReference
from cubegate.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")

FIRST, SECOND = gamma_name("20200101", "20200113"), gamma_name("20200101", "20200125", "AAAA")


@pytest.fixture
def configuration(tmp_path):
    file = tmp_path / "cubegate.yaml"
    file.write_text(f'upstreams: {{"{tmp_path.as_uri()}/": {{}}}}\ncollections: [cubes/*.yaml]\n')
    return file


@pytest.fixture
def build(configuration, tmp_path, capsys):
    def build(*options):
        place = ["-o", str(tmp_path / "cubes"), "--config", str(configuration), "--id", "stack"]
        code = main(["build", "hyp3", *map(str, options), *place])
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return build


@pytest.fixture
def refused(build, tmp_path):
    """Run a build that must fail, and leave nothing that is mounted; returns what it said."""

    def refused(*options):
        code, _, errors = build(*options)
        assert code == 1
        assert "Traceback" not in errors
        assert not list((tmp_path / "cubes").glob("stack.*[!s]"))
        return errors

    return refused


@pytest.fixture
def products(tmp_path):
    """Write two products of two layers; returns their folder."""
    for n, name in enumerate([FIRST, SECOND]):
        write_product(tmp_path / "p", name, n, layers=("corr", "unw_phase"))
    return tmp_path / "p"


def test_a_missing_layer_is_told_with_its_product(products, build, refused):
    (products / SECOND / f"{SECOND}_corr.tif").unlink()
    errors = refused(products)
    assert f"'corr' is not in {SECOND} (of 2 products)" in errors
    assert "--allow-gaps" in errors
    assert build(products, "--variables", "unw_phase")[0] == 0


def test_gaps_that_are_allowed_are_nodata(products, build, configuration, serving):
    (products / SECOND / f"{SECOND}_corr.tif").unlink()
    assert build(products, "--allow-gaps", "corr")[0] == 0
    app = create_app(load_settings(configuration, {}), {})
    with (
        serving(app) as url,
        xr.open_zarr(f"{url}/datasets/stack/zarr", chunks=None, zarr_format=2) as cube,
    ):
        assert np.isnan(cube["corr"].values[1]).all()
        values = layer_values("corr", 0)
        np.testing.assert_array_equal(cube["corr"].values[0], np.where(values == 0, np.nan, values))


def test_a_product_without_its_parameter_file_is_named(products, refused):
    (products / SECOND / f"{SECOND}.txt").unlink()
    assert f"{SECOND}: its parameter file {SECOND}.txt is not beside its GeoTIFFs" in refused(products)


def test_the_parameter_file_of_another_product_is_noticed(tmp_path, refused):
    granules = [f"S1_136231_IW2_{date}T022312_VV_7C85-BURST" for date in ("20200604", "20200628")]
    name = "S1_136231_IW2_20200604_20200616_VV_INT80_12E3"
    write_product(tmp_path / "p", name, 1, layers=("corr",), granules=granules)
    errors = refused(tmp_path / "p")
    assert f"The parameter file of {name} is that of another product: it says 2020-06-28" in errors


def test_kinds_are_not_mixed(products, tmp_path, refused):
    rtc = "S1A_IW_20150621T120220_DVP_RTC10_G_gpuned_F8E2"
    write_product(products, rtc, 3, layers=("VV",), parameters=False)
    errors = refused(products)
    assert "2 of INSAR_GAMMA, 80 m, VV" in errors
    assert f"1 of RTC_GAMMA, 10 m, gamma0 as linear power: {rtc}" in errors


@pytest.mark.parametrize(
    "other",
    [
        gamma_name("20200101", "20200125", "AAAA", spacing=40),
        gamma_name("20200101", "20200125", "AAAA", polarization="HH"),
    ],
)
def test_spacings_and_polarizations_are_not_mixed(tmp_path, refused, other):
    write_product(tmp_path / "p", FIRST, 1, layers=("corr",))
    write_product(tmp_path / "p", other, 2, layers=("corr",))
    assert f"The products are not of one kind. 1 of INSAR_GAMMA, 80 m, VV: {FIRST}" in refused(tmp_path / "p")


def test_amplitude_is_not_mixed_with_power(tmp_path, refused):
    for letter, date in (("a", "20150621"), ("p", "20150703")):
        name = f"S1A_IW_{date}T120220_DVP_RTC10_G_g{letter}uned_F8E2"
        write_product(tmp_path / "p", name, 1, layers=("VV",), parameters=False)
    errors = refused(tmp_path / "p")
    assert "gamma0 as linear amplitude" in errors
    assert "gamma0 as linear power" in errors


def test_a_pair_that_was_processed_twice_is_told(products, refused):
    again = gamma_name("20200101", "20200113", "FFFF")
    write_product(products, again, 3, layers=("corr", "unw_phase"))
    errors = refused(products)
    assert FIRST in errors
    assert again in errors
    assert "are both of 2020-01-01T01:23:45 and 2020-01-13T01:23:46" in errors


def test_a_product_that_is_there_twice_is_taken_once(products, tmp_path, build):
    (tmp_path / "zips").mkdir()
    zipped(products / FIRST, tmp_path / "zips" / "again.zip")
    code, said, _ = build(products, tmp_path / "zips")
    assert code == 0
    assert "2 pairs" in said
    assert f"{FIRST} is in" in said


def test_geotiffs_of_no_product_are_told(products, refused):
    folder = products / "mine"
    folder.mkdir()
    write_tiff(folder / "velocity.tif", np.ones((5, 5), "f4"))
    errors = refused(products)
    assert f"{folder}: has velocity.tif, which is of no HyP3 product" in errors


def test_a_place_without_products_is_told(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("nothing")
    errors = refused(tmp_path / "empty", tmp_path / "absent")
    assert "empty: has no files, or is not there" in errors
    assert "absent: has no files, or is not there" in errors
    assert "notes: has no GeoTIFF of a HyP3 product" in refused(tmp_path / "notes")
    assert "Nothing is given to build of" in refused()


def test_a_layer_of_two_types_is_told(tmp_path, refused):
    write_product(tmp_path / "p", FIRST, 1, layers=("corr",))
    product, _ = write_product(tmp_path / "p", SECOND, 2, layers=())
    write_tiff(product / f"{SECOND}_corr.tif", np.ones((HEIGHT, WIDTH), "f8"))
    errors = refused(tmp_path / "p")
    assert f"'corr' is not of one type: f4, nodata 0.0 in {FIRST}; f8, nodata 0.0 in {SECOND}" in errors


def test_a_cut_geotiff_is_told(products, refused):
    file = products / SECOND / f"{SECOND}_corr.tif"
    file.write_bytes(file.read_bytes()[:300])
    errors = refused(products)
    assert f"{SECOND}_corr:" in errors
    assert FIRST not in errors


def test_a_file_that_is_cut_and_cannot_be_read_in_place_is_not_copied(products, refused):
    file = products / SECOND / f"{SECOND}_corr.tif"
    with rasterio.open(file) as dataset:
        values = dataset.read(1)
    odd = {"tiled": False, "blockxsize": WIDTH, "blockysize": 16, "compress": "packbits"}
    write_tiff(file, values, **odd)
    file.write_bytes(file.read_bytes()[:-9_000])
    errors = refused(products)
    assert f"{SECOND}_corr: GDAL cannot read it: it is cut, or damaged" in errors


def test_what_no_product_covers_needs_a_nodata_value(tmp_path, build, refused):
    for n, name in enumerate([FIRST, SECOND]):
        product, _ = write_product(tmp_path / "p", name, n, layers=(), shift=(n, 0))
        place = product / f"{name}_water_mask.tif"
        write_tiff(place, np.ones((HEIGHT, WIDTH), "u1"), north=NORTH - 80 * n, nodata=None)
    errors = refused(tmp_path / "p", "--extent", "union")
    assert f"{FIRST}_water_mask: it does not cover the grid of the cube, and has no nodata value" in errors
    assert build(tmp_path / "p")[0] == 0


def test_products_without_a_common_area_are_told(tmp_path, refused):
    write_product(tmp_path / "p", FIRST, 1, layers=("corr",))
    write_product(tmp_path / "p", SECOND, 2, layers=("corr",), shift=(HEIGHT, 0))
    assert "cover no area in common" in refused(tmp_path / "p")


def test_a_product_of_another_zone_that_lies_elsewhere_is_told(products, refused):
    other = gamma_name("20200113", "20200125", "BBBB")
    write_product(products, other, 3, layers=("corr", "unw_phase"), crs="EPSG:32633")
    errors = refused(products, "--other-zones", "warp")
    assert f"{other}_corr: it lies outside the grid of the cube" in errors


def test_a_zone_that_no_product_is_in_is_told(products, refused):
    errors = refused(products, "--zone", "32633")
    assert "No product is in EPSG:32633. Accepted: predominant, EPSG:32611" in errors


def test_copies_go_where_a_server_can_read_them(tmp_path, configuration, refused):
    for n, name in enumerate([FIRST, SECOND]):
        write_product(tmp_path / "p", name, n, layers=("corr",), shift=(n, 0))
    configuration.write_text(f'upstreams: {{"{(tmp_path / "p").as_uri()}/": {{}}}}\n')
    errors = refused(tmp_path / "p")
    assert "no upstream covers it" in errors
    assert f'add "{(tmp_path / "cubes").as_uri()}/": {{}} to upstreams' in errors


def test_a_folder_that_no_upstream_covers_is_not_read(products, configuration, refused):
    configuration.write_text("upstreams: {}\n")
    assert "is outside the configured upstreams" in refused(products)


def test_a_copy_never_hides_what_a_mask_hid(products, refused):
    file = products / SECOND / f"{SECOND}_corr.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as dataset:
        dataset.nodata = None
        dataset.write_mask(np.zeros((HEIGHT, WIDTH), bool))
    assert "it has a transparency mask" in refused(products)


def test_a_copy_that_cannot_be_written_is_told(tmp_path, refused, monkeypatch):
    for n, name in enumerate([FIRST, SECOND]):
        write_product(tmp_path / "p", name, n, layers=("corr",), shift=(n, 0))
    profile = hyp3_copies._profile
    # tiles that no TIFF can have
    monkeypatch.setattr(hyp3_copies, "_profile", lambda *args: {**profile(*args), "blockxsize": 17})
    errors = refused(tmp_path / "p")
    assert f"{FIRST}_corr: GDAL cannot write the copy: there may be no room for it" in errors
    assert not list((tmp_path / "cubes" / "stack.copies").iterdir())


def test_bands_are_kept(tmp_path, build, configuration, serving):
    names = [f"S1A_IW_{date}T120220_DVP_RTC10_G_gpuned_F8E2" for date in ("20150621", "20150703")]
    pixels = []
    for n, name in enumerate(names):
        product, each = write_product(tmp_path / "p", name, n, layers=("VV",), parameters=False)
        colours = np.random.default_rng(n).integers(1, 255, (3, HEIGHT, WIDTH)).astype("u1")
        write_tiff(product / f"{name}_rgb.tif", colours, north=NORTH - 80 * n)
        pixels.append((each["VV"], colours))
    assert build(tmp_path / "p", "--variables", "VV,rgb", "--extent", "usual")[0] == 0
    app = create_app(load_settings(configuration, {}), {})
    with serving(app) as served:
        url = f"{served}/datasets/stack/zarr"
        with xr.open_zarr(url, chunks=None, zarr_format=2) as cube:
            rgb = cube["rgb"].transpose("time", "band", "y", "x").values
            np.testing.assert_array_equal(rgb[0], pixels[0][1])
            moved = np.stack(
                [shifted(band.astype("f4"), 1, 0, (HEIGHT, WIDTH), np.nan) for band in pixels[1][1]]
            )
            np.testing.assert_array_equal(rgb[1], moved)
            expected = np.stack([np.where(each[0] == 0, np.nan, each[0]) for each in pixels])
            np.testing.assert_array_equal(cube["VV"].values, expected)


def test_overviews_of_pairs_have_their_dates(tmp_path, build, configuration, serving):
    pixels = []
    for n, name in enumerate([FIRST, SECOND]):
        product, _ = write_product(tmp_path / "p", name, n, layers=("corr",))
        with rasterio.open(product / f"{name}_corr.tif", "r+") as file:
            file.build_overviews([2], Resampling.average)
        with rasterio.open(product / f"{name}_corr.tif", overview_level=0) as file:
            pixels.append(file.read(1, masked=True).filled(np.nan))
    assert build(tmp_path / "p")[0] == 0
    app = create_app(load_settings(configuration, {}), {})
    with serving(app) as served:
        url = f"{served}/datasets/stack/zarr"
        with xr.open_zarr(url, group="overview_2", chunks=None, zarr_format=2) as half:
            assert half["corr"].dims == ("pair", "y", "x")
            times = np.array(["2020-01-13T01:23:46", "2020-01-25T01:23:46"], "M8[ns]")
            np.testing.assert_array_equal(half["time"], times)
            np.testing.assert_array_equal(half["corr"].values, np.stack(pixels))


# ZIP files


def test_a_damaged_zip_file_is_named_beside_those_that_are_not(products, tmp_path, refused):
    (tmp_path / "zips").mkdir()
    zipped(products / FIRST, tmp_path / "zips" / "whole.zip")
    data = bytearray(
        zipped(products / SECOND, tmp_path / "zips" / "bad.zip", zipfile.ZIP_STORED).read_bytes()
    )
    data[len(data) // 2] ^= 255
    (tmp_path / "zips" / "bad.zip").write_bytes(data)
    (tmp_path / "zips" / "cut.zip").write_bytes(data[:1000])
    (tmp_path / "zips" / "page.zip").write_bytes(b"<html>")
    errors = refused(tmp_path / "zips")
    for name in ("bad", "cut", "page"):
        assert f"{name}.zip is no ZIP file, or is damaged or encrypted. Get it again" in errors
    assert "whole.zip" not in errors


@pytest.mark.parametrize(
    "name",
    [
        "../{}_corr.tif",
        "/etc/{}_corr.tif",
        "a/../../{}_corr.tif",
        "C:/{}_corr.tif",
        "..\\{}_corr.tif",
        "../x",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(f"{FIRST}/{FIRST}.txt", "Baseline: 5")
        archive.writestr(zipfile.ZipInfo(name.format(FIRST)), b"x")
    with pytest.raises(InvalidReference, match="leads elsewhere"):
        unpack(source, tmp_path / "out" / "zip", "in.zip")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["in.zip"]


def test_a_symbolic_link_in_a_zip_file_is_refused(tmp_path):
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w") as archive:
        link = zipfile.ZipInfo(f"{FIRST}/{FIRST}_corr.tif")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidReference, match="symbolic link"):
        unpack(source, tmp_path / "out", "in.zip")


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(hyp3_zips, "_SMALL_NBYTES", 2**20)
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{FIRST}/{FIRST}_corr.tif", bytes(2**24))
    with pytest.raises(InvalidReference, match="would unpack to 16,777,216 bytes, over 200 times its size"):
        unpack(source, tmp_path / "out", "in.zip")
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_a_zip_file_that_lies_about_its_sizes_gives_no_more_than_it_says(tmp_path):
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{FIRST}/{FIRST}_corr.tif", bytes(10_000))
    # the size in the central directory
    data = source.read_bytes().replace(struct.pack("<I", 10_000), struct.pack("<I", 100))
    source.write_bytes(data)
    with pytest.raises(InvalidReference, match="is damaged"):
        unpack(source, tmp_path / "out", "in.zip")
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_a_zip_file_without_room_for_it_is_told(tmp_path, monkeypatch, products):
    source = zipped(products / FIRST, tmp_path / "in.zip")
    usage = hyp3_zips.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(hyp3_zips.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(InvalidReference, match="10 are free at the output"):
        unpack(source, tmp_path / "out", "in.zip")


def test_what_was_unpacked_is_checked(tmp_path, products):
    files = unpack(zipped(products / FIRST, tmp_path / "in.zip"), tmp_path / "out", "in.zip")
    assert unpacked(tmp_path / "out") == files
    assert [file.read_bytes() for file in files] == [
        (products / FIRST / file.name).read_bytes() for file in files
    ]
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    assert unpacked(tmp_path / "out") is None
    files[0].unlink()
    assert unpacked(tmp_path / "out") is None
    assert unpacked(tmp_path / "absent") is None


# Names, parameters and grids


@pytest.mark.parametrize(
    ("file", "kind", "rest"),
    [
        ("S1AA_20190610T135156_20190622T135157_VVP012_INT80_G_ueF_F8BF_unw_phase.tif", "INSAR_GAMMA", "_unw_phase.tif"),
        ("S1AB_20200101T120000_20200113T120000_VVR012_INT40_G_weF_1A2B.txt", "INSAR_GAMMA", ".txt"),
        ("S1_213524_IW1_20170411_20170517_VV_INT80_8E81_corr.tif", "INSAR_ISCE_BURST", "_corr.tif"),
        ("S1_064_000000s1n00-136231s2n02-000000s3n00_IW_20200604_20200616_VV_INT80_0F3D_dem.tif",
         "INSAR_ISCE_MULTI_BURST", "_dem.tif"),
        ("S1A_064_E053_1_N27_3_E054_1_N27_8_20200604_20200616_VV_INT80_7EB5.txt", "INSAR_ISCE_MULTI_BURST", ".txt"),
        ("S1A_IW_20150621T120220_DVP_RTC10_G_sauned_F8E2_VV.tif", "RTC_GAMMA", "_VV.tif"),
        ("S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_ls_map.tif", "RTC_GAMMA", "_ls_map.tif"),
    ],
)  # fmt: skip
def test_names_are_taken_apart(file, kind, rest):
    name, found = split_file_name(file)
    assert (name.kind, found, name.name + found) == (kind, rest, file)


@pytest.mark.parametrize(
    "file",
    ["insar_corr.tif", "S1AA_20191310T135156_20190622T135157_VVP012_INT80_G_ueF_F8BF_corr.tif",
     "S1_213524_IW1_20170411_20170517_VV_INT80_8E81x.tif", "", "S1A_IW_20150621T120220_DVP_RTC10_G_sauned"],
)  # fmt: skip
def test_other_names_are_of_no_product(file):
    assert split_file_name(file) is None


@pytest.mark.parametrize(
    ("granule", "path", "direction", "time"),
    [
        # as ASF lists them
        (
            "S1A_IW_SLC__1SDV_20190704T135158_20190704T135225_027968_032877_1C4D",
            71,
            None,
            "2019-07-04T13:51:58",
        ),
        (
            "S1B_IW_SLC__1SDV_20200601T135102_20200601T135129_021839_029735_2A4C",
            113,
            None,
            "2020-06-01T13:51:02",
        ),
        ("S1_136231_IW2_20200604T022312_VV_7C85-BURST", 64, "DESCENDING", "2020-06-04T02:23:12"),
        ("S1_290875_IW1_20200604T005147_VV_XXXX-BURST", None, None, "2020-06-04T00:51:47"),
        ("S2A_MSIL1C_20200627T150921_N0209_R025_T22WEB", None, None, None),
    ],
)
def test_granules_tell_paths_directions_and_times(granule, path, direction, time):
    if path is not None:
        assert path_of_granule(granule) == path
    if direction is not None:
        assert direction_of_granule(granule) == direction
    assert time_of_granule(granule) == (None if time is None else np.datetime64(time))


def test_parameters_are_read_as_numbers_and_texts():
    said = read_parameters(
        b"Baseline: -23.4\nUTCtime: 5025.3\nMaster Granule: S1A: b\nX: nan\n\nnothing\n", "x.txt"
    )
    assert said == {
        "perpendicular_baseline": -23.4,
        "utc_time": 5025.3,
        "reference_granule": "S1A: b",
        "x": "nan",
    }


@pytest.mark.parametrize("data", [b"", b"nothing", b"\xff\xfe: 5", b"a: 1\n" * 10**6])
def test_other_files_are_no_parameter_files(data):
    with pytest.raises(InvalidReference, match=r"x\.txt"):
        read_parameters(data, "x.txt")


@pytest.mark.parametrize(("heading", "direction"), [(-13.2, "ASCENDING"), (-167.9, "DESCENDING"), (346.8, "ASCENDING"),
                                                    (192.1, "DESCENDING")])  # fmt: skip
def test_a_heading_tells_the_direction(heading, direction):
    product = Product(split_file_name(FIRST)[0], {}, said={"heading": heading})
    assert product.direction == direction


def test_documents_of_single_pictures_are_none_of_the_product():
    names = [".xml", ".iso.xml", "_card4l.xml", ".NRB.json", ".tif.xml", "_VV.tif.xml", "_rgb.png.aux.xml",
             "_shape.shp.xml", "_inc_map.tif.xml"]  # fmt: skip
    (product,), _ = group_files([f"s3://a/{FIRST}{rest}" for rest in ("_corr.tif", *names)])
    assert {url.removeprefix(f"s3://a/{FIRST}") for url in product.documents} == set(names[:4])


def test_parameters_are_bounded():
    with pytest.raises(InvalidReference, match="over 500 things"):
        read_parameters("".join(f"key {n}: {n}\n" for n in range(501)).encode(), "x.txt")


def test_card4l_metadata_are_the_leaves_of_xml_and_the_properties_of_json():
    xml = b"<a xmlns='urn:x'><SourceAttributes><Angle u='deg'>30.5</Angle><B/><C>x</C><C>y</C></SourceAttributes></a>"
    prefix = "card4l_source_attributes"
    assert read_card4l(xml, "x.xml") == {f"{prefix}_angle": 30.5, f"{prefix}_c": "x", f"{prefix}_c_2": "y"}
    document = b'{"type": "Feature", "properties": {"card4l:beam_id": "IW", "sar:looks": 3, "links": []}}'
    assert read_card4l(document, "x.json") == {"card4l_beam_id": "IW", "card4l_sar_looks": 3.0}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ("x.xml", b"<a>" * 100 + b"</a>" * 100),
        ("x.xml", b"<a><b>"),
        ("x.xml", b"<a>" + b"".join(b"<b%d>1</b%d>" % (n, n) for n in range(5_001)) + b"</a>"),
        ("x.json", b"[1]"),
        ("x.json", b'{"properties": 5}'),
        ("x.json", b"[" * 10**5),
    ],
)
def test_hostile_card4l_metadata_are_refused(name, data):
    with pytest.raises(InvalidReference, match=name):
        read_card4l(data, name)


def test_grids_coincide_or_not():
    grid = Grid("EPSG:32611", 400_000, 4_000_000, 80, 80, 100, 200)
    moved = Grid("EPSG:32611", 400_160, 4_000_080, 80, 80, 90, 210)
    assert grid.offset(moved) == (-1, 2)
    assert moved.offset(grid) == (1, -2)
    for other in (
        Grid("EPSG:32610", 400_000, 4_000_000, 80, 80, 100, 200),
        Grid("EPSG:32611", 400_040, 4_000_000, 80, 80, 100, 200),
        Grid("EPSG:32611", 400_000, 4_000_001, 80, 80, 100, 200),
        Grid("EPSG:32611", 400_000, 4_000_000, 40, 80, 100, 200),
        Grid("EPSG:32611", 400_000, 4_000_000, 80, 80.01, 100, 200),
    ):
        assert grid.offset(other) is None
    assert common_grid([grid, moved], "overlap") == Grid("EPSG:32611", 400_160, 4_000_000, 80, 80, 89, 198)
    assert common_grid([grid, moved], "union") == Grid("EPSG:32611", 400_000, 4_000_080, 80, 80, 101, 212)
    assert common_grid([moved, grid, grid], "usual") is grid
    half = Grid("EPSG:32611", 400_040, 4_000_000, 80, 80, 100, 200)
    assert usual_grid([half, grid, moved]) is grid
    assert usual_grid([half, grid]) is half


def test_a_copy_of_a_large_file_is_made_in_strips(tmp_path, monkeypatch):
    monkeypatch.setattr(hyp3_copies, "_STRIP_NBYTES", 1)
    values = layer_values("corr", 1, 150, 130)
    write_tiff(tmp_path / "in.tif", values)
    grid = Grid("EPSG:32611", 392_680 + 80 * 5, 3_962_360 + 80 * 40, 80, 80, 170, 140)
    copy = hyp3_copies.Copy(tmp_path / "in.tif", "tag", "corr", grid, hyp3_copies.Layout((32, 48), "ZSTD"))
    made = hyp3_copies.make_copy(copy, tmp_path / "copies")
    with rasterio.open(made) as file:
        assert file.block_shapes == [(32, 48)]
        np.testing.assert_array_equal(file.read(1), shifted(values, 40, -5, (170, 140)))
