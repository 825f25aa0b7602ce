"""What `cubegate overviews` builds has the values that numpy makes of the cube, and maps draw it."""

import io
import json
import signal
import subprocess
import sys
import time

import cftime
import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from PIL import Image
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine

from cubegate.app import create_app
from cubegate.catalog import catalog as catalog_module
from cubegate.catalog import overviews as overviews_module
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


def store_of(folder):
    (path,) = folder.glob("*.zarr")
    root = zarr.open_group(path, mode="r").attrs["cubegate_overviews"]["root"]
    return path, root


def whole_blocks(values, factor, outside):
    """Shape (..., rows, factor, columns, factor), with `outside` where the grid ends within a block."""
    *lead, height, width = values.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.full((*lead, rows * factor, columns * factor), outside, np.result_type(values, type(outside)))
    padded[..., :height, :width] = values
    return padded.reshape(*lead, rows, factor, columns, factor)


def means(values, factor):
    blocks = whole_blocks(values.astype("f8"), factor, np.nan)
    there = whole_blocks(np.ones(values.shape[-2:]), factor, 0.0).sum(axis=(1, 3))
    known = np.isfinite(blocks).sum(axis=(-3, -1))
    with np.errstate(invalid="ignore"):
        return np.where(2 * known >= there, np.nansum(blocks, axis=(-3, -1)) / known, np.nan)


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


def ask(url, path, status=200, **parameters):
    answer = httpx.get(f"{url}/datasets/{path}", params=parameters, timeout=60)
    assert answer.status_code == status, answer.text
    return answer


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


@pytest.fixture
def cube(tmp_path, write_configuration, make_stack):
    """A small cube of granules behind an index; gives the configuration and what may be done with it."""
    stack = make_stack(tmp_path / "stack")
    assert (
        main(
            [
                "index",
                str(stack.references),
                "-o",
                str(tmp_path / "stack.index"),
                "--allow",
                tmp_path.as_uri() + "/",
            ]
        )
        == 0
    )
    config = write_configuration(
        tmp_path, stack="source: {kind: index, href: ../stack.index}\noverviews: {href: made}"
    )
    return config, stack


