"""What a DISP-S1 cube is made of: references of each kind, one granule alone, a stack of references."""

import contextlib
import gzip
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import httpx
import numpy as np
import pytest
import xarray as xr
from tests.earthdata_double.double import running_double
from tests.unit.archives.archive import FRAME, granule_name
from tests.unit.index.builders.dmrpp_writer import describe

from cubegate.app import create_app
from cubegate.cli import main
from cubegate.settings import load_settings

CUBE = f"opera-f{FRAME}"
SECONDARY = ["20200104T140734", "20200116T140733", "20200128T140733", "20200209T140733"]
SIDECAR = ".zarr.json.gz"


def time_of(text):
    return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[9:11]}:{text[11:13]}:{text[13:]}", "ns")


@pytest.fixture
def publish(archive, tmp_path, write_granule, scan_granule):
    """Publish a granule of one date; returns its name and its path."""

    def publish(number, **options):
        name = granule_name(SECONDARY[number])
        path = tmp_path / f"{name}.nc"
        write_granule(path, number, **options)
        archive.add(name, path, scan_granule(path, inline_threshold=0))
        return name, path

    return publish


@pytest.fixture
def build(configuration, tmp_path, capsys):
    """Run the command; returns its exit code, and what it printed."""

    def build(*options):
        where = ["-o", str(tmp_path / "cubes"), "--config", str(configuration)]
        code = main(["build", "opera-disp-s1", *where, *options])
        return code, capsys.readouterr()

    return build


@pytest.fixture
def served(configuration, serving):
    """Open a cube that has been built, as xarray does."""

    @contextlib.contextmanager
    def served(name):
        with serving(create_app(load_settings(configuration, {}), {})) as url:
            yield xr.open_zarr(f"{url}/datasets/{name}/zarr", chunks=None, zarr_format=2)

    return served


@pytest.fixture
def frame(archive, publish, build, served, write_granule, scan_granule):  # noqa: PLR0917
    """Everything that a test does with the archive and its cubes."""

    def publish_as(name, path, seed):
        values = write_granule(path, seed)
        archive.add(name, path, scan_granule(path, inline_threshold=0))
        return values

    return SimpleNamespace(
        archive=archive, publish=publish, publish_as=publish_as, build=build, served=served
    )


def values_in(path):
    with h5py.File(path) as file:
        return file["displacement"][:]


@pytest.mark.parametrize("by", ["name", "address", "address of its references"])
def test_one_granule_alone_is_a_cube(frame, compared, by):
    name, path = frame.publish(1)
    frame.publish(2)
    asked = {
        "name": name,
        "address": f"{frame.archive.url}/data/{name}.nc",
        "address of its references": f"{frame.archive.url}/data/{name}{SIDECAR}",
    }[by]
    code, said = frame.build("--granule", asked, "--json")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["id"] == f"{CUBE}-20200116"
    assert report["references"] == {name: "nc" if by == "address" else "zarr.json.gz"}
    with frame.served(report["id"]) as dataset:
        assert list(dataset.time.values) == [time_of(SECONDARY[1])]
        assert np.array_equal(dataset.displacement.values, values_in(path)[None])
        compared(dataset.displacement.values)
    asked = [query for query, _ in frame.archive.searches]
    assert all(("granule_ur[]", name) in query for query in asked)
    assert bool(asked) == (by == "name")


def test_a_cube_has_displacement_that_is_continuous(frame, configuration, serving, tmp_path, compared):
    first = ["20191223T140734", "20191223T140734", "20200116T140733", "20200116T140733"]
    expected = []
    for number, (reference, secondary) in enumerate(zip(first, SECONDARY, strict=True)):
        name = granule_name(secondary, reference)
        path = tmp_path / f"{name}.nc"
        values = frame.publish_as(name, path, number)
        # the second date is the reference of those behind it
        expected.append(values if number < 2 else values + expected[1])
    code, said = frame.build("--frame", str(FRAME))
    assert code == 0, said.err
    with serving(create_app(load_settings(configuration, {}), {})) as url:
        query = "x=500030&y=3999970&variables=displacement_continuous&f=csv"
        answer = httpx.get(f"{url}/datasets/{CUBE}/timeseries?{query}").text
    lines = [line for line in answer.splitlines() if line.startswith("20")]
    found = [float(line.split(",")[1]) for line in lines]
    np.testing.assert_allclose(found, [values[1, 1] for values in expected], rtol=1e-5)
    compared(np.array(found))


