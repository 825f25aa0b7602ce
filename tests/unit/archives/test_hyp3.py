"""HyP3 products become a served cube whose values are those that rasterio reads, moved by whole pixels by hand."""

import contextlib
import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from pyproj import CRS, Transformer
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds
from tests.s3_server import checked_access, connect, new_keys, running_s3
from tests.unit.archives.hyp3_products import (
    GAMMA_LAYERS,
    HEIGHT,
    NORTH,
    PIXEL,
    WEST,
    WIDTH,
    gamma_name,
    layer_values,
    shifted,
    write_product,
    write_tiff,
    zipped,
)

from cubegate.app import create_app
from cubegate.archives import hyp3_copies
from cubegate.cli import main
from cubegate.settings import load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification"),
    pytest.mark.filterwarnings("ignore:.*does not have a Zarr format 3 specification"),
]

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "hyp3"
SHAPE = HEIGHT, WIDTH
FIRST, SECOND, THIRD = (
    gamma_name("20200101", "20200113"),
    gamma_name("20200101", "20200125", "AAAA"),
    gamma_name("20200113", "20200125", "BBBB"),
)


@pytest.fixture
def configuration(tmp_path):
    file = tmp_path / "cubegate.yaml"
    file.write_text(f'upstreams: {{"{tmp_path.as_uri()}/": {{}}}}\ncollections: [cubes/*.yaml]\n')
    return file


@pytest.fixture
def build(configuration, tmp_path, capsys):
    """Run the command with `options`; returns its exit code, its report where it has one, and its errors."""

    def build(*options, config=configuration):
        place = ["-o", str(tmp_path / "cubes"), "--config", str(config), "--json"]
        code = main(["build", "hyp3", *map(str, options), "--id", "stack", *place])
        said = capsys.readouterr()
        return code, json.loads(said.out) if code == 0 else None, said.err

    return build


@pytest.fixture
def served(configuration, serving):
    """Serve what has been built while the context lasts; gives its address."""

    @contextlib.contextmanager
    def served(environment=()):
        with serving(create_app(load_settings(configuration, {}), dict(environment))) as url:
            yield f"{url}/datasets/stack"

    return served


@contextlib.contextmanager
def opened(url, **options):
    dataset = xr.open_zarr(url, chunks=None, **{"zarr_format": 2, **options})
    try:
        yield dataset
    finally:
        dataset.close()


def masked(values, nodata=0):
    """Values as CF decoding gives them: NaN where they are nodata."""
    return np.where(values == nodata, np.nan, values.astype("f4"))


