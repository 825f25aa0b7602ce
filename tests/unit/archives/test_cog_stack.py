"""GeoTIFFs of one grid become a served cube whose values are those that rasterio reads, over HTTP and S3."""

import contextlib
import json
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from tests.s3_server import checked_access, connect, new_keys, running_s3

from cubegate.app import create_app
from cubegate.archives.cog_list import CogFile, expand, parse_moment, parse_years, read_list
from cubegate.cli import main
from cubegate.errors import InvalidParameter
from cubegate.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
HEIGHT, WIDTH, NODATA = 150, 130, -32767
GRID = from_origin(-200_000, -1_000_000, 120, 120)
YEARS, VARIABLES = (2019, 2020, 2021), ("vx", "vy")


def mosaic(seed, *, overviews=(2, 4), unit="m/year", **options):
    """Return a COG like those of ITS_LIVE, as bytes."""
    random = np.random.default_rng(seed)
    options = {
        "driver": "GTiff", "dtype": "int16", "count": 1, "height": HEIGHT, "width": WIDTH, "crs": "EPSG:3413",
        "transform": GRID, "nodata": NODATA, "tiled": True, "blockxsize": 32, "blockysize": 48,
        "compress": "deflate", **options,
    }  # fmt: skip
    shape = options["count"], options["height"], options["width"]
    pixels = random.integers(-300, 300, shape).astype(options["dtype"])
    if options["nodata"] is not None:
        pixels[:, :40, :20] = options["nodata"]
    with MemoryFile() as memory:
        with memory.open(**options) as file:
            file.write(pixels)
            file.units = (unit,) * options["count"]
        if overviews:
            with rasterio.open(memory.name, "r+") as file:
                file.build_overviews(overviews, Resampling.nearest)
        return bytes(memory.getbuffer())


def read(data, **options):
    """The pixels that rasterio reads of one band, with NaN where nothing is."""
    with MemoryFile(data) as memory, memory.open(**options) as file:
        return file.read(1, masked=True).astype("f8").filled(np.nan)


@pytest.fixture
def published(archive):
    """Publish a mosaic of each year and variable; returns them by year and variable."""
    files = {}
    for number, year in enumerate(YEARS):
        for other, variable in enumerate(VARIABLES):
            files[year, variable] = mosaic(10 * number + other)
            archive.files[f"M_{year}_{variable}.tif"] = files[year, variable]
    return files


@pytest.fixture
def build(configuration, tmp_path, capsys):
    """Run the command; returns its exit code, and what it printed."""

    def build(*options):
        cubes = str(tmp_path / "cubes")
        code = main(
            ["build", "cog-stack", "--id", "mosaics", "-o", cubes, "--config", str(configuration), *options]
        )
        return code, capsys.readouterr()

    return build


@pytest.fixture
def template(archive, build):
    def template(*options, variables=VARIABLES, years="2019-2021"):
        url = f"{archive.url}/data/M_{{year}}_{{variable}}.tif"
        return build("--template", url, "--years", years, "--variables", ",".join(variables), *options)

    return template


@pytest.fixture
def listed(build, archive, tmp_path):
    """Build of lines, in which a name stands for the address of that file."""

    def listed(*lines, options=()):
        text = "\n".join(f"{archive.url}/data/{line}" for line in lines)
        (tmp_path / "list.txt").write_text(f"# files\n\n{text}\n")
        return build("--list", str(tmp_path / "list.txt"), *options)

    return listed


@pytest.fixture
def server(configuration, serving):
    """Serve what has been built while the context lasts; gives its address."""

    @contextlib.contextmanager
    def server(environment=()):
        app = create_app(load_settings(configuration, {}), dict(environment))
        with serving(app) as url:
            yield f"{url}/datasets/mosaics"

    return server


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@contextlib.contextmanager
def opened(url, *, zarr_format=2, **options):
    dataset = xr.open_zarr(url, chunks=None, zarr_format=zarr_format, **options)
    try:
        yield dataset
    finally:
        dataset.close()