@pytest.mark.parametrize("asked", ["OPERA_nothing", "https://host/OPERA_nothing.nc"])
def test_what_is_no_granule_is_said(frame, asked):
    code, said = frame.build("--granule", asked, "--id", "x")
    assert code == 1
    assert "no product" in said.err or "DISP-S1 product" in said.err


def test_each_granule_is_read_by_the_best_that_it_ships_and_the_report_says_which(frame, compared):
    made = dict(frame.publish(number) for number in range(4))
    names = sorted(made)
    for name in names[1:3]:
        del frame.archive.files[f"{name}{SIDECAR}"]
    for name in names[:2]:
        frame.archive.files[f"{name}.nc.dmrpp"] = describe(made[name]).encode()
    code, said = frame.build("--frame", str(FRAME), "--json")
    assert code == 0, said.err
    assert json.loads(said.out)["references"] == dict(
        zip(names, ("zarr.json.gz", "dmrpp", "nc", "zarr.json.gz"), strict=True)
    )
    with frame.served(CUBE) as dataset:
        for number, name in enumerate(names):
            assert np.array_equal(dataset.displacement.values[number], values_in(made[name]))
            compared(dataset.displacement.values[number])
    code, said = frame.build("--frame", str(FRAME))
    assert "2 read by .zarr.json.gz" in said.out
    assert f"1 read by .dmrpp: {names[1]}" in said.out