def visible(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_pairs_on_one_grid_are_read_in_place(build, served, tmp_path, zarr_format, compared):
    products = tmp_path / "products"
    written = {name: write_product(products, name, n)[1] for n, name in enumerate([THIRD, FIRST, SECOND])}

    code, report, _ = build(products)

    assert code == 0
    assert report["granules"] == [FIRST, SECOND, THIRD]
    assert report["copied"] == report["left_out"] == {}
    assert visible(tmp_path / "cubes") == ["stack.index", "stack.yaml"]
    with served() as url, opened(f"{url}/zarr", zarr_format=zarr_format) as cube:
        assert cube["unw_phase"].dims == ("pair", "y", "x")
        assert cube["unw_phase"].attrs["units"] == "radian"
        assert CRS.from_wkt(cube["spatial_ref"].attrs["crs_wkt"]).to_epsg() == 32611
        for layer in GAMMA_LAYERS:
            expected = np.stack([masked(written[name][layer]) for name in (FIRST, SECOND, THIRD)])
            np.testing.assert_array_equal(cube[layer].values, expected)
            compared(expected)
        np.testing.assert_array_equal(cube["x"], WEST + PIXEL * (np.arange(WIDTH) + 0.5))
        np.testing.assert_array_equal(cube["y"], NORTH - PIXEL * (np.arange(HEIGHT) + 0.5))


def test_pairs_are_sorted_by_their_second_date_and_then_by_their_first(build, served, tmp_path, compared):
    dates = [("20200101", "20200206"), ("20200113", "20200206"), ("20200125", "20200206"),
             ("20200113", "20200125"), ("20191220", "20200113")]  # fmt: skip
    written = {pair: write_product(tmp_path / "p", gamma_name(*pair, f"000{n}"), n, layers=("corr",))[1]["corr"]
               for n, pair in enumerate(dates)}  # fmt: skip

    code, report, _ = build(tmp_path / "p")

    ordered = [dates[4], dates[3], dates[0], dates[1], dates[2]]
    assert (code, [name[5:13] for name in report["granules"]]) == (0, [pair[0] for pair in ordered])
    with served() as url, opened(f"{url}/zarr") as cube:
        firsts = [f"{first[:4]}-{first[4:6]}-{first[6:]}" for first, _ in ordered]
        np.testing.assert_array_equal(
            cube["reference_time"].values.astype("M8[D]"), np.array(firsts, "M8[D]")
        )
        expected = np.stack([masked(written[pair]) for pair in ordered])
        np.testing.assert_array_equal(cube["corr"].values, expected)
        compared(expected)


def test_pairs_have_their_dates_and_their_parameters(build, served, tmp_path):
    products = tmp_path / "products"
    write_product(products, FIRST, 1, baseline=-23.4, orbit=30647)
    write_product(products, SECOND, 2, baseline=101.25, orbit=30647)
    write_product(products, THIRD, 3, baseline=0.0, orbit=30822, masked="yes")

    assert build(products, "--title", "My stack")[0] == 0

    with served() as url, opened(f"{url}/zarr") as cube:
        second = np.array(["2020-01-13T01:23:46", "2020-01-25T01:23:46", "2020-01-25T01:23:46"], "M8[ns]")
        first = np.array(["2020-01-01T01:23:45", "2020-01-01T01:23:45", "2020-01-13T01:23:45"], "M8[ns]")
        np.testing.assert_array_equal(cube["time"], second)
        np.testing.assert_array_equal(cube["secondary_time"], second)
        np.testing.assert_array_equal(cube["reference_time"], first)
        assert {"time", "reference_time", "secondary_time"} <= set(cube["corr"].coords)
        assert cube["temporal_baseline"].values.tolist() == [12, 24, 12]
        assert cube["temporal_baseline"].attrs["units"] == "days"
        assert cube["perpendicular_baseline"].values.tolist() == [-23.4, 101.25, 0.0]
        assert cube["perpendicular_baseline"].attrs["units"] == "m"
        assert cube["reference_orbit_number"].values.tolist() == [30647, 30647, 30822]
        assert cube["product"].values.tolist() == [FIRST, SECOND, THIRD]
        # a parameter that is called as a layer is
        assert cube["water_masked"].values.tolist() == ["no", "no", "yes"]
        assert cube["water_mask"].dims == ("pair", "y", "x")
        told = {"heading": -13.2, "dem_source": "GLO_30", "reference_pass_direction": "ASCENDING"}
        assert {name: cube.attrs[name] for name in told} == told
        assert "reference_orbit_number" not in cube.attrs
    assert yaml.safe_load((tmp_path / "cubes" / "stack.yaml").read_text())["title"] == "My stack"


def test_a_series_has_each_pair_in_the_order_of_time(build, served, tmp_path, compared):
    products = tmp_path / "products"
    written = {name: write_product(products, name, n)[1] for n, name in enumerate([FIRST, SECOND, THIRD])}
    assert build(products)[0] == 0

    row, column = 40, 60
    query = {"x": WEST + PIXEL * (column + 0.5), "y": NORTH - PIXEL * (row + 0.5), "f": "csv",
             "variables": "corr,unw_phase,perpendicular_baseline,reference_time,product"}  # fmt: skip
    with served() as url:
        answer = httpx.get(f"{url}/timeseries", params=query)
        later = httpx.get(f"{url}/timeseries", params={**query, "datetime": "2020-01-20/.."})
        short = httpx.get(f"{url}/timeseries", params={**query, "where": "temporal_baseline<=12"})

    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert lines[0] == "time,corr,unw_phase,perpendicular_baseline,reference_time,product"
    for line, name in zip(lines[1:], [FIRST, SECOND, THIRD], strict=True):
        _, corr, phase, baseline, reference, product = line.split(",")
        assert np.float32(corr) == written[name]["corr"][row, column]
        assert np.float32(phase) == written[name]["unw_phase"][row, column]
        assert (float(baseline), product) == (-23.4, name)
        assert reference == f"{name[5:9]}-{name[9:11]}-{name[11:13]}T01:23:45Z"
        compared(np.array([corr, phase]))
    assert [line for line in later.text.splitlines() if line.startswith("2020")] == lines[2:]
    assert [line for line in short.text.splitlines() if line.startswith("2020")] == [lines[1], lines[3]]


@pytest.mark.parametrize("extent", ["overlap", "union", "usual"])
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({"compress": "deflate"}, id="deflate"),
        pytest.param({"compress": "lzw"}, id="lzw"),
        pytest.param({"compress": "deflate", "predictor": 3}, id="floating point predictor"),
        pytest.param({"compress": None}, id="no compression"),
        pytest.param({"tiled": False, "blockxsize": None, "blockysize": 1, "compress": None}, id="strips"),
    ],
)
def test_grids_that_differ_by_rows_and_columns_come_onto_the_common_one(  # noqa: PLR0917 - fixtures
    build, served, tmp_path, extent, layout, compared
):
    products = tmp_path / "products"
    layout = {key: value for key, value in layout.items() if value is not None or key == "compress"}
    options = dict.fromkeys(GAMMA_LAYERS, layout)
    if "predictor" in layout:
        # bytes have no such predictor
        options["water_mask"] = {**layout, "predictor": 2}
    places = {FIRST: ((0, 0), SHAPE), SECOND: ((2, -3), (HEIGHT, WIDTH + 1)), THIRD: ((0, 0), SHAPE)}
    written = {
        name: write_product(products, name, n, shift=shift, size=size, options=options)[1]
        for n, (name, (shift, size)) in enumerate(places.items())
    }

    code, report, errors = build(products, "--extent", extent)

    assert (code, errors) == (0, "")
    # of rows 0 to 90 and 2 to 92, and of columns 0 to 110 and -3 to 108
    top, left, shape = {
        "overlap": (2, 0, (HEIGHT - 2, WIDTH - 2)),
        "union": (0, -3, (HEIGHT + 2, WIDTH + 3)),
        "usual": (0, 0, SHAPE),
    }[extent]
    in_place = {FIRST, THIRD} if extent == "usual" and "tiled" not in layout else set()
    assert set(report["copied"]) == set(places) - in_place
    with served() as url, opened(f"{url}/zarr-plain") as cube:
        np.testing.assert_array_equal(cube["x"], WEST + PIXEL * (left + np.arange(shape[1]) + 0.5))
        np.testing.assert_array_equal(cube["y"], NORTH - PIXEL * (top + np.arange(shape[0]) + 0.5))
        for layer in GAMMA_LAYERS:
            expected = [
                masked(shifted(written[name][layer], down - top, across - left, shape))
                for name, ((down, across), _) in places.items()
            ]
            np.testing.assert_array_equal(cube[layer].values, np.stack(expected))
            compared(np.stack(expected))
    if extent == "usual":
        assert set(report["copied"][SECOND]) == set(GAMMA_LAYERS)
        assert "begins +2 rows and -3 columns" in report["copied"][SECOND]["corr"]


