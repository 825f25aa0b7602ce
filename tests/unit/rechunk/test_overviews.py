"""What `cubegate overviews` builds has the values that numpy makes of the cube, and maps draw it."""

import io

import cftime
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from PIL import Image
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from tests.unit.rechunk.overviews import ask, means, store_of, whole_blocks

from cubegate.app import create_app
from cubegate.cli import main
from cubegate.rechunk import overview_layout
from cubegate.settings import load_settings

HEIGHT, WIDTH, CELL, WEST, NORTH = 1301, 1100, 30.0, 400_000.0, 3_900_000.0
DATES = np.array(["2020-01-01", "2020-01-13", "2020-02-01"], "M8[ns]")
FACTORS = (2, 4, 8)
UTM = CRS.from_epsg(32611)


def write_cube(path, seed=0):
    """Numbers with holes, packed ones, classes, a phase and a map without dates, odd in size; chunks of 128."""
    rng = np.random.default_rng(seed)
    shape = (len(DATES), HEIGHT, WIDTH)
    v = rng.normal(size=shape).astype("f4")
    v[rng.random(shape) < 0.3] = np.nan
    v[:, :300, :170] = np.nan
    packed = np.round(rng.normal(0, 9, shape), 1)
    packed[:, 700:, :99] = np.nan
    metres, names = {"units": "m", "grid_mapping": "spatial_ref"}, {"grid_mapping": "spatial_ref"}
    flags = {"flag_values": [0, 1, 2], "flag_meanings": "land water ice"}
    dataset = xr.Dataset(
        {
            "v": (("time", "y", "x"), v, metres | {"ancillary_variables": "mask"}),
            "packed": (("time", "y", "x"), packed, metres | {"valid_range": [-900, 900]}),
            "mask": (("time", "y", "x"), rng.integers(0, 3, shape).astype("u1"), names | flags),
            "phase": (("time", "y", "x"), rng.random(shape).astype("f4"), names | {"units": "radians"}),
            "height": (("y", "x"), rng.integers(0, 900, shape[1:]).astype("i2"), metres),
        },
        {
            "time": DATES,
            "x": ("x", WEST + CELL * (np.arange(WIDTH) + 0.5), {"standard_name": "projection_x_coordinate"}),
            "y": (
                "y",
                NORTH - CELL * (np.arange(HEIGHT) + 0.5),
                {"standard_name": "projection_y_coordinate"},
            ),
        },
    )
    dataset["spatial_ref"] = ((), np.int32(0), UTM.to_cf() | {"GeoTransform": "400000 30 0 3900000 0 -30"})
    encoding = {name: {"chunks": (1, 128, 128)} for name in ("v", "mask", "phase")}
    encoding["packed"] = {
        "chunks": (1, 128, 128), "dtype": "i2", "scale_factor": 0.1, "_FillValue": -32768,
    }  # fmt: skip
    dataset.to_zarr(path, mode="w", zarr_format=2, encoding=encoding, consolidated=True)
    with xr.open_zarr(path) as stored:
        return stored.load()


@pytest.fixture(scope="module")
def module_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("overviews")
    return root, write_cube(root / "made.zarr")


@pytest.fixture(scope="module")
def built(module_root, write_configuration):
    """The cube `made` with all its overviews, `plain` without, in few enough cells at once that all paths are walked."""
    root, truth = module_root
    config = write_configuration(
        root,
        "limits: {tile_chunks: 20}",
        made="title: A cube\nsource: {kind: zarr, href: ../made.zarr}\noverviews: {href: ../beside}",
        plain="title: A cube\nsource: {kind: zarr, href: ../made.zarr}",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview_layout, "_SIDE", 512)
        assert main(["overviews", "made", "--config", str(config)]) == 0
    return root, config, truth


def modes(values, factor, classes):
    counts = [whole_blocks((values == each).astype("i4"), factor, 0).sum(axis=(-3, -1)) for each in classes]
    return np.argmax(counts, axis=0)