@pytest.mark.parametrize("damage", ["cut", "not JSON", "not there"])
def test_references_that_are_damaged_are_never_replaced_by_others(frame, tmp_path, damage):
    names = [frame.publish(number)[0] for number in range(3)]
    sidecar = f"{names[1]}{SIDECAR}"
    if damage == "not there":
        # the archive lists it all the same
        frame.archive.broken.add(sidecar)
    else:
        data = frame.archive.files[sidecar]
        frame.archive.files[sidecar] = data[: len(data) // 2] if damage == "cut" else gzip.compress(b"<html>")
    code, said = frame.build("--frame", str(FRAME))
    assert code == 1
    assert names[1] in " ".join(said.err.split())
    assert not list((tmp_path / "cubes").glob("[!.]*"))
    assert f"{names[1]}.nc" not in frame.archive.asked


def stack_of(archive, publish, order, dates, *, text=False):
    """References of several granules as ASF stacks them, in the order of `order`."""
    found = {".zgroup": '{"zarr_format": 2}', ".zattrs": "{}"}
    published = {number: publish(number) for number in sorted(order)}
    names = [published[number][0] for number in order]
    parts = [json.loads(gzip.decompress(archive.files[f"{name}{SIDECAR}"]))["refs"] for name in names]
    array = json.loads(parts[0]["displacement/.zarray"])
    array |= {"shape": [len(order), *array["shape"]], "chunks": [1, *array["chunks"]]}
    found["displacement/.zarray"] = json.dumps(array)
    found["displacement/.zattrs"] = '{"_ARRAY_DIMENSIONS": ["source_file_name", "y", "x"], "units": "m"}'
    for key in ("y", "x", "spatial_ref"):
        found |= {name: value for name, value in parts[0].items() if name.startswith(f"{key}/")}
    for number, part in enumerate(parts):
        for key, value in part.items():
            if key.startswith("displacement/") and ".z" not in key:
                found[f"displacement/{number}.{key.rpartition('/')[2]}"] = value

    def add(name, values, attributes):
        document = {
            "zarr_format": 2, "shape": [len(values)], "chunks": [len(values)], "dtype": values.dtype.str,
            "compressor": None, "filters": None, "fill_value": None, "order": "C",
        }  # fmt: skip
        found[f"{name}/.zarray"] = json.dumps(document)
        found[f"{name}/.zattrs"] = json.dumps({"_ARRAY_DIMENSIONS": ["source_file_name"], **attributes})
        found[f"{name}/0"] = values.tobytes().decode("latin-1")

    add("source_file_name", np.array([name.encode() for name in names]), {})
    add("height", np.array([65 + number for number in order], "u1"), {"units": "m"})
    if dates:
        # days since the first of all, of which each is one character
        days = np.array([33 + 12 * number for number in order], "u1")
        units = {"units": "days since 2019-12-02T14:07:33", "calendar": "standard"}
        add("secondary_datetime", days, units)
        add("reference_datetime", np.full(len(order), 33, "u1"), units)
    archive.files["OPERA_L3_DISP-S1_IW_F11116_VV_V1_displacement.zarr.json.gz"] = gzip.compress(
        json.dumps({"version": 1, "refs": found}).encode()
    )
    return f"{archive.url}/data/OPERA_L3_DISP-S1_IW_F11116_VV_V1_displacement.zarr.json.gz", published


@pytest.mark.parametrize("dates", [True, False])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_a_stack_of_references_gets_its_time_axis(frame, compared, dates, order):
    url, published = stack_of(frame.archive, frame.publish, order, dates)
    code, said = frame.build("--stack", url, "--json")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["id"] == CUBE
    assert report["not_served"] == {}
    with frame.served(CUBE) as dataset:
        assert dataset.displacement.dims == ("time", "y", "x")
        expected = (
            [
                np.datetime64("2020-01-04T14:07:33", "ns") + number * np.timedelta64(12, "D")
                for number in range(4)
            ]
            if dates
            else [time_of(text) for text in SECONDARY]
        )
        assert list(dataset.time.values) == expected
        first = "2020-01-04T14:07:33" if dates else "2019-12-23T14:07:34"
        assert (dataset.reference_time.values == np.datetime64(first)).all()
        assert list(dataset.height.values) == [65, 66, 67, 68]
        for number in range(4):
            name, path = published[number]
            assert dataset.source_file_name.values[number].decode() == name
            assert np.array_equal(dataset.displacement.values[number], values_in(path))
            compared(dataset.displacement.values[number])


def test_a_stack_without_dates_or_of_other_references_is_refused(frame, tmp_path):
    url, _ = stack_of(frame.archive, frame.publish, [0, 1], dates=False)
    file = url.rpartition("/")[2]
    text = gzip.decompress(frame.archive.files[file]).decode()
    renamed = text.replace(f"{granule_name(SECONDARY[0])}.nc", f"{granule_name(SECONDARY[1])}.nc")
    unnamed = text
    for number, secondary in enumerate(SECONDARY[:2]):
        frame.archive.files[f"plain{number}.nc"] = frame.archive.files[f"{granule_name(secondary)}.nc"]
        unnamed = unnamed.replace(f"{granule_name(secondary)}.nc", f"plain{number}.nc")
    for document, message in (
        (renamed, "Two granules of the stack are both of 2020-01-16T14:07:33"),
        (unnamed, "granule 0 of it is not named by its dates"),
        (text.replace("source_file_name", "something"), "no stack of granules along 'source_file_name'"),
    ):
        frame.archive.files[file] = gzip.compress(document.encode())
        code, said = frame.build("--stack", url)
        assert code == 1
        assert message in " ".join(said.err.split())
        assert not list((tmp_path / "cubes").glob("[!.]*"))


def test_what_a_stack_does_not_take_is_said(frame):
    code, said = frame.build("--stack", "http://127.0.0.1:9/x.json", "--start", "2020-01-01", "--id", "x")
    assert code == 1
    assert "--start chooses granules" in said.err
    code, said = frame.build("--stack", "http://127.0.0.1:9/x.json")
    assert code == 1
    assert "--frame or --id" in said.err


def test_a_token_that_ends_during_a_build_is_said_and_the_build_goes_on(frame, tmp_path, monkeypatch, capsys):
    names = [frame.publish(number)[0] for number in range(4)]
    with running_double(frame.archive.files) as double:
        secrets = double.secrets
        for name in names:
            for suffix in (".nc", SIDECAR):
                data = frame.archive.files[f"{name}{suffix}"]
                if suffix == SIDECAR:
                    moved = (
                        gzip.decompress(data)
                        .decode()
                        .replace(f"{frame.archive.url}/data/", double.granules_url)
                    )
                    data = gzip.compress(moved.encode())
                double.objects[f"{name}{suffix}"] = data
        monkeypatch.setattr(frame.archive, "data_url", double.granules_url)
        file = tmp_path / "earthdata.yaml"
        file.write_text(
            f'archives: {{cmr: "{frame.archive.url}"}}\n'
            "credentials: {earthdata: {kind: earthdata, token_env: TOKEN, "
            f'login: "{double.login_url}"}}}}\n'
            f'upstreams: {{"{double.granules_url}": {{credentials: earthdata}}, "{double.objects_url}": {{}}}}\n'
        )
        command = ["build", "opera-disp-s1", "--frame", str(FRAME), "-o", str(tmp_path / "cubes")]
        command += ["--config", str(file)]
        monkeypatch.setenv("TOKEN", double.token)
        # the first two are read before the token ends
        whole = list(frame.archive.granules)
        frame.archive.granules = whole[:2]
        broken = frame.archive.granules[1]
        data = double.objects.pop(f"{broken}.nc")
        assert main(command) == 1
        capsys.readouterr()
        double.objects[f"{broken}.nc"] = data
        frame.archive.granules = whole
        double.expire_tokens()
        double.expire_signatures()
        assert main(command) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "4 of 4 granules cannot be used" in said
        assert not any(secret in said for secret in secrets)
        assert not list((tmp_path / "cubes").glob("[!.]*"))
        double.forget()
        monkeypatch.setenv("TOKEN", double.new_token())
        assert main(command) == 0, capsys.readouterr().err
        # what was read before is not fetched again
        assert not double.count("granules", f"/granules/{names[0]}{SIDECAR}")
        assert double.count("granules", f"/granules/{names[3]}{SIDECAR}")


def test_a_search_writes_a_map(frame, configuration, tmp_path, capsys):
    frame.archive.granules = [
        granule_name(SECONDARY[0]),
        granule_name(SECONDARY[1]),
        granule_name(SECONDARY[0], frame=1),
    ]
    page = tmp_path / "map.html"
    options = ["--bbox=-119,34,-117,36", "--config", str(configuration), "--html", str(page)]
    assert main(["search", "opera-disp-s1", *options]) == 0
    capsys.readouterr()
    text = page.read_text("utf-8")
    assert "frame 11116: 2 products, VV, 2020-01-04 to 2020-01-16" in text
    assert granule_name(SECONDARY[1]) in text


def test_a_catalog_of_another_shape_mounts_nothing(frame, tmp_path, monkeypatch):
    frame.publish(0)
    for item in ({}, {"umm": {"GranuleUR": 5, "RelatedUrls": [7]}}, "text", {"umm": {"RelatedUrls": {}}}):
        monkeypatch.setattr(frame.archive, "_item", lambda _, item=item: item)
        code, said = frame.build("--frame", str(FRAME))
        assert code == 1
        assert "another shape than UMM-G" in " ".join(said.err.split())
        assert not (tmp_path / "cubes").exists()


def test_a_killed_build_goes_on_where_it_was(frame, compared, tmp_path, configuration):
    made = dict(frame.publish(number) for number in range(3))
    parts = tmp_path / "cubes" / f".{CUBE}.parts"
    frame.archive.held.add(f"{granule_name(SECONDARY[2])}{SIDECAR}")
    command = ["build", "opera-disp-s1", "--frame", str(FRAME), "-o", str(tmp_path / "cubes")]
    with subprocess.Popen(
        [sys.executable, "-m", "cubegate", *command, "--config", str(configuration)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        while len(list(parts.glob("[!.]*"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    frame.archive.held.clear()
    assert not list((tmp_path / "cubes").glob("[!.]*"))
    # the machine went down with it: one file is cut
    kept = sorted(parts.glob("[!.]*"))
    kept[1].write_bytes(kept[1].read_bytes()[:-30])
    frame.archive.asked.clear()
    code, said = frame.build("--frame", str(FRAME))
    assert code == 0, said.err
    assert sum(name.endswith(SIDECAR) for name in frame.archive.asked) == 2
    with frame.served(CUBE) as dataset:
        for number, name in enumerate(sorted(made)):
            assert np.array_equal(dataset.displacement.values[number], values_in(made[name]))
            compared(dataset.displacement.values[number])


def test_references_that_were_kept_of_another_granule_are_fetched_again(frame, write_granule, scan_granule):
    """A granule is replaced, with its references, between a build that failed and the next."""
    name, path = frame.publish(0)
    frame.publish(1)
    frame.archive.broken.add(f"{granule_name(SECONDARY[1])}.nc")
    assert frame.build("--frame", str(FRAME))[0] == 1
    frame.archive.broken.clear()
    frame.archive.granules.remove(name)
    write_granule(path, 99, group=True)
    frame.archive.add(name, path, scan_granule(path, inline_threshold=0))
    frame.archive.asked.clear()
    code, said = frame.build("--frame", str(FRAME))
    assert code == 0, said.err
    assert f"{name}{SIDECAR}" in frame.archive.asked
    with frame.served(CUBE) as dataset:
        assert np.array_equal(dataset.displacement.values[0], values_in(path))
        assert dataset.baseline.values[0] == np.float32(99 * 1.5)