def burst_name(first, second, tail):
    return f"S1_136231_IW2_{first}_{second}_VV_INT80_{tail}"


def test_bursts_have_the_times_of_their_granules(build, served, tmp_path, compared):
    layers = ("unw_phase", "corr", "conncomp", "lv_phi", "lv_theta", "dem", "water_mask", "wrapped_phase")
    written = {}
    for n, (first, second, tail) in enumerate(
        [("20200604", "20200616", "12E3"), ("20200604", "20200628", "AB01")]
    ):
        granules = [f"S1_136231_IW2_{date}T022312_VV_7C85-BURST" for date in (first, second)]
        name = burst_name(first, second, tail)
        written[name] = write_product(
            tmp_path / "p", name, n, layers=layers, granules=granules, direction="DESCENDING",
            # as ISCE2 writes them
            options={layer: {"compress": "lzw"} for layer in layers},
        )[1]  # fmt: skip
    product = tmp_path / "p" / burst_name("20200604", "20200616", "12E3")
    # in radar geometry, not on the grid
    write_tiff(product / f"{product.name}_lat_rdr.tif", np.ones((5, 5), "f4"), west=0, north=0)

    code, report, _ = build(tmp_path / "p", "--path", 64, "--orbit-direction", "descending")

    assert (code, report["copied"]) == (0, {})
    assert list(report["layers_left_out"]) == ["lat_rdr"]
    with served() as url, opened(f"{url}/zarr-plain") as cube:
        times = np.array(["2020-06-16T02:23:12", "2020-06-28T02:23:12"], "M8[ns]")
        np.testing.assert_array_equal(cube["time"], times)
        assert cube.attrs["source"] == "HyP3, INSAR_ISCE_BURST, 80 m, VV"
        for layer in layers:
            expected = np.stack([masked(values[layer]) for values in written.values()])
            np.testing.assert_array_equal(cube[layer].values, expected)
            compared(expected)