def middles(values, factor):
    rows, columns = (np.minimum(np.arange(0, n, factor) + factor // 2, n - 1) for n in values.shape[-2:])
    return values[..., rows[:, None], columns]


@pytest.mark.parametrize("factor", FACTORS)
def test_every_value_of_every_level(built, factor, compared):
    root, _, truth = built
    store, group = store_of(root / "beside")
    found = xr.open_zarr(store, group=f"{group}/overview_{factor}").load()
    for name in ("v", "packed", "height"):
        np.testing.assert_allclose(
            found[name].values, means(truth[name].values, factor), rtol=3e-6, atol=1e-7, err_msg=name
        )
        compared(found[name].values)
    np.testing.assert_array_equal(found["mask"].values, modes(truth["mask"].values, factor, range(3)))
    np.testing.assert_array_equal(found["phase"].values, middles(truth["phase"].values, factor))
    compared(found["mask"].values)
    compared(found["phase"].values)
    np.testing.assert_array_equal(found.time.values, DATES)
    rows, columns = -(-HEIGHT // factor), -(-WIDTH // factor)
    np.testing.assert_allclose(found.x.values, WEST + CELL * factor * (np.arange(columns) + 0.5), rtol=1e-15)
    np.testing.assert_allclose(found.y.values, NORTH - CELL * factor * (np.arange(rows) + 0.5), rtol=1e-15)
    assert CRS.from_cf(found.spatial_ref.attrs) == UTM
    found.close()


def test_no_level_is_left_out_and_the_metadata_say_how_it_was_made(built):
    store, group = store_of(built[0] / "beside")
    written = zarr.open_group(store, mode="r")
    levels = written[group].attrs["multiscales"]["layout"]
    assert [level["asset"] for level in levels] == [f"overview_{factor}" for factor in FACTORS]
    assert [level["transform"]["scale"] for level in levels] == [[1, 1], [2, 2], [4, 4]]
    finest = written[group]["overview_2"]
    said = {name: finest[name].attrs["overview_resampling"] for name in ("v", "packed", "mask", "phase")}
    assert said == {"v": "mean", "packed": "mean", "mask": "mode", "phase": "nearest"}
    assert finest["v"].attrs["cell_methods"] == "area: mean"
    assert not {"valid_range", "scale_factor"} & set(finest["packed"].attrs)
    assert finest["mask"].attrs["flag_meanings"] == "land water ice"
    assert finest["v"].chunks == (1, 256, 256)


def test_means_are_those_of_rasterio(built, tmp_path, compared):
    root, _, truth = built
    store, group = store_of(root / "beside")
    # whose overviews of even sizes are made of cells that are all there
    values = truth["packed"].values[1, :600, :800].astype("f4")
    file = tmp_path / "granule.tif"
    with rasterio.open(file, "w", driver="GTiff", height=600, width=800, count=1, dtype="float32",
                       transform=Affine(CELL, 0, WEST, 0, -CELL, NORTH)) as made:  # fmt: skip
        made.write(values, 1)
        made.build_overviews([2, 4], Resampling.average)
    for number, factor in enumerate((2, 4)):
        with rasterio.open(file, overview_level=number) as coarse:
            wanted = coarse.read(1)
        found = zarr.open_array(store, path=f"{group}/overview_{factor}/packed", mode="r")[1]
        np.testing.assert_allclose(found[: 600 // factor, : 800 // factor], wanted, rtol=1e-5, atol=1e-5)
        compared(wanted)


@pytest.fixture(scope="module")
def server(built, serving):
    with serving(create_app(load_settings(built[1], {}), {})) as url:
        yield url


COLOURS = {"variables": "v", "rescale": "-1,1", "colormap": "gray", "datetime": "2020-01-13"}


def test_low_zooms_are_refused_without_overviews_and_begin_at_0_with_them(server):
    with_them, without = (
        ask(server, f"{name}/tilejson.json", variables="v").json() for name in ("made", "plain")
    )
    assert with_them["minzoom"] == 0
    assert without["minzoom"] > 9
    x, y = 2**10 * (with_them["center"][0] + 180) // 360, 405
    said = ask(server, f"plain/tiles/WebMercatorQuad/10/{x:.0f}/{y}.png", 413, variables="v").json()
    assert "begin at zoom" in said["detail"]


def test_a_tile_of_the_own_grid_has_the_values_of_the_level(server, built, compared):
    # of four zooms before the last three, which enlarge, the second has pixels of 4 cells
    matrices = ask(server, "made/tiles/native/tileMatrixSet").json()["tileMatrices"]
    z = next(number for number, matrix in enumerate(matrices) if matrix["cellSize"] == 4 * CELL)
    wanted = means(built[2]["v"].values[1], 4)
    for row in range(2):
        for column in range(2):
            tile = ask(server, f"made/tiles/native/{z}/{column}/{row}.png", **COLOURS)
            picture = np.asarray(Image.open(io.BytesIO(tile.content)).convert("RGBA"))
            part = wanted[256 * row : 256 * row + 256, 256 * column : 256 * column + 256]
            found = picture[: len(part), : part.shape[1]]
            # a cell that reaches beyond the end shows nothing where its middle does
            rows, columns = (
                4 * (256 * first + np.arange(n) + 0.5)
                for first, n in zip((row, column), part.shape, strict=True)
            )
            inside = (rows < HEIGHT)[:, None] & (columns < WIDTH)
            np.testing.assert_array_equal(found[..., 3] > 0, np.isfinite(part) & inside)
            numbers = np.clip(np.floor((part.astype("f4").astype("f8") + 1) / 2 * 255), 0, 254)
            grey = np.rint(numbers / 254 * 255)
            known = np.isfinite(part) & inside
            assert np.abs(found[..., 0][known] - grey[known]).max() <= 1
            compared(found[..., 0][known])
            assert not picture[len(part) :, :, 3].any()
            assert not picture[:, part.shape[1] :, 3].any()


def test_nothing_is_drawn_beyond_the_cube_where_the_last_cells_reach(server):
    # WIDTH / 8 = 137.5: half of the last cell is outside
    east, north = WEST + CELL * WIDTH, NORTH - CELL * 400
    box = [east - 8 * CELL * 10, north - 8 * CELL * 20, east + 8 * CELL * 10, north]
    answer = ask(
        server, "made/wms", service="WMS", version="1.3.0", request="GetMap", layers="height", styles="", crs="EPSG:32611",
        bbox=",".join(map(str, box)), width=20, height=20, format="image/png", transparent="TRUE",
    )  # fmt: skip
    alpha = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))[..., 3]
    assert (alpha[:, :10] > 0).all()
    assert not alpha[:, 10:].any()


def test_feature_info_says_the_value_of_the_cell_that_is_shown(server, built):
    box = [WEST, NORTH - 8 * CELL * 40, WEST + 8 * CELL * 40, NORTH]
    asked = {
        "service": "WMS", "version": "1.3.0", "request": "GetFeatureInfo", "layers": "v", "query_layers": "v", "styles": "",
        "crs": "EPSG:32611", "bbox": ",".join(map(str, box)), "width": 40, "height": 40, "i": 33, "j": 12,
        "info_format": "application/json", "time": "2020-01-13T00:00:00Z",
    }  # fmt: skip
    (feature,) = ask(server, "made/wms", **asked).json()["features"]
    facts = feature["properties"]
    assert facts["value"] == pytest.approx(means(built[2]["v"].values[1], 8)[12, 33], rel=1e-5)
    assert (facts["x"], facts["y"], facts["cube"]) == (
        WEST + 8 * CELL * 33.5,
        NORTH - 8 * CELL * 12.5,
        "made",
    )
    (plain,) = ask(server, "plain/wms", **asked).json()["features"]
    assert plain["properties"]["value"] != facts["value"]


def test_conditions_are_on_the_cells_themselves(server, built, serving):
    tile = "tiles/WebMercatorQuad/8/44/101.png"
    with serving(create_app(load_settings(built[1], {"CUBEGATE_LIMITS__TILE_CHUNKS": "1000"}), {})) as roomy:
        whole, masked = (
            [ask(roomy, f"{name}/{tile}", **COLOURS, **more).content for name in ("made", "plain")]
            for more in ({}, {"mask": "mask=1"})
        )
    assert masked[0] == masked[1] != whole[0]
    assert whole[0] != whole[1]
    with_mask = ask(server, "made/tilejson.json", variables="v", mask="mask=1").json()
    assert with_mask["minzoom"] == ask(server, "plain/tilejson.json", variables="v").json()["minzoom"]
    said = ask(server, f"made/{tile}", 413, **COLOURS, mask="mask=1").json()["detail"]
    assert f"begin at zoom {with_mask['minzoom']}" in said


def test_values_and_zarr_documents_are_as_without(server):
    box = {"bbox": "410000,3880000,412000,3882000", "bbox-crs": "native", "variables": "v"}
    for path, parameters in (
        ("subset", {**box, "f": "csv"}),
        ("timeseries", {"x": 410_000, "y": 3_880_000, "variables": "v", "f": "csv"}),
        ("zarr/.zmetadata", {}),
        ("zarr/zarr.json", {}),
        ("zarr/v/0.3.3", {}),
        ("legend.png", {"variables": "v"}),
    ):
        one, other = (ask(server, f"{name}/{path}", **parameters) for name in ("made", "plain"))
        assert one.content.replace(b"made", b"plain") == other.content, path
        if path.startswith("zarr"):
            assert one.headers.get("etag") == other.headers.get("etag")


def write_globe(path):
    """Longitudes 0 to 350 and latitudes that end before the pole, two levels, and a calendar without leap days."""
    values = np.random.default_rng(6).normal(size=(3, 2, 35, 36)).astype("f4")
    values[:, :, 30:, :20] = np.nan
    dataset = xr.Dataset(
        {"t": (("time", "level", "lat", "lon"), values, {"units": "K"})},
        {
            "time": cftime.num2date(np.arange(58, 61), "days since 2001-01-01", "noleap"),
            "level": ("level", [500.0, 850.0]),
            "lat": ("lat", 87.5 - 5 * np.arange(35.0), {"units": "degrees_north"}),
            "lon": ("lon", 10 * np.arange(36.0), {"units": "degrees_east"}),
        },
    )
    dataset.to_zarr(path, zarr_format=2, encoding={"t": {"chunks": (3, 1, 12, 12)}})
    return values


def test_on_a_globe_rows_count_by_their_area(tmp_path, write_configuration, serving, compared):
    values = write_globe(tmp_path / "globe.zarr")
    config = write_configuration(
        tmp_path, globe="source: {kind: zarr, href: ../globe.zarr}\noverviews: {href: beside}"
    )
    assert main(["overviews", "globe", "--levels", "2", "--config", str(config)]) == 0
    store, root = store_of(tmp_path / "collections/beside")
    bounds = 90 - 5 * np.arange(36.0)
    area = np.broadcast_to(-np.diff(np.sin(np.radians(bounds)))[:, None], (35, 36))
    for factor in (2, 4):
        found = zarr.open_array(store, path=f"{root}/overview_{factor}/t", mode="r")[:]
        known = whole_blocks(np.isfinite(values) * area, factor, 0.0).sum(axis=(-3, -1))
        total = whole_blocks(np.nan_to_num(values) * area, factor, 0.0).sum(axis=(-3, -1))
        there = whole_blocks(area, factor, 0.0).sum(axis=(-3, -1))
        with np.errstate(invalid="ignore"):
            wanted = np.where(known > 0.499999 * there, total / known, np.nan)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        compared(found)
    asked = {
        "service": "WMS", "version": "1.3.0", "request": "GetFeatureInfo", "layers": "t", "query_layers": "t", "styles": "",
        "crs": "CRS:84", "bbox": "-180,-90,180,90", "width": 9, "height": 9, "i": 6, "j": 1, "dim_level": "850.0",
        "info_format": "application/json", "time": "2001-03-02",
    }  # fmt: skip
    with serving(create_app(load_settings(config, {}), {})) as url:
        (feature,) = ask(url, "globe/wms", **asked).json()["features"]
    # at 80 east, 60 north, in pixels of 40 x 20 degrees: columns 8 to 11 and rows 4 to 7
    assert feature["properties"]["value"] == pytest.approx(wanted[2, 1, 1, 2], rel=1e-5)
    assert (feature["properties"]["x"], feature["properties"]["y"]) == (95.0, 60.0)