@pytest.mark.parametrize("plane", ["zarr", "zarr-plain"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_stack_of_a_template_is_served(published, template, server, compared, plane, zarr_format):  # noqa: PLR0917
    code, said = template()
    assert code == 0, said.err
    assert "3 times from 2019-07-02 to 2021-07-02" in said.out
    with server() as url, opened(f"{url}/{plane}", zarr_format=zarr_format) as dataset:
        assert dataset.vx.dims == ("time", "y", "x")
        assert [str(time)[:10] for time in dataset.time.values] == ["2019-07-02", "2020-07-02", "2021-07-02"]
        assert [str(time)[:10] for time in dataset.time_bounds.values[1]] == ["2020-01-01", "2021-01-01"]
        assert np.array_equal(dataset.x, -200_000 + 120 * (np.arange(WIDTH) + 0.5))
        assert np.array_equal(dataset.y, -1_000_000 - 120 * (np.arange(HEIGHT) + 0.5))
        for (year, variable), data in published.items():
            found = dataset[variable].sel(time=f"{year}-07-02").values
            assert np.array_equal(found, read(data), equal_nan=True)
            compared(found)
        assert dataset.vx.attrs["units"] == "m/year"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("options", [{"compress": "lzw", "BIGTIFF": "YES"}, {"predictor": 2}])
def test_what_zarr_clients_cannot_undo_is_served_plain(  # noqa: PLR0917
    archive, listed, server, compared, zarr_format, options
):
    for year in YEARS:
        archive.files[f"{year}.tif"] = mosaic(year, **options)
    code, said = listed(*(f"{year}.tif {year} v" for year in YEARS))
    assert code == 0, said.err
    with server() as url:
        for group, number in (("", None), ("overview_4", 1)):
            with opened(f"{url}/zarr-plain", group=group, zarr_format=zarr_format) as dataset:
                for year in YEARS:
                    level = {} if number is None else {"overview_level": number}
                    found = dataset.v.sel(time=f"{year}-07-02").values
                    assert np.array_equal(found, read(archive.files[f"{year}.tif"], **level), equal_nan=True)
                    compared(found)
        with opened(f"{url}/zarr", zarr_format=zarr_format) as dataset:
            assert "v" not in dataset.variables
            assert dataset.sizes == {"time": 3, "y": HEIGHT, "x": WIDTH, "bounds": 2}
        with httpx.Client(base_url=url) as client:
            name = ".zarray" if zarr_format == 2 else "zarr.json"
            answer = client.get(f"/zarr/v/{name}")
            assert answer.status_code == 404
            assert "imagecodecs_" in answer.json()["detail"]
            row = client.get(
                f"/timeseries?x={-200_000 + 120 * 60.5}&y={-1_000_000 - 120 * 77.5}&variables=v&f=csv"
            )
            series = [float(line.split(",")[1]) for line in row.text.splitlines() if line.startswith("20")]
    assert series == [read(archive.files[f"{year}.tif"])[77, 60] for year in YEARS]


def test_tiles_pass_through_as_they_are(published, template, server):
    assert template()[0] == 0
    with server() as url, httpx.Client(base_url=url) as client:
        data = published[2020, "vy"]
        for chunk in ("1.0.0", "1.3.4", "1.2.1"):
            answer = client.get(f"/zarr/vy/{chunk}")
            assert answer.content in data


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_overviews_are_stacked_too(published, template, server, compared, zarr_format):
    assert template()[0] == 0
    with server() as url:
        with opened(f"{url}/zarr", zarr_format=zarr_format) as root:
            levels = [level["asset"] for level in root.attrs["multiscales"]["layout"]]
        assert levels == [".", "overview_2", "overview_4"]
        for number, level in enumerate(levels[1:]):
            with opened(f"{url}/zarr", group=level, zarr_format=zarr_format) as dataset:
                for (year, variable), data in published.items():
                    found = dataset[variable].sel(time=f"{year}-07-02").values
                    assert np.array_equal(found, read(data, overview_level=number), equal_nan=True)
                    compared(found)


def test_gdal_reads_the_plain_zarr_as_it_reads_the_files(published, template, server, compared):
    assert template()[0] == 0
    with server() as url:
        for path, level in (("vx", {}), ("overview_4/vx", {"overview_level": 1})):
            with rasterio.open(f'ZARR:"/vsicurl/{url}/zarr-plain":/{path}') as served:
                bands = served.read()
                for number, year in enumerate(YEARS):
                    with MemoryFile(published[year, "vx"]) as memory, memory.open(**level) as file:
                        assert np.array_equal(bands[number], file.read(1))
                        assert served.crs == file.crs
                        assert served.nodata == file.nodata
                        assert np.allclose(served.transform, file.transform)
                compared(bands)


def test_a_series_and_a_subset_have_the_values(published, template, server, compared):
    assert template()[0] == 0
    with server() as url, httpx.Client() as client:
        row, column = 77, 61
        x, y = -200_000 + 120 * (column + 0.5), -1_000_000 - 120 * (row + 0.5)
        text = client.get(f"{url}/timeseries?x={x}&y={y}&variables=vx,vy&f=csv").text
        rows = [line.split(",") for line in text.splitlines() if line.startswith("20")]
        expected = [[read(published[year, name])[row, column] for name in VARIABLES] for year in YEARS]
        assert np.array_equal(np.array([each[1:] for each in rows], "f8"), np.array(expected))
        compared(np.array(expected))
        box = f"{x - 60},{y - 600},{x + 600},{y + 60}"
        answer = client.get(f"{url}/subset?bbox={box}&bbox-crs=EPSG:3413&variables=vx&f=netcdf")
        assert answer.status_code == 200, answer.text
        with xr.open_dataset(answer.content, engine="h5netcdf") as dataset:
            part = np.stack([read(published[year, "vx"]) for year in YEARS])
            rows, columns = (slice(row, row + dataset.sizes["y"]), slice(column, column + dataset.sizes["x"]))
            assert dataset.sizes["y"] >= 5
            assert np.array_equal(dataset.vx.values, part[:, rows, columns], equal_nan=True)
            compared(dataset.vx.values)


def test_speed_and_direction_are_derived_of_the_components(published, template, server, compared, tmp_path):
    assert template()[0] == 0
    document = yaml.safe_load((tmp_path / "cubes" / "mosaics.yaml").read_text())
    assert sorted(document["derived"]) == ["direction", "speed"]
    x, y = -200_000 + 120 * 61.5, -1_000_000 - 120 * 77.5
    with server() as url, httpx.Client() as client:
        text = client.get(f"{url}/timeseries?x={x}&y={y}&variables=speed&f=csv").text
    found = [float(line.split(",")[1]) for line in text.splitlines() if line.startswith("20")]
    speeds = [np.hypot(*(read(published[year, name])[77, 61] for name in VARIABLES)) for year in YEARS]
    assert np.allclose(found, speeds, rtol=1e-6)
    compared(np.array(speeds))


def test_files_of_no_time_have_arrays_without_one(published, archive, listed, server, compared):
    archive.files["rock.tif"] = rock = mosaic(99, dtype="uint16", nodata=None, unit="")
    lines = [f"M_{year}_vx.tif {year} vx" for year in (2021, 2019)]
    code, said = listed(*lines, "rock.tif", options=["--variables", "rock"])
    assert code == 0, said.err
    with server() as url, opened(f"{url}/zarr") as dataset:
        assert dataset.rock.dims == ("y", "x")
        with MemoryFile(rock) as memory, memory.open() as file:
            assert np.array_equal(dataset.rock.values, file.read(1))
        compared(dataset.rock)
        for year in (2019, 2021):
            found = dataset.vx.sel(time=f"{year}-07-02").values
            assert np.array_equal(found, read(published[year, "vx"]), equal_nan=True)
            compared(found)


def test_only_files_of_no_time_make_a_cube_too(archive, listed, server, compared):
    archive.files["rock.tif"], archive.files["ice.tif"] = (mosaic(n, nodata=None, unit="") for n in (1, 2))
    code, said = listed("rock.tif", "ice.tif 2020-03-01 ice", options=["--variables", "rock"])
    assert code == 0, said.err
    code, said = listed("rock.tif", options=["--variables", "rock", "--json"])
    assert code == 0, said.err
    assert json.loads(said.out)["granules"] == [f"{archive.url}/data/rock.tif"]
    with server() as url, opened(f"{url}/zarr") as dataset:
        with MemoryFile(archive.files["rock.tif"]) as memory, memory.open() as file:
            assert np.array_equal(dataset.rock.values, file.read(1))
        compared(dataset.rock)
        assert "time" not in dataset.variables


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_are_kept(archive, listed, server, compared, interleave):
    for year in (2019, 2020):
        archive.files[f"b{year}.tif"] = mosaic(year, count=3, interleave=interleave, nodata=None)
    code, said = listed("b2019.tif 2019 rgb", "b2020.tif 2020 rgb")
    assert code == 0, said.err
    with server() as url, opened(f"{url}/zarr") as dataset:
        for number, year in enumerate((2019, 2020)):
            with MemoryFile(archive.files[f"b{year}.tif"]) as memory, memory.open() as file:
                found = dataset.rgb.isel(time=number).transpose("band", "y", "x").values
                assert np.array_equal(found, file.read())
                compared(found)


def test_a_list_in_csv_with_paths_of_its_own_folder(archive, build, tmp_path, server, compared):
    data = mosaic(5)
    (tmp_path / "a mosaic.tif").write_bytes(data)
    (tmp_path / "list.csv").write_text("variable, time, url\nvx, 2020-01-31T12:00:00Z, a mosaic.tif\n")
    code, said = build("--list", str(tmp_path / "list.csv"), "--title", "Some ice")
    assert code == 0, said.err
    with server() as url, opened(f"{url}/zarr") as dataset:
        assert dataset.time.values == [np.datetime64("2020-01-31T12:00:00")]
        assert "time_bounds" not in dataset.variables
        assert np.array_equal(dataset.vx.values[0], read(data), equal_nan=True)
        compared(dataset.vx)


def test_overviews_that_some_lack_are_left_out_with_a_note(published, archive, template, server):
    archive.files["M_2020_vx.tif"] = mosaic(4, overviews=[2])
    code, said = template("--json")
    assert code == 0, said.err
    reason = "not all files have this overview"
    assert json.loads(said.out)["not_served"] == {
        "overview_4/vx": reason, "overview_4/vy": reason
    }  # fmt: skip
    with server() as url, opened(f"{url}/zarr") as dataset:
        assert [level["asset"] for level in dataset.attrs["multiscales"]["layout"]] == [".", "overview_2"]


def test_a_sparse_file_beside_full_ones(published, archive, template, server, compared):
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", dtype="int16", count=1, height=HEIGHT, width=WIDTH, crs="EPSG:3413", transform=GRID,
            nodata=NODATA, tiled=True, blockxsize=32, blockysize=48, compress="deflate", SPARSE_OK=True,
        ) as file:  # fmt: skip
            file.write(np.full((1, 10, 10), 7, "i2"), window=rasterio.windows.Window(70, 60, 10, 10))
            file.units = ("m/year",)
        archive.files["M_2020_vx.tif"] = data = bytes(memory.getbuffer())
    code, said = template()
    assert code == 0, said.err
    with server() as url, opened(f"{url}/zarr") as dataset:
        found = dataset.vx.sel(time="2020-07-02").values
        assert np.array_equal(found, read(data), equal_nan=True)
        assert np.nansum(found) == 700
        compared(found)


def test_a_time_without_a_file_is_refused_unless_allowed(published, archive, listed, server, compared):
    lines = ["M_2019_vx.tif 2019 vx", "M_2019_vy.tif 2019 vy", "M_2020_vx.tif 2020 vx"]
    code, said = listed(*lines)
    assert code == 1
    assert "There is no file of 'vy' for 2020-07-02" in said.err
    code, said = listed(*lines, options=["--allow-gaps", "vy"])
    assert code == 0, said.err
    with server() as url, opened(f"{url}/zarr") as dataset:
        assert np.isnan(dataset.vy.sel(time="2020-07-02").values).all()
        assert np.array_equal(dataset.vy.values[0], read(published[2019, "vy"]), equal_nan=True)
        compared(dataset.vy)


def test_a_gap_of_what_has_no_nodata_is_refused(archive, listed):
    archive.files["a.tif"], archive.files["b.tif"] = mosaic(1), mosaic(2, nodata=None)
    lines = ["a.tif 2019 a", "a.tif 2020 a", "b.tif 2020 b"]
    code, said = listed(*lines, options=["--allow-gaps", "b"])
    assert code == 1
    assert "'b' has no nodata value" in said.err


MISFITS = {
    "another place": ({"transform": from_origin(-200_120, -1_000_000, 120, 120)}, r"grid of .*M_2019_vx.tif: .*M_2020_vx.tif (x"),
    "another size": ({"height": 151}, "M_2020_vx.tif (y)"),
    "another CRS": ({"crs": "EPSG:3995"}, "M_2020_vx.tif (spatial_ref)"),
    "another type": ({"dtype": "int32"}, "another dtype than"),
    "another nodata": ({"nodata": -9999}, "another fill value than"),
    "another codec": ({"compress": "zstd"}, "another codecs than"),
    "other tiles": ({"blockxsize": 64}, "another chunk shape than"),
    "another unit": ({"unit": "m/day"}, "another units than"),
    "LERC": ({"compress": "lerc"}, "compressed with LERC"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_named_and_nothing_is_mounted(published, archive, template, tmp_path, misfit):
    options, message = MISFITS[misfit]
    archive.files["M_2020_vx.tif"] = mosaic(1, **options)
    code, said = template()
    assert code == 1
    assert message.split(".*")[-1] in said.err
    assert "2020" in said.err
    assert visible(tmp_path / "cubes") == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["M_2019_vx.tif 2019 vx", "M_2020_vx.tif 2019 vx"], "are both of 'vx'"),
        (["M_2019_vx.tif 2019 vx", "M_2020_vx.tif"], "are both of 'vx'"),
        (["M_2019_vx.tif", "M_2020_vx.tif 2019 vx"], "are both of 'vx'"),
        (["M_2019_vx.tif 2019 x"], "cannot be called 'x'"),
        (["M_2019_vx.tif soon vx"], "Line 3 of the list: 'soon' is no time"),
        (["M_2019_vx.tif 2019 a/b"], "'a/b' is no name"),
        (["M_2019_vx.tif 2019 vx more"], "has more than url, time and variable"),
        (["nothing.json 2019 vx"], "does not end with .tif"),
    ],
)
def test_lists_that_make_no_sense_are_refused(published, listed, tmp_path, lines, message):
    code, said = listed(*lines, options=["--variables", "vx"])
    assert code
    assert message in said.err
    assert not list((tmp_path / "cubes").glob("*")) or visible(tmp_path / "cubes") == []