def test_merged_bursts_have_the_time_of_the_first(build, served, tmp_path):
    name = "S1_064_000000s1n00-136231s2n02-000000s3n00_IW_20200604_20200616_VV_INT80_0F3D"
    granules = [
        ", ".join(f"S1_{burst}_IW2_{date}T0223{second}_VV_7C85-BURST"
                  for burst, second in (("136232", "15"), ("136231", "12")))
        for date in ("20200604", "20200616")
    ]  # fmt: skip
    _, pixels = write_product(tmp_path / "p", name, 1, layers=("unw_phase", "corr"), granules=granules)

    assert build(tmp_path / "p")[0] == 0

    with served() as url, opened(f"{url}/zarr") as cube:
        assert cube["reference_time"].values[0] == np.datetime64("2020-06-04T02:23:12")
        assert cube["time"].values[0] == np.datetime64("2020-06-16T02:23:12")
        np.testing.assert_array_equal(cube["corr"].values[0], masked(pixels["corr"]))


CARD4L = """<?xml version="1.0"?>
<CARD4L xmlns="http://example.org/card4l"><SourceAttributes>
<AcquisitionID>{id}</AcquisitionID><NRApplied>true</NRApplied>
<IncAngleNearRange units="deg">{angle}</IncAngleNearRange></SourceAttributes></CARD4L>"""


def rtc_name(date, tail, radiometry="g", scale="p"):
    return f"S1A_IW_{date}T120220_DVP_RTC10_G_{radiometry}{scale}uned_{tail}"


def test_rtc_scenes_lie_along_time_with_their_card4l_metadata(build, served, tmp_path, compared):
    layers = ("VV", "VH", "inc_map", "ls_map", "dem")
    written = {}
    for n, (date, tail) in enumerate([("20150703", "F8E2"), ("20150621", "0001")]):
        name = rtc_name(date, tail)
        product, written[date] = write_product(
            tmp_path / "p", name, n, layers=layers, parameters=False, pixel=10
        )
        (product / f"{name}_card4l.xml").write_text(CARD4L.format(id=f"A{n}", angle=30.5 + n))
        (product / f"{name}_VV.tif.xml").write_text("<metadata/>")
        (product / f"{name}.log").write_text("processed")

    code, report, _ = build(tmp_path / "p")

    assert (code, report["copied"]) == (0, {})
    with served() as url, opened(f"{url}/zarr") as cube:
        assert cube["VV"].dims == ("time", "y", "x")
        times = np.array(["2015-06-21T12:02:20", "2015-07-03T12:02:20"], "M8[ns]")
        np.testing.assert_array_equal(cube["time"], times)
        assert cube.attrs["card4l_measurement_type"] == "gamma0"
        assert cube.attrs["card4l_measurement_convention"] == "linear power"
        assert cube.attrs["card4l_source_attributes_nrapplied"] == "true"
        assert cube["card4l_source_attributes_acquisition_id"].values.tolist() == ["A1", "A0"]
        assert cube["card4l_source_attributes_inc_angle_near_range"].values.tolist() == [31.5, 30.5]
        for layer in layers:
            expected = np.stack([masked(written[date][layer]) for date in ("20150621", "20150703")])
            np.testing.assert_array_equal(cube[layer].values, expected)
            compared(expected)