def run(capsys, config, *arguments, code=0):
    capsys.readouterr()
    assert main(["overviews", *arguments, "--config", str(config), "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out) if code == 0 else " ".join(said.err.split())


def test_the_report_has_the_price_and_what_was_done(cube, capsys):
    config, stack = cube
    tried = run(capsys, config, "stack", "--dry-run")
    assert (tried["built"], list(config.parent.glob("collections/made/*"))) == (False, [])
    # 3 dates x 3 x 3 chunks of two variables, that of the map mapping none
    assert tried["price"]["chunks"] == 2 * 3 * 9
    made = run(capsys, config, "stack")
    assert made["price"] == tried["price"]
    assert made["values"] == 2 * 3 * 10 * 12
    assert made["variables"]["coherence"] == {"resampling": "mode", "levels": 1, "shape": [3, 10, 12]}
    assert made["overviews"] == {"href": "made"}
    again = run(capsys, config, "stack")
    assert (again["there_already"], again["built"]) == (True, False)
    values = zarr.open_array(config.parent / "collections/made" / f"{made['version']}.zarr", mode="r",
                             path=f"{store_of(config.parent / 'collections/made')[1]}/overview_2/displacement")  # fmt: skip
    np.testing.assert_allclose(values[:], means(stack.displacement, 2), rtol=1e-6)


def test_others_of_the_same_version_take_their_place_when_asked(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack", "--variables", "displacement")
    before = store_of(config.parent / "collections/made")
    said = run(capsys, config, "stack", code=1)
    assert "--replace" in said
    assert store_of(config.parent / "collections/made") == before
    run(capsys, config, "stack", "--replace")
    store, group = store_of(config.parent / "collections/made")
    assert group != before[1]
    assert set(zarr.open_group(store, mode="r")[f"{group}/overview_2"].array_keys()) >= {
        "displacement",
        "coherence",
    }


def test_the_line_for_the_collection_file_is_printed_and_the_file_left_alone(cube, capsys):
    config, _ = cube
    file = config.parent / "collections/stack.yaml"
    file.write_text("# mine\n" + file.read_text().replace("overviews: {href: made}\n", ""))
    text = file.read_text()
    assert main(["overviews", "stack", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert 'overviews: {href: "stack.overviews"}' in said
    assert said.startswith("Reads 54 chunks")
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none",), "There is no dataset 'none'"),
        (("stack", "--variables", "nothing"), "There is no variable 'nothing' to draw"),
        (("stack", "--levels", "0"), "1 or more"),
        (("stack", "--threads", "0"), "1 or more"),
        (("stack", "--datetime", "1999"), "has no date"),
        (("stack", "--output", "/elsewhere"), "no upstream covers this address"),
        (("stack", "--output", "https://example.org/a"), "cannot be written over HTTP"),
    ],
)
def test_what_cannot_be_is_said(cube, capsys, arguments, said):
    config, _ = cube
    assert said in run(capsys, config, *arguments, code=1)
    assert not (config.parent / "collections/made").exists()


@pytest.fixture
def look_always(monkeypatch):
    """Spare the tests the intervals between two looks."""
    monkeypatch.setattr(catalog_module, "CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(overviews_module, "LOOK_INTERVAL", 0.0)


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


PIXEL = {"service": "WMS", "version": "1.3.0", "request": "GetFeatureInfo", "layers": "displacement",
         "query_layers": "displacement", "styles": "", "crs": "EPSG:32611", "width": 4, "height": 4, "i": 1, "j": 1,
         "bbox": "500000,3999526,500720,4000006", "info_format": "application/json", "time": "2020-01-13"}  # fmt: skip


def shown_height(url):
    (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
    return feature["properties"]["y"]


# the middle of the pixel lies 189 m below the edge of the grid
CELL_ITSELF, OVERVIEW = 4_000_000 - 30 * 6, 4_000_015 - 60 * 3.5


@pytest.mark.usefixtures("look_always")
def test_a_running_server_takes_overviews_up_and_lets_them_go(cube, capsys, serving, caplog):
    config, _ = cube
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == CELL_ITSELF
        assert "Run: cubegate overviews stack" in caplog.text
        etag = ask(url, "stack/tilejson.json").headers["etag"]
        run(capsys, config, "stack")
        until(lambda: shown_height(url) == OVERVIEW)
        assert ask(url, "stack/tilejson.json").headers["etag"] != etag
        (store,) = (config.parent / "collections/made").iterdir()
        store.rename(store.with_name("away.zarr"))
        until(lambda: shown_height(url) == CELL_ITSELF)


@pytest.mark.usefixtures("look_always")
def test_overviews_of_another_version_are_not_used(cube, capsys, serving, make_stack, compared):
    config, _ = cube
    made = run(capsys, config, "stack")
    tmp_path = config.parent
    other = make_stack(tmp_path / "other", seed=7)
    assert (
        main(
            [
                "index",
                str(other.references),
                "-o",
                str(tmp_path / "stack.index"),
                "--allow",
                tmp_path.as_uri() + "/",
            ]
        )
        == 0
    )
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == CELL_ITSELF
        # nor where they lie at the place of the other's
        folder = config.parent / "collections/made"
        version = run(capsys, config, "stack", "--dry-run")["version"]
        (folder / f"{made['version']}.zarr").rename(folder / f"{version}.zarr")
        assert shown_height(url) == CELL_ITSELF
    capsys.readouterr()
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews are not used: what is there is none of version" in capsys.readouterr().out
    assert main(["check", "stack", "--config", str(config)]) == 0
    assert "Run: cubegate overviews stack" in capsys.readouterr().out
    run(capsys, config, "stack", "--replace")
    with serving(create_app(load_settings(config, {}), {})) as url:
        (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
        facts = feature["properties"]
        wanted = means(other.displacement[1], 2)[3, 4]
        assert (facts["y"], facts["value"]) == (OVERVIEW, pytest.approx(wanted, rel=1e-6))
        compared(wanted)


def test_overviews_are_inspected_and_checked(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack")
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews beside it are used" in capsys.readouterr().out
    assert main(["check", "stack", "--config", str(config)]) == 0
    assert "overviews" not in capsys.readouterr().out
    store, root = store_of(config.parent / "collections/made")
    (store / root / "overview_2/displacement/c/1/0/0").unlink()
    assert main(["check", "stack", "--config", str(config)]) == 1
    assert f"{root}/overview_2/displacement chunk (1, 0, 0): UpstreamObjectMissing" in capsys.readouterr().out


def test_a_lost_object_is_an_error_and_not_a_hole(cube, capsys, serving):
    config, _ = cube
    run(capsys, config, "stack")
    store, root = store_of(config.parent / "collections/made")
    (store / root / "overview_2/displacement/c/1/0/0").unlink()
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert "ServiceException" in ask(url, "stack/wms", 502, **PIXEL).text
        assert ask(url, "stack/wms", **{**PIXEL, "time": "2020-01-25"}).json()["features"]


def test_an_address_that_is_not_listed_is_said_with_file_and_key(cube, capsys):
    config, _ = cube
    file = config.parent / "collections/stack.yaml"
    file.write_text(file.read_text().replace("href: made", "href: /elsewhere/made"))
    assert main(["check", "stack", "--config", str(config)]) == 1
    said = capsys.readouterr().out
    assert "overviews.href" in said
    assert "List it in upstreams" in said


def test_settings_that_changed_put_overviews_out_of_use(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack")
    file = config.parent / "collections/stack.yaml"
    file.write_text(file.read_text() + "crs: EPSG:32612\n")
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert (
        "coherence, displacement are not used: they were made under other settings" in capsys.readouterr().out
    )


KILLED = """
import os, signal, sys
from cubegate.conversions.overview_store import OverviewStore
write, count = OverviewStore.write, [0]
def some(self, path, region, values):
    write(self, path, region, values)
    count[0] += path.endswith("displacement")
    if count[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
OverviewStore.write = some
from cubegate.cli import main
main(sys.argv[1:])
"""


def test_what_a_killed_build_left_is_never_used_and_taken_up_again(cube, capsys, monkeypatch):
    config, stack = cube
    arguments = ["overviews", "stack", "--threads", "1", "--config", str(config)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    folder = config.parent / "collections/made"
    (store,) = folder.glob("*.zarr")
    assert not (store / "zarr.json").exists()
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews are not used: there are none" in capsys.readouterr().out
    # an object that was cut short is made again
    objects = sorted(path for path in store.rglob("displacement/c/**/*") if path.is_file())
    assert len(objects) == 2
    objects[0].write_bytes(objects[0].read_bytes()[:40])
    report = run(capsys, config, "stack")
    # 3 dates of each variable less the classes, which come first, and one date
    assert report["price"]["chunks"] == 2 * 9
    path, root = store_of(folder)
    np.testing.assert_allclose(
        zarr.open_array(path, path=f"{root}/overview_2/displacement", mode="r")[:],
        means(stack.displacement, 2),
        rtol=1e-6,
    )


def test_a_granule_that_cannot_be_read_ends_the_build(cube, capsys):
    config, stack = cube
    stack.granules[2].unlink()
    said = run(capsys, config, "stack", code=1)
    assert "Reading coherence[2:3, 0:20, 0:24] failed" in said
    (store,) = (config.parent / "collections/made").glob("*.zarr")
    assert not (store / "zarr.json").exists()


@pytest.mark.usefixtures("look_always")
def test_some_dates_alone(cube, capsys, serving):
    config, stack = cube
    run(capsys, config, "stack", "--datetime", "2020-01-10/2020-01-20", "--variables", "displacement")
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == OVERVIEW
        (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
        assert feature["properties"]["value"] == pytest.approx(
            means(stack.displacement[1], 2)[3, 4], rel=1e-6
        )
        (other,) = ask(url, "stack/wms", **{**PIXEL, "time": "2020-01-25"}).json()["features"]
        assert other["properties"]["y"] == CELL_ITSELF
        assert other["properties"]["value"] == pytest.approx(stack.displacement[2, 6, 9], rel=1e-6)


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