def test_a_build_that_fails_goes_on_where_it_was(published, archive, template, tmp_path, server):
    archive.broken.add("M_2020_vy.tif")
    code, said = template()
    assert code == 1
    assert "1 of 6 granules cannot be used: vy: " in said.err
    assert visible(tmp_path / "cubes") == []
    archive.broken.clear()
    archive.asked.clear()
    code, said = template()
    assert code == 0, said.err
    # the others are asked once whether they were replaced
    times = Counter(archive.asked)
    assert times.pop("M_2020_vy.tif") > 1
    assert set(times.values()) == {1}
    assert visible(tmp_path / "cubes") == ["mosaics.index", "mosaics.yaml"]
    assert not list((tmp_path / "cubes").glob(".*"))


def test_a_missing_file_is_named(published, template):
    code, said = template(years="2019-2022")
    assert code == 1
    assert "2 of 8 granules cannot be used" in said.err
    assert "M_2022_vx.tif" in said.err


def test_a_replaced_file_is_an_error(published, archive, template, server):
    assert template()[0] == 0
    archive.files["M_2020_vx.tif"] = mosaic(77)
    with server() as url, httpx.Client() as client:
        assert client.get(f"{url}/zarr/vx/1.0.0").status_code == 502
        assert client.get(f"{url}/zarr/vx/0.0.0").status_code == 200