def other_zone(folder, name, seed, layers):
    """Write a product of the zone to the west, over the same ground."""
    west, south, east, north = transform_bounds(
        "EPSG:32611", "EPSG:32610", WEST, NORTH - PIXEL * HEIGHT, WEST + PIXEL * WIDTH, NORTH
    )
    west, north = np.floor(west / PIXEL) * PIXEL, np.ceil(north / PIXEL) * PIXEL
    size = int((north - south) // PIXEL) + 1, int((east - west) // PIXEL) + 1
    return write_product(
        folder, name, seed, layers=layers, size=size, west=west, north=north, crs="EPSG:32610"
    )


def test_products_of_other_zones_are_refused_by_name(build, tmp_path):
    write_product(tmp_path / "p", FIRST, 1)
    write_product(tmp_path / "p", SECOND, 2)
    other_zone(tmp_path / "p", THIRD, 3, GAMMA_LAYERS)

    code, _, errors = build(tmp_path / "p")

    assert code == 1
    assert "2 in EPSG:32611, 1 in EPSG:32610" in errors
    assert f"{THIRD} is in EPSG:32610" in errors
    assert "--other-zones leave-out or warp" in errors
    assert not (tmp_path / "cubes" / "stack.yaml").exists()


@pytest.mark.parametrize(("zone", "kept"), [("predominant", [FIRST, SECOND]), ("32610", [THIRD])])
def test_products_of_other_zones_are_left_out_as_asked(build, tmp_path, zone, kept):
    write_product(tmp_path / "p", FIRST, 1)
    write_product(tmp_path / "p", SECOND, 2)
    other_zone(tmp_path / "p", THIRD, 3, GAMMA_LAYERS)

    code, report, _ = build(tmp_path / "p", "--other-zones", "leave-out", "--zone", zone)

    assert (code, report["granules"]) == (0, kept)
    assert set(report["left_out"]) == {FIRST, SECOND, THIRD} - set(kept)
    assert report["zones"] == {"EPSG:32611": 2, "EPSG:32610": 1}


def test_products_of_other_zones_are_warped_as_asked(build, served, tmp_path, compared):
    layers = ("unw_phase", "corr", "wrapped_phase", "water_mask")
    written = {name: write_product(tmp_path / "p", name, n, layers=layers)[1]
               for n, name in enumerate([FIRST, SECOND])}  # fmt: skip
    folder, _ = other_zone(tmp_path / "p", THIRD, 3, layers)

    code, report, _ = build(tmp_path / "p", "--other-zones", "warp")

    assert code == 0
    assert set(report["copied"]) == {THIRD}
    assert report["copied"][THIRD]["corr"] == "is in EPSG:32610: warped"
    with served() as url, opened(f"{url}/zarr") as cube:
        for layer in layers:
            np.testing.assert_array_equal(cube[layer].values[0], masked(written[FIRST][layer]))
            with rasterio.open(folder / f"{THIRD}_{layer}.tif") as file:
                expected = by_hand(file, bilinear=layer in {"unw_phase", "corr"})
            known = np.isfinite(expected)
            assert known.mean() > 0.5
            found = cube[layer].values[2][known]
            np.testing.assert_allclose(np.nan_to_num(found), expected[known], rtol=1e-4, atol=1e-4)
            compared(found)
        # what the product does not cover is nodata
        assert np.isnan(cube["corr"].values[2]).any()


def by_hand(file, *, bilinear):
    """What a file in another zone is at the centres of the cube's pixels; NaN where it cannot be told so."""
    values = file.read(1).astype("f8")
    x, y = np.meshgrid(WEST + PIXEL * (np.arange(WIDTH) + 0.5), NORTH - PIXEL * (np.arange(HEIGHT) + 0.5))
    there = Transformer.from_crs("EPSG:32611", "EPSG:32610", always_xy=True).transform(x, y)
    columns, rows = ~file.transform * there
    expected = np.full((HEIGHT, WIDTH), np.nan)
    for place in np.ndindex(HEIGHT, WIDTH):
        row, column = rows[place] - 0.5, columns[place] - 0.5
        top, left = int(np.floor(row)), int(np.floor(column))
        if not (0 <= top < file.height - 1 and 0 <= left < file.width - 1):
            continue
        if bilinear:
            four = values[top : top + 2, left : left + 2]
            down, across = row - top, column - left
            weights = np.outer([1 - down, down], [1 - across, across])
            if four.all():
                expected[place] = (four * weights).sum()
        else:
            expected[place] = values[round(row), round(column)]
    return expected


@pytest.mark.parametrize("what", ["refuse", "leave-out", "warp"])
def test_pixels_that_do_not_coincide_are_never_moved_unasked(build, served, tmp_path, what, compared):
    written = {name: write_product(tmp_path / "p", name, n, layers=("corr",))[1]
               for n, name in enumerate([FIRST, SECOND])}  # fmt: skip
    folder, _ = write_product(tmp_path / "p", THIRD, 3, layers=("corr",), shift=(0.5, 0.25))

    code, report, errors = build(tmp_path / "p", *(("--misaligned", what) if what != "refuse" else ()))

    if what == "refuse":
        assert code == 1
        assert f"{THIRD} has pixels of its own" in errors
        assert not (tmp_path / "cubes" / "stack.yaml").exists()
        return
    assert code == 0
    assert report["granules"] == ([FIRST, SECOND] if what == "leave-out" else [FIRST, SECOND, THIRD])
    with served() as url, opened(f"{url}/zarr") as cube:
        np.testing.assert_array_equal(cube["corr"].values[1], masked(written[SECOND]["corr"]))
        if what == "warp":
            # between four pixels of the file, by hand
            with rasterio.open(folder / f"{THIRD}_corr.tif") as file:
                pixels = file.read(1).astype("f8")
            upper, lower = pixels[39], pixels[40]
            rows = 0.5 * upper + 0.5 * lower
            expected = 0.25 * rows[59] + 0.75 * rows[60]
            np.testing.assert_allclose(cube["corr"].values[2, 40, 60], expected, rtol=1e-5)
            compared(np.array([expected]))


def test_zip_files_are_unpacked_and_the_rest_of_them_is_not(build, served, tmp_path, compared):
    (tmp_path / "zips").mkdir()
    written = {}
    for n, name in enumerate([FIRST, SECOND]):
        product, written[name] = write_product(tmp_path / "made", name, n, shift=(n, 0))
        zipped(product, tmp_path / "zips" / f"{name}.zip")
    product, written[THIRD] = write_product(tmp_path / "products", THIRD, 2)

    code, report, _ = build(tmp_path / "zips", product, "--extent", "usual")

    assert code == 0
    assert report["granules"] == [FIRST, SECOND, THIRD]
    assert set(report["copied"]) == {SECOND}
    copies = tmp_path / "cubes" / "stack.copies"
    unpacked = {path.suffix for path in copies.glob("zip-*/*/*")}
    assert unpacked == {".tif", ".txt"}
    # what was brought onto the grid is not kept twice
    assert not list(copies.glob(f"zip-*/{SECOND}"))
    with served() as url, opened(f"{url}/zarr") as cube:
        for layer in GAMMA_LAYERS:
            expected = [masked(shifted(written[name][layer], shift, 0, SHAPE))
                        for name, shift in ((FIRST, 0), (SECOND, 1), (THIRD, 0))]  # fmt: skip
            np.testing.assert_array_equal(cube[layer].values, np.stack(expected))
            compared(np.stack(expected))


def test_a_zip_file_beside_its_own_files_is_not_unpacked(build, tmp_path):
    product, _ = write_product(tmp_path / "job", FIRST, 1, layers=("corr",))
    zipped(product, product / f"{FIRST}.zip")

    code, report, _ = build(tmp_path / "job")

    assert (code, report["granules"], report["left_out"]) == (0, [FIRST], {})
    assert visible(tmp_path / "cubes") == ["stack.index", "stack.yaml"]


@pytest.mark.parametrize(
    ("compress", "why"), [("packbits", "PackBits"), ("lzw", "its last strip has 10 rows")]
)
def test_geotiffs_that_cannot_be_read_in_place_are_copied(build, served, tmp_path, compress, why):
    _, pixels = write_product(tmp_path / "p", FIRST, 1, layers=("corr", "amp"))
    # of which no chunk is one of Zarr's: the last strip is shorter
    odd = {"tiled": False, "blockxsize": WIDTH, "blockysize": 16, "compress": compress}
    _, others = write_product(tmp_path / "p", SECOND, 2, layers=("corr", "amp"), options={"corr": odd})

    code, report, _ = build(tmp_path / "p")

    assert code == 0
    assert list(report["copied"]) == [SECOND]
    assert list(report["copied"][SECOND]) == ["corr"]
    assert why in report["copied"][SECOND]["corr"]
    with served() as url, opened(f"{url}/zarr") as cube:
        expected = np.stack([masked(pixels["corr"]), masked(others["corr"])])
        np.testing.assert_array_equal(cube["corr"].values, expected)


@pytest.fixture
def bucket(tmp_path):
    """Two folders and a ZIP file on S3, for one user; gives the server, the user's keys, and the pixels."""
    pixels = {}
    with running_s3() as url:
        s3 = connect("s3", url)
        s3.create_bucket(Bucket="hyp3-jobs")
        for number, name in enumerate([FIRST, SECOND, THIRD]):
            product, pixels[name] = write_product(
                tmp_path / "made", name, number, layers=("corr", "unw_phase")
            )
            for file in product.iterdir() if name != THIRD else ():
                s3.upload_file(str(file), "hyp3-jobs", f"stack/{name}/{file.name}")
        s3.upload_file(str(zipped(product, tmp_path / "third.zip")), "hyp3-jobs", f"stack/{THIRD}.zip")
        keys = new_keys(connect("iam", url), "hyp3-jobs")
        with checked_access():
            yield url, keys, pixels


def test_products_over_s3_are_read_by_ranges(  # noqa: PLR0917 - fixtures
    bucket, build, served, tmp_path, monkeypatch, compared
):
    endpoint, keys, pixels = bucket
    environment = dict(zip(("HYP3_KEY", "HYP3_SECRET"), keys, strict=True))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cubegate.yaml").write_text(
        "credentials: {ours: {kind: s3, access_key_id_env: HYP3_KEY, secret_access_key_env: HYP3_SECRET}}\n"
        f'upstreams: {{"s3://hyp3-jobs/": {{credentials: ours, endpoint_url: "{endpoint}", region: us-east-1}},\n'
        f'            "{tmp_path.as_uri()}/": {{}}}}\n'
        "collections: [cubes/*.yaml]\n"
    )

    code, report, errors = build("s3://hyp3-jobs/stack/")

    assert (code, errors) == (0, "")
    assert report["granules"] == [FIRST, SECOND, THIRD]
    assert report["copied"] == {}
    with served(environment) as address, opened(f"{address}/zarr") as cube:
        for layer in ("corr", "unw_phase"):
            expected = np.stack([masked(pixels[name][layer]) for name in (FIRST, SECOND, THIRD)])
            np.testing.assert_array_equal(cube[layer].values, expected)
            compared(expected)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not there")
