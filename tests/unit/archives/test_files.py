"""A pile of HDF5 or netCDF files becomes a served cube of h5py's values, or a report of what does not fit."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr
from tests.s3_server import checked_access, connect, new_keys, running_s3
from tests.unit.archives.archive import running_archive

from cubegate.app import create_app
from cubegate.cli import main
from cubegate.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
HEIGHT, WIDTH = 30, 40
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def pile(tmp_path):
    folder = tmp_path / "pile"
    folder.mkdir()
    return folder


def write(
    path, day, count=1, *, units="days since 2020-01-01", chunk=1, dtype="f4", west=0.0, skip=(), times=None
):
    """Write `count` days from `day`; returns the values of `v`."""
    random = np.random.default_rng(day)
    values = random.normal(size=(count, HEIGHT, WIDTH)).astype(dtype)
    start = FIRST if units.endswith("2020-01-01") else datetime(2019, 12, 31, tzinfo=UTC)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", None), ("lat", HEIGHT), ("lon", WIDTH), ("nv", 2)):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.standard_name = units, "time"
        days = [(FIRST + timedelta(days=day + n) - start) / timedelta(days=1) for n in range(count)]
        time[:] = days if times is None else times
        file.createVariable("lat", "f4", ("lat",))[:] = np.arange(HEIGHT)
        file.createVariable("lon", "f4", ("lon",))[:] = west + np.arange(WIDTH)
        chunks = (chunk, 16, 16)
        if "v" not in skip:
            array = file.createVariable(
                "v", dtype, ("time", "lat", "lon"), zlib=True, chunksizes=chunks, fill_value=-1
            )
            array.units = "m"
            array[:] = values
        if "mask" not in skip:
            mask = file.createVariable("mask", "u1", ("lat", "lon"), zlib=True)
            mask[:] = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3
        bounds = file.createVariable("hours", "i2", ("time", "nv"), chunksizes=(32, 2))
        bounds[:] = np.arange(2 * count).reshape(count, 2) + day
        quality = file.createGroup("quality")
        quality.createVariable("flag", "i2", ("time", "lat", "lon"), zlib=True, chunksizes=chunks)[:] = day
        file.title, file.day = "a pile", f"2020-01-{day + 1:02}"
    return values


@pytest.fixture
def configuration(tmp_path):
    cubes = tmp_path / "cubes"
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f'upstreams: {{"{cubes.as_uri()}/": {{}}, "{(tmp_path / "pile").as_uri()}/": {{}}}}\n'
        "collections: [cubes/*.yaml]\n"
    )
    return file


@pytest.fixture
def build(configuration, tmp_path, capsys):
    """Run the command; returns its exit code, and what it printed."""

    def build(*options, concat="time"):
        paths = ("-o", str(tmp_path / "cubes"), "--config", str(configuration))
        code = main(["build", "files", "--concat", concat, *paths, *options])
        return code, capsys.readouterr()

    return build


@pytest.fixture
def served(configuration, serving):
    """Open the cube as a client does, while the context lasts."""

    @contextlib.contextmanager
    def served(group=None, **options):
        environment = options.pop("environment", {})
        app = create_app(load_settings(configuration, {}), environment)
        with serving(app) as url:
            address = f"{url}/datasets/files/zarr"
            with xr.open_zarr(address, group=group, zarr_format=2, **options) as cube:
                yield cube

    return served


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_files_of_one_date_each_become_a_cube(pile, build, served, tmp_path, compared):
    values = {day: write(pile / f"f{day}.nc", day) for day in (3, 0, 7)}
    code, said = build(f"{pile}/*.nc")
    assert code == 0, said.err
    assert visible(tmp_path / "cubes") == ["files.index", "files.yaml"]
    with served() as cube:
        assert [str(time)[:10] for time in cube.time.values] == ["2020-01-01", "2020-01-04", "2020-01-08"]
        found = cube.v.values
        for n, day in enumerate((0, 3, 7)):
            np.testing.assert_array_equal(found[n], values[day][0])
            with h5py.File(pile / f"f{day}.nc") as file:
                np.testing.assert_array_equal(found[n], file["v"][0])
                np.testing.assert_array_equal(cube.hours.values[n], file["hours"][0])
        np.testing.assert_array_equal(cube["mask"].values.reshape(-1), np.arange(HEIGHT * WIDTH) % 3)
        assert cube.attrs["title"] == "a pile"
        compared(found)


def test_a_series_over_http_is_that_of_the_files(pile, build, configuration, serving):
    values = [write(pile / f"f{day}.nc", day) for day in range(4)]
    assert build(str(pile))[0] == 0
    with serving(create_app(load_settings(configuration, {}), {})) as url:
        answer = httpx.get(f"{url}/datasets/files/timeseries?x=5&y=7&variables=v&f=json")
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["variables"]["v"]["values"], [each[0, 7, 5] for each in values])


def test_files_of_several_dates_are_joined_at_chunk_boundaries(pile, build, served):
    parts = [write(pile / f"f{day:02}.nc", day, count, chunk=2) for day, count in ((0, 4), (4, 2), (6, 3))]
    code, said = build(f"{pile}/*.nc")
    assert code == 0, said.err
    with served() as cube:
        np.testing.assert_array_equal(cube.v.values, np.concatenate(parts))
        assert cube.sizes["time"] == 9
    with served(group="quality") as cube:
        np.testing.assert_array_equal(cube.flag.values[:, 0, 0], [0] * 4 + [4] * 2 + [6] * 3)


def test_chunks_that_do_not_end_with_their_file_are_refused_with_the_reason(
    pile, build, tmp_path, monkeypatch
):
    monkeypatch.setattr("cubegate.archives.piece._TINY_NBYTES", 64)
    monkeypatch.setattr("cubegate.archives.piece.SMALL_NBYTES", 4096)
    for day, count in ((0, 4), (4, 3), (7, 4)):
        write(pile / f"f{day}.nc", day, count, chunk=2)
    code, said = build(f"{pile}/*.nc")
    assert code == 1
    assert "stored in chunks of 2 places, and they do not end where the files end (f4.nc)" in said.err
    assert visible(tmp_path / "cubes") == []


def test_times_counted_from_different_days_are_brought_together(pile, build, served):
    write(pile / "a.nc", 0)
    write(pile / "b.nc", 1, units="days since 2019-12-31")
    write(pile / "c.nc", 2)
    assert build(f"{pile}/*.nc")[0] == 0
    with served() as cube:
        assert [str(time)[:10] for time in cube.time.values] == ["2020-01-01", "2020-01-02", "2020-01-03"]


def odd_pile(pile):
    """Three files that fit, and one of each kind that does not; returns what is said of these."""
    for day in range(3):
        write(pile / f"good{day}.nc", day)
    write(pile / "grid.nc", 4, west=0.5)
    write(pile / "type.nc", 5, dtype="f8")
    write(pile / "lacking.nc", 6, skip=("v",))
    write(pile / "twice.nc", 2)
    (pile / "corrupt.nc").write_bytes((pile / "good0.nc").read_bytes()[:3000])
    (pile / "page.nc").write_text("<html>log in</html>")
    return {
        "grid.nc": "has another grid: 'lon' has other values",
        "type.nc": "has another type (float64, not float32) in 'v'",
        "lacking.nc": "has no array 'v'",
        "twice.nc": "has the place 2.0 that good2.nc has too",
        "corrupt.nc": "is damaged, or no HDF5 file",
        "page.nc": "is damaged, or no HDF5 file",
    }


def test_all_files_that_do_not_fit_are_reported_with_their_reasons(pile, build, tmp_path):
    expected = odd_pile(pile)
    code, said = build(f"{pile}/*.nc")
    assert code == 1
    assert "6 of 9 files cannot be joined" in said.err
    lines = said.err.splitlines()
    for name, reason in expected.items():
        assert any(line.strip().startswith(f"{name}: ") and reason in line for line in lines), name
    assert "Traceback" not in said.err
    assert visible(tmp_path / "cubes") == []


def test_files_that_do_not_fit_are_left_out_where_that_is_asked_for(pile, build, served):
    expected = odd_pile(pile)
    code, said = build(f"{pile}/*.nc", "--leave-out", "--json")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["granules"] == ["good0.nc", "good1.nc", "good2.nc"]
    assert set(report["left_out"]) == set(expected)
    for name, reason in expected.items():
        assert reason in report["left_out"][name]
    with served() as cube:
        assert cube.sizes["time"] == 3


def test_what_means_missing_must_be_the_same_in_small_arrays_too(pile, build):
    for day in range(3):
        write(pile / f"f{day}.nc", day)
        with h5py.File(pile / f"f{day}.nc", "a") as file:
            file["mask"].attrs["missing_value" if day < 2 else "_FillValue"] = np.uint8(2)
    code, said = build(f"{pile}/*.nc")
    assert code == 1
    assert "f2.nc: has another missing value (2, not None) in 'mask'" in said.err
    assert "has another missing_value (None, not 2) in 'mask'" in said.err


def test_small_arrays_may_be_compressed_in_different_ways(pile, build, served):
    for day in range(3):
        write(pile / f"f{day}.nc", day)
    with h5py.File(pile / "f1.nc", "a") as file:
        values, scales = file["mask"][()], [file["lat"], file["lon"]]
        del file["mask"]
        array = file.create_dataset("mask", data=values)
        for axis, scale in enumerate(scales):
            array.dims[axis].attach_scale(scale)
    code, said = build(f"{pile}/*.nc")
    assert code == 0, said.err
    with served() as cube:
        np.testing.assert_array_equal(cube["mask"].values, values)


def test_an_order_that_is_broken_is_reported(pile, build):
    write(pile / "a.nc", 0, 3, times=[5.0, 1.0, 3.0])
    write(pile / "b.nc", 4, 2, times=[2.0, 8.0])
    code, said = build(f"{pile}/*.nc", "--json")
    assert code == 0, said.err
    notes = " ".join(json.loads(said.out)["notes"])
    assert "a.nc has its places in another order than ascending" in notes
    assert "b.nc begins before a.nc ends" in notes


def test_a_missing_chunk_is_refused_unless_it_is_allowed(pile, build):
    for day in range(3):
        with h5py.File(pile / f"f{day}.h5", "w") as file:
            file["time"] = np.array([float(day)])
            file["time"].make_scale("time")
            array = file.create_dataset("v", (1, 8, 8), "f4", chunks=(1, 4, 4), compression="gzip")
            array.dims[0].attach_scale(file["time"])
            array[:, :, :4] = day
            if day != 1:
                array[:, :, 4:] = day
    code, said = build(f"{pile}/*.h5")
    assert code == 1
    assert "Array 'v' lacks chunks that the files beside have, in f1.h5 first" in said.err
    assert build(f"{pile}/*.h5", "--allow-gaps", "v")[0] == 0


def flat(path, day):
    """Write a file without a time dimension; returns its values."""
    values = np.random.default_rng(day).normal(size=(8, 8)).astype("f4")
    with h5py.File(path, "w") as file:
        for name in ("y", "x"):
            file[name] = np.arange(8.0)
            file[name].make_scale(name)
        array = file.create_dataset("v", data=values, chunks=(4, 4), compression="gzip")
        array.dims[0].attach_scale(file["y"])
        array.dims[1].attach_scale(file["x"])
        file["when"] = float(day)
        file["when"].attrs["units"] = "days since 2020-01-01"
        file.attrs["acquired"] = f"2020-01-{day + 1:02}T12:00:00Z"
    return values


@pytest.mark.parametrize(
    "options",
    [("--concat-by", "when"), ("--concat-by", "acquired"), ("--date-from", r"scene_(\d{8})")],
    ids=["variable", "attribute", "name"],
)
def test_files_without_the_dimension_are_stacked_by_a_date_of_each(pile, build, served, options):
    values = {day: flat(pile / f"scene_202001{day + 1:02}.h5", day) for day in (5, 1, 3)}
    code, said = build(f"{pile}/*.h5", *options)
    assert code == 0, said.err
    with served() as cube:
        assert [str(time)[:10] for time in cube.time.values] == ["2020-01-02", "2020-01-04", "2020-01-06"]
        np.testing.assert_array_equal(cube.v.values, np.stack([values[day] for day in (1, 3, 5)]))


def test_without_a_date_it_is_said_what_is_due(pile, build):
    flat(pile / "scene.h5", 0)
    code, said = build(f"{pile}/*.h5")
    assert code == 1
    assert "--concat-by NAME of a variable or attribute, or --date-from REGEX" in said.err
    code, said = build(f"{pile}/*.h5", "--date-from", "([")
    assert code == 1
    assert "is no regular expression" in said.err


def test_no_file_is_an_error_that_names_the_pattern(pile, build):
    code, said = build(f"{pile}/none*.nc")
    assert code == 1
    assert "There is no file at" in said.err


def test_a_build_that_failed_goes_on_with_what_it_read(pile, build, tmp_path):
    for day in range(2):
        write(pile / f"f{day}.nc", day)
    (pile / "f2.nc").write_bytes(b"cut")
    assert build(f"{pile}/*.nc")[0] == 1
    kept = list((tmp_path / "cubes" / ".files.parts").glob("*.index"))
    assert len(kept) == 2
    made = {path: path.stat().st_mtime_ns for path in kept}
    write(pile / "f2.nc", 2)
    (pile / "f3.nc").write_bytes(b"cut")
    assert build(f"{pile}/*.nc")[0] == 1
    assert {path: path.stat().st_mtime_ns for path in kept} == made
    (pile / "f3.nc").unlink()
    assert build(f"{pile}/*.nc")[0] == 0
    assert visible(tmp_path / "cubes") == ["files.index", "files.yaml"]


def test_a_file_that_was_replaced_meanwhile_is_read_again(pile, build, served):
    write(pile / "f0.nc", 0)
    write(pile / "f1.nc", 1)
    (pile / "f2.nc").write_bytes(b"cut")
    assert build(f"{pile}/*.nc")[0] == 1
    values = write(pile / "f1.nc", 5)
    (pile / "f2.nc").unlink()
    assert build(f"{pile}/*.nc")[0] == 0
    with served() as cube:
        assert str(cube.time.values[1])[:10] == "2020-01-06"
        np.testing.assert_array_equal(cube.v.values[1], values[0])


def test_files_on_a_server_are_joined(tmp_path, build, served, configuration):
    with running_archive() as archive:
        configuration.write_text(
            f'upstreams: {{"{archive.url}/data/": {{}}, "{(tmp_path / "cubes").as_uri()}/": {{}}}}\n'
            "collections: [cubes/*.yaml]\n"
        )
        values = []
        for day in range(3):
            values.append(write(tmp_path / f"f{day}.nc", day))
            archive.files[f"f{day}.nc"] = (tmp_path / f"f{day}.nc").read_bytes()
        urls = [f"{archive.url}/data/f{day}.nc" for day in range(4)]
        code, said = build(*urls)
        assert code == 1
        assert "1 of 4 files cannot be joined" in said.err
        assert "f3.nc" in said.err
        code, said = build(*urls[:3])
        assert code == 0, said.err
        with served() as cube:
            np.testing.assert_array_equal(cube.v.values, np.concatenate(values))


def test_files_of_a_bucket_that_asks_who_reads_it(tmp_path, build, served, configuration, monkeypatch):
    with running_s3() as url:
        s3 = connect("s3", url)
        s3.create_bucket(Bucket="pile")
        values = []
        for day in range(3):
            path = tmp_path / f"f{day}.nc"
            values.append(write(path, day))
            s3.upload_file(str(path), "pile", f"data/f{day}.nc")
        key, secret = new_keys(connect("iam", url), "pile")
        monkeypatch.setenv("PILE_KEY", key)
        monkeypatch.setenv("PILE_SECRET", secret)
        configuration.write_text(
            "credentials: {ours: {kind: s3, access_key_id_env: PILE_KEY, secret_access_key_env: PILE_SECRET}}\n"
            f'upstreams: {{"s3://pile/": {{credentials: ours, endpoint_url: "{url}"}}, '
            f'"{(tmp_path / "cubes").as_uri()}/": {{}}}}\n'
            "collections: [cubes/*.yaml]\n"
        )
        with checked_access():
            for pattern in ("s3://pile/data/", "s3://pile/data/f*.nc"):
                code, said = build(pattern)
                assert code == 0, said.err
                assert secret not in said.out
            environment = {"PILE_KEY": key, "PILE_SECRET": secret}
            with served(environment=environment) as cube:
                np.testing.assert_array_equal(cube.v.values, np.concatenate(values))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real files are not beside the project")
def test_real_files_become_cubes(build, served, configuration, compared):
    text = configuration.read_text()
    configuration.write_text(text.replace("upstreams: {", f'upstreams: {{"{SHARED.as_uri()}/": {{}}, '))
    sst = SHARED / "grids/xarray_data/sst.mnmean.nc"
    code, said = build(str(sst))
    assert code == 0, said.err
    with (
        h5py.File(sst, "r", locking=False) as file,
        served(mask_and_scale=False, decode_times=False) as cube,
    ):
        np.testing.assert_array_equal(cube.sst.values, file["sst"][()])
        np.testing.assert_array_equal(cube.time.values, file["time"][()])
        compared(cube.sst)
    slcs = SHARED / "opera/dolphin/baseline_cslcs"
    code, said = build(f"{slcs}/*.h5", "--date-from", r"_(\d{8}T\d{6})Z_", "--group", "data")
    assert code == 1
    assert "of 2 files cannot be joined" in said.err
    assert "has another grid" in said.err


@pytest.mark.parametrize("name", ["../there", "a/b", ".hidden", "a b"])
def test_an_id_that_no_collection_can_have_is_refused(pile, build, tmp_path, name):
    write(pile / "a.nc", 0)
    code, said = build(str(pile), "--id", name)
    assert code == 1
    assert "is no id" in said.err
    assert not [
        path for path in tmp_path.rglob("*") if path.suffix in {".yaml", ".index"} and path.parent != tmp_path
    ]


def test_an_output_that_cannot_be_written_is_named(pile, build, tmp_path):
    write(pile / "a.nc", 0)
    (tmp_path / "cubes").write_text("a file")
    code, said = build(str(pile))
    assert code == 1
    assert "cubegate: " in said.err
    assert str(tmp_path / "cubes") in said.err.replace("\n", "")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real files are not beside the project")
def test_a_real_pile_of_which_two_files_have_a_month_in_common(build, served, configuration, compared):
    text = configuration.read_text()
    configuration.write_text(text.replace("upstreams: {", f'upstreams: {{"{SHARED.as_uri()}/": {{}}, '))
    folder = SHARED / "grids/xclim_testdata/cmip5"
    code, said = build(f"{folder}/tas_Amon_HadGEM2*.nc")
    assert code == 1
    assert "1 of 13 files cannot be joined" in said.err
    assert "209912-212411.nc: has the place 86415.0 that tas_Amon_HadGEM2-ES_rcp85_r1i1p1_208012" in said.err
    assert build(f"{folder}/tas_Amon_HadGEM2*.nc", "--leave-out")[0] == 0
    paths = [path for path in sorted(folder.glob("tas_Amon_HadGEM2*.nc")) if "209912-212411" not in path.name]
    parts, times = [], []
    for path in paths:
        with netCDF4.Dataset(path) as file:
            file.set_auto_mask(False)
            parts.append(file["tas"][...])
            times.append(file["time"][...])
    with served(mask_and_scale=False, decode_times=False) as cube:
        np.testing.assert_array_equal(cube.tas.values, np.concatenate(parts))
        np.testing.assert_array_equal(cube.time.values, np.concatenate(times))
        compared(cube.tas)