def test_an_address_outside_the_upstreams_is_refused(build):
    code, said = build("--template", "https://example.org/{variable}.tif", "--variables", "v")
    assert code == 1
    assert "outside the configured upstreams" in said.err


@pytest.fixture
def bucket():
    """A bucket of mosaics that one user may read; gives its server's address, the user's keys, and the files."""
    files = {year: mosaic(year) for year in YEARS}
    with running_s3() as url:
        s3 = connect("s3", url)
        s3.create_bucket(Bucket="mosaics")
        for year, data in files.items():
            s3.put_object(Bucket="mosaics", Key=f"annual/{year}_v.tif", Body=data)
        keys = new_keys(connect("iam", url), "mosaics")
        with checked_access():
            yield url, keys, files


def test_a_stack_on_s3(bucket, tmp_path, capsys, serving, monkeypatch, compared):  # noqa: PLR0917
    endpoint, (key, secret), files = bucket
    environment = {"OUR_KEY": key, "OUR_SECRET": secret}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = tmp_path / "cubegate.yaml"
    configuration.write_text(
        "credentials: {ours: {kind: s3, access_key_id_env: OUR_KEY, secret_access_key_env: OUR_SECRET}}\n"
        f'upstreams: {{"s3://mosaics/": {{credentials: ours, endpoint_url: "{endpoint}", region: us-east-1}},\n'
        f' "{tmp_path.as_uri()}/": {{}}}}\ncollections: [cubes/*.yaml]\n'
    )
    template = ["--template", "s3://mosaics/annual/{year}_{variable}.tif", "--years", "2019-2021"]
    output = ["--variables", "v", "--id", "mosaics", "-o", str(tmp_path / "cubes")]
    assert main(["build", "cog-stack", *template, *output, "--config", str(configuration)]) == 0
    assert secret not in capsys.readouterr().out
    app = create_app(load_settings(configuration, {}), environment)
    with serving(app) as url, opened(f"{url}/datasets/mosaics/zarr") as dataset:
        for number, year in enumerate(YEARS):
            found = dataset.v.values[number]
            assert np.array_equal(found, read(files[year]), equal_nan=True)
            compared(found)