def test_the_real_layers_of_a_gamma_product_are_served_as_rasterio_reads_them(
    build, served, tmp_path, compared
):
    real = SHARED / "hyp3_gamma_metadata" / "insar"
    layers = sorted(path.stem.removeprefix("insar_") for path in real.glob("*.tif"))
    for name in (FIRST, SECOND):
        product, _ = write_product(tmp_path / "p", name, 1, layers=())
        for layer in layers:
            shutil.copyfile(real / f"insar_{layer}.tif", product / f"{name}_{layer}.tif")

    code, report, _ = build(tmp_path / "p")

    assert (code, report["copied"]) == (0, {})
    with served() as url, opened(f"{url}/zarr") as cube:
        for layer in layers:
            with rasterio.open(real / f"insar_{layer}.tif") as file:
                expected = file.read(1, masked=True).astype("f4").filled(np.nan)
                left, top = file.transform.c, file.transform.f
            for pair in range(2):
                np.testing.assert_array_equal(cube[layer].values[pair], expected)
            compared(np.stack([expected, expected]))
        np.testing.assert_array_equal(cube["x"], left + 80 * (np.arange(10) + 0.5))
        np.testing.assert_array_equal(cube["y"], top - 80 * (np.arange(10) + 0.5))


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not there")
def test_real_layers_that_begin_a_row_later_are_moved_by_a_row(build, served, tmp_path, compared):
    real = SHARED / "hyp3_gamma_metadata" / "insar"
    expected = {}
    for name, down in ((FIRST, 0), (SECOND, 1)):
        product, _ = write_product(tmp_path / "p", name, 1, layers=())
        for layer in ("unw_phase", "corr", "dem"):
            with rasterio.open(real / f"insar_{layer}.tif") as file:
                values, profile = file.read(1), file.profile
            profile["transform"] = from_origin(392_680, 3_962_360 - 80 * down, 80, 80)
            with rasterio.open(product / f"{name}_{layer}.tif", "w", **profile) as file:
                file.write(values, 1)
            # of both, rows 1 to 10 of the first
            expected[name, layer] = masked(values[1:] if down == 0 else values[:-1])

    code, report, _ = build(tmp_path / "p")

    assert code == 0
    assert set(report["copied"]) == {FIRST, SECOND}
    with served() as url, opened(f"{url}/zarr") as cube:
        for (name, layer), values in expected.items():
            np.testing.assert_array_equal(cube[layer].values[[FIRST, SECOND].index(name)], values)
            compared(values)