def test_real_radar_images_are_a_cube(tmp_path, capsys, serving, compared):
    folder = SHARED / "opera" / "rtc" / "T009-019294-IW2_VH_timeseries"
    if not folder.is_dir():
        pytest.skip("the shared OPERA RTC images are not beside the project")
    paths = sorted(folder.glob("*.tif"))
    days = [path.name.split("_")[4] for path in paths]
    lines = [f"{path.as_uri()} {day[:8]} vh" for path, day in zip(paths, days, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    configuration = tmp_path / "cubegate.yaml"
    configuration.write_text(
        f'upstreams: {{"{folder.as_uri()}/": {{}}, "{tmp_path.as_uri()}/": {{}}}}\ncollections: [cubes/*.yaml]\n'
    )
    options = ["--list", str(tmp_path / "list.txt"), "--id", "mosaics", "-o", str(tmp_path / "cubes")]
    assert main(["build", "cog-stack", *options, "--config", str(configuration)]) == 0, (
        capsys.readouterr().err
    )
    app = create_app(load_settings(configuration, {}), {})
    with serving(app) as url:
        for zarr_format in (2, 3):
            with opened(f"{url}/datasets/mosaics/zarr", zarr_format=zarr_format) as dataset:
                assert dataset.sizes["time"] == len(paths) == 5
                for number, path in enumerate(paths):
                    with rasterio.open(path) as file:
                        assert np.array_equal(dataset.vh.values[number], file.read(1), equal_nan=True)
                    compared(dataset.vh[number])


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020", "2020-07-02"), ("2020-01-31", "2020-01-31"), ("20200131", "2020-01-31"),
        ("2020-01-31T01:02:03Z", "2020-01-31T01:02:03"), ("2020-01-31 01:02", "2020-01-31T01:02"),
    ],
)  # fmt: skip
def test_times_as_people_write_them(text, time):
    moment = parse_moment(text)
    assert moment.time == np.datetime64(time)
    assert (moment.bounds is None) == (text != "2020")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "202",
        "2020-13-01",
        "20201301",
        "2020-01",
        "now",
        "2020-01-31T25:00",
        "9" * 99,
        "1600",
        "2262",
        "9999-12-31",
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(InvalidParameter):
        parse_moment(text)


def test_templates_are_filled_in():
    files = expand("s3://b/{date}/{variable}_{date}.tif", years=[], dates=["20200131"], variables=["a", "b"])
    assert files == [
        CogFile("s3://b/20200131/a_20200131.tif", "a", parse_moment("2020-01-31")),
        CogFile("s3://b/20200131/b_20200131.tif", "b", parse_moment("2020-01-31")),
    ]
    assert expand("f.tif", years=["2020"], dates=[], variables=["a"]) == [CogFile("f.tif", "a")]
    assert parse_years("2014-2016,2020") == ["2014", "2015", "2016", "2020"]


@pytest.mark.parametrize(
    "template", ["{year}{date}.tif", "{month}.tif", "{0}.tif", "{year.__class__}.tif", "{date}.tif"]
)
def test_templates_that_cannot_be_filled_in(template):
    with pytest.raises(InvalidParameter):
        expand(template, years=["2020"], dates=[], variables=["a"])


@pytest.mark.parametrize("text", ["", "# nothing\n", "url,time\na.tif,2020,more\n", "url,time\n,2020\n"])
def test_lists_that_name_nothing(text):
    with pytest.raises(InvalidParameter):
        read_list(text, variable="a")