def test_copies_are_kept_checked_and_made_again_where_they_are_damaged(
    build, served, tmp_path, monkeypatch, compared
):
    written = {name: write_product(tmp_path / "p", name, n, shift=(n, 0), layers=("corr",))[1]
               for n, name in enumerate([FIRST, SECOND])}  # fmt: skip
    made, write = [], hyp3_copies._write
    monkeypatch.setattr(
        hyp3_copies, "_write", lambda copy, path: (made.append(copy.source.name), write(copy, path))
    )
    assert build(tmp_path / "p")[0] == 0
    assert len(made) == 2
    copies = tmp_path / "cubes" / "stack.copies"
    damaged, kept = sorted(copies.glob("*.tif"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    damaged.write_bytes(content)
    before = kept.stat().st_mtime_ns
    made.clear()

    assert build(tmp_path / "p")[0] == 0

    assert made == [f"{FIRST}_corr.tif"]
    assert kept.stat().st_mtime_ns == before
    with served() as url, opened(f"{url}/zarr") as cube:
        expected = [masked(shifted(written[FIRST]["corr"], -1, 0, (HEIGHT - 1, WIDTH))),
                    masked(written[SECOND]["corr"][:-1])]  # fmt: skip
        np.testing.assert_array_equal(cube["corr"].values, np.stack(expected))
        compared(np.stack(expected))


def test_of_a_geotiff_that_was_replaced_since_nothing_is_used(build, served, tmp_path, monkeypatch):
    product, _ = write_product(tmp_path / "p", FIRST, 1, layers=("corr",))

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cubegate.conversions.hyp3.place_sources", killed)
    assert build(tmp_path / "p")[0] == 130
    monkeypatch.undo()
    fresh = layer_values("corr", 99)
    write_tiff(product / f"{FIRST}_corr.tif", fresh, compress="lzw", blockxsize=64)

    assert build(tmp_path / "p")[0] == 0

    with served() as url, opened(f"{url}/zarr-plain") as cube:
        np.testing.assert_array_equal(cube["corr"].values[0], masked(fresh))


def test_a_build_that_was_killed_goes_on_and_a_replaced_file_is_read_again(
    build, served, tmp_path, monkeypatch
):
    (tmp_path / "zips").mkdir()
    products = {}
    for n, name in enumerate([FIRST, SECOND]):
        products[name], _ = write_product(tmp_path / "made", name, n, shift=(n, 0), layers=("corr",))
        zipped(products[name], tmp_path / "zips" / f"{name}.zip")
    write = hyp3_copies._write
    calls = []

    def killed(copy, path):
        calls.append(copy.source.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(copy, path)

    monkeypatch.setattr(hyp3_copies, "_write", killed)
    monkeypatch.setattr("cubegate.archives.hyp3_layers._COPIES", 1)
    assert build(tmp_path / "zips")[0] == 130
    assert [name for name in visible(tmp_path / "cubes") if not name.startswith(".")] == ["stack.copies"]
    monkeypatch.setattr("cubegate.archives.hyp3_gathering.unpack", lambda *_: pytest.fail("unpacked again"))

    assert build(tmp_path / "zips")[0] == 0
    assert len(calls) == 3

    monkeypatch.undo()
    fresh = layer_values("corr", 99)
    write_tiff(products[SECOND] / f"{SECOND}_corr.tif", fresh, north=NORTH - PIXEL)
    zipped(products[SECOND], tmp_path / "zips" / f"{SECOND}.zip")
    assert build(tmp_path / "zips")[0] == 0
    with served() as url, opened(f"{url}/zarr") as cube:
        np.testing.assert_array_equal(cube["corr"].values[1], masked(fresh[:-1]))
    # of what is not used any more nothing is left
    assert len(list((tmp_path / "cubes" / "stack.copies").iterdir())) == 2
